// Head classes: which heads each heatmap marks, and how. The payload's `marks` say both; they are
// those of the static figures (analysis/plots/marks.py).

const CORNERS = { // of each symbol, around its middle
  x: "M-1,-1L1,1M-1,1L1,-1",
  square: "M-1,-1L1,-1L1,1L-1,1Z",
  diamond: "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
};

/** A mark of radius r; open symbols and crosses stand on a white halo. */
function markShape({ symbol, colour, edge, size }, x, y, r) {
  const shape = symbol.replace("-open", ""), R = r * size;
  const drawn = (attributes) => (shape === "circle"
    ? s("circle", { cx: x, cy: y, r: R, ...attributes })
    : s("path", { d: CORNERS[shape].replace(/(-?[\d.]+),(-?[\d.]+)/g,
      (_, a, b) => `${(x + R * a).toFixed(1)},${(y + R * b).toFixed(1)}`), ...attributes }));
  if (shape !== "x" && shape === symbol) return drawn({ fill: colour, stroke: edge });
  return s("g", { fill: "none", "stroke-linecap": "round" },
    drawn({ stroke: "#ffffff", "stroke-width": 4.4 }),
    drawn({ stroke: colour, "stroke-width": 2.2 }));
}

function marksPart(app) {
  const { data, nHeads } = app;

  /** The marked heads of one panel, each with its mark, in the order drawn. */
  function marksFor(side) {
    const { below } = app.currentSet(), { k, classes } = app.state;
    const shown = (mark, row) => row.class === mark.class && row.origin === mark.origin
      && (classes === "both" || classes === row.origin);
    return data.marks.filter((mark) => mark.side === side).flatMap((mark) => data.classes
      .filter((row) => shown(mark, row))
      .map((row) => ({ i: row.layer * nHeads + row.head, mark }))
      .filter(({ i }) => !mark.if_suppressing || below.bottom[k][i] > below.top[k][i]));
  }

  /** The marks that each panel's legend explains; marks of one label are drawn alike. */
  const legendOf = (side) =>
    [...new Map(marksFor(side).map(({ mark }) => [mark.label, mark])).values()];

  const classesOf = (i) =>
    data.classes.filter((row) => row.layer * nHeads + row.head === i);
  const classText = (i) => classesOf(i).map((row) => `${row.class} (${row.origin})`).join(", ");

  Object.assign(app, { marksFor, legendOf, classesOf, classText });
}
