// On the card: classes, evidence, score against k, relations, and what has not been computed.

function evidencePart(app) {
  const { data, minus, hasKernel, nameOf } = app;

  function drawClasses(i) {
    const rows = app.classesOf(i);
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
    const all = app.everyMeasure();
    const body = [];
    for (const [group, heading] of groups) {
      const rows = all.filter((one) => one.group === group);
      const lacks = data.absent.filter((one) => one.group === group);
      if (!rows.length && !lacks.length) continue;
      // Their own settings, which the controls above do not change.
      const notes = [...new Set(rows.map((one) => one.note).filter(Boolean))];
      body.push(h("tr", {}, h("th", { colspan: 3, scope: "colgroup" }, heading,
        notes.length ? h("span", { class: "nh-setting" }, notes.join("; ")) : null)));
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

  const minusText = (a, b) => `${format(a)} − ${b < 0 ? `(${format(b)})` : format(b)}`;

  function evidenceRow(one, i) {
    const value = one.values[i];
    const interval = one.interval && isNumber(value) ? one.interval(i) : null;
    const shownInterval = interval && interval.every(isNumber)
      ? `[${format(interval[0])}, ${format(interval[1])}]` : "";
    // Of a difference, both numbers that it is made of.
    const counts = one.parts ? minusText(...one.parts.map((part) => part.values[i]))
      : one.counts ? `${one.counts[i]} of ${one.n}` : shownInterval;
    return h("tr", { title: one.note || "" }, h("td", {}, one.title),
      h("td", { class: "nh-value", "data-measure": one.key, title: String(value),
        "data-value": value },
        isNumber(value) ? format(value) : one.note_missing || "–"),
      h("td", { class: "nh-interval" }, counts,
        one.counts ? [" ", h("span", { class: "nh-muted" }, shownInterval)] : null));
  }

  /** Score against k: one look shows whether names are missed narrowly or altogether. */
  function drawProfile(i) {
    const set = app.currentSet(), other = minus && app.setOf(minus);
    const width = 330, height = 84, left = 30, bottom = 64, top = 6;
    const colors = THEMES[app.theme];
    const x = (k) => left + (width - left - 14) * Math.log(k) / Math.log(data.max_rank);
    const y = (share) => bottom - (bottom - top) * share;
    const line = (of, end) => Array.from({ length: data.max_rank }, (_, at) =>
      `${x(at + 1).toFixed(1)},${y(of.below[end][at + 1][i] / of.nPairs).toFixed(1)}`).join(" ");
    const ink = { top: app.theme === "dark" ? "#5cc8c2" : "#1a7f79", bottom: "#d97706" };
    const lines = (of, width_) => ["bottom", "top"].map((end) => s("polyline", {
      points: line(of, end), stroke: ink[end], "stroke-width": width_,
      "stroke-dasharray": end === "bottom" ? "5 2" : null }));
    const ticks = [1, 2, 5, 10, 20, 50, 100].filter((k) => k <= data.max_rank);
    return h("figure", { class: "nh-profile" },
      s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
        "aria-label": `Copying and suppression score of head ${nameOf(i)} for every k`,
        "font-family": FONT, "font-size": 10, fill: "none" },
      [0, 0.5, 1].map((share) => [
        s("line", { x1: left, x2: width - 14, y1: y(share), y2: y(share), stroke: colors.line,
          "stroke-width": 0.7 }),
        s("text", { x: left - 4, y: y(share) + 3, "text-anchor": "end", fill: colors.muted },
          share)]),
      ticks.map((k) => s("text", { x: x(k), y: bottom + 13, "text-anchor": "middle",
        fill: colors.muted }, k)),
      s("line", { x1: x(app.state.k), x2: x(app.state.k), y1: top, y2: bottom,
        stroke: colors.select, "stroke-dasharray": "3 2" }),
      other ? lines(other, 1) : [], lines(set, 2)),
      h("figcaption", { class: "nh-muted" }, "Score for each k: "
        + `${set.targets ? "relation" : "copying"} (line), suppression (dashes)`
        + `${other ? `; thin: ${apart(minus.model.title)}` : ""}.`));
  }

  /** Every relation that was scored with this setting, the strongest for this head first. */
  function drawRelations(i) {
    const { k, mlp, only } = app.state;
    const relations = data.sets.filter((set) => set.targets);
    const alike = relations.filter((set) => set.first_mlp === mlp);
    const others = relations.filter((set) => !alike.some((known) => known.key === set.key));
    const remarks = [
      others.length ? `With the first MLP ${mlp ? "off" : "on"} alone was scored: `
        + `${others.map((set) => apart(set.label)).join("; ")}.` : "",
      alike.length && only ? "These are of all pairs, whatever text they hold." : "",
    ].filter(Boolean);
    const rows = alike
      .map((set) => ({ set, top: set.below.top[k][i], bottom: set.below.bottom[k][i] }))
      .sort((a, b) => Math.max(b.top, b.bottom) / b.set.nPairs
        - Math.max(a.top, a.bottom) / a.set.nPairs);
    const cell = (count, set) => h("td", { class: "nh-value", title: String(count / set.nPairs) },
      format(count / set.nPairs));
    const interval = (count, set) => h("td", { class: "nh-interval" }, `${count} of ${set.nPairs} `,
      h("span", { class: "nh-muted" }, `[${wilson(count, set.nPairs).map((end) =>
        format(end)).join(", ")}]`));
    return h("section", {}, app.section(`Its strongest relations${
      minus ? ` in ${apart(data.model.title)}` : ""}`), rows.length
      ? h("table", { class: "nh-evidence nh-relations" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, `k = ${k}`),
          h("th", { scope: "col", colspan: 2 }, "answers"),
          h("th", { scope: "col", colspan: 2 }, "suppresses"))),
        h("tbody", {}, rows.map(({ set, top, bottom }) => h("tr", {},
          h("td", {}, h("button", { type: "button", class: "nh-link",
            title: "show this relation in the heatmaps",
            onclick: () => app.update({ names: set.key, score: "static" }, true) }, set.label)),
          cell(top, set), interval(top, set), cell(bottom, set), interval(bottom, set)))))
      : others.length ? null : h("p", { class: "nh-muted" }, "No relation has been scored. ",
        hasKernel ? "Paste pairs such as France > Paris under \"Your own names or relation\", "
          + "or give them: "
          : "In a notebook: ",
      h("code", {}, "explore(model, relations={\"capitals\": \"capitals.csv\"})")),
    remarks.length ? h("p", { class: "nh-muted" }, remarks.join(" ")) : null);
  }

  const absentRows = new Map(); // by title: what is said of a measurement outlives a redraw
  function drawMissing() {
    if (!data.absent.length) return null;
    return h("section", { class: "nh-absent" }, app.section("Not computed yet"),
      data.absent.map((one) => {
        if (!absentRows.has(one.title)) absentRows.set(one.title, absentRow(one));
        return absentRows.get(one.title);
      }),
      hasKernel ? null : h("p", { class: "nh-muted" }, "A page with all but the relations: ",
        h("code", {}, "make explore MODEL=… MEASURE=1"), " (minutes)."));
  }

  function absentRow({ what, title, python }) {
    const says = h("div", { class: "nh-says" });
    const run = h("button", { type: "button", class: "nh-small", onclick: async () => {
      run.disabled = true;
      const result = await app.work(says, "measure", { what }, { about: `measure ${what}` });
      run.disabled = false;
      if (result) takeMeasures(result);
    } }, "Compute");
    return h("div", { class: "nh-absent-row" }, h("span", {}, title),
      hasKernel && what ? run : h("code", {}, python), says);
  }

  function takeMeasures(result) {
    data.measures = [...data.measures.filter((known) =>
      !result.measures.some((one) => one.key === known.key)), ...result.measures.map(readMeasure)];
    data.views = result.views;
    data.absent = result.absent;
    data.classes = result.classes;
    app.refresh();
  }

  Object.assign(app, { drawClasses, drawEvidence, drawProfile, drawRelations, drawMissing });
}
