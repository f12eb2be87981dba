"""Augmentation: every geometric change of a picture is drawn as one matrix and applied by one warp."""

from pixbox.augment.color import ColorPlan, ColorPolicy, apply_color, draw_color
from pixbox.augment.draws import beside, sample_rng
from pixbox.augment.geometry import (
    GeometryPolicy,
    Warp,
    center_crop,
    draw_geometry,
    draw_point,
    halved,
    move_window,
    place_whole,
)
from pixbox.augment.paste import draw_paste, paste
from pixbox.augment.warp import FILL, warp_boxes, warp_image, warp_mask

__all__ = [
    "FILL",
    "ColorPlan",
    "ColorPolicy",
    "GeometryPolicy",
    "Warp",
    "apply_color",
    "beside",
    "center_crop",
    "draw_color",
    "draw_geometry",
    "draw_paste",
    "draw_point",
    "halved",
    "move_window",
    "paste",
    "place_whole",
    "sample_rng",
    "warp_boxes",
    "warp_image",
    "warp_mask",
]
