// The state: what can be kept in a file and in the address of a page.

const COMMON = ["k", "mlp", "score", "only", "threshold", "lo", "hi", "classes"];
// Of explorers side by side, these move together.

const MODEL_CHOICES = ["model", "beside", "minus"];
// Where several models are at hand: which is shown, and with which other one.

function readState(given, usual) {
  const state = { ...usual };
  for (const [name, value] of Object.entries(given || {})) {
    if (name in usual) state[name] = value;
  }
  if (!Array.isArray(state.pins)) state.pins = [];
  return state;
}

function stateToFragment(state, usual) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (JSON.stringify(value) === JSON.stringify(usual[name])) continue;
    parts.set(name, name === "pins" ? value.join(",") : String(value));
  }
  return parts.toString();
}

function stateFromFragment(fragment) {
  const given = {};
  for (const [name, text] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const usual = DEFAULTS[name];
    if (name === "pins") given.pins = text.split(",").filter(Boolean);
    else if (typeof usual === "number" || name === "lo" || name === "hi") {
      if (Number.isFinite(Number(text))) given[name] = Number(text);
    } else if (typeof usual === "boolean") given[name] = text === "true";
    else given[name] = text;
  }
  return given;
}
