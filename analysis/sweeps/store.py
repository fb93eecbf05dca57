"""Answers of a sweep in files: one Parquet file for each, or the reason why there is none.

A file is written under another name and renamed, so it is there whole or not at all, whatever
happens to the process that writes it. DuckDB reads the lot as one table.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pandas as pd

from analysis.errors import ExportError, ParameterError, first_line
from analysis.sweeps import questions
from analysis.validation import listed

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("model", "title", "checksum", "question", "n_layers", "layer", "head")
"""Columns of every answer, whatever the question."""
OWN_COLUMNS = ("code", "names_file", "written")
"""Columns of an answer's file that are no part of the answer: versions of the code and of
``data/names.csv`` (empty where that is not asked about), and when it was last asked for."""


@dataclass(frozen=True)
class Store:
    """A folder of answers: a ``<key>.parquet`` for each, and a ``.json`` for a failure."""

    folder: Path

    def answer_file(self, key: str) -> Path:
        """Where the answer of a task is, or would be."""
        return self.folder / f"{key}.parquet"

    def failure_file(self, model: str, question: str) -> Path:
        """Where the reason is, or would be, that a model has no answer to a question."""
        asked = hashlib.sha256(f"{model}\n{question}".encode()).hexdigest()[:40]
        return self.folder / f"{asked}.json"

    def make_folder(self) -> None:
        """Make the folder if need be, and find out whether files can be written in it."""
        with self._cannot_write("give another folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()

    def has(self, key: str) -> bool:
        """Whether a task has its answer."""
        return self.answer_file(key).is_file()

    def keep(self, key: str, answer: pd.DataFrame, about: Mapping[str, object]) -> None:
        """Write an answer, indexed by ``layer`` and ``head``.

        ``about`` is text or numbers that become columns: the model's name, the question, and so on.
        If not given, ``code`` is that of now (``code_checksum``) and ``names_file`` is empty.
        """
        import pyarrow as pa

        version = {"code": questions.code_checksum(), "names_file": ""}
        columns = version | dict(about) | {"written": time.time()}
        table = answer.reset_index().assign(**columns)
        self._write_answer(key, pa.Table.from_pandas(table, preserve_index=False))

    def renew(self, key: str, **about: str) -> None:
        """Make an answer that is there the newest of its model and question.

        ``about`` are columns that it is to have from now on: the ``model``'s name as it is asked
        for now, which may not be that of before, when the older name may be another model's.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.ParquetFile(self.answer_file(key)).read()
            for column, value in (about | {"written": time.time()}).items():
                place = table.schema.get_field_index(column)
                table = table.set_column(place, column, pa.array([value] * len(table)))
            self._write_answer(key, table)
        except pa.ArrowException as error:
            raise _unreadable(self.folder, error) from error

    def _write_answer(self, key: str, table: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._write(self.answer_file(key), sink.getvalue().to_pybytes())

    def keep_failure(self, model: str, question: str, reason: str) -> None:
        """Write why a model has no answer to a question."""
        text = json.dumps({"model": model, "question": question, "reason": reason}, indent=1)
        self._write(self.failure_file(model, question), text.encode())

    def drop_failure(self, model: str, question: str) -> None:
        """Forget an earlier failure: there is an answer now."""
        self.failure_file(model, question).unlink(missing_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        with self._cannot_write("make room, or give another folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            # As the umask says: a file of mkstemp's would be for its user alone.
            staged = self.folder / f".writing-{uuid4().hex}"
            try:
                with staged.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(staged, path)
            except BaseException:
                staged.unlink(missing_ok=True)
                raise

    @contextmanager
    def _cannot_write(self, advice: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ExportError(
                f"the folder of answers {self.folder} cannot be written "
                f"({error.strerror or error}): {advice}."
            ) from error


def read_answers(
    folder: Path,
    asked: Mapping[str, Mapping[str, str]] | None = None,
    question: str | None = None,
) -> pd.DataFrame:
    """Answers of a sweep as one table, which ``sweep_frame`` describes.

    ``asked`` has, by key of a task to read, the columns to be set in its rows (``model``: the name
    that it was asked for by). If None, the answer of each model and question that was last
    asked for is read, of those that the present versions of the code and of ``data/names.csv``
    have given.
    """
    found = sorted(folder.glob("*.parquet"))
    if asked is not None:
        found = [path for path in found if path.stem in asked]
    if not found:
        raise ParameterError(f"there are no answers in {folder}: run sweep(...) into it first.")
    if asked is not None and len(found) < len(asked):
        raise ParameterError(
            f"{len(asked) - len(found)} of the {len(asked)} answers of this sweep are no longer in "
            f"{folder}: run sweep(...) again."
        )
    table = _read(folder, found)
    if asked is None:
        newest = _newest_of_this_version(folder, table)
        if len(newest) < len(found):
            table = _read(folder, newest)
    else:
        for column in sorted({column for columns in asked.values() for column in columns}):
            table[column] = [
                asked[key].get(column, value)
                for key, value in zip(table["key"], table[column], strict=True)
            ]
    if question is not None:
        known = sorted(map(str, table["question"].dropna().unique()))
        table = table[table["question"] == question]
        if table.empty:
            raise ParameterError(
                f"there is no answer to {question!r:.200} in {folder}: those that there are answer "
                f"{', '.join(known)}."
            )
    left_out = {*COLUMNS, *OWN_COLUMNS, "key"}
    columns = [*COLUMNS, *(column for column in table if column not in left_out)]
    ordered = table.sort_values(["model", "question", "layer", "head"], kind="stable")
    return ordered[columns].reset_index(drop=True)


def _read(folder: Path, files: Sequence[Path]) -> pd.DataFrame:
    """Files of answers as one table, the key of each in the column ``key``."""
    import duckdb

    # DuckDB takes a path for a pattern, and a folder ``model=gpt2`` in it for a column.
    literal = [re.sub(r"([*?\[])", r"[\1]", str(file)) for file in files]
    try:
        with duckdb.connect() as connection:
            table = connection.execute(
                "SELECT * FROM read_parquet(?, union_by_name = true, filename = 'key', "
                "hive_partitioning = false)",
                [literal],
            ).df()
    except duckdb.Error as error:
        raise _unreadable(folder, error) from error
    if absent := [column for column in COLUMNS if column not in table]:
        raise ParameterError(
            f"the Parquet files in {folder} are no answers of a sweep, they have no column "
            f"{', '.join(absent)}: give the folder of one."
        )
    return table.assign(key=[Path(file).stem for file in table["key"]])


def _unreadable(folder: Path, error: Exception) -> ParameterError:
    return ParameterError(
        f"the answers in {folder} cannot be read ({first_line(error)}): remove the damaged file "
        "and run sweep(...) again."
    )


def _newest_of_this_version(folder: Path, table: pd.DataFrame) -> list[Path]:
    """The files with the newest answer of each model and question by the present code and names.

    A warning says how many others there are; another one, which of these models failed when they
    were asked again, so that their answers may be of weights that they no longer have.
    """
    answers = table.reindex(columns=["key", "model", "question", *OWN_COLUMNS])
    answers = answers.drop_duplicates("key").sort_values("written", kind="stable")
    of_now = answers[answers["code"] == questions.code_checksum()]
    asks_the_file = of_now["names_file"] != ""
    if asks_the_file.any():
        of_now = of_now[~asks_the_file | (of_now["names_file"] == questions.names_checksum())]
    if of_now.empty:
        raise ParameterError(
            f"the answers in {folder} are all of other versions of the code or of data/names.csv: "
            "run sweep(...) again."
        )
    newest = of_now.drop_duplicates(["model", "question"], keep="last")
    if n := len(answers) - len(newest):
        warnings.warn(
            f"{n} older {'answer' if n == 1 else 'answers'} in {folder} left out: of another "
            "version of the code or of data/names.csv, or asked again since of a changed model.",
            stacklevel=4,
        )
    store = Store(folder)
    failed = [
        f"{model} ({question})"
        for model, question in zip(newest["model"], newest["question"], strict=True)
        if store.failure_file(model, question).is_file()
    ]
    if failed:
        warnings.warn(
            f"asked again, these failed, and what is in {folder} of them is from before: "
            f"{listed(failed, 3)}.",
            stacklevel=4,
        )
    return [folder / f"{key}.parquet" for key in newest["key"]]
