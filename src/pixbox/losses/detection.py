"""Losses of boxes: what an anchor says of the class, and where it puts the box.

All is computed in float32 at least, whatever the type of the network's answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixbox.boxes.coding import decode_boxes, encode_boxes
from pixbox.boxes.matching import BETWEEN

BoxLoss = Literal["smooth_l1", "l1", "giou"]

_TINY_AREA = 1e-7
"""Square pixels added to divisors, as torchvision does."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the anchors of a batch are to find.

    Attributes:
        matches: (B, K) int64, of ``boxes.match_anchors``: position of a box, ``NEGATIVE`` or ``BETWEEN``.
        boxes_xyxy: (B, M, 4) float, pixels of the input.
        classes: (B, M) int64 class indices.
        anchors_xyxy: (K, 4) float.
    """

    matches: Tensor
    boxes_xyxy: Tensor
    classes: Tensor
    anchors_xyxy: Tensor


class DetectionLoss(nn.Module):
    """The loss of a one-stage detector: two terms, classification and boxes.

    Classification is the focal loss over all anchors but those between, and all classes. Boxes is the loss of
    the positive anchors' boxes, times ``box_weight``. Both are divided by the number of positive anchors, and where
    there is none by 1: a picture without boxes teaches what background is. So whoever divides must do so once, by
    ``max(1, total)`` of all weights that belong together (:func:`detection_total`), not batch by batch.

    Args:
        alpha: of the focal loss, in [0, 1]: the weight of a class that is there; 1 - alpha that of one that is not.
        gamma: of the focal loss, >= 0: the larger, the less sure answers count.
        box_loss: ``smooth_l1`` or ``l1`` of the offsets, summed over the four; ``giou`` of the decoded boxes.
        beta: of smooth L1, > 0: the error up to which it is quadratic, in the units of offsets.
        box_weight: factor of the second term.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, section 3 and 4; Rezatofighi et al. 2019,
    Generalized intersection over union. ``beta`` is that of the first paper's code.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.25,
        gamma: float = 2.0,
        box_loss: BoxLoss = "smooth_l1",
        beta: float = 1 / 9,
        box_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.box_loss = box_loss
        self.beta = beta
        self.box_weight = box_weight

    def weights(self, matches: Tensor) -> Tensor:
        """(2,) float32: the number of positive anchors, once for each term; 0 where there is none."""
        return (matches >= 0).sum().float().expand(2)

    def sums(self, logits: Tensor, offsets: Tensor, assignment: Assignment) -> Tensor:
        """(2,) float32 (float64 for float64): each term summed over the batch, differentiable.

        ``logits`` is (B, K, C), ``offsets`` (B, K, 4), both of any float type. Without positive anchors the second
        is 0, with zero gradients.
        """
        return torch.stack((self._classification(logits, assignment), self._boxes(offsets, assignment)))

    def forward(self, logits: Tensor, offsets: Tensor, assignment: Assignment) -> Tensor:
        """The loss of one batch on its own, a scalar."""
        return detection_total(self.sums(logits, offsets, assignment), self.weights(assignment.matches))

    def _classification(self, logits: Tensor, assignment: Assignment) -> Tensor:
        matches = assignment.matches
        if assignment.classes.shape[1]:
            found = assignment.classes.gather(1, matches.clamp(min=0))
        else:
            found = torch.zeros_like(matches)
        per_anchor = focal_loss(logits, torch.where(matches >= 0, found, -1), alpha=self.alpha, gamma=self.gamma)
        return torch.where(matches == BETWEEN, 0.0, per_anchor).sum()

    def _boxes(self, offsets: Tensor, assignment: Assignment) -> Tensor:
        picture, anchor = (assignment.matches >= 0).nonzero(as_tuple=True)
        boxes = assignment.boxes_xyxy[picture, assignment.matches[picture, anchor]]
        anchors = assignment.anchors_xyxy[anchor]
        offsets = offsets[picture, anchor].to(_compute_dtype(offsets))
        if self.box_loss == "giou":
            per_box = giou_loss(decode_boxes(offsets, anchors), boxes)
        else:
            per_box = smooth_l1(offsets, encode_boxes(boxes, anchors), 0.0 if self.box_loss == "l1" else self.beta)
        return self.box_weight * per_box.sum()


def detection_total(sums: Tensor, weights: Tensor) -> Tensor:
    """Scalar: the sum over terms of ``sums / max(1, weights)``, both (T,)."""
    return (sums / weights.clamp(min=1)).sum()


def focal_loss(logits: Tensor, classes: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Focal loss of one yes-or-no question per class, summed over the classes.

    For a class that is there -alpha (1 - p)^gamma ln p, for one that is not -(1 - alpha) p^gamma ln(1 - p), where p
    is the sigmoid of the logit. ``logits`` is (..., C), ``classes`` (...) int64, the class that is there, or
    negative for none. Returns (...) float32 (float64 for float64), with finite gradients for all finite logits.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 5.
    """
    logits = logits.to(_compute_dtype(logits))
    absent = (1 - alpha) * _doubt_times_surprise(logits, gamma).sum(dim=-1)
    # One number of each row, instead of a table of truth as large as the logits.
    true_logit = logits.gather(-1, classes.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    change = alpha * _doubt_times_surprise(-true_logit, gamma) - (1 - alpha) * _doubt_times_surprise(true_logit, gamma)
    return absent + torch.where(classes >= 0, change, 0.0)


def smooth_l1(offsets: Tensor, target: Tensor, beta: float) -> Tensor:
    """Huber's loss over ``beta``, summed over the last axis: (..., 4) and (..., 4) -> (...); L1 where ``beta`` is 0.

    Source: Girshick 2015, Fast R-CNN, eq. 3, with the error at which the two pieces meet as in its later code.
    """
    return F.smooth_l1_loss(offsets, target.to(offsets.dtype), beta=beta, reduction="none").sum(dim=-1)


def giou_loss(boxes_xyxy: Tensor, truth_xyxy: Tensor) -> Tensor:
    """One minus the generalised IoU of boxes and true boxes, pair by pair: (..., 4) and (..., 4) -> (...) in [0, 2].

    Both are corners, x2 >= x1 and y2 >= y1. Unlike IoU it has a gradient where the two do not meet.

    Source: Rezatofighi et al. 2019, Generalized intersection over union, algorithm 1.
    """
    boxes_xyxy = boxes_xyxy.to(_compute_dtype(boxes_xyxy))
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    true_x1, true_y1, true_x2, true_y2 = truth_xyxy.to(boxes_xyxy.dtype).unbind(-1)
    width = (torch.minimum(x2, true_x2) - torch.maximum(x1, true_x1)).clamp(min=0)
    height = (torch.minimum(y2, true_y2) - torch.maximum(y1, true_y1)).clamp(min=0)
    shared = width * height
    union = (x2 - x1) * (y2 - y1) + (true_x2 - true_x1) * (true_y2 - true_y1) - shared
    around = (torch.maximum(x2, true_x2) - torch.minimum(x1, true_x1)) * (
        torch.maximum(y2, true_y2) - torch.minimum(y1, true_y1)
    )
    return 1 - shared / (union + _TINY_AREA) + (around - union) / (around + _TINY_AREA)


def _doubt_times_surprise(logits: Tensor, gamma: float) -> Tensor:
    """p^gamma times -ln(1 - p), p the sigmoid: the focal loss of classes that are not there, without its factor."""
    surprise = F.softplus(logits)
    # p is exp(logits - surprise). As a power of p itself, a small gamma would have an infinite slope where p is 0.
    return torch.exp(gamma * (logits - surprise)) * surprise


def _compute_dtype(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)
