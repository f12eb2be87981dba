"""PSPNet: a dilated encoder, averages over a pyramid of regions, and an auxiliary head for training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixbox.networks.encoders import EncoderFacts, TimmEncoder, does_not_fit
from pixbox.networks.layers import BinAverage, conv_norm_relu

OUTPUT_STRIDE = 8
HEAD_CHANNELS = 512
AUXILIARY_CHANNELS = 256
DROPOUT = 0.1


class PSPNet(nn.Module):
    """Pyramid scene parsing network. Input: multiples of 8 pixels.

    The encoder runs at output stride 8. Its last feature (C channels) is averaged over grids of ``bins`` x
    ``bins`` regions; each is reduced to C / len(bins) channels, brought back to size bilinearly, and joined with
    the feature; a 3x3 convolution to 512 channels, dropout 0.1 and a 1x1 convolution follow. The auxiliary head
    reads the stage before the last (the paper's conv4, after ``res4b22``) and is used in training only; its
    loss has factor 0.4 in the paper (``loss.auxiliary_weight``).

    Source: Zhao et al. 2017, Pyramid Scene Parsing Network, sections 3.2 and 3.3.

    Raises:
        ModelError: the encoder cannot run at output stride 8.
    """

    def __init__(
        self,
        facts: EncoderFacts,
        num_classes: int,
        bins: Sequence[int] = (1, 2, 3, 6),
    ) -> None:
        super().__init__()
        self.encoder = _dilated(facts)
        before_last, last = self.encoder.channels[-2:]
        reduced = max(1, last // len(bins))
        self.pyramid = nn.ModuleList(
            nn.Sequential(BinAverage(size), conv_norm_relu(last, reduced, kernel=1)) for size in bins
        )
        self.head = _head(last + reduced * len(bins), HEAD_CHANNELS, num_classes)
        self.auxiliary_head = _head(before_last, AUXILIARY_CHANNELS, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return _resized(self._main(self.encoder(x)[-1]), x)

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return _resized(self._main(features[-1]), x), _resized(self.auxiliary_head(features[-2]), x)

    def _main(self, feature: Tensor) -> Tensor:
        regions = [_resized(level(feature), feature) for level in self.pyramid]
        logits: Tensor = self.head(torch.cat([feature, *regions], dim=1))
        return logits


def _dilated(facts: EncoderFacts) -> TimmEncoder:
    encoder = TimmEncoder(facts, OUTPUT_STRIDE)
    if encoder.strides[-2:] != [OUTPUT_STRIDE, OUTPUT_STRIDE]:
        raise does_not_fit(facts.name, f"its last two features have strides {encoder.strides[-2:]}, not 8 and 8")
    return encoder


def _head(inputs: int, inner: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(*conv_norm_relu(inputs, inner), nn.Dropout2d(DROPOUT), nn.Conv2d(inner, num_classes, 1))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
