// What can be kept: Python, state, pictures, tables.

function keepPart(app) {
  const { root, data, minus, isPage, nLayers, nHeads, hasKernel, usual } = app;

  const keepSays = h("span", { class: "nh-says" });
  const python = (value) => (value === true ? "True" : value === false ? "False"
    : JSON.stringify(value));

  /** Lines that load a model and its names. */
  function loadLines(source) {
    const set = app.setOf(source), all = set.whole || set, { only } = set;
    const { name, revision, source: from } = source.model;
    const words = all.targets ? all.sources.map((word, at) => [word, all.targets[at]])
      : all.sources;
    const holds = (word) => `${python((only || "").toLowerCase())} in ${word}.lower()`;
    return [
      from === "memory" ? "model = ...  # this model was built in memory"
        : `model = load_model(${python(name)}${revision && from === "hub"
          ? `, revision=${python(revision)}` : ""})${from === "folder"
          ? "  # the path of this folder" : ""}`,
      all.targets ? `names = [tuple(pair) for pair in ${python(words)}]`
        : `names = load_names(model${all.key === "shipped" ? "" : `, ${python(words)}`})`,
      !set.whole ? null
        : all.targets ? `names = [(a, b) for a, b in names if ${holds("a")} or ${holds("b")}]`
          : `names = load_names(model, [name for name in names if ${holds("name")}])`,
    ].filter(Boolean);
  }

  /** Lines that, run, return the numbers seen. */
  function pythonLines() {
    const view = app.currentView(), { k, mlp, head } = app.state;
    const lines = ["from analysis import load_model, load_names, score_heads", ""];
    for (const source of minus ? [data, minus] : [data]) {
      const frame = source === data ? "frame" : "other";
      lines.push(...loadLines(source));
      if (view.key === "static") {
        const { first_mlp: setting } = app.setOf(source);
        lines.push(`scores = score_heads(model, names, k=${k}, first_mlp=${python(setting)})`,
          `${frame} = scores.to_frame(intervals=${python(!minus)})`);
      } else {
        lines.push(`scores = score_heads(model, names, k=${k}, first_mlp=${python(mlp)})`);
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
    + `${app.state.score === "static" ? `_k${app.state.k}` : `_${app.state.score}`}`;

  function captionOf(source) {
    const set = app.setOf(source), { model } = source;
    const sum = model.checksum ? `, weights sha256 ${model.checksum.slice(0, 12)}`
      : model.revision ? `, revision ${model.revision.slice(0, 12)}` : "";
    const names = set.targets ? "pairs" : "names";
    const how = set.whole ? `${set.nPairs} of ${set.whole.nPairs} ${names} holding "${set.only}"`
      : `${set.nPairs} ${names}`;
    return `${model.title}${sum}; ${how}, sha256 ${set.checksum.slice(0, 12)}; `
      + `k = ${app.state.k}; first MLP ${set.first_mlp ? "on" : "off"}`;
  }
  const caption = () => (minus ? `${captionOf(data)} — minus ${captionOf(minus)}`
    : captionOf(data));

  function picture() {
    const [a, b] = app.panels.map((panel) => panel.geometry);
    const stacked = a.width * 2 > 900 || root.clientWidth < 720;
    const width = stacked ? a.width : a.width + b.width + 16;
    const height = (stacked ? a.height + b.height : a.height) + 40;
    const colors = THEMES[app.theme];
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
      s("title", {}, app.title.textContent),
      s("rect", { width, height, fill: colors.surface }),
      s("text", { x: 40, y: 18, "font-family": FONT, "font-size": 15, "font-weight": 700,
        fill: colors.text }, app.title.textContent),
      inner(app.panels[0], 0, 22),
      inner(app.panels[1], stacked ? 0 : a.width + 16, stacked ? a.height + 22 : 22),
      s("text", { x: 40, y: height - 8, "font-family": FONT, "font-size": 10,
        fill: colors.muted }, app.fit(caption(), width * 1.35)));
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
    const columns = [app.measure("copying"), app.measure("suppression"),
      ...data.measures.map((known) => app.measure(known.key)).filter(Boolean)];
    const quote = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const counted = minus ? [] : ["n_in_top_k", "n_in_bottom_k", "n_pairs"];
    const lines = [["layer", "head", ...counted,
      ...columns.map((column) => column.column || column.key)].map(quote).join(",")];
    for (let i = 0; i < data.nHeads; i++) {
      const counts = minus ? []
        : [columns[0].counts[i], columns[1].counts[i], columns[0].n];
      lines.push([Math.floor(i / nHeads), i % nHeads, ...counts,
        ...columns.map((column) => (isNumber(column.values[i]) ? column.values[i] : ""))]
        .join(","));
    }
    return `${lines.join("\n")}\n`;
  }

  function record() {
    const set = app.currentSet();
    return `${JSON.stringify({ state: app.state, model: data.model,
      ...(minus ? { minus: minus.model } : {}), k: app.state.k, first_mlp: set.first_mlp,
      relation: set.targets ? "relation" : "copying", n_pairs: set.nPairs,
      pairs_sha256: set.checksum, n_layers: nLayers, n_heads: nHeads,
      names: set.key === "shipped" && !set.whole ? "data/names.csv" : set.sources,
      python: pythonLines(), provenance: data.provenance }, null, 2)}\n`;
  }

  async function keepFiles() {
    const result = await app.work(keepSays, "export", { k: app.state.k, key: app.state.names,
      first_mlp: app.state.mlp, state: app.state }, { about: "export" });
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
      app.update(readState(read.state || read, usual), true);
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

  Object.assign(app, { python, caption, keep });
}
