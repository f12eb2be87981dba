"""RetinaNet: a feature pyramid on any timm encoder, and two heads that answer for every anchor."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixbox.networks.encoders import TimmEncoder, does_not_fit, encoder_facts
from pixbox.networks.layers import Norm, norm_layer
from pixbox.networks.network import IMAGENET_MEAN, IMAGENET_STD, Network

ENCODER_STRIDES = (8, 16, 32)
PRIOR = 0.01
"""Probability that an untrained network gives every class at every anchor."""

HeadNorm = Literal["none", "group"]
ExtraSource = Literal["p5", "c5"]


class FeaturePyramid(nn.Module):
    """Levels of equal channels from an encoder's features of strides 8, 16 and 32: P3, P4, P5, P6, P7.

    Each feature is reduced by a 1x1 convolution and joined with the coarser one, doubled; a 3x3 convolution gives the
    level. P6 and P7 are 3x3 convolutions of stride 2, with a ReLU between them.

    Args:
        inputs: channels of the three features, finest first.
        channels: of every level.
        levels: how many, 1 to 5, from P3 on.
        extra_from: what P6 is made of: P5, or the encoder's last feature (``c5``), as in the paper.

    Source: Lin et al. 2017, Feature Pyramid Networks, section 3; Focal Loss for Dense Object Detection, section 4.
    """

    def __init__(self, inputs: Sequence[int], channels: int, levels: int, extra_from: ExtraSource) -> None:
        super().__init__()
        self._from_encoder = extra_from == "c5"
        first = inputs[-1] if self._from_encoder else channels
        self.lateral = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in inputs)
        self.smooth = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(min(levels, len(inputs)))
        )
        self.extra = nn.ModuleList(
            nn.Conv2d(first if index == 0 else channels, channels, 3, stride=2, padding=1)
            for index in range(levels - len(self.smooth))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(B, channels, h, w) for each level, finest first; sizes halve from level to level and are rounded up."""
        merged = self.lateral[-1](features[-1])
        joined = [merged]
        for lateral, feature in zip(self.lateral[-2::-1], features[-2::-1], strict=True):
            merged = lateral(feature) + functional.interpolate(merged, size=feature.shape[-2:], mode="nearest")
            joined.insert(0, merged)
        # Fewer levels than features: the coarse ones serve the finer ones only.
        levels = [smooth(level) for smooth, level in zip(self.smooth, joined, strict=False)]
        for index, convolution in enumerate(self.extra):
            if index == 0:
                levels.append(convolution(features[-1] if self._from_encoder else levels[-1]))
            else:
                levels.append(convolution(functional.relu(levels[-1])))
        return levels


