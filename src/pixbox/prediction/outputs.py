"""From folders of pictures and videos to files of predictions."""

from __future__ import annotations

import errno
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pixbox.config import Task
from pixbox.data.dataset import pixel_reading
from pixbox.data.images import IMAGE_SUFFIXES, image_size_hw
from pixbox.data.rasters import open_raster
from pixbox.errors import ConfigError, DataError, Fault, PixboxError
from pixbox.files import write_file
from pixbox.labels import LabelMap
from pixbox.prediction.large import Areas, is_for_parts, predict_file
from pixbox.prediction.pipeline import RESULT_SUFFIX, THREADS, InOrder, bytes_of, in_groups, most_bytes
from pixbox.prediction.predictor import Predictor, Prepared
from pixbox.prediction.video import VIDEO_SUFFIXES, frame_count, predict_video, stills
from pixbox.results import EXTRAS, Detections, Prediction, extra_file, needs_probabilities, tables
from pixbox.results.rows import Row, area_rows, write_table

FRAMES = "frames"
"""Asked for like one of ``results.EXTRAS``: the result of every frame of a video, as a file."""
_ALL_WILL_FAIL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""What the next file would meet as well: no space, no more of it for this user, nothing may be written."""


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True, slots=True)
class Shard:
    """A share of the pictures: every ``count``-th, from the one at ``index`` on, which counts from 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def read(cls, text: str) -> Shard:
        """``2/3``: the second of three.

        Raises:
            ConfigError: it is no share.
        """
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f'"{text}" is no share of the pictures', where="--shard",
                              hint="Write i/n: 1/3, 2/3 and 3/3 are the shares of three processes.")  # fmt: skip
        return cls(int(match[1]) - 1, int(match[2]))

    def file(self, path: Path) -> Path:
        """Where this share writes what is one file for all pictures: ``areas.csv``, or ``areas_2of3.csv``."""
        return path if self.count == 1 else path.with_stem(f"{path.stem}_{self.index + 1}of{self.count}")


