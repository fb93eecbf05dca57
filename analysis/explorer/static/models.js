// Where results come in: of one model, or of several.

async function render({ model, el }) {
  const isPage = model.get("home") === "page";
  const root = h("section", { class: "nh", "aria-label": "Explorer of attention heads" },
    h("p", { class: "nh-loading" }, "Unpacking the results …"));
  el.append(root);
  const linked = []; // the explorers that are shown
  const read = async (packed) => {
    const raw = await unpack(packed);
    return (raw.explorers || [raw]).map(readPayload);
  };
  try {
    const all = await read(model.get("payload"));
    // What the kernel adds to the results, whichever view asked for it.
    const added = async () => {
      const packed = model.get("payload"), fresh = await read(packed);
      if (packed !== model.get("payload")) return; // newer ones are being read
      all.forEach((data, at) => Object.assign(data, fresh[at]));
      linked.forEach((one) => one.refresh());
    };
    const cleanup = all.length > 1 ? several({ model, root, all, isPage, linked })
      : explorer({ model, root, data: all[0], isPage, linked });
    model.on("change:payload", added);
    return () => {
      model.off("change:payload", added);
      cleanup();
    };
  } catch (error) {
    root.replaceChildren(h("p", { class: "nh-error", role: "alert" },
      `The results cannot be shown: ${error.message}`));
    return () => {};
  }
}

/** Several models: one is shown; another beside it, or taken away from it, where that is asked. */
function several({ model, root, all, isPage, linked }) {
  all.forEach((data, at) => {
    const same = all.filter((other) => other.model.title === data.model.title).length > 1;
    data.label = same ? `${data.model.title} (${at + 1})` : data.model.title;
  });
  const titles = all.map((data) => apart(data.label));
  const alike = (a, b) => a.n_layers === b.n_layers && a.n_heads === b.n_heads;
  const places = [h("section", { class: "nh" }), h("section", { class: "nh" })];
  let cleanups = [];
  let kept = null; // the explorer whose state is kept
  const pick = (label, options) => h("select", { "aria-label": label, onchange: () => choose() },
    options.map(([value, text]) => h("option", { value }, text)));
  const first = pick("Model", titles.map((text, at) => [at, text]));
  const second = pick("Compared with", [["", "alone"],
    ...titles.map((text, at) => [`beside ${at}`, `beside ${text}`]),
    ...titles.map((text, at) => [`minus ${at}`, `minus ${text}`])]);
  root.replaceChildren(
    h("div", { class: "nh-models" }, h("label", {}, "Model ", first),
      h("label", {}, "shown ", second)),
    h("div", { class: "nh-beside" }, places));
  root.className = "nh-several";

  const isBeside = () => second.value.startsWith("beside");
  const other = () => (second.value ? all[Number(second.value.split(" ")[1])] : null);

  function show() {
    cleanups.forEach((cleanup) => cleanup());
    const data = all[Number(first.value)];
    for (const option of second.options) {
      const [how, at] = option.value.split(" ");
      option.disabled = how === "minus" && (all[at] === data || !alike(all[at], data));
      option.title = option.disabled ? "needs another model of as many layers and heads" : "";
    }
    if (second.selectedOptions[0].disabled) second.value = "";
    root.classList.toggle("nh-pair", isBeside());
    places[1].hidden = !isBeside();
    places.forEach((place) => { place.replaceChildren(); place.className = "nh"; });
    linked.length = 0; // their common controls move together
    const common = { model, isPage, linked, fixed: address() };
    // A kernel holds the first model alone.
    cleanups = [explorer({ ...common, root: places[0], data, asks: first.value === "0",
      minus: second.value && !isBeside() ? other() : null })];
    if (isBeside()) {
      cleanups.push(explorer({ ...common, root: places[1], data: other(), asks: false,
        keeps: false }));
    }
    [kept] = linked;
  }
  /** What an address, or a kept state, says of this choice. */
  function address() {
    const [how, at] = second.value.split(" ");
    return { ...(first.value === "0" ? {} : { model: first.value }),
      ...(how ? { [how]: at } : {}) };
  }
  const isOfModels = (name) => name.startsWith(SECOND)
    || [...MODEL_CHOICES, "head", "pins", "names"].includes(name);
  function choose() {
    if (isPage) {
      const parts = new URLSearchParams(kept.address().slice(1));
      for (const name of [...parts.keys()]) if (isOfModels(name)) parts.delete(name);
      for (const [name, value] of Object.entries(address())) parts.set(name, value);
      history.pushState(null, "", `#${parts}`);
    } else {
      model.set("state", { ...entriesOf(kept.state, (name) => !isOfModels(name)), ...address() });
    }
    show();
    if (!isPage) kept.remember(); // what was left out is as usual
  }
  function back() {
    const given = isPage && hasFragment()
      ? Object.fromEntries(new URLSearchParams(location.hash.slice(1))) : model.get("state") || {};
    const isModel = (name) => /^\d+$/.test(given[name] ?? "") && Number(given[name]) < all.length;
    const how = ["beside", "minus"].find(isModel);
    const next = [String(isModel("model") ? Number(given.model) : 0),
      how ? `${how} ${Number(given[how])}` : ""];
    const same = next[0] === first.value && next[1] === second.value;
    [first.value, second.value] = next;
    if (!same || !cleanups.length) show();
  }
  back();
  if (isPage) addEventListener("popstate", back);
  else model.on("change:state", back);
  return () => {
    removeEventListener("popstate", back);
    model.off("change:state", back);
    cleanups.forEach((cleanup) => cleanup());
  };
}
