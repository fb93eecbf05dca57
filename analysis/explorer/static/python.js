// The lines of Python that make what is seen.

function pythonPart(app) {
  const { data, minus } = app;

  const python = (value) => (value === true ? "True" : value === false ? "False"
    : JSON.stringify(value));

  function modelLine(source) {
    const { name, revision, source: from } = source.model;
    return from === "memory" ? "model = ...  # this model was built in memory"
      : `model = load_model(${python(name)}${revision && from === "hub"
        ? `, revision=${python(revision)}` : ""})${from === "folder"
        ? "  # the path of this folder" : ""}`;
  }

  /** Lines that make a set of names. */
  function namesLines(set) {
    const all = set.whole || set, { only } = set;
    const holds = (word) => `${python((only || "").toLowerCase())} in ${word}.lower()`;
    return [
      all.targets ? `names = [tuple(pair) for pair in ${python(wordsOf(all))}]`
        : `names = load_names(model${all.key === "shipped" ? "" : `, ${python(wordsOf(all))}`})`,
      !set.whole ? null
        : all.targets ? `names = [(a, b) for a, b in names if ${holds("a")} or ${holds("b")}]`
          : `names = load_names(model, [name for name in names if ${holds("name")}])`,
    ].filter(Boolean);
  }

  /** Lines that, run, return the numbers seen. */
  function pythonLines() {
    const every = app.together();
    const titled = ({ data: { model } }) => `# ${model.title.replace(/\s+/g, " ")}\n`;
    return ["from analysis import load_model, load_names, score_heads", "",
      ...every.map((one) => (every.length > 1 ? titled(one) : "") + one.ownLines())].join("\n");
  }

  function ownLines() {
    const view = app.currentView(), { k, head } = app.state;
    const lines = [];
    for (const source of minus ? [data, minus] : [data]) {
      const frame = source === data ? "frame" : "other";
      // Measurements are made of the first names, all of them, with the first setting.
      const isStatic = view.key === "static";
      const set = isStatic ? app.setOf(source) || app.currentSet() : source.sets[0];
      lines.push(modelLine(source), ...namesLines(set),
        `scores = score_heads(model, names, k=${isStatic ? k : source.k}, `
        + `first_mlp=${python(set.first_mlp)})`);
      if (isStatic) lines.push(`${frame} = scores.to_frame(intervals=${python(!minus)})`);
      else {
        const shown = [view.left, view.right].map((key) => app.measureOf(source, key).python);
        lines.push("", ...new Set(shown.filter(Boolean)));
      }
      lines.push("");
    }
    if (view.key === "static") {
      if (minus) lines.push("frame = frame - other");
      lines.push(head ? `frame.loc[(${head.replace(".", ", ")})]`
        : "frame.sort_values(frame.columns[0], ascending=False).head(10)");
    }
    return `${lines.join("\n").trim()}\n`;
  }

  Object.assign(app, { python, modelLine, namesLines, pythonLines, ownLines });
}
