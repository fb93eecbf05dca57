"""Questions are answered in order, stopped when asked, and dropped when stale."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from analysis.errors import NamesError
from analysis.explorer.requests import Requests
from analysis.progress import listen_to_progress, progress_bar


class Sent(list[dict[str, Any]]):
    """Messages, by id."""

    def of(self, number: int) -> list[str]:
        return [
            key for message in self if message["id"] == number for key in message if key != "id"
        ]

    def last(self, number: int) -> dict[str, Any]:
        return [message for message in self if message["id"] == number][-1]


def ask(what: str, number: int, **args: object) -> dict[str, object]:
    return {"ask": what, "id": number, "args": args}


def test_an_answer_is_taken_progresses_and_ends() -> None:
    def count(args: Mapping[str, Any]) -> Mapping[str, Any]:
        with progress_bar(args["n"], "counting", "number") as bar:
            for _ in range(args["n"]):
                bar.update()
        return {"counted": args["n"]}

    sent = Sent()
    requests = Requests({"count": count}, sent.append)
    requests.take(ask("count", 1, n=4))
    requests.wait()
    kinds = sent.of(1)
    assert kinds[0] == "taken" and kinds[-1] == "result" and kinds.count("progress") == 5
    assert sent.last(1)["result"] == {"counted": 4}
    assert sent[-2]["progress"] == {"done": 4, "total": 4, "what": "counting"}


def waiting() -> tuple[threading.Event, threading.Event, Any]:
    """An answer that goes on until it is let go or stopped."""
    begun, go = threading.Event(), threading.Event()

    def answer(args: Mapping[str, Any]) -> Mapping[str, Any]:
        with progress_bar(1000, "waiting", "step") as bar:
            begun.set()
            while not go.wait(0.001):
                bar.update()
            bar.update()
        return {"args": dict(args)}

    return begun, go, answer


def test_a_stopped_question_ends_without_a_result() -> None:
    begun, _, answer = waiting()
    sent = Sent()
    requests = Requests({"wait": answer}, sent.append)
    requests.take(ask("wait", 1))
    assert begun.wait(60)
    requests.take({"ask": "stop", "id": 1})
    requests.wait(60)
    assert sent.last(1) == {"id": 1, "error": "stopped."}


def test_what_has_changed_is_told_though_it_is_stopped() -> None:
    """After the last step of its progress a question has done what it does."""
    done: list[int] = []

    def answer(args: Mapping[str, Any]) -> Mapping[str, Any]:
        with progress_bar(1, "adding", "result"):
            done.append(args["n"])
            requests.stop(args["n"])
        return {"n": args["n"]}

    sent = Sent()
    requests = Requests({"add": answer}, sent.append)
    requests.take(ask("add", 1, n=1))
    requests.wait(60)
    assert done == [1] and sent.last(1) == {"id": 1, "result": {"n": 1}}


def test_a_newer_question_stops_the_older_and_nothing_queues_up() -> None:
    begun, go, answer = waiting()
    sent = Sent()
    requests = Requests({"wait": answer}, sent.append)
    for number in range(1, 6):
        requests.take(ask("wait", number))
        begun.wait(60)
    go.set()
    requests.wait(60)
    assert sent.last(5)["result"] == {"args": {}}
    assert all("result" not in sent.of(number) for number in range(1, 5))


def test_a_question_of_another_view_is_stopped_by_the_same_measurement_alone() -> None:
    begun, go, answer = waiting()
    sent = Sent()
    requests = Requests({"wait": answer, "measure": answer}, sent.append)
    views = ("a", "b")
    for number, (what, view) in enumerate([(w, v) for w in ("wait", "measure") for v in views]):
        requests.take(ask(what, number) | {"view": view})
    assert begun.wait(60)
    go.set()
    requests.wait(60)
    assert ["result" in sent.of(number) for number in range(4)] == [True, True, False, True]


def test_questions_about_other_things_do_not_stop_each_other() -> None:
    sent = Sent()
    requests = Requests({"a": lambda args: {"x": 1}, "b": lambda args: {"x": 2}}, sent.append)
    requests.take(ask("a", 1))
    requests.take(ask("b", 2))
    requests.wait(60)
    assert sent.last(1)["result"] == {"x": 1} and sent.last(2)["result"] == {"x": 2}


def test_errors_are_sent_as_sentences() -> None:
    def refuse(args: Mapping[str, Any]) -> Mapping[str, Any]:
        raise NamesError("'two words' is split into 2 tokens.")

    def fail(args: Mapping[str, Any]) -> Mapping[str, Any]:
        raise RuntimeError("out of memory")

    sent = Sent()
    requests = Requests({"refuse": refuse, "fail": fail}, sent.append)
    for number, what in enumerate(("refuse", "fail", "unknown"), 1):
        requests.take(ask(what, number))
    requests.wait(60)
    assert sent.last(1)["error"] == "'two words' is split into 2 tokens."
    assert sent.last(2)["error"] == "an error in the explorer: RuntimeError: out of memory"
    assert "unknown" in sent.last(3)["error"]


def test_what_is_no_question_is_ignored() -> None:
    sent = Sent()
    requests = Requests({}, sent.append)
    for message in (None, 3, {}, {"ask": "x"}, {"ask": 1, "id": 1}, {"ask": "stop", "id": 77}):
        requests.take(message)
    assert sent == []


def test_progress_is_heard_in_its_own_thread_alone() -> None:
    heard: list[int] = []
    with listen_to_progress(lambda done, total, what: heard.append(done)):
        other = threading.Thread(target=lambda: progress_bar(3, "elsewhere", "step").update())
        other.start()
        other.join()
        assert heard == []
        progress_bar(3, "here", "step").update(2)
    assert heard == [0, 2]
