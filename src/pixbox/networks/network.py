"""The network that everything else sees: raw pixels in; for segmentation, logits at the picture's own size out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from pixbox.networks.layers import accept_single_values

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@runtime_checkable
class HasAuxiliaryHead(Protocol):
    """A body with a second output that exists only while it is trained."""

    def forward_with_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Main and auxiliary logits, both at the input's size."""
        ...


class Network(nn.Module):
    """What the networks of all tasks share: raw pixels in, and an encoder that can be filled and frozen.

    The body is a module with a child ``encoder``; it takes normalised pictures (B, 3, H, W), H and W multiples
    of ``stride`` and at least ``least_size``. This wrapper normalises and pads at the right and the bottom up to
    such a size. Padding comes after normalisation and is zero, so the body sees the mean colour there.

    BatchNorm layers of the body accept one value per channel (``LenientBatchNorm2d``), so every network trains
    with ``batch_size: 1``.

    Args:
        body: the network proper.
        stride: pixels; the body's input size must be a multiple.
        least_size: pixels, a multiple of ``stride``; the smallest input that the body takes. Default: 2 strides,
            so that no feature map of a spatial stage is a single pixel.
        mean, std: of RGB, as fractions of the full range. Kept in grey levels as buffers ``mean`` and ``std``.
        pretrained_name: the timm model whose ImageNet weights fit the encoder; None: there is none.
        freeze_bn: the encoder's BatchNorm layers keep statistics, scales and offsets, also in training mode.
        freeze_encoder: the encoder keeps all its parameters and stays in evaluation mode.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        *,
        stride: int,
        least_size: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        pretrained_name: str | None = None,
        freeze_bn: bool = False,
        freeze_encoder: bool = False,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.least_size = 2 * stride if least_size is None else least_size
        self.pretrained_name = pretrained_name
        self.freeze_bn = freeze_bn
        self.freeze_encoder = freeze_encoder
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1) * 255)
        accept_single_values(body)
        self.body = body
        if freeze_encoder:
            self.encoder.requires_grad_(False)
        elif freeze_bn:
            for norm in self._encoder_batch_norms():
                norm.requires_grad_(False)
        self.train(self.training)

    @property
    def encoder(self) -> nn.Module:
        """The part that weights from ImageNet can fill."""
        encoder = self.body.encoder
        assert isinstance(encoder, nn.Module)
        return encoder

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """All parameters of the encoder, frozen ones too."""
        return self.encoder.parameters()

    def decoder_parameters(self) -> Iterator[nn.Parameter]:
        """All parameters that do not belong to the encoder."""
        of_encoder = {id(parameter) for parameter in self.encoder_parameters()}
        return (parameter for parameter in self.parameters() if id(parameter) not in of_encoder)

    def own_names(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A state as it is, or under this network's names if it is of a foreign kind that the network knows."""
        return state

    def train(self, mode: bool = True) -> Self:
        """As in ``nn.Module``, but frozen parts stay in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        elif self.freeze_bn:
            for norm in self._encoder_batch_norms():
                norm.eval()
        return self

    def has_frozen_statistics(self) -> bool:
        """Whether BatchNorm layers of the encoder never learn statistics of their own."""
        return (self.freeze_bn or self.freeze_encoder) and any(True for _ in self._encoder_batch_norms())

    def _prepare(self, images: Tensor) -> Tensor:
        x = (images.to(self.mean.dtype) - self.mean) / self.std
        height, width = images.shape[-2:]
        return functional.pad(x, (0, self._padded(width) - width, 0, self._padded(height) - height))

    def _padded(self, length: int) -> int:
        # Not the builtin max: it would fix one side of the comparison in an exported graph.
        return torch.sym_max(-(-length // self.stride) * self.stride, self.least_size)  # type: ignore[return-value]

    def _encoder_batch_norms(self) -> Iterator[nn.Module]:
        return (module for module in self.encoder.modules() if isinstance(module, _BatchNorm))


class SegmentationNetwork(Network):
    """A network for pictures of any size that labels their pixels.

    The body returns logits (B, N, H, W) of its input's size; they are cropped back to the picture's.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, N, H, W) of pictures (B, 3, H, W), RGB, 0..255, uint8 or float, H, W >= 1.

        The result is float32, or the lower precision of an autocast region.
        """
        logits: Tensor = self.body(self._prepare(images))
        return logits[..., : images.shape[-2], : images.shape[-1]]

    def forward_training(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Main logits as in ``forward``, and those of the auxiliary head (same shape) where the body has one."""
        if not isinstance(self.body, HasAuxiliaryHead):
            return self(images), None
        height, width = images.shape[-2:]
        main, auxiliary = self.body.forward_with_auxiliary(self._prepare(images))
        return main[..., :height, :width], auxiliary[..., :height, :width]


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Numbers of parameters: ``total = encoder + decoder``; ``trainable`` leaves the frozen ones out."""

    total: int
    trainable: int
    encoder: int
    decoder: int


def parameter_counts(network: Network) -> ParameterCounts:
    """Count the parameters of a network (not its buffers)."""
    encoder = sum(parameter.numel() for parameter in network.encoder_parameters())
    decoder = sum(parameter.numel() for parameter in network.decoder_parameters())
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return ParameterCounts(encoder + decoder, trainable, encoder, decoder)
