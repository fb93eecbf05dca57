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
const MEASURED_COLOR = "#ff3b30";
const FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif";
const Z95 = 1.959963984540054;
const CHIPS = 60; // names shown before "show all"
const SILENCE_MS = 8000; // after which a kernel that has not answered is said not to
const SVG_NS = "http://www.w3.org/2000/svg";

const DEFAULTS = {
  k: 1, mlp: true, names: null, score: "static", threshold: 0, lo: null, hi: null,
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

// ----------------------------------------------------------------------------------- payload

const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

async function unpack(packed) {
  const bytes = packed instanceof Uint8Array ? packed
    : new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function floats(base64) {
  const bytes = bytesOf(base64);
  return new Float64Array(bytes.buffer, 0, bytes.length / 8);
}

/** The cells of a CSV text; a quoted cell may hold commas, line ends and doubled quotes. */
function readCsv(text) {
  const rows = [[]];
  const cells = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g;
  for (const [whole, quoted, plain, end] of text.replace(/^\ufeff/, "").matchAll(cells)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "" || whole === "") break;
    if (end !== ",") rows.push([]);
  }
  return rows;
}

/** For each k up to maxRank, how many names of each head have a rank below k: a look-up. */
function countsBelow(ranks, nHeads, nPairs, maxRank) {
  const counts = Array.from({ length: maxRank + 1 }, () => new Uint32Array(nHeads));
  for (let head = 0, at = 0; head < nHeads; head++) {
    for (let pair = 0; pair < nPairs; pair++, at++) {
      if (ranks[at] < maxRank) counts[ranks[at] + 1][head]++;
    }
  }
  for (let k = 1; k <= maxRank; k++) {
    for (let head = 0; head < nHeads; head++) counts[k][head] += counts[k - 1][head];
  }
  return counts;
}

function readSet(set, payload) {
  const nHeads = payload.n_layers * payload.n_heads;
  const read = { ...set, top: bytesOf(set.top), bottom: bytesOf(set.bottom) };
  read.nPairs = set.sources.length;
  read.below = {
    top: countsBelow(read.top, nHeads, read.nPairs, payload.max_rank),
    bottom: countsBelow(read.bottom, nHeads, read.nPairs, payload.max_rank),
  };
  return read;
}

function readPayload(raw) {
  if (raw.format !== "name-heads explorer" || raw.version !== 1) {
    throw new Error("this is not a result that this explorer can read: make it again.");
  }
  const data = { ...raw, nHeads: raw.n_layers * raw.n_heads };
  data.sets = raw.sets.map((set) => readSet(set, raw));
  data.measures = raw.measures.map(readMeasure);
  data.tokens = raw.tokens || {};
  return data;
}

function readMeasure(measure) {
  const read = { ...measure };
  for (const part of ["values", "low", "high"]) {
    if (measure[part]) read[part] = floats(measure[part]);
  }
  return read;
}

// ------------------------------------------------------------------------------------- state

function readState(given, usual) {
  const state = { ...usual };
  for (const [name, value] of Object.entries(given || {})) {
    if (name in usual) state[name] = value;
  }
  if (!Array.isArray(state.pins)) state.pins = [];
  return state;
}

function stateToFragment(state, usual) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (JSON.stringify(value) === JSON.stringify(usual[name])) continue;
    parts.set(name, name === "pins" ? value.join(",") : String(value));
  }
  return parts.toString();
}

function stateFromFragment(fragment) {
  const given = {};
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const usual = DEFAULTS[name];
    if (name === "pins") given.pins = text.split(",").filter(Boolean);
    else if (typeof usual === "number" || name === "lo" || name === "hi") {
      if (Number.isFinite(Number(text))) given[name] = Number(text);
    } else if (typeof usual === "boolean") given[name] = text === "true";
    else given[name] = text;
  }
  return given;
}

// ---------------------------------------------------------------------------------- explorer

async function render({ model, el }) {
  const isPage = model.get("home") === "page";
  const root = h("section", { class: "nh", "aria-label": "Explorer of attention heads" },
    h("p", { class: "nh-loading" }, "Unpacking the results …"));
  el.append(root);
  try {
    const raw = await unpack(model.get("payload"));
    if (Array.isArray(raw.explorers)) {
      return several({ model, root, all: raw.explorers.map(readPayload), isPage });
    }
    return explorer({ model, root, data: readPayload(raw), isPage });
  } catch (error) {
    root.replaceChildren(h("p", { class: "nh-error", role: "alert" },
      `The results cannot be shown: ${error.message}`));
    return () => {};
  }
}

/** Several models: one is shown, and another beside it where that is asked for. */
function several({ model, root, all, isPage }) {
  const titles = all.map((data, at) => {
    const same = all.filter((other) => other.model.title === data.model.title).length > 1;
    return same ? `${data.model.title} (${at + 1})` : data.model.title;
  });
  const places = [h("section", { class: "nh" }), h("section", { class: "nh" })];
  let cleanups = [];
  const pick = (label, options) => h("select", { "aria-label": label, onchange: () => choose() },
    options.map(([value, text]) => h("option", { value }, text)));
  const first = pick("Model", titles.map((text, at) => [at, text]));
  const second = pick("Model beside it", [["", "no other"],
    ...titles.map((text, at) => [at, text])]);
  root.replaceChildren(
    h("div", { class: "nh-models" }, h("label", {}, "Model ", first),
      h("label", {}, "beside ", second)),
    h("div", { class: "nh-beside" }, places));
  root.className = "nh-several";

  function show() {
    cleanups.forEach((cleanup) => cleanup());
    const shown = [Number(first.value), second.value === "" ? null : Number(second.value)];
    root.classList.toggle("nh-pair", shown[1] !== null);
    places[1].hidden = shown[1] === null;
    places.forEach((place) => { place.replaceChildren(); place.className = "nh"; });
    cleanups = shown.flatMap((at, side) => (at === null ? [] : [explorer({ model, isPage,
      root: places[side], data: all[at], fixed: { model: first.value, beside: second.value },
      keepsAddress: side === 0 })]));
  }
  function choose() {
    if (isPage) {
      const parts = new URLSearchParams();
      if (first.value !== "0") parts.set("model", first.value);
      if (second.value !== "") parts.set("beside", second.value);
      history.pushState(null, "", `#${parts}`);
    }
    show();
  }
  function back() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const [wanted, beside] = [parts.get("model") ?? "0", parts.get("beside") ?? ""];
    const known = (value) => value in all;
    const next = [known(wanted) ? wanted : "0", known(beside) ? beside : ""];
    const same = next[0] === first.value && next[1] === second.value;
    [first.value, second.value] = next;
    if (!same || !cleanups.length) show();
  }
  back();
  addEventListener("popstate", back);
  return () => {
    removeEventListener("popstate", back);
    cleanups.forEach((cleanup) => cleanup());
  };
}

