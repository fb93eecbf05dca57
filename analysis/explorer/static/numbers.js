// The numbers of every head that can be shown, and the colours that stand for them.

const OF_NAMES = ["copying", "suppression", "copying_rank", "suppression_rank"];
const OF_PLACE = { layer: "Layer", head: "Head" };

function numbersPart(app) {
  const { data, minus, nHeads } = app; // `minus`: of another model, whose numbers are taken away

  const hasMeasure = (source, key) => OF_NAMES.includes(key) || key in OF_PLACE
    || source.measures.some((known) => known.key === key);
  const measured = () => data.measures.map(({ key }) => key)
    .filter((key) => !minus || hasMeasure(minus, key));
  const measureKeys = () => [...OF_NAMES, ...Object.keys(OF_PLACE), ...measured()];
  const views = () => data.views.filter(({ left, right }) =>
    !minus || (hasMeasure(minus, left) && hasMeasure(minus, right)));
  const currentView = () => views().find((view) => view.key === app.state.score) || views()[0];

  /** With what the numbers of the view were measured; nothing for static scores. */
  function viewNote() {
    const { left, right } = currentView();
    return [...new Set([left, right].map((key) => measure(key)?.note).filter(Boolean))].join("; ");
  }

  /** The names that are shown, and of these those that pass the filter. */
  function currentSet() {
    const { names, mlp } = app.state;
    return filtered(data.sets.find((set) => set.key === names && set.first_mlp === mlp)
      || data.sets[0]);
  }
  function filtered(set) {
    const { only } = app.state;
    if (!only) return set;
    if (set.filtered?.only !== only) {
      set.filtered = filterSet(set, only, data.nHeads, data.max_rank);
    }
    return set.filtered;
  }

  /** The names of one model; of the one that is taken away, null where it lacks the same. */
  function setOf(source) {
    const set = currentSet();
    if (source === data) return set;
    const other = source.sets.find((known) => areAlike(known, set));
    if (!other || !set.whole) return other || null;
    return filtered(other).whole ? other.filtered : null;
  }
  const areAlike = (a, b) => a.first_mlp === b.first_mlp
    && (a.targets === null) === (b.targets === null)
    && (a.checksum === b.checksum || areOfOneList(a, b));
  /** Tokenizers leave different words of one list, but never more than are on it. */
  const areOfOneList = (a, b) => a.key !== "own" && a.key === b.key && a.label === b.label
    && a.n_given === b.n_given
    && new Set([...a.sources, ...b.sources]).size <= a.n_given;

  /** Why there is no difference; empty where there is one. */
  function lackOfOther() {
    if (!minus || setOf(minus)) return "";
    const { first_mlp: mlp, targets } = currentSet();
    return `${apart(minus.model.title)} has not been scored with these `
      + `${targets ? "pairs" : "names"} and the first MLP ${mlp ? "on" : "off"}, so there is no `
      + "difference. \"Copy the Python\", under \"Keep it\", has the lines that compute it.";
  }

  const kept = new Map(); // numbers worked out for the state `keptFor`
  let keptFor = null;
  function measure(key) {
    const { k, names, mlp, only } = app.state;
    const stamp = JSON.stringify([k, names, mlp, only, currentSet().checksum]);
    if (stamp !== keptFor) kept.clear();
    keptFor = stamp;
    if (!kept.has(key) && hasMeasure(data, key)) kept.set(key, work(key));
    return kept.get(key) || null;
  }
  const everyMeasure = () => ["copying", "suppression", ...measured()].map(measure);
  const forgetMeasures = () => kept.clear();

  function work(key) {
    const own = measureOf(data, key);
    if (!minus || key in OF_PLACE) return own;
    const other = measureOf(minus, key);
    return { ...own, parts: [own, other], counts: null, interval: null,
      note: own.note === other.note ? own.note : `${own.note} − ${other.note}`,
      title: `${own.title}, difference`, column: `${own.column || own.key}_difference`,
      values: own.values.map((value, i) => value - other.values[i]),
      range: own.range && [own.range[0] - own.range[1], own.range[1] - own.range[0]] };
  }

  function measureOf(source, key) {
    const set = setOf(source);
    if (!set && OF_NAMES.includes(key)) return { values: new Float64Array(data.nHeads).fill(NaN) };
    if (key === "copying" || key === "suppression") {
      const counts = set.below[key === "copying" ? "top" : "bottom"][app.state.k];
      const values = Float64Array.from(counts, (count) => count / set.nPairs);
      const copies = set.targets === null;
      const title = key === "suppression" ? "Suppression score"
        : copies ? "Copying score" : "Relation score";
      return { key, column: title.toLowerCase().replace(" ", "_"), title, values, counts,
        n: set.nPairs, range: [0, 1], group: "static",
        interval: (i) => wilson(counts[i], set.nPairs) };
    }
    if (OF_NAMES.includes(key)) {
      const ranked = measureOf(source, key.replace("_rank", ""));
      return { key, title: `Rank by ${ranked.title.toLowerCase()}`, values: ranksOf(ranked.values),
        range: null, group: "place" };
    }
    if (key in OF_PLACE) {
      const values = Float64Array.from({ length: data.nHeads }, (_, i) =>
        key === "layer" ? Math.floor(i / nHeads) : i % nHeads);
      return { key, title: OF_PLACE[key], values, range: null, group: "place" };
    }
    const found = source.measures.find((known) => known.key === key);
    return { ...found, interval: found.low ? (i) => [found.low[i], found.high[i]] : null };
  }

  /** Places from 1 for the largest; equal values share the best place. */
  function ranksOf(values) {
    const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
    const ranks = new Float64Array(values.length);
    order.forEach((head, place) => {
      const before = place ? order[place - 1] : -1;
      ranks[head] = place && values[before] === values[head] ? ranks[before] : place + 1;
    });
    return ranks;
  }

  /** What colours stand for: ends, what the middle one is, whether there are two directions. */
  function scaleOf(shown) {
    const finite = Array.from(shown.values).filter(isNumber);
    let [low, high] = shown.range || [Math.min(...finite, 0), Math.max(...finite, 0)];
    const diverging = low < 0;
    if (!shown.range && diverging) {
      high = Math.max(-low, high);
      low = -high;
    }
    const { lo, hi } = app.state;
    const isOutside = (lo !== null || hi !== null) && !((hi ?? high) > (lo ?? low));
    if (!isOutside) [low, high] = [lo ?? low, hi ?? high];
    if (!(high > low)) high = low + 1;
    const bothSigns = diverging && low < 0 && high > 0; // each side of zero reaches its own end
    return { low, middle: bothSigns ? 0 : (low + high) / 2, high,
      colors: bothSigns ? DIVERGING : VIRIDIS, diverging, isOutside };
  }

  function fill(value, scale) {
    const colors = THEMES[app.theme];
    if (!isNumber(value)) return colors.surface;
    if (value === 0 && !scale.diverging) return colors.zero;
    const { low, middle, high } = scale;
    const side = value < middle ? middle - low : high - middle;
    return mix(scale.colors, 0.5 + (value - middle) / (2 * side));
  }

  Object.assign(app, { measureKeys, views, currentView, viewNote, setOf, currentSet,
    lackOfOther, measure, everyMeasure, measureOf, forgetMeasures, scaleOf, fill });
}
