// What can be kept: Python, state, pictures, tables.

function keepPart(app) {
  const { root, data, minus, isPage, nLayers, nHeads, hasKernel, fixed } = app;
  // What is kept: this explorer, and those that stand beside it.
  const together = () => (app.keeps ? app.linked : [app]);

  const keepSays = h("span", { class: "nh-says" });
  const fileName = (one) => one.data.model.name.split("/").pop().replace(/[^\w.-]+/g, "_");
  const stem = () => `${together().map(fileName).join("_beside_")}_explorer`
    + `${app.state.score === "static" ? `_k${app.state.k}` : `_${app.state.score}`}`;

  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      sayDone(keepSays, `${what} copied.`);
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
    sayDone(keepSays, `${name} written.`);
  }

  function keepSvg() { download(`${stem()}.svg`, "image/svg+xml", [app.picture().text]); }

  async function keepPng() {
    const { text, width, height } = app.picture();
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
      sayError(keepSays, error.message);
    }
  }

  /** A row for each head: its numbers by column. */
  function tableRows() {
    const columns = app.everyMeasure();
    const [top, bottom] = columns;
    return Array.from({ length: data.nHeads }, (_, i) => ({
      layer: Math.floor(i / nHeads), head: i % nHeads,
      ...(minus ? {} : { n_in_top_k: top.counts[i], n_in_bottom_k: bottom.counts[i],
        n_pairs: top.n }),
      ...Object.fromEntries(columns.map((column) => [column.column || column.key,
        isNumber(column.values[i]) ? column.values[i] : ""])),
    }));
  }

  /** What tells its rows from those of another explorer. */
  function ofWhat() {
    const { label, checksum, first_mlp } = app.currentSet();
    return { model: data.label, names: label, pairs_sha256: checksum, first_mlp };
  }

  function tableText() {
    const every = together();
    const rows = every.flatMap((one) => one.tableRows().map((row) =>
      (every.length > 1 ? { ...one.ofWhat(), ...row } : row)));
    const columns = [...new Set(rows.flatMap(Object.keys))];
    const quote = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    return [columns, ...rows.map((row) => columns.map((column) => row[column] ?? ""))]
      .map((cells) => `${cells.map((cell) => quote(String(cell))).join(",")}\n`).join("");
  }

  /** Which names of one model were scored, and how. */
  function recordOf(source) {
    const set = app.setOf(source), { k } = app.state;
    if (!set) return { model: source.model };
    const n = set.nPairs;
    // The checksum is that of the whole list.
    const made = set.whole ? { filter: { text: set.only, pairs: set.whole.nPairs,
      pairs_sha256: set.checksum } } : { pairs_sha256: set.checksum };
    return { model: source.model, k, first_mlp: set.first_mlp,
      relation: set.targets ? "relation" : "copying", n_pairs: n, ...made,
      names: set.key === "shipped" && !set.whole ? "data/names.csv" : wordsOf(set),
      provenance: { ...set.provenance, k, ...(set.whole ? { pairs: n, pairs_given: n,
        pairs_sha256: undefined, ...made } : {}) } };
  }
  const ownRecord = () => ({ ...recordOf(data), ...(minus ? { minus: recordOf(minus) } : {}),
    n_layers: nLayers, n_heads: nHeads,
    measured: Object.fromEntries(data.measures.map(({ key, note }) => [key, note])) });

  function record() {
    const [own, ...beside] = together().map((one) => one.ownRecord());
    return `${JSON.stringify({ state: app.kept(), ...own, ...(beside.length ? { beside } : {}),
      python: app.pythonLines() }, null, 2)}\n`;
  }

  /** This page as a file, opening on what is shown now. */
  function keepPage() {
    const whole = document.documentElement.cloneNode(true);
    whole.querySelector("#explorer").replaceChildren();
    const body = whole.querySelector("body"); // a parser moves line ends from after it into it
    while (body.lastChild.nodeType === Node.TEXT_NODE) body.lastChild.remove();
    const bytes = new TextEncoder().encode(JSON.stringify(app.kept()));
    whole.querySelector("#state").textContent = btoa(String.fromCharCode(...bytes));
    download(`${stem()}.html`, "text/html", [`<!doctype html>\n${whole.outerHTML}\n`]);
  }

  async function keepFiles() {
    const namesOf = ({ key, first_mlp }) => ({ key, first_mlp });
    const [, other] = together();
    const taken = minus && app.setOf(minus);
    const beside = taken ? [{ model: Number(fixed.minus), ...namesOf(taken) }]
      : other ? [{ model: Number(fixed.beside), ...namesOf(other.currentSet()) }] : [];
    const result = await app.work(keepSays, "export", { k: app.state.k,
      ...namesOf(app.currentSet()), state: app.kept(), beside }, { about: "export" });
    if (!result) return;
    const isStatic = app.currentView().key === "static" && !minus;
    sayDone(keepSays, `Written to ${result.folder}: ${result.files.join(", ")}.`, isStatic ? ""
      : " The page opens on what is shown; the pictures and tables are of the static scores.");
  }

  function loadState(event) {
    const [file] = event.target.files;
    if (!file) return;
    file.text().then((text) => {
      const { state } = JSON.parse(text);
      const isKnown = (name) => Object.hasOwn(DEFAULTS, name) || MODEL_CHOICES.includes(name);
      if (!Object.keys(state).some(isKnown)) throw new Error("no state");
      app.go(state);
      sayDone(keepSays, `${file.name} read.`);
    }).catch(() => sayError(keepSays, `${file.name} is not a state that was saved here.`));
    event.target.value = "";
  }

  const keep = h("details", { class: "nh-keep" }, h("summary", {}, "Keep it"),
    h("div", { class: "nh-row" },
      ...[["Copy the Python", () => copy(app.pythonLines(), "Python")],
        isPage ? ["Copy the link", () => copy(location.href, "Link")] : null,
        isPage ? ["HTML (this page)", keepPage] : null,
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

  Object.assign(app, { together, tableRows, ofWhat, ownRecord, keep });
}
