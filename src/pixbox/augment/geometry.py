"""Draw or compute the one matrix that carries a picture to what the network sees.

Coordinates are continuous: pixel i covers [i, i + 1), its centre is i + 0.5, x runs right and y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixbox.augment.draws import beside
from pixbox.sample import Placement

Fit = Literal["crop", "pad", "stretch", "short_side"]
SizeHW = tuple[int, int]


@dataclass(frozen=True, slots=True)
class GeometryPolicy:
    """How training pictures come to what the network sees, and what is varied on the way. The defaults vary nothing.

    Attributes:
        size_hw: the window that the network sees, pixels; for ``short_side`` its smaller number is the length of a
            picture's shorter side, its larger one the most that the longer side may have.
        fit: ``crop``: a random window at the picture's own scale; ``pad``: fitted into the window with its
            proportions kept; ``stretch``: resized to the window; ``short_side``: resized with its proportions kept,
            the window is as large as the resized picture.
        base_size: long side to which a picture is resized first, pixels; for ``crop`` only.
        scale: least and largest zoom, drawn log-uniformly.
        rotate: largest rotation either way, degrees.
        shear: largest horizontal shear either way, degrees.
        flip: probability of a left-right mirror image.
        flip_vertical: probability of a top-bottom mirror image.
        crop_area: least and largest share (0-1) of the picture's area that a random part has, drawn uniformly.
        crop_ratio: least and largest width / height of that part, drawn log-uniformly.
    """

    size_hw: SizeHW
    fit: Fit = "crop"
    base_size: int | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0
    shear: float = 0.0
    flip: float = 0.0
    flip_vertical: float = 0.0
    crop_area: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)


HALVED_MULTIPLE = 32
"""Pixels. A halved window's sides are multiples of it, the coarsest stride of most networks: nothing is padded."""


