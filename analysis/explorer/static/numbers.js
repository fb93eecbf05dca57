// The numbers of every head that can be shown, and the colours that stand for them.

function numbersPart(app) {
  const { data, nHeads } = app;

  function measureKeys() {
    return ["copying", "suppression", "copying_rank", "layer", "head",
      ...data.measures.map((measure) => measure.key)];
  }

  const currentSet = () => data.sets.find(
    (set) => set.key === app.state.names && set.first_mlp === app.state.mlp) || app.shownSet || data.sets[0];

  function measure(key) {
    const set = currentSet();
    if (key === "copying" || key === "suppression") {
      const counts = set.below[key === "copying" ? "top" : "bottom"][app.state.k];
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
    const chosen = { lo: app.state.lo, hi: app.state.hi };
    if (isNumber(chosen.lo)) low = chosen.lo;
    if (isNumber(chosen.hi)) high = chosen.hi;
    if (!(high > low)) high = low + 1;
    return { low, high, colors: diverging && low < 0 ? DIVERGING : VIRIDIS, diverging };
  }

  function fill(value, scale) {
    const colors = THEMES[app.theme];
    if (!isNumber(value)) return colors.surface;
    if (value === 0 && !scale.diverging) return colors.zero;
    return mix(scale.colors, (value - scale.low) / (scale.high - scale.low));
  }

  Object.assign(app, { measureKeys, currentSet, measure, scaleOf, fill });
}
