"""Layers that several networks share."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["batch", "group"]
GROUPS = 32


class LenientBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that also takes one value per channel in training.

    A batch of one picture, pooled to 1x1, has no variance; ``nn.BatchNorm2d`` refuses it. Such a batch is
    normalised by the running statistics instead and does not change them. Everything else is as in the parent.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(x)


def accept_single_values(module: nn.Module) -> None:
    """Make every ``nn.BatchNorm2d`` below a module a ``LenientBatchNorm2d``, in place; weights keep their names."""
    for child in module.modules():
        # Subclasses (timm's norm + activation) have a forward of their own and stay as they are.
        if type(child) is nn.BatchNorm2d and child.track_running_stats:
            child.__class__ = LenientBatchNorm2d


class BinAverage(nn.Module):
    """Averages over a fixed grid of bins: (B, C, H, W) -> (B, C, bins, bins), H, W >= 1.

    Bin i of n covers rows floor(i H / n) to ceil((i + 1) H / n), as in ``nn.AdaptiveAvgPool2d``, which has the
    same values. Written as two matrix products because an exported adaptive pooling keeps the window sizes of
    the picture it was traced with and is wrong at every other size.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        over_columns = torch.matmul(x, self._weights(x.shape[3], x).transpose(0, 1))
        return torch.matmul(self._weights(x.shape[2], x), over_columns)

    def _weights(self, length: int, like: Tensor) -> Tensor:
        """(bins, length): 1 / width inside each bin, 0 elsewhere."""
        bins = torch.arange(self.bins, device=like.device)[:, None]
        position = torch.arange(length, device=like.device)
        start = (bins * length).div(self.bins, rounding_mode="floor")
        stop = ((bins + 1) * length + self.bins - 1).div(self.bins, rounding_mode="floor")
        inside = (position >= start) & (position < stop)
        return inside.to(like.dtype) / (stop - start).to(like.dtype)

    def extra_repr(self) -> str:
        return f"bins={self.bins}"


def conv_norm_relu(inputs: int, outputs: int, kernel: int = 3, norm: Norm = "batch") -> nn.Sequential:
    """Convolution at stride 1 and the same size, without bias; normalisation; ReLU. He initialisation (fan out)."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, norm_layer(norm, outputs), nn.ReLU(inplace=True))


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """``group``: as many groups as divide both the channels and 32 (Wu and He 2018 use 32)."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(math.gcd(GROUPS, channels), channels)
