"""From a bare folder to a configuration of its data: what it may be, what proves right, and how sure that is."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixbox.auditing.candidates import LAYOUTS, Candidate, LayoutKind, find_candidates, folder_name, pictures_beside
from pixbox.auditing.folder_pairs import find_odd_names, is_aside
from pixbox.auditing.result import Guess
from pixbox.auditing.survey import Folder, Survey, joined, suffix_of
from pixbox.config import DataConfig, FolderPair, Task
from pixbox.data.formats import Source, list_records
from pixbox.data.splits import SplitName
from pixbox.errors import DataError, PixboxError
from pixbox.sample import MapSegment, Record, Shapes

VAL_FRACTION = 0.2
# Two layouts whose shares differ by less explain the folder equally well.
_TIE = 0.1
# A layout that explains more is taken, though folders of classes explain all.
_ENOUGH = 0.3
_SHOWN = 6
_SHOWN_RIVALS = 2
_MOST_CONFIDENCE = 0.99
_RIVAL = 0.8
_LEAST_LISTED = 10
_OTHER_SET = 0.25
_NOTE = re.compile(r"readme|licen[cs]e|about|citation|notes|requirements|changelog", re.IGNORECASE)
_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a bare folder was found to be.

    Attributes:
        data: format, root (absolute), train, val, test and val_fraction; all else as by default, no labels.
        task: what its labels are good for.
        guesses: about "layout", "splits" and "task".
    """

    data: DataConfig
    task: Task
    guesses: tuple[Guess, ...]


@dataclass(frozen=True, slots=True)
class _Proven:
    """A candidate as its reader lists it.

    Attributes:
        rank: place of its kind in ``LAYOUTS``.
        labelled: the labelled pictures of each part; parts without any are not there.
        listed: how many pictures the reader found in all, the faulty ones too.
        beside: how many pictures the folder holds, labelled or not.
        label_folders: folders below the top in which the labels lie.
    """

    kind: LayoutKind
    candidate: Candidate
    rank: int
    labelled: Mapping[SplitName, Sequence[Record]]
    listed: int
    beside: int
    label_folders: frozenset[str]

    @property
    def usable(self) -> int:
        return sum(map(len, self.labelled.values()))

    @property
    def score(self) -> float:
        """The share that counts: of the listed pictures where lists choose, else of all."""
        if not self.candidate.is_listed:
            return self.usable / max(self.listed, self.beside)
        # Pascal VOC lists a sixth of its pictures for segmentation; a list of a few is one of examples.
        return self.usable / self.listed * min(1.0, _LEAST_LISTED * self.usable / max(self.usable, self.beside))


def infer_layout(folder: Path) -> Layout:
    """Work out how the labelled pictures of a folder lie on disk.

    Every directory is listed once; of files, the beginnings of a few are read, and then what the reader of the
    most likely formats reads to list its pictures.

    Raises:
        DataError: no such folder; nothing is recognised, with what was found and what is known; several data sets.
    """
    top = Path(os.path.abspath(folder))
    if not top.is_dir():
        what = "this is a file, not a folder" if top.exists() else "no such folder"
        raise DataError(what, where=str(folder), hint="Name the folder that holds the pictures and their labels.")
    survey = Survey(top)
    candidates = _ranked(survey)
    best = _best(survey, candidates)
    if best is None:
        raise _nothing(survey)
    rivals = [(kind, rival) for _, kind, rival in candidates if _is_rival(rival, best)]
    _check_single(survey, best, candidates)
    sources, val_fraction, splits = _parts(best)
    task, about_task = _task(best.labelled)
    data = DataConfig(
        format=best.candidate.format,
        root=_root(survey, best.candidate),
        train=sources["train"],
        val=sources.get("val"),
        test=sources.get("test"),
        val_fraction=val_fraction,
    )
    return Layout(data, task, (_about_layout(survey, best, rivals), splits, about_task))


_Ranked = tuple[int, LayoutKind, Candidate]


def _ranked(survey: Survey) -> list[_Ranked]:
    """All candidates, the most promising first. Any folder of folders is one of classes, if nothing else."""
    found = [(LAYOUTS.index(kind), kind, candidate) for kind, candidate in find_candidates(survey)]
    return sorted(
        found, key=lambda item: (_is_last(item[2]), -round(item[2].most, 1), item[0], -item[2].evidence, -item[2].most)
    )


