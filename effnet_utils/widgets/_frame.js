// What every figure of effnet_utils/widgets has in common; SCRIPT stands for its own script.
(() => {
const script = document.currentScript;
const markup = MARKUP;
const values = VALUES;
const style = `<style>
  :host { display: block; max-width: 44rem; margin: 0.5rem 0; font-size: 0.95rem; line-height: 1.5; color: inherit;
    --blue: #0072b2; --orange: #c14f00; --green: #007f5f; --grey: #767676; --paper: #ffffff;
    color-scheme: light; }
  :host(.dark) { --blue: #56b4e9; --orange: #ff9a4d; --green: #3ec79f; --grey: #a0a0a0; --paper: #16181d;
    color-scheme: dark; }
  :host([hidden]) { display: none; }
  * { box-sizing: border-box; }
  p { margin: 0.4rem 0; }
  svg { display: block; width: 100%; height: auto; font-size: 11px; }
  svg text { fill: currentColor; }
  canvas { image-rendering: pixelated; }
  label { white-space: nowrap; }
  input[type="range"] { width: 10rem; max-width: 55vw; vertical-align: middle; accent-color: var(--blue); }
  button, select, input { font: inherit; }
  button, select { min-height: 1.9rem; padding: 0.1rem 0.6rem; }
  output { font-variant-numeric: tabular-nums; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: 0.15rem 0.4rem; text-align: right; font-weight: normal; }
  th:first-child { text-align: left; }
  thead th, tfoot th, tfoot td { font-weight: bold; }
  .row { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; align-items: center; }
  @media (max-width: 600px) { table { font-size: 0.8rem; } th, td { padding: 0.15rem 0.2rem; } }
  :focus-visible { outline: 3px solid var(--blue); outline-offset: 2px; }
</style>`;

// A shadow root keeps the figure's style and names apart from those of the page and of other figures.
const host = document.createElement("div");
host.className = "live-figure";
host.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the arrow keys to the figure
host.hidden = true;
script.after(host);
const root = host.attachShadow({ mode: "open" });
root.innerHTML = style + markup;

const get = (id) => root.getElementById(id);

// A new SVG element in a parent; the key "text" is its text.
function draw(parent, tag, { text, ...attributes }) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

SCRIPT;

// Only now, when the script has run without an error, does the figure take the image's place.
const isBefore = (image) => image.compareDocumentPosition(script) & Node.DOCUMENT_POSITION_FOLLOWING;
let around = script.parentElement;
while (around && ![...around.querySelectorAll("img")].some(isBefore)) around = around.parentElement;
const images = around ? [...around.querySelectorAll("img")].filter(isBefore) : [];
const replaced = images.at(-1);
// The site puts each image into a link, which would be empty.
if (replaced) (replaced.closest("a") ?? replaced).style.display = "none";
host.hidden = false;

// Light text means a dark page, whatever program shows it and however it switches.
function followThePage() {
  const [red, green, blue] = getComputedStyle(host).color.match(/[\d.]+/g).map(Number);
  host.classList.toggle("dark", 0.3 * red + 0.6 * green + 0.1 * blue > 128);
}
followThePage();
const observer = new MutationObserver(followThePage);
observer.observe(document.documentElement, { attributes: true });
observer.observe(document.body, { attributes: true });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", followThePage);
})();
