"use strict";
// The chat page. Text of users and models only becomes text nodes; nothing here parses HTML.

const words = {
  en: {
    model: "Model", language: "Switch to Chinese", theme: "Light or dark theme", settings: "Settings", send: "Send",
    stop: "Stop", clear: "Clear", regenerate: "Regenerate", copy: "Copy", copied: "Copied",
    empty: "Ask something.", placeholder: "Message (Enter sends, Shift+Enter starts a new line)",
    system: "System prompt", systemHint: "The model's default", doSample: "Sampling (off: always the most likely token)",
    maxNewTokens: "Maximum new tokens", temperature: "Temperature", topP: "top_p", topK: "top_k (0: off)",
    defaults: "Defaults", key: "API key", keyHint: "Only if the server requires one",
    keys: "The key stays in this tab until it is closed. Escape stops an answer.",
    stopped: "stopped", length: "token limit reached", waiting: "Waiting…",
    speed: (n, rate) => `${n} tokens, ${rate} tokens/s`, offline: "The server cannot be reached.",
    broken: "The connection broke during the answer.", nothing: "The answer is empty.",
    search: "Search", ranker: "Model", query: "Query", passages: "Passages, one a line", rank: "Rank",
  },
  zh: {
    model: "模型", language: "Switch to English", theme: "浅色或深色", settings: "设置", send: "发送", stop: "停止",
    clear: "清空", regenerate: "重新生成", copy: "复制", copied: "已复制", empty: "请提问。",
    placeholder: "输入消息（Enter 发送，Shift+Enter 换行）", system: "系统提示词", systemHint: "使用模型默认值",
    doSample: "采样（关闭时总选概率最高的 token）", maxNewTokens: "最多生成 token 数", temperature: "温度", topP: "top_p",
    topK: "top_k（0：不限）", defaults: "恢复默认", key: "API 密钥", keyHint: "仅在服务器要求时填写",
    keys: "仅在此标签页关闭前保留。按 Esc 停止回答。", stopped: "已停止", length: "已达到 token 上限", waiting: "等待中…",
    speed: (n, rate) => `${n} 个 token，每秒 ${rate} 个`, offline: "无法连接服务器。", broken: "回答中断。",
    nothing: "模型没有输出内容。", search: "搜索", ranker: "模型", query: "查询", passages: "候选段落，每行一段", rank: "排序",
  },
};

const $ = (id) => document.getElementById(id);
const remember = (store, key, value) => { try { store.setItem(key, JSON.stringify(value)); } catch { /* full or forbidden */ } };
const recall = (store, key, otherwise) => {
  try { return JSON.parse(store.getItem(key)) ?? otherwise; } catch { return otherwise; }
};