function explorer({ model, root, data, isPage, fixed = {}, keepsAddress = true }) {
  const { n_layers: nLayers, n_heads: nHeads } = data;
  const hasKernel = Boolean(model.get("kernel"));
  const uid = Math.random().toString(36).slice(2, 8); // one notebook may show several explorers
  const nameOf = (i) => `${Math.floor(i / nHeads)}.${i % nHeads}`;
  const indexOf = (name) => {
    const match = /^(\d+)\.(\d+)$/.exec(String(name ?? ""));
    if (!match) return -1;
    const [layer, head] = [Number(match[1]), Number(match[2])];
    return layer < nLayers && head < nHeads ? layer * nHeads + head : -1;
  };
  const cleanups = [];
  const usual = { ...DEFAULTS, k: data.k, mlp: data.sets[0].first_mlp, names: data.sets[0].key };
  const toState = (given) => checked(readState(given, usual));
  let state = toState(!isPage ? model.get("state")
    : keepsAddress ? stateFromFragment(location.hash) : {});
  let hovered = -1;
  let cursor = indexOf(state.head) >= 0 ? indexOf(state.head) : 0;
  let shownSet = null; // the last good view stays while another is computed
  let theme = "light";

  // What cannot be shown (a head that the model lacks, a k out of range) becomes what can.
  function checked(wanted) {
    const found = { ...wanted };
    found.k = clamp(Math.round(Number(found.k)) || 1, 1, data.max_rank);
    if (indexOf(found.head) < 0) found.head = null;
    found.pins = [...new Set(found.pins.map(String))].filter((pin) => indexOf(pin) >= 0);
    const keys = new Set(data.sets.map((set) => set.key));
    if (!keys.has(found.names)) found.names = data.sets[0].key;
    if (!data.sets.some((set) => set.key === found.names && set.first_mlp === found.mlp)) {
      const other = data.sets.find((set) => set.key === found.names);
      if (other) found.mlp = other.first_mlp;
    }
    if (!data.views.some((view) => view.key === found.score)) found.score = data.views[0].key;
    for (const axis of ["x", "y", "color", "size"]) {
      const known = found[axis] === "none" || measureKeys().includes(found[axis]);
      if (!known) found[axis] = DEFAULTS[axis];
    }
    if (!["scatter", "table", "pins"].includes(found.tab)) found.tab = DEFAULTS.tab;
    if (!["both", "published", "measured", "none"].includes(found.classes)) found.classes = "both";
    if (!["top", "bottom", null].includes(found.end)) found.end = null;
    found.threshold = isNumber(Number(found.threshold)) ? Math.max(0, Number(found.threshold)) : 0;
    return found;
  }

  // ------------------------------------------------------------------------------- measures

  function measureKeys() {
    return ["copying", "suppression", "copying_rank", "layer", "head",
      ...data.measures.map((measure) => measure.key)];
  }

  const currentSet = () => data.sets.find(
    (set) => set.key === state.names && set.first_mlp === state.mlp) || shownSet || data.sets[0];

  function measure(key) {
    const set = currentSet();
    if (key === "copying" || key === "suppression") {
      const counts = set.below[key === "copying" ? "top" : "bottom"][state.k];
      const values = Float64Array.from(counts, (count) => count / set.nPairs);
      const copies = set.targets === null;
      const title = key === "suppression" ? "Suppression score"
        : copies ? "Copying score" : "Relation score";
      const column = key === "suppression" ? "suppression_score"
        : copies ? "copying_score" : "relation_score";
      return { key, column, title, values, counts, n: set.nPairs, range: [0, 1], group: "static",
        interval: (i) => wilson(counts[i], set.nPairs) };
    }
    if (key === "copying_rank") {
      const { values } = measure("copying");
      const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
      const ranks = new Float64Array(values.length);
      order.forEach((head, place) => {
        const before = place ? order[place - 1] : -1;
        ranks[head] = place && values[before] === values[head] ? ranks[before] : place + 1;
      });
      return { key, title: "Rank by copying score", values: ranks, range: null, group: "place" };
    }
    if (key === "layer" || key === "head") {
      const values = Float64Array.from({ length: data.nHeads }, (_, i) =>
        key === "layer" ? Math.floor(i / nHeads) : i % nHeads);
      return { key, title: key === "layer" ? "Layer" : "Head", values, range: null,
        group: "place" };
    }
    const found = data.measures.find((known) => known.key === key);
    if (!found) return null;
    return { ...found, interval: found.low ? (i) => [found.low[i], found.high[i]] : null };
  }

  /** What colours stand for: ends, and whether the scale has two directions. */
  function scaleOf(shown) {
    const finite = Array.from(shown.values).filter(isNumber);
    let [low, high] = shown.range || [Math.min(...finite, 0), Math.max(...finite, 0)];
    const diverging = low < 0;
    if (!shown.range && diverging) {
      high = Math.max(-low, high);
      low = -high;
    }
    const chosen = { lo: state.lo, hi: state.hi };
    if (isNumber(chosen.lo)) low = chosen.lo;
    if (isNumber(chosen.hi)) high = chosen.hi;
    if (!(high > low)) high = low + 1;
    return { low, high, colors: diverging && low < 0 ? DIVERGING : VIRIDIS, diverging };
  }

  function fill(value, scale) {
    const colors = THEMES[theme];
    if (!isNumber(value)) return colors.surface;
    if (value === 0 && !scale.diverging) return colors.zero;
    return mix(scale.colors, (value - scale.low) / (scale.high - scale.low));
  }

  // ---------------------------------------------------------------------------- the classes

  function marksFor(side) {
    const wanted = side === 0
      ? { mover: ["name mover"], backup: ["backup name mover"] }
      : { mover: ["negative name mover"], backup: ["backup negative name mover"] };
    const marks = [];
    for (const row of data.classes) {
      if (state.classes === "none") continue;
      if (state.classes !== "both" && row.origin !== state.classes) continue;
      const i = row.layer * nHeads + row.head;
      let kind = wanted.mover.includes(row.class) ? "mover"
        : wanted.backup.includes(row.class) ? "backup" : null;
      // The published circuit has one backup class; its heads that suppress belong to the right.
      if (side === 1 && row.origin === "published" && row.class === "backup name mover") {
        const set = currentSet();
        if (set.below.bottom[state.k][i] > set.below.top[state.k][i]) kind = "backup";
      }
      if (kind) marks.push({ i, kind, origin: row.origin });
    }
    return marks;
  }

  const classesOf = (i) =>
    data.classes.filter((row) => row.layer * nHeads + row.head === i);

  function markShape(kind, origin, x, y, size) {
    const r = clamp(size * 0.3, 2.2, 6);
    if (origin === "measured") {
      const R = clamp(size * 0.4, 3, 8);
      const points = kind === "mover" ? [[-1, -1], [1, -1], [1, 1], [-1, 1]]
        : [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]];
      return s("polygon", { points: points.map(([a, b]) => `${x + a * R},${y + b * R}`).join(" "),
        fill: "none", stroke: MEASURED_COLOR, "stroke-width": 2 });
    }
    if (kind === "backup") {
      return s("circle", { cx: x, cy: y, r, fill: "#90ee90", stroke: "#000000",
        "stroke-width": 1.1 });
    }
    const d = `M${x - r},${y - r}L${x + r},${y + r}M${x - r},${y + r}L${x + r},${y - r}`;
    return s("g", {},
      s("path", { d, stroke: "#ffffff", "stroke-width": 4.6, "stroke-linecap": "round" }),
      s("path", { d, stroke: "#000000", "stroke-width": 2.4, "stroke-linecap": "round" }));
  }

  // -------------------------------------------------------------------------- the questions

  let lastQuestion = 0;
  const open = new Map(); // id -> question
  const latest = new Map(); // what it is about -> id; an older answer is dropped

  function ask(kind, args, { about = kind, onProgress = () => {} } = {}) {
    if (!hasKernel) {
      return Promise.reject(new Error("this page has no Python behind it."));
    }
    const earlier = latest.get(about);
    if (earlier !== undefined && open.has(earlier)) stop(earlier);
    const id = ++lastQuestion;
    latest.set(about, id);
    return new Promise((resolve, reject) => {
      const silence = setTimeout(() => kernelNotice(
        "Python has not answered for 8 s. It is busy with another cell, or the kernel was "
        + "restarted: then run the cell again."), SILENCE_MS);
      open.set(id, { resolve, reject, onProgress, silence, about });
      model.send({ ask: kind, id, args });
    });
  }

  function stop(id) {
    const question = open.get(id);
    if (!question) return;
    model.send({ ask: "stop", id });
    clearTimeout(question.silence);
    open.delete(id);
    question.reject(new Stopped());
  }

  function onMessage(message) {
    if (!message || message.id === undefined) return;
    const question = open.get(message.id);
    if (!question) return; // stale
    clearTimeout(question.silence);
    kernelNotice("");
    if (message.progress) return question.onProgress(message.progress);
    if (message.taken) return;
    open.delete(message.id);
    if (message.error) question.reject(new Error(message.error));
    else question.resolve(message.result);
  }

  class Stopped extends Error {}

  /** Runs a question with its progress and a way to stop, said beside the control. */
  async function work(place, kind, args, options = {}) {
    const bar = h("progress", { max: 1, "aria-label": "Progress" });
    const says = h("span", { class: "nh-muted" }, "asking Python …");
    let id = null;
    const cancel = h("button", { type: "button", class: "nh-small",
      onclick: () => stop(id) }, "Stop");
    place.replaceChildren(h("span", { class: "nh-progress", role: "status" }, bar, says, cancel));
    const asked = ask(kind, args, { ...options, onProgress: ({ done, total, what }) => {
      bar.value = total ? done / total : 0;
      says.textContent = what;
    } });
    id = lastQuestion;
    try {
      const result = await asked;
      if (options.about === undefined || latest.get(options.about) === id) place.replaceChildren();
      return result;
    } catch (error) {
      const newer = latest.get(options.about ?? kind) !== id && hasKernel;
      if (!newer) {
        place.replaceChildren(error instanceof Stopped
          ? h("span", { class: "nh-muted", role: "status" }, "Stopped; nothing has changed.")
          : h("span", { class: "nh-error", role: "alert" }, error.message));
      }
      return null;
    }
  }

  // ------------------------------------------------------------------------------- controls

  const live = h("div", { class: "nh-hidden", "aria-live": "polite", role: "status" });
  const notice = h("div", { class: "nh-notice", role: "alert", hidden: true });
  function kernelNotice(text) {
    notice.textContent = text;
    notice.hidden = !text;
  }

  const title = h(isPage ? "h1" : "h2", { class: "nh-title" });
  const provenance = h("p", { class: "nh-provenance" });
  const kSlider = h("input", { type: "range", min: 1, max: data.max_rank, step: 1,
    "aria-label": "k, how many of the largest or smallest logits count",
    oninput: (event) => update({ k: Number(event.target.value) }, false),
    onchange: () => remember(true) });
  const kBox = h("input", { type: "text", inputmode: "numeric", class: "nh-k", size: 3,
    "aria-label": `k, from 1 to ${data.max_rank}`, onchange: takeK });
  const kSays = h("span", { class: "nh-says" });
  const mlpBox = h("input", { type: "checkbox", onchange: takeMlp });
  const mlpSays = h("span", { class: "nh-says" });
  const scoreBox = select("Score", () => data.views.map((view) => [view.key, view.title]),
    (value) => update({ score: value, lo: null, hi: null }, true));
  const scoreSays = h("span", { class: "nh-says" });
  const namesBox = select("Names", () => {
    const seen = new Map(data.sets.map((set) => [set.key, set]));
    return [...seen.values()].map((set) =>
      [set.key, `${set.label} (${set.sources.length.toLocaleString("en")})`]);
  }, (value) => update({ names: value }, true));
  const classBox = select("Classes", () => [["both", "published and measured"],
    ["published", "published"], ["measured", "measured"], ["none", "none"]],
  (value) => update({ classes: value }, true));
  const thresholdBox = h("input", { type: "range", min: 0, max: 1, step: 0.01,
    "aria-label": "Dim heads below this value",
    oninput: (event) => update({ threshold: Number(event.target.value) }, false),
    onchange: () => remember(true) });
  const thresholdSays = h("output", { class: "nh-number" });
  const loBox = h("input", { type: "text", class: "nh-k", size: 4, placeholder: "auto",
    "aria-label": "Lowest value of the colour scale", onchange: takeRange });
  const hiBox = h("input", { type: "text", class: "nh-k", size: 4, placeholder: "auto",
    "aria-label": "Highest value of the colour scale", onchange: takeRange });
  const rangeSays = h("span", { class: "nh-says" });

  function select(label, options, onPick) {
    const box = h("select", { "aria-label": label,
      onchange: (event) => onPick(event.target.value) });
    box.refresh = (value) => {
      const wanted = options();
      const key = JSON.stringify(wanted);
      if (box.dataset.options !== key) {
        box.replaceChildren(...wanted.map(([v, text]) => h("option", { value: v }, text)));
        box.dataset.options = key;
      }
      box.value = value;
    };
    return box;
  }

  function takeK(event) {
    const text = event.target.value.trim(), k = Number(text);
    if (!/^\d+$/.test(text) || k < 1 || k > data.max_rank) {
      kSays.replaceChildren(h("span", { class: "nh-error", role: "alert" },
        `k must be a whole number from 1 to ${data.max_rank}, not "${text}".`));
      return;
    }
    update({ k }, true);
  }

  async function takeMlp(event) {
    const wanted = event.target.checked;
    if (data.sets.some((set) => set.key === state.names && set.first_mlp === wanted)) {
      mlpSays.replaceChildren();
      update({ mlp: wanted }, true);
      return;
    }
    mlpBox.checked = state.mlp;
    if (!hasKernel) {
      mlpSays.replaceChildren(h("span", { class: "nh-error", role: "alert" },
        `Not in this page; in Python: score_heads(model, names, first_mlp=${python(wanted)}).`));
      return;
    }
    const set = currentSet();
    const result = await work(mlpSays, "score",
      { key: set.key, label: set.label, first_mlp: wanted }, { about: "score" });
    if (result) takeSet(result);
  }

  function takeSet(raw) {
    const set = readSet(raw, data);
    data.sets = data.sets.filter((known) =>
      known.key !== set.key || known.first_mlp !== set.first_mlp);
    data.sets.push(set);
    update({ names: set.key, mlp: set.first_mlp }, true);
  }

  function takeRange() {
    const read = (box) => (box.value.trim() === "" ? null : Number(box.value));
    const [lo, hi] = [read(loBox), read(hiBox)];
    if ([lo, hi].some((end) => end !== null && !isNumber(end))
        || (lo !== null && hi !== null && lo >= hi)) {
      rangeSays.replaceChildren(h("span", { class: "nh-error", role: "alert" },
        "Give two numbers, the lower one first, or leave them empty."));
      return;
    }
    rangeSays.replaceChildren();
    update({ lo, hi }, true);
  }

  // ------------------------------------------------------------------------- one's own names

  const ownText = h("textarea", { rows: 3, "aria-label": "Names, separated by commas or lines",
    placeholder: "Mary, John, Alice — or paste a column, or pairs such as France > Paris" });
  const ownSays = h("div", { class: "nh-says" });
  const ownFile = h("input", { type: "file", accept: ".csv,text/csv,.txt",
    "aria-label": "CSV file with a column name", onchange: readOwnFile });
  const own = h("details", { class: "nh-own" },
    h("summary", {}, "Your own names"),
    hasKernel
      ? h("div", { class: "nh-own-body" }, ownText,
        h("div", { class: "nh-row" },
          h("button", { type: "button", class: "nh-main", onclick: scoreOwn }, "Score these"),
          h("label", { class: "nh-file" }, "or a CSV file ", ownFile)), ownSays)
      : h("div", { class: "nh-own-body" }, h("p", {},
        "This page has no Python behind it. In a notebook:"),
      h("pre", { tabindex: 0 },
        ["from analysis import explore, load_model", "",
          `explore(load_model(${JSON.stringify(data.model.name)}), names=["Mary", "John"])`]
          .join("\n"))));

  async function readOwnFile(event) {
    const [file] = event.target.files;
    if (!file) return;
    const rows = readCsv(await file.text());
    const column = (rows[0] || []).map((cell) => cell.trim()).indexOf("name");
    if (column < 0) {
      ownSays.replaceChildren(h("span", { class: "nh-error", role: "alert" },
        `${file.name} has no column "name"; its first line is: `
        + (rows[0] || []).join(", ").slice(0, 80)));
      return;
    }
    ownText.value = rows.slice(1).map((row) => (row[column] || "").trim()).filter(Boolean)
      .join("\n");
    scoreOwn();
  }

  async function scoreOwn() {
    const words = ownText.value.split(/[\n,;]+/).map((word) => word.trim()).filter(Boolean);
    if (!words.length) {
      ownSays.replaceChildren(h("span", { class: "nh-error", role: "alert" },
        "Type at least one name."));
      return;
    }
    const names = words.map((word) => {
      const pair = word.split(/\s+>\s+|\s*→\s*|\t/);
      return pair.length === 2 ? pair : word;
    });
    const mixed = names.some(Array.isArray) && !names.every(Array.isArray);
    if (mixed) {
      ownSays.replaceChildren(h("span", { class: "nh-error", role: "alert" },
        "Give either names or pairs such as France > Paris, not both."));
      return;
    }
    const result = await work(ownSays, "score",
      { names, key: "own", label: "Your own", first_mlp: state.mlp }, { about: "score" });
    if (!result) return;
    // The other setting of the first MLP still holds the names of before.
    data.sets = data.sets.filter((set) => set.key !== "own");
    takeSet(result);
    ownSays.replaceChildren(h("span", { class: "nh-muted", role: "status" }, result.says));
  }

  // --------------------------------------------------------------------------- the heatmaps

  const panels = [0, 1].map((side) => makePanel(side));

  function makePanel(side) {
    const svg = s("svg", { class: "nh-map", role: "grid", tabindex: 0,
      "aria-rowcount": nHeads, "aria-colcount": nLayers });
    const panel = { side, svg, cells: [], geometry: null };
    const id = (i) => `nh-${uid}-${side}-${i}`;
    panel.id = id;
    svg.addEventListener("keydown", (event) => onKey(event));
    svg.addEventListener("focus", () => { svg.setAttribute("aria-activedescendant", id(cursor));
      drawRings(); say(cursor); });
    svg.addEventListener("blur", () => { hovered = -1; showTip(); drawRings(); });
    svg.addEventListener("pointermove", (event) => hover(cellAt(panel, event)));
    svg.addEventListener("pointerleave", () => hover(-1));
    svg.addEventListener("click", (event) => {
      const i = cellAt(panel, event);
      if (i < 0) return;
      cursor = i;
      update({ head: nameOf(i) }, true);
    });
    return panel;
  }

  function cellAt(panel, event) {
    const box = panel.svg.getBoundingClientRect(), g = panel.geometry;
    if (!g) return -1;
    const layer = Math.floor((event.clientX - box.left - g.left) / g.w);
    const head = nHeads - 1 - Math.floor((event.clientY - box.top - g.top) / g.h);
    return layer >= 0 && layer < nLayers && head >= 0 && head < nHeads
      ? layer * nHeads + head : -1;
  }

  const step = (cell, label) => [1, 2, 5, 10, 20, 50, 100].find((n) => n * cell >= label) || 100;

  /** Makes the cells of a panel for a width; colours come with `paint`. */
  function layPanel(panel, width) {
    const colors = THEMES[theme];
    const left = 40, right = 6, top = 30, below = 100;
    const w = Math.max(3, (width - left - right) / nLayers);
    const h_ = clamp(w, nHeads > 16 ? 9 : 16, nHeads > 16 ? 16 : 26);
    const g = { left, top, w, h: h_, width, bottom: top + h_ * nHeads };
    g.height = g.bottom + below;
    panel.geometry = g;
    panel.cells = [];
    const { svg } = panel;
    svg.setAttribute("viewBox", `0 0 ${width} ${g.height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", g.height);
    svg.setAttribute("font-family", FONT);
    svg.setAttribute("font-size", 12);
    const gap = w > 8 ? 1 : w > 4 ? 0.5 : 0;
    const rows = [];
    for (let head = nHeads - 1; head >= 0; head--) {
      const row = s("g", { role: "row", "aria-rowindex": nHeads - head });
      for (let layer = 0; layer < nLayers; layer++) {
        const i = layer * nHeads + head;
        const cell = s("rect", { id: panel.id(i), role: "gridcell", "aria-colindex": layer + 1,
          x: left + layer * w, y: g.bottom - (head + 1) * h_, width: w - gap, height: h_ - gap,
          rx: w > 12 ? 2 : 0, "aria-label": nameOf(i) });
        panel.cells[i] = cell;
        row.append(cell);
      }
      rows.push(row);
    }
    const axis = s("g", { fill: colors.muted, "aria-hidden": "true" });
    for (let layer = 0, n = step(w, 20); layer < nLayers; layer += n) {
      axis.append(s("text", { x: left + (layer + 0.5) * w, y: g.bottom + 14,
        "text-anchor": "middle" }, layer));
    }
    for (let head = 0, n = step(h_, 13); head < nHeads; head += n) {
      axis.append(s("text", { x: left - 6, y: g.bottom - (head + 0.5) * h_ + 4,
        "text-anchor": "end" }, head));
    }
    axis.append(
      s("text", { x: left + w * nLayers / 2, y: g.bottom + 30, "text-anchor": "middle" }, "Layer"),
      s("text", { x: 9, y: (top + g.bottom) / 2, "text-anchor": "middle",
        transform: `rotate(-90 9 ${(top + g.bottom) / 2})` }, "Head"));
    panel.heading = s("text", { x: left, y: 18, "font-size": 14, "font-weight": 600,
      fill: colors.text, "aria-hidden": "true" });
    panel.legend = s("g", { "aria-hidden": "true" });
    panel.marks = s("g", { "aria-hidden": "true", "pointer-events": "none", fill: "none" });
    panel.rings = s("g", { "aria-hidden": "true", "pointer-events": "none", fill: "none",
      class: "nh-rings" });
    svg.replaceChildren(panel.heading, ...rows, axis, panel.legend, panel.marks, panel.rings);
  }

  function paint(panel) {
    const view = data.views.find((known) => known.key === state.score);
    const shown = measure(panel.side === 0 ? view.left : view.right);
    panel.shown = shown;
    const scale = scaleOf(shown);
    const { values } = shown;
    const g = panel.geometry, colors = THEMES[theme];
    for (let i = 0; i < data.nHeads; i++) {
      const dim = state.threshold > 0 && !(Math.abs(values[i]) >= state.threshold);
      const cell = panel.cells[i];
      cell.setAttribute("fill", fill(values[i], scale));
      cell.setAttribute("opacity", dim ? 0.18 : 1);
    }
    panel.svg.setAttribute("aria-label", `${shown.title}, heads by layer. Arrow keys move, Enter `
      + "opens a head's card, Escape closes it.");
    panel.heading.textContent = fit(panelTitle(view, shown), g.width - g.left);
    panel.marks.replaceChildren(...marksFor(panel.side).map(({ i, kind, origin }) => {
      const [x, y] = centre(g, i);
      return markShape(kind, origin, x, y, Math.min(g.w, g.h) * 1.2);
    }));
    drawLegend(panel, scale, shown, colors);
  }

  function panelTitle(view, shown) {
    return view.key === "static" ? `${shown.title}, k = ${state.k}` : shown.title;
  }
  const fit = (text, room) => {
    const most = Math.max(8, Math.floor(room / 7.6));
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
  };
  const centre = (g, i) => [g.left + (Math.floor(i / nHeads) + 0.5) * g.w - 0.5,
    g.bottom - (i % nHeads + 0.5) * g.h - 0.5];

  function drawLegend(panel, scale, shown, colors) {
    const g = panel.geometry, y = g.bottom + 44, width = Math.min(190, g.width - g.left - 90);
    const id = `nh-${uid}-scale-${panel.side}`;
    const stops = scale.colors.map((color, n) => s("stop",
      { offset: n / (scale.colors.length - 1), "stop-color": color }));
    const label = { fill: colors.muted, "font-size": 11 };
    const parts = [s("defs", {}, s("linearGradient", { id }, stops)),
      s("rect", { x: g.left, y, width, height: 10, rx: 2, fill: `url(#${id})` }),
      s("text", { ...label, x: g.left, y: y + 23 }, format(scale.low)),
      s("text", { ...label, x: g.left + width, y: y + 23, "text-anchor": "end" },
        format(scale.high))];
    if (!scale.diverging) {
      parts.push(s("rect", { x: g.left + width + 14, y, width: 10, height: 10, fill: colors.zero,
        stroke: colors.line }),
      s("text", { ...label, x: g.left + width + 29, y: y + 9 }, "exactly 0"));
    }
    const kinds = new Map(marksFor(panel.side).map((mark) => [mark.kind + mark.origin, mark]));
    let x = g.left + 6;
    for (const { kind, origin } of kinds.values()) {
      const side = panel.side ? "negative " : "";
      const text = `${kind === "backup" ? "backup " : ""}${side}name mover (${origin})`;
      if (x > g.left + 6 && x + text.length * 6 > g.width) break;
      parts.push(markShape(kind, origin, x, y + 42, 15),
        s("text", { ...label, x: x + 11, y: y + 46 }, text));
      x += 26 + text.length * 6;
    }
    panel.legend.replaceChildren(...parts);
  }

  function drawRings() {
    const colors = THEMES[theme];
    for (const panel of panels) {
      const g = panel.geometry;
      if (!g) continue;
      const ring = (i, color, width, dash = null, out = 0) => s("rect", {
        x: g.left + Math.floor(i / nHeads) * g.w - 1.5 - out,
        y: g.bottom - (i % nHeads + 1) * g.h - 1.5 - out,
        width: g.w + 2 + 2 * out, height: g.h + 2 + 2 * out, rx: 3, stroke: color,
        "stroke-width": width,
        "stroke-dasharray": dash });
      const rings = state.pins.map((pin) => ring(indexOf(pin), colors.pin, 2.5));
      if (document.activeElement === panel.svg) rings.push(ring(cursor, colors.hover, 2, "3 2"));
      if (hovered >= 0) rings.push(ring(hovered, colors.hover, 1.5));
      if (indexOf(state.head) >= 0) {
        rings.push(ring(indexOf(state.head), colors.surface, 3.5),
          ring(indexOf(state.head), colors.select, 2.5, null, 1.5));
      }
      panel.rings.replaceChildren(...rings);
    }
    markScatter();
  }

  function readOut(i) {
    const parts = panels.map(({ shown }) => {
      const value = shown.values[i];
      const count = shown.counts ? ` (${shown.counts[i]} of ${shown.n})` : "";
      const said = isNumber(value) ? format(value) : "not known";
      return `${shown.title.toLowerCase()} ${said}${count}`;
    });
    const classes = classesOf(i).map((row) => `${row.class} (${row.origin})`);
    return { head: nameOf(i), text: [...parts, ...classes].join(", ") };
  }

  const tip = h("p", { class: "nh-tip", "aria-hidden": "true" });
  function hover(i) {
    if (i === hovered) return;
    hovered = i;
    showTip();
    drawRings();
  }
  function showTip() {
    const i = hovered >= 0 ? hovered : indexOf(state.head);
    if (i < 0) {
      tip.replaceChildren(h("span", { class: "nh-muted" },
        "Point at a head for its numbers; click it, or press Enter, for its card."));
      return;
    }
    const { head, text } = readOut(i);
    tip.replaceChildren(h("strong", {}, head), `  ${text}`);
  }
  function say(i) {
    const { text } = readOut(i);
    live.textContent = `Layer ${Math.floor(i / nHeads)}, head ${i % nHeads}: ${text}`;
    for (const panel of panels) {
      panel.cells[i]?.setAttribute("aria-label", `${nameOf(i)}: ${text}`);
    }
  }

  function onKey(event) {
    const layer = Math.floor(cursor / nHeads), head = cursor % nHeads;
    const to = (l, n) => {
      cursor = clamp(l, 0, nLayers - 1) * nHeads + clamp(n, 0, nHeads - 1);
      event.currentTarget.setAttribute("aria-activedescendant",
        panels.find((panel) => panel.svg === event.currentTarget).id(cursor));
      hovered = cursor;
      showTip();
      drawRings();
      say(cursor);
    };
    const moves = {
      ArrowRight: () => to(layer + 1, head), ArrowLeft: () => to(layer - 1, head),
      ArrowUp: () => to(layer, head + 1), ArrowDown: () => to(layer, head - 1),
      Home: () => (event.ctrlKey ? to(0, nHeads - 1) : to(0, head)),
      End: () => (event.ctrlKey ? to(nLayers - 1, 0) : to(nLayers - 1, head)),
      Enter: () => { update({ head: nameOf(cursor) }, true); card.focus(); },
      " ": () => { update({ head: nameOf(cursor) }, true); },
      p: () => togglePin(nameOf(cursor)),
      Escape: () => closeCard(),
    };
    if (event.altKey || event.metaKey || (event.ctrlKey && !["Home", "End"].includes(event.key))) {
      return;
    }
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has meanings of its own for Enter, Escape and arrows
    move();
  }

  function togglePin(name) {
    const pins = state.pins.includes(name) ? state.pins.filter((pin) => pin !== name)
      : [...state.pins, name];
    update({ pins }, true);
  }
  function closeCard() {
    if (!state.head) return;
    cursor = indexOf(state.head);
    update({ head: null }, true);
    panels[0].svg.focus();
  }

  // ------------------------------------------------------------------------- the head's card

  const card = h("aside", { class: "nh-card", tabindex: -1, "aria-label": "Head's card",
    onkeydown: (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      closeCard();
    } });
  const tokenQuery = h("input", { type: "text", "aria-label": "Token to look up", size: 14,
    placeholder: "a name or token" });
  const tokenSays = h("div", { class: "nh-answer" });
  const promptText = h("textarea", { rows: 2, "aria-label": "Prompt",
    value: "When Mary and John went to the store, John gave a drink to" });
  const promptSays = h("div", { class: "nh-answer" });
  let nameFilter = "";
  let showAll = new Set();
  let cardHead = null; // whose answers are shown below the names
  const named = new Map(); // "head set mlp" -> tokens before each name, asked of Python

  function drawCard() {
    const i = indexOf(state.head);
    root.classList.toggle("nh-has-card", i >= 0);
    if (i < 0) {
      cardHead = null;
      card.replaceChildren(h("p", { class: "nh-muted nh-empty" },
        "No head is open. Click one, or move with the arrow keys and press Enter."));
      return;
    }
    if (cardHead !== state.head) {
      cardHead = state.head;
      showAll = new Set();
      tokenSays.replaceChildren();
      promptSays.replaceChildren();
      changedSays.replaceChildren();
    }
    const focused = card.contains(document.activeElement)
      ? document.activeElement.dataset?.key : null;
    const pinned = state.pins.includes(state.head);
    const go = (by) => {
      cursor = (i + by + data.nHeads) % data.nHeads;
      update({ head: nameOf(cursor) }, true);
    };
    const button = (key, text, onclick, extra = {}) => h("button",
      { type: "button", class: "nh-small", "data-key": key, onclick, ...extra }, text);
    card.setAttribute("aria-label", `Card of head ${state.head}`);
    card.replaceChildren(
      h("header", {},
        h(isPage ? "h2" : "h3", { class: "nh-card-title" }, `Head ${state.head}`),
        h("span", { class: "nh-where" },
          `layer ${Math.floor(i / nHeads)}, head ${i % nHeads}`),
        h("span", { class: "nh-buttons" },
          button("before", "‹", () => go(-1), { "aria-label": "Head before" }),
          button("next", "›", () => go(1), { "aria-label": "Next head" }),
          button("pin", pinned ? "Unpin" : "Pin", () => togglePin(state.head),
            { "aria-pressed": pinned }),
          button("close", "Close", closeCard))),
      drawClasses(i), drawEvidence(i), drawProfile(i), drawNames(i), drawTokenSearch(),
      drawChanged(), drawPrompt(), drawMissing());
    if (focused) card.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  function drawClasses(i) {
    const rows = classesOf(i);
    if (rows.length) {
      return h("p", { class: "nh-classes" }, rows.map((row) =>
        h("span", { class: `nh-badge nh-${row.origin}`, title: row.source },
          `${row.class}, ${row.origin}`)));
    }
    return h("p", { class: "nh-muted" }, data.classes.length
      ? "No class, published or measured." : "No classes are known for this model.");
  }

  function drawEvidence(i) {
    const groups = [["static", "Read off the weights"], ["null", "Against random heads"],
      ["vocabulary", "Whole vocabulary"], ["dynamic", "When the model runs"],
      ["causal", "Indirect-object task"]];
    const all = [measure("copying"), measure("suppression"),
      ...data.measures.map((known) => measure(known.key))];
    const body = [];
    for (const [group, heading] of groups) {
      const rows = all.filter((one) => one.group === group);
      const lacks = data.absent.filter((one) => one.group === group);
      if (!rows.length && !lacks.length) continue;
      body.push(h("tr", {}, h("th", { colspan: 3, scope: "colgroup" }, heading)));
      for (const one of rows) body.push(evidenceRow(one, i));
      for (const one of lacks) {
        body.push(h("tr", { class: "nh-muted" }, h("td", {}, one.title),
          h("td", { colspan: 2 }, "not computed")));
      }
    }
    return h("table", { class: "nh-evidence" },
      h("caption", { class: "nh-hidden" }, `Evidence about head ${nameOf(i)}`),
      h("tbody", {}, body));
  }

  function evidenceRow(one, i) {
    const value = one.values[i];
    const interval = one.interval && isNumber(value) ? one.interval(i) : null;
    const shownInterval = interval && interval.every(isNumber)
      ? `[${format(interval[0])}, ${format(interval[1])}]` : "";
    const counts = one.counts ? `${one.counts[i]} of ${one.n}` : shownInterval;
    return h("tr", { title: one.note || "" }, h("td", {}, one.title),
      h("td", { class: "nh-value", "data-measure": one.key, title: String(value),
        "data-value": value },
        isNumber(value) ? format(value) : one.note_missing || "–"),
      h("td", { class: "nh-interval" }, counts,
        one.counts ? h("span", { class: "nh-muted" }, ` ${shownInterval}`) : null));
  }

  /** Score against k: one look shows whether names are missed narrowly or altogether. */
  function drawProfile(i) {
    const set = currentSet(), width = 330, height = 84, left = 30, bottom = 64, top = 6;
    const colors = THEMES[theme];
    const x = (k) => left + (width - left - 8) * Math.log(k) / Math.log(data.max_rank);
    const y = (share) => bottom - (bottom - top) * share;
    const line = (end) => Array.from({ length: data.max_rank }, (_, at) =>
      `${x(at + 1).toFixed(1)},${y(set.below[end][at + 1][i] / set.nPairs).toFixed(1)}`).join(" ");
    const ticks = [1, 2, 5, 10, 20, 50, 100].filter((k) => k <= data.max_rank);
    return h("figure", { class: "nh-profile" },
      s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
        "aria-label": `Copying and suppression score of head ${nameOf(i)} for every k`,
        "font-family": FONT, "font-size": 10, fill: "none" },
      [0, 0.5, 1].map((share) => [
        s("line", { x1: left, x2: width - 8, y1: y(share), y2: y(share), stroke: colors.line,
          "stroke-width": 0.7 }),
        s("text", { x: left - 4, y: y(share) + 3, "text-anchor": "end", fill: colors.muted },
          share)]),
      ticks.map((k) => s("text", { x: x(k), y: bottom + 13, "text-anchor": "middle",
        fill: colors.muted }, k)),
      s("line", { x1: x(state.k), x2: x(state.k), y1: top, y2: bottom, stroke: colors.select,
        "stroke-dasharray": "3 2" }),
      s("polyline", { points: line("bottom"), stroke: "#d97706", "stroke-width": 2,
        "stroke-dasharray": "5 2" }),
      s("polyline", { points: line("top"), stroke: theme === "dark" ? "#5cc8c2" : "#1a7f79",
        "stroke-width": 2 })),
      h("figcaption", { class: "nh-muted" }, "Score for each k: copying (line), "
        + "suppression (dashes)."));
  }

  function endOf(i) {
    if (state.end) return state.end;
    const set = currentSet(), k = data.max_rank;
    return set.below.bottom[k][i] > set.below.top[k][i] ? "bottom" : "top";
  }

  /** Ids of the head's most extreme tokens for each name, where they are known. */
  function extremesOf(i, end) {
    const set = currentSet();
    const asked = named.get(`${nameOf(i)} ${set.key} ${set.first_mlp} ${set.checksum}`);
    const packed = asked || (set.extremes || {})[nameOf(i)];
    if (!packed) return null;
    if (!packed.read) {
      const bytes = { top: bytesOf(packed.top), bottom: bytesOf(packed.bottom) };
      packed.read = Object.fromEntries(Object.entries(bytes).map(([key, array]) =>
        [key, packed.wide ? new Uint32Array(array.buffer) : new Uint16Array(array.buffer)]));
      packed.words = packed.words || data.words;
    }
    return (pair) => Array.from(packed.read[end].subarray(pair * packed.n, (pair + 1) * packed.n),
      (place) => packed.words[place]);
  }

  function drawNames(i) {
    const set = currentSet(), end = endOf(i), k = state.k;
    const ranks = set[end].subarray(i * set.nPairs, (i + 1) * set.nPairs);
    const order = Array.from(ranks.keys()).sort((a, b) => ranks[a] - ranks[b]);
    const kept = order.filter((pair) => !nameFilter
      || set.sources[pair].toLowerCase().includes(nameFilter.toLowerCase()));
    const verb = end === "bottom" ? "suppresses" : set.targets ? "answers" : "copies";
    const lists = [
      ["in", `${verb[0].toUpperCase()}${verb.slice(1)}`, `rank below ${k}`,
        kept.filter((pair) => ranks[pair] < k)],
      ["near", "Nearly", `rank ${k} to ${data.max_rank - 1}`,
        kept.filter((pair) => ranks[pair] >= k && ranks[pair] < data.max_rank)],
      ["missed", "Misses", `${data.max_rank} or more tokens come before`,
        kept.filter((pair) => ranks[pair] >= data.max_rank)],
    ];
    const extremes = extremesOf(i, end);
    if (!extremes && hasKernel) askExtremes(i);
    const filter = h("input", { type: "search", "data-key": "filter", size: 12,
      "aria-label": "Filter the names", placeholder: "filter", value: nameFilter,
      oninput: (event) => {
        nameFilter = event.target.value;
        const at = event.target.selectionStart;
        drawCard();
        card.querySelector('[data-key="filter"]')?.setSelectionRange(at, at);
      } });
    const endButton = (key, text) => h("button", { type: "button", class: "nh-small",
      "data-key": `end-${key}`, "aria-pressed": end === key,
      onclick: () => update({ end: key }, true) }, text);
    const chip = (pair) => {
      const before = extremes ? extremes(pair).slice(0, Math.min(ranks[pair], 5)) : null;
      const target = set.targets ? ` → ${set.targets[pair]}` : "";
      const rank = ranks[pair] < data.max_rank ? ranks[pair] : `≥ ${data.max_rank}`;
      return h("button", { type: "button", class: "nh-chip", "data-name": set.sources[pair],
        title: before === null ? `rank ${rank}` : before.length
          ? `rank ${rank}; before it: ${before.map((word) => JSON.stringify(word)).join(", ")}`
          : `rank ${rank}: nothing comes before it`,
        onclick: () => { tokenQuery.value = set.sources[pair]; lookUp(); } },
      `${set.sources[pair]}${target}`, h("span", { class: "nh-rank" }, rank));
    };
    return h("section", { class: "nh-names" },
      section("Names and their ranks"),
      h("p", { class: "nh-row" }, endButton("top", "From the top"),
        endButton("bottom", "From the bottom"), filter),
      lists.map(([key, heading, what, pairs]) => {
        const shown = showAll.has(key) ? pairs : pairs.slice(0, key === "in" ? CHIPS : 24);
        return h("div", { class: `nh-list nh-list-${key}` },
          listTitle(`${heading} ${pairs.length.toLocaleString("en")}`,
            h("span", { class: "nh-muted" }, ` ${what}`)),
          h("div", { class: "nh-chips" }, shown.map(chip),
            pairs.length > shown.length ? h("button", { type: "button", class: "nh-small",
              "data-key": `all-${key}`, onclick: () => { showAll.add(key); drawCard(); } },
            `all ${pairs.length.toLocaleString("en")}`) : null));
      }),
      extremes ? null : h("p", { class: "nh-muted" }, hasKernel
        ? "Asking for the tokens that come before each name …"
        : `Which tokens come before each name is not in this page for this head. In Python: `
          + `head_card(model, (${nameOf(i).replace(".", ", ")})).names`));
  }

  const asking = new Set();
  async function askExtremes(i) {
    const set = currentSet(), head = nameOf(i);
    const key = `${head} ${set.key} ${set.first_mlp} ${set.checksum}`;
    if (asking.has(key)) return;
    asking.add(key);
    try {
      const result = await ask("extremes",
        { head, key: set.key, first_mlp: set.first_mlp }, { about: "extremes" });
      named.set(key, result);
      if (state.head === head) drawCard();
    } catch (error) {
      asking.delete(key);
    }
  }

  // In a notebook the headings begin a level lower, under the notebook's own.
  function section(text) {
    return h(isPage ? "h3" : "h4", { class: "nh-section" }, text);
  }
  function listTitle(...text) {
    return h(isPage ? "h4" : "h5", { class: "nh-list-title" }, text);
  }

  function tokenList(heading, rows) {
    return h("div", { class: "nh-tokens" }, listTitle(heading),
      h("ol", {}, rows.map((row) => h("li", {}, h("code", {}, visible(row.token)),
        row.logit === undefined ? null
          : h("span", { class: "nh-rank" }, format(row.logit, true))))));
  }
  const visible = (token) => (token === "" ? "(empty)" : token.replaceAll("\n", "⏎"));

  function drawTokenSearch() {
    return h("section", {}, section("What it writes for a token"),
      h("form", { class: "nh-row", onsubmit: (event) => { event.preventDefault(); lookUp(); } },
        tokenQuery, h("button", { type: "submit", class: "nh-small" }, "Look up")), tokenSays);
  }
  tokenQuery.dataset.key = "token";
  promptText.dataset.key = "prompt";

  async function lookUp() {
    const i = indexOf(state.head), word = tokenQuery.value, set = currentSet();
    if (i < 0) return;
    if (!word.trim()) {
      tokenSays.replaceChildren(h("span", { class: "nh-error", role: "alert" },
        "Type a name or a token."));
      return;
    }
    const pair = set.sources.indexOf(word.trim());
    if (!hasKernel) {
      const top = extremesOf(i, "top"), bottom = extremesOf(i, "bottom");
      if (pair < 0 || !top) {
        tokenSays.replaceChildren(h("span", { class: "nh-error", role: "alert" },
          pair < 0 ? `"${word}" is not among this page's names. ` : "Not in this page. ",
          "In Python: ", h("code", {}, `head_card(model, (${state.head.replace(".", ", ")}))`
            + `.writes_for(${JSON.stringify(word.trim())})`)));
        return;
      }
      tokenSays.replaceChildren(ownRank(set, i, pair),
        h("div", { class: "nh-columns" },
          tokenList("writes most", top(pair).map((token) => ({ token }))),
          tokenList("writes least", bottom(pair).map((token) => ({ token })))));
      return;
    }
    const result = await work(tokenSays, "token",
      { head: state.head, token: word, first_mlp: state.mlp }, { about: "token" });
    if (!result) return;
    const sources = h("div", {}, h("button", { type: "button", class: "nh-small",
      onclick: async () => {
        const found = await work(sources, "sources",
          { head: state.head, token: word, first_mlp: state.mlp }, { about: "sources" });
        if (found) {
          sources.replaceChildren(h("div", { class: "nh-columns" },
            tokenList("most written for", found.most),
            tokenList("least written for", found.least)));
        }
      } }, `Which tokens write ${JSON.stringify(result.token)}?`));
    tokenSays.replaceChildren(
      h("p", {}, h("code", {}, visible(result.token)), " itself: "
        + `${result.larger.toLocaleString("en")} tokens have a larger logit, `
        + `${result.smaller.toLocaleString("en")} a smaller one.`),
      h("div", { class: "nh-columns" }, tokenList("writes most", result.most),
        tokenList("writes least", result.least)), sources);
  }

  function ownRank(set, i, pair) {
    const say_ = (ranks) => {
      const rank = ranks[i * set.nPairs + pair];
      return rank < data.max_rank ? String(rank) : `${data.max_rank} or more`;
    };
    const what = set.targets ? set.targets[pair] : set.sources[pair];
    return h("p", {}, h("code", {}, what), `: ${say_(set.top)} tokens have a larger logit, `
      + `${say_(set.bottom)} a smaller one.`);
  }

  const changedSays = h("div", { class: "nh-answer" });
  function drawChanged() {
    const button = h("button", { type: "button", class: "nh-small", "data-key": "changed",
      onclick: async () => {
        const found = await work(changedSays, "changed",
          { head: state.head, first_mlp: state.mlp }, { about: "changed" });
        if (!found) return;
        changedSays.replaceChildren(h("ol", { class: "nh-changed" }, found.tokens.map((row) =>
          h("li", {}, h("code", {}, visible(row.token)),
            h("span", { class: "nh-rank" }, `× ${format(row.amplification)}`), " writes ",
            row.writes.map((word) => [h("code", {}, visible(word)), " "])))));
      } }, "Ask every token");
    return h("section", {}, section("Tokens it changes most"),
      hasKernel ? button : h("p", { class: "nh-muted" }, "Not computed. In Python: ",
        h("code", {}, `head_card(model, (${state.head.replace(".", ", ")})).changes_most()`)),
      changedSays);
  }

  function drawPrompt() {
    return h("section", {}, section("Attention on a prompt"),
      hasKernel
        ? h("form", { onsubmit: (event) => { event.preventDefault(); runPrompt(); } },
          promptText, h("div", { class: "nh-row" },
            h("button", { type: "submit", class: "nh-small" }, "Run the model")))
        : h("p", { class: "nh-muted" }, "Needs the model: open ",
          h("code", {}, "explore(model)"), " in a notebook."),
      promptSays);
  }

  async function runPrompt() {
    const result = await work(promptSays, "prompt",
      { head: state.head, prompt: promptText.value }, { about: "prompt" });
    if (result) promptSays.replaceChildren(attentionView(result));
  }

  function attentionView({ tokens, attention, most, least }) {
    const says = h("p", { class: "nh-muted" });
    const spans = tokens.map((token, at) => h("button", { type: "button", class: "nh-token",
      onpointerenter: () => show(at), onfocus: () => show(at), onclick: () => show(at) },
    visible(token)));
    function show(from) {
      const row = attention[from];
      spans.forEach((span, to) => {
        const share = to <= from ? row[to] : 0;
        span.style.background = share > 0 ? `rgba(214, 0, 92, ${(0.08 + 0.8 * share).toFixed(3)})`
          : "transparent";
        span.style.color = share > 0.55 ? "#ffffff" : "";
        span.classList.toggle("nh-from", to === from);
        span.title = `${(100 * share).toFixed(1)} % from position ${from}`;
      });
      const best = row.slice(0, from + 1).map((share, to) => [share, to])
        .sort((a, b) => b[0] - a[0]).slice(0, 3);
      says.textContent = `From ${JSON.stringify(tokens[from])} (position ${from}) to `
        + best.map(([share, to]) =>
          `${JSON.stringify(tokens[to])} ${(100 * share).toFixed(0)} %`).join(", ");
    }
    show(tokens.length - 1);
    return h("div", {}, h("div", { class: "nh-prompt" }, spans), says,
      h("div", { class: "nh-columns" }, tokenList("writes most at the end", most),
        tokenList("writes least at the end", least)));
  }

  function drawMissing() {
    if (!data.absent.length) return null;
    return h("section", { class: "nh-absent" }, section("Not computed yet"),
      data.absent.map((one) => {
        const says = h("div", { class: "nh-says" });
        const run = h("button", { type: "button", class: "nh-small", onclick: async () => {
          const result = await work(says, "measure", { what: one.what },
            { about: `measure ${one.what}` });
          if (result) takeMeasures(result);
        } }, "Compute");
        return h("div", { class: "nh-absent-row" }, h("span", {}, one.title),
          hasKernel && one.what ? run : h("code", {}, one.python), says);
      }));
  }

  function takeMeasures(result) {
    data.measures = [...data.measures.filter((known) =>
      !result.measures.some((one) => one.key === known.key)), ...result.measures.map(readMeasure)];
    data.views = result.views;
    data.absent = result.absent;
    data.classes = result.classes;
    update({}, false);
  }

  // ------------------------------------------------------------------ scatter, table, pinned

  const tabs = { scatter: "Scatter", table: "Table", pins: "Pinned" };
  const tabButtons = Object.entries(tabs).map(([key, text]) => h("button", { type: "button",
    role: "tab", id: `nh-${uid}-${key}-tab`, "data-tab": key, onclick: () => update({ tab: key }, true),
    onkeydown: (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      const keys = Object.keys(tabs);
      const next = keys[(keys.indexOf(key) + by + keys.length) % keys.length];
      update({ tab: next }, true);
      tabButtons.find((tab) => tab.dataset.tab === next).focus();
    } }, text));
  const tabPanel = h("div", { class: "nh-tabpanel", role: "tabpanel", tabindex: 0 });
  const axes = Object.fromEntries(["x", "y", "color", "size"].map((axis) =>
    [axis, select({ x: "Horizontal", y: "Vertical", color: "Colour", size: "Size" }[axis], () => [
      ...(axis === "color" || axis === "size" ? [["none", "none"]] : []),
      ...measureKeys().map((key) => [key, measure(key).title])],
    (value) => update({ [axis]: value }, true))]));
  let points = null;

  function drawTab() {
    for (const tab of tabButtons) {
      const chosen = tab.dataset.tab === state.tab;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
      if (tab.dataset.tab === "pins") tab.textContent = `Pinned (${state.pins.length})`;
    }
    tabPanel.setAttribute("aria-label", tabs[state.tab]);
    points = null;
    if (state.tab === "scatter") drawScatter();
    else if (state.tab === "table") drawTable(Array.from({ length: data.nHeads }, (_, i) => i));
    else if (state.pins.length) drawTable(state.pins.map(indexOf));
    else {
      tabPanel.replaceChildren(h("p", { class: "nh-muted" },
        "No head is pinned. Pin one on its card, or with the key p, to compare it here."));
    }
  }

  function extent(values) {
    const finite = Array.from(values).filter(isNumber);
    const low = Math.min(...finite), high = Math.max(...finite);
    if (!finite.length) return [0, 1];
    return high > low ? [low - (high - low) * 0.03, high + (high - low) * 0.03]
      : [low - 0.5, high + 0.5];
  }
  function niceTicks([low, high]) {
    const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
    const unit = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= raw);
    const found = [];
    for (let t = Math.ceil(low / unit) * unit; t <= high; t += unit) {
      found.push(Math.abs(t) < unit / 1e6 ? 0 : t);
    }
    return found;
  }

  function drawScatter() {
    const width = clamp(tabPanel.clientWidth || 600, 280, 760);
    const height = Math.min(width * 0.62, 420);
    const m = { left: 54, right: 12, top: 10, bottom: 40 };
    const [X, Y] = [measure(state.x), measure(state.y)];
    const C = state.color === "none" ? null : measure(state.color);
    const Z = state.size === "none" ? null : measure(state.size);
    const [ex, ey] = [extent(X.values), extent(Y.values)];
    const px = (v) => m.left + (v - ex[0]) / (ex[1] - ex[0]) * (width - m.left - m.right);
    const py = (v) => height - m.bottom - (v - ey[0]) / (ey[1] - ey[0])
      * (height - m.top - m.bottom);
    const colors = THEMES[theme];
    const ec = C ? extent(C.values) : null, ez = Z ? extent(Z.values) : null;
    points = [];
    const marks = [];
    let hidden = 0;
    for (let i = 0; i < data.nHeads; i++) {
      const [x, y] = [X.values[i], Y.values[i]];
      if (!isNumber(x) || !isNumber(y)) { hidden++; continue; }
      const color = C ? mix(VIRIDIS, (C.values[i] - ec[0]) / (ec[1] - ec[0])) : "#2c728e";
      const r = Z && isNumber(Z.values[i]) ? 2 + 7 * Math.sqrt(
        clamp((Z.values[i] - ez[0]) / (ez[1] - ez[0]), 0, 1)) : 4;
      const circle = s("circle", { cx: px(x).toFixed(1), cy: py(y).toFixed(1), r: r.toFixed(1),
        fill: color, "fill-opacity": 0.85, stroke: colors.muted, "stroke-width": 0.6 });
      points.push({ i, x: px(x), y: py(y), r, circle });
      marks.push(circle);
    }
    const rings = s("g", { fill: "none", "pointer-events": "none", class: "nh-rings" });
    const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      class: "nh-scatter", "aria-label": `Scatter of heads: ${Y.title} against ${X.title}. The `
      + "table holds the same numbers.", "font-family": FONT, "font-size": 11, fill: colors.muted },
    niceTicks(ex).map((t) => [
      s("line", { x1: px(t), x2: px(t), y1: m.top, y2: height - m.bottom, stroke: colors.line,
        "stroke-width": 0.5 }),
      s("text", { x: px(t), y: height - m.bottom + 14, "text-anchor": "middle" }, format(t))]),
    niceTicks(ey).map((t) => [
      s("line", { x1: m.left, x2: width - m.right, y1: py(t), y2: py(t), stroke: colors.line,
        "stroke-width": 0.5 }),
      s("text", { x: m.left - 6, y: py(t) + 4, "text-anchor": "end" }, format(t))]),
    s("text", { x: (m.left + width) / 2, y: height - 6, "text-anchor": "middle", "font-size": 12,
      fill: colors.text }, X.title),
    s("text", { x: 12, y: (height - m.bottom) / 2, "text-anchor": "middle", "font-size": 12,
      fill: colors.text, transform: `rotate(-90 12 ${(height - m.bottom) / 2})` }, Y.title),
    marks, rings);
    svg.rings = rings;
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let best = -1, distance = 12;
      for (const point of points || []) {
        const d = Math.hypot(point.x - x, point.y - y) - point.r;
        if (d < distance) { distance = d; best = point.i; }
      }
      return best;
    };
    svg.addEventListener("pointermove", (event) => hover(nearest(event)));
    svg.addEventListener("pointerleave", () => hover(-1));
    svg.addEventListener("click", (event) => {
      const i = nearest(event);
      if (i >= 0) { cursor = i; update({ head: nameOf(i) }, true); }
    });
    for (const [axis, box] of Object.entries(axes)) box.refresh(state[axis]);
    tabPanel.replaceChildren(
      h("div", { class: "nh-axes" }, Object.entries(axes).map(([axis, box]) => h("label", {},
        `${{ x: "Horizontal", y: "Vertical", color: "Colour", size: "Size" }[axis]} `, box))),
      svg, h("p", { class: "nh-muted" }, hidden
        ? `${hidden} of ${data.nHeads} heads have no number here.` : ""));
    markScatter();
  }

  function markScatter() {
    const svg = tabPanel.querySelector(".nh-scatter");
    if (!svg || !points) return;
    const colors = THEMES[theme], rings = [];
    const ring = (i, color, label) => {
      const point = points.find((known) => known.i === i);
      if (!point) return;
      rings.push(s("circle", { cx: point.x, cy: point.y, r: point.r + 3, stroke: color,
        "stroke-width": 2 }));
      if (label) {
        const left = point.x > Number(svg.getAttribute("width")) - 60;
        rings.push(s("text", { x: point.x + (left ? -1 : 1) * (point.r + 6), y: point.y + 4,
          "text-anchor": left ? "end" : "start", fill: colors.text,
          stroke: colors.surface, "stroke-width": 3, "paint-order": "stroke",
          "font-weight": 600 }, nameOf(i)));
      }
    };
    state.pins.forEach((pin) => ring(indexOf(pin), colors.pin, true));
    if (hovered >= 0) ring(hovered, colors.hover, true);
    if (state.head) ring(indexOf(state.head), colors.select, true);
    svg.rings.replaceChildren(...rings);
  }

  let sorted = { key: "copying", down: true };
  function drawTable(heads) {
    const columns = [measure("copying"), measure("suppression"),
      ...data.measures.map((known) => measure(known.key))];
    const by = sorted.key === "name" ? null : columns.find((column) => column.key === sorted.key)
      || columns[0];
    const value = (i) => (by ? (isNumber(by.values[i]) ? by.values[i] : -Infinity) : -i);
    const order = [...heads].sort((a, b) =>
      (sorted.down ? value(b) - value(a) : value(a) - value(b)) || a - b);
    const heading = (key, text) => h("th", { scope: "col",
      "aria-sort": sorted.key === key ? (sorted.down ? "descending" : "ascending") : "none" },
    h("button", { type: "button", "data-sort": key, onclick: () => {
      sorted = { key, down: sorted.key === key ? !sorted.down : true };
      drawTab();
      tabPanel.querySelector(`[data-sort="${key}"]`).focus();
    } }, text));
    tabPanel.replaceChildren(h("div", { class: "nh-scroll", tabindex: 0, role: "region",
      "aria-label": "Table of heads" },
    h("table", { class: "nh-table" },
      h("caption", { class: "nh-hidden" }, "Heads and their numbers"),
      h("thead", {}, h("tr", {}, heading("name", "Head"),
        columns.map((column) => heading(column.key, column.title)),
        h("th", { scope: "col" }, "Class"))),
      h("tbody", {}, order.map((i) => h("tr", {
        class: nameOf(i) === state.head ? "nh-chosen" : "" },
      h("th", { scope: "row" }, h("button", { type: "button", class: "nh-link",
        onclick: () => { cursor = i; update({ head: nameOf(i) }, true); card.focus(); } },
      nameOf(i))),
      columns.map((column) => h("td", {}, isNumber(column.values[i])
        ? format(column.values[i]) : "–")),
      h("td", { class: "nh-left" }, classesOf(i).map((row) =>
        `${row.class} (${row.origin})`).join(", "))))))));
  }

  // ---------------------------------------------------------------------------- keeping it

  const keepSays = h("span", { class: "nh-says" });
  const python = (value) => (value === true ? "True" : value === false ? "False"
    : JSON.stringify(value));

  /** Lines that, run, return the numbers seen. */
  function pythonLines() {
    const set = currentSet(), view = data.views.find((known) => known.key === state.score);
    const { name, revision, source } = data.model;
    const load = source === "memory" ? "model = ...  # this model was built in memory"
      : `model = load_model(${python(name)}${revision && source === "hub"
        ? `, revision=${python(revision)}` : ""})${source === "folder"
        ? "  # the path of this folder" : ""}`;
    const given = set.key === "shipped" ? "" : `, ${python(set.targets
      ? set.sources.map((word, at) => [word, set.targets[at]]) : set.sources)}`;
    const names = set.targets
      ? `names = [tuple(pair) for pair in ${given.slice(2)}]`
      : `names = load_names(model${given})`;
    if (view.key !== "static") {
      const shown = [view.left, view.right].map((key) => measure(key).python).filter(Boolean);
      return `${["from analysis import load_model, load_names", "", load, names, "",
        ...new Set(shown)].join("\n")}\n`;
    }
    return `${["from analysis import load_model, load_names, score_heads", "", load, names,
      `scores = score_heads(model, names, k=${state.k}, first_mlp=${python(state.mlp)})`,
      "frame = scores.to_frame(intervals=True)",
      state.head ? `frame.loc[(${state.head.replace(".", ", ")})]`
        : "frame.sort_values(frame.columns[0], ascending=False).head(10)"].join("\n")}\n`;
  }

  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      keepSays.replaceChildren(h("span", { class: "nh-muted", role: "status" }, `${what} copied.`));
    } catch {
      // file:// pages and frames may not reach the clipboard: the text is shown instead.
      keepSays.replaceChildren(h("textarea", { rows: 8, class: "nh-copy", readonly: true,
        "aria-label": what, value: text, onfocus: (event) => event.target.select() }));
      keepSays.firstChild.focus();
    }
  }

  function download(name, type, parts) {
    const url = URL.createObjectURL(new Blob(parts, { type }));
    const link = h("a", { href: url, download: name });
    root.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    keepSays.replaceChildren(h("span", { class: "nh-muted", role: "status" }, `${name} written.`));
  }

  const stem = () => `${data.model.name.split("/").pop().replace(/[^\w.-]+/g, "_")}_explorer`
    + `${state.score === "static" ? `_k${state.k}` : `_${state.score}`}`;

  function caption() {
    const set = currentSet();
    const sum = data.model.checksum ? `, weights sha256 ${data.model.checksum.slice(0, 12)}`
      : data.model.revision ? `, revision ${data.model.revision.slice(0, 12)}` : "";
    return `${data.model.title}${sum}; ${set.sources.length} ${set.targets ? "pairs" : "names"}, `
      + `sha256 ${set.checksum.slice(0, 12)}; k = ${state.k}; first MLP `
      + `${set.first_mlp ? "on" : "off"}`;
  }

  function picture() {
    const [a, b] = panels.map((panel) => panel.geometry);
    const stacked = a.width * 2 > 900 || root.clientWidth < 720;
    const width = stacked ? a.width : a.width + b.width + 16;
    const height = (stacked ? a.height + b.height : a.height) + 40;
    const colors = THEMES[theme];
    const inner = (panel, x, y) => {
      const copyOf = panel.svg.cloneNode(true);
      copyOf.querySelector(".nh-rings")?.remove();
      for (const node of [copyOf, ...copyOf.querySelectorAll("*")]) {
        for (const { name } of [...node.attributes]) {
          if (name === "role" || name === "class" || name === "tabindex"
              || name.startsWith("aria-")) node.removeAttribute(name);
        }
      }
      copyOf.setAttribute("x", x);
      copyOf.setAttribute("y", y);
      return copyOf;
    };
    const svg = s("svg", { xmlns: SVG_NS, width, height, viewBox: `0 0 ${width} ${height}` },
      s("title", {}, `${data.model.title}: ${measure("copying").title} and suppression`),
      s("rect", { width, height, fill: colors.surface }),
      s("text", { x: 40, y: 18, "font-family": FONT, "font-size": 15, "font-weight": 700,
        fill: colors.text }, data.model.title),
      inner(panels[0], 0, 22),
      inner(panels[1], stacked ? 0 : a.width + 16, stacked ? a.height + 22 : 22),
      s("text", { x: 40, y: height - 8, "font-family": FONT, "font-size": 10,
        fill: colors.muted }, fit(caption(), width * 1.35)));
    return { text: new XMLSerializer().serializeToString(svg), width, height };
  }

  function keepSvg() { download(`${stem()}.svg`, "image/svg+xml", [picture().text]); }

  async function keepPng() {
    const { text, width, height } = picture();
    const image = new Image();
    const loaded = new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new Error("the browser could not draw the picture."));
    });
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    try {
      await loaded;
      const canvas = h("canvas", { width: width * 2, height: height * 2 });
      canvas.getContext("2d").drawImage(image, 0, 0, width * 2, height * 2);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
      download(`${stem()}.png`, "image/png", [blob]);
    } catch (error) {
      keepSays.replaceChildren(h("span", { class: "nh-error", role: "alert" }, error.message));
    }
  }

  function tableText() {
    const columns = [measure("copying"), measure("suppression"),
      ...data.measures.map((known) => measure(known.key))];
    const quote = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const lines = [["layer", "head", "n_in_top_k", "n_in_bottom_k", "n_pairs",
      ...columns.map((column) => column.column || column.key)].map(quote).join(",")];
    for (let i = 0; i < data.nHeads; i++) {
      lines.push([Math.floor(i / nHeads), i % nHeads, columns[0].counts[i], columns[1].counts[i],
        columns[0].n, ...columns.map((column) => (isNumber(column.values[i])
          ? column.values[i] : ""))].join(","));
    }
    return `${lines.join("\n")}\n`;
  }

  function record() {
    const set = currentSet();
    return `${JSON.stringify({ state, model: data.model, k: state.k, first_mlp: set.first_mlp,
      relation: set.targets ? "relation" : "copying", n_pairs: set.nPairs,
      pairs_sha256: set.checksum, n_layers: nLayers, n_heads: nHeads,
      names: set.key === "shipped" ? "data/names.csv" : set.sources,
      python: pythonLines(), provenance: data.provenance }, null, 2)}\n`;
  }

  async function keepFiles() {
    const result = await work(keepSays, "export", { k: state.k, key: state.names,
      first_mlp: state.mlp, state }, { about: "export" });
    if (result) {
      keepSays.replaceChildren(h("span", { class: "nh-muted", role: "status" },
        `Written to ${result.folder}: ${result.files.join(", ")}.`));
    }
  }

  function loadState(event) {
    const [file] = event.target.files;
    if (!file) return;
    file.text().then((text) => {
      const read = JSON.parse(text);
      update(readState(read.state || read, usual), true);
      keepSays.replaceChildren(h("span", { class: "nh-muted", role: "status" },
        `${file.name} read.`));
    }).catch(() => keepSays.replaceChildren(h("span", { class: "nh-error", role: "alert" },
      `${file.name} is not a state that was saved here.`)));
    event.target.value = "";
  }

  const keep = h("details", { class: "nh-keep" }, h("summary", {}, "Keep it"),
    h("div", { class: "nh-row" },
      ...[["Copy the Python", () => copy(pythonLines(), "Python")],
        isPage ? ["Copy the link", () => copy(location.href, "Link")] : null,
        ["SVG", keepSvg], ["PNG", keepPng],
        ["CSV", () => download(`${stem()}.csv`, "text/csv", [tableText()])],
        ["Record and state (JSON)",
          () => download(`${stem()}.json`, "application/json", [record()])],
        hasKernel ? ["Page, pictures and PDF to figures/", keepFiles]
          : ["PDF (print)", () => window.print()]]
        .filter(Boolean).map(([text, onclick]) =>
          h("button", { type: "button", class: "nh-small", onclick }, text)),
      h("label", { class: "nh-file" }, "open a state ",
        h("input", { type: "file", accept: ".json", onchange: loadState,
          "aria-label": "State file" }))), keepSays);

  // ------------------------------------------------------------------------------- one draw

  function drawHeader() {
    title.textContent = data.model.title;
    provenance.textContent = `${nLayers} layers of ${nHeads} heads · ${caption()}`
      + `${data.model.note ? ` · ${data.model.note}` : ""}`;
    kSlider.value = state.k;
    kBox.value = state.k;
    kSays.replaceChildren();
    mlpBox.checked = state.mlp;
    scoreBox.refresh(state.score);
    namesBox.refresh(state.names);
    classBox.refresh(state.classes);
    const view = data.views.find((known) => known.key === state.score);
    scoreSays.replaceChildren(view.key === "static" ? ""
      : h("span", { class: "nh-muted" }, view.note || ""));
    const biggest = Math.max(...panels.map(({ shown }) =>
      Math.max(...Array.from(shown.values).filter(isNumber).map(Math.abs), 0)));
    thresholdBox.max = biggest > 1 ? Math.ceil(biggest) : 1;
    thresholdBox.value = state.threshold;
    thresholdSays.textContent = state.threshold ? format(state.threshold) : "off";
    loBox.value = state.lo ?? "";
    hiBox.value = state.hi ?? "";
  }

  let laidOut = "";
  function drawMaps() {
    const room = maps.clientWidth || 640;
    const wide = room >= 760;
    maps.classList.toggle("nh-two", wide);
    const width = Math.max(260, Math.floor(wide ? (room - 20) / 2 : room));
    const key = `${width} ${theme}`;
    for (const panel of panels) {
      if (laidOut !== key) layPanel(panel, width);
      paint(panel);
    }
    laidOut = key;
  }

  function draw() {
    shownSet = currentSet();
    drawMaps();
    drawHeader();
    drawCard();
    drawTab();
    drawRings();
    showTip();
  }

  function update(patch, push) {
    state = checked({ ...state, ...patch });
    const had = root.classList.contains("nh-has-card");
    draw();
    if (had !== root.classList.contains("nh-has-card")) draw(); // the card takes room
    remember(push);
    if (patch.head) say(indexOf(state.head));
    else if ("k" in patch || "score" in patch || "mlp" in patch) {
      const best = panels.map(({ shown }) => {
        const i = shown.values.indexOf(Math.max(...shown.values));
        return `highest ${shown.title.toLowerCase()} ${format(shown.values[i])} at ${nameOf(i)}`;
      });
      live.textContent = `k = ${state.k}: ${best.join("; ")}`;
    }
  }

  function remember(push) {
    if (!isPage) {
      model.set("state", state);
      model.save_changes();
      return;
    }
    if (!keepsAddress) return;
    const parts = new URLSearchParams(stateToFragment(state, usual));
    if (fixed.model && fixed.model !== "0") parts.set("model", fixed.model);
    if (fixed.beside) parts.set("beside", fixed.beside);
    const fragment = `#${parts}`;
    if (fragment === (location.hash || "#")) return;
    try {
      history[push ? "pushState" : "replaceState"](null, "", fragment);
    } catch { /* a browser that keeps no history of local files */ }
  }

  // ------------------------------------------------------------------------ theme and events

  const darkMedia = matchMedia("(prefers-color-scheme: dark)");
  function readTheme() {
    const lab = document.body.dataset.jpThemeLight;
    const dark = lab === undefined ? darkMedia.matches : lab === "false";
    const found = dark ? "dark" : "light";
    if (found === theme && root.dataset.theme) return;
    theme = found;
    root.dataset.theme = theme;
    if (laidOut) draw();
  }

  const field = (label, ...controls) => h("div", { class: "nh-field" },
    h("span", { class: "nh-label", "aria-hidden": "true" }, label), ...controls);
  const maps = h("div", { class: "nh-maps" }, panels.map((panel) => panel.svg));
  root.replaceChildren(notice,
    h("header", { class: "nh-head" }, title, provenance),
    h("div", { class: "nh-controls" },
      field("k", kSlider, kBox, kSays),
      field("Score", scoreBox, scoreSays),
      field("Names", namesBox),
      field("First MLP", h("label", { class: "nh-switch" }, mlpBox, "through the first MLP"),
        mlpSays),
      field("Classes", classBox),
      field("Dim below", thresholdBox, thresholdSays),
      field("Colours", loBox, "to", hiBox, rangeSays)),
    h("div", { class: "nh-body" },
      h("div", { class: "nh-left-column" }, maps, tip),
      card,
      h("div", { class: "nh-under" },
        h("div", { class: "nh-tabs", role: "tablist", "aria-label": "Other views" }, tabButtons),
        tabPanel, own, keep)), live);
  readTheme();

  model.on("msg:custom", onMessage);
  cleanups.push(() => model.off("msg:custom", onMessage));
  darkMedia.addEventListener("change", readTheme);
  cleanups.push(() => darkMedia.removeEventListener("change", readTheme));
  const themeWatch = new MutationObserver(readTheme);
  themeWatch.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  const resize = new ResizeObserver(() => {
    const before = laidOut;
    drawMaps();
    if (laidOut !== before) draw();
  });
  resize.observe(maps);
  cleanups.push(() => themeWatch.disconnect(), () => resize.disconnect());
  if (isPage && keepsAddress) {
    const back = () => {
      state = toState(stateFromFragment(location.hash));
      if (state.head) cursor = indexOf(state.head);
      draw();
    };
    addEventListener("popstate", back);
    cleanups.push(() => removeEventListener("popstate", back));
  } else if (!isPage) {
    const fromPython = () => {
      const given = model.get("state");
      if (JSON.stringify(given) === JSON.stringify(state)) return;
      state = toState(given);
      draw();
    };
    model.on("change:state", fromPython);
    const lost = () => kernelNotice("The kernel was restarted or is gone. What is shown is the "
      + "last result; run the cell again to ask for more.");
    model.on("comm_live_update", lost);
    // JupyterLab marks a view whose kernel is gone, on an element above this one.
    const deadWatch = new MutationObserver(() => {
      if (root.closest(".jupyter-widgets-disconnected")) lost();
    });
    for (let node = root.parentElement; node && node !== document.body; node = node.parentElement) {
      deadWatch.observe(node, { attributeFilter: ["class"] });
    }
    cleanups.push(() => model.off("change:state", fromPython),
      () => model.off("comm_live_update", lost), () => deadWatch.disconnect());
  }
  draw();
  return () => cleanups.forEach((cleanup) => cleanup());
}

export default { render };
