"""Pictures that do not fit into memory: read, predicted and written a part at a time. Masks that lie on a map."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.augment import place_whole
from pixbox.data.dataset import pixel_reading
from pixbox.data.rasters import Raster, open_raster, parts_needed
from pixbox.drawing import overlay
from pixbox.errors import DataError
from pixbox.prediction.memory import write_amount
from pixbox.prediction.objects import find_in_windows
from pixbox.prediction.predictor import Predictor
from pixbox.prediction.windows import Window
from pixbox.results import Categorization, Detections, Prediction, Segmentation, extra_file, needs_probabilities, tables
from pixbox.results.rows import Row, area_rows
from pixbox.results.streams import TILE, PictureStream, has_rasterio, png_stream, tiff_stream
from pixbox.sample import Georeference
from pixbox.tasks.classification import ClassificationTask
from pixbox.tasks.detection import DetectionTask
from pixbox.tasks.segmentation import SegmentationTask

log = logging.getLogger("pixbox")
EXTRAS_IN_PARTS: Mapping[str, tuple[str, ...]] = {"segmentation": ("overlay", "colors"), "detection": ("geojson",)}
"""What can be saved beside the result of a picture that is predicted in parts, by task."""
_PLANNED = 0.9
"""Of the memory allowed: allocators hold a little more than they give (1.03 times, measured on 400 megapixels)."""
_ROWS = 64
"""Rows of a finished part that become classes and colours at once."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a picture is predicted in parts.

    Attributes:
        band: columns that are worked on at once; None: all.
        hold: the picture is decoded whole all the same.
        need: bytes that this takes.
    """

    band: int | None
    hold: bool
    need: int


@dataclass(frozen=True, slots=True)
class Areas:
    """What is known of a picture whose pixels were predicted in parts.

    Attributes:
        pixels: how many each class has, by name; all classes, in the label map's order.
        georeference: where the picture lies on the earth, if it says so.
    """

    pixels: Mapping[str, int]
    georeference: Georeference | None

    def table_rows(self) -> list[Row]:
        """The rows of the picture in ``areas.csv``."""
        return area_rows(self.pixels, self.georeference)


def is_for_parts(predictor: Predictor, path: Path) -> bool:
    """Whether ``predict_file`` does with a picture what ``predict`` and ``save`` cannot. Decodes nothing.

    It is too large to be predicted whole within the memory allowed, or its result is to keep its place on a map.

    Raises:
        DataError: the header tells that the picture cannot be read.
    """
    with open_raster(path, pixel_reading(predictor.run.experiment.data)) as raster:
        return _is_on_map(predictor, raster) or not _fits(predictor, raster)


def predict_file(
    predictor: Predictor, path: Path, out: Path, extras: Sequence[str]
) -> tuple[Prediction | Areas, list[Path]]:
    """Predict one picture of any size and write its files; in parts, if the whole would take too much memory.

    ``out`` is the file of the result. Where the picture is a TIFF that knows its place on a map, or is predicted in
    parts, its mask is a TIFF of the same place, ``<stem>.tif``. Returns the result, or of pixels that were
    predicted in parts their ``Areas``, and the files, that of the mask or the boxes first.

    Raises:
        DataError: the picture cannot be read, or takes more memory than allowed; one of the ``extras`` cannot be
            made of its parts.
        OSError: a file cannot be written.
    """
    with open_raster(path, pixel_reading(predictor.run.experiment.data)) as raster:
        georeference = raster.georeference if _is_on_map(predictor, raster) else None
        if not _fits(predictor, raster):
            return _predict_parts(predictor, raster, out, extras)
    result = predictor.predict(path, probabilities=needs_probabilities(extras))
    if georeference is None or isinstance(result, Categorization):
        return result, result.save(out, extras)
    result = replace(result, georeference=georeference)
    target = out.with_suffix(".tif") if isinstance(result, Segmentation) else out
    _refuse_overwriting(path, [target])
    return result, result.save(target, extras)


def _is_on_map(predictor: Predictor, raster: Raster) -> bool:
    return raster.georeference is not None and not isinstance(predictor.task, ClassificationTask)


def _refuse_overwriting(picture: Path, files: Sequence[Path]) -> None:
    """The name of a TIFF's mask is that of the picture, where both are in one folder."""
    for file in files:
        if os.path.realpath(file) == os.path.realpath(picture):
            raise DataError("this picture would be overwritten by its result", where=str(picture),
                            hint="Write the results into another folder: --out.")  # fmt: skip


