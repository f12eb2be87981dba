"""Decoded pictures and encoded masks, kept so that later epochs need not decode them again.

What is kept belongs to a ``CacheKey``: files, their sizes and times of change, and the label map. When any of
them changes the key is another one, so nothing outdated is ever handed out.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import shutil
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pixbox.data.annotation import region_files
from pixbox.data.images import AS_IT_IS, PixelReading, image_size_hw
from pixbox.errors import DataError
from pixbox.labels import LabelMap
from pixbox.sample import Record, Shapes

Decoded = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]
"""A picture, (H, W, 3) uint8 RGB, and its mask, (H, W) uint8 class indices, if it has one."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What a decoded picture was made from.

    Attributes:
        image, annotation: absolute paths; of the mask, or of the file that describes the objects.
        digest: 16 bytes that differ whenever a path, a file's size or time of change, the label map or the way
            of reading differs.
    """

    image: Path
    annotation: Path | None
    digest: bytes


def cache_key(record: Record, labels: LabelMap, reading: PixelReading = AS_IT_IS) -> CacheKey:
    """The key of a picture and its annotation as they lie on disk now and are read so.

    Raises:
        DataError: a file is missing.
    """
    digest = hashlib.blake2b(_labels_digest(labels) + repr(reading).encode(), digest_size=16)
    annotation = _annotation_file(record)
    files = [record.image, annotation] if annotation is not None else [record.image]
    if isinstance(record.annotation, Shapes):
        files += region_files(record.annotation)
    for path in files:
        try:
            status = os.stat(path)  # four times as fast as Path.stat
        except FileNotFoundError:
            raise DataError("no such file", where=str(path)) from None
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", where=str(path)) from None
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return CacheKey(record.image, annotation, digest.digest())


def _annotation_file(record: Record) -> Path | None:
    annotation = record.annotation
    if isinstance(annotation, Shapes):
        return annotation.file
    return annotation if isinstance(annotation, Path) else None


@lru_cache(maxsize=4)
def _labels_digest(labels: LabelMap) -> bytes:
    return hashlib.blake2b(json.dumps(labels.to_plain()).encode()).digest()


class Cache(Protocol):
    """Usable from several processes at once, started by fork or spawn, and from threads."""

    def get(self, key: CacheKey, read: Callable[[], Decoded]) -> Decoded:
        """What is kept under the key, else what ``read`` returns. The arrays are read-only."""


def open_cache(kind: Literal["none", "ram", "disk"], folder: Path | None, records: Sequence[Record] = ()) -> Cache:
    """A cache of decoded pictures, filled as they are asked for.

    Args:
        kind: ``none`` keeps nothing. ``ram`` keeps the pictures of ``records`` in memory that data workers share
            (each training process of several has its own).
            ``disk`` keeps any picture as a file that is mapped into memory; it serves later runs, too.
        folder: of ``disk``; None for the user's cache folder. Files there may be deleted at any time.
        records: the pictures that ``ram`` keeps. Their headers are read and the memory is taken at once.

    Raises:
        DataError: there is not enough memory (both figures named), or the folder cannot be written to.
    """
    if kind == "disk":
        return _DiskCache(folder or user_cache_folder("pictures"))
    return _RamCache(records) if kind == "ram" else _NoCache()


def user_cache_folder(name: str) -> Path:
    """Where pixbox keeps what it can make again, below the user's cache folder."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "pixbox" / name
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pixbox" / name


class _NoCache:
    def get(self, key: CacheKey, read: Callable[[], Decoded]) -> Decoded:
        return _read_only(*read())


