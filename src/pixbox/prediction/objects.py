"""Boxes of a picture: from one look, from several sizes and its mirror image, from windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from pixbox.augment import FILL, Warp, warp_image
from pixbox.boxes import Selection, suppress_overlaps
from pixbox.config import DetectionConfig
from pixbox.prediction.windows import SizeHW, Window, lay_windows

Find = Callable[[NDArray[np.uint8]], Selection]
"""From (h, w, 3) uint8 RGB to the boxes found in it, in its pixels."""

_TOUCHES = 2.0
"""Pixels from a window's border within which a box counts as cut by it."""


def find_many(find: Find, settings: DetectionConfig, scales: Sequence[float], flip: bool) -> Find:
    """What ``find`` finds in a picture at several sizes, and in each mirrored; of boxes found twice, the better one."""
    if list(scales) == [1.0] and not flip:
        return find

    def found(image: NDArray[np.uint8]) -> Selection:
        parts = []
        for scale in scales:
            seen, scale_xy = _resized(image, scale)
            parts.append(_moved(find(seen), (0, 0), scale_xy))
            if flip:
                mirrored = find(np.ascontiguousarray(seen[:, ::-1]))
                parts.append(_moved(_unmirrored(mirrored, seen.shape[1]), (0, 0), scale_xy))
        return merge(parts, settings)

    return found


def find_in_windows(
    find: Find,
    read: Callable[[Window], NDArray[np.uint8]],
    picture_hw: SizeHW,
    window_hw: SizeHW,
    overlap: float,
    stride: int,
    settings: DetectionConfig,
) -> Selection:
    """What ``find`` finds in windows of a picture, in the picture's pixels.

    A box that a window's border cuts is left out where it is small enough for another window to hold it whole.
    """
    parts = []
    for window in chain.from_iterable(lay_windows(picture_hw, window_hw, overlap, stride)):
        found = find(read(window))
        parts.append(_moved(_uncut(found, window, picture_hw, overlap), (window.left, window.top), (1.0, 1.0)))
    return merge(parts, settings)


def merge(parts: Sequence[Selection], settings: DetectionConfig) -> Selection:
    """The boxes of several looks at one picture: of those of a class that overlap, the best one."""
    boxes, classes, scores = (
        torch.cat(values)
        for values in zip(*((part.boxes_xyxy, part.classes, part.scores) for part in parts), strict=True)
    )
    kept = suppress_overlaps(
        boxes, scores, classes, threshold=settings.overlap_threshold, overlap=settings.overlap
    )[: settings.max_detections]  # fmt: skip
    return Selection(boxes[kept], classes[kept], scores[kept])


def _resized(image: NDArray[np.uint8], scale: float) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """The picture at another size, and its pixels per original pixel (x, y)."""
    if scale == 1:
        return image, (1.0, 1.0)
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    scale_xy = width / image.shape[1], height / image.shape[0]
    matrix = np.array([[scale_xy[0], 0, 0], [0, scale_xy[1], 0]], dtype=np.float64)
    return warp_image(image, Warp(matrix, (height, width)), FILL), scale_xy


def _moved(found: Selection, by_xy: tuple[float, float], scale_xy: tuple[float, float]) -> Selection:
    boxes = found.boxes_xyxy / found.boxes_xyxy.new_tensor([*scale_xy, *scale_xy])
    return Selection(boxes + boxes.new_tensor([*by_xy, *by_xy]), found.classes, found.scores)


def _unmirrored(found: Selection, width: int) -> Selection:
    x1, y1, x2, y2 = found.boxes_xyxy.unbind(-1)
    return Selection(torch.stack([width - x2, y1, width - x1, y2], dim=-1), found.classes, found.scores)


def _uncut(found: Selection, window: Window, picture_hw: SizeHW, overlap: float) -> Selection:
    x1, y1, x2, y2 = found.boxes_xyxy.unbind(-1)
    cut = torch.zeros_like(x1, dtype=torch.bool)
    for low, high, start, side, whole in (
        (x1, x2, window.left, window.width, picture_hw[1]),
        (y1, y2, window.top, window.height, picture_hw[0]),
    ):
        touches = ((low <= _TOUCHES) & (start > 0)) | ((high >= side - _TOUCHES) & (start + side < whole))
        cut |= touches & (high - low <= overlap * side)
    kept = ~cut
    return Selection(found.boxes_xyxy[kept], found.classes[kept], found.scores[kept])
