// Where results come in: of one model, or of several.

async function render({ model, el }) {
  const isPage = model.get("home") === "page";
  const root = h("section", { class: "nh", "aria-label": "Explorer of attention heads" },
    h("p", { class: "nh-loading" }, "Unpacking the results …"));
  el.append(root);
  try {
    const raw = await unpack(model.get("payload"));
    if (Array.isArray(raw.explorers)) {
      return several({ model, root, all: raw.explorers.map(readPayload), isPage });
    }
    return explorer({ model, root, data: readPayload(raw), isPage });
  } catch (error) {
    root.replaceChildren(h("p", { class: "nh-error", role: "alert" },
      `The results cannot be shown: ${error.message}`));
    return () => {};
  }
}

/** Several models: one is shown, and another beside it where that is asked for. */
function several({ model, root, all, isPage }) {
  const titles = all.map((data, at) => {
    const same = all.filter((other) => other.model.title === data.model.title).length > 1;
    return same ? `${data.model.title} (${at + 1})` : data.model.title;
  });
  const places = [h("section", { class: "nh" }), h("section", { class: "nh" })];
  let cleanups = [];
  const pick = (label, options) => h("select", { "aria-label": label, onchange: () => choose() },
    options.map(([value, text]) => h("option", { value }, text)));
  const first = pick("Model", titles.map((text, at) => [at, text]));
  const second = pick("Model beside it", [["", "no other"],
    ...titles.map((text, at) => [at, text])]);
  root.replaceChildren(
    h("div", { class: "nh-models" }, h("label", {}, "Model ", first),
      h("label", {}, "beside ", second)),
    h("div", { class: "nh-beside" }, places));
  root.className = "nh-several";

  function show() {
    cleanups.forEach((cleanup) => cleanup());
    const shown = [Number(first.value), second.value === "" ? null : Number(second.value)];
    root.classList.toggle("nh-pair", shown[1] !== null);
    places[1].hidden = shown[1] === null;
    places.forEach((place) => { place.replaceChildren(); place.className = "nh"; });
    cleanups = shown.flatMap((at, side) => (at === null ? [] : [explorer({ model, isPage,
      root: places[side], data: all[at], fixed: { model: first.value, beside: second.value },
      keepsAddress: side === 0 })]));
  }
  function choose() {
    if (isPage) {
      const parts = new URLSearchParams();
      if (first.value !== "0") parts.set("model", first.value);
      if (second.value !== "") parts.set("beside", second.value);
      history.pushState(null, "", `#${parts}`);
    }
    show();
  }
  function back() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const [wanted, beside] = [parts.get("model") ?? "0", parts.get("beside") ?? ""];
    const known = (value) => value in all;
    const next = [known(wanted) ? wanted : "0", known(beside) ? beside : ""];
    const same = next[0] === first.value && next[1] === second.value;
    [first.value, second.value] = next;
    if (!same || !cleanups.length) show();
  }
  back();
  addEventListener("popstate", back);
  return () => {
    removeEventListener("popstate", back);
    cleanups.forEach((cleanup) => cleanup());
  };
}
