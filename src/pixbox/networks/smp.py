"""The decoders of segmentation-models-pytorch (SMP), on timm encoders.

One rule for encoders: every name is a timm model (SMP's ``tu-`` prefix), never one of SMP's own, so that
names, normalisation and ImageNet weights are the same for all architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from pixbox.networks.encoders import EncoderFacts, create, does_not_fit
from pixbox.networks.layers import BinAverage

_CLASSES: dict[str, Any] = {
    "unetplusplus": smp.UnetPlusPlus,
    "manet": smp.MAnet,
    "linknet": smp.Linknet,
    "fpn": smp.FPN,
    "pan": smp.PAN,
    "deeplabv3": smp.DeepLabV3,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
    "dpt": smp.DPT,
}
_STRIDE = 32
# PAN's attention pools the coarsest feature three times by 2.
_PAN_LEAST_FEATURE = 8


def build_smp_body(
    architecture: str, facts: EncoderFacts, num_classes: int, options: Mapping[str, Any]
) -> tuple[nn.Module, int, int]:
    """An SMP model with random weights, its stride and the least size of its input, pixels.

    Args:
        architecture: a key of this module's table.
        options: SMP's own keyword arguments; the text ``none`` stands for None.

    Raises:
        ModelError: SMP cannot build it on this encoder or with these options.
    """
    arguments = {name: None if value == "none" else value for name, value in options.items()}

    def build(**size_arguments: Any) -> nn.Module:
        model: nn.Module = _CLASSES[architecture](
            f"tu-{facts.name}", encoder_weights=None, classes=num_classes, **arguments, **size_arguments
        )
        return model

    body: Any = create(facts, build)
    if architecture == "dpt":
        _finish_dpt(body, facts)
    if architecture == "upernet":
        for block in body.decoder.psp.blocks:
            block[0] = BinAverage(block[0].output_size)
    stride: int = options.get("encoder_output_stride", _STRIDE)
    return body, stride, stride * (_PAN_LEAST_FEATURE if architecture == "pan" else 2)


def _finish_dpt(body: Any, facts: EncoderFacts) -> None:
    strides = sorted(set(body.encoder.output_strides))
    if not set(strides) <= {8, 16, 32}:
        raise does_not_fit(facts.name, f"its features have strides {strides}; DPT takes 8, 16 or 32")
    # What lies behind the last feature would never see a gradient.
    body.encoder.model.prune_intermediate_layers(body.encoder._output_indices, prune_norm=True, prune_head=True)