const sliders = ["max_new_tokens", "temperature", "top_p", "top_k"];
let language = recall(localStorage, "language", navigator.language.startsWith("zh") ? "zh" : "en");
let theme = recall(localStorage, "theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
/** Turns: {role, content, note}. */
let turns = recall(sessionStorage, "turns", []);
let running = null; // the AbortController of the running answer
let speed = null; // [tokens, tokens per second] of the last answer, or "waiting"
const say = (key) => words[language][key];

// ---- Showing

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // There is no permission, or the context is not secure.
    const area = document.body.appendChild(make("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = say("copied");
  setTimeout(() => { button.textContent = say("copy"); }, 1500);
}

function show(turn) {
  const item = make("li", `message ${turn.role}`);
  const text = item.appendChild(make("div", "text"));
  if (turn.role === "user") text.textContent = turn.content;
  else markdown(text, turn.content);
  const tools = item.appendChild(make("div", "tools"));
  const button = make("button", "", say("copy"));
  button.type = "button";
  button.addEventListener("click", () => copy(turn.content, button));
  tools.append(button, make("span", "note", turn.note ? say(turn.note) ?? "" : ""));
  $("messages").append(item);
  return item;
}

function showAll() {
  $("messages").replaceChildren();
  for (const turn of turns) show(turn);
  $("messages").scrollTop = $("messages").scrollHeight;
  update();
}

function update() {
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  $("clear").disabled = turns.length === 0;
  $("regenerate").disabled = running !== null || !turns.some((turn) => turn.role === "user");
  remember(sessionStorage, "turns", turns);
}

function notify(text) {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
}

function showSpeed(value) {
  speed = value;
  $("speed").textContent = Array.isArray(value) ? say("speed")(...value) : value ? say(value) : "";
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll("[data-placeholder]")) element.placeholder = say(element.dataset.placeholder);
  for (const element of document.querySelectorAll("[data-label]")) {
    element.title = say(element.dataset.label);
    element.setAttribute("aria-label", say(element.dataset.label));
  }
  $("language").textContent = language === "zh" ? "English" : "中文";
  showSpeed(speed);
  showAll();
}

function paint() {
  document.documentElement.dataset.theme = theme;
  $("theme").setAttribute("aria-pressed", String(theme === "dark"));
}

function fit() {
  const input = $("input");
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
}

// ---- Asking

const headers = () => {
  const key = $("key").value.trim();
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
};

function body() {
  const messages = turns.filter((turn) => turn.content !== "").map(({ role, content }) => ({ role, content }));
  const system = $("system").value.trim();
  if (system) messages.unshift({ role: "system", content: system });
  const fields = { messages, stream: true, stream_options: { include_usage: true }, do_sample: $("do_sample").checked };
  for (const name of sliders) fields[name] = Number($(name).value);
  if ($("model").value) fields.model = $("model").value;
  return JSON.stringify(fields);
}

/** The JSON of each event of a stream. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error(say("broken"));
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue;
      if (part === "data: [DONE]") return;
      yield JSON.parse(part.slice(6));
    }
  }
}

async function answer() {
  const controller = new AbortController();
  running = controller;
  notify("");
  showSpeed("waiting");
  const question = body();
  const turn = { role: "assistant", content: "", note: "" };
  turns.push(turn);
  const item = show(turn);
  item.classList.add("streaming");
  update();
  let tokens = 0;
  let first = 0;
  let isDirty = false;
  const draw = () => {
    isDirty = false;
    const list = $("messages");
    const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    markdown(item.querySelector(".text"), turn.content);
    if (follows) list.scrollTop = list.scrollHeight;
    const seconds = (performance.now() - first) / 1000;
    if (tokens > 1) showSpeed([tokens, ((tokens - 1) / seconds).toFixed(1)]);
  };
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST", headers: headers(), body: question, signal: controller.signal,
    });
    if (!response.ok) {
      const error = (await response.json().catch(() => null))?.error;
      if (response.status === 401) openSettings(true);
      throw new Error(error?.message ?? `HTTP ${response.status}`);
    }
    for await (const chunk of events(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const choice = chunk.choices[0];
      if (choice?.delta?.content) {
        tokens += 1;
        first ||= performance.now();
        turn.content += choice.delta.content;
        if (!isDirty) { isDirty = true; requestAnimationFrame(draw); }
      }
      if (choice?.finish_reason === "length") turn.note = "length";
      if (chunk.usage) tokens = chunk.usage.completion_tokens;
    }
  } catch (error) {
    if (controller.signal.aborted) turn.note = "stopped";
    else notify(error instanceof TypeError ? say("offline") : error.message);
  }
  if (running !== controller) return; // The conversation was cleared in the meantime.
  running = null;
  item.classList.remove("streaming");
  draw();
  if (tokens < 2) showSpeed(null);
  item.querySelector(".note").textContent = turn.note ? say(turn.note) : "";
  if (turn.content === "" && turn.note === "") {
    if ($("notice").hidden) notify(say("nothing"));
    turns = turns.filter((other) => other !== turn);
    item.remove();
  }
  update();
}

function send() {
  const content = $("input").value.trim();
  if (running || content === "") return;
  $("input").value = "";
  fit();
  turns.push({ role: "user", content });
  show(turns[turns.length - 1]);
  $("messages").scrollTop = $("messages").scrollHeight;
  answer();
}

function regenerate() {
  if (running) return;
  while (turns.length && turns[turns.length - 1].role === "assistant") turns.pop();
  if (!turns.length) return;
  showAll();
  answer();
}

function clear() {
  running?.abort();
  running = null;
  turns = [];
  notify("");
  showSpeed(null);
  showAll();
  $("input").focus();
}

// ---- Settings

function openSettings(isOpen) {
  document.body.classList.toggle("with-settings", isOpen);
  $("settings-toggle").setAttribute("aria-expanded", String(isOpen));
}

function showValues() {
  for (const name of sliders) document.querySelector(`output[for="${name}"]`).textContent = $(name).value;
  for (const name of ["temperature", "top_p", "top_k"]) $(name).disabled = !$("do_sample").checked;
}

function keepSettings() {
  const values = { system: $("system").value, do_sample: $("do_sample").checked };
  for (const name of sliders) values[name] = $(name).value;
  remember(localStorage, "settings", values);
  remember(sessionStorage, "key", $("key").value);
  showValues();
}

function restoreSettings(values) {
  $("system").value = values.system ?? "";
  $("do_sample").checked = values.do_sample ?? true;
  for (const name of sliders) $(name).value = values[name] ?? $(name).defaultValue;
  showValues();
}

async function loadModels() {
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (!response.ok) return;
    const { data } = await response.json();
    const chosen = $("model").value;
    const chats = data.filter((model) => model.task === "generate");
    $("model").replaceChildren(...chats.map((model) => new Option(model.id, model.id)));
    $("model").hidden = chats.length === 0;
    if (chats.some((model) => model.id === chosen)) $("model").value = chosen;
    offerSearch(data);
  } catch { notify(say("offline")); }
}

$("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("input").addEventListener("input", fit);
$("input").addEventListener("keydown", (event) => {
  // While an input method composes, Enter chooses a candidate.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
    event.preventDefault();
    send();
  }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") { running?.abort(); searching?.abort(); } });
$("stop").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", clear);
$("regenerate").addEventListener("click", regenerate);
$("settings-toggle").addEventListener("click", () => openSettings(!document.body.classList.contains("with-settings")));
$("settings").addEventListener("input", keepSettings);
$("key").addEventListener("change", loadModels);
$("defaults").addEventListener("click", () => { restoreSettings({ system: $("system").value }); keepSettings(); });
$("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  remember(localStorage, "language", language);
  translate();
});
$("theme").addEventListener("click", () => {
  theme = theme === "dark" ? "light" : "dark";
  remember(localStorage, "theme", theme);
  paint();
});

startSearch();
$("key").value = recall(sessionStorage, "key", "");
restoreSettings(recall(localStorage, "settings", {}));
openSettings(matchMedia("(min-width: 50rem)").matches);
paint();
translate();
fit();
loadModels();
