// The reader's own names: typed, pasted or from a CSV file.

function ownPart(app) {
  const { data, hasKernel } = app;

  const ownText = h("textarea", { rows: 3, "aria-label": "Names, separated by commas or lines",
    placeholder: "Mary, John, Alice — or paste a column, or pairs such as France > Paris" });
  const ownSays = h("div", { class: "nh-says" });
  const ownFile = h("input", { type: "file", accept: ".csv,text/csv,.txt",
    "aria-label": "CSV file with a column name, or source and target", onchange: readOwnFile });
  const own = h("details", { class: "nh-own" },
    h("summary", {}, "Your own names or relation"),
    hasKernel
      ? h("div", { class: "nh-own-body" }, ownText,
        h("div", { class: "nh-row" },
          h("button", { type: "button", class: "nh-main", onclick: () => scoreOwn() },
            "Score these"),
          h("label", { class: "nh-file" }, "or a CSV file ", ownFile)), ownSays)
      : h("div", { class: "nh-own-body" }, h("p", {},
        "This page has no Python behind it. In a notebook:"),
      h("pre", { tabindex: 0 },
        ["from analysis import explore, load_model", "", app.modelLine(data),
          'explore(model, names=["Mary", "John"])'].join("\n"))));

  function refuse(text) {
    sayError(ownSays, text);
  }

  async function readOwnFile(event) {
    const [file] = event.target.files;
    if (!file) return;
    let rows;
    try {
      rows = readCsv(await file.text());
    } catch (error) {
      refuse(`${file.name}, ${error.message}`);
      return;
    }
    const header = (rows[0] || []).map((cell) => cell.trim());
    const columns = [["name"], ["source", "target"]].map((names) =>
      names.map((name) => header.indexOf(name))).find((places) => !places.includes(-1));
    if (!columns) {
      refuse(`${file.name} has no column "name", nor "source" and "target"; its first line is: `
        + header.join(", ").slice(0, 80));
      return;
    }
    const found = rows.slice(1).map((row) => columns.map((column) => (row[column] || "").trim()))
      .filter((cells) => cells.every(Boolean));
    const pairs = columns.length > 1, names = pairs ? found : found.flat();
    const text = found.map((cells) => cells.join(" > ")).join("\n");
    // A name that holds a comma would be two in the box: then the box stays empty.
    ownText.value = JSON.stringify(namesIn(text)) === JSON.stringify(names) ? text : "";
    scoreOwn(names, pairs ? file.name.replace(/\.[^.]*$/, "") : null);
  }

  function namesIn(text) {
    const words = text.split(/[\n,;]+/).map((word) => word.trim()).filter(Boolean);
    return words.map((word) => {
      const pair = word.split(/\s+>\s+|\s*→\s*|\t/);
      return pair.length === 2 ? pair : word;
    });
  }

  async function scoreOwn(names = namesIn(ownText.value), label = null) {
    if (!names.length) {
      refuse("Type at least one name.");
      return;
    }
    const mixed = names.some(Array.isArray) && !names.every(Array.isArray);
    if (mixed) {
      refuse("Give either names or pairs such as France > Paris, not both.");
      return;
    }
    const result = await app.work(ownSays, "score",
      { names, label, first_mlp: app.state.mlp }, { about: "score" });
    if (!result) return;
    // The other setting of the first MLP may still hold the names of before.
    data.sets = data.sets.filter((set) => set.key !== result.key
      || set.checksum === result.checksum);
    app.takeSet(result);
    sayDone(ownSays, result.says);
  }

  Object.assign(app, { own });
}
