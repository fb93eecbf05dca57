// The controls above the heatmaps; what one cannot take is said beside it.

function controlsPart(app) {
  const { data, isPage, hasKernel } = app;

  const live = h("div", { class: "nh-hidden", "aria-live": "polite", role: "status" });
  const notice = h("div", { class: "nh-notice", role: "alert", hidden: true });
  function kernelNotice(text) {
    notice.textContent = text;
    notice.hidden = !text;
  }

  const title = h(isPage ? "h1" : "h2", { class: "nh-title" });
  const provenance = h("p", { class: "nh-provenance" });
  const kSlider = h("input", { type: "range", min: 1, max: data.max_rank, step: 1,
    "aria-label": "k, how many of the largest or smallest logits count",
    oninput: (event) => app.update({ k: Number(event.target.value) }, false),
    onchange: () => app.remember(true) });
  const kBox = h("input", { type: "text", inputmode: "numeric", class: "nh-k", size: 3,
    "aria-label": `k, from 1 to ${data.max_rank}`, onchange: takeK });
  const kSays = h("span", { class: "nh-says" });
  const mlpBox = h("input", { type: "checkbox", onchange: takeMlp });
  const mlpSays = h("span", { class: "nh-says" });
  const mlpLack = h("span", { class: "nh-says" });
  const scoreBox = select("Score", () => app.views().map((view) => [view.key, view.title]),
    (value) => app.update({ score: value }, true));
  const scoreSays = h("span", { class: "nh-says" });
  const namesBox = select("Names", () => {
    const seen = new Map(data.sets.map((set) => [set.key, set]));
    return [...seen.values()].map((set) =>
      [set.key, `${apart(set.label)} (${set.sources.length.toLocaleString("en")})`]);
  }, (value) => app.update({ names: value }, true));
  const namesSays = h("span", { class: "nh-says" });
  const onlyBox = h("input", { type: "search", size: 8, placeholder: "any text",
    "aria-label": "Only names that hold this text", oninput: takeOnly,
    onchange: () => app.remember(true) });
  const onlySays = h("span", { class: "nh-says" });
  const classBox = select("Classes", () => [["both", "published and measured"],
    ["published", "published"], ["measured", "measured"], ["none", "none"]],
  (value) => app.update({ classes: value }, true));
  const thresholdBox = h("input", { type: "range", min: 0, max: 1, step: 0.01,
    "aria-label": "Dim heads below this value",
    oninput: (event) => app.update({ threshold: Number(event.target.value) }, false),
    onchange: () => app.remember(true) });
  const thresholdSays = h("output", { class: "nh-number" });
  const loBox = h("input", { type: "text", class: "nh-k", size: 4, placeholder: "auto",
    "aria-label": "Lowest value of the colour scale", onchange: takeRange });
  const hiBox = h("input", { type: "text", class: "nh-k", size: 4, placeholder: "auto",
    "aria-label": "Highest value of the colour scale", onchange: takeRange });
  const rangeLack = h("span", { class: "nh-says" });
  const rangeSays = h("span", { class: "nh-says" });

  function select(label, options, onPick) {
    const box = h("select", { "aria-label": label,
      onchange: (event) => onPick(event.target.value) });
    box.refresh = (value) => {
      const wanted = options();
      const key = JSON.stringify(wanted);
      if (box.dataset.options !== key) {
        box.replaceChildren(...wanted.map(([v, text]) => h("option", { value: v }, text)));
        box.dataset.options = key;
      }
      box.value = value;
    };
    return box;
  }

  function takeOnly() {
    const before = app.state.only;
    app.state.only = onlyBox.value.trim();
    const found = !app.state.only || app.currentSet().whole;
    const wanted = app.state.only;
    app.state.only = before; // where nothing is found, the last good view stays
    if (found) app.update({ only: wanted }, false);
    else sayNone(wanted, "The last names stay.");
  }
  function sayNone(text, then) {
    sayError(onlySays, `No name holds "${apart(text)}". ${then}`);
  }
  function sayFilter() {
    const { only } = app.state, set = app.currentSet();
    if (onlyBox.value.trim() !== only) onlyBox.value = only; // else it is being typed
    if (only && !set.whole) sayNone(only, "All are shown.");
    else {
      onlySays.replaceChildren(only ? h("span", { class: "nh-muted" },
        `${set.nPairs.toLocaleString("en")} of ${set.whole.nPairs.toLocaleString("en")}`) : "");
    }
  }

  function takeK(event) {
    const text = event.target.value.trim(), k = Number(text);
    if (!/^\d+$/.test(text) || k < 1 || k > data.max_rank) {
      sayError(kSays, `k must be a whole number from 1 to ${data.max_rank}, not "${text}".`);
      return;
    }
    app.update({ k }, true);
  }

  async function takeMlp(event) {
    const wanted = event.target.checked;
    if (data.sets.some((set) => set.key === app.state.names && set.first_mlp === wanted)) {
      mlpSays.replaceChildren();
      app.update({ mlp: wanted }, true);
      return;
    }
    mlpBox.checked = app.state.mlp;
    if (!hasKernel) {
      sayError(mlpSays, "Not in this page; in Python: "
        + `score_heads(model, names, first_mlp=${app.python(wanted)}).`);
      return;
    }
    const set = app.currentSet(), { names } = app.state;
    const result = await app.work(mlpSays, "score",
      { key: set.key, label: set.label, first_mlp: wanted }, { about: "score" });
    if (result) takeSet(result, app.state.names === names);
  }

  /** Adds a set; `show`: whether it is still what the reader waits for. */
  function takeSet(raw, show = true) {
    const set = readSet(raw, data);
    data.sets = data.sets.filter((known) =>
      known.key !== set.key || known.first_mlp !== set.first_mlp);
    data.sets.push(set);
    app.update(show ? { names: set.key, mlp: set.first_mlp } : {}, show);
  }

  function takeRange() {
    const read = (box) => (box.value.trim() === "" ? null : Number(box.value));
    const [lo, hi] = [read(loBox), read(hiBox)];
    if ([lo, hi].some((end) => end !== null && !isNumber(end))
        || (lo !== null && hi !== null && lo >= hi)) {
      sayError(rangeSays, "Give two numbers, the lower one first, or leave them empty.");
      return;
    }
    rangeSays.replaceChildren();
    app.update({ lo, hi }, true);
  }

  Object.assign(app, {
    live, notice, kernelNotice, title, provenance, kSlider, kBox, kSays, mlpBox, mlpSays, mlpLack,
    scoreBox, scoreSays, namesBox, namesSays, classBox, thresholdBox, thresholdSays, loBox, hiBox,
    rangeSays, rangeLack, select, takeSet, onlyBox, onlySays, sayFilter,
  });
}
