"""Opens HTML reports in headless Chromium: light, dark, 360 pixels wide, and as a PDF. Each must load nothing, log nothing, scroll in
one direction only, and have pictures that are neither empty nor cut, whose texts do not overlap.

screenshots.py [-o FOLDER] REPORT.html ...; needs Debian's chromium and chromium-driver. Pictures go to the folder."""

import base64, json, os, struct, sys, zlib
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from browser import WebDriver  # noqa: E402


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")


class Browser(WebDriver):
    """With the commands of Chromium's own that this needs."""

    def __init__(self):
        super().__init__(logs=("browser", "performance"), seconds=120)

    def chromium(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})


def pixels(png):
    """Width and the rows of RGB(A) bytes of a PNG of 8 bits without interlacing."""
    position, data = 8, b""
    while position < len(png):
        length, kind = struct.unpack(">I4s", png[position:position + 8])
        body = png[position + 8:position + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            data += body
        position += 12 + length
    check(depth == 8 and colour in (2, 6), "a PNG of 8 bits")
    size = 3 if colour == 2 else 4
    raw, stride, rows, above = zlib.decompress(data), width * size, [], bytes(width * size)
    for y in range(height):
        start = y * (stride + 1)
        kind, line = raw[start], bytearray(raw[start + 1:start + 1 + stride])
        if kind == 1:
            for i in range(size, stride):
                line[i] = (line[i] + line[i - size]) & 255
        elif kind == 2:
            line = bytearray((a + b) & 255 for a, b in zip(line, above))
        elif kind == 3:
            for i in range(stride):
                line[i] = (line[i] + ((line[i - size] if i >= size else 0) + above[i]) // 2) & 255
        elif kind == 4:
            for i in range(stride):
                a, b, c = (line[i - size] if i >= size else 0), above[i], (above[i - size] if i >= size else 0)
                p = a + b - c
                pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
                line[i] = (line[i] + (a if pa <= pb and pa <= pc else b if pb <= pc else c)) & 255
        above = bytes(line)
        rows.append((size, above))
    return width, rows


def ink(png):
    """Share of the pixels that differ from the most frequent one, and the number of colours."""
    width, rows = pixels(png)
    counts = {}
    for size, row in rows:
        for x in range(0, len(row), size):
            colour = row[x:x + 3]
            counts[colour] = counts.get(colour, 0) + 1
    total = sum(counts.values())
    return 1 - max(counts.values()) / total, len(counts)


# Texts that lie outside of their picture, or on another text of it; what a path covers is compared with the viewBox.
GEOMETRY = """
return [...document.querySelectorAll('svg')].filter((svg) => svg.checkVisibility()).map((svg) => {
  const view = svg.viewBox.baseVal, outer = svg.getBoundingClientRect(), wrong = [];
  const all = svg.getBBox();
  if (all.x < -0.5 || all.y < -0.5 || all.x + all.width > view.width + 0.5 || all.y + all.height > view.height + 0.5)
    wrong.push(`content ${all.x} ${all.y} ${all.width} ${all.height} exceeds ${view.width} ${view.height}`);
  const texts = [...svg.querySelectorAll('text')].map((t) => ({ text: t.lastChild?.data ?? '', box: t.getBoundingClientRect() }));
  for (const { text, box } of texts)
    if (box.left < outer.left - 0.5 || box.right > outer.right + 0.5 || box.top < outer.top - 0.5 || box.bottom > outer.bottom + 0.5)
      wrong.push(`"${text}" is cut`);
  for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++) {
    const a = texts[i].box, b = texts[j].box;
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left), y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    // Boxes of text are higher than its letters.
    if (x > 0.5 && y > 4) wrong.push(`"${texts[i].text}" and "${texts[j].text}" overlap`);
  }
  const labels = (svg.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id)?.textContent ?? '');
  if (svg.getAttribute('role') !== 'img' || labels.length !== 2 || labels.some((l) => !l.trim())) wrong.push('no text alternative');
  if (!svg.closest('figure')?.querySelector('details table td')) wrong.push('no table behind it');
  return { name: labels[0], wrong };
});
"""

# Contrast by WCAG of every text with the first background behind it.
CONTRAST = """
const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 && m[3] === 0 ? null : m; };
const light = (c) => { const l = c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
const bad = [];
for (const element of document.querySelectorAll('body *')) {
  const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!text || element.closest('title, desc') || !element.checkVisibility()) continue;
  const style = getComputedStyle(element), inPicture = element.closest('svg');
  const front = parse(inPicture ? style.fill : style.color);
  let back = null;
  if (inPicture && element.hasAttribute('fill')) back = parse(getComputedStyle(element.previousElementSibling).fill);
  for (let e = element; !back && e; e = e.parentElement) back = parse(getComputedStyle(e).backgroundColor);
  back ??= [255, 255, 255];
  const [a, b] = [light(front), light(back)], ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.push(`${element.tagName} "${element.textContent.trim().slice(0, 30)}": ${ratio.toFixed(2)}`);
}
return bad;
"""

STRUCTURE = """
const levels = [...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]));
const wrong = [];
levels.forEach((level, i) => { if (i === 0 ? level !== 1 : level > levels[i - 1] + 1 || level === 1) wrong.push(`heading ${i} is h${level}`); });
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
if ([...document.querySelectorAll('.picture')].some((p) => [...p.children].filter((c) => c.checkVisibility()).length !== 1))
  wrong.push('not one picture in a figure');
if (new Set(ids).size !== ids.length) wrong.push('ids are not unique');
for (const a of document.querySelectorAll('a[href]')) if (!document.getElementById(a.getAttribute('href').slice(1))) wrong.push('a link to nowhere');
if (!document.documentElement.lang || !document.title) wrong.push('no language or title');
if ([...document.querySelectorAll('th')].some((th) => !th.scope)) wrong.push('a th without a scope');
if (document.querySelector('script, img, iframe, object, embed, link, form')) wrong.push('an element that a report must not have');
return wrong;
"""


def look(browser, path, folder):
    name = os.path.splitext(os.path.basename(path))[0]
    text = open(path, encoding="utf-8").read()
    ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))  # raises where a tag is not closed or an attribute not quoted
    url = "file://" + os.path.abspath(path)

    def save(kind, data):
        if folder:
            os.makedirs(folder, exist_ok=True)
            open(f"{folder}/{name}-{kind}", "wb").write(data)

    def shoot(clip=None):
        parameters = {"format": "png", "captureBeyondViewport": True}
        if clip:
            parameters["clip"] = clip
        return base64.b64decode(browser.chromium("Page.captureScreenshot", **parameters)["data"])

    for kind, width, scheme in (("light", 1100, "light"), ("tablet", 700, "light"), ("dark", 1100, "dark"), ("phone", 360, "light"), ("phone-dark", 360, "dark")):
        browser.chromium("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
        browser.chromium("Emulation.setEmulatedMedia", media="screen", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.log("performance"), browser.log("browser")
        browser.call("POST", "/url", {"url": url})
        said = browser.log("browser")
        check(not said, f"{path}, {kind}: the console says {said}")
        events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
        asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        check(asked == [url], f"{path}, {kind}: requests {asked}")
        wrong = browser.run(STRUCTURE)
        check(not wrong, f"{path}: {wrong}")
        wide, room = browser.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        check(wide <= room, f"{path}, {kind}: {wide} pixels in a window of {room}")
        size = browser.run("return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        save(f"{kind}.png", shoot({"x": 0, "y": 0, "width": width, "height": min(size[1], 12000), "scale": 1}))
        wrong = [f"{figure['name']}: {problem}" for figure in browser.run(GEOMETRY) for problem in figure["wrong"]]
        check(not wrong, f"{path}, {kind}: " + "; ".join(wrong))
        # What is folded counts as well.
        browser.run("for (const d of document.querySelectorAll('details')) d.open = true")
        wide, room = browser.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        check(wide <= room, f"{path}, {kind}: unfolded, {wide} pixels in a window of {room}")
        wrong = browser.run(CONTRAST)
        check(not wrong, f"{path}, {kind}: contrast below 4.5: {wrong[:8]}")
        if width > 500:
            boxes = browser.run("return [...document.querySelectorAll('.picture')].map((p) => { const b = p.getBoundingClientRect();"
                                "return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height, scale: 1}; })")
            for number, box in enumerate(boxes):
                share, colours = ink(shoot(box))
                check(share > 0.01 and colours > 3, f"{path}, {kind}: picture {number + 1} is empty ({share:.4f}, {colours} colours)")

    browser.call("POST", "/url", {"url": url})
    browser.chromium("Emulation.clearDeviceMetricsOverride")
    browser.chromium("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    paper = browser.run("const s = getComputedStyle(document.documentElement); return s.getPropertyValue('--ink').trim()")
    check(paper == "#1c2226", f"{path}: ink on paper is {paper}")
    hidden = browser.run("return [...document.querySelectorAll('details > :not(summary)')].filter((e) => !e.checkVisibility("
                         "{contentVisibilityAuto: true})).length")
    check(hidden == 0, f"{path}: {hidden} folded elements are not printed")
    browser.chromium("Emulation.setEmulatedMedia", media="", features=[])
    pdf = base64.b64decode(browser.chromium("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
    check(pdf.startswith(b"%PDF") and len(pdf) > 10_000, f"{path}: a PDF of {len(pdf)} bytes")
    save("print.pdf", pdf)
    return len(boxes)


arguments, folder = sys.argv[1:], None
if arguments[:1] == ["-o"]:
    folder, arguments = arguments[1], arguments[2:]
if not arguments:
    sys.exit(__doc__)
browser = Browser()
for path in arguments:
    print(f"{path}: {look(browser, path, folder)} pictures, passed")
browser.close()