def _fits(predictor: Predictor, raster: Raster) -> bool:
    """Whether a picture may be decoded and predicted whole. What is asked for as ``whole`` is done whole."""
    if predictor.settings.mode == "whole":
        return True
    limit = Image.MAX_IMAGE_PIXELS
    too_many = limit is not None and raster.size_hw[0] * raster.size_hw[1] > 2 * limit
    needed = raster.whole_bytes + _working_bytes(predictor, raster.size_hw)
    return not too_many and needed <= _PLANNED * predictor.host_budget


def _working_bytes(predictor: Predictor, size_hw: tuple[int, int]) -> int:
    """That predicting a decoded picture takes on the machine, beside the picture."""
    pixels = size_hw[0] * size_hw[1]
    is_segmentation = isinstance(predictor.task, SegmentationTask)
    # The mask, and the classes' numbers on the way to it.
    working = 14 * pixels if is_segmentation else 0
    input_hw = size_hw
    if not _at_own_scale(predictor, size_hw):
        input_hw = _input_hw(predictor, size_hw)
        # Their probabilities come to the picture's size.
        working += 8 * len(predictor.labels) * pixels if is_segmentation else 0
    if predictor.device.type != "cpu" or predictor.is_small(input_hw):
        return working
    if predictor.mode(input_hw) == "whole":
        return working + predictor.network_bytes(input_hw)
    strips = predictor.windows.memory(input_hw, input_hw[1]) if is_segmentation else 0
    return working + strips + _network_bytes(predictor, input_hw)


def _input_hw(predictor: Predictor, size_hw: tuple[int, int]) -> tuple[int, int]:
    data = predictor.run.experiment.data
    return place_whole(size_hw, data.size, data.fit, data.base_size)[1].input_hw


def _at_own_scale(predictor: Predictor, size_hw: tuple[int, int]) -> bool:
    data = predictor.run.experiment.data
    placement = place_whole(size_hw, data.size, data.fit, data.base_size)[1]
    return placement.content_hw == placement.original_hw


def _network_bytes(predictor: Predictor, size_hw: tuple[int, int]) -> int:
    """That the windows which go through the network together take."""
    window_hw = predictor.window_hw(size_hw)
    together = predictor.windows.batch if isinstance(predictor.task, SegmentationTask) else 1
    # Beside what the network takes, a window's probabilities are once multiplied by their weights.
    return together * predictor.network_bytes(window_hw) + 4 * len(predictor.labels) * window_hw[0] * window_hw[1]


def _predict_parts(
    predictor: Predictor, raster: Raster, out: Path, extras: Sequence[str]
) -> tuple[Prediction | Areas, list[Path]]:
    task = predictor.task
    height, width = raster.size_hw
    if not isinstance(task, SegmentationTask | DetectionTask) or not _at_own_scale(predictor, raster.size_hw):
        needed = raster.whole_bytes + _working_bytes(predictor, raster.size_hw)
        raise _too_little(predictor, raster, needed, "This model sees pictures whole, made smaller by `data.fit` or "
                          "`data.base_size`: make the picture smaller, or allow more memory.")  # fmt: skip
    is_segmentation = isinstance(task, SegmentationTask)
    # Tables are of a whole run.
    extras = [extra for extra in dict.fromkeys(extras) if extra not in tables(extras)]
    _check_extras(raster, "segmentation" if is_segmentation else "detection", extras)
    plan = _plan_pixels(predictor, raster, len(extras)) if is_segmentation else _plan_boxes(predictor, raster)
    if plan.hold:
        raster.hold()
    window_hw = predictor.window_hw(raster.size_hw)
    log.info(
        "%s: %d x %d pixels in windows of %d x %d, %s columns at once: about %s of %s of memory%s",
        raster.path.name, width, height, window_hw[1], window_hw[0], plan.band or "all", write_amount(plan.need),
        write_amount(predictor.host_budget), "" if plan.hold or raster.is_exact else "; its colours are decoded in "
        "parts, which may differ by some levels from those of the whole",
    )  # fmt: skip
    if isinstance(task, SegmentationTask):
        return _label_parts(predictor, task, raster, plan, out, extras)
    result = _find_parts(predictor, task, raster)
    return result, result.save(out, extras)


