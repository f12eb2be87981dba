"""Copies of rare objects from one training picture into another."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.augment.geometry import SizeHW

MOST_OBJECTS = 6
LEAST_PIXELS = 32
MOST_SHARE = 0.05
"""Of the picture's area. What is larger is a surface, not an object."""
RISE = 0.03
"""Share of the height by which an object may be moved up or down: where it stands tells how far away it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """An object to be copied.

    Attributes:
        shape: (h, w) bool, its pixels.
        top, left: where the shape lies in the donor.
        to_top, to_left: where it is to lie.
        mirrored: left and right change places.
    """

    shape: NDArray[np.bool_]
    top: int
    left: int
    to_top: int
    to_left: int
    mirrored: bool


def draw_paste(
    rng: np.random.Generator, donor: NDArray[np.uint8], interest: NDArray[np.float64], image_hw: SizeHW
) -> list[Cutout]:
    """Draw which objects of a donor come where in a picture of size ``image_hw``.

    An object is a connected region of classes of interest: what touches stays together, a sign with its pole. Up to
    ``MOST_OBJECTS`` are drawn, each once, of ``LEAST_PIXELS`` pixels to ``MOST_SHARE`` of the picture; those that do
    not fit are left out. Each is mirrored or not, moved anywhere to the side, and up or down by ``RISE`` at most.

    Args:
        donor: (H, W) class indices; values of ``len(interest)`` and above are nothing.
        interest: (N,) a class with more than 0 is copied.

    Source: Ghiasi et al. 2021, Simple copy-paste is a strong data augmentation method for instance segmentation;
    there whole instances move freely.
    """
    wanted = np.zeros(256, dtype=np.uint8)
    wanted[: len(interest)] = interest > 0
    height, width = image_hw
    count, regions, stats, _ = cv2.connectedComponentsWithStats(cv2.LUT(donor, wanted), connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA]
    fitting = [
        label
        for label in range(1, count)
        if LEAST_PIXELS <= sizes[label] <= MOST_SHARE * height * width
        and stats[label, cv2.CC_STAT_HEIGHT] <= height
        and stats[label, cv2.CC_STAT_WIDTH] <= width
    ]
    cutouts = []
    for label in rng.permutation(fitting)[:MOST_OBJECTS]:
        left, top, w, h = stats[label, :4].tolist()
        side_at, rise_at, mirror_at = rng.random(3).tolist()
        to_top = top + round((2 * rise_at - 1) * RISE * height)
        cutouts.append(
            Cutout(
                regions[top : top + h, left : left + w] == label,
                top,
                left,
                to_top=min(max(to_top, 0), height - h),
                to_left=int(side_at * (width - w + 1)),
                mirrored=mirror_at < 0.5,
            )
        )
    return cutouts


def paste(
    image: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    donor_image: NDArray[np.uint8],
    donor_classes: NDArray[np.uint8],
    cutouts: list[Cutout],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Copies of picture (H, W, 3) and mask (H, W) with the cutouts of the donor laid over them in their order."""
    if not cutouts:
        return image, classes
    image, classes = image.copy(), classes.copy()
    for cutout in cutouts:
        h, w = cutout.shape.shape
        turn = slice(None, None, -1 if cutout.mirrored else 1)
        shape = cutout.shape[:, turn]
        for whole, donor in ((image, donor_image), (classes, donor_classes)):
            part = donor[cutout.top : cutout.top + h, cutout.left : cutout.left + w][:, turn]
            whole[cutout.to_top : cutout.to_top + h, cutout.to_left : cutout.to_left + w][shape] = part[shape]
    return image, classes
