"""Which pictures are for training, validation and testing, and what their labels mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np

from pixbox.config import Experiment, read_labels
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
    data = experiment.data
    find_root(data, experiment.origin)
    read: list[list[Record]] = []
    faults: list[Fault] = []
    for source in (data.train, data.val, data.test):
        try:
            read.append([] if source is None else read_records(data, source, experiment.origin))
        except DataError as error:
            faults += (fault for fault in error.faults if fault not in faults)
    if faults:
        raise DataError(faults)
    _check_patterns(data.exclude, [record.id for records in read for record in records])
    train, val, test = (_without(data.exclude, records) for records in read)
    if not train:
        raise _nothing_left("train")
    if data.val_fraction > 0:
        train, val = _hold_out(train, data.val_fraction, experiment.training.seed)
    return Splits(tuple(train), tuple(val), tuple(test))


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
    records = _without(data.exclude, read_records(data, source, experiment.origin))
    if not records:
        raise _nothing_left(split)
    if not is_divided:
        return tuple(records)
    train, val = _hold_out(records, data.val_fraction, experiment.training.seed)
    return tuple(train if split == "train" else val)


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


def _check_patterns(patterns: Sequence[str], ids: Sequence[str]) -> None:
    """Every pattern of ``data.exclude`` must match a picture: one that does not is a slip of the pen."""
    faults = []
    for pattern in patterns:
        if not any(fnmatchcase(id_, pattern) for id_ in ids):
            what = f'"{pattern}" matches no picture id (path below `data.root`, without suffix)'
            faults.append(Fault("data.exclude", what, did_you_mean(pattern, ids)))
    if faults:
        raise DataError(faults)


def _without(patterns: Sequence[str], records: Sequence[Record]) -> list[Record]:
    """The records whose ids match no pattern (``*``, ``?``, ``[...]``)."""
    return [record for record in records if not any(fnmatchcase(record.id, pattern) for pattern in patterns)]


def _nothing_left(split: SplitName) -> DataError:
    return DataError(f"it leaves no picture in the {split} split", where="data.exclude", hint="Exclude fewer.")


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
