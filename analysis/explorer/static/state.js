// The state: what can be kept in a file and in the address of a page.

const COMMON = ["k", "mlp", "score", "only", "threshold", "lo", "hi", "classes"];
// Of explorers side by side, these move together.

const MODEL_CHOICES = ["model", "beside", "minus"];
// Where several models are at hand: which is shown, and with which other one.

function readState(given, usual) {
  const state = { ...usual };
  for (const [name, value] of Object.entries(given || {})) {
    if (Object.hasOwn(usual, name)) state[name] = value;
  }
  if (!Array.isArray(state.pins)) state.pins = [];
  return state;
}

/**
 * The fragment of an address that holds a whole state; `fixed`: the choice of models.
 *
 * It says k always, so that it is never empty: an address without a fragment stands for the state
 * that a page was kept with.
 */
function fragmentOf(state, usual, fixed) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (name !== "k" && JSON.stringify(value) === JSON.stringify(usual[name])) continue;
    parts.set(name, name === "pins" ? value.join(",") : String(value ?? ""));
  }
  for (const [name, value] of Object.entries(fixed)) parts.set(name, value);
  return `#${parts}`;
}

/** Of a state that was kept, the choice of models. */
const modelsOf = (state) =>
  Object.fromEntries(MODEL_CHOICES.filter((name) => name in state).map((name) =>
    [name, state[name]]));

const hasFragment = () => location.hash.length > 1;

function stateFromFragment(fragment) {
  const given = {};
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const usual = DEFAULTS[name];
    if (name === "pins") given.pins = text.split(",").filter(Boolean);
    else if (typeof usual === "number" || name === "lo" || name === "hi") {
      if (text.trim() && Number.isFinite(Number(text))) given[name] = Number(text);
    } else if (typeof usual === "boolean") given[name] = text === "true";
    else given[name] = text;
  }
  return given;
}
