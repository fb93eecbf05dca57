"""Answers of a sweep in files: one Parquet file for each, or the reason why there is none.

A file is written under another name and renamed, so it is there whole or not at all, whatever
happens to the process that writes it. DuckDB reads the lot as one table.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.errors import ExportError, ParameterError
from analysis.models.checkpoint import read_json


@dataclass(frozen=True)
class Store:
    """A folder of answers.

    Attributes:
        folder: holds ``<key>.parquet`` for an answer and ``<key>.json`` for a failure.
    """

    folder: Path

    def answer_file(self, key: str) -> Path:
        """Where the answer of a task is, or would be."""
        return self.folder / f"{key}.parquet"

    def failure_file(self, key: str) -> Path:
        """Where the reason is, or would be, that a task has no answer."""
        return self.folder / f"{key}.json"

    def has(self, key: str) -> bool:
        """Whether a task has its answer."""
        return self.answer_file(key).is_file()

    def keep(self, key: str, answer: pd.DataFrame, about: Mapping[str, object]) -> None:
        """Write an answer.

        Args:
            key: of the task.
            answer: indexed by ``layer`` and ``head``.
            about: text or numbers that become columns: the model's name, the question, and so on.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = answer.reset_index().assign(**about)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), sink)
        self._write(self.answer_file(key), sink.getvalue().to_pybytes())
        self.failure_file(key).unlink(missing_ok=True)

    def keep_failure(self, key: str, reason: str, about: Mapping[str, object]) -> None:
        """Write why a task has no answer."""
        text = json.dumps(dict(about) | {"reason": reason}, indent=1)
        self._write(self.failure_file(key), text.encode())

    def _write(self, path: Path, content: bytes) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, staged = tempfile.mkstemp(prefix=".writing-", dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(staged, path)
            except BaseException:
                Path(staged).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ExportError(
                f"the folder of answers {self.folder} cannot be written "
                f"({error.strerror or error}): make room, or give another folder."
            ) from error

    def failures(self) -> pd.DataFrame:
        """What failed and why, a row for each task: ``model``, ``question``, ``reason``.

        Raises:
            ModelError: a file is no JSON.
        """
        rows = [read_json(path) for path in sorted(self.folder.glob("*.json"))]
        return pd.DataFrame(rows, columns=["model", "question", "reason"])


def read_answers(
    folder: Path, keys: Sequence[str] | None = None, question: str | None = None
) -> pd.DataFrame:
    """Answers of a sweep as one table.

    Args:
        folder: of the sweep.
        keys: of the tasks to read; every task of the folder if None.
        question: only the answers to this one, such as ``static`` or ``static k=10``.

    Returns:
        A row for each model, question and head: ``model``, ``title``, ``checksum``, ``question``,
        ``n_layers``, ``layer``, ``head`` and the columns of the answers (missing where a question
        has none of that name), in the order of model, question, layer and head.

    Raises:
        ParameterError: the folder holds no answer.
    """
    import duckdb

    found = sorted(folder.glob("*.parquet"))
    if keys is not None:
        found = [path for path in found if path.stem in set(keys)]
    if not found:
        raise ParameterError(f"there are no answers in {folder}: run sweep(...) into it first.")
    try:
        with duckdb.connect() as connection:
            table = connection.execute(
                "SELECT * FROM read_parquet(?, union_by_name = true) "
                "WHERE ? IS NULL OR question = ? ORDER BY model, question, layer, head",
                [list(map(str, found)), question, question],
            ).df()
    except duckdb.Error as error:
        reason = str(error).splitlines()[0][:300]
        raise ParameterError(
            f"the answers in {folder} cannot be read ({reason}): remove the damaged file and "
            "run sweep(...) again."
        ) from error
    first = ["model", "title", "checksum", "question", "n_layers", "layer", "head"]
    if absent := [column for column in first if column not in table]:
        raise ParameterError(
            f"the Parquet files in {folder} are no answers of a sweep, they have no column "
            f"{', '.join(absent)}: give the folder of one."
        )
    return table[[*first, *(column for column in table if column not in first)]]
