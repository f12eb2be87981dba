"""How much two boxes agree."""

from __future__ import annotations

import torch
from torch import Tensor


def pairwise_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Area of the intersection over area of the union, of every box of the one set with every box of the other.

    (N, 4) and (M, 4) corners (x1, y1, x2, y2) of any dtype, in any one unit. Returns (N, M) in [0, 1], float64 if
    an input is and float32 otherwise, differentiable. A box with x2 <= x1 or y2 <= y1 has no area: its IoU is 0
    with every box, itself too.
    """
    intersection, a_area, b_area = _areas(a_xyxy, b_xyxy)
    union = a_area + b_area - intersection
    # Two empty boxes would give 0 / 0. Where they meet, the union is never 0.
    return intersection / torch.where(intersection > 0, union, 1)


def pairwise_cover(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """The share of each box of the second set that lies within each of the first: (N, M), otherwise as the IoU."""
    intersection, _, b_area = _areas(a_xyxy, b_xyxy)
    return intersection / torch.where(intersection > 0, b_area, 1)


def _areas(a_xyxy: Tensor, b_xyxy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the intersections (N, M), of the first set (N, 1) and of the second (1, M)."""
    # In half precision the area of a box of 256 pixels a side is already infinite.
    dtype = torch.promote_types(torch.promote_types(a_xyxy.dtype, b_xyxy.dtype), torch.float32)
    ax1, ay1, ax2, ay2 = a_xyxy.to(dtype)[:, None].unbind(-1)
    bx1, by1, bx2, by2 = b_xyxy.to(dtype)[None].unbind(-1)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    return width * height, (ax2 - ax1) * (ay2 - ay1), (bx2 - bx1) * (by2 - by1)
