// The head's card: classes, evidence, score against k, and what has not been computed.

function cardPart(app) {
  const { root, data, isPage, nHeads, hasKernel, nameOf, indexOf } = app;

  const card = h("aside", { class: "nh-card", tabindex: -1, "aria-label": "Head's card",
    onkeydown: (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      app.closeCard();
    } });
  const tokenQuery = h("input", { type: "text", "aria-label": "Token to look up", size: 14,
    placeholder: "a name or token" });
  const tokenSays = h("div", { class: "nh-answer" });
  const promptText = h("textarea", { rows: 2, "aria-label": "Prompt",
    value: "When Mary and John went to the store, John gave a drink to" });
  const promptSays = h("div", { class: "nh-answer" });
  app.nameFilter = "";
  app.showAll = new Set();
  let cardHead = null; // whose answers are shown below the names
  const named = new Map(); // "head set mlp" -> tokens before each name, asked of Python

  function drawCard() {
    const i = indexOf(app.state.head);
    root.classList.toggle("nh-has-card", i >= 0);
    if (i < 0) {
      cardHead = null;
      card.replaceChildren(h("p", { class: "nh-muted nh-empty" },
        "No head is open. Click one, or move with the arrow keys and press Enter."));
      return;
    }
    if (cardHead !== app.state.head) {
      cardHead = app.state.head;
      app.showAll = new Set();
      tokenSays.replaceChildren();
      promptSays.replaceChildren();
      app.changedSays.replaceChildren();
    }
    const focused = card.contains(document.activeElement)
      ? document.activeElement.dataset?.key : null;
    const pinned = app.state.pins.includes(app.state.head);
    const go = (by) => {
      app.cursor = (i + by + data.nHeads) % data.nHeads;
      app.update({ head: nameOf(app.cursor) }, true);
    };
    const button = (key, text, onclick, extra = {}) => h("button",
      { type: "button", class: "nh-small", "data-key": key, onclick, ...extra }, text);
    card.setAttribute("aria-label", `Card of head ${app.state.head}`);
    card.replaceChildren(
      h("header", {},
        h(isPage ? "h2" : "h3", { class: "nh-card-title" }, `Head ${app.state.head}`),
        h("span", { class: "nh-where" },
          `layer ${Math.floor(i / nHeads)}, head ${i % nHeads}`),
        h("span", { class: "nh-buttons" },
          button("before", "‹", () => go(-1), { "aria-label": "Head before" }),
          button("next", "›", () => go(1), { "aria-label": "Next head" }),
          button("pin", pinned ? "Unpin" : "Pin", () => app.togglePin(app.state.head),
            { "aria-pressed": pinned }),
          button("close", "Close", app.closeCard))),
      drawClasses(i), drawEvidence(i), drawProfile(i), app.drawNames(i), app.drawTokenSearch(),
      app.drawChanged(), app.drawPrompt(), drawMissing());
    if (focused) card.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  function drawClasses(i) {
    const rows = app.classesOf(i);
    if (rows.length) {
      return h("p", { class: "nh-classes" }, rows.map((row) =>
        h("span", { class: `nh-badge nh-${row.origin}`, title: row.source },
          `${row.class}, ${row.origin}`)));
    }
    return h("p", { class: "nh-muted" }, data.classes.length
      ? "No class, published or measured." : "No classes are known for this model.");
  }

  function drawEvidence(i) {
    const groups = [["static", "Read off the weights"], ["null", "Against random heads"],
      ["vocabulary", "Whole vocabulary"], ["dynamic", "When the model runs"],
      ["causal", "Indirect-object task"]];
    const all = [app.measure("copying"), app.measure("suppression"),
      ...data.measures.map((known) => app.measure(known.key))];
    const body = [];
    for (const [group, heading] of groups) {
      const rows = all.filter((one) => one.group === group);
      const lacks = data.absent.filter((one) => one.group === group);
      if (!rows.length && !lacks.length) continue;
      body.push(h("tr", {}, h("th", { colspan: 3, scope: "colgroup" }, heading)));
      for (const one of rows) body.push(evidenceRow(one, i));
      for (const one of lacks) {
        body.push(h("tr", { class: "nh-muted" }, h("td", {}, one.title),
          h("td", { colspan: 2 }, "not computed")));
      }
    }
    return h("table", { class: "nh-evidence" },
      h("caption", { class: "nh-hidden" }, `Evidence about head ${nameOf(i)}`),
      h("tbody", {}, body));
  }

  function evidenceRow(one, i) {
    const value = one.values[i];
    const interval = one.interval && isNumber(value) ? one.interval(i) : null;
    const shownInterval = interval && interval.every(isNumber)
      ? `[${format(interval[0])}, ${format(interval[1])}]` : "";
    const counts = one.counts ? `${one.counts[i]} of ${one.n}` : shownInterval;
    return h("tr", { title: one.note || "" }, h("td", {}, one.title),
      h("td", { class: "nh-value", "data-measure": one.key, title: String(value),
        "data-value": value },
        isNumber(value) ? format(value) : one.note_missing || "–"),
      h("td", { class: "nh-interval" }, counts,
        one.counts ? h("span", { class: "nh-muted" }, ` ${shownInterval}`) : null));
  }

  /** Score against k: one look shows whether names are missed narrowly or altogether. */
  function drawProfile(i) {
    const set = app.currentSet(), width = 330, height = 84, left = 30, bottom = 64, top = 6;
    const colors = THEMES[app.theme];
    const x = (k) => left + (width - left - 8) * Math.log(k) / Math.log(data.max_rank);
    const y = (share) => bottom - (bottom - top) * share;
    const line = (end) => Array.from({ length: data.max_rank }, (_, at) =>
      `${x(at + 1).toFixed(1)},${y(set.below[end][at + 1][i] / set.nPairs).toFixed(1)}`).join(" ");
    const ticks = [1, 2, 5, 10, 20, 50, 100].filter((k) => k <= data.max_rank);
    return h("figure", { class: "nh-profile" },
      s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
        "aria-label": `Copying and suppression score of head ${nameOf(i)} for every k`,
        "font-family": FONT, "font-size": 10, fill: "none" },
      [0, 0.5, 1].map((share) => [
        s("line", { x1: left, x2: width - 8, y1: y(share), y2: y(share), stroke: colors.line,
          "stroke-width": 0.7 }),
        s("text", { x: left - 4, y: y(share) + 3, "text-anchor": "end", fill: colors.muted },
          share)]),
      ticks.map((k) => s("text", { x: x(k), y: bottom + 13, "text-anchor": "middle",
        fill: colors.muted }, k)),
      s("line", { x1: x(app.state.k), x2: x(app.state.k), y1: top, y2: bottom,
        stroke: colors.select, "stroke-dasharray": "3 2" }),
      s("polyline", { points: line("bottom"), stroke: "#d97706", "stroke-width": 2,
        "stroke-dasharray": "5 2" }),
      s("polyline", { points: line("top"), stroke: app.theme === "dark" ? "#5cc8c2" : "#1a7f79",
        "stroke-width": 2 })),
      h("figcaption", { class: "nh-muted" }, "Score for each k: copying (line), "
        + "suppression (dashes)."));
  }

  function drawMissing() {
    if (!data.absent.length) return null;
    return h("section", { class: "nh-absent" }, app.section("Not computed yet"),
      data.absent.map((one) => {
        const says = h("div", { class: "nh-says" });
        const run = h("button", { type: "button", class: "nh-small", onclick: async () => {
          const result = await app.work(says, "measure", { what: one.what },
            { about: `measure ${one.what}` });
          if (result) takeMeasures(result);
        } }, "Compute");
        return h("div", { class: "nh-absent-row" }, h("span", {}, one.title),
          hasKernel && one.what ? run : h("code", {}, one.python), says);
      }));
  }

  function takeMeasures(result) {
    data.measures = [...data.measures.filter((known) =>
      !result.measures.some((one) => one.key === known.key)), ...result.measures.map(readMeasure)];
    data.views = result.views;
    data.absent = result.absent;
    data.classes = result.classes;
    app.update({}, false);
  }

  Object.assign(app, { card, tokenQuery, tokenSays, promptText, promptSays, named, drawCard });
}
