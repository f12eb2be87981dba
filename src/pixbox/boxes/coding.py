"""A box as what moves an anchor onto it, and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST_GROWTH = 1000 / 16
"""The most that decoding makes of an anchor's side, as in Ren et al. 2015's code: `exp` of more may overflow."""


def encode_boxes(boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Offsets that carry each anchor onto its box.

    Both are (..., 4) corners (x1, y1, x2, y2) in any one unit, x2 > x1 and y2 > y1, of shapes that broadcast.
    Returns (..., 4): (dx, dy), the way from centre to centre in anchor widths and heights, and (dw, dh), natural
    logarithms of the ratios of sizes; float64 if an input is and float32 otherwise.

    Source: Girshick et al. 2014, R-CNN, appendix C.
    """
    x, y, width, height = _centre_and_size(boxes_xyxy, anchors_xyxy.dtype)
    anchor_x, anchor_y, anchor_width, anchor_height = _centre_and_size(anchors_xyxy, boxes_xyxy.dtype)
    return torch.stack(
        (
            (x - anchor_x) / anchor_width,
            (y - anchor_y) / anchor_height,
            (width / anchor_width).log(),
            (height / anchor_height).log(),
        ),
        dim=-1,
    )


def decode_boxes(offsets: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Boxes (..., 4) from offsets (dx, dy, dw, dh) and anchors, both (..., 4): the inverse of :func:`encode_boxes`.

    No side becomes more than ``LARGEST_GROWTH`` times the anchor's, and the gradient of a size beyond that is 0.
    """
    dtype = _compute_dtype(offsets.dtype, anchors_xyxy.dtype)
    anchor_x, anchor_y, anchor_width, anchor_height = _centre_and_size(anchors_xyxy, dtype)
    dx, dy, dw, dh = offsets.to(dtype).unbind(-1)
    x, y = anchor_x + dx * anchor_width, anchor_y + dy * anchor_height
    limit = math.log(LARGEST_GROWTH)
    half_width = dw.clamp(max=limit).exp() * anchor_width / 2
    half_height = dh.clamp(max=limit).exp() * anchor_height / 2
    return torch.stack((x - half_width, y - half_height, x + half_width, y + half_height), dim=-1)


def _centre_and_size(boxes_xyxy: Tensor, other: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes_xyxy.to(_compute_dtype(boxes_xyxy.dtype, other)).unbind(-1)
    width, height = x2 - x1, y2 - y1
    return x1 + width / 2, y1 + height / 2, width, height


def _compute_dtype(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    return torch.promote_types(torch.promote_types(a, b), torch.float32)
