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
    let found;
    try {
      found = readNames(await file.arrayBuffer());
    } catch (error) {
      refuse(`${file.name}${error.message}`);
      return;
    }
    const pairs = found[0].length > 1, names = pairs ? found : found.flat();
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

const MAX_CELL = 1000; // characters; no name is longer

/** The names of a CSV file, or its pairs, read as strictly as analysis/name_files.py does. */
function readNames(bytes) {
  const refuse = (what) => { throw new Error(what); };
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const [good] = new TextDecoder().decode(bytes).split("\ufffd", 1); // before what is not
    refuse(`, line ${good.split("\n").length}: this is not UTF-8 text; save the file as UTF-8.`);
  }
  const [before, nul] = text.split("\0", 2);
  if (nul !== undefined) {
    refuse(`, line ${before.split("\n").length}: this is no text, it holds NUL; give a CSV file.`);
  }
  const [first, ...rows] = readCsv(text);
  if (!first) {
    refuse(" is empty; its first line must hold the column 'name', or 'source' and 'target'.");
  }
  const header = first.map((cell) => cell.trim()), shown = header.join(", ").slice(0, 80);
  const pairs = ["source", "target"];
  const columns = !header.includes("name") && pairs.some((column) => header.includes(column))
    ? pairs : ["name"];
  for (const column of columns) {
    const n = header.filter((title) => title === column).length;
    if (n > 1) refuse(` has ${n} columns '${column}'; keep one of them.`);
  }
  const lacking = columns.find((column) => !header.includes(column));
  if (lacking) {
    const separator = [";", "\t", "|"].find((sign) => shown.includes(sign)
      && shown.split(sign).some((title) => ["name", ...pairs].includes(title)));
    const hint = separator ? "separate the columns with commas, not "
      + `'${separator.replace("\t", "\\t")}'`
      : columns === pairs ? "a file of pairs has the columns 'source' and 'target'"
        : "rename the column that holds the names";
    refuse(` has no column '${lacking}', only ${shown}; ${hint}.`);
  }
  if (!header.every(Boolean)) {
    refuse(", line 1: a column of the header has no title; remove the commas that are too many, "
      + "or name the column.");
  }
  if (!rows.length) refuse(" holds nothing under its header; give a name on each line.");
  return rows.map((row) => columns.map((column) => row[header.indexOf(column)].trim()));
}

/** The cells of a CSV text, line by line. */
function readCsv(text) {
  const whole = `${text}\n`, rows = [];
  // Quotes count at a cell's beginning alone; in quotes are line ends, commas and doubled quotes.
  const cell = /(?:"([^"]*(?:""[^"]*)*)"|((?:[^",\r\n][^,\r\n]*)?))(,|\r\n?|\n)/y;
  let row = [], begin = 0;
  const refuse = (what) => {
    const line = whole.slice(0, begin).split(/\r\n?|\n/).length;
    throw new Error(`, line ${line}: ${what}.`);
  };
  while (cell.lastIndex < whole.length) {
    begin = cell.lastIndex;
    const found = cell.exec(whole);
    if (!found) refuse("a quote is not closed, or text follows it; check its quotes");
    const [, quoted, plain, end] = found;
    row.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === ",") continue;
    if (row.length > 1 || row[0] || quoted === "") rows.push(row); // else the line is empty
    if (rows.length && rows.at(-1).length !== rows[0].length) {
      refuse(`${row.length} cell${row.length > 1 ? "s" : ""} under a header of ${rows[0].length} `
        + `(${rows[0].join(", ").slice(0, 80)}); put names that hold a comma in double quotes, and `
        + "give every row as many cells as the header");
    }
    if (rows.length > 1 && row.some((text) => [...text].length > MAX_CELL)) {
      refuse(`a cell has more than ${MAX_CELL.toLocaleString("en")} characters, so it is no name; `
        + "check for a missing line break or quote");
    }
    row = [];
  }
  return rows;
}
