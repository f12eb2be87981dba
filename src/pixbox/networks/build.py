"""Every architecture that a configuration can name, and how it is built. Building never touches the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from pixbox.config import ModelConfig, Task
from pixbox.errors import ConfigError, Fault, ModelError, did_you_mean
from pixbox.networks import segnet
from pixbox.networks.classifier import ClassificationNetwork, Classifier
from pixbox.networks.encoders import EncoderFacts, TimmEncoder, does_not_fit, encoder_facts
from pixbox.networks.fast import STRIDE as FAST_STRIDE
from pixbox.networks.fast import Fast
from pixbox.networks.network import IMAGENET_MEAN, IMAGENET_STD, SegmentationNetwork
from pixbox.networks.pspnet import OUTPUT_STRIDE as PSPNET_STRIDE
from pixbox.networks.pspnet import PSPNet
from pixbox.networks.retinanet import DetectionNetwork, build_retinanet
from pixbox.networks.smp import build_smp_body
from pixbox.networks.unet import CLASSIC_STRIDE, ClassicUNet, UNet


@dataclass(frozen=True, slots=True)
class Option:
    """A parameter of an architecture (``model.options``).

    Attributes:
        type: what a configuration may write; lists are written ``[256, 128]``.
        default: what it is when not written; None: it comes from the encoder.
        meaning: one sentence, with unit and source.
        choices: the only values allowed; empty: any.
        least, most: the smallest and the largest number allowed.
        length: how many values a list must have; None: it depends on the encoder.
    """

    type: Literal["integer", "number", "integers", "numbers", "text"]
    default: Any
    meaning: str
    choices: tuple[Any, ...] = ()
    least: float = 1
    length: int | None = None
    most: float = math.inf

    def fault(self, value: Any) -> str:
        """What is wrong with a value; empty: nothing."""
        if self.choices:
            # A truth value equals 0 or 1, but is neither.
            known = value in self.choices and not isinstance(value, bool)
            return "" if known else f"must be {' or '.join(str(choice) for choice in self.choices)}"
        listed = self.type in ("integers", "numbers")
        if listed and not (isinstance(value, list | tuple) and value and len(value) == (self.length or len(value))):
            return self._wanted()
        right = all(self._allows(item) for item in (value if listed else [value]))
        return "" if right else self._wanted()

    def _allows(self, item: Any) -> bool:
        number = isinstance(item, int) or (isinstance(item, float) and self.type.startswith("number"))
        return number and not isinstance(item, bool) and bool(self.least <= item <= self.most)

    def _wanted(self) -> str:
        limits = f"at least {self.least:g}" + (f" and at most {self.most:g}" if self.most < math.inf else "")
        if self.type in ("integers", "numbers"):
            return f"must be a list of {f'{self.length} ' if self.length else ''}{self.type}, each {limits}"
        return f"must be {'an' if self.type == 'integer' else 'a'} {self.type}, {limits}"


@dataclass(frozen=True, slots=True)
class Body:
    """A network without normalisation and padding, and what ``SegmentationNetwork`` must know of it."""

    module: nn.Module
    stride: int
    facts: EncoderFacts | None
    least_size: int | None = None


@dataclass(frozen=True, slots=True)
class ArchitectureInfo:
    """One architecture.

    Attributes:
        name: as ``model.architecture`` writes it.
        source: paper, and library where the code is not ours.
        default_encoder: taken when ``model.encoder`` is not set; None: it has an encoder of its own.
        encoder_rule: which encoders can be named.
        options: what ``model.options`` may hold.
        build: makes the body from encoder name, number of classes and checked options; None for the other tasks'
            networks, which have builders of their own.
        task: what it is for.
    """

    name: str
    source: str
    default_encoder: str | None
    encoder_rule: str
    options: Mapping[str, Option]
    build: Callable[[str, int, Mapping[str, Any]], Body] | None
    task: Task = "segmentation"


def build_network(model: ModelConfig, num_classes: int) -> SegmentationNetwork:
    """Build the configured network with random weights, in training mode.

    Args:
        model: the configuration; its ``weights`` are not looked at (see ``load_weights``).
        num_classes: channels of the logits, at least 1.

    Raises:
        ConfigError: options are unknown or have wrong values (all at once), or ``unet_classic`` is given an encoder.
        ModelError: the encoder is unknown or does not fit.
    """
    info, options = _info_and_options(model, "segmentation")
    assert info.build is not None
    mean, std = options.pop("mean"), options.pop("std")
    if info.default_encoder is None and model.encoder is not None:
        raise ConfigError(
            f"{info.name} has an encoder of its own, not {model.encoder}",
            where="model.encoder",
            hint="Leave model.encoder out, or set model.architecture to unet.",
        )
    encoder = model.encoder or info.default_encoder or ""
    try:
        body = info.build(encoder, num_classes, options)
        network = SegmentationNetwork(
            body.module,
            stride=body.stride,
            least_size=body.least_size,
            mean=mean or (body.facts.mean if body.facts else IMAGENET_MEAN),
            std=std or (body.facts.std if body.facts else IMAGENET_STD),
            pretrained_name=body.facts.name if body.facts else None,
            freeze_bn=model.freeze_bn,
            freeze_encoder=model.freeze_encoder,
        )
        _try_once(network, encoder, num_classes)
    except ModelError as error:
        rule = f"{info.name} takes {info.encoder_rule}; default: {info.default_encoder}."
        raise ModelError([replace(fault, hint=fault.hint or rule) for fault in error.faults]) from error
    return network


def build_detector(model: ModelConfig, num_classes: int, shapes: int, levels: int) -> DetectionNetwork:
    """Build the configured detector with random weights, in training mode, for so many anchors at each cell.

    Raises:
        ConfigError: options are unknown or have wrong values (all at once), or the architecture is for another task.
        ModelError: the encoder is unknown or does not fit.
    """
    info, options = _info_and_options(model, "detection")
    return build_retinanet(
        model.encoder or info.default_encoder or "",
        num_classes,
        shapes,
        levels=levels,
        freeze_bn=model.freeze_bn,
        freeze_encoder=model.freeze_encoder,
        **options,
    )


def build_classifier(model: ModelConfig, num_classes: int) -> ClassificationNetwork:
    """Build the configured classifier with random weights, in training mode.

    Raises:
        ConfigError: options are unknown or have wrong values (all at once), or the architecture is for another task.
        ModelError: the encoder is unknown or does not fit.
    """
    info, options = _info_and_options(model, "classification")
    facts = encoder_facts(model.encoder or info.default_encoder or "")
    encoder = TimmEncoder(facts, norm=options["encoder_norm"])
    return ClassificationNetwork(
        Classifier(encoder, num_classes, options["dropout"]),
        stride=_COARSEST,
        mean=options["mean"] or facts.mean,
        std=options["std"] or facts.std,
        pretrained_name=facts.name if options["encoder_norm"] == "batch" else None,
        freeze_bn=model.freeze_bn,
        freeze_encoder=model.freeze_encoder,
    )


def _info_and_options(model: ModelConfig, task: Task) -> tuple[ArchitectureInfo, dict[str, Any]]:
    info = ARCHITECTURES[model.architecture]
    if info.task != task:
        fitting = ", ".join(name for name, other in ARCHITECTURES.items() if other.task == task)
        raise ConfigError(
            f"{info.name} is for {info.task}, not {task}", where="model.architecture", hint=f"Known: {fitting}."
        )
    return info, _checked_options(info, model.options)


def _checked_options(info: ArchitectureInfo, written: Mapping[str, Any]) -> dict[str, Any]:
    """The options with defaults filled in."""
    faults = []
    for name, value in written.items():
        where = f"model.options.{name}"
        if name not in info.options:
            faults.append(Fault(where, f"{info.name} has no such option. {did_you_mean(name, info.options)}"))
        elif wrong := info.options[name].fault(value):
            faults.append(Fault(where, f"{wrong} (found {value!r})", info.options[name].meaning))
    if faults:
        raise ConfigError(faults)
    return {name: written.get(name, option.default) for name, option in info.options.items()}


def _try_once(network: SegmentationNetwork, encoder: str, num_classes: int) -> None:
    """Label one small picture, so that an encoder that does not fit is refused here and not in the first step."""
    height, width = network.least_size, network.least_size + network.stride
    network.eval()
    try:
        with torch.no_grad():
            shape = tuple(network(torch.zeros(1, 3, height, width)).shape)
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise does_not_fit(encoder, error) from error
    if shape != (1, num_classes, height, width):
        reason = f"logits come out at {shape[2]}x{shape[3]} for a picture of {height}x{width}"
        raise does_not_fit(encoder, reason)
    network.train()


def _unet(encoder: str, num_classes: int, options: Mapping[str, Any]) -> Body:
    facts = encoder_facts(encoder)
    unet = UNet(facts, num_classes, **options)
    return Body(unet, unet.stride, facts)


def _unet_classic(_: str, num_classes: int, options: Mapping[str, Any]) -> Body:
    return Body(ClassicUNet(num_classes, **options), CLASSIC_STRIDE, None)


def _fast(_: str, num_classes: int, options: Mapping[str, Any]) -> Body:
    return Body(Fast(num_classes, **options), FAST_STRIDE, None)


def _segnet(encoder: str, num_classes: int, _: Mapping[str, Any]) -> Body:
    if encoder not in segnet.PRETRAINED_NAMES:
        raise ModelError(f'segnet takes {" or ".join(segnet.PRETRAINED_NAMES)}, not "{encoder}"', where="model.encoder")
    return Body(
        segnet.SegNet(encoder, num_classes),
        segnet.STRIDE,
        encoder_facts(segnet.PRETRAINED_NAMES[encoder]),
    )


def _pspnet(encoder: str, num_classes: int, options: Mapping[str, Any]) -> Body:
    facts = encoder_facts(encoder)
    return Body(PSPNet(facts, num_classes, **options), PSPNET_STRIDE, facts)


def _smp(name: str) -> Callable[[str, int, Mapping[str, Any]], Body]:
    def build(encoder: str, num_classes: int, options: Mapping[str, Any]) -> Body:
        facts = encoder_facts(encoder)
        module, stride, least_size = build_smp_body(name, facts, num_classes, options)
        return Body(module, stride, facts, least_size)

    return build


_COARSEST = 32
_PYRAMID = "any timm model with a pyramid of features (strides 2 or 4 to 32)"
_DILATED = "timm models that take output_stride (resnet*, mobilenet*, efficientnet*, convnext*, ...)"
_COMMON = {
    "mean": Option("numbers", None, "Mean of R, G, B as fractions of 255; default: the encoder's.", least=0, length=3),
    "std": Option("numbers", None, "Standard deviation of R, G, B likewise.", least=0.001, length=3),
}
_ENCODER_NORM = Option(
    "text", "batch", "Normalisation in the encoder; group: for small batches from scratch.", ("batch", "group")
)
_STEPS = Option("integers", [256, 128, 64, 32, 16], "Channels of each decoder step, coarsest first.")
_DOUBLING = Option("text", "nearest", "How the decoder doubles a feature.", ("nearest", "bilinear"))
_ATROUS = {
    "decoder_channels": Option("integer", 256, "Channels of the atrous pyramid."),
    "decoder_atrous_rates": Option(
        "integers", [12, 24, 36], "Dilations of its convolutions, feature pixels.", length=3
    ),
    "decoder_aspp_dropout": Option("number", 0.5, "Dropout probability after the atrous pyramid.", least=0, most=1),
}


def _output_stride(default: int, *choices: int) -> Option:
    return Option("integer", default, "Coarsest stride of the encoder, pixels.", choices)


_TABLE = (
    ArchitectureInfo(
        "unet",
        "Ronneberger et al. 2015, on a timm encoder",
        "resnet34",
        _PYRAMID,
        {"decoder_channels": _STEPS, "upsample": _DOUBLING},
        _unet,
    ),
    ArchitectureInfo(
        "unet_classic",
        "Ronneberger et al. 2015, with normalisation",
        None,
        "no named encoder: it has its own",
        {
            "base_channels": Option("integer", 64, "Channels of the first level; they double four times."),
            "norm": Option("text", "batch", "BatchNorm, or GroupNorm for small batches.", ("batch", "group")),
        },
        _unet_classic,
    ),
    ArchitectureInfo(
        "fast",
        "pixbox 2026: dense convolutions, for training and use on a CPU",
        None,
        "no named encoder: it has its own",
        {
            "channels": Option("integers", [48, 96, 160, 256], "Channels at strides 4, 8, 16 and 32.", length=4),
            "depths": Option("integers", [1, 2, 3, 2], "Residual blocks at each of them.", length=4),
            "decoder_channels": Option("integer", 64, "Channels of the decoder at strides 4 and 8."),
            "fine_channels": Option("integer", 16, "Channels at stride 2."),
            "dropout": Option("number", 0.1, "Dropout probability of the decoder's channels.", least=0, most=1),
        },
        _fast,
    ),
    ArchitectureInfo(
        "segnet",
        "Badrinarayanan et al. 2017",
        "vgg16",
        "vgg16 (with BatchNorm) or resnet50 (pooling instead of strides)",
        {},
        _segnet,
    ),
    ArchitectureInfo(
        "pspnet",
        "Zhao et al. 2017",
        "resnet50",
        _DILATED,
        {"bins": Option("integers", [1, 2, 3, 6], "Grids of regions over which the last feature is averaged.")},
        _pspnet,
    ),
    ArchitectureInfo(
        "unetplusplus",
        "Zhou et al. 2018 (SMP)",
        "resnet34",
        _PYRAMID,
        {
            "decoder_channels": _STEPS,
            "decoder_attention_type": Option("text", "none", "Attention (Roy et al. 2018).", ("none", "scse")),
            "decoder_interpolation": _DOUBLING,
        },
        _smp("unetplusplus"),
    ),
    ArchitectureInfo(
        "manet",
        "Fan et al. 2020 (SMP)",
        "resnet34",
        _PYRAMID,
        {
            "decoder_channels": _STEPS,
            "decoder_pab_channels": Option("integer", 64, "Channels of the position attention."),
            "decoder_interpolation": _DOUBLING,
        },
        _smp("manet"),
    ),
    ArchitectureInfo("linknet", "Chaurasia and Culurciello 2017 (SMP)", "resnet34", _PYRAMID, {}, _smp("linknet")),
    ArchitectureInfo(
        "fpn",
        "Kirillov et al. 2019, Panoptic feature pyramid networks (SMP)",
        "resnet34",
        _PYRAMID,
        {
            "decoder_pyramid_channels": Option("integer", 256, "Channels of the feature pyramid."),
            "decoder_segmentation_channels": Option(
                "integer", 128, "Channels of the segmentation blocks, a multiple of 32."
            ),
            "decoder_merge_policy": Option("text", "add", "How the blocks are joined.", ("add", "cat")),
            "decoder_dropout": Option("number", 0.2, "Dropout probability before the logits.", least=0, most=1),
            "decoder_interpolation": _DOUBLING,
        },
        _smp("fpn"),
    ),
    ArchitectureInfo(
        "pan",
        "Li et al. 2018, Pyramid attention network (SMP)",
        "resnet34",
        _DILATED,
        {
            "encoder_output_stride": _output_stride(16, 16, 32),
            "decoder_channels": Option("integer", 32, "Channels of the decoder."),
        },
        _smp("pan"),
    ),
    ArchitectureInfo(
        "deeplabv3",
        "Chen et al. 2017 (SMP)",
        "resnet50",
        _DILATED,
        {"encoder_output_stride": _output_stride(8, 8, 16), **_ATROUS},
        _smp("deeplabv3"),
    ),
    ArchitectureInfo(
        "deeplabv3plus",
        "Chen et al. 2018 (SMP)",
        "resnet50",
        _DILATED,
        {"encoder_output_stride": _output_stride(16, 8, 16), **_ATROUS},
        _smp("deeplabv3plus"),
    ),
    ArchitectureInfo(
        "upernet",
        "Xiao et al. 2018 (SMP)",
        "resnet50",
        _PYRAMID,
        {"decoder_channels": Option("integer", 256, "Channels of the decoder.")},
        _smp("upernet"),
    ),
    ArchitectureInfo(
        "segformer",
        "Xie et al. 2021 (SMP); timm has no MiT encoder, PVT v2 is its nearest relative",
        "pvt_v2_b0",
        _PYRAMID,
        {"decoder_segmentation_channels": Option("integer", 256, "Channels of the decoder.")},
        _smp("segformer"),
    ),
    ArchitectureInfo(
        "dpt",
        "Ranftl et al. 2021 (SMP)",
        "vit_small_patch16_224",
        "timm vision transformers with patches of 8, 16 or 32 pixels",
        {
            "decoder_readout": Option("text", "cat", "What becomes of the class token.", ("cat", "add", "ignore")),
            "decoder_intermediate_channels": Option(
                "integers", [96, 192, 384, 768], "Channels of the reassembled features, finest first.", length=4
            ),
            "decoder_fusion_channels": Option("integer", 128, "Channels of the decoder."),
        },
        _smp("dpt"),
    ),
    ArchitectureInfo(
        "retinanet",
        "Lin et al. 2017, Focal loss for dense object detection",
        "resnet50",
        "any timm model with features of strides 8, 16 and 32",
        {
            "channels": Option("integer", 256, "Channels of every level and tower."),
            "depth": Option("integer", 4, "Convolutions of each tower."),
            "norm": Option("text", "group", "Normalisation in the towers.", ("none", "group")),
            "extra_from": Option("text", "p5", "What the sixth level is made of.", ("p5", "c5")),
            "encoder_norm": _ENCODER_NORM,
        },
        None,
        "detection",
    ),
    ArchitectureInfo(
        "classifier",
        "He et al. 2016, Deep residual learning: the mean of the last feature, a linear layer",
        "resnet50",
        "any timm model with a pyramid of features",
        {
            "dropout": Option("number", 0.0, "Dropout probability before the linear layer.", least=0, most=1),
            "encoder_norm": _ENCODER_NORM,
        },
        None,
        "classification",
    ),
)

ARCHITECTURES: dict[str, ArchitectureInfo] = {
    info.name: replace(info, options={**info.options, **_COMMON}) for info in _TABLE
}
