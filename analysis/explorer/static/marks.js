// Head classes: which heads each heatmap marks, and how.

function marksPart(app) {
  const { data, nHeads } = app;

  function marksFor(side) {
    const wanted = side === 0
      ? { mover: ["name mover"], backup: ["backup name mover"] }
      : { mover: ["negative name mover"], backup: ["backup negative name mover"] };
    const marks = [];
    for (const row of data.classes) {
      if (app.state.classes === "none") continue;
      if (app.state.classes !== "both" && row.origin !== app.state.classes) continue;
      const i = row.layer * nHeads + row.head;
      let kind = wanted.mover.includes(row.class) ? "mover"
        : wanted.backup.includes(row.class) ? "backup" : null;
      // The published circuit has one backup class; its heads that suppress belong to the right.
      if (side === 1 && row.origin === "published" && row.class === "backup name mover") {
        const set = app.currentSet();
        if (set.below.bottom[app.state.k][i] > set.below.top[app.state.k][i]) kind = "backup";
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

  Object.assign(app, { marksFor, classesOf, markShape });
}
