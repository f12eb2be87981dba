"""U-Net: the classic network, and its decoder on any timm encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixbox.networks.encoders import EncoderFacts, TimmEncoder, does_not_fit
from pixbox.networks.layers import Norm, conv_norm_relu

CLASSIC_LEVELS = 5
CLASSIC_STRIDE = 2 ** (CLASSIC_LEVELS - 1)


class ClassicUNet(nn.Module):
    """U-Net as published, with padded convolutions and normalisation.

    Five levels of two 3x3 convolutions with ``base_channels`` x 1, 2, 4, 8, 16 channels (64 to 1024), 2x2 max
    pooling between them; the way up is a 2x2 transposed convolution that halves the channels, the skip
    connection, and two 3x3 convolutions. Input: multiples of 16 pixels.

    Source: Ronneberger et al. 2015, fig. 1; padding keeps the size, so nothing is cropped. Normalisation after
    each convolution is Ioffe and Szegedy 2015 (``batch``) or Wu and He 2018 (``group``, for small batches).
    """

    def __init__(self, num_classes: int, base_channels: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        channels = [base_channels * 2**level for level in range(CLASSIC_LEVELS)]
        self.encoder = nn.ModuleList(
            _double_convolution(inputs, outputs, norm)
            for inputs, outputs in zip([3, *channels[:-1]], channels, strict=True)
        )
        self.upsamplings = nn.ModuleList(
            nn.ConvTranspose2d(2 * c, c, kernel_size=2, stride=2) for c in channels[-2::-1]
        )
        self.decoder = nn.ModuleList(_double_convolution(2 * c, c, norm) for c in channels[-2::-1])
        self.head = nn.Conv2d(base_channels, num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, convolutions in enumerate(self.encoder):
            x = convolutions(x if level == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for upsampling, convolutions in zip(self.upsamplings, self.decoder, strict=True):
            x = convolutions(torch.cat([skips.pop(), upsampling(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


class UNet(nn.Module):
    """The U-Net decoder on any timm encoder that has a pyramid of features.

    From the coarsest feature every step doubles the resolution, joins the encoder's feature of that stride where
    there is one (encoders whose first feature has stride 4 have none at 2 and 1), and applies two 3x3
    convolutions with normalisation and ReLU; a 3x3 convolution gives the logits.

    Args:
        facts: the encoder.
        num_classes: channels of the logits.
        decoder_channels: output channels of each step, coarsest first; one for each halving of the coarsest
            stride (five at stride 32).
        upsample: how a feature is doubled.

    Raises:
        ModelError: the encoder has no pyramid, or ``decoder_channels`` has the wrong length.
    """

    def __init__(
        self,
        facts: EncoderFacts,
        num_classes: int,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        upsample: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        super().__init__()
        self.encoder = TimmEncoder(facts)
        strides, channels = self.encoder.strides, self.encoder.channels
        if any(not _is_power_of_two(s) for s in strides) or len(set(strides)) < len(strides) or len(strides) < 2:
            raise does_not_fit(
                facts.name,
                f"its features have strides {strides}; a U-Net needs rising powers of two",
            )
        self.stride = strides[-1]
        self._step_strides = [2**k for k in range(self.stride.bit_length() - 2, -1, -1)]
        if len(decoder_channels) != len(self._step_strides):
            raise does_not_fit(
                facts.name,
                f"decoder_channels has {len(decoder_channels)} values; from stride {self.stride} to full size "
                f"{len(self._step_strides)} are needed",
            )
        self._upsample = upsample
        skip_channels = dict(zip(strides[:-1], channels[:-1], strict=True))
        self.decoder = nn.ModuleList()
        inputs = channels[-1]
        for stride, outputs in zip(self._step_strides, decoder_channels, strict=True):
            self.decoder.append(_double_convolution(inputs + skip_channels.get(stride, 0), outputs, "batch"))
            inputs = outputs
        self.head = nn.Conv2d(inputs, num_classes, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        features = self.encoder(x)
        skips = dict(zip(self.encoder.strides, features, strict=True))
        y = features[-1]
        for stride, convolutions in zip(self._step_strides, self.decoder, strict=True):
            skip = skips.get(stride)
            # The skip's own size, not twice y's: some encoders round odd sizes their own way.
            size = (height // stride, width // stride) if skip is None else skip.shape[-2:]
            y = functional.interpolate(y, size=size, mode=self._upsample)
            y = convolutions(y if skip is None else torch.cat([y, skip], dim=1))
        logits: Tensor = self.head(y)
        return logits


def _double_convolution(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(*conv_norm_relu(inputs, outputs, norm=norm), *conv_norm_relu(outputs, outputs, norm=norm))


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
