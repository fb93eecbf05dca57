// The two heatmaps: cells, axes, marks and legends.

const LEGEND_LINE = 16;

function heatmapsPart(app) {
  const { data, nLayers, nHeads, uid, nameOf } = app;

  const panels = [0, 1].map((side) => makePanel(side));

  function makePanel(side) {
    const svg = s("svg", { class: "nh-map", role: "grid", tabindex: 0,
      "aria-rowcount": nHeads, "aria-colcount": nLayers });
    const panel = { side, svg, cells: [], geometry: null };
    const id = (i) => `nh-${uid}-${side}-${i}`;
    panel.id = id;
    svg.addEventListener("keydown", (event) => app.onKey(event));
    svg.addEventListener("focus", () => { svg.setAttribute("aria-activedescendant", id(app.cursor));
      app.drawRings(); app.say(app.cursor); });
    svg.addEventListener("blur", () => { app.hovered = -1; app.showTip(); app.drawRings(); });
    svg.addEventListener("pointermove", (event) => app.hover(cellAt(panel, event)));
    svg.addEventListener("pointerleave", () => app.hover(-1));
    svg.addEventListener("click", (event) => {
      const i = cellAt(panel, event);
      if (i >= 0) app.openHead(i);
    });
    return panel;
  }

  function cellAt(panel, event) {
    const box = panel.svg.getBoundingClientRect(), g = panel.geometry;
    if (!g) return -1;
    const layer = Math.floor((event.clientX - box.left - g.left) / g.w);
    const head = nHeads - 1 - Math.floor((event.clientY - box.top - g.top) / g.h);
    return layer >= 0 && layer < nLayers && head >= 0 && head < nHeads
      ? layer * nHeads + head : -1;
  }

  const step = (cell, label) => [1, 2, 5, 10, 20, 50, 100].find((n) => n * cell >= label) || 100;

  /** Lines of the longer legend, so that both heatmaps are equally high. */
  const legendLines = () => Math.max(...[0, 1].map((side) => app.legendOf(side).length));

  /** Makes the cells of a panel for a width; colours come with `paint`. */
  function layPanel(panel, width) {
    const colors = THEMES[app.theme];
    const left = 40, right = 10, top = 30, below = 84 + LEGEND_LINE * legendLines();
    const w = (width - left - right) / nLayers;
    const h_ = clamp(w, nHeads > 16 ? 9 : 16, nHeads > 16 ? 16 : 26);
    const g = { left, top, w, h: h_, width, bottom: top + h_ * nHeads };
    g.height = g.bottom + below;
    panel.geometry = g;
    panel.cells = [];
    panel.looks = [];
    const { svg } = panel;
    svg.setAttribute("viewBox", `0 0 ${width} ${g.height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", g.height);
    svg.setAttribute("font-family", FONT);
    svg.setAttribute("font-size", 12);
    const gap = w > 8 ? 1 : w > 4 ? 0.5 : 0;
    const rows = [];
    for (let head = nHeads - 1; head >= 0; head--) {
      const row = s("g", { role: "row", "aria-rowindex": nHeads - head });
      for (let layer = 0; layer < nLayers; layer++) {
        const i = layer * nHeads + head;
        const cell = s("rect", { id: panel.id(i), role: "gridcell", "aria-colindex": layer + 1,
          x: left + layer * w, y: g.bottom - (head + 1) * h_, width: w - gap, height: h_ - gap,
          rx: w > 12 ? 2 : 0, "aria-label": nameOf(i) });
        panel.cells[i] = cell;
        row.append(cell);
      }
      rows.push(row);
    }
    const axis = s("g", { fill: colors.muted, "aria-hidden": "true" });
    for (let layer = 0, n = step(w, 20); layer < nLayers; layer += n) {
      axis.append(s("text", { x: left + (layer + 0.5) * w, y: g.bottom + 14,
        "text-anchor": "middle" }, layer));
    }
    for (let head = 0, n = step(h_, 13); head < nHeads; head += n) {
      axis.append(s("text", { x: left - 6, y: g.bottom - (head + 0.5) * h_ + 4,
        "text-anchor": "end" }, head));
    }
    axis.append(
      s("text", { x: left + w * nLayers / 2, y: g.bottom + 30, "text-anchor": "middle" }, "Layer"),
      s("text", { x: 9, y: (top + g.bottom) / 2, "text-anchor": "middle",
        transform: `rotate(-90 9 ${(top + g.bottom) / 2})` }, "Head"));
    panel.heading = s("text", { x: left, y: 18, "font-size": 14, "font-weight": 600,
      fill: colors.text, "aria-hidden": "true" });
    panel.legend = s("g", { "aria-hidden": "true" });
    panel.marks = s("g", { "aria-hidden": "true", "pointer-events": "none", fill: "none",
      class: "nh-marks" });
    panel.rings = s("g", { "aria-hidden": "true", "pointer-events": "none", fill: "none",
      class: "nh-rings" });
    svg.replaceChildren(panel.heading, ...rows, axis, panel.legend, panel.marks, panel.rings);
  }

  function paint(panel) {
    const view = app.currentView();
    const shown = app.measure(panel.side === 0 ? view.left : view.right);
    panel.shown = shown;
    const scale = app.scaleOf(shown);
    panel.isOutside = scale.isOutside;
    const { values } = shown;
    const g = panel.geometry, colors = THEMES[app.theme];
    for (let i = 0; i < data.nHeads; i++) {
      const dim = app.state.threshold > 0 && !(Math.abs(values[i]) >= app.state.threshold);
      const cell = panel.cells[i], look = `${app.fill(values[i], scale)} ${dim ? 0.18 : 1}`;
      if (panel.looks[i] === look) continue; // most cells stay as they are when k changes
      panel.looks[i] = look;
      const [color, opacity] = look.split(" ");
      cell.setAttribute("fill", color);
      cell.setAttribute("opacity", opacity);
    }
    panel.svg.setAttribute("aria-label", `${shown.title}, heads by layer. Arrow keys move, Enter `
      + "opens a head's card, Escape closes it.");
    panel.heading.textContent = fit(panelTitle(view, shown), g.width - g.left);
    const r = clamp(Math.min(g.w, g.h) * 0.28, 2, 5);
    panel.marks.replaceChildren(...app.marksFor(panel.side).map(({ i, mark }) =>
      markShape(mark, ...centre(g, i), r)));
    drawLegend(panel, scale, shown, colors);
  }

  function panelTitle(view, shown) {
    return view.key === "static" ? `${shown.title}, k = ${app.state.k}` : shown.title;
  }
  const fit = (text, room) => {
    const most = Math.max(8, Math.floor(room / 7.6));
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
  };
  const centre = (g, i) => [g.left + (Math.floor(i / nHeads) + 0.5) * g.w - 0.5,
    g.bottom - (i % nHeads + 0.5) * g.h - 0.5];

  function drawLegend(panel, scale, shown, colors) {
    const g = panel.geometry, y = g.bottom + 44, width = Math.min(190, g.width - g.left - 90);
    const id = `nh-${uid}-scale-${panel.side}`;
    const middle = (scale.middle - scale.low) / (scale.high - scale.low);
    const stops = scale.colors.map((color, n) => {
      const at = 2 * n / (scale.colors.length - 1);
      return s("stop", { offset: at < 1 ? at * middle : middle + (at - 1) * (1 - middle),
        "stop-color": color });
    });
    const label = { fill: colors.muted, "font-size": 11 };
    const parts = [s("defs", {}, s("linearGradient", { id }, stops)),
      s("rect", { x: g.left, y, width, height: 10, rx: 2, fill: `url(#${id})` }),
      s("text", { ...label, x: g.left, y: y + 23 }, format(scale.low)),
      s("text", { ...label, x: g.left + width, y: y + 23, "text-anchor": "end" },
        format(scale.high))];
    if (!scale.diverging) {
      parts.push(s("rect", { x: g.left + width + 14, y, width: 10, height: 10, fill: colors.zero,
        stroke: colors.line }),
      s("text", { ...label, x: g.left + width + 29, y: y + 9 }, "exactly 0"));
    }
    app.legendOf(panel.side).forEach((mark, line) => {
      const at = y + 42 + LEGEND_LINE * line;
      parts.push(markShape(mark, g.left + 8, at, 4),
        s("text", { ...label, x: g.left + 20, y: at + 4, class: "nh-mark-label" },
          mark.label));
    });
    panel.legend.replaceChildren(...parts);
  }

  Object.assign(app, { panels, legendLines, layPanel, paint });
}
