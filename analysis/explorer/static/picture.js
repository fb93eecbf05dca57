// The heatmaps as a picture, with their title and caption.

function picturePart(app) {
  const { root, data, minus } = app;

  function weightsOf({ model }) {
    const sum = model.checksum ? `, weights sha256 ${model.checksum.slice(0, 12)}`
      : model.revision ? `, revision ${model.revision.slice(0, 12)}` : "";
    return `${model.title}${sum}`;
  }
  function captionOf(source) {
    const set = app.setOf(source);
    const names = set.targets ? "pairs" : "names";
    const how = set.whole ? `${set.nPairs} of ${set.whole.nPairs} ${names} holding "${set.only}"`
      : `${set.nPairs} ${names}`;
    return `${weightsOf(source)}; ${how}, sha256 ${set.checksum.slice(0, 12)}; `
      + `k = ${app.state.k}; first MLP ${set.first_mlp ? "on" : "off"}`;
  }
  /** What a view of measured numbers was computed with; the static scores' settings are not it. */
  function viewCaption() {
    if (app.currentView().key === "static") return caption();
    return `${(minus ? [data, minus] : [data]).map(weightsOf).join(" — minus ")}; `
      + app.viewNote();
  }
  const caption = () => (minus ? `${captionOf(data)} — minus ${captionOf(minus)}`
    : captionOf(data));

  /** The two heatmaps of this explorer. */
  function drawing() {
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
    const node = s("g", {}, s("rect", { width, height, fill: colors.surface }),
      s("text", { x: 40, y: 18, "font-family": FONT, "font-size": 15, "font-weight": 700,
        fill: colors.text }, app.title.textContent),
      inner(app.panels[0], 0, 22),
      inner(app.panels[1], stacked ? 0 : a.width + 16, stacked ? a.height + 22 : 22),
      s("text", { x: 40, y: height - 8, "font-family": FONT, "font-size": 10,
        fill: colors.muted }, app.fit(viewCaption(), width * 1.35)));
    return { node, width, height };
  }

  /** Everything that stands side by side, under each other. */
  function picture() {
    const drawn = app.together().map((one) => one.drawing());
    const width = Math.max(...drawn.map((one) => one.width));
    let height = 0;
    for (const one of drawn) {
      one.node.setAttribute("transform", `translate(0 ${height})`);
      height += one.height;
    }
    const svg = s("svg", { xmlns: SVG_NS, width, height, viewBox: `0 0 ${width} ${height}` },
      s("title", {}, app.together().map((one) => one.title.textContent).join(", ")),
      s("rect", { width, height, fill: THEMES[app.theme].surface }),
      drawn.map((one) => one.node));
    return { text: new XMLSerializer().serializeToString(svg), width, height };
  }

  Object.assign(app, { caption, drawing, picture });
}