def find_pictures(inputs: Sequence[Path], out: Path) -> dict[Path, Path]:
    """The pictures and videos that files and folders stand for, each with its path relative to the folder named.

    Folders are searched through all levels, but not in ``out``: what an earlier prediction wrote there is no
    input. Sorted; every picture once.

    Raises:
        DataError: an input does not exist; a folder holds no picture, or one in it cannot be searched.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        if given.is_dir():
            pictures = list(_search(given, out))
            if not pictures:
                looked_for = ", ".join(sorted((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)))
                raise DataError(f"no picture in this folder (looked for {looked_for})", where=str(given))
            found |= {picture: picture.relative_to(given) for picture in pictures}
        elif given.is_file():
            found[given] = Path(given.name)
        else:
            raise DataError("no such file or folder", where=str(given))
    return dict(sorted(found.items()))


def _search(folder: Path, out: Path) -> Iterator[Path]:
    results = os.path.realpath(out)
    known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    for here, folders, names in os.walk(folder, onerror=_cannot_search):
        at_results = os.path.realpath(here) == os.path.dirname(results)
        folders[:] = [name for name in folders if not (at_results and name == os.path.basename(results))]
        yield from (
            path
            for name in names
            if name.lower().endswith(known) and Path(name).suffix and (path := Path(here, name)).is_file()
        )


def _cannot_search(error: OSError) -> None:
    """Else ``os.walk`` would leave the folder out without a word."""
    raise DataError(f"this folder cannot be searched: {error.strerror or error}", where=str(error.filename),
                    hint="Change its rights, or name the folders beside it.")  # fmt: skip


def output_paths(pictures: Mapping[Path, Path], out: Path, extras: Sequence[str], task: Task) -> dict[Path, Path]:
    """Picture -> path of its result below ``out``, where it mirrors the picture's relative path.

    ``a/x.jpg`` becomes ``a/x.png``; where ``a/x.png`` is there too, ``a/x.jpg.png`` and ``a/x.png.png``. A video
    ``a/x.mp4`` becomes ``a/x_overlay.mp4``.

    Raises:
        DataError: two results, or a result and one of the ``extras``, would have the same path, or would be written
            over a picture.
    """
    stems = Counter(relative.with_suffix("") for relative in pictures.values())
    # One look at each folder instead of one at each of its files, which takes seconds for thousands.
    real_folder = cache(os.path.realpath)
    inputs = {
        os.path.realpath(picture) if picture.is_symlink() else os.path.join(real_folder(picture.parent), picture.name)
        for picture in pictures
    }
    paths: dict[Path, Path] = {}
    owner: dict[Path, Path] = {}
    of_all = {out / "predictions.json", out / "predictions_images.json"}
    for picture, relative in pictures.items():
        stem = relative.name if stems[relative.with_suffix("")] > 1 else relative.stem
        suffix = "_overlay.mp4" if is_video(picture) else RESULT_SUFFIX[task]
        paths[picture] = out / relative.parent / f"{stem}{suffix}"
        for path in files_of(picture, paths[picture], extras):
            if path in owner or path in of_all:
                other = f"so would that of {owner[path]}" if path in owner else "what is found in all pictures, too"
                raise DataError(
                    f"its result would be written to {path}, and {other}",
                    where=str(picture),
                    hint="Predict the two with different --out." if path in owner else "Give it another name.",
                )
            if os.path.join(real_folder(path.parent), path.name) in inputs:
                raise DataError(
                    "this picture would be overwritten by a result",
                    where=str(path),
                    hint="Write the results into another folder: --out.",
                )
            owner[path] = picture
    return paths


def files_of(picture: Path, path: Path, extras: Sequence[str]) -> list[Path]:
    """All files of a result: the one at ``path`` and those beside it. The frames of a video are not among them."""
    if is_video(picture):
        return [path]
    return [path, *(extra_file(path, extra) for extra in of_pictures(extras))]


def of_pictures(extras: Sequence[str]) -> list[str]:
    """Those of the extras that are a file for each picture."""
    return [extra for extra in dict.fromkeys(extras) if extra != FRAMES and not EXTRAS[extra].table]


@dataclass(slots=True)
class Outcome:
    """What came of some pictures. The keys are pictures.

    Attributes:
        files: what was written.
        skipped: what was there already.
        failed: what is wrong with those that could not be read, or their results written.
        boxes: for ``predictions.json``: what was saved of each, whenever that was.
        rows: for the extra that is a table, likewise.
    """

    files: dict[Path, Path] = field(default_factory=dict)
    skipped: dict[Path, Path] = field(default_factory=dict)
    failed: dict[Path, tuple[Fault, ...]] = field(default_factory=dict)
    boxes: dict[Path, dict[str, Any]] = field(default_factory=dict)
    rows: dict[Path, Sequence[Row]] = field(default_factory=dict)

    def joined(self, others: Sequence[Outcome], order: Sequence[Path]) -> Outcome:
        """This and what came of other pictures, in the order given."""

        def merged(name: str) -> dict[Path, Any]:
            every = {key: value for one in (self, *others) for key, value in getattr(one, name).items()}
            return {picture: every[picture] for picture in order if picture in every}

        return Outcome(*(merged(part.name) for part in fields(Outcome)))


def predict_files(
    predictor: Predictor,
    paths: Mapping[Path, Path],
    extras: Sequence[str],
    *,
    skip_existing: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Predict each picture and save it; one that cannot be read is a fault in the result and stops no other.

    ``paths`` maps pictures to files, ``extras`` are of ``results.EXTRAS``, or ``FRAMES``. Reading, the network and
    writing go on at the same time, with a few pictures of memory. ``skip_existing`` leaves out what has all its files.
    ``progress`` counts pictures, and frames of videos.

    Raises:
        PixboxError: nothing more can be written. What is written is whole.
    """
    work = _Work(predictor, extras, progress)
    with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS) as writers:
        work.run(paths, skip_existing, readers, writers)
    return work.outcome.joined([], list(paths))


