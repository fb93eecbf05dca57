// One explorer: its parts, its state, and what draws it.

const ADDRESS_MS = 200;

/**
 * Draws one explorer into `root`.
 *
 * `minus`: results of another model of the same shape, whose numbers are taken away.
 * `asks`: whether its questions reach a kernel. `keeps`: whether its state is kept.
 * `linked`: explorers beside this one, whose common controls move with it.
 * `fixed`: what the choice of models adds to the address.
 */
function explorer({ model, root, data, minus = null, asks = true, isPage, linked = [],
  fixed = {}, keeps = true }) {
  const { n_layers: nLayers, n_heads: nHeads } = data;
  const hasKernel = asks && Boolean(model.get("kernel"));
  const uid = Math.random().toString(36).slice(2, 8); // one notebook may show several explorers
  const nameOf = (i) => `${Math.floor(i / nHeads)}.${i % nHeads}`;
  const indexOf = (name) => {
    const match = /^(\d+)\.(\d+)$/.exec(String(name ?? ""));
    if (!match) return -1;
    const [layer, head] = [Number(match[1]), Number(match[2])];
    return layer < nLayers && head < nHeads ? layer * nHeads + head : -1;
  };
  const cleanups = [];
  const common = (state) => entriesOf(state, (name) => COMMON.includes(name));
  // Explorers side by side begin alike.
  const usual = { ...DEFAULTS, k: data.k, mlp: data.sets[0].first_mlp, names: data.sets[0].key,
    ...(keeps ? {} : common(linked[0].usual)) };
  const toState = (given) => checked(readState(given, usual));
  /** Shows a state as far as it can be shown, and keeps what was wanted. */
  const take = (wanted) => {
    app.wanted = wanted;
    app.state = checked(wanted);
  };
  // What the parts share. Each part is a function that adds what it makes to `app`; parts find each
  // other's functions there when they call them.
  const app = { model, root, data, minus, isPage, nLayers, nHeads, hasKernel, uid, nameOf,
    indexOf, usual, update, remember, linked, fixed, keeps, hovered: -1, theme: "light" };
  numbersPart(app);
  linked.push(app);
  app.follow = (patch) => {
    const own = common(patch);
    if (!Object.keys(own).length) return;
    take({ ...app.state, ...own });
    draw();
  };
  const given = () => (isPage && hasFragment() ? stateFromFragment(location.hash)
    : model.get("state"));
  // What the second of two explorers shows alone is kept with the state of the first.
  app.alone = () => entriesOf(app.state, (name, value) => !COMMON.includes(name)
    && JSON.stringify(value) !== JSON.stringify(usual[name]), (name) => SECOND + name);
  const more = () => ({ ...fixed, ...linked[1]?.alone() });
  app.kept = () => ({ ...app.state, ...more() });
  app.address = () => fragmentOf(app.state, usual, more());
  const own = (state) => (keeps ? state : { ...common(linked[0].state), ...secondOf(state) });
  take(readState(own(given()), usual));
  app.cursor = indexOf(app.state.head) >= 0 ? indexOf(app.state.head) : 0;
  for (const part of [marksPart, questionsPart, controlsPart, pythonPart, ownPart, heatmapsPart,
    pointingPart, cardPart, evidencePart, namesPart, tabsPart, picturePart, keepPart]) part(app);

  function isScored(names, mlp) {
    return data.sets.some((set) => set.key === names
      && (mlp === undefined || set.first_mlp === mlp));
  }

  // What cannot be shown (a head that the model lacks, a k out of range) becomes what can.
  function checked(wanted) {
    const found = { ...wanted };
    found.k = clamp(Math.round(Number(found.k)) || 1, 1, data.max_rank);
    if (indexOf(found.head) < 0) found.head = null;
    found.pins = [...new Set(found.pins.map(String))].filter((pin) => indexOf(pin) >= 0);
    if (!isScored(found.names)) found.names = data.sets[0].key;
    if (!isScored(found.names, found.mlp)) {
      found.mlp = data.sets.find((set) => set.key === found.names).first_mlp;
    }
    const views = app.views();
    if (!views.some((view) => view.key === found.score)) found.score = views[0].key;
    found.only = String(found.only ?? "").trim();
    for (const axis of ["x", "y", "color", "size"]) {
      const known = found[axis] === "none" || app.measureKeys().includes(found[axis]);
      if (!known) found[axis] = DEFAULTS[axis];
    }
    if (!["scatter", "table", "pins"].includes(found.tab)) found.tab = DEFAULTS.tab;
    if (!["both", "published", "measured", "none"].includes(found.classes)) found.classes = "both";
    if (!["top", "bottom", null].includes(found.end)) found.end = null;
    for (const end of ["lo", "hi"]) if (!isNumber(found[end])) found[end] = null;
    if (found.lo !== null && found.hi !== null && found.lo >= found.hi) {
      [found.lo, found.hi] = [null, null];
    }
    found.threshold = isNumber(Number(found.threshold)) ? Math.max(0, Number(found.threshold)) : 0;
    return found;
  }

  /** What was wanted and has not been scored; empty where nothing was. */
  function lackOfNames() {
    const { names } = app.wanted;
    return !names || names === app.state.names ? ""
      : `The names "${names}" are not among these results; others are shown.`;
  }
  function lackOfMlp() {
    // What stands beside another follows it.
    const { mlp } = keeps ? app.wanted : linked[0].state;
    if (typeof mlp !== "boolean" || isScored(app.state.names, mlp)) return "";
    const [wanted, shown] = mlp ? ["on", "off"] : ["off", "on"];
    return `These names are not scored with the first MLP ${wanted}: here it is ${shown}.`;
  }

  function drawHeader() {
    app.title.textContent = minus
      ? `${apart(data.model.title)} minus ${apart(minus.model.title)}` : apart(data.model.title);
    app.sayFilter();
    app.provenance.textContent = `${nLayers} layers of ${nHeads} heads · ${app.caption()}`
      + `${data.model.note ? ` · ${apart(data.model.note)}` : ""}`;
    app.kSlider.value = app.state.k;
    app.kBox.value = app.state.k;
    for (const says of [app.kSays, app.mlpSays, app.rangeSays]) {
      says.querySelector(".nh-error")?.remove(); // not the progress of a question
    }
    app.mlpBox.checked = app.state.mlp;
    app.scoreBox.refresh(app.state.score);
    app.namesBox.refresh(app.state.names);
    tell(app.namesSays, lackOfNames() || app.lackOfOther());
    tell(app.mlpLack, lackOfMlp());
    app.classBox.refresh(app.state.classes);
    app.scoreSays.replaceChildren(h("span", { class: "nh-muted" }, app.viewNote()));
    const biggest = Math.max(...app.panels.map(({ shown }) =>
      Math.max(...Array.from(shown.values).filter(isNumber).map(Math.abs), 0)));
    app.thresholdBox.max = biggest > 1 ? Math.ceil(biggest) : 1;
    app.thresholdBox.value = app.state.threshold;
    app.thresholdSays.textContent = app.state.threshold ? format(app.state.threshold) : "off";
    app.loBox.value = app.state.lo ?? "";
    app.hiBox.value = app.state.hi ?? "";
    tell(app.rangeLack, app.panels.some((panel) => panel.isOutside)
      ? `${app.state.hi === null ? "The lowest value lies above" : "The highest value lies below"} `
        + "the scale, which is as without it: give both." : "");
  }

  let laidOut = "";
  function drawMaps() {
    const room = maps.clientWidth || 640;
    const wide = room >= 760;
    maps.classList.toggle("nh-two", wide);
    const width = Math.max(260, Math.floor(wide ? (room - 20) / 2 : room));
    const key = `${width} ${app.theme} ${app.legendLines()}`;
    for (const panel of app.panels) {
      if (laidOut !== key) app.layPanel(panel, width);
      app.paint(panel);
    }
    laidOut = key;
  }

  function draw() {
    app.tabWidth = app.tabPanel.clientWidth; // read here, where the layout is known
    drawMaps();
    app.relabel();
    drawHeader();
    app.drawCard();
    app.drawTab();
    app.drawRings();
    app.showTip();
  }

  function update(patch, push) {
    // The ends of the colours, and what is dimmed, are of the numbers of one score.
    if (patch.score && patch.score !== app.state.score) {
      patch = { lo: null, hi: null, threshold: 0, ...patch };
    }
    take({ ...app.state, ...patch });
    const had = root.classList.contains("nh-has-card");
    draw();
    if (had !== root.classList.contains("nh-has-card")) draw(); // the card takes room
    moveOthers(patch);
    remember(push);
    if (patch.head) app.say(indexOf(app.state.head));
    else if (["k", "score", "mlp", "names", "only"].some((name) => name in patch)) {
      const best = app.panels.map(({ shown }) => {
        const i = shown.values.indexOf(Math.max(...Array.from(shown.values).filter(isNumber)));
        const title = shown.title.toLowerCase();
        return i < 0 ? `${title} not known`
          : shown.values[i] === 0 ? `no ${title} above 0`
          : `highest ${title} ${format(shown.values[i])} at ${nameOf(i)}`;
      });
      app.live.textContent = `k = ${app.state.k}: ${best.join("; ")}`;
    }
  }

  function moveOthers(patch) {
    linked.filter((other) => other !== app).forEach((other) => other.follow(patch));
  }

  let addressLater = 0;
  const unaddressed = fragmentOf(toState(model.get("state")), usual,
    { ...fixed, ...moreOf(model.get("state")) });
  function remember(push) {
    if (!keeps) {
      linked[0].remember(push); // what both have is kept there
      return;
    }
    if (!isPage) {
      model.set("state", app.kept());
      model.save_changes();
      return;
    }
    const fragment = app.address();
    clearTimeout(addressLater);
    if (fragment === (hasFragment() ? location.hash : unaddressed)) return;
    const keep = () => {
      try {
        history[push ? "pushState" : "replaceState"](null, "", fragment);
      } catch { /* a browser that keeps no history of local files */ }
    };
    if (push) keep();
    else addressLater = setTimeout(keep, ADDRESS_MS); // a slider on its way would wait for it
  }

  const darkMedia = matchMedia("(prefers-color-scheme: dark)");
  function readTheme() {
    const lab = document.body.dataset.jpThemeLight;
    const dark = lab === undefined ? darkMedia.matches : lab === "false";
    const found = dark ? "dark" : "light";
    if (found === app.theme && root.dataset.theme) return;
    app.theme = found;
    root.dataset.theme = app.theme;
    if (laidOut) draw();
  }

  const field = (label, ...controls) => h("div", { class: "nh-field" },
    h("span", { class: "nh-label", "aria-hidden": "true" }, label), ...controls);
  const maps = h("div", { class: "nh-maps" }, app.panels.map((panel) => panel.svg));
  root.replaceChildren(app.notice,
    h("header", { class: "nh-head" }, app.title, app.provenance),
    h("div", { class: "nh-controls" },
      field("k", app.kSlider, app.kBox, app.kSays),
      field("Score", app.scoreBox, app.scoreSays),
      field("Names", app.namesBox, app.namesSays),
      field("Only names with", app.onlyBox, app.onlySays),
      field("First MLP", h("label", { class: "nh-switch" }, app.mlpBox, "through the first MLP"),
        app.mlpSays, app.mlpLack),
      field("Classes", app.classBox),
      field("Dim below", app.thresholdBox, app.thresholdSays),
      field("Colours", app.loBox, "to", app.hiBox, app.rangeSays, app.rangeLack)),
    h("div", { class: "nh-body" },
      h("div", { class: "nh-left-column" }, maps, app.tip),
      app.card,
      h("div", { class: "nh-under" },
        h("div", { class: "nh-tabs", role: "tablist", "aria-label": "Other views" },
          app.tabButtons),
        app.tabPanel, app.own, keeps ? app.keep : "")), app.live);
  readTheme();

  model.on("msg:custom", app.onMessage);
  cleanups.push(() => model.off("msg:custom", app.onMessage), app.leave,
    () => clearTimeout(addressLater));
  // In JupyterLab a letter, an arrow or Enter means something to the notebook: in a control it does
  // not. Shift-Enter still runs the cell.
  root.addEventListener("keydown", (event) => {
    const runs = event.key === "Enter" && event.shiftKey;
    const command = event.ctrlKey || event.metaKey || event.altKey || runs;
    if (!command && event.target.closest("input, select, textarea, button, summary, a")) {
      event.stopPropagation();
    }
  });
  darkMedia.addEventListener("change", readTheme);
  cleanups.push(() => darkMedia.removeEventListener("change", readTheme));
  const themeWatch = new MutationObserver(readTheme);
  themeWatch.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  const resize = new ResizeObserver(() => {
    const before = laidOut;
    drawMaps();
    if (laidOut !== before) draw();
  });
  resize.observe(maps);
  cleanups.push(() => themeWatch.disconnect(), () => resize.disconnect());
  /** To a state that was kept, with its choice of models, as if its address had been opened. */
  app.go = (state) => {
    const next = readState(state, usual);
    if (isPage) {
      history.pushState(null, "", fragmentOf(next, usual, moreOf(state)));
      dispatchEvent(new PopStateEvent("popstate"));
    } else {
      model.set("state", { ...next, ...moreOf(state) });
      model.save_changes();
    }
  };
  /** After results were added. */
  app.refresh = () => {
    app.forgetMeasures();
    update({}, false);
  };
  app.show = (state) => {
    take(readState(own(state), usual));
    if (app.state.head) app.cursor = indexOf(app.state.head);
    draw();
  };
  const show = () => linked.forEach((one) => one.show(given()));
  if (isPage && keeps) {
    const back = () => {
      clearTimeout(addressLater);
      show();
    };
    addEventListener("popstate", back);
    cleanups.push(() => removeEventListener("popstate", back));
  } else if (keeps) {
    const fromPython = () => {
      if (JSON.stringify(model.get("state")) !== JSON.stringify(app.kept())) show();
    };
    model.on("change:state", fromPython);
    const lost = () => app.kernelNotice("The kernel was restarted or is gone. What is shown is the "
      + "last result; run the cell again to ask for more.");
    model.on("comm_live_update", lost);
    // JupyterLab marks a view whose kernel is gone, on an element above this one.
    const deadWatch = new MutationObserver(() => {
      if (root.closest(".jupyter-widgets-disconnected")) lost();
    });
    for (let node = root.parentElement; node && node !== document.body; node = node.parentElement) {
      deadWatch.observe(node, { attributeFilter: ["class"] });
    }
    cleanups.push(() => model.off("change:state", fromPython),
      () => model.off("comm_live_update", lost), () => deadWatch.disconnect());
  }
  draw();
  return () => cleanups.forEach((cleanup) => cleanup());
}

export default { render };