def _is_last(candidate: Candidate) -> bool:
    return candidate.format == "imagefolder"


def _best(survey: Survey, candidates: Sequence[_Ranked]) -> _Proven | None:
    """The candidate that explains most of the folder; of those that explain about as much, the most specific.

    One that cannot win is not listed: that may cost minutes.
    """
    proven: list[_Proven] = []
    for rank, kind, candidate in candidates:
        best = _winner(proven)
        if best is not None:
            can_beat = candidate.most > best.score + _TIE
            is_better = (rank, -candidate.evidence) < (best.rank, -best.candidate.evidence)
            can_tie = candidate.most > best.score - _TIE and is_better
            if not (can_beat or can_tie) or (_is_last(candidate) and best.score > _ENOUGH):
                continue
        found = _prove(survey, rank, kind, candidate)
        if found is not None:
            proven.append(found)
    return _winner(proven)


def _winner(proven: Sequence[_Proven]) -> _Proven | None:
    most = max((found.score for found in proven), default=0.0)
    equal = [found for found in proven if found.score >= most - _TIE]
    return min(equal, key=lambda found: (found.rank, -found.candidate.evidence, -found.score), default=None)


def _prove(survey: Survey, rank: int, kind: LayoutKind, candidate: Candidate) -> _Proven | None:
    """Have the reader list the candidate; None if it finds no labelled picture."""
    data = DataConfig(format=candidate.format, root=_root(survey, candidate))
    labelled: dict[SplitName, Sequence[Record]] = {}
    listed = 0
    for split, source in candidate.sources.items():
        try:
            listing = list_records(data, source)
        except PixboxError:
            continue
        records = [record for record in listing.records if _is_labelled(record)]
        if records:
            labelled[split] = records
            listed += max(len(listing.ids), len(listing.records))
    if not labelled:
        return None
    files = [pair for records in labelled.values() for record in records for pair in _files(survey, record)]
    folders = frozenset(os.path.dirname(label) for _, label in files)
    return _Proven(kind, candidate, rank, labelled, listed, pictures_beside(survey, files), folders)


def _is_labelled(record: Record) -> bool:
    annotation = record.annotation
    # A reader for which a missing file means a picture without objects names the picture itself.
    return bool(annotation.shapes) or annotation.file != record.image if isinstance(annotation, Shapes) else True


def _files(survey: Survey, record: Record) -> Iterable[tuple[str, str]]:
    """(picture, label) for each file that a record's labels lie in, below the top."""
    start = len(os.path.join(survey.top, ""))
    picture = str(record.image)[start:]
    annotation = record.annotation
    if isinstance(annotation, Path):
        yield picture, str(annotation)[start:]
    elif isinstance(annotation, Shapes):
        yield picture, str(annotation.file)[start:]
        for shape in annotation.shapes:
            region = shape.region.file if isinstance(shape.region, MapSegment) else shape.region
            if isinstance(region, Path):
                yield picture, str(region)[start:]


def _root(survey: Survey, candidate: Candidate) -> str:
    return os.path.normpath(survey.top / candidate.root)


def _is_rival(rival: Candidate, best: _Proven) -> bool:
    """Whether a candidate takes other labels, for as many pictures."""
    if rival is best.candidate or _is_last(rival) or rival.most < best.score - _TIE:
        return False
    places, folders = _label_places(rival), best.label_folders
    if not places:
        return rival.format != best.candidate.format
    return not any(
        is_aside(place) or {place, os.path.dirname(place)} & folders or _is_above(place, folders) for place in places
    )


def _label_places(candidate: Candidate) -> set[str]:
    """Folders and files of labels, below the top, that a candidate names."""
    sources = [source for source in candidate.sources.values() if not isinstance(source, str)]
    return {joined(candidate.root, s.masks if isinstance(s, FolderPair) else s.annotations) for s in sources}


def _is_above(place: str, folders: Iterable[str]) -> bool:
    return not place or any(folder.startswith(f"{place}/") for folder in folders)