class _Work:
    """What is done for one picture after the other, and what has come of them so far."""

    def __init__(self, predictor: Predictor, extras: Sequence[str], progress: Callable[[int, int], None]) -> None:
        self.outcome = Outcome()
        self._predictor = predictor
        self._task = predictor.run.experiment.task
        self._reading = pixel_reading(predictor.run.experiment.data)
        self._extras = of_pictures(extras)
        self._frames = FRAMES in extras
        self._tables = tables(extra for extra in extras if extra != FRAMES)
        self._probabilities = needs_probabilities(self._extras)
        self._progress = progress
        self._sizes: dict[Path, int] = {}
        self._done = self._total = 0

    def run(
        self,
        paths: Mapping[Path, Path],
        skip_existing: bool,
        readers: ThreadPoolExecutor,
        writers: ThreadPoolExecutor,
    ) -> None:
        self._sizes = {picture: max(1, frame_count(picture)) if is_video(picture) else 1 for picture in paths}
        self._total = sum(self._sizes.values())
        todo = [picture for picture, path in paths.items() if not (skip_existing and self._skip(picture, path))]
        most = most_bytes(self._predictor)
        reading: InOrder[Path, Prepared | None] = InOrder(readers, most)
        saving: InOrder[Path, list[Path]] = InOrder(writers, most)
        for group in in_groups(self._read(todo, reading), self._predictor):
            if isinstance(group[0][1], Prepared):
                for picture, result in self._label(group):
                    work = partial(result.save, paths[picture], self._extras)
                    for done in saving.give(picture, bytes_of(result), work):
                        self._settle(*done, paths)
                    self._collect(picture, result)
                continue
            ((picture, wrong),) = group
            if isinstance(wrong, DataError):
                self._fail(picture, wrong.faults)
            else:
                for done in saving.rest():
                    self._settle(*done, paths)
                self._by_parts(picture, paths[picture])
        for done in saving.rest():
            self._settle(*done, paths)

    def _read(
        self, pictures: Sequence[Path], reading: InOrder[Path, Prepared | None]
    ) -> Iterator[tuple[Path, Prepared | DataError | None]]:
        def arrived(picture: Path, future: Future[Prepared | None]) -> tuple[Path, Prepared | DataError | None]:
            try:
                return picture, future.result()
            except DataError as error:
                return picture, error

        for picture in pictures:
            size = self._bytes(picture)
            work = _nothing if size is None else partial(self._predictor.prepare, picture)
            for one in reading.give(picture, size or 0, work):
                yield arrived(*one)
        for one in reading.rest():
            yield arrived(*one)

    def _bytes(self, picture: Path) -> int | None:
        """Of a picture's pixels, by its header; None if it is not to be read at once."""
        try:
            if is_video(picture) or is_for_parts(self._predictor, picture):
                return None
            height, width = image_size_hw(picture, self._reading)
        except DataError:
            # Said by whoever reads it.
            return 0
        return 3 * height * width

    def _label(self, group: Sequence[tuple[Path, Any]]) -> list[tuple[Path, Prediction]]:
        try:
            results = self._predictor.predict_together([read for _, read in group], probabilities=self._probabilities)
        except (MemoryError, torch.OutOfMemoryError):
            for picture, read in group:
                height, width = read.image.shape[:2]
                what = f"there is not enough memory for its {width} x {height} pixels"
                self._fail(picture, (Fault(str(picture), what, "Try --mode sliding, or a smaller --max-memory."),))
            return []
        return [(picture, result) for (picture, _), result in zip(group, results, strict=True)]

    def _collect(self, picture: Path, result: Prediction | Areas) -> None:
        if isinstance(result, Detections):
            self.outcome.boxes[picture] = result.to_plain()
        elif self._tables:
            self.outcome.rows[picture] = result.table_rows()

    def _by_parts(self, picture: Path, path: Path) -> None:
        """A video, or a picture that is not held whole or keeps its place on a map."""
        try:
            if is_video(picture):
                predict_video(self._predictor, picture, path, self._extras if self._frames else None, self._show)
            else:
                result, files = predict_file(self._predictor, picture, path, [*self._extras, *self._tables])
                path = files[0]
                self._collect(picture, result)
        except DataError as error:
            self._fail(picture, error.faults)
        except OSError as error:
            self._cannot_write(picture, error)
        else:
            self._finish(picture, self.outcome.files, path)

    def _settle(self, picture: Path, saved: Future[list[Path]], paths: Mapping[Path, Path]) -> None:
        try:
            saved.result()
        except OSError as error:
            self.outcome.boxes.pop(picture, None)
            self.outcome.rows.pop(picture, None)
            self._cannot_write(picture, error)
        else:
            self._finish(picture, self.outcome.files, paths[picture])

    def _cannot_write(self, picture: Path, error: OSError) -> None:
        fault = Fault(str(picture), f"its result cannot be written: {error.strerror or error}")
        if error.errno in _ALL_WILL_FAIL:
            hint = "What is written is whole. With --skip-existing the next call goes on from there."
            earlier = [one for faults in self.outcome.failed.values() for one in faults]
            raise PixboxError([*earlier, Fault(fault.where, fault.what, hint)])
        self._fail(picture, (fault,))

    def _fail(self, picture: Path, faults: tuple[Fault, ...]) -> None:
        self._finish(picture, self.outcome.failed, faults)

    def _skip(self, picture: Path, path: Path) -> bool:
        """Whether all files of a result are there. Each was written whole or not at all."""
        found = [_written(file, picture) for file in files_of(picture, path, self._extras)]
        if found[0] is None or None in found:
            return False
        if is_video(picture):
            wanted = stills(path, frame_count(path), self._task) if self._frames else []
            if not all(file.is_file() for still in wanted for file in files_of(still, still, self._extras)):
                return False
        elif not self._recall(picture, found[0]):
            return False
        self._finish(picture, self.outcome.skipped, found[0])
        return True

    def _recall(self, picture: Path, path: Path) -> bool:
        """Read back what is collected of all pictures; False if the file is not what an earlier call wrote."""
        try:
            if self._task == "detection":
                self.outcome.boxes[picture] = _saved_json(path, "boxes")
            elif self._tables and self._task == "classification":
                named = _saved_json(path, "probabilities")["probabilities"]
                self.outcome.rows[picture] = [{"class": name, "probability": value} for name, value in named.items()]
            elif self._tables:
                with Image.open(path) as mask, open_raster(picture, self._reading) as raster:
                    counts = np.bincount(np.asarray(mask).ravel(), minlength=256).tolist()
                    named = dict(zip(self._predictor.labels.names, counts, strict=False))
                    self.outcome.rows[picture] = area_rows(named, raster.georeference)
        except (OSError, ValueError, DataError, Image.DecompressionBombError):
            return False
        return True

    def _finish(self, picture: Path, kind: dict[Path, Any], what: Any) -> None:
        kind[picture] = what
        self._done += self._sizes[picture]
        self._show(0)

    def _show(self, frames: int) -> None:
        """``frames`` are those of the video that is under way."""
        self._progress(min(self._done + frames, self._total), self._total)