def _read_only(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> Decoded:
    image.flags.writeable = False
    if mask is not None:
        mask.flags.writeable = False
    return image, mask


@dataclass(frozen=True, slots=True)
class _Slot:
    """The place of one picture in the shared memory: its mask, if it has one, follows it."""

    number: int
    start: int
    size_hw: tuple[int, int]
    has_mask: bool

    @property
    def pixels(self) -> int:
        return self.size_hw[0] * self.size_hw[1]

    @property
    def end(self) -> int:
        return self.start + self.pixels * (4 if self.has_mask else 3)


class _RamCache:
    """One block of shared memory with a slot for each picture, and a table of the keys of the filled slots.

    Two processes that fill the same slot at the same time write the same bytes. A picture that changes
    while the cache is open is read from its file from then on; its slot is never written again, because
    another process may be looking at it.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._slots = _lay_out(records)
        needed = max((slot.end for slot in self._slots.values()), default=0)
        _check_memory(needed, len(self._slots))
        # Tensors, because torch shares their memory with forked and spawned processes on every system, and
        # leaves nothing behind when they are killed.
        self._bytes = _share(torch.empty(needed, dtype=torch.uint8))
        self._digests = _share(torch.zeros(len(self._slots), 16, dtype=torch.uint8))

    def get(self, key: CacheKey, read: Callable[[], Decoded]) -> Decoded:
        slot = self._slots.get((key.image, key.annotation))
        if slot is None:
            return _read_only(*read())
        digest = self._digests.numpy()[slot.number]
        with _FENCE:
            kept = digest.tobytes()
        if kept == key.digest:
            return self._view(slot)
        image, mask = read()
        fits = image.shape == (*slot.size_hw, 3) and (mask is not None) == slot.has_mask
        if not any(kept) and fits:
            block = self._bytes.numpy()
            block[slot.start : slot.start + 3 * slot.pixels] = image.reshape(-1)
            if mask is not None:
                block[slot.start + 3 * slot.pixels : slot.end] = mask.reshape(-1)
            with _FENCE:
                digest[:] = np.frombuffer(key.digest, dtype=np.uint8)
        return _read_only(image, mask)

    def _view(self, slot: _Slot) -> Decoded:
        return _split(self._bytes.numpy()[slot.start : slot.end], slot.size_hw, slot.has_mask)


def _share(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.share_memory_()  # type: ignore[no-untyped-call,no-any-return]


# A lock orders what one processor core writes and another reads: pixels first, then the key that vouches for them.
_FENCE = threading.Lock()


def _split(block: NDArray[np.uint8], size_hw: tuple[int, int], has_mask: bool) -> Decoded:
    """Read-only views of the picture and the mask that lie in a block one behind the other."""
    height, width = size_hw
    image = block[: height * width * 3].reshape(height, width, 3)
    mask = block[height * width * 3 :].reshape(height, width) if has_mask else None
    return _read_only(image, mask)


def _lay_out(records: Sequence[Record]) -> dict[tuple[Path, Path | None], _Slot]:
    files = list(dict.fromkeys((record.image, _annotation_file(record)) for record in records))
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(image_size_hw, [image for image, _ in files]))
    slots: dict[tuple[Path, Path | None], _Slot] = {}
    start = 0
    for number, ((image, mask), size_hw) in enumerate(zip(files, sizes, strict=True)):
        slot = slots[image, mask] = _Slot(number, start, size_hw, mask is not None)
        start = slot.end
    return slots


def _check_memory(needed: int, pictures: int) -> None:
    free = free_shared_memory()
    # The rest is for the training itself.
    if free is not None and needed > 0.9 * free:
        raise DataError(
            f"{pictures:,} decoded pictures need {needed / 1e9:.1f} GB of shared memory; {free / 1e9:.1f} GB are free",
            where="data.cache: ram",
            hint="Set `data.cache: disk` or `none` (in a container, its limits count; Docker: --shm-size).",
        )


def free_shared_memory() -> int | None:
    """Bytes of memory that can still be shared between processes; None where the system does not say."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # No control group, or one without a limit ("max").
    if os.path.isdir("/dev/shm"):
        limits.append(shutil.disk_usage("/dev/shm").free)
    return max(0, min(limits)) if limits else None


_SHAPE = struct.Struct("<8sIIBxxx")
_CHECKSUM = struct.Struct("<I")
_HEADER_BYTES = _SHAPE.size + _CHECKSUM.size
_MAGIC = b"pixbox01"
_OLD_SECONDS = 24 * 3600


class _DiskCache:
    """One file for each picture: a header (magic, height, width, has a mask, CRC-32), the picture, the mask.

    A file appears under its name only when it is complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unfinished = folder / "unfinished"
        # Checksums cost more than the mapping: each process looks once at each file.
        self._checked: set[bytes] = set()
        try:
            self._unfinished.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._unfinished):
                pass
        except OSError as error:
            raise self._cannot_write(error) from None
        self._remove_remains()

    def get(self, key: CacheKey, read: Callable[[], Decoded]) -> Decoded:
        name = key.digest.hex()
        path = self.folder / name[:2] / name[2:]
        kept = self._map(path, key)
        if kept is not None:
            return kept
        image, mask = read()
        self._write(path, image, mask)
        return _read_only(image, mask)

    def _map(self, path: Path, key: CacheKey) -> Decoded | None:
        """The file's arrays; None if there is no such file or it is damaged."""
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return None  # Missing or empty.
        if len(content) < _HEADER_BYTES:
            return None
        magic, height, width, has_mask = _SHAPE.unpack_from(content)
        if magic != _MAGIC or len(content) != _HEADER_BYTES + height * width * (4 if has_mask else 3):
            return None
        block = np.frombuffer(content, dtype=np.uint8, offset=_HEADER_BYTES)
        if key.digest not in self._checked:
            (checksum,) = _CHECKSUM.unpack_from(content, _SHAPE.size)
            if zlib.crc32(block.data, zlib.crc32(content[: _SHAPE.size])) != checksum:
                return None
            self._checked.add(key.digest)
        return _split(block, (height, width), bool(has_mask))

    def _write(self, path: Path, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> None:
        parts = [np.ascontiguousarray(image)] + ([] if mask is None else [np.ascontiguousarray(mask)])
        shape = _SHAPE.pack(_MAGIC, *image.shape[:2], mask is not None)
        checksum = zlib.crc32(shape)
        for part in parts:
            checksum = zlib.crc32(part.data, checksum)
        unfinished = ""
        try:
            for folder in (path.parent, self._unfinished):
                folder.mkdir(parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(dir=self._unfinished)
            with open(descriptor, "wb") as file:
                file.write(shape)
                file.write(_CHECKSUM.pack(checksum))
                for part in parts:
                    file.write(part.data)
            os.replace(unfinished, path)
        except OSError as error:
            if unfinished:
                Path(unfinished).unlink(missing_ok=True)
            # Windows does not replace a file that another process has mapped: that one will do.
            if not (sys.platform == "win32" and isinstance(error, PermissionError) and path.exists()):
                raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> DataError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Make room, set `data.cache_dir` to another disk, or set `data.cache: none`."
            return DataError("no space is left for decoded pictures", where=str(self.folder), hint=hint)
        return DataError(f"decoded pictures cannot be written here ({error.strerror or error})",
                         where=str(self.folder), hint="Set `data.cache_dir`, or `data.cache: none`.")  # fmt: skip

    def _remove_remains(self) -> None:
        """Delete what killed processes left unfinished."""
        for path in self._unfinished.iterdir():
            try:
                if path.stat().st_mtime < time.time() - _OLD_SECONDS:
                    path.unlink()
            except OSError:
                continue  # Another process was quicker.
