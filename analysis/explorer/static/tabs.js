// The other views of the same numbers: scatter, table, pinned heads.

const ROWS = 40; // of the table, before "all heads"
const AXES = { x: "Horizontal", y: "Vertical", color: "Colour", size: "Size" };

function tabsPart(app) {
  const { data, uid, nameOf, indexOf } = app;

  const tabs = { scatter: "Scatter", table: "Table", pins: "Pinned" };
  const tabButtons = Object.entries(tabs).map(([key, text]) => h("button", { type: "button",
    role: "tab", id: `nh-${uid}-${key}-tab`, "data-tab": key,
    onclick: () => app.update({ tab: key }, true),
    onkeydown: (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      const keys = Object.keys(tabs);
      const next = keys[(keys.indexOf(key) + by + keys.length) % keys.length];
      app.update({ tab: next }, true);
      tabButtons.find((tab) => tab.dataset.tab === next).focus();
    } }, text));
  const tabPanel = h("div", { class: "nh-tabpanel", role: "tabpanel", tabindex: 0 });
  const axes = Object.fromEntries(Object.keys(AXES).map((axis) =>
    [axis, app.select(AXES[axis], () => [
      ...(axis === "color" || axis === "size" ? [["none", "none"]] : []),
      ...app.measureKeys().map((key) => [key, app.measure(key).title])],
    (value) => app.update({ [axis]: value }, true))]));
  let points = null;

  function drawTab() {
    for (const tab of tabButtons) {
      const chosen = tab.dataset.tab === app.state.tab;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
      if (tab.dataset.tab === "pins") tab.textContent = `Pinned (${app.state.pins.length})`;
    }
    tabPanel.setAttribute("aria-label", tabs[app.state.tab]);
    points = null;
    if (app.state.tab === "scatter") drawScatter();
    else if (app.state.tab === "table") drawTable(Array.from({ length: data.nHeads }, (_, i) => i));
    else if (app.state.pins.length) drawPinned(app.state.pins.map(indexOf));
    else {
      tabPanel.replaceChildren(h("p", { class: "nh-muted" },
        "No head is pinned. Pin one on its card, or with the key p, to compare it here."));
    }
  }

  function ends(values) {
    const finite = Array.from(values).filter(isNumber);
    return finite.length ? [Math.min(...finite), Math.max(...finite)] : [0, 1];
  }
  function extent(values) { // of an axis: a little more, so that no point lies on its end
    const [low, high] = ends(values), more = high > low ? (high - low) * 0.03 : 0.5;
    return [low - more, high + more];
  }
  function niceTicks([low, high]) {
    const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
    const unit = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= raw);
    const found = [];
    for (let t = Math.ceil(low / unit) * unit; t <= high; t += unit) {
      found.push(Math.abs(t) < unit / 1e6 ? 0 : t);
    }
    return found;
  }

  /** Layers, heads and ranks are whole numbers. */
  const said = (column, value) => (column.group === "place" && Number.isInteger(value)
    ? String(value) : format(value));

  function drawScatter() {
    const width = clamp(app.tabWidth || 600, 280, 980);
    const height = Math.min(width * 0.62, 420);
    const m = { left: 66, right: 12, top: 10, bottom: 40 };
    const [X, Y] = [app.measure(app.state.x), app.measure(app.state.y)];
    const C = app.state.color === "none" ? null : app.measure(app.state.color);
    const Z = app.state.size === "none" ? null : app.measure(app.state.size);
    const [ex, ey] = [extent(X.values), extent(Y.values)];
    const px = (v) => m.left + (v - ex[0]) / (ex[1] - ex[0]) * (width - m.left - m.right);
    const py = (v) => height - m.bottom - (v - ey[0]) / (ey[1] - ey[0])
      * (height - m.top - m.bottom);
    const colors = THEMES[app.theme];
    const ec = C ? ends(C.values) : null, ez = Z ? ends(Z.values) : null;
    points = [];
    const marks = [];
    let hidden = 0;
    for (let i = 0; i < data.nHeads; i++) {
      const [x, y] = [X.values[i], Y.values[i]];
      if (!isNumber(x) || !isNumber(y)) { hidden++; continue; }
      const color = !C ? "#2c728e" : !isNumber(C.values[i]) ? "none"
        : mix(VIRIDIS, (C.values[i] - ec[0]) / (ec[1] - ec[0] || 1));
      const r = Z && isNumber(Z.values[i]) ? 2 + 7 * Math.sqrt(
        clamp((Z.values[i] - ez[0]) / (ez[1] - ez[0] || 1), 0, 1)) : 4;
      const circle = s("circle", { cx: px(x).toFixed(1), cy: py(y).toFixed(1), r: r.toFixed(1),
        fill: color, "fill-opacity": 0.85, stroke: colors.muted, "stroke-width": 0.6 });
      points.push({ i, x: px(x), y: py(y), r, circle });
      marks.push(circle);
    }
    const rings = s("g", { fill: "none", "pointer-events": "none", class: "nh-rings" });
    const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      class: "nh-scatter", "aria-label": `Scatter of heads: ${Y.title} against ${X.title}. The `
      + "table holds the same numbers.", "font-family": FONT, "font-size": 11, fill: colors.muted },
    niceTicks(ex).map((t) => [
      s("line", { x1: px(t), x2: px(t), y1: m.top, y2: height - m.bottom, stroke: colors.line,
        "stroke-width": 0.5 }),
      s("text", { x: px(t), y: height - m.bottom + 14, "text-anchor": "middle" }, said(X, t))]),
    niceTicks(ey).map((t) => [
      s("line", { x1: m.left, x2: width - m.right, y1: py(t), y2: py(t), stroke: colors.line,
        "stroke-width": 0.5 }),
      s("text", { x: m.left - 6, y: py(t) + 4, "text-anchor": "end" }, said(Y, t))]),
    s("text", { x: (m.left + width) / 2, y: height - 6, "text-anchor": "middle", "font-size": 12,
      fill: colors.text }, X.title),
    s("text", { x: 9, y: (height - m.bottom) / 2, "text-anchor": "middle", "font-size": 12,
      fill: colors.text, transform: `rotate(-90 9 ${(height - m.bottom) / 2})` }, Y.title),
    marks, rings);
    svg.rings = rings;
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let best = -1, distance = 12;
      for (const point of points || []) {
        const d = Math.hypot(point.x - x, point.y - y) - point.r;
        if (d < distance) { distance = d; best = point.i; }
      }
      return best;
    };
    svg.addEventListener("pointermove", (event) => app.hover(nearest(event)));
    svg.addEventListener("pointerleave", () => app.hover(-1));
    svg.addEventListener("click", (event) => {
      const i = nearest(event);
      if (i >= 0) app.openHead(i);
    });
    for (const [axis, box] of Object.entries(axes)) box.refresh(app.state[axis]);
    tabPanel.replaceChildren(
      h("div", { class: "nh-axes" }, Object.entries(axes).map(([axis, box]) => h("label", {},
        `${AXES[axis]} `, box))),
      svg, h("p", { class: "nh-muted nh-scales" },
        C ? [`Colour: ${C.title} from ${said(C, ec[0])} `, h("span", { class: "nh-gradient",
          style: `background: linear-gradient(90deg, ${VIRIDIS.join(", ")})` }),
        ` to ${said(C, ec[1])}. `] : "",
        Z ? `Size: ${Z.title} from ${said(Z, ez[0])} to ${said(Z, ez[1])}. ` : "",
        hidden ? `${hidden} of ${data.nHeads} heads have no number here.` : ""));
    markScatter();
  }

  function markScatter() {
    const svg = tabPanel.querySelector(".nh-scatter");
    if (!svg || !points) return;
    const colors = THEMES[app.theme], rings = [];
    const ring = (i, color, label) => {
      const point = points.find((known) => known.i === i);
      if (!point) return;
      rings.push(s("circle", { cx: point.x, cy: point.y, r: point.r + 3, stroke: color,
        "stroke-width": 2 }));
      if (label) {
        const left = point.x > Number(svg.getAttribute("width")) - 60;
        rings.push(s("text", { x: point.x + (left ? -1 : 1) * (point.r + 6), y: point.y + 4,
          "text-anchor": left ? "end" : "start", fill: colors.text,
          stroke: colors.surface, "stroke-width": 3, "paint-order": "stroke",
          "font-weight": 600 }, nameOf(i)));
      }
    };
    app.state.pins.forEach((pin) => ring(indexOf(pin), colors.pin, true));
    if (app.hovered >= 0) ring(app.hovered, colors.hover, true);
    if (app.state.head) ring(indexOf(app.state.head), colors.select, true);
    svg.rings.replaceChildren(...rings);
  }

  const number = (column, i) => h("td", {}, isNumber(column.values[i])
    ? format(column.values[i]) : "–");
  const headButton = (i) => h("button", { type: "button", class: "nh-link",
    onclick: () => { app.openHead(i); app.card.focus(); } }, nameOf(i));
  const unpinButton = (i) => h("button", { type: "button", class: "nh-small",
    "aria-label": `Unpin ${nameOf(i)}`, onclick: () => app.togglePin(nameOf(i)) }, "×");
  const scrolling = (label, table) => h("div", { class: "nh-scroll", tabindex: 0, role: "region",
    "aria-label": label }, table);

  /** Pinned heads side by side: a column for each. */
  function drawPinned(heads) {
    tabPanel.replaceChildren(scrolling("Pinned heads side by side",
      h("table", { class: "nh-table nh-pinned" },
        h("caption", { class: "nh-hidden" }, "Pinned heads side by side"),
        h("thead", {}, h("tr", {}, h("td", {}), heads.map((i) => h("th", { scope: "col" },
          headButton(i), " ", unpinButton(i))))),
        h("tbody", {},
          app.everyMeasure().map((column) => h("tr", {}, h("th", { scope: "row" }, column.title),
            heads.map((i) => number(column, i)))),
          h("tr", {}, h("th", { scope: "row" }, "Class"),
            heads.map((i) => h("td", { class: "nh-wrap" }, app.classText(i) || "–")))))));
  }

  let sorted = { key: "copying", down: true };
  let allRows = false;
  function drawTable(heads) {
    const columns = app.everyMeasure();
    const by = sorted.key === "name" ? null : columns.find((column) => column.key === sorted.key)
      || columns[0];
    const last = sorted.down ? -Infinity : Infinity; // where there is no number
    const value = (i) => (by ? (isNumber(by.values[i]) ? by.values[i] : last) : i);
    const order = [...heads].sort((a, b) =>
      (sorted.down ? value(b) - value(a) : value(a) - value(b)) || a - b);
    const heading = (key, text) => h("th", { scope: "col",
      "aria-sort": sorted.key === key ? (sorted.down ? "descending" : "ascending") : "none" },
    h("button", { type: "button", "data-sort": key, onclick: () => {
      sorted = { key, down: sorted.key === key ? !sorted.down : key !== "name" };
      drawTab();
      tabPanel.querySelector(`[data-sort="${key}"]`).focus();
    } }, text));
    const shown = allRows ? order : order.slice(0, ROWS);
    const more = h("button", { type: "button", class: "nh-small", onclick: () => {
      allRows = true;
      drawTab();
      tabPanel.querySelector(".nh-scroll").focus();
    } }, `all ${order.length.toLocaleString("en")} heads`);
    tabPanel.replaceChildren(scrolling("Table of heads", h("table", { class: "nh-table" },
      h("caption", { class: "nh-hidden" }, "Heads and their numbers"),
      h("thead", {}, h("tr", {}, heading("name", "Head"),
        columns.map((column) => heading(column.key, column.title)),
        h("th", { scope: "col" }, "Class"))),
      h("tbody", {}, shown.map((i) => h("tr", {
        class: nameOf(i) === app.state.head ? "nh-chosen" : "" },
      h("th", { scope: "row" }, headButton(i)),
      columns.map((column) => number(column, i)),
      h("td", { class: "nh-left" }, app.classText(i))))))),
    ...(shown.length < order.length ? [more] : []));
  }

  Object.assign(app, { tabButtons, tabPanel, drawTab, markScatter });
}
