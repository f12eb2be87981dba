"""Probabilities of pixels: from one look at a picture, from several sizes and its mirror image, from windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pixbox.prediction.windows import Blend, SizeHW, Window, blend_weights, starts, window_size

Look = Callable[[Tensor], Tensor]
"""From (B, 3, h, w) uint8 pictures to (B, N, h, w) float32 probabilities that sum to one over N."""
Read = Callable[[Window], NDArray[np.uint8]]
"""From a part of a picture to its pixels, (h, w, 3) uint8 RGB."""


def many_looks(look: Look, scales: list[float], flip: bool) -> Look:
    """The mean of what ``look`` says of a picture at several sizes, and of each mirrored.

    Probabilities are averaged, not logits: their mean is a probability.
    """
    if scales == [1.0] and not flip:
        return look

    def averaged(images: Tensor) -> Tensor:
        size_hw = (images.shape[-2], images.shape[-1])
        total: Tensor | None = None
        for scale in scales:
            seen = images if scale == 1 else _resized_pictures(images, scale)
            said = look(seen)
            if flip:
                said += look(seen.flip(-1)).flip(-1)
            if said.shape[-2:] != size_hw:
                said = functional.interpolate(said, size_hw, mode="bilinear", align_corners=False, antialias=scale > 1)
            total = said if total is None else total.add_(said)
        assert total is not None
        return total.div_(len(scales) * (2 if flip else 1))

    return averaged


def _resized_pictures(images: Tensor, scale: float) -> Tensor:
    size = [max(1, round(side * scale)) for side in images.shape[-2:]]
    return functional.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=scale < 1)


class SlidingWindows:
    """Looks at a picture of any size window by window and blends what is said of each pixel.

    A pixel's probabilities are the mean over the windows that hold it, weighted by its place in each. Memory is that of
    one row of windows, and of as many columns as ``band`` says; the result does not depend on it.

    Args:
        look: what is said of a batch of windows.
        classes: N.
        stride: of the network; the sides of a window are multiples, unless the picture has no more pixels.
        window_hw: asked for.
        overlap, blend, batch: as in ``EvaluationConfig``.
        device: where the windows go.
    """

    def __init__(
        self,
        look: Look,
        *,
        classes: int,
        stride: int,
        window_hw: SizeHW,
        overlap: float,
        blend: Blend,
        batch: int,
        device: torch.device,
    ) -> None:
        self.look = look
        self.classes = classes
        self.stride = stride
        self.window_hw = window_hw
        self.overlap = overlap
        self.blend = blend
        self.batch = batch
        self.device = device

    def strips(self, read: Read, picture_hw: SizeHW, band: int | None = None) -> Iterator[tuple[Window, Tensor]]:
        """The parts of a picture as they are done, top to bottom, each with its (N, h, w) float32 probabilities.

        Together they cover every pixel once. The tensor is good until the next is asked for. ``band``: the most
        columns that are worked on at once; None: all.
        """
        window_hw = window_size(self.window_hw, self.stride, picture_hw)
        width = picture_hw[1]
        step = width if band is None else max(band, window_hw[1])
        for first in range(0, width, step):
            yield from self._band(read, picture_hw, window_hw, first, min(first + step, width))

    def memory(self, picture_hw: SizeHW, columns: int) -> int:
        """Bytes that one row of windows takes over so many columns, without those of the network."""
        window_h, _ = window_size(self.window_hw, self.stride, picture_hw)
        # Sums, and a copy of those that move up; the pixels.
        return window_h * columns * (2 * 4 * (self.classes + 1) + 3)

    def _band(
        self, read: Read, picture_hw: SizeHW, window_hw: SizeHW, first: int, end: int
    ) -> Iterator[tuple[Window, Tensor]]:
        (high, wide), (height, width) = window_hw, picture_hw
        weights = torch.from_numpy(blend_weights(window_hw, self.blend).copy()).to(self.device)
        # Channels last, as what networks say: adding across layouts takes three times as long.
        sums = torch.zeros(high, end - first, self.classes, device=self.device).permute(2, 0, 1)
        shares = torch.zeros(high, end - first, device=self.device)
        tops = starts(height, high, self.overlap, self.stride)
        lefts = [left for left in starts(width, wide, self.overlap, self.stride) if left < end and left + wide > first]
        for top, below in zip(tops, [*tops[1:], height], strict=True):
            rows = min(high, height - top)
            row = read(Window(top, lefts[0], rows, min(lefts[-1] + wide, width) - lefts[0]))
            for some in self._together(lefts, width - wide):
                windows = np.stack([row[:, left - lefts[0] : left - lefts[0] + wide] for left in some])
                said = self.look(torch.from_numpy(windows).to(self.device).permute(0, 3, 1, 2))
                for left, probabilities in zip(some, said, strict=True):
                    inside = slice(max(left, first) - left, min(left + wide, end) - left)
                    target = slice(max(left, first) - first, min(left + wide, end) - first)
                    sums[:, :rows, target].addcmul_(probabilities[:, :, inside], weights[:rows, inside])
                    shares[:rows, target] += weights[:rows, inside]
            done = below - top
            yield Window(top, first, done, end - first), sums[:, :done].div_(shares[:done])
            # What the next row of windows sees too moves up.
            for held in (sums, shares):
                rest = held[..., done:, :]
                held[..., : high - done, :] = rest if high <= 2 * done else rest.clone()
                held[..., high - done :, :] = 0

    def _together(self, lefts: list[int], last_whole: int) -> Iterator[list[int]]:
        """The windows of a row that go through the network together. One that the picture's end cuts goes alone."""
        whole = [left for left in lefts if left <= last_whole]
        for begin in range(0, len(whole), self.batch):
            yield whole[begin : begin + self.batch]
        if len(whole) < len(lefts):
            yield lefts[len(whole) :]