class Head(nn.Module):
    """A tower of 3x3 convolutions with ReLU and one more that gives ``values`` numbers for each of ``shapes`` anchors.

    The same at every level. Weights begin with a deviation of 0.01, biases at 0.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, section 4; GroupNorm in the tower as in
    Tian et al. 2019, FCOS, section 4.
    """

    def __init__(self, channels: int, depth: int, norm: HeadNorm, shapes: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.tower = nn.Sequential(*(_tower_step(channels, norm) for _ in range(depth)))
        self.output = nn.Conv2d(channels, shapes * values, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """(B, K, values), ordered by level, row, column and shape."""
        answers = (self.output(self.tower(level)) for level in levels)
        return torch.cat([a.permute(0, 2, 3, 1).reshape(a.shape[0], -1, self.values) for a in answers], dim=1)


class RetinaNet(nn.Module):
    """Encoder, pyramid and heads: normalised pictures in, an answer for every anchor out.

    Args:
        encoder: with features of strides 8, 16 and 32.
        num_classes: answers per anchor, each with a sigmoid of its own; at least 1. There is no background class.
        shapes: anchors at each cell.
        levels: of the pyramid, 1 (P3) to 5 (P3 to P7).
        channels: of every level and tower.
        depth: convolutions of each tower; 4 in the paper.
        norm: in the towers.
        extra_from: what P6 is made of (see ``FeaturePyramid``).

    Raises:
        ModelError: the encoder lacks a feature.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, section 4.
    """

    def __init__(
        self,
        encoder: TimmEncoder,
        num_classes: int,
        shapes: int,
        *,
        levels: int = 5,
        channels: int = 256,
        depth: int = 4,
        norm: HeadNorm = "none",
        extra_from: ExtraSource = "p5",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_classes = num_classes
        self._features = [encoder.strides.index(stride) for stride in ENCODER_STRIDES]
        inputs = [encoder.channels[index] for index in self._features]
        self.pyramid = FeaturePyramid(inputs, channels, levels, extra_from)
        self.class_head = Head(channels, depth, norm, shapes, num_classes)
        self.box_head = Head(channels, depth, norm, shapes, 4)
        assert self.class_head.output.bias is not None
        nn.init.constant_(self.class_head.output.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, x: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Logits (B, K, C) and offsets (B, K, 4) of the upper left ``size_hw`` pixels of ``x``, the rest is padding."""
        height, width = size_hw
        found = self.encoder(x)
        # Without the cells that show padding alone, what follows is the same for encoders that need it and others.
        features = [
            found[index][:, :, : _cells(height, stride), : _cells(width, stride)]
            for index, stride in zip(self._features, ENCODER_STRIDES, strict=True)
        ]
        levels = self.pyramid(features)
        return self.class_head(levels), self.box_head(levels)


class DetectionNetwork(Network):
    """A network for pictures of any size that answers for every anchor.

    Level i has ceil(H / stride) rows and ceil(W / stride) columns of cells at every size, as ``boxes.Anchors``
    counts them, padded or not.
    """

    body: RetinaNet

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K, C) and offsets (B, K, 4) of pictures (B, 3, H, W), RGB, 0..255, uint8 or float, H, W >= 1.

        Anchors are in the order of ``boxes.grid`` for (H, W). The results are float32, or the lower precision of an
        autocast region.
        """
        logits, offsets = self.body(self._prepare(images), (images.shape[-2], images.shape[-1]))
        return logits, offsets

    def own_names(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Torchvision's RetinaNet on ResNet-50 is known (see ``torchvision_state``)."""
        return torchvision_state(state, self.body.num_classes) if _is_torchvision(state) else state


def build_retinanet(
    encoder: str,
    num_classes: int,
    shapes: int,
    *,
    levels: int = 5,
    channels: int = 256,
    depth: int = 4,
    norm: HeadNorm = "none",
    extra_from: ExtraSource = "p5",
    encoder_norm: Norm = "batch",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    freeze_bn: bool = False,
    freeze_encoder: bool = False,
) -> DetectionNetwork:
    """A RetinaNet with random weights, in training mode.

    Args:
        encoder: a timm model with a pyramid of features.
        encoder_norm: ``group`` for small batches from scratch (see ``TimmEncoder``).
        mean, std: of RGB, as fractions of 255; default: the encoder's.
        num_classes, shapes, levels, channels, depth, norm, extra_from: as in ``RetinaNet``.
        freeze_bn, freeze_encoder: as in ``Network``.

    Raises:
        ModelError: the encoder is unknown, or lacks a feature of stride 8, 16 or 32.
    """
    facts = encoder_facts(encoder)
    built = TimmEncoder(facts, norm=encoder_norm)
    if not set(ENCODER_STRIDES) <= set(built.strides):
        raise does_not_fit(encoder, f"its features have strides {built.strides}; RetinaNet needs 8, 16 and 32")
    stride = _stride_of_whole_features(encoder, built)
    body = RetinaNet(
        built, num_classes, shapes, levels=levels, channels=channels, depth=depth, norm=norm, extra_from=extra_from
    )
    return DetectionNetwork(
        body,
        stride=stride,
        least_size=2 * ENCODER_STRIDES[-1],
        mean=mean or facts.mean,
        std=std or facts.std,
        pretrained_name=facts.name if encoder_norm == "batch" else None,
        freeze_bn=freeze_bn,
        freeze_encoder=freeze_encoder,
    )


def torchvision_state(state: Mapping[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    """The weights of torchvision's ``retinanet_resnet50_fpn`` or ``_v2`` under the names of a ``DetectionNetwork``.

    They belong into a network on ``resnet50`` with 9 shapes (``torchvision_anchors``), 5 levels, 256 channels, depth
    4; v1 with ``norm="none"`` and ``extra_from="p5"``, v2 with ``"group"`` and ``"c5"``. Its normalisation comes along.

    Torchvision's classes begin with one for background that nothing trains; it is left out where ``num_classes`` is
    one less than theirs. For the 80 classes of COCO, also those numbers are that COCO does not use.
    """
    shapes = state["head.regression_head.bbox_reg.bias"].shape[0] // 4
    kept = _kept_classes(state["head.classification_head.cls_logits.bias"].shape[0] // shapes, num_classes)
    # Files of this layout hold the published weights of v1, whose frozen BatchNorm adds nothing to the variance.
    adds_nothing = "backbone.fpn.inner_blocks.0.weight" in state and not any("num_batches" in key for key in state)
    renamed = {}
    for key, tensor in state.items():
        value = tensor
        if ".cls_logits." in key:
            value = tensor.view(shapes, -1, *tensor.shape[1:])[:, kept].flatten(0, 1)
        elif adds_nothing and key.endswith("running_var"):
            value = tensor - nn.BatchNorm2d(1).eps
        renamed[_own_name(key)] = value
    renamed["mean"] = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255
    renamed["std"] = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255
    return renamed


_OWN_NAMES = (
    (r"backbone\.body\.", "body.encoder.model."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(0\.)?", r"body.pyramid.lateral.\1."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(0\.)?", r"body.pyramid.smooth.\1."),
    (r"backbone\.fpn\.extra_blocks\.p6\.", "body.pyramid.extra.0."),
    (r"backbone\.fpn\.extra_blocks\.p7\.", "body.pyramid.extra.1."),
    (r"head\.classification_head\.cls_logits\.", "body.class_head.output."),
    (r"head\.regression_head\.bbox_reg\.", "body.box_head.output."),
    (r"head\.classification_head\.conv\.", "body.class_head.tower."),
    (r"head\.regression_head\.conv\.", "body.box_head.tower."),
)


def _own_name(key: str) -> str:
    for theirs, ours in _OWN_NAMES:
        key = re.sub(f"^{theirs}", ours, key)
    # In the old layout convolutions and ReLUs are numbered alike, and nothing stands between number and tensor.
    return re.sub(r"\.tower\.(\d)\.(weight|bias)$", lambda old: f".tower.{int(old[1]) // 2}.0.{old[2]}", key)


def _kept_classes(found: int, wanted: int) -> list[int]:
    if found == wanted + 1:
        return list(range(1, found))
    from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

    names = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    used = [index for index, name in enumerate(names) if index > 0 and name != "N/A"]
    return used if (found, wanted) == (len(names), len(used)) else list(range(found))


def _is_torchvision(state: Mapping[str, Tensor]) -> bool:
    return "head.classification_head.cls_logits.bias" in state and "head.regression_head.bbox_reg.bias" in state


def _stride_of_whole_features(name: str, encoder: TimmEncoder) -> int:
    """What sizes must be multiples of, so that features have every cell that is begun: 1 or the coarsest stride."""
    coarsest = ENCODER_STRIDES[-1]
    failure: object = ""
    encoder.eval()
    # One pixel more than a multiple, so that every halving meets an odd size.
    for stride, height, width in ((1, 2 * coarsest + 1, 3 * coarsest + 1), (coarsest, 2 * coarsest, 3 * coarsest)):
        try:
            with torch.no_grad():
                sizes = [tuple(feature.shape[-2:]) for feature in encoder(torch.zeros(1, 3, height, width))]
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
            # timm has no error type of its own for a size that a model cannot take.
            failure = error
            continue
        wanted = [(_cells(height, each), _cells(width, each)) for each in encoder.strides]
        if sizes == wanted:
            encoder.train()
            return stride
        failure = f"its features have sizes {sizes} for a picture of {height}x{width}"
    raise does_not_fit(name, failure)


def _cells(length: int, stride: int) -> int:
    return -(-length // stride)


def _tower_step(channels: int, norm: HeadNorm) -> nn.Sequential:
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=norm == "none")
    normalisation = [] if norm == "none" else [norm_layer(norm, channels)]
    return nn.Sequential(convolution, *normalisation, nn.ReLU(inplace=True))
