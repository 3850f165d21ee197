"use strict";
// Turns Markdown into DOM nodes. Text of models only becomes text nodes; nothing here parses HTML.

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

/** Inline marks of a line: code, bold, italic, strike, links, bare addresses. */
function inline(parent, text) {
  const pattern = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]+?)\*\*|\*(?=[^\s*])([^*]+?)\*|~~(?=\S)([\s\S]+?)~~|\[([^\]\n]+)\]\(([^()\s]+)\)|(https?:\/\/[^\s<>"'）)]*[^\s<>"'）).,;:!?，。；：！？])/;
  for (;;) {
    const found = pattern.exec(text);
    if (!found) break;
    parent.append(text.slice(0, found.index));
    const [whole, , code, bold, italic, strike, label, target, bare] = found;
    if (code !== undefined) parent.append(make("code", "", code));
    else if (bold !== undefined) inline(parent.appendChild(make("strong")), bold);
    else if (italic !== undefined) inline(parent.appendChild(make("em")), italic);
    else if (strike !== undefined) inline(parent.appendChild(make("del")), strike);
    else if (/^(https?:|mailto:)/i.test(target ?? bare)) {
      const link = make("a", "", label ?? bare);
      link.href = target ?? bare;
      link.target = "_blank";
      link.rel = "noopener noreferrer";
      parent.append(link);
    } else parent.append(whole);
    text = text.slice(found.index + whole.length);
  }
  parent.append(text);
}

function codeBlock(code) {
  const block = make("pre");
  block.append(make("code", "", code));
  const button = make("button", "", say("copy"));
  button.type = "button";
  button.addEventListener("click", () => copy(code, button));
  block.append(button);
  return block;
}

const listItem = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

/** A list from line `at` on, its deeper items inside; returns the line after it. */
function list(parent, lines, at, depth = 0) {
  const [, indent, mark] = listItem.exec(lines[at]);
  const element = parent.appendChild(make(/\d/.test(mark) ? "ol" : "ul"));
  if (/\d/.test(mark)) element.start = parseInt(mark, 10);
  let item = null;
  while (at < lines.length) {
    const found = listItem.exec(lines[at]);
    if (found && found[1].length > indent.length + 1 && item && depth < 8) at = list(item, lines, at, depth + 1);
    else if (found && (found[1].length >= indent.length || depth === 0)) {
      item = element.appendChild(make("li"));
      inline(item, found[3]);
      at += 1;
    } else if (!found && item && /^\s+\S/.test(lines[at])) {
      item.append(make("br"));
      inline(item, lines[at].trim());
      at += 1;
    } else break;
  }
  return at;
}

function markdown(parent, text, depth = 0) {
  parent.replaceChildren();
  const lines = text.split("\n");
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const fence = /^\s*(`{3,}|~{3,})/.exec(line);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (fence) {
      const code = [];
      for (at += 1; at < lines.length && !lines[at].trim().startsWith(fence[1]); at += 1) code.push(lines[at]);
      at += 1;
      parent.append(codeBlock(code.join("\n")));
    } else if (heading) {
      inline(parent.appendChild(make(`h${heading[1].length}`)), heading[2]);
      at += 1;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      parent.append(make("hr"));
      at += 1;
    } else if (listItem.test(line)) {
      at = list(parent, lines, at);
    } else if (/^\s*>/.test(line) && depth < 8) {
      const quoted = [];
      for (; at < lines.length && /^\s*>/.test(lines[at]); at += 1) quoted.push(lines[at].replace(/^\s*> ?/, ""));
      markdown(parent.appendChild(make("blockquote")), quoted.join("\n"), depth + 1);
    } else if (line.includes("|") && /^[\s|:-]*-[\s|:-]*$/.test(lines[at + 1] ?? "") && lines[at + 1].includes("|")) {
      const table = parent.appendChild(make("table"));
      const row = (tag, source) => {
        const element = table.appendChild(make("tr"));
        for (const cell of cells(source)) inline(element.appendChild(make(tag)), cell);
      };
      row("th", line);
      for (at += 2; at < lines.length && lines[at].includes("|"); at += 1) row("td", lines[at]);
    } else if (line.trim() === "") {
      at += 1;
    } else {
      const paragraph = parent.appendChild(make("p"));
      for (let first = true; at < lines.length && lines[at].trim() !== ""; at += 1, first = false) {
        if (!first && (/^(\s*(`{3,}|~{3,}|>)|#{1,6}\s)/.test(lines[at]) || listItem.test(lines[at]))) break;
        if (!first) paragraph.append(make("br"));
        inline(paragraph, lines[at]);
      }
    }
  }
}
