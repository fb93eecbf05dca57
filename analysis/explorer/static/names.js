// On the card: names with their ranks, the token search, and attention on a prompt.

function namesPart(app) {
  const { data, minus, isPage, hasKernel, nameOf, indexOf } = app;

  function endOf(i) {
    if (app.state.end) return app.state.end;
    const set = app.currentSet(), k = data.max_rank;
    return set.below.bottom[k][i] > set.below.top[k][i] ? "bottom" : "top";
  }

  /** The head's most extreme tokens, as they are packed, where they are known. */
  function packedExtremes(i) {
    return app.named.get(extremesKey(i)) || (app.currentSet().extremes || {})[nameOf(i)];
  }
  function extremesKey(i) {
    const set = app.currentSet();
    return `${nameOf(i)} ${set.key} ${set.first_mlp} ${set.checksum}`;
  }
  const placeIn = (set, pair) => (set.places ? set.places[pair] : pair);

  /** Tells of each name whether the head writes nothing for it: then no token is extreme. */
  function writesNothing(i) {
    const set = app.currentSet(), packed = packedExtremes(i);
    if (packed) return (pair) => packed.zero_output.includes(placeIn(set, pair));
    const all = nothingFor(i) === (set.whole || set).nPairs;
    return () => all;
  }
  /** For how many of all names it writes nothing. */
  const nothingFor = (i) => app.currentSet().n_zero_output[nameOf(i)] || 0;

  /** The head's most extreme tokens for each name, where they are known. */
  function extremesOf(i, end) {
    const set = app.currentSet(), packed = packedExtremes(i);
    if (!packed) return null;
    if (!packed.read) {
      packed.read = { top: placesOf(packed.top, packed.wide),
        bottom: placesOf(packed.bottom, packed.wide) };
      packed.words = packed.words || data.words;
    }
    return (pair) => {
      const at = placeIn(set, pair);
      return Array.from(packed.read[end].subarray(at * packed.n, (at + 1) * packed.n),
        (place) => packed.words[place]);
    };
  }

  function drawNames(i) {
    const set = app.currentSet(), end = endOf(i), k = app.state.k;
    const ranks = set[end].subarray(i * set.nPairs, (i + 1) * set.nPairs);
    const order = Array.from(ranks.keys()).sort((a, b) => ranks[a] - ranks[b]);
    const isNothing = writesNothing(i);
    const passing = order.filter((pair) => holds(set, pair, app.nameFilter));
    const [nothing, kept] = [true, false].map((is) =>
      passing.filter((pair) => isNothing(pair) === is));
    // Of which names this is, only the tokens around them tell.
    const some = nothing.length || packedExtremes(i) ? 0 : nothingFor(i);
    const verb = end === "bottom" ? "suppresses" : set.targets ? "answers" : "copies";
    const lists = [
      ["in", `${verb[0].toUpperCase()}${verb.slice(1)}`, `rank below ${k}`,
        kept.filter((pair) => ranks[pair] < k)],
      ...(k < data.max_rank ? [["near", "Nearly", `rank ${k} to ${data.max_rank - 1}`,
        kept.filter((pair) => ranks[pair] >= k && ranks[pair] < data.max_rank)]] : []),
      ["missed", "Misses", `${data.max_rank} or more tokens come before${
        some ? `, or it writes nothing, as for ${some} of all names` : ""}`,
      kept.filter((pair) => ranks[pair] >= data.max_rank)],
      ...(nothing.length ? [["nothing", "Writes nothing for", "all logits are 0", nothing]] : []),
    ];
    const extremes = extremesOf(i, end);
    const refused = failed?.key === extremesKey(i) ? failed.text : "";
    if (!extremes && hasKernel && !refused) askExtremes(i);
    const filter = h("input", { type: "search", "data-key": "filter", size: 12,
      "aria-label": "Filter the names", placeholder: "filter", value: app.nameFilter,
      oninput: (event) => {
        app.nameFilter = event.target.value;
        const at = event.target.selectionStart;
        app.drawCard();
        app.card.querySelector('[data-key="filter"]')?.setSelectionRange(at, at);
      } });
    const endButton = (key, text) => h("button", { type: "button", class: "nh-small",
      "data-key": `end-${key}`, "aria-pressed": end === key,
      onclick: () => app.update({ end: key }, true) }, text);
    const chip = (pair) => {
      const before = extremes ? extremes(pair).slice(0, Math.min(ranks[pair], 5)) : null;
      const target = set.targets ? ` → ${apart(set.targets[pair])}` : "";
      const rank = isNothing(pair) ? "–"
        : ranks[pair] < data.max_rank ? ranks[pair] : `≥ ${data.max_rank}`;
      return h("button", { type: "button", class: "nh-chip", "data-name": set.sources[pair],
        title: isNothing(pair) ? "writes nothing" : before === null ? `rank ${rank}` : before.length
          ? `rank ${rank}; before it: ${before.map(quoted).join(", ")}`
          : `rank ${rank}: nothing comes before it`,
        onclick: () => { app.tokenQuery.value = set.sources[pair]; lookUp([pair]); } },
      `${apart(set.sources[pair])}${target}`, h("span", { class: "nh-rank" }, rank));
    };
    return h("section", { class: "nh-names" },
      section(`Names and their ranks${minus ? ` in ${apart(data.model.title)}` : ""}`),
      h("p", { class: "nh-row" }, endButton("top", "From the top"),
        endButton("bottom", "From the bottom"), filter),
      lists.map(([key, heading, what, pairs]) => {
        const shown = app.showAll.has(key) ? pairs : pairs.slice(0, key === "in" ? CHIPS : 24);
        return h("div", { class: `nh-list nh-list-${key}` },
          listTitle(`${heading} ${pairs.length.toLocaleString("en")}`,
            h("span", { class: "nh-muted" }, ` ${what}`)),
          h("div", { class: "nh-chips" }, shown.map(chip),
            pairs.length > shown.length ? h("button", { type: "button", class: "nh-small",
              "data-key": `all-${key}`, onclick: () => { app.showAll.add(key); app.drawCard(); } },
            `all ${pairs.length.toLocaleString("en")}`) : null));
      }),
      extremes ? null : refused
        ? h("p", { class: "nh-error", role: "alert" },
          `The tokens that come before each name are not known: ${refused}`)
        : h("p", { class: "nh-muted" }, hasKernel
          ? "Asking for the tokens that come before each name …"
          : "Which tokens come before each name is not in this page for this head. In Python:"),
      extremes || hasKernel ? null
        : h("pre", { class: "nh-lines", tabindex: 0 }, namesCall(set)));
  }

  const asking = new Set();
  let failed = null; // the last one, until another is asked
  async function askExtremes(i) {
    const set = app.currentSet(), head = nameOf(i), key = extremesKey(i);
    if (asking.has(key)) return;
    asking.add(key);
    failed = null;
    try {
      const result = await app.ask("extremes",
        { head, key: set.key, first_mlp: set.first_mlp }, { about: "extremes" });
      app.named.set(key, result);
      if (app.state.head === head) app.drawCard();
    } catch (error) {
      asking.delete(key);
      const isShown = key === extremesKey(indexOf(app.state.head));
      if (!isShown || error instanceof app.Stopped) return;
      failed = { key, text: error.message };
      app.drawCard();
    }
  }

  /** The line of Python that asks for this head's card; of its names where they are given. */
  const cardCall = (names = "") => `head_card(model, (${app.state.head.replace(".", ", ")})`
    + `${names}${app.state.mlp ? "" : ", first_mlp=False"})`;
  const namesCall = (set) => (set.key === "shipped" && !set.whole ? `${cardCall()}.names`
    : ["from analysis import head_card, load_names", "", ...app.namesLines(set),
      `${cardCall(", names")}.names`].join("\n"));

  // In a notebook the headings begin a level lower, under the notebook's own.
  function section(text) {
    return h(isPage ? "h3" : "h4", { class: "nh-section" }, text);
  }
  function listTitle(...text) {
    return h(isPage ? "h4" : "h5", { class: "nh-list-title" }, text);
  }

  function tokenList(heading, rows) {
    return h("div", { class: "nh-tokens" }, listTitle(heading),
      h("ol", {}, rows.map((row) => h("li", {}, h("code", {}, visible(row.token)),
        row.logit === undefined ? null
          : h("span", { class: "nh-rank" }, format(row.logit, true))))));
  }
  const visible = (token) => (token === "" ? "(empty)" : token.replaceAll("\n", "⏎"));

  function drawTokenSearch() {
    return h("section", {}, section("What it writes for a token"),
      h("form", { class: "nh-row", onsubmit: (event) => { event.preventDefault(); lookUp(); } },
        app.tokenQuery, h("button", { type: "submit", class: "nh-small" }, "Look up")),
      app.tokenSays);
  }
  app.tokenQuery.dataset.key = "token";
  app.promptText.dataset.key = "prompt";

  /** `chosen`: of the pairs that are shown; all that begin with the word if none. */
  async function lookUp(chosen = null) {
    const i = indexOf(app.state.head), word = app.tokenQuery.value, set = app.currentSet();
    if (i < 0) return;
    if (!word.trim()) {
      sayError(app.tokenSays, "Type a name or a token.");
      return;
    }
    if (!hasKernel) {
      const pairs = chosen || Array.from(set.sources.keys())
        .filter((pair) => set.sources[pair] === word.trim());
      const top = extremesOf(i, "top"), bottom = extremesOf(i, "bottom");
      const inPython = ["In Python: ", h("code", {},
        `${cardCall()}.writes_for(${JSON.stringify(word.trim())})`)];
      if (!pairs.length) {
        sayError(app.tokenSays, `"${apart(word)}" is not among this page's names. `, inPython);
        return;
      }
      if (!top) {
        // For which names it writes nothing, only the tokens tell.
        app.tokenSays.replaceChildren(
          ...(nothingFor(i) ? [] : pairs.map((pair) => ownRank(set, i, pair))),
          h("p", { class: "nh-muted" },
            "The tokens that it writes most and least are not in this page. ", inPython));
        return;
      }
      const list = (heading, of) => // the same of all pairs that begin alike
        tokenList(heading, of(pairs[0]).map((token) => ({ token })));
      app.tokenSays.replaceChildren(...pairs.map((pair) => ownRank(set, i, pair)),
        writesNothing(i)(pairs[0]) ? "" : h("div", { class: "nh-columns" },
          list("writes most", top), list("writes least", bottom)));
      return;
    }
    const result = await app.work(app.tokenSays, "token",
      { head: app.state.head, token: word, first_mlp: app.state.mlp },
      { about: "token", still: app.sameCard() });
    if (!result) return;
    if (!result.larger && !result.smaller) { // not even its own logit differs from another
      app.tokenSays.replaceChildren(nothingSaid(visible(result.token)));
      return;
    }
    const sources = h("div", {}, h("button", { type: "button", class: "nh-small",
      onclick: async () => {
        const found = await app.work(sources, "sources",
          { head: app.state.head, token: word, first_mlp: app.state.mlp },
          { about: "sources", still: app.sameCard() });
        if (found) {
          sources.replaceChildren(h("div", { class: "nh-columns" },
            tokenList("most written for", found.most),
            tokenList("least written for", found.least)));
        }
      } }, `Which tokens write ${quoted(result.token)}?`));
    app.tokenSays.replaceChildren(
      h("p", {}, h("code", {}, visible(result.token)), " itself: "
        + `${result.larger.toLocaleString("en")} tokens have a larger logit, `
        + `${result.smaller.toLocaleString("en")} a smaller one.`),
      h("div", { class: "nh-columns" }, tokenList("writes most", result.most),
        tokenList("writes least", result.least)), sources);
  }

  const nothingSaid = (word) =>
    h("p", {}, h("code", {}, word), ": it writes nothing, all logits are 0.");

  function ownRank(set, i, pair) {
    const say_ = (ranks) => {
      const rank = ranks[i * set.nPairs + pair];
      return rank < data.max_rank ? String(rank) : `${data.max_rank} or more`;
    };
    const what = set.targets ? set.targets[pair] : set.sources[pair];
    if (writesNothing(i)(pair)) return nothingSaid(what);
    return h("p", {}, h("code", {}, what), `: ${say_(set.top)} tokens have a larger logit, `
      + `${say_(set.bottom)} a smaller one.`);
  }

  const changedSays = h("div", { class: "nh-answer" });
  function drawChanged() {
    const button = h("button", { type: "button", class: "nh-small", "data-key": "changed",
      onclick: async () => {
        const found = await app.work(changedSays, "changed",
          { head: app.state.head, first_mlp: app.state.mlp },
          { about: "changed", still: app.sameCard() });
        if (!found) return;
        changedSays.replaceChildren(h("ol", { class: "nh-changed" }, found.tokens.map((row) =>
          h("li", {}, h("code", {}, visible(row.token)),
            h("span", { class: "nh-rank" }, `× ${format(row.amplification)}`), " writes ",
            row.writes.map((word) => [h("code", {}, visible(word)), " "])))));
      } }, "Ask every token");
    return h("section", {}, section("Tokens it changes most"),
      hasKernel ? button : h("p", { class: "nh-muted" }, "Not computed. In Python: ",
        h("code", {}, `${cardCall()}.changes_most()`)),
      changedSays);
  }

  function drawPrompt() {
    return h("section", {}, section("Attention on a prompt"),
      hasKernel
        ? h("form", { onsubmit: (event) => { event.preventDefault(); runPrompt(); } },
          app.promptText, h("div", { class: "nh-row" },
            h("button", { type: "submit", class: "nh-small" }, "Run the model")))
        : drawKeptPrompt(),
      app.promptSays);
  }

  /** Without a kernel: the prompts that came with the results, and what to run for others. */
  function drawKeptPrompt() {
    const shown = h("div", { class: "nh-answer" });
    const show = (at) => shown.replaceChildren(
      attentionView(data.prompts[at].of(indexOf(app.state.head))));
    const pick = h("select", { "aria-label": "Prompt", "data-key": "kept-prompt",
      onchange: () => { app.keptPrompt = Number(pick.value); show(app.keptPrompt); } },
    data.prompts.map(({ text }, at) => h("option", { value: at }, text)));
    const known = data.prompts.length > 0;
    if (known) {
      pick.value = app.keptPrompt || 0;
      show(Number(pick.value));
    }
    return [data.prompts.length > 1 ? pick : "", known ? shown : "",
      h("p", { class: "nh-muted" }, known ? "Other prompts need" : "Needs",
        " the model. In Python: ",
        h("code", {}, `${cardCall()}.on_prompt("When Mary and John …")`))];
  }

  async function runPrompt() {
    const { head } = app.state;
    const result = await app.work(app.promptSays, "prompt", { head, prompt: app.promptText.value },
      { about: "prompt", still: () => app.state.head === head });
    if (result) app.promptSays.replaceChildren(attentionView(result));
  }

  function attentionView({ tokens, attention, most, least }) {
    const says = h("p", { class: "nh-muted" });
    const spans = tokens.map((token, at) => h("button", { type: "button", class: "nh-token",
      onpointerenter: () => show(at), onfocus: () => show(at), onclick: () => show(at) },
    visible(token)));
    function show(from) {
      const row = attention[from];
      spans.forEach((span, to) => {
        const share = to <= from ? row[to] : 0;
        span.style.background = share > 0 ? `rgba(214, 0, 92, ${(0.08 + 0.8 * share).toFixed(3)})`
          : "transparent";
        span.style.color = share > 0.55 ? "#ffffff" : "";
        span.classList.toggle("nh-from", to === from);
        span.title = `${(100 * share).toFixed(1)} % from position ${from}`;
      });
      const best = row.slice(0, from + 1).map((share, to) => [share, to])
        .sort((a, b) => b[0] - a[0]).slice(0, 3);
      says.textContent = `From ${quoted(tokens[from])} (position ${from}) to `
        + best.map(([share, to]) =>
          `${quoted(tokens[to])} ${(100 * share).toFixed(0)} %`).join(", ");
    }
    show(tokens.length - 1);
    return h("div", {}, h("div", { class: "nh-prompt" }, spans), says,
      h("div", { class: "nh-columns" }, tokenList("writes most at the end", most),
        tokenList("writes least at the end", least)));
  }

  Object.assign(app, { drawNames, section, drawTokenSearch, lookUp, changedSays, drawChanged,
    drawPrompt, runPrompt });
}