def _check_single(survey: Survey, best: _Proven, candidates: Sequence[_Ranked]) -> None:
    """Refuse a folder of several data sets: one would be taken by chance.

    Raises:
        DataError: a folder beside that of the best candidate holds another data set, a quarter as large or more.
    """
    sets = {best.candidate.root: best}
    for rank, kind, candidate in candidates:
        is_apart = not any(f"{a}/".startswith(f"{b}/") or b in ("", "..") for a, b in _both_ways(candidate.root, sets))
        if is_apart and not _is_last(candidate):
            found = _prove(survey, rank, kind, candidate)
            if found is not None and found.usable >= _OTHER_SET * best.usable:
                sets[candidate.root] = found
    if len(sets) > 1:
        shown = [f"{root}/ ({found.kind.title}, {found.usable:,} pictures)" for root, found in sets.items()][:_SHOWN]
        more = " and more" if len(sets) > _SHOWN else ""
        raise DataError(f"several data sets lie in it: {', '.join(shown)}{more}", where=str(survey.top),
                        hint="Name one of them. If they are parts of one, write a list of `image;label` lines, "
                        "or bring them into two folders.")  # fmt: skip


def _both_ways(root: str, others: Iterable[str]) -> Iterable[tuple[str, str]]:
    for other in others:
        yield root, other
        yield other, root


# What is said of the outcome.


def _about_layout(survey: Survey, best: _Proven, rivals: Sequence[tuple[LayoutKind, Candidate]]) -> Guess:
    candidate = best.candidate
    if candidate.is_listed:
        total, share = best.listed, best.usable / best.listed
        figures = f"{best.usable:,} of {total:,} listed pictures"
    else:
        own = {split: _own(survey, best, split) for split in best.labelled}
        is_told = all(folder for folder, _ in own.values()) and len(dict(own.values())) == len(own)
        total = max(best.usable, sum(dict(own.values()).values()) if is_told else best.beside)
        share = (best.usable / total + best.usable / max(best.usable, best.beside)) / 2
        figures = _figures(best, own) if is_told else f"{best.usable:,} of {total:,} pictures"
    reason = f"{figures} have {candidate.labels}"
    if best.beside > total:
        reason += f"; the folder holds {best.beside:,} pictures in all"
    confidence = share * min(1.0, candidate.evidence) * (_RIVAL if rivals else 1.0)
    others = dict.fromkeys(f"{kind.title} ({rival.labels})" for kind, rival in rivals)
    reason += f"; there are other labels too: {', '.join(list(others)[:_SHOWN_RIVALS])}" if others else ""
    return Guess("layout", best.kind.title, min(confidence, _MOST_CONFIDENCE), reason)


def _own(survey: Survey, best: _Proven, split: SplitName) -> tuple[str, int]:
    """The folder of a part's pictures, and how many lie in it."""
    source = best.candidate.sources[split]
    if isinstance(source, str):
        return "", len(best.labelled[split])
    place = joined(best.candidate.root, source.images)
    files = [pair for record in best.labelled[split] for pair in _files(survey, record)]
    return source.images, max(pictures_beside(survey, files, place), len(best.labelled[split]))


def _figures(best: _Proven, own: Mapping[SplitName, tuple[str, int]]) -> str:
    """``367 of 367 pictures in train/ and 101 of 101 in val/``."""
    counts = [
        f"{len(best.labelled[split]):,} of {total:,} {'' if index else 'pictures '}in {folder_name(folder)}"
        for index, (split, (folder, total)) in enumerate(own.items())
    ]
    return " and ".join(counts)


def _parts(best: _Proven) -> tuple[dict[SplitName, Source], float, Guess]:
    """What is for training, validation and testing; what is held out if nothing is for validation."""
    sources = {split: best.candidate.sources[split] for split in _SPLITS if split in best.labelled}
    counts = {split: len(best.labelled[split]) for split in sources}
    unlabelled = [split for split in best.candidate.sources if split not in sources]
    notes = [f"{split} is left aside: no picture of it has a label" for split in unlabelled]
    if "train" not in sources:
        first = next(iter(sources))
        sources["train"], counts["train"] = sources.pop(first), counts.pop(first)
        notes.append(f"there is no training part, so {first} is trained on")
    figures = ", ".join(f"{counts[split]:,} pictures for {split}" for split in _SPLITS if split in counts)
    reason = "; ".join([figures, *notes])
    if "val" in sources:
        names = [split for split in _SPLITS if split in sources]
        return sources, 0.0, Guess("splits", " and ".join([", ".join(names[:-1]), names[-1]]), 0.95, reason)
    reason += "; nothing is marked as validation part"
    if counts["train"] < 2:
        return sources, 0.0, Guess("splits", "train alone: one picture cannot be divided", 0.9, reason)
    held_out = f"{VAL_FRACTION:.0%} of train are held out for validation"
    return sources, VAL_FRACTION, Guess("splits", held_out, 0.9, reason)


