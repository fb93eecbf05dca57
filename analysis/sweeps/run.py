"""Many models and checkpoints, each asked the same questions, by Dask.

1. Names of models are written out (``EleutherAI/pythia-160m@step*``, ``runs/step-*``), models are
   fetched, and their checksums taken; two names with the same weights, configuration and tokenizer
   are one model.
2. A task is one (model, question). What has an answer in the folder is left as it is.
3. The tasks run in the processes of a Dask cluster; each writes its answer, whole or not at all.
4. A model that fails leaves its reason, and the rest go on. A stop leaves what is done.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.errors import AnalysisError, ModelError, ParameterError
from analysis.models import load_model
from analysis.models.checkpoint import checkpoint_checksum
from analysis.models.hub_listing import list_revisions
from analysis.models.load import asked_for, fetch_checkpoint
from analysis.progress import progress_bar
from analysis.sweeps import questions as asking
from analysis.sweeps.cluster import cluster_client
from analysis.sweeps.questions import Question
from analysis.sweeps.store import Store, read_answers
from analysis.validation import check_int, check_list, check_path, check_text, fitting_folders

if TYPE_CHECKING:
    from distributed import Client, Future

MAX_WORKERS = 1024
POLL_S = 0.05


@dataclass(frozen=True)
class SweepResult:
    """What became of a sweep.

    Attributes:
        folder: where the answers are.
        tasks: columns ``model``, ``question``, ``status`` (``done``: in this run; ``kept``: from an
            earlier one; ``failed``; ``same weights``: and configuration and tokenizer, as an
            earlier name of the list) and ``reason``, a row for each model and question.
        keys: of the tasks that have their answer, with the ``model`` and ``title`` that were asked
            for: an answer that is kept may have been given under another name.
    """

    folder: Path
    tasks: pd.DataFrame = field(repr=False)
    keys: Mapping[str, Mapping[str, str]] = field(repr=False)

    def __str__(self) -> str:
        counts = self.tasks["status"].value_counts()
        return f"{self.folder}: " + ", ".join(f"{n} {status}" for status, n in counts.items())

    @property
    def summary(self) -> str:
        """How many models have their answers, and which have not and why."""
        failed = self.tasks[self.tasks["status"] == "failed"]
        same = self.tasks[self.tasks["status"] == "same weights"]
        n, n_models = len(self.keys), len({about["model"] for about in self.keys.values()})
        said = [
            f"{n} {'answer' if n == 1 else 'answers'} of {n_models} "
            f"{'model' if n_models == 1 else 'models'}."
        ]
        said += [f"{t.model} failed ({t.question}): {t.reason}" for t in failed.itertuples()]
        pairs = same[["model", "reason"]].drop_duplicates()
        said += [f"{t.model} has the same weights {t.reason}." for t in pairs.itertuples()]
        return "\n".join(said)


def sweep_frame(
    source: SweepResult | str | Path, question: Question | str | None = None
) -> pd.DataFrame:
    """Every answer of a sweep as one table.

    Args:
        source: what ``sweep`` returned, or a folder: then the answer of each model and question
            that was last asked for, given by the present versions of the code and of
            ``data/names.csv``, under the name that it was last asked for by. A warning says how
            many others are left out, and another which models failed since, when asked again.
        question: only the answers to this one: a :class:`Question`, or its label, such as
            ``static`` or ``static k=10``.

    Returns:
        A row for each model, question and head: ``model``, ``title``, ``checksum``, ``question``,
        ``n_layers``, ``layer``, ``head`` and the columns of the answers (missing where a question
        has none of that name), in the order of model, question, layer and head.

    Raises:
        ParameterError: there is no answer, or none to the question.
    """
    if isinstance(question, Question):
        question = question.label
    if question is not None:
        check_text("question", question)
    if isinstance(source, SweepResult):
        return read_answers(source.folder, source.keys, question)
    return read_answers(check_path("source", source), None, question)


@dataclass(frozen=True)
class _Task:
    model: str
    revision: str | None
    question: Question
    key: str
    checkpoint: str  # ``checkpoint_checksum``
    about: Mapping[str, object]


def sweep(
    models: Sequence[str],
    questions: Sequence[Question | str] = ("static",),
    folder: str | Path = "build/sweep",
    *,
    cluster: str | Path | None = None,
    n_workers: int | None = None,
) -> SweepResult:
    """Ask every model every question; a second call does only what is missing.

    In a script, call it under ``if __name__ == "__main__":``: each process of a cluster on this
    machine imports the script.

    Args:
        models: as ``load_model`` takes them; a hub model may have a revision (``repo@revision``).
            ``*`` and ``?`` stand for other characters in the path of a folder and, where no folder
            fits, in a revision.
        questions: names such as ``static``, or :class:`Question` with parameters.
        folder: for the answers, made if need be.
        cluster: address (``tcp://...``) or scheduler file of a running Dask cluster that sees the
            same folders; a cluster on this machine if None.
        n_workers: processes of the cluster on this machine; as many as its processors and memory
            allow if None.

    Raises:
        ParameterError: there is no model or question, a pattern fits nothing, an answer that is
            there is damaged, the cluster cannot be reached or start or is given with
            ``n_workers``, or another parameter is out of its range.
        HubError: the hub does not list the revisions that a pattern asks for.
        ExportError: the folder cannot be written.
    """
    given = (
        q if isinstance(q, Question) else Question(q) for q in _as_list("questions", questions)
    )
    asked = list({question.label: question for question in given}.values())
    if cluster is not None and n_workers is not None:
        raise ParameterError("n_workers is for a cluster on this machine; leave it out.")
    if n_workers is not None:
        n_workers = check_int("n_workers", n_workers, 1, MAX_WORKERS)
    if cluster is not None and "://" not in str(cluster):
        cluster = check_path("cluster", cluster)
        if not cluster.is_file():
            raise ParameterError(
                f"there is no scheduler file {cluster}: give that of a running Dask cluster, or "
                "its address (tcp://...)."
            )
    store = Store(check_path("folder", folder).resolve())
    names = list(dict.fromkeys(_written_out(_as_list("models", models))))
    store.make_folder()
    rows: list[dict[str, str]] = []
    keys: dict[str, dict[str, str]] = {}
    tasks = list(_planned(names, asked, store, rows, keys))
    if tasks:
        with _stop_heard() as check, cluster_client(cluster, n_workers, len(tasks)) as client:
            keys |= _run(client, tasks, store, rows, check)
    columns = ["model", "question", "status", "reason"]
    table = pd.DataFrame(rows, columns=columns).sort_values(columns[:2], kind="stable")
    return SweepResult(store.folder, table.reset_index(drop=True), keys)


def _as_list(name: str, values: Any) -> list[Any]:
    alone = isinstance(values, (str, os.PathLike, Question))
    checked = [values] if alone else check_list(name, values)
    if not checked:
        raise ParameterError(f"{name} must be a list with at least one entry, not an empty one.")
    return checked


def _written_out(models: Sequence[str]) -> Iterator[str]:
    """Each model's name, patterns replaced by what they fit."""
    for given in models:
        what = "a hub id such as 'gpt2', or a folder"
        model = check_text(
            "a model", os.fspath(given) if isinstance(given, os.PathLike) else given, what
        )
        names = [_without_slash(model)]
        if any(c in model for c in "*?"):
            names = sorted(map(_without_slash, fitting_folders(model)), key=_by_number)
        repo, at, revision = model.rpartition("@")
        listed = at and not set("*?") & set(repo)
        if not names and listed and (asked := asked_for(model, None)).kind == "hub":
            found = sorted(fnmatch.filter(list_revisions(asked.repo), revision), key=_by_number)
            names = [f"{repo}@{name}" for name in found]
        if not names:
            raise ParameterError(f"no checkpoint fits {model!r:.200}: check the pattern.")
        yield from names


def _without_slash(name: str) -> str:
    """A folder's name without slashes at its end, which may tell it from a hub id (``gpt2/``)."""
    bare = name.rstrip(os.sep)
    return bare if bare not in ("", name) and asked_for(bare, None).kind == "folder" else name


def _by_number(name: str) -> tuple[str, int]:
    """Sorts ``step10`` after ``step9``."""
    digits = name[len(name.rstrip("0123456789")) :]
    return name[: len(name) - len(digits)], int(digits or 0)


def _planned(
    names: Sequence[str],
    questions: Sequence[Question],
    store: Store,
    rows: list[dict[str, str]],
    kept: dict[str, dict[str, str]],
) -> Iterator[_Task]:
    """The tasks without an answer; of the others ``rows`` and ``kept`` say what became of them."""
    seen: dict[str, str] = {}
    with progress_bar(len(names), "finding the models", "model") as bar:
        for name in names:
            repo, at, revision = name.rpartition("@")
            # A folder may have an @ in its name.
            plain = not at or os.path.exists(os.path.expanduser(name))
            model, chosen = (name, None) if plain else (repo, revision)
            try:
                asked = asked_for(model, chosen)
                if asked.kind == "folder":  # a worker may have another working folder
                    model = str(asked.folder.absolute())
                checkpoint = fetch_checkpoint(model, chosen)
                checksum = checkpoint_checksum(checkpoint)
            except AnalysisError as error:
                for question in questions:
                    about = {"model": name, "question": question.label}
                    store.keep_failure(**about, reason=str(error))
                    rows.append(about | {"status": "failed", "reason": str(error)})
                bar.update()
                continue
            identity = checkpoint.identity
            same = seen.setdefault(checksum, name)
            for question in questions:
                about = {"model": name, "question": question.label}
                if same != name:
                    rows.append(about | {"status": "same weights", "reason": f"as {same}"})
                    store.drop_failure(**about)
                elif store.has(key := question.key(checksum)):
                    kept[key] = {"model": name, "title": identity.title}
                    # The weights may be back that it was asked of before others.
                    store.renew(key, **kept[key])
                    rows.append(about | {"status": "kept", "reason": ""})
                    store.drop_failure(**about)
                else:
                    whole = about | {
                        "title": identity.title,
                        "checksum": str(identity.checksum),
                        "code": asking.code_checksum(),
                        "names_file": question.names_file,
                    }
                    yield _Task(model, chosen, question, key, checksum, whole)
            bar.update()


@contextmanager
def _stop_heard() -> Iterator[Callable[[], None]]:
    """Let no Ctrl-C be lost: one that comes while a callback runs is passed over by Python.

    Yields:
        Raises KeyboardInterrupt if there was one.
    """
    stops: list[int] = []

    def hear(number: int, _: object) -> None:
        stops.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if stops:
            raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield check
        return
    signal.signal(signal.SIGINT, hear)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _ended(futures: Iterable[Future[Any]], check: Callable[[], None]) -> Iterator[Future[Any]]:
    """The futures as they end; looked at often, so that a stop is heard at once."""
    waiting = list(futures)
    while waiting:
        check()
        ended = [future for future in waiting if future.done()]
        yield from ended
        waiting = [future for future in waiting if future not in ended]
        if not ended:
            time.sleep(POLL_S)


def _run(
    client: Client,
    tasks: Sequence[_Task],
    store: Store,
    rows: list[dict[str, str]],
    check: Callable[[], None],
) -> dict[str, dict[str, str]]:
    """Hand out the tasks and note what becomes of each; returns model and title of those done."""
    done = {}
    # Not pure, so each has a key of its own: another sweep may ask the same into its folder.
    futures = {client.submit(_answer, str(store.folder), task, pure=False): task for task in tasks}
    try:
        with progress_bar(len(tasks), "asking the models", "task") as bar:
            for future in _ended(futures, check):
                task = futures[future]
                about = {name: str(task.about[name]) for name in ("model", "question")}
                error = future.exception()
                reason = "" if error is None else _reason(error)
                if error is None:
                    done[task.key] = {name: str(task.about[name]) for name in ("model", "title")}
                    store.drop_failure(**about)
                else:
                    store.keep_failure(**about, reason=reason)
                rows.append(about | {"status": "failed" if reason else "done", "reason": reason})
                bar.set_description(f"{about['model']}: {about['question']}", refresh=False)
                bar.update()
    except BaseException:  # a stop: what has not begun is not begun
        client.cancel(list(futures))
        raise
    return done


def _reason(error: BaseException) -> str:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return "the processes that ran it were killed; is there enough memory?"
    text = str(error).strip()
    return text if isinstance(error, AnalysisError) else f"{type(error).__name__}: {text}"


def _answer(folder: str, task: _Task) -> None:
    """Answer one task in a worker's process."""
    store = Store(Path(folder))
    if store.has(task.key):  # another worker was thought to be dead, and was not
        return
    if task.about["code"] != asking.IMPORTED_CODE:
        raise ModelError(
            "the package's code was changed while the sweep ran, or the cluster runs another "
            "version of it: restart the cluster, if it is your own, and run it again."
        )
    model = load_model(task.model, revision=task.revision)
    # Weights, configuration and tokenizer as they are now that the model is made of them.
    checksum = checkpoint_checksum(fetch_checkpoint(task.model, task.revision))
    if (str(model.identity.checksum), checksum) != (task.about["checksum"], task.checkpoint):
        raise ModelError(f"{task.about['model']} was changed while the sweep ran: run it again.")
    if task.question.names_file != task.about["names_file"]:
        raise ModelError(
            "data/names.csv was changed while the sweep ran, or is another one where the cluster "
            "runs: run it again."
        )
    about = dict(task.about) | {"n_layers": model.cfg.n_layers}
    store.keep(task.key, task.question.ask(model), about)
