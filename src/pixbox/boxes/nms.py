"""From what a detector says of every anchor to the boxes it has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pixbox.boxes.coding import decode_boxes

Overlap = Literal["union", "min"]
_CANDIDATES = 4
"""So many times the boxes that are wanted of a picture are compared at first: the work grows with their square."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The boxes found in one picture, by falling score.

    Attributes:
        boxes_xyxy: (N, 4) float32 corners in pixels of the network's input; all have an area.
        classes: (N,) int64 class indices.
        scores: (N,) float32 in (0, 1].
    """

    boxes_xyxy: Tensor
    classes: Tensor
    scores: Tensor


@torch.no_grad()
def select_detections(
    logits: Tensor,
    offsets: Tensor,
    anchors_xyxy: Tensor,
    *,
    pictures_xyxy: Tensor,
    level_lengths: Sequence[int] | None = None,
    score_threshold: float = 0.05,
    topk: int = 1000,
    overlap: Overlap = "union",
    overlap_threshold: float = 0.5,
    max_detections: int = 300,
) -> list[Selection]:
    """The boxes that a batch of answers stands for.

    Of every picture and level the ``topk`` pairs of anchor and class with the highest scores are kept, of these the
    ones above ``score_threshold``. Their boxes are decoded and clipped to the picture; boxes that then have no area
    are dropped. Of boxes of one class that overlap, the one with the highest score stays.

    Args:
        logits: (B, K, C), of any float type; a score is their sigmoid.
        offsets: (B, K, 4), likewise, as :func:`decode_boxes` takes them.
        anchors_xyxy: (K, 4).
        pictures_xyxy: (B, 4) or (4,): where the pictures lie in the network's input, pixels.
        level_lengths: how many anchors each level has, in their order; they add up to K. None: all are one level.
        score_threshold: in [0, 1]; boxes have a higher score.
        topk: at most so many boxes of a level go on to suppression.
        overlap, overlap_threshold: as in :func:`suppress_overlaps`.
        max_detections: the most boxes for one picture.

    Returns:
        One selection for each picture.
    """
    scores, anchor, classes = _best_pairs(logits, level_lengths or [logits.shape[1]], topk)
    chosen = offsets.gather(1, anchor[..., None].expand(-1, -1, 4)).float()
    boxes = _clip(decode_boxes(chosen, anchors_xyxy[anchor]), pictures_xyxy)
    kept = (scores > score_threshold) & (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    boxes, scores, classes, picture = boxes[kept], scores[kept], classes[kept], kept.nonzero()[:, 0]
    order = scores.argsort(descending=True, stable=True)
    # What is left of the best is left of all: nothing suppresses what has a higher score.
    order = order[_rank_within(picture[order]) < _CANDIDATES * max_detections]
    found: list[Selection] = []
    for first in (order, torch.arange(len(scores), device=scores.device)):
        stays = first[
            suppress_overlaps(
                boxes[first],
                scores[first],
                picture[first] * logits.shape[2] + classes[first],
                threshold=overlap_threshold,
                overlap=overlap,
            )
        ]
        each = [stays[picture[stays] == index][:max_detections] for index in range(len(logits))]
        found = [Selection(boxes[own], classes[own], scores[own]) for own in each]
        if len(first) == len(scores) or min(map(len, each)) == max_detections:
            break
    return found


def suppress_overlaps(
    boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, *, threshold: float, overlap: Overlap = "union"
) -> Tensor:
    """Non-maximum suppression within groups: a box goes if it overlaps one that stays and has a higher score.

    Args:
        boxes_xyxy: (N, 4) float corners; all have an area.
        scores: (N,); of equals the first comes first.
        groups: (N,) int64 >= 0; only boxes of one group suppress each other. With a number for each pair of picture
            and class, one call serves a batch.
        threshold: boxes overlap when their overlap is larger.
        overlap: the area of the intersection as a share of the union's (``union``), or of the smaller box's
            (``min``), which also removes a part inside its whole.

    Returns:
        (M,) int64: positions of the boxes that stay, by falling score.
    """
    if not len(scores):
        return groups
    groups = torch.unique(groups, return_inverse=True)[1]
    if overlap == "union":
        # Here, because it takes longer to import than anything else that this package needs.
        from torchvision.ops import batched_nms

        # Torchvision tells groups apart by moving them along the diagonal. That loses no digits in float64 with
        # groups without gaps, and separates them if no coordinate is negative.
        boxes = boxes_xyxy.double()
        stays: Tensor = batched_nms(boxes - boxes.min(), scores.double(), groups, threshold)
    else:
        stays = _suppress_by_smaller_area(boxes_xyxy, scores, groups, threshold)
    stays = stays.sort().values
    return stays[scores[stays].argsort(descending=True, stable=True)]


def _best_pairs(logits: Tensor, level_lengths: Sequence[int], topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of every picture and level the pairs of anchor and class with the highest logits.

    Returns three (B, T): their scores (float32), anchors and classes (int64).
    """
    parts = []
    first = 0
    for level in torch.split_with_sizes(logits, list(level_lengths), dim=1):
        # The best pairs are found at the anchors whose best classes are best. So the whole is read only once.
        anchor = level.amax(dim=2).topk(min(topk, level.shape[1]), dim=1).indices
        pairs = level.gather(1, anchor[..., None].expand(-1, -1, level.shape[2])).flatten(1)
        best, pair = pairs.topk(min(topk, pairs.shape[1]), dim=1)
        classes = pair % level.shape[2]
        parts.append((best.float().sigmoid(), anchor.gather(1, pair // level.shape[2]) + first, classes))
        first += level.shape[1]
    scores, anchors, kinds = (torch.cat(values, dim=1) for values in zip(*parts, strict=True))
    return scores, anchors, kinds


def _rank_within(groups: Tensor) -> Tensor:
    """(N,) int64: how many of the same group come before each."""
    order = groups.argsort(stable=True)
    counts = groups.bincount()
    starts = (counts.cumsum(0) - counts)[groups[order]]
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(groups), device=groups.device) - starts
    return ranks


def _clip(boxes_xyxy: Tensor, pictures_xyxy: Tensor) -> Tensor:
    """(B, T, 4) boxes cut off at the borders of their pictures, (B, 4) or (4,)."""
    borders = pictures_xyxy.to(boxes_xyxy).expand(len(boxes_xyxy), 4)[:, None]
    return boxes_xyxy.clamp(borders[..., [0, 1, 0, 1]], borders[..., [2, 3, 2, 3]])


def _suppress_by_smaller_area(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    parts = torch.split_with_sizes(order, groups.bincount().tolist())
    return torch.cat([part[_stay(boxes_xyxy[part], threshold)] for part in parts])


def _stay(boxes_xyxy: Tensor, threshold: float) -> Tensor:
    """(N,) bool, from boxes of one group by falling score."""
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    width = (torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)).clamp_(min=0)
    height = (torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)).clamp_(min=0)
    area = (x2 - x1) * (y2 - y1)
    suppresses = (width * height > threshold * torch.minimum(area[:, None], area)).triu(diagonal=1)
    # A box stays if none that stays suppresses it. The first is right at once, and each round makes the next right;
    # in practice a few rounds do for all.
    stays = torch.ones_like(area, dtype=torch.bool)
    while True:
        now = ~(suppresses & stays[:, None]).any(dim=0)
        if torch.equal(now, stays):
            return stays
        stays = now