def _task(labelled: Mapping[SplitName, Sequence[Record]]) -> tuple[Task, Guess]:
    annotations = [record.annotation for records in labelled.values() for record in records]
    if any(isinstance(annotation, str) for annotation in annotations):
        count = len({annotation for annotation in annotations if isinstance(annotation, str)})
        return "classification", Guess("task", "classification", 0.95, f"each picture lies in one of {count} folders")
    if any(isinstance(annotation, Path) for annotation in annotations):
        return "segmentation", Guess("task", "segmentation", _MOST_CONFIDENCE, "the labels are masks")
    shapes = [shape for annotation in annotations if isinstance(annotation, Shapes) for shape in annotation.shapes]
    outlined = sum(shape.region is not None for shape in shapes)
    task: Task = "segmentation" if outlined > len(shapes) / 2 else "detection"
    share = max(outlined, len(shapes) - outlined) / max(1, len(shapes))
    reason = f"{outlined:,} of {len(shapes):,} objects have an outline, the others a box alone"
    return task, Guess("task", task, min(share, _MOST_CONFIDENCE), reason)


# Nothing recognised.


def _nothing(survey: Survey) -> DataError:
    """Say what lies in a folder that is not recognised, and what would be."""
    pictures = sum(folder.images for folder in survey.folders.values())
    known = "\n".join(f"  {kind.title}: {kind.example}" for kind in LAYOUTS)
    hint = f"Layouts that are recognised:\n{known}\nOther folders can be named in a configuration; see docs/data.md."
    where = str(survey.top)
    if not pictures:
        return DataError(f"there are no pictures in it; it holds {_census(survey)}", where=where, hint=hint)
    odd = find_odd_names(survey)
    if odd:
        first = f"pictures called {odd[0]} and masks called {odd[1]} seem to belong together, but cannot be matched"
        way_out = (
            "A mask must have its picture's name, or that name and an end, and not lie beside it under the same name. "
            "Rename or move one of them, or write a list of `image;label` lines (train.txt)."
        )
        return DataError(first, where=where, hint=f"{way_out}\n{hint}")
    if not any(_may_label(folder) for folder in survey.folders.values()):
        what = f"holds {pictures:,} pictures and no labels: no masks of the pictures' names, no lists, no " \
               "JSON, XML or text files"  # fmt: skip
        return DataError(what, where=where, hint=hint)
    return DataError(
        f"no layout of labelled pictures is recognised; it holds {_census(survey)}", where=where, hint=hint
    )


def _may_label(folder: Folder) -> bool:
    """Whether there is a file that could be a label: no picture, nor a word about the data set."""
    return len(folder.pictures) > folder.images or any(not _NOTE.match(name) for name in folder.documents)


def _census(survey: Survey) -> str:
    """``images/: 120 pictures; meta/: 3 .json``: the folders with most files."""
    sizes = {path: len(f.pictures) + len(f.documents) + f.others for path, f in survey.folders.items()}
    largest = sorted((path for path in sizes if sizes[path]), key=lambda path: -sizes[path])
    lines = []
    for path in largest[:_SHOWN]:
        folder = survey.folders[path]
        kinds = Counter(suffix_of(name) for name in (*folder.pictures, *folder.documents))
        parts = [f"{count:,} {kind}" for kind, count in kinds.most_common(4)]
        parts += [f"{folder.others:,} other files"] if folder.others else []
        lines.append(f"{folder_name(path or '.')}: {', '.join(parts)}")
    more = f"; and {len(largest) - _SHOWN:,} more folders" if len(largest) > _SHOWN else ""
    return ("; ".join(lines) or "no files") + more
