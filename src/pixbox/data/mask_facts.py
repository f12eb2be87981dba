"""Which values each mask file holds, read once and remembered.

The values and their counts say all that the check before training, the class weights and the audit need, under
any label map. They are kept in the user's cache folder under the file's path, size and time of change, so that
a second look at 100,000 masks decodes none.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.data.cache import user_cache_folder
from pixbox.data.images import read_mask
from pixbox.errors import DataError
from pixbox.labels import RawMask

_PORTION = 256
# A noisy JPEG mask has ten thousands of colours; keeping those would take more room than the mask.
_MOST_KEPT_VALUES = 8192
_VERSION = 2


@dataclass(frozen=True, eq=False)
class MaskFacts:
    """What a mask file holds.

    Attributes:
        size_hw: its size, as it is read.
        values: (K,) uint8 or uint16 values, ascending, or (K, 3) uint8 RGB colours.
        counts: (K,) int64 pixels of each.
        palette: (P, 3) uint8 RGB of a palette file, whose ``values`` are indices into it.
    """

    size_hw: tuple[int, int]
    values: NDArray[Any]
    counts: NDArray[np.int64]
    palette: NDArray[np.uint8] | None

    def as_mask(self) -> RawMask:
        """A mask of one row that holds each value once: what a label map makes of it holds for every pixel."""
        return RawMask(self.values[None], self.palette)


def mask_facts(mask: RawMask) -> MaskFacts:
    """The values of a mask and how many pixels have each."""
    pixels = mask.pixels
    if pixels.ndim == 3:
        # OpenCV adds a fourth byte far faster than numpy packs three; that byte, the highest, is cleared.
        words = cv2.cvtColor(np.ascontiguousarray(pixels).reshape(1, -1, 3), cv2.COLOR_RGB2BGRA).view("<u4")[0, :, 0]
        colors, counts = np.unique(words & 0xFFFFFF, return_counts=True)
        values: NDArray[Any] = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1).astype(np.uint8)
    else:
        histogram = np.bincount(pixels.ravel())
        present = np.flatnonzero(histogram)
        values, counts = present.astype(pixels.dtype), histogram[present]
    return MaskFacts(mask.size_hw, values, counts.astype(np.int64, copy=False), mask.palette)


class MaskFactStore:
    """Reads masks in threads and remembers what they hold.

    ``folder`` is where it is kept; the user's cache folder if None. Where that cannot be written, every mask is
    read anew.
    """

    def __init__(self, folder: Path | None = None, workers: int | None = None) -> None:
        self._workers = workers or min(16, os.cpu_count() or 1)
        self._path = (folder or user_cache_folder("masks")) / "masks.sqlite"

    def read(self, files: Sequence[Path]) -> Iterator[MaskFacts | DataError]:
        """The facts of each file, in order; an error that names the file in place of one that cannot be read."""
        with ThreadPoolExecutor(self._workers) as pool, _Table(self._path) as table:
            for start in range(0, len(files), _PORTION):
                yield from self._read_portion(files[start : start + _PORTION], pool, table)

    def _read_portion(
        self, files: Sequence[Path], pool: ThreadPoolExecutor, table: _Table
    ) -> Iterator[MaskFacts | DataError]:
        keys = [(_key(file), _stamp(file)) for file in files]
        known = table.find(keys)
        missing = iter([file for file, (key, _) in zip(files, keys, strict=True) if key not in known])
        # A few files ahead and no more: the colours of a photograph that is no mask take as much room as itself.
        pending = deque(pool.submit(_read, file) for file in islice(missing, 2 * self._workers))
        fresh: list[tuple[bytes, _Stamp, MaskFacts]] = []
        try:
            for key, stamp in keys:
                if key in known:
                    yield known[key]
                    continue
                facts = pending.popleft().result()
                pending.extend(pool.submit(_read, file) for file in islice(missing, 1))
                if isinstance(facts, MaskFacts) and len(facts.values) <= _MOST_KEPT_VALUES and stamp is not None:
                    fresh.append((key, stamp, facts))
                yield facts
        finally:
            table.keep(fresh)


_Stamp = tuple[int, int]


def _key(file: Path) -> bytes:
    # The bytes of the name: text that is not Unicode cannot be stored.
    return os.fsencode(os.path.abspath(file))


def _stamp(file: Path) -> _Stamp | None:
    """Size and time of change (ns) of a file that is there."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _read(file: Path) -> MaskFacts | DataError:
    try:
        return mask_facts(read_mask(file))
    except DataError as error:
        return error


class _Table:
    """Facts by path; every trouble with the database only means that nothing is remembered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> _Table:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=10)
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS masks (path BLOB PRIMARY KEY, version INT, size INT, changed INT,"
                    " height INT, width INT, kind TEXT, vals BLOB, counts BLOB, palette BLOB)"
                )
        except (OSError, sqlite3.Error):
            self._give_up()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up()

    def _give_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def find(self, files: Sequence[tuple[bytes, _Stamp | None]]) -> dict[bytes, MaskFacts]:
        """The facts of those files that have not changed since."""
        if self._connection is None:
            return {}
        stamps = dict(files)
        query = (
            "SELECT path, size, changed, height, width, kind, vals, counts, palette FROM masks"
            f" WHERE version = {_VERSION} AND path IN ({','.join('?' * len(stamps))})"
        )
        try:
            rows = self._connection.execute(query, list(stamps)).fetchall()
            return {path: _from_row(*row) for path, size, changed, *row in rows if stamps[path] == (size, changed)}
        except (sqlite3.Error, ValueError, TypeError):
            self._give_up()
            return {}

    def keep(self, facts: Sequence[tuple[bytes, _Stamp, MaskFacts]]) -> None:
        if self._connection is None or not facts:
            return
        try:
            # All at once: other processes wait while rows are written.
            with self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO masks VALUES (?,?,?,?,?,?,?,?,?,?)",
                    [(key, _VERSION, *stamp, *_to_row(entry)) for key, stamp, entry in facts],
                )
        except sqlite3.Error:
            self._give_up()


def _to_row(facts: MaskFacts) -> tuple[int, int, str, bytes, bytes, bytes | None]:
    kind = "color" if facts.values.ndim == 2 else str(facts.values.dtype)
    palette = None if facts.palette is None else facts.palette.tobytes()
    return (*facts.size_hw, kind, facts.values.tobytes(), facts.counts.tobytes(), palette)


def _from_row(height: int, width: int, kind: str, values: bytes, counts: bytes, palette: bytes | None) -> MaskFacts:
    array: NDArray[Any] = np.frombuffer(values, dtype=np.uint16 if kind == "uint16" else np.uint8)
    return MaskFacts(
        (height, width),
        array.reshape(-1, 3) if kind == "color" else array,
        np.frombuffer(counts, dtype=np.int64),
        None if palette is None else np.frombuffer(palette, dtype=np.uint8).reshape(-1, 3),
    )
