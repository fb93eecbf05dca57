// The state: what can be kept in a file and in the address of a page.

const COMMON = ["k", "mlp", "score", "only", "threshold", "lo", "hi", "classes"];
// Of explorers side by side, these move together.

const MODEL_CHOICES = ["model", "beside", "minus"];
// Where several models are at hand: which is shown, and with which other one.

const SECOND = "beside.";
// Before the names of what the second of two explorers side by side shows alone.

function readState(given, usual) {
  const state = { ...usual };
  for (const [name, value] of Object.entries(given || {})) {
    if (Object.hasOwn(usual, name)) state[name] = value;
  }
  if (!Array.isArray(state.pins)) state.pins = [];
  return state;
}

/**
 * The fragment of an address that holds a whole state; `more`: what else is kept, such as which
 * models are shown.
 *
 * It says k always, so that it is never empty: an address without a fragment stands for the state
 * that a page was kept with.
 */
function fragmentOf(state, usual, more) {
  const said = Object.entries(state).filter(([name, value]) =>
    name === "k" || JSON.stringify(value) !== JSON.stringify(usual[name]));
  const parts = [...said, ...Object.entries(more)].map(([name, value]) =>
    [name, Array.isArray(value) ? value.join(",") : String(value ?? "")]);
  return `#${new URLSearchParams(parts)}`;
}

/** The entries of a state that pass, under the names that `as` gives them. */
const entriesOf = (state, passes, as = (name) => name) =>
  Object.fromEntries(Object.entries(state || {}).filter(([name, value]) => passes(name, value))
    .map(([name, value]) => [as(name), value]));

/** Of a state that was kept, the choice of models and what the second of them shows alone. */
const moreOf = (state) => entriesOf(state, (name) =>
  MODEL_CHOICES.includes(name) || name.startsWith(SECOND));

/** Of a state that was kept, what the second explorer shows alone, as a state of its own. */
const secondOf = (state) => entriesOf(state, (name) => name.startsWith(SECOND),
  (name) => name.slice(SECOND.length));

const hasFragment = () => location.hash.length > 1;

function stateFromFragment(fragment) {
  const given = {};
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const own = name.replace(SECOND, ""), usual = DEFAULTS[own];
    if (own === "pins") given[name] = text.split(",").filter(Boolean);
    else if (typeof usual === "number" || own === "lo" || own === "hi") {
      if (text.trim() && Number.isFinite(Number(text))) given[name] = Number(text);
    } else if (typeof usual === "boolean") {
      if (/^(true|1|false|0)$/i.test(text)) given[name] = /^(true|1)$/i.test(text);
    } else given[name] = text;
  }
  return given;
}