def _nothing() -> None:
    """Of what is not read ahead."""


def _written(file: Path, picture: Path) -> Path | None:
    """A file of a result if it is there, or the TIFF that stands for it: of a picture on a map, or one too large."""
    for one in (file, file.with_suffix(".tif")):
        if one.is_file() and not one.samefile(picture):
            return one
    return None


def _saved_json(path: Path, key: str) -> dict[str, Any]:
    saved = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(saved, dict) or not {"size", key} <= saved.keys():
        raise ValueError(f"{path} is no result")
    return saved


def write_summaries(
    outcome: Outcome, out: Path, extras: Sequence[str], pictures: Sequence[Path], labels: LabelMap, shard: Shard
) -> None:
    """What is one file for all pictures: boxes in COCO's format, tables. Of a share: ``areas_1of3.csv``."""
    if outcome.boxes:
        _write_coco(out, outcome.boxes, pictures, labels, shard)
    for name in tables(extra for extra in extras if extra != FRAMES):
        rows = {picture.as_posix(): rows for picture, rows in outcome.rows.items()}
        write_table(shard.file(out / EXTRAS[name].ending), name, rows)


def _write_coco(
    out: Path, boxes: Mapping[Path, dict[str, Any]], pictures: Sequence[Path], labels: LabelMap, shard: Shard
) -> None:
    """All boxes in COCO's results format: ``predictions.json``, and in ``predictions_images.json`` what its ids mean.

    ``boxes`` maps pictures to what ``Detections.to_plain`` gave. An ``image_id`` is the place among ``pictures``, all
    that there are, from 1: shares (``predictions_1of3.json``) have different ones and may be put together.
    """
    numbers = {name: number for number, name in enumerate(labels.names, start=1)}
    images, results = [], []
    for image_id, picture in enumerate(pictures, start=1):
        if picture not in boxes:
            continue
        height, width = boxes[picture]["size"]
        images.append({"id": image_id, "file_name": picture.as_posix(), "height": height, "width": width})
        for found in boxes[picture]["boxes"]:
            x1, y1, x2, y2 = found["box"]
            box = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            number = numbers[found["class"]]
            results.append({"image_id": image_id, "category_id": number, "bbox": box, "score": found["score"]})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    described = {"images": images, "categories": categories}
    write_file(shard.file(out / "predictions.json"), json.dumps(results))
    write_file(shard.file(out / "predictions_images.json"), json.dumps(described, ensure_ascii=False))
