"""Single tensors of a hub repository: only the bytes that are read are fetched.

1. The hub lists the repository once: its commit, its files, their sizes and checksums.
2. Of every weight file the header alone is fetched, which says where each tensor lies.
3. The byte ranges of the tensors that are needed are fetched into the cache, a file for each. A
   connection that breaks is taken up where it ended, now or in a later run.
4. Every answer is held against the listing: the same commit, the same checksum and size of the
   whole file. A file that changed meanwhile is refused.
5. Each tensor's SHA-256 is recorded beside it, and checked when a later run uses it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analysis.errors import ModelError, first_line
from analysis.models.checkpoint import read_json
from analysis.models.checksums import sha256_of
from analysis.models.disk import cannot_write
from analysis.models.hub_download import hub_answer, in_time, one_at_a_time, size_so_far
from analysis.models.hub_errors import HubError, HubUnreachableError
from analysis.models.hub_listing import DIGEST, ExpectedFile, Listing, expected_file
from analysis.models.packaged import CACHE_VARIABLE
from analysis.models.tensor_files import (
    DTYPES,
    TensorPlace,
    header_length,
    parse_header,
)
from analysis.progress import lasting_bar

ATTEMPTS = 5
"""Times in a row that a connection may break without a byte having come."""
PAUSE = 1.0
"""Seconds before the second attempt, twice as many before each further one."""
TIMEOUT = 20.0
RECORD = "tensors.json"
"""In the cache, beside the tensors: the SHA-256 of each."""


@dataclass
class HubTensors:
    """Tensors of a repository on the hub, fetched when they are asked for."""

    repo: str
    commit: str
    folder: Path
    files: Mapping[str, ExpectedFile]
    places: Mapping[str, TensorPlace] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    _verified: set[str] = field(default_factory=set, repr=False)

    def missing(self, names: list[str]) -> list[str]:
        """Those of some tensors that have yet to be fetched, in the order in which they lie."""
        absent = [name for name in dict.fromkeys(names) if not self._is_here(name)]
        return sorted(absent, key=lambda name: (self.places[name].file, self.places[name].start))

    def prepare(self, names: list[str]) -> None:
        """Fetch what is missing of some tensors; says how much before it starts."""
        wanted = self.missing(names)
        if not wanted:
            return
        n_bytes = sum(self.places[name].n_bytes for name in wanted)
        whole = sum(file.size or 0 for file in self.files.values())
        print(
            f"Fetching {n_bytes / 1e9:.3g} of {whole / 1e9:.3g} GB from {self.repo} at "
            f"{self.commit[:12]}: {len(wanted)} tensors, kept in {self.folder}."
        )
        with lasting_bar(n_bytes, self.repo) as bar:
            for name in wanted:
                with self.alone():
                    self._fetch(name, bar)

    def tensor(self, name: str) -> Tensor:
        """One tensor, backed by its mapped file in the cache."""
        self.prepare([name])
        place = self.places[name]
        if name not in self._verified:
            if sha256_of(self._path(name)) != self.checksums[name]:
                self._path(name).unlink()
                raise ModelError(
                    f"{name} of {self.repo} is damaged in the cache and was removed: "
                    "run this again to fetch it afresh."
                )
            self._verified.add(name)
        dtype = DTYPES.get(place.dtype)
        if dtype is None:
            raise ModelError(f"{name} of {self.repo} is stored as {place.dtype}.")
        n = place.n_bytes // dtype.itemsize
        stored = torch.from_file(str(self._path(name)), shared=False, size=n, dtype=dtype)
        return stored.view(place.shape)

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.tensor"

    def _is_here(self, name: str) -> bool:
        path = self._path(name)
        return (
            name in self.checksums
            and path.is_file()
            and path.stat().st_size == self.places[name].n_bytes
        )

    def _fetch(self, name: str, bar: Any) -> None:
        place, path = self.places[name], self._path(name)
        self.checksums |= self.recorded()
        if self._is_here(name):  # another process fetched it meanwhile
            bar.update(place.n_bytes)
            return
        part = path.with_suffix(".part")
        have = size_so_far(part)
        if have > place.n_bytes:
            part.unlink()
            have = 0
        bar.update(have)
        with part.open("ab") as target:
            for block in self.read_range(place.file, place.start + have, place.end):
                target.write(block)
                bar.update(len(block))
        self.checksums[name] = sha256_of(part)
        part.replace(path)
        self._verified.add(name)
        self._write_record()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While this process writes into the folder, no other does."""
        lock = self.folder / "tensors.lock"
        disk = cannot_write(f"the cache folder {self.folder}", CACHE_VARIABLE)
        with disk, one_at_a_time(self.repo, lock, self._came):
            yield

    def _came(self) -> int:
        """Bytes in the folder: another process that goes on makes them more."""
        n_bytes = 0
        for file in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # the other has just renamed it
                n_bytes += file.stat().st_size
        return n_bytes

    def recorded(self) -> dict[str, str]:
        """SHA-256 of the tensors in the cache."""
        try:
            known = read_json(self.folder / RECORD)
        except ModelError:  # not there, cut off or damaged: what it told of is fetched again
            known = {}
        return {name: str(sha) for name, sha in known.items() if name in self.places}

    def _write_record(self) -> None:
        record = self.folder / RECORD
        staged = record.with_suffix(".staged")
        staged.write_text(json.dumps(self.checksums, indent=1, sort_keys=True), encoding="utf-8")
        staged.replace(record)

    def read_range(self, file: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes ``start`` to ``end`` of a file, taken up again where a connection breaks."""
        try:
            yield from in_time(self._blocks(file, start, end))
        except TimeoutError as error:
            raise self._broke_off(file, error) from None

    def _broke_off(self, file: str, error: Exception) -> HubError:
        why = first_line(error)
        if isinstance(error, HubUnreachableError):  # without the cache and the advice
            why = error.of_the_hub
        return HubError(
            f"the download of {file} of {self.repo} broke off ({why})",
            "run this again; what came is kept",
        )

    def _blocks(self, file: str, start: int, end: int) -> Iterator[bytes]:
        broken = 0
        while start < end:
            try:
                for block in self._request(file, start, end):
                    start, broken = start + len(block), 0
                    yield block
                if start < end:  # the answer ended early, without an error
                    raise ConnectionError("the connection ended early")
            except Exception as error:  # the HTTP client's own kinds, and the network's
                if isinstance(error, ModelError) and not isinstance(error, HubUnreachableError):
                    raise
                broken += 1
                if broken >= ATTEMPTS:
                    # Not "from error": an HTTP client's error shows the address, password and all.
                    raise self._broke_off(file, error) from None
                time.sleep(PAUSE * 2 ** (broken - 1))

    def _request(self, file: str, start: int, end: int) -> Iterator[bytes]:
        part = f"{start}-{end - 1}"
        with hub_answer(self.repo, self.commit, file, part, TIMEOUT) as answer:
            if answer.status_code == 200:
                raise ModelError(f"the hub sends no parts of {file}: use load_model instead.")
            self._check_same(file, start, end, [*answer.history, answer])
            left = end - start
            for block in answer.iter_raw():
                yield block[:left]
                left -= len(block)
                if left <= 0:
                    return

    def _check_same(self, file: str, start: int, end: int, answers: list[Any]) -> None:
        """Refuse an answer that is of another commit or another file than was listed."""
        listed = self.files[file]
        changed = ModelError(
            f"{file} of {self.repo} changed on the hub while it was fetched: run this again."
        )
        first = answers[0].headers
        if first.get("X-Repo-Commit", self.commit) != self.commit:
            raise changed
        etag = (first.get("X-Linked-Etag") or first.get("ETag") or "").strip('W/"')
        if DIGEST.fullmatch(etag) and etag != listed.digest:
            raise changed
        if answers[-1].headers.get("Content-Range") != f"bytes {start}-{end - 1}/{listed.size}":
            raise changed


def hub_tensors(repo: str, listing: Listing, names: Sequence[str], cache: Path) -> HubTensors:
    """The tensors of a listed repository's weight files ``names``; only headers are fetched."""
    commit = listing.commit
    folder = cache / repo.replace("/", "--") / commit
    files = {name: expected_file(repo, listing, name) for name in names}
    tensors = HubTensors(repo, commit, folder, files)
    places: dict[str, TensorPlace] = {}
    for name, file in files.items():
        places |= _header(tensors, name, file.size or 0)
    tensors.places = places
    tensors.checksums = tensors.recorded()
    return tensors


def _header(tensors: HubTensors, name: str, size: int) -> dict[str, TensorPlace]:
    """The header of one file, kept in the cache."""
    kept = tensors.folder / f"{name}.header"
    if kept.is_file():
        try:
            return parse_header(kept.read_bytes(), name, size)
        except ModelError:  # damaged in the cache
            kept.unlink()
    length = header_length(b"".join(tensors.read_range(name, 0, 8)), name)
    header = b"".join(tensors.read_range(name, 8, 8 + length))
    places = parse_header(header, name, size)
    with tensors.alone():
        staged = kept.with_suffix(".staged")
        staged.write_bytes(header)
        staged.replace(kept)
    return places
