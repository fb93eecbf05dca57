// The head's card: its frame; evidence.js and names.js fill it.

function cardPart(app) {
  const { root, data, isPage, nHeads, indexOf } = app;

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
  let cardSetting = null; // with which they were computed
  const named = new Map(); // "head set mlp" -> tokens before each name, asked of Python

  /** Tells later whether the card is still of the same head, with the same setting. */
  function sameCard() {
    const setting = settingOf();
    return () => settingOf() === setting;
  }
  const settingOf = () => JSON.stringify([app.state.head, app.state.mlp, app.state.names]);

  function drawCard() {
    const i = indexOf(app.state.head);
    root.classList.toggle("nh-has-card", i >= 0);
    if (i < 0) {
      cardHead = null;
      cardSetting = null;
      card.replaceChildren(h("p", { class: "nh-muted nh-empty" },
        "No head is open. Click one, or move with the arrow keys and press Enter."));
      return;
    }
    // What was asked of the head before is asked of this one.
    const again = [];
    const renew = (says, askAgain) => {
      if (says.hasChildNodes()) again.push(askAgain);
      says.replaceChildren();
    };
    if (cardHead !== app.state.head) {
      cardHead = app.state.head;
      app.showAll = new Set();
      renew(promptSays, app.runPrompt);
    }
    if (cardSetting !== settingOf()) {
      cardSetting = settingOf();
      renew(tokenSays, app.lookUp);
      app.changedSays.replaceChildren();
    }
    const focused = card.contains(document.activeElement)
      ? document.activeElement.dataset?.key : null;
    const pinned = app.state.pins.includes(app.state.head);
    const go = (by) => app.openHead((i + by + data.nHeads) % data.nHeads);
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
      app.drawClasses(i), app.drawEvidence(i), app.drawProfile(i), app.drawNames(i),
      app.drawTokenSearch(), app.drawChanged(), app.drawRelations(i), app.drawPrompt(),
      app.drawMissing());
    if (focused) card.querySelector(`[data-key="${focused}"]`)?.focus();
    again.forEach((askAgain) => askAgain());
  }

  Object.assign(app, { card, tokenQuery, tokenSays, promptText, promptSays, named, drawCard,
    sameCard });
}
