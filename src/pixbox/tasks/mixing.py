"""Pictures of a batch mixed with each other: plain tensors in, plain tensors out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta


@dataclass(frozen=True, slots=True)
class Mixing:
    """How training pictures are mixed. Every picture is mixed with the one before it in the batch, by one share.

    Attributes:
        mixup: both parameters of the Beta distribution of the share of a picture's light; 0: off.
            Source: Zhang et al. 2018, mixup: Beyond empirical risk minimization.
        cutmix: likewise of the share of its area; the rest is a rectangle of the other picture. With both, one of
            the two is drawn for each batch, with equal chance.
            Source: Yun et al. 2019, CutMix: Regularization strategy to train strong classifiers, algorithm A1.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, images: Tensor) -> tuple[Tensor, float]:
        """(B, 3, H, W) uint8 -> pictures of this shape, 0..255, and the share (0 to 1) that is their own.

        The rest is that of ``images.roll(1, 0)``. All draws come from torch's generator on the CPU.
        """
        chosen = [alpha for alpha in (self.mixup, self.cutmix) if alpha > 0]
        if not chosen:
            return images, 1.0
        number = int(torch.randint(2, ())) if len(chosen) == 2 else 0
        share = float(Beta(chosen[number], chosen[number]).sample())
        if number == 1 or not self.mixup:
            return _paste(images, share)
        return images.float().lerp(images.roll(1, 0).float(), 1 - share), share


def _paste(images: Tensor, share: float) -> tuple[Tensor, float]:
    """A rectangle of the other picture in each; what lies outside does not count, so the share may be larger."""
    height, width = images.shape[-2:]
    column, row = int(torch.randint(width, ())), int(torch.randint(height, ()))
    half = 0.5 * math.sqrt(1 - share)
    rows = slice(max(0, row - int(half * height)), min(height, row + int(half * height)))
    columns = slice(max(0, column - int(half * width)), min(width, column + int(half * width)))
    mixed = images.clone()
    mixed[..., rows, columns] = images.roll(1, 0)[..., rows, columns]
    return mixed, 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
