"""Which anchor is to find which box."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pixbox.boxes.iou import pairwise_cover, pairwise_iou

NEGATIVE = -1
"""The anchor shows background."""
BETWEEN = -2
"""The anchor counts neither as background nor as a box."""

_COVERED = 0.5
"""Least share of an anchor within an ignored box that makes it doubtful: a crowd is larger than what it is made of."""
_LARGEST_TABLE = 2**22
"""Entries of a table of IoUs; it and what is computed on the way take some 100 MB. Larger ones are no faster."""


@torch.no_grad()
def match_anchors(
    boxes_xyxy: Tensor,
    valid: Tensor,
    anchors_xyxy: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    ignored: Tensor | None = None,
) -> Tensor:
    """For every anchor of every picture: the box it is to find, or that it is to find none.

    An anchor belongs to the box it overlaps most, the first of equals. It is to find that box if their IoU is at
    least ``positive_iou``, or if no anchor has a larger IoU with some box of the picture, so that every box that an
    anchor touches is found by one. Otherwise it is background below ``negative_iou`` and between above. Background
    is between too where its IoU with an ignored box is at least ``negative_iou``, or half of it lies within one.

    Args:
        boxes_xyxy: (B, M, 4) corners in pixels of the input, M >= 0: the boxes of B pictures, filled up to M.
        valid: (B, M) bool; False where a row only fills up.
        anchors_xyxy: (K, 4), K >= 1.
        positive_iou: in (0, 1].
        negative_iou: in (0, ``positive_iou``].
        ignored: (B, M) bool; boxes that are neither to be found nor background (difficult ones, crowds).

    Returns:
        (B, K) int64: position of the box among the M, ``NEGATIVE`` or ``BETWEEN``.

    Source: Ren et al. 2015, Faster R-CNN, section 3.1.2; thresholds of Lin et al. 2017, section 4: 0.5 and 0.4.
    """
    counted = valid if ignored is None else valid & ~ignored
    iou, box, claimed = _best_boxes(boxes_xyxy, counted, anchors_xyxy)
    background = iou < negative_iou
    if ignored is not None:
        spared = valid & ignored
        background &= _best_boxes(boxes_xyxy, spared, anchors_xyxy)[0] < negative_iou
        background &= _best_boxes(boxes_xyxy, spared, anchors_xyxy, pairwise_cover)[0] < _COVERED
    unmatched = torch.where(background, NEGATIVE, BETWEEN)
    return torch.where(claimed | (iou >= positive_iou), box, unmatched)


def _best_boxes(
    boxes_xyxy: Tensor,
    counted: Tensor,
    anchors_xyxy: Tensor,
    overlap: Callable[[Tensor, Tensor], Tensor] = pairwise_iou,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the counted boxes of its picture, which every anchor overlaps most.

    Returns three (B, K): the IoU, or what else ``overlap`` is (float, 0 without a box), the box (int64), and whether
    the anchor is the best, or one of several equals, of any box (bool).
    """
    pictures, count = boxes_xyxy.shape[:2]
    shape = (pictures, len(anchors_xyxy))
    best_iou = torch.zeros(shape, device=anchors_xyxy.device)
    best_box = torch.zeros(shape, dtype=torch.int64, device=anchors_xyxy.device)
    claimed = torch.zeros(shape, dtype=torch.bool, device=anchors_xyxy.device)
    step = max(1, _LARGEST_TABLE // max(1, best_iou.numel()))
    for start in range(0, count, step):
        part = slice(start, start + step)
        iou = overlap(boxes_xyxy[:, part].flatten(0, 1), anchors_xyxy).view(pictures, -1, len(anchors_xyxy))
        iou = iou.masked_fill_(~counted[:, part, None], 0)
        of_anchor, box = iou.max(dim=1)
        of_box = iou.amax(dim=2, keepdim=True)
        # A box that no anchor touches has all of them as its best.
        claimed |= ((iou == of_box) & (of_box > 0)).any(dim=1)
        better = of_anchor > best_iou
        best_iou = torch.where(better, of_anchor, best_iou)
        best_box = torch.where(better, box + start, best_box)
    return best_iou, best_box, claimed
