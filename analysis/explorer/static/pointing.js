// What points at a head: hover, keyboard, pins, and the sentence that reads it out.

function pointingPart(app) {
  const { nLayers, nHeads, nameOf, indexOf } = app;

  function drawRings() {
    const colors = THEMES[app.theme];
    for (const panel of app.panels) {
      const g = panel.geometry;
      if (!g) continue;
      const ring = (i, color, width, dash = null, out = 0) => s("rect", {
        x: g.left + Math.floor(i / nHeads) * g.w - 1.5 - out,
        y: g.bottom - (i % nHeads + 1) * g.h - 1.5 - out,
        width: g.w + 2 + 2 * out, height: g.h + 2 + 2 * out, rx: 3, stroke: color,
        "stroke-width": width,
        "stroke-dasharray": dash });
      const rings = app.state.pins.map((pin) => ring(indexOf(pin), colors.pin, 2.5));
      const focused = document.activeElement === panel.svg;
      if (focused) rings.push(ring(app.cursor, colors.hover, 2, "3 2"));
      if (app.hovered >= 0) rings.push(ring(app.hovered, colors.hover, 1.5));
      if (indexOf(app.state.head) >= 0) {
        rings.push(ring(indexOf(app.state.head), colors.surface, 3.5),
          ring(indexOf(app.state.head), colors.select, 2.5, null, 1.5));
      }
      panel.rings.replaceChildren(...rings);
    }
    app.markScatter();
  }

  function readOut(i) {
    const parts = app.panels.map(({ shown }) => {
      const value = shown.values[i];
      const count = shown.counts ? ` (${shown.counts[i]} of ${shown.n})` : "";
      const said = isNumber(value) ? format(value) : "not known";
      return `${shown.title.toLowerCase()} ${said}${count}`;
    });
    return { head: nameOf(i), text: [...parts, app.classText(i)].filter(Boolean).join(", ") };
  }

  const tip = h("p", { class: "nh-tip", "aria-hidden": "true" });
  function hover(i) {
    if (i === app.hovered) return;
    app.hovered = i;
    showTip();
    drawRings();
  }
  function showTip() {
    const i = app.hovered >= 0 ? app.hovered : indexOf(app.state.head);
    if (i < 0) {
      tip.replaceChildren(h("span", { class: "nh-muted" },
        "Point at a head for its numbers; click it, or press Enter, for its card."));
      return;
    }
    const { head, text } = readOut(i);
    tip.replaceChildren(h("strong", {}, head), `  ${text}`);
  }
  let said = -1; // the head read out last: its cells are labelled with its numbers
  const label = (i, text) => app.panels.forEach(({ cells }) =>
    cells[i]?.setAttribute("aria-label", text));
  function relabel() {
    if (said >= 0) label(said, `${nameOf(said)}: ${readOut(said).text}`);
  }
  function say(i) {
    app.live.textContent = `Layer ${Math.floor(i / nHeads)}, head ${i % nHeads}: `
      + readOut(i).text;
    if (said >= 0) label(said, nameOf(said));
    said = i;
    relabel();
  }

  function onKey(event) {
    const layer = Math.floor(app.cursor / nHeads), head = app.cursor % nHeads;
    const to = (l, n) => {
      app.cursor = clamp(l, 0, nLayers - 1) * nHeads + clamp(n, 0, nHeads - 1);
      event.currentTarget.setAttribute("aria-activedescendant",
        app.panels.find((panel) => panel.svg === event.currentTarget).id(app.cursor));
      app.hovered = app.cursor;
      showTip();
      drawRings();
      say(app.cursor);
    };
    const moves = {
      ArrowRight: () => to(layer + 1, head), ArrowLeft: () => to(layer - 1, head),
      ArrowUp: () => to(layer, head + 1), ArrowDown: () => to(layer, head - 1),
      Home: () => (event.ctrlKey ? to(0, nHeads - 1) : to(0, head)),
      End: () => (event.ctrlKey ? to(nLayers - 1, 0) : to(nLayers - 1, head)),
      Enter: () => { openHead(app.cursor); app.card.focus(); },
      " ": () => openHead(app.cursor),
      p: () => togglePin(nameOf(app.cursor)),
      Escape: () => closeCard(),
    };
    if (event.altKey || event.metaKey || (event.ctrlKey && !["Home", "End"].includes(event.key))) {
      return;
    }
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has meanings of its own for Enter, Escape and arrows
    move();
  }

  function openHead(i) {
    app.cursor = i;
    app.update({ head: nameOf(i) }, true);
  }
  function togglePin(name) {
    const pins = app.state.pins.includes(name) ? app.state.pins.filter((pin) => pin !== name)
      : [...app.state.pins, name];
    app.update({ pins }, true);
  }
  function closeCard() {
    if (!app.state.head) return;
    app.cursor = indexOf(app.state.head);
    app.update({ head: null }, true);
    app.panels[0].svg.focus();
  }

  Object.assign(app, { drawRings, tip, hover, showTip, say, relabel, onKey, openHead, togglePin,
    closeCard });
}
