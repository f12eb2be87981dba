"""Which pictures are for training, validation and testing, and what their labels mean."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from pixbox.config import Experiment, read_labels
from pixbox.data.findings import Findings
from pixbox.data.formats import default_labels, find_root, is_excluded, list_records, read_records
from pixbox.errors import ConfigError, DataError, Fault, did_you_mean
from pixbox.labels import LabelMap, check_mask_classes
from pixbox.sample import Record

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Splits:
    """The pictures of an experiment; validation and test may be empty."""

    train: tuple[Record, ...]
    val: tuple[Record, ...] = ()
    test: tuple[Record, ...] = ()

    def named(self) -> dict[SplitName, tuple[Record, ...]]:
        return {"train": self.train, "val": self.val, "test": self.test}


def read_splits(experiment: Experiment) -> Splits:
    """Read the lists or folders of all splits, leave out ``data.exclude``, and hold out ``data.val_fraction``.

    Which pictures are held out follows from their ids and ``training.seed`` alone; at least one is, and at
    least one stays for training. Of each class of whole pictures, the same share is held out.

    Raises:
        DataError: the errors of all splits at once; an ``exclude`` pattern that matches nothing; no picture left.
        ConfigError: folders are given for a format that knows its own.
    """
    splits, findings = list_splits(experiment)
    findings.raise_errors()
    if not splits.train:
        raise _nothing_left("train")
    return splits


def list_splits(experiment: Experiment) -> tuple[Splits, Findings]:
    """The same, but what is wrong with lists, folders and single pictures is a finding, and train may be empty.

    Raises:
        DataError: the data root is missing; an ``exclude`` pattern that matches nothing.
        ConfigError: folders are given for a format that knows its own.
    """
    data = experiment.data
    find_root(data, experiment.origin)
    findings = Findings()
    ids: set[str] = set()
    listed: dict[SplitName, list[Record]] = {"train": [], "val": [], "test": []}
    is_whole = True
    for name in listed:
        source = getattr(data, name)
        if source is None:
            continue
        try:
            listing = list_records(data, source, experiment.origin, experiment.task)
        except DataError as error:
            findings.add_error(error)
            is_whole = False
            continue
        listed[name] = listing.records
        findings.extend(listing.findings, split=name)
        ids |= listing.ids
    if is_whole:
        _check_patterns(data.exclude, ids)
    train, val = listed["train"], listed["val"]
    if data.val_fraction > 0 and train:
        train, val = _hold_out(train, data.val_fraction, experiment.training.seed)
    return Splits(tuple(train), tuple(val), tuple(listed["test"])), findings


def read_split(experiment: Experiment, split: SplitName) -> tuple[Record, ...]:
    """The same pictures as ``read_splits`` gives for one split; the lists of the others need not exist.

    Raises:
        ConfigError: the split is not configured.
        DataError: as ``read_splits``, but patterns of ``data.exclude`` may be meant for other splits.
    """
    data = experiment.data
    is_divided = split != "test" and data.val_fraction > 0
    source = data.train if is_divided else getattr(data, split)
    if source is None:
        raise ConfigError(f"`data.{split}` is not set, so there is no {split} split", where="data",
                          hint=f"Name it: --set data.{split}=...")  # fmt: skip
    records = read_records(data, source, experiment.origin, experiment.task)
    if not records:
        raise _nothing_left(split)
    if not is_divided:
        return tuple(records)
    train, val = _hold_out(records, data.val_fraction, experiment.training.seed)
    return tuple(train if split == "train" else val)


def labels_of(experiment: Experiment) -> LabelMap:
    """The label map of the configuration, or the format's own.

    Raises:
        ConfigError: there is neither, the file of the labels cannot be read, or it has too many classes for masks.
        DataError: the data set's own file of labels cannot be read.
    """
    data = experiment.data
    sources = [source for source in (data.train, data.val, data.test) if source is not None]
    labels = read_labels(Path(data.labels)) if isinstance(data.labels, str) else data.labels
    labels = labels or default_labels(data, experiment.task, sources, experiment.origin)
    if labels is None:
        if experiment.task != "segmentation":
            raise ConfigError("data.labels: the data name no class", hint="Write the names: labels: {classes: [a, b]}")
        raise ConfigError(f"data.labels: `format: {data.format}` has no label map of its own; write what the mask "
                          "values mean, for example:", hint=_EXAMPLE)  # fmt: skip
    if experiment.task == "segmentation":
        check_mask_classes(labels)
    return labels


_EXAMPLE = """\
labels:
  classes: [{name: background, value: 0}, {name: road, value: 1, color: "#804080"}]
  ignore: [255]"""


def _check_patterns(patterns: Sequence[str], ids: Set[str]) -> None:
    """Every pattern of ``data.exclude`` must match a picture: one that does not is a slip of the pen."""
    faults = []
    for pattern in patterns:
        if not any(is_excluded(id_, [pattern]) for id_ in ids):
            what = f'"{pattern}" matches no picture id (path below `data.root`, without suffix)'
            faults.append(Fault("data.exclude", what, did_you_mean(pattern, sorted(ids))))
    if faults:
        raise DataError(faults)


def _nothing_left(split: SplitName) -> DataError:
    return DataError(f"it leaves no picture in the {split} split", where="data.exclude", hint="Exclude fewer.")


def _hold_out(records: Sequence[Record], fraction: float, seed: int) -> tuple[list[Record], list[Record]]:
    """(training, validation) parts of the records, each in the order of ``records``."""
    if len(records) < 2:
        raise DataError("one picture cannot be split into training and validation", where="data.val_fraction",
                        hint="Give more pictures, or `val: ...`, or leave both out.")  # fmt: skip
    count = min(max(1, round(len(records) * fraction)), len(records) - 1)
    # A draw of each name's own: where pictures come or go, nearly all others stay where they were.
    draws = {record.id: blake2b(f"{seed}\0{record.id}".encode(errors="surrogateescape")).digest() for record in records}
    of_class: dict[str, list[str]] = {}
    for record in records:
        of_class.setdefault(record.annotation if isinstance(record.annotation, str) else "", []).append(record.id)
    # The place of a picture among those of its class, 0 to 1: where it is low, the picture is held out.
    place: dict[str, float] = {}
    for members in of_class.values():
        for rank, id_ in enumerate(sorted(members, key=draws.__getitem__)):
            place[id_] = (rank + 0.5) / len(members)
    held_out = set(sorted(place, key=lambda id_: (place[id_], draws[id_]))[:count])
    train = [record for record in records if record.id not in held_out]
    return train, [record for record in records if record.id in held_out]