def _check_extras(raster: Raster, task: str, extras: Sequence[str]) -> None:
    """Refuse what needs the whole picture."""
    known = EXTRAS_IN_PARTS[task]
    wrong = [extra for extra in extras if extra not in known]
    if wrong:
        raise DataError(f"is too large to be predicted whole; `{', '.join(wrong)}` cannot be made in parts",
                        where=str(raster.path), hint=f"In parts there can be: {', '.join(known)}. "
                        "Or allow more memory: `evaluation.max_memory`.", code="too-large")  # fmt: skip
    if task == "segmentation" and extras and not has_rasterio():
        raise DataError(f"is too large for `{', '.join(extras)}` without rasterio", where=str(raster.path),
                        hint='pip install "pixbox[geo]"', code="too-large")  # fmt: skip


def _too_little(predictor: Predictor, raster: Raster, needed: int, hint: str) -> DataError:
    height, width = raster.size_hw
    # So much has to be allowed, with what the plan leaves free.
    needed = math.ceil(needed / _PLANNED)
    allowed = write_amount(predictor.host_budget)
    what = (
        f"its {width} x {height} pixels take {write_amount(needed)} of memory; {allowed} may be taken "
        "(`evaluation.max_memory`)"
    )
    return DataError(what, where=str(raster.path), hint="\n".join(filter(None, [hint, parts_needed(raster)])),
                     code="too-large")  # fmt: skip


# Pixels


