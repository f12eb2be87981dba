"""Which pictures are for training, validation and testing, and what their labels mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np

from pixbox.config import Experiment, FolderPair, read_labels
from pixbox.data.formats import default_labels, find_root, read_records
from pixbox.errors import ConfigError, DataError, Fault, did_you_mean
from pixbox.labels import LabelMap
from pixbox.sample import Record


SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Splits:
    """The pictures of an experiment; validation and test may be empty."""

    train: tuple[Record, ...]
    val: tuple[Record, ...] = ()
    test: tuple[Record, ...] = ()


def read_splits(experiment: Experiment) -> Splits:
    """Read the lists or folders of all splits, leave out ``data.exclude``, and hold out ``data.val_fraction``.

    Which pictures are held out follows from their ids and ``training.seed`` alone; at least one is, and at
    least one stays for training.

    Raises:
        DataError: the faults of all splits at once; an ``exclude`` pattern that matches nothing; no picture left.
        ConfigError: folders are given for a format that knows its own.
    """
    return _read_splits(experiment, all_patterns_match=True)


def _read_splits(experiment: Experiment, *, all_patterns_match: bool) -> Splits:
    data = experiment.data
    find_root(data, experiment.origin)
    read: list[list[Record]] = []
    faults: list[Fault] = []
    for source in (data.train, data.val, data.test):
        try:
            read.append(_read(experiment, source))
        except DataError as error:
            faults += (fault for fault in error.faults if fault not in faults)
    if faults:
        raise DataError(faults)
    train, val, test = _without(data.exclude, read, all_patterns_match)
    if not train:
        raise DataError("no picture is left for training", where="data.exclude", hint="It leaves out every one.")
    if data.val_fraction > 0:
        train, val = _hold_out(train, data.val_fraction, experiment.training.seed)
    return Splits(tuple(train), tuple(val), tuple(test))


def read_split(experiment: Experiment, split: SplitName) -> tuple[Record, ...]:
    """Read one split; lists of the others need not exist.

    Raises:
        ConfigError: the split is not configured.
        DataError: as `read_splits`.
    """
    data = experiment.data
    held_out = split == "val" and data.val_fraction > 0
    if getattr(data, split) is None and not held_out:
        what = f"`data.{split}` is not set, so there is no {split} split"
        raise ConfigError(what, where="data", hint=f"Name it: --set data.{split}=...")
    if split == "train" or held_out:
        only = {"val": None, "test": None}
    else:
        only = {"train": getattr(data, split), "val": None, "test": None, "val_fraction": 0.0}
    # Patterns for other splits match nothing here, and need not.
    chosen = experiment.model_copy(update={"data": data.model_copy(update=only)})
    splits = _read_splits(chosen, all_patterns_match=False)
    return splits.val if held_out else splits.train


def labels_of(experiment: Experiment) -> LabelMap:
    """The label map of the configuration, or the format's own.

    Raises:
        ConfigError: there is neither, or the file of the labels cannot be read.
        DataError: the data set's own file of labels cannot be read.
    """
    data = experiment.data
    if isinstance(data.labels, str):
        return read_labels(Path(data.labels))
    labels = data.labels or default_labels(data, experiment.origin)
    if labels is None:
        raise ConfigError(f"data.labels: `format: {data.format}` has no label map of its own; write what the mask "
                          "values mean, for example:", hint=_EXAMPLE)  # fmt: skip
    return labels


_EXAMPLE = """\
labels:
  classes: [{name: background, value: 0}, {name: road, value: 1, color: "#804080"}]
  ignore: [255]"""


def _read(experiment: Experiment, source: str | FolderPair | None) -> list[Record]:
    return [] if source is None else read_records(experiment.data, source, experiment.origin)


def _without(
    patterns: Iterable[str], splits: Sequence[list[Record]], all_patterns_match: bool
) -> list[list[Record]]:
    """The splits without the pictures whose ids match a pattern (``*``, ``?``, ``[...]``)."""
    ids = [record.id for records in splits for record in records]
    excluded: set[str] = set()
    faults: list[Fault] = []
    for pattern in patterns:
        matched = [id_ for id_ in ids if fnmatchcase(id_, pattern)]
        if not matched and all_patterns_match:
            what = f'"{pattern}" matches no picture id (path below `data.root`, without suffix)'
            faults.append(Fault("data.exclude", what, did_you_mean(pattern, ids)))
        excluded.update(matched)
    if faults:
        raise DataError(faults)
    return [[record for record in records if record.id not in excluded] for records in splits]


def _hold_out(records: Sequence[Record], fraction: float, seed: int) -> tuple[list[Record], list[Record]]:
    """(training, validation) parts of the records, each in the order of ``records``."""
    if len(records) < 2:
        raise DataError("one picture cannot be split into training and validation", where="data.val_fraction",
                        hint="Give more pictures, or `val: ...`, or leave both out.")  # fmt: skip
    count = min(max(1, round(len(records) * fraction)), len(records) - 1)
    ids = sorted(record.id for record in records)
    # Raw bits: NumPy promises them for ever, but not what `permutation` makes of them; a resumed run must
    # find the same pictures held out under any version.
    keys = np.random.PCG64(seed).random_raw(len(ids))
    held_out = {ids[index] for index in np.argsort(keys, kind="stable")[:count]}
    train = [record for record in records if record.id not in held_out]
    return train, [record for record in records if record.id in held_out]
