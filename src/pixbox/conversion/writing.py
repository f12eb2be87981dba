"""What all writers share: a picture with its label, ready to be written, and the loop over all of them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Generic, Protocol, TypeVar

from pixbox.documents import to_yaml
from pixbox.errors import DataError, Fault
from pixbox.labels import LabelMap
from pixbox.sample import Record

_PORTION = 64
_SHOWN_FAULTS = 10

L_co = TypeVar("L_co", covariant=True)
L_contra = TypeVar("L_contra", contravariant=True)
E = TypeVar("E")
N = TypeVar("N")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Job:
    """A picture that is to be written.

    Attributes:
        split: name of its split.
        name: path below the folder of pictures, with suffix and ``/``; no other picture of the split has its stem.
        record: what it is read from.
    """

    split: str
    name: str
    record: Record

    @property
    def stem(self) -> str:
        """``name`` without suffix."""
        return PurePosixPath(self.name).with_suffix("").as_posix()


@dataclass(frozen=True, eq=False)
class Labelled(Generic[L_co]):
    """A picture with its label as a writer takes it.

    Attributes:
        job: where it belongs.
        picture: the file to copy, or the content of a new one.
        size_hw: of the picture, as it is read.
        label: (H, W) uint8 class indices or ``IGNORE``, or objects in pixels of the picture.
    """

    job: Job
    picture: Path | bytes
    size_hw: tuple[int, int]
    label: L_co


class Writer(Protocol[L_contra, E]):
    """Writes one format."""

    def write(self, item: Labelled[L_contra]) -> E:
        """Write the files of one picture, in any thread; returns what the lists of the split must know of it."""

    def finish(self, entries: Mapping[str, Sequence[E]]) -> list[str]:
        """Write what stands once: lists, documents, the label map. ``entries`` is split -> what ``write`` gave.

        Returns the paths of these files below the folder.
        """


def plan_jobs(records_by_split: Mapping[str, Sequence[Record]], *, one_folder: bool = False) -> list[Job]:
    """A name for every picture: its id without the folders that all pictures of its split have in common.

    ``one_folder``: the pictures of all splits lie in one folder, so the common folders are those of all.
    """
    everything = [record for records in records_by_split.values() for record in records]
    jobs = []
    for split, records in records_by_split.items():
        common = _common_folder(everything if one_folder else records)
        jobs += [Job(split, f"{record.id[len(common) :]}{record.image.suffix}", record) for record in records]
    return jobs


def _common_folder(records: Sequence[Record]) -> str:
    """``photos/trip/``: what the ids of all records start with; may be empty."""
    folders = {os.path.dirname(record.id) for record in records}
    common = os.path.commonpath(folders) if folders and all(folders) else ""
    return f"{common}/" if common else ""


def check_names(names: Mapping[str, Path], refused: str, why: str) -> None:
    """Refuse names that a format cannot hold.

    Args:
        names: as they would be written -> the picture.
        refused: a regular expression of what no name may hold.
        why: what that is, in words.

    Raises:
        DataError: naming the first ten.
    """
    bad = [image for name, image in names.items() if re.search(refused, name) or not _is_text(name)]
    if bad:
        faults = [
            Fault(str(image), f"its name cannot be written: {why}", "Rename it.") for image in bad[:_SHOWN_FAULTS]
        ]
        more = len(bad) - len(faults)
        raise DataError(faults + ([Fault("", f"and {more:,} more like these")] if more else []))


def _is_text(name: str) -> bool:
    """Whether a file name is Unicode; names of another encoding hold lone surrogates."""
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


def put_picture(picture: Path | bytes, path: Path) -> None:
    """Copy a picture byte for byte, or write a new one; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    else:
        shutil.copyfile(picture, path)


def put_text(text: str, path: Path) -> None:
    """Write text as UTF-8 with bare newlines; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def put_labels(labels: LabelMap, folder: Path) -> str:
    """Write ``labels.yaml``; returns its name."""
    put_text(to_yaml(labels.to_plain()), folder / "labels.yaml")
    return "labels.yaml"


def number_text(value: float) -> str:
    """A coordinate: ``12`` if it is whole, else ``12.50``."""
    return f"{value:.0f}" if value == round(value) else f"{value:.2f}"


def write_each(
    jobs: Sequence[Job],
    write: Callable[[Job], tuple[E | None, N]],
    note: Callable[[Job, N], None],
    progress: Callable[[int, int], None],
) -> dict[str, list[E]]:
    """Write every job in threads. Returns split -> what is to be known of each picture, in order.

    Args:
        write: gives what ``Writer.write`` gave, None if the picture is left out; and notes about it.
        note: takes the notes of each job, in order.
        progress: called with the number of jobs done and of all.
    """
    entries: dict[str, list[E]] = {}
    for done, (job, (entry, notes)) in enumerate(zip(jobs, in_threads(write, jobs), strict=True), start=1):
        note(job, notes)
        if entry is not None:
            entries.setdefault(job.split, []).append(entry)
        progress(done, len(jobs))
    return entries


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """``work`` of each item, in order; in portions, so that results and interruptions wait for no long queue."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _PORTION):
            yield from pool.map(work, items[start : start + _PORTION])
