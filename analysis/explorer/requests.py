"""Questions from the front end, answered off the kernel's main path.

A question is a message ``{"ask": what, "id": number, "view": text, "args": {...}}``. Its answers
carry the same id, which is no other question's in any view: ``taken`` at once, ``progress`` while
it runs, then ``result`` or ``error``. Each runs in a thread of its own, one at a time; ``{"ask":
"stop", "id": number}`` stops it at its next step of progress, and one that has not begun is never
begun; past its last step it has changed what it was to change, and its result is sent. A newer
question of the same view about the same thing stops the older one, so that nothing queues up behind
what nobody waits for any more; a measurement, which all views share, is stopped by the same one of
any view.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from analysis.errors import AnalysisError
from analysis.progress import listen_to_progress

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]

MIN_STEP = 0.01
"""Progress is sent when it has grown by this share, so that messages do not pile up."""


class Stopped(Exception):
    """Raised inside an answer that is to stop."""


class Requests:
    """Takes questions, by kind, and sends answers, from threads."""

    def __init__(
        self, answers: Mapping[str, Answer], send: Callable[[dict[str, Any]], None]
    ) -> None:
        self._answers = dict(answers)
        self._send = send
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._open: dict[int, tuple[object, threading.Event, threading.Thread]] = {}

    def take(self, message: object) -> None:
        """Take one message from the front end; what is no question is ignored."""
        if not isinstance(message, Mapping):
            return
        what, number = message.get("ask"), message.get("id")
        if not isinstance(what, str) or not isinstance(number, int):
            return
        if what == "stop":
            self.stop(number)
            return
        if what not in self._answers:
            self._send({"id": number, "error": f"there is no answer to {what!r}."})
            return
        args = message.get("args")
        self._begin(what, number, args if isinstance(args, Mapping) else {}, message.get("view"))

    def stop(self, number: int) -> None:
        """Stop one question; one that has ended already is left alone."""
        with self._guard:
            if number in self._open:
                self._open[number][1].set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every question taken so far has ended."""
        with self._guard:
            threads = [thread for _, _, thread in self._open.values()]
        for thread in threads:
            thread.join(timeout)

    def _begin(self, what: str, number: int, args: Mapping[str, Any], view: object) -> None:
        stop = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(what, number, args, stop), name=f"explorer {what}", daemon=True
        )
        about = (what, args.get("what")) if what == "measure" else (what, view)
        with self._guard:
            for older, earlier, _ in self._open.values():
                if older == about:
                    earlier.set()
            self._open[number] = (about, stop, thread)
        self._send({"id": number, "taken": True})
        thread.start()

    def _run(self, what: str, number: int, args: Mapping[str, Any], stop: threading.Event) -> None:
        last = -1.0

        def progress(done: int, total: int, description: str) -> None:
            nonlocal last
            if stop.is_set():
                raise Stopped
            share = done / total if total else 0.0
            if share >= last + MIN_STEP or share < last:
                last = share
                step = {"done": done, "total": total, "what": description}
                self._send({"id": number, "progress": step})

        try:
            with self._turn:
                if stop.is_set():
                    raise Stopped
                with listen_to_progress(progress):
                    result = self._answers[what](args)
            self._send({"id": number, "result": dict(result)})
        except Stopped:
            self._send({"id": number, "error": "stopped."})
        except AnalysisError as error:
            self._send({"id": number, "error": str(error)})
        except Exception as error:
            # Nobody sees a thread's traceback in a notebook: its last line is sent to the control.
            last_line = traceback.format_exception_only(error)[-1].strip()
            self._send({"id": number, "error": f"an error in the explorer: {last_line}"})
        finally:
            with self._guard:
                self._open.pop(number, None)
