"""Which values each mask file holds, read once and remembered.

The values and their counts say all that the check before training, the class weights and the audit need, under
any label map. They are kept in the user's cache folder under the file's path, size and time of change, so that
a second look at 100,000 masks decodes none.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixbox.data.cache import user_cache_folder
from pixbox.data.images import read_mask
from pixbox.errors import DataError
from pixbox.labels import RawMask

_PORTION = 256
# A noisy JPEG mask has ten thousands of colours; keeping those would take more room than the mask.
_MOST_KEPT_VALUES = 8192
_VERSION = 1


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
        packed = pixels.reshape(-1, 3).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
        # Neighbours are mostly equal: sorting the runs instead of the pixels is ten times as fast.
        starts = np.flatnonzero(np.concatenate(([True], packed[1:] != packed[:-1])))
        runs, lengths = packed[starts], np.diff(starts, append=len(packed))
        colors, inverse = np.unique(runs, return_inverse=True)
        counts = np.bincount(inverse, weights=lengths).astype(np.int64)
        values: NDArray[Any] = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1).astype(np.uint8)
    else:
        histogram = np.bincount(pixels.ravel())
        present = np.flatnonzero(histogram)
        values, counts = present.astype(pixels.dtype), histogram[present].astype(np.int64)
    return MaskFacts(mask.size_hw, values, counts, mask.palette)


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
            # In portions, so that neither results nor an interruption wait for a long queue.
            for start in range(0, len(files), _PORTION):
                portion = [(str(file), _stamp(file)) for file in files[start : start + _PORTION]]
                known = table.find(portion)
                missing = [(name, stamp) for name, stamp in portion if name not in known]
                for (name, stamp), facts in zip(
                    missing, pool.map(lambda entry: _read(Path(entry[0])), missing), strict=True
                ):
                    known[name] = facts
                    if isinstance(facts, MaskFacts) and len(facts.values) <= _MOST_KEPT_VALUES and stamp is not None:
                        table.keep(name, stamp, facts)
                table.commit()
                yield from (known[name] for name, _ in portion)


_Stamp = tuple[int, int]


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
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS masks (path TEXT PRIMARY KEY, version INT, size INT, changed INT,"
                " height INT, width INT, kind TEXT, vals BLOB, counts BLOB, palette BLOB)"
            )
        except (OSError, sqlite3.Error):
            self._connection = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def find(self, files: Sequence[tuple[str, _Stamp | None]]) -> dict[str, MaskFacts | DataError]:
        found: dict[str, MaskFacts | DataError] = {}
        if self._connection is None:
            return found
        stamps = dict(files)
        marks = ",".join("?" * len(stamps))
        query = (
            "SELECT path, size, changed, height, width, kind, vals, counts, palette FROM masks"
            f" WHERE version = {_VERSION} AND path IN ({marks})"
        )
        try:
            for path, size, changed, height, width, kind, values, counts, palette in self._connection.execute(
                query, list(stamps)
            ):
                if stamps[path] == (size, changed):
                    array: NDArray[Any] = np.frombuffer(values, dtype=np.uint16 if kind == "uint16" else np.uint8)
                    found[path] = MaskFacts(
                        (height, width),
                        array.reshape(-1, 3) if kind == "color" else array,
                        np.frombuffer(counts, dtype=np.int64),
                        None if palette is None else np.frombuffer(palette, dtype=np.uint8).reshape(-1, 3),
                    )
        except (sqlite3.Error, ValueError):
            return {}
        return found

    def keep(self, name: str, stamp: _Stamp, facts: MaskFacts) -> None:
        if self._connection is None:
            return
        kind = "color" if facts.values.ndim == 2 else str(facts.values.dtype)
        palette = None if facts.palette is None else facts.palette.tobytes()
        row = (name, _VERSION, *stamp, *facts.size_hw, kind, facts.values.tobytes(), facts.counts.tobytes(), palette)
        try:
            self._connection.execute("INSERT OR REPLACE INTO masks VALUES (?,?,?,?,?,?,?,?,?,?)", row)
        except sqlite3.Error:
            self._connection = None

    def commit(self) -> None:
        try:
            if self._connection is not None:
                self._connection.commit()
        except sqlite3.Error:
            self._connection = None