def _plan_pixels(predictor: Predictor, raster: Raster, extras: int) -> Plan:
    """As many columns at once as the memory allows.

    Raises:
        DataError: it does not even allow for one window.
    """
    size_hw, windows = raster.size_hw, predictor.windows
    high, wide = predictor.window_hw(size_hw)
    hold, read = _reading(predictor, raster)
    network = _network_bytes(predictor, size_hw)
    # For each column: the pixels of a row of windows, of those that the next row sees again and of the rest of it;
    # rows that wait to be written; and, on the device, sums with the classes of some rows.
    on_host = 9 * high + 2 * TILE * (1 + 3 * extras) + 12 * _ROWS * extras
    on_device = windows.memory(size_hw, 1) - 3 * high + 22 * _ROWS
    # Windows that reach beyond their columns are read whole.
    read += 2 * wide * 9 * high
    if predictor.device.type == "cpu":
        columns = (int(_PLANNED * predictor.host_budget) - read - network) // (on_host + on_device)
    else:
        columns = min((int(_PLANNED * predictor.host_budget) - read) // on_host,
                      (int(_PLANNED * predictor.budget) - network) // on_device)  # fmt: skip
    least = min(size_hw[1], -(-wide // TILE) * TILE)
    need = read + max(least, columns) * on_host
    if predictor.device.type == "cpu":
        need += network + max(least, columns) * on_device
    if columns >= size_hw[1]:
        return Plan(None, hold, need - (columns - size_hw[1]) * (on_host + on_device))
    if columns < least:
        raise _too_little(predictor, raster, need, "Even in parts. Allow more, or a smaller `evaluation.window`.")
    return Plan(columns // TILE * TILE, hold, need)


def _reading(predictor: Predictor, raster: Raster) -> tuple[bool, int]:
    """Whether the picture is held whole, and the bytes that reading takes."""
    is_small = raster.whole_bytes <= predictor.host_budget // 2
    hold = bool(raster.obstacle) or (not raster.is_exact and is_small)
    return hold, raster.whole_bytes if hold else raster.reading_bytes


def _label_parts(
    predictor: Predictor, task: SegmentationTask, raster: Raster, plan: Plan, out: Path, extras: Sequence[str]
) -> tuple[Areas, list[Path]]:
    """Write each finished part at once."""
    is_tiff = raster.is_tiff and has_rasterio()
    target = out.with_suffix(".tif") if is_tiff else out
    files = [target, *(extra_file(target, extra).with_suffix(".tif") for extra in extras)]
    _refuse_overwriting(raster.path, files)
    rows = _Rows(raster)
    counts = np.zeros(256, dtype=np.int64)
    with ExitStack() as stack:
        mask = stack.enter_context(_mask_stream(predictor, raster, target, is_tiff))
        pictures = [
            stack.enter_context(tiff_stream(file, raster.size_hw, palette=None, georeference=raster.georeference))
            for file in files[1:]
        ]
        stack.enter_context(predictor.running())
        for window, said in predictor.windows.strips(rows.read, raster.size_hw, plan.band):
            for first in range(0, window.height, _ROWS):
                some = said[:, first : first + _ROWS]
                classes = task.classes(some[None]).cpu().numpy()
                mask.write(window.top + first, window.left, classes)
                counts += np.bincount(classes.ravel(), minlength=256)
                part = Window(window.top + first, window.left, len(classes), window.width)
                for extra, picture in zip(extras, pictures, strict=True):
                    colors = predictor.labels.colorize(classes)
                    shown = colors if extra == "colors" else overlay(rows.held(part), classes, predictor.labels)
                    picture.write(part.top, part.left, shown)
    pixels = dict(zip(predictor.labels.names, counts.tolist(), strict=False))
    return Areas(pixels, raster.georeference), files


def _mask_stream(
    predictor: Predictor, raster: Raster, target: Path, is_tiff: bool
) -> AbstractContextManager[PictureStream]:
    palette = predictor.labels.palette
    if is_tiff:
        return tiff_stream(target, raster.size_hw, palette=palette, georeference=raster.georeference)
    return png_stream(target, raster.size_hw, palette)


class _Rows:
    """Reads rows of windows from top to bottom; what two rows share is decoded once."""

    def __init__(self, raster: Raster) -> None:
        self._raster = raster
        self._window = Window(0, 0, 0, 0)
        self._pixels: NDArray[np.uint8] = np.empty((0, 0, 3), dtype=np.uint8)

    def read(self, window: Window) -> NDArray[np.uint8]:
        above, columns = self._window, (window.left, window.width)
        shared = 0
        if (above.left, above.width) == columns and above.top <= window.top:
            shared = max(0, above.top + above.height - window.top)
        pixels = np.empty((window.height, window.width, 3), dtype=np.uint8)
        if shared:
            pixels[:shared] = self._pixels[above.height - shared :]
        if shared < window.height:
            pixels[shared:] = self._raster.read(window.top + shared, window.left, window.height - shared, window.width)
        self._window, self._pixels = window, pixels
        return pixels

    def holds(self, window: Window) -> bool:
        return self._window == window

    def held(self, part: Window) -> NDArray[np.uint8]:
        """A part of what was read last."""
        top, left = part.top - self._window.top, part.left - self._window.left
        return self._pixels[top : top + part.height, left : left + part.width]


# Boxes


def _plan_boxes(predictor: Predictor, raster: Raster) -> Plan:
    """Window by window; where only whole rows can be decoded, a row of windows is held."""
    hold, read = _reading(predictor, raster)
    high, wide = predictor.window_hw(raster.size_hw)
    read += 9 * high * (raster.size_hw[1] if _by_rows(raster) else wide)
    network = _network_bytes(predictor, raster.size_hw)
    on_host = read + (network if predictor.device.type == "cpu" else 0)
    if on_host > _PLANNED * predictor.host_budget or network > _PLANNED * predictor.budget:
        hint = "Even in parts. Allow more, or a smaller `evaluation.window`."
        raise _too_little(predictor, raster, max(on_host, network), hint)
    return Plan(None, hold, on_host)


def _by_rows(raster: Raster) -> bool:
    return raster.block_hw[1] >= raster.size_hw[1]


def _find_parts(predictor: Predictor, task: DetectionTask, raster: Raster) -> Detections:
    """The result's picture is blank and takes no memory: only the boxes are to be saved."""
    rows = _Rows(raster)

    def read(window: Window) -> NDArray[np.uint8]:
        if not _by_rows(raster):
            return raster.read(window.top, window.left, window.height, window.width)
        whole = Window(window.top, 0, window.height, raster.size_hw[1])
        if not rows.holds(whole):
            rows.read(whole)
        return rows.held(window)

    settings = predictor.settings
    with predictor.running():
        found = find_in_windows(
            predictor.find(task), read, raster.size_hw, predictor.window_hw(raster.size_hw), settings.overlap,
            task.network.stride, task.settings,
        )  # fmt: skip
    boxes, classes, scores = (part.cpu().numpy() for part in (found.boxes_xyxy, found.classes, found.scores))
    blank = np.broadcast_to(np.zeros(3, dtype=np.uint8), (*raster.size_hw, 3))
    return Detections(
        raster.path.stem, blank, boxes, classes, scores, predictor.labels, task.settings.shown_score,
        raster.georeference,
    )  # fmt: skip
