// The explorer: two heatmaps of attention heads, a card for each head, a scatter and a table.
//
// One module, two homes. In JupyterLab it is the front end of an AnyWidget; on a page the same code
// gets a model in memory. Either way it is given `model.get("payload")`, a gzip-packed JSON text
// (analysis/explorer/payload.py describes it), and puts questions through `model.send`.
//
// Text that comes from a tokenizer, a name list or a folder is only ever inserted as text: `h` and
// `s` below make elements and text nodes, and nothing here parses HTML.

const VIRIDIS = ["#440154", "#48186a", "#472d7b", "#424086", "#3b528b", "#33638d", "#2c728e",
  "#26828e", "#21918c", "#1fa088", "#28ae80", "#3fbc73", "#5ec962", "#84d44b", "#addc30",
  "#d8e219", "#fde725"];
// For numbers of both signs: orange below zero, blue above it.
const DIVERGING = ["#7f3b08", "#b35806", "#e08214", "#fdb863", "#e8e4de", "#8fc3e8", "#4393c3",
  "#2166ac", "#053061"];
const THEMES = {
  light: { text: "#1f2430", muted: "#5b6270", surface: "#ffffff", zero: "#f1f2f5",
    line: "#c9cdd6", select: "#000000", hover: "#1f2430", pin: "#b45309" },
  dark: { text: "#e8eaf0", muted: "#a8b0c0", surface: "#14171f", zero: "#3a4252",
    line: "#434b5c", select: "#ffffff", hover: "#ffffff", pin: "#fbbf24" },
};
const FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif";
const Z95 = 1.959963984540054;
const CHIPS = 60; // names shown before "show all"
const SILENCE_MS = 8000; // after which a kernel that has not answered is said not to
const SVG_NS = "http://www.w3.org/2000/svg";

const DEFAULTS = {
  k: 1, mlp: true, names: null, only: "", score: "static", threshold: 0, lo: null, hi: null,
  classes: "both", head: null, end: null, pins: [], tab: "scatter",
  x: "copying", y: "suppression", color: "layer", size: "none",
};

// ---------------------------------------------------------------------------------- elements

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("aria-")) node.setAttribute(name, String(value));
    else if (value === false) continue;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}
const h = (tag, attributes, ...children) =>
  put(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  put(document.createElementNS(SVG_NS, tag), attributes, children);
/** A text whose right-to-left words and direction marks do not turn what stands around it. */
const apart = (text) => (/[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufeff]/.test(text)
  ? `\u2068${text}\u2069` : text);
/** The same of a token, in quotes that show its spaces. */
const quoted = (token) => apart(JSON.stringify(token));
/** Says beside a control what is wrong, or what was done. */
const sayError = (place, ...said) =>
  place.replaceChildren(h("span", { class: "nh-error", role: "alert" }, said));
const sayDone = (place, ...said) =>
  place.replaceChildren(h("span", { class: "nh-muted", role: "status" }, said));
/** Says what stays wrong, nothing if empty: it is not read out again at every redraw. */
const tell = (place, text) => {
  if (place.textContent === text) return;
  if (text) sayError(place, text);
  else place.replaceChildren();
};

// ----------------------------------------------------------------------------------- numbers

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function format(value, signed = false) {
  if (!isNumber(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const digits = size < 0.0005 ? value.toExponential(1) : size < 10 ? value.toFixed(3)
    : size < 1000 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
  const text = digits.replace("-", "−");
  return signed && value > 0 ? `+${text}` : text;
}

/** Wilson's 95 % interval for a share, as analysis.statistics.wilson_interval has it. */
function wilson(count, n) {
  const share = count / n, z2 = Z95 * Z95;
  const middle = (share + z2 / (2 * n)) / (1 + z2 / n);
  const half = Z95 / (1 + z2 / n) * Math.sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  // The formula gives these ends exactly; rounding would leave a hair.
  return [count === 0 ? 0 : Math.max(0, middle - half),
    count === n ? 1 : Math.min(1, middle + half)];
}

function mix(colors, share) {
  const at = clamp(share, 0, 1) * (colors.length - 1);
  const i = Math.min(colors.length - 2, Math.floor(at)), t = at - i;
  const channel = (c, j) => parseInt(c.slice(1 + 2 * j, 3 + 2 * j), 16);
  const mixed = [0, 1, 2].map((j) =>
    Math.round(channel(colors[i], j) * (1 - t) + channel(colors[i + 1], j) * t));
  return `#${mixed.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
}
