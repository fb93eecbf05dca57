// Questions to Python: their answers, their progress, and what stops them.

function questionsPart(app) {
  const { model, hasKernel, uid } = app;

  // All views of a widget hear all answers, so that each numbers its questions from elsewhere.
  let lastQuestion = Math.floor(Math.random() * 2 ** 50);
  const open = new Map(); // id -> question
  const latest = new Map(); // what it is about -> id; an older answer is dropped

  function ask(kind, args, { about = kind, onProgress = () => {} } = {}) {
    if (!hasKernel) {
      return Promise.reject(new Error("this page has no Python behind it."));
    }
    const earlier = latest.get(about);
    if (earlier !== undefined && open.has(earlier)) drop(earlier);
    const id = ++lastQuestion;
    latest.set(about, id);
    return new Promise((resolve, reject) => {
      const silence = setTimeout(() => app.kernelNotice(
        "Python has not answered for 8 s. It is busy with another cell, or the kernel was "
        + "restarted: then run the cell again."), SILENCE_MS);
      open.set(id, { kind, resolve, reject, onProgress, silence });
      model.send({ ask: kind, id, view: uid, args });
    });
  }

  /** Stops a question whose answer nobody waits for any more. */
  function drop(id) {
    const question = open.get(id);
    model.send({ ask: "stop", id });
    clearTimeout(question.silence);
    open.delete(id);
    question.reject(new Stopped());
  }

  /** Of a view that is closed, stops what only it waits for; what adds to the results goes on. */
  function leave() {
    for (const [id, { kind, silence }] of open) {
      clearTimeout(silence);
      if (!["measure", "score", "export"].includes(kind)) drop(id);
    }
  }

  function onMessage(message) {
    if (!message || message.id === undefined) return;
    const question = open.get(message.id);
    if (!question) return; // stale
    clearTimeout(question.silence);
    app.kernelNotice("");
    if (message.progress) return question.onProgress(message.progress);
    if (message.taken) return;
    open.delete(message.id);
    if (message.error === "stopped.") question.reject(new Stopped());
    else if (message.error) question.reject(new Error(message.error));
    else question.resolve(message.result);
  }

  class Stopped extends Error {}

  /**
   * Runs a question with its progress and a way to stop, said beside the control.
   *
   * `options.still`: whether its answer is still of what is shown; if not, it is dropped.
   */
  async function work(place, kind, args, options = {}) {
    const { still = () => true } = options;
    const bar = h("progress", { max: 1, "aria-label": "Progress" });
    const says = h("span", { class: "nh-muted" }, "asking Python …");
    let id = null;
    // Python says whether it stopped: it may have been too late.
    const cancel = h("button", { type: "button", class: "nh-small",
      onclick: () => {
        model.send({ ask: "stop", id });
        says.textContent = "stopping …";
      } }, "Stop");
    place.replaceChildren(h("span", { class: "nh-progress", role: "status" }, bar, says, cancel));
    const asked = ask(kind, args, { ...options, onProgress: ({ done, total, what }) => {
      bar.value = total ? done / total : 0;
      says.textContent = what;
    } });
    id = lastQuestion;
    try {
      const result = await asked;
      if (!still()) return null;
      if (options.about === undefined || latest.get(options.about) === id) place.replaceChildren();
      return result;
    } catch (error) {
      const newer = latest.get(options.about ?? kind) !== id && hasKernel;
      if (!newer && still()) {
        if (error instanceof Stopped) sayDone(place, "Stopped; nothing has changed.");
        else sayError(place, error.message);
      }
      return null;
    }
  }

  Object.assign(app, { ask, leave, onMessage, work, Stopped });
}
