// The heatmaps as a picture, with their title and caption.

const MARGIN = 40;

function picturePart(app) {
  const { root, data, minus } = app;
  const ruler = h("canvas").getContext("2d");

  function weightsOf({ model }) {
    const sum = model.checksum ? `, weights sha256 ${model.checksum.slice(0, 12)}`
      : model.revision ? `, revision ${model.revision.slice(0, 12)}` : "";
    return `${apart(model.title)}${sum}`;
  }
  function captionOf(source) {
    const set = app.setOf(source);
    if (!set) return `${weightsOf(source)}; not scored alike`;
    const names = set.targets ? "pairs" : "names";
    const how = set.whole
      ? `${set.nPairs} of ${set.whole.nPairs} ${names} holding "${apart(set.only)}"`
      : `${set.nPairs} ${names}`;
    return `${weightsOf(source)}; ${apart(set.label)}: ${how}, `
      + `sha256 ${set.checksum.slice(0, 12)}; k = ${app.state.k}; `
      + `first MLP ${set.first_mlp ? "on" : "off"}`;
  }
  /** What a view of measured numbers was computed with; the static scores' settings are not it. */
  const viewCaption = () => (app.currentView().key === "static" ? caption()
    : `${(minus ? [data, minus] : [data]).map(weightsOf).join(" — minus ")}; ${app.viewNote()}`);
  const dimmed = () => (app.state.threshold
    ? `; heads below ${format(app.state.threshold)} are dimmed` : "");
  const caption = () => (minus ? `${captionOf(data)} — minus ${captionOf(minus)}`
    : captionOf(data));

  /** A text in lines that are no wider than `room`; a word that is wider is broken. */
  function linesOf(text, room, font) {
    ruler.font = font;
    const fits = (line) => ruler.measureText(line).width <= room;
    const lines = [];
    let line = "";
    const end = () => { if (line) lines.push(line); line = ""; };
    for (const word of text.split(/\s+/)) {
      if (line && fits(`${line} ${word}`)) {
        line += ` ${word}`;
        continue;
      }
      end();
      for (const letter of word) {
        if (!fits(line + letter)) end();
        line += letter;
      }
    }
    end();
    return lines;
  }

  /** A text in lines from `y` down. */
  function block(text, y, room, size, attributes) {
    const step = Math.round(size * 1.3);
    const lines = linesOf(text, room, `${attributes["font-weight"] || ""} ${size}px ${FONT}`);
    return { height: step * lines.length, nodes: lines.map((line, at) => s("text", { x: MARGIN,
      y: y + step * at, "font-family": FONT, "font-size": size, ...attributes }, line)) };
  }

  /** The two heatmaps of this explorer. */
  function drawing() {
    const [a, b] = app.panels.map((panel) => panel.geometry);
    const stacked = a.width * 2 > 900 || root.clientWidth < 720;
    const width = stacked ? a.width : a.width + b.width + 16;
    const colors = THEMES[app.theme], room = (width - 2 * MARGIN) * 0.96; // fonts differ
    const heading = block(app.title.textContent, 18, room, 15,
      { "font-weight": 700, fill: colors.text });
    const top = heading.height + 2;
    const bottom = top + (stacked ? a.height + b.height : a.height);
    const settings = block(viewCaption() + dimmed(), bottom + 10, room, 10, { fill: colors.muted });
    const height = bottom + settings.height + 5;
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
      heading.nodes, inner(app.panels[0], 0, top),
      inner(app.panels[1], stacked ? 0 : a.width + 16, stacked ? a.height + top : top),
      settings.nodes);
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