def halved(policy: GeometryPolicy) -> GeometryPolicy:
    """The policy that shows pictures at half the size, in a window of about half the height and width.

    The window's sides are rounded up to multiples of ``HALVED_MULTIPLE``; ``crop`` halves the zoom, the other fits
    follow the window.
    """
    height, width = (-(-side // (2 * HALVED_MULTIPLE)) * HALVED_MULTIPLE for side in policy.size_hw)
    low, high = policy.scale
    scale = (low / 2, high / 2) if policy.fit == "crop" else policy.scale
    return replace(policy, size_hw=(height, width), scale=scale)


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of whole pixels in a picture: where it starts and its size."""

    top: int
    left: int
    size_hw: SizeHW


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """An affine map from a source picture to an output picture.

    Attributes:
        matrix: (2, 3) float64; ``matrix @ (x, y, 1)`` is where the source point (x, y) lies in the output.
        size_hw: the output, pixels.
    """

    matrix: NDArray[np.float64]
    size_hw: SizeHW


def draw_geometry(rng: np.random.Generator, image_hw: SizeHW, policy: GeometryPolicy) -> Warp:
    """Draw the warp of one training picture.

    First a part of the picture is drawn (``draw_part``; without ``crop_area`` it is the whole picture), which from
    there on stands for the picture. It is resized as ``policy.fit`` says times a random zoom (to whole pixels, so
    that without rotation it lies on the pixel grid), sheared, rotated (positive: counter-clockwise) and mirrored
    about its centre; then the window is laid over it: ``policy.size_hw``, for ``short_side`` what is resized at zoom 1.
    Where that is larger than the window, the window's place is drawn; where it is smaller, ``crop`` draws its place in
    the window, the other fits centre it. Places are whole pixels, all equally likely.

    Nothing is cut away but by the window: where it has room around a part, the picture's own surroundings are seen
    there, and filling only beyond the picture.

    Takes seven draws of ``rng``, whatever the policy, and those of the part from the stream beside: changing one
    setting leaves the others' draws as they were.
    """
    zoom_at, angle_at, shear_at, flip_at, flip_vertical_at, top_at, left_at = rng.random(7).tolist()
    part = draw_part(beside(rng), image_hw, policy.crop_area, policy.crop_ratio)
    low, high = policy.scale
    zoom = low * (high / low) ** zoom_at
    content_hw = _content_hw(part.size_hw, policy.size_hw, policy.fit, policy.base_size, zoom)
    window_hw = policy.size_hw
    if policy.fit == "short_side":
        window_hw = _content_hw(part.size_hw, policy.size_hw, policy.fit, policy.base_size)
    centred = policy.fit != "crop"
    top = _place(content_hw[0], window_hw[0], top_at, centred)
    left = _place(content_hw[1], window_hw[1], left_at, centred)
    linear = _linear(
        (content_hw[1] / part.size_hw[1], content_hw[0] / part.size_hw[0]),
        angle=math.radians(policy.rotate * (2 * angle_at - 1)),
        shear=math.radians(policy.shear * (2 * shear_at - 1)),
        mirror_xy=(flip_at < policy.flip, flip_vertical_at < policy.flip_vertical),
    )
    return _about_centre(linear, part, content_hw, (top, left), window_hw)


def draw_part(
    rng: np.random.Generator, image_hw: SizeHW, area: tuple[float, float], ratio: tuple[float, float]
) -> Part:
    """Draw a part of a picture: its share of the area uniformly, width / height log-uniformly, its place uniformly.

    Both ranges are narrowed to what fits into the picture: the area to what the allowed ratios reach, then the ratio
    to what is possible at the area drawn. Where not even the least area has an allowed ratio that fits, the area is
    the least, and the ratio the nearest that fits; so (1, 1) is always the whole picture. Sizes are rounded to whole
    pixels, at least one. Always four draws.

    Where nothing is narrowed the distribution is that of Szegedy et al. 2015, Going Deeper with Convolutions,
    section 6; there, what does not fit is drawn again, which makes large areas rarer.

    Args:
        image_hw: the picture.
        area: least and largest share of its area, 0 < least <= largest <= 1.
        ratio: least and largest width / height, 0 < least <= largest.
    """
    area_at, ratio_at, top_at, left_at = rng.random(4).tolist()
    height, width = image_hw
    own = width / height
    # The largest part has the allowed ratio that is nearest to the picture's own.
    nearest = min(max(own, ratio[0]), ratio[1])
    most = min(own / nearest, nearest / own)
    share = area[0] + (min(max(most, area[0]), area[1]) - area[0]) * area_at
    # Of this area a part as high as the picture has the ratio own * share, one as wide own / share.
    low, high = (min(max(bound, own * share), own / share) for bound in ratio)
    drawn = low * (high / low) ** ratio_at
    pixels = share * height * width
    part_h = min(height, max(1, round(math.sqrt(pixels / drawn))))
    part_w = min(width, max(1, round(math.sqrt(pixels * drawn))))
    return Part(int(top_at * (height - part_h + 1)), int(left_at * (width - part_w + 1)), (part_h, part_w))


def draw_point(
    rng: np.random.Generator, classes: NDArray[np.uint8], interest: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Draw a pixel of a class of interest: first the class among those that are there, then one of its pixels.

    Always two draws.

    Args:
        classes: (H, W) class indices; values of ``len(interest)`` and above are nothing.
        interest: (N,) >= 0; a class that is there is drawn with a probability in proportion to it.

    Returns:
        The pixel's centre (x, y) in continuous coordinates; None where no class of interest is there.
    """
    class_at, pixel_at = rng.random(2).tolist()
    counts = np.bincount(classes.ravel(), minlength=len(interest))[: len(interest)]
    drawn = np.cumsum(np.where(counts > 0, interest, 0.0))
    if drawn[-1] == 0:
        return None
    chosen = int(np.searchsorted(drawn, class_at * drawn[-1], side="right"))
    places = np.flatnonzero(classes == chosen)
    row, column = divmod(int(places[int(pixel_at * len(places))]), classes.shape[1])
    return column + 0.5, row + 0.5


def move_window(warp: Warp, image_hw: SizeHW, point_xy: tuple[float, float], at_xy: tuple[float, float]) -> Warp:
    """The warp with its window moved by whole pixels, so that a point of the picture comes to a place in it.

    The window shows no more of what lies beyond the picture than it must: where it is smaller than the picture's
    upright hull it stays inside, where it is larger it keeps the picture inside.

    Args:
        warp: carries the picture to the window.
        image_hw: size of the picture.
        point_xy: in the picture.
        at_xy: where it is to come, as shares of the window's width and height.
    """
    matrix = warp.matrix.copy()
    corners = matrix[:, :2] @ np.array([[0, image_hw[1], 0, image_hw[1]], [0, 0, image_hw[0], image_hw[0]]])
    point = matrix[:, :2] @ point_xy
    for axis, length in enumerate(warp.size_hw[::-1]):
        # Offsets at which the hull's start, or its end, lies on the window's.
        bounds = sorted((-corners[axis].min(), length - corners[axis].max()))
        wanted = min(max(at_xy[axis] * length - point[axis], bounds[0]), bounds[1])
        matrix[axis, 2] += round(wanted - matrix[axis, 2])
    return Warp(matrix, warp.size_hw)


def place_whole(
    image_hw: SizeHW, size_hw: SizeHW, fit: Fit, base_size: int | None = None
) -> tuple[Warp | None, Placement]:
    """How a picture comes whole to the network, for evaluation and prediction.

    ``crop``: at its own size, or with its long side resized to ``base_size``; ``size_hw`` is not used. ``pad``:
    resized to fit into ``size_hw`` with its proportions kept, centred (an odd rest goes right and below).
    ``stretch``: resized to ``size_hw``. ``short_side``: its shorter side resized to the smaller number of ``size_hw``,
    but its longer side to no more than the larger one, proportions kept; nothing is padded. The warp is None where
    the picture stays as it is.
    """
    content_hw = _content_hw(image_hw, size_hw, fit, base_size)
    input_hw = content_hw if fit in ("crop", "short_side") else size_hw
    top, left = (input_hw[0] - content_hw[0]) // 2, (input_hw[1] - content_hw[1]) // 2
    placement = Placement(image_hw, input_hw, content_hw, top, left)
    if image_hw == content_hw == input_hw:
        return None, placement
    linear = _linear((content_hw[1] / image_hw[1], content_hw[0] / image_hw[0]))
    return _about_centre(linear, Part(0, 0, image_hw), content_hw, (top, left), input_hw), placement


def center_crop(image_hw: SizeHW, short_side: int, crop_hw: SizeHW) -> Warp:
    """Resize the short side to ``short_side`` pixels, proportions kept, and cut ``crop_hw`` out of the centre.

    Where the resized picture is smaller than the crop it is centred in it. Sizes and offsets are rounded as
    torchvision's ``Resize`` and ``CenterCrop`` do, so that published protocols see the same pixels.
    """
    height, width = image_hw
    short = min(image_hw)
    content_hw = int(short_side * height / short), int(short_side * width / short)
    top, left = (round((crop - content) / 2) for crop, content in zip(crop_hw, content_hw, strict=True))
    linear = _linear((content_hw[1] / width, content_hw[0] / height))
    return _about_centre(linear, Part(0, 0, image_hw), content_hw, (top, left), crop_hw)


def _content_hw(image_hw: SizeHW, size_hw: SizeHW, fit: Fit, base_size: int | None, zoom: float = 1.0) -> SizeHW:
    """Size of the resized picture, at least one pixel."""
    height, width = image_hw
    if fit == "short_side":
        # Rounded down, and multiplied in this order, as torchvision's detectors do: to the pixel the same inputs.
        scale = min(min(size_hw) / min(image_hw), max(size_hw) / max(image_hw))
        return max(1, math.floor(height * scale * zoom)), max(1, math.floor(width * scale * zoom))
    if fit == "stretch":
        scale_y, scale_x = size_hw[0] / height, size_hw[1] / width
    elif fit == "pad":
        scale_y = scale_x = min(size_hw[0] / height, size_hw[1] / width)
    else:
        scale_y = scale_x = base_size / max(image_hw) if base_size else 1.0
    return max(1, round(height * scale_y * zoom)), max(1, round(width * scale_x * zoom))


def _place(content: int, window: int, at: float, centred: bool) -> int:
    """Where the picture starts in the window along one side; ``at`` in [0, 1) is the draw."""
    room = window - content
    if room >= 0:
        return room // 2 if centred else int(at * (room + 1))
    return -int(at * (1 - room))


Linear = tuple[float, float, float, float]


def _linear(
    scale_xy: tuple[float, float],
    angle: float = 0.0,
    shear: float = 0.0,
    mirror_xy: tuple[bool, bool] = (False, False),
) -> Linear:
    """Row-major 2x2 matrix: scale, then shear along x, then rotate counter-clockwise (y is down), then mirror."""
    scale_x, scale_y = scale_xy
    lean = scale_y * math.tan(shear)
    cos, sin = math.cos(angle), math.sin(angle)
    sign_x, sign_y = (-1.0 if mirrored else 1.0 for mirrored in mirror_xy)
    return (
        sign_x * cos * scale_x,
        sign_x * (cos * lean + sin * scale_y),
        -sign_y * sin * scale_x,
        sign_y * (cos * scale_y - sin * lean),
    )


def _about_centre(linear: Linear, part: Part, content_hw: SizeHW, top_left: tuple[int, int], size_hw: SizeHW) -> Warp:
    """The warp that carries the part's centre to the centre of its place in the window."""
    xx, xy, yx, yy = linear
    center_x, center_y = part.left + part.size_hw[1] / 2, part.top + part.size_hw[0] / 2
    x = top_left[1] + content_hw[1] / 2 - (xx * center_x + xy * center_y)
    y = top_left[0] + content_hw[0] / 2 - (yx * center_x + yy * center_y)
    return Warp(np.array([[xx, xy, x], [yx, yy, y]]), size_hw)
