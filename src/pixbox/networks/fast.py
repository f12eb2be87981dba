"""A network for small machines: what a CPU with bf16 arithmetic computes well, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixbox.networks.layers import BinAverage, conv_norm_relu

STRIDE = 32
_BINS = (1, 2, 4)


class Fast(nn.Module):
    """Dense 3x3 convolutions from stride 4 on, a pyramid of averages, a narrow way back up, fine features last.

    The encoder halves the picture twice in its stem, then has four stages of residual blocks (two 3x3 convolutions
    each) at strides 4, 8, 16 and 32. Averages over 1, 2 and 4 bins tell the coarsest feature what the whole picture
    shows. The decoder adds a 1x1 projection of each stage to what comes from the coarser one and smooths the sum by a
    3x3 convolution. From stride 4 to 2 it goes by rearranging channels into pixels; there it meets the stem's first
    feature, so that what is two pixels wide can be found again. Input: multiples of 32 pixels.

    Measured, not counted: on a CPU that multiplies bf16, dense convolutions reach the arithmetic's full speed, while
    depthwise and grouped ones, and whatever stands at stride 1 and 2, wait for memory (benchmarks/README.md).

    Args:
        num_classes: channels of the logits.
        channels: of the stages, finest first.
        depths: residual blocks of each stage.
        decoder_channels: at strides 4 and 8; twice as many where the way up begins.
        fine_channels: at stride 2, in the stem and before the logits.
        dropout: probability that a channel of the decoder is dropped before the last step up.

    Source: residual blocks, He et al. 2016; pyramid of averages, Zhao et al. 2017; top-down pathway, Lin et al. 2017;
    channels into pixels, Shi et al. 2016.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int] = (48, 96, 160, 256),
        depths: Sequence[int] = (1, 2, 3, 2),
        decoder_channels: int = 64,
        fine_channels: int = 16,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = FastEncoder(channels, depths, fine_channels)
        wide = 2 * decoder_channels
        self.context = PyramidOfAverages(channels[-1], wide)
        self.laterals = nn.ModuleList(
            _projection(inputs, outputs)
            for inputs, outputs in zip(channels[-2::-1], (wide, decoder_channels, decoder_channels), strict=True)
        )
        self.smoothing = nn.ModuleList(
            conv_norm_relu(inputs, decoder_channels) for inputs in (wide, decoder_channels, decoder_channels)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.to_fine = nn.Conv2d(decoder_channels, 4 * fine_channels, kernel_size=1)
        self.fine_lateral = _projection(fine_channels, fine_channels)
        self.fine = conv_norm_relu(fine_channels, fine_channels)
        self.head = nn.Conv2d(fine_channels, num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        fine, *stages, coarsest = self.encoder(x)
        y = self.context(coarsest)
        for stage, lateral, smooth in zip(reversed(stages), self.laterals, self.smoothing, strict=True):
            y = smooth(functional.relu(_resized(y, stage) + lateral(stage)))
        y = functional.pixel_shuffle(self.to_fine(self.dropout(y)), 2)
        y = self.fine(functional.relu(y + self.fine_lateral(fine)))
        return _resized(self.head(y), x)


class FastEncoder(nn.Module):
    """Features of strides 2, 4, 8, 16 and 32, finest first; the arguments are those of ``Fast``."""

    def __init__(self, channels: Sequence[int], depths: Sequence[int], fine_channels: int) -> None:
        super().__init__()
        inputs = (fine_channels, *channels[:-1])
        self.stem = _halving(3, fine_channels)
        self.stages = nn.ModuleList(
            nn.Sequential(_halving(before, own), *(ResidualBlock(own) for _ in range(depth)))
            for before, own, depth in zip(inputs, channels, depths, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity; begins as the identity (Goyal et al. 2017: last scale 0)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_norm_relu(channels, channels)
        self.second = nn.Sequential(*list(conv_norm_relu(channels, channels))[:2])
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


class PyramidOfAverages(nn.Module):
    """Joins a feature with its averages over 1, 2 x 2 and 4 x 4 bins: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            # No normalisation: a batch of one picture has a single value a channel here.
            nn.Sequential(BinAverage(bins), nn.Conv2d(inputs, outputs // 2, kernel_size=1), nn.ReLU(inplace=True))
            for bins in _BINS
        )
        self.join = conv_norm_relu(inputs + len(_BINS) * (outputs // 2), outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.join(torch.cat([x, *(_resized(branch(x), x) for branch in self.branches)], dim=1))
        return joined


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    layers = conv_norm_relu(inputs, outputs)
    layers[0].stride = (2, 2)  # type: ignore[assignment]
    return layers


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    """1x1 convolution and normalisation: it is added to something before the ReLU."""
    return nn.Sequential(*list(conv_norm_relu(inputs, outputs, kernel=1))[:2])


def _resized(x: Tensor, like: Tensor) -> Tensor:
    resized: Tensor = functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
    return resized
