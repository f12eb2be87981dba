"""Networks in pairs: pixbox's and another library's, with the same weights and found to give the same answers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from benchmarks.measure import require
from pixbox.config import Experiment
from pixbox.data.dataset import as_batch
from pixbox.engine.trainer import resolve_precision
from pixbox.labels import LabelMap
from pixbox.networks.network import IMAGENET_MEAN, IMAGENET_STD
from pixbox.networks.retinanet import torchvision_state
from pixbox.optim import build_optimizer
from pixbox.sample import Batch, Placement, Sample
from pixbox.tasks.detection import AnchorAnswer, DetectionTask, build_detection
from pixbox.tasks.segmentation import SegmentationTask, build_segmentation

PRECISION = resolve_precision("auto", "cpu")
"""What `precision: auto` is on this machine: ``bf16`` where the hardware multiplies it."""
EQUAL_BOXES = 0.99
"""Least share of boxes that both find: the last of them may change places with the next."""
_SMP: Mapping[str, Any] = {"unet": smp.Unet, "fpn": smp.FPN, "deeplabv3plus": smp.DeepLabV3Plus}


@dataclass(frozen=True, slots=True)
class SegmentationPair:
    """One network twice.

    Attributes:
        name: architecture and encoder.
        experiment: pixbox's, with ``precision: auto`` resolved.
        task: pixbox's: raw pixels in.
        model: of segmentation-models-pytorch: normalised floats in, (B, 3, H, W).
        equal: what was found equal.
    """

    name: str
    experiment: Experiment
    task: SegmentationTask
    model: nn.Module
    equal: str


def segmentation_pair(
    architecture: str, encoder: str, labels: LabelMap, size_hw: tuple[int, int], **evaluation: Any
) -> SegmentationPair:
    """pixbox's and SMP's network with the same random weights; ``evaluation`` are settings of that section."""
    torch.manual_seed(0)
    experiment = Experiment.model_validate({
        "name": "benchmark",
        "data": {"root": ".", "labels": labels, "size": size_hw},
        "model": {"architecture": architecture, "encoder": encoder},
        "training": {"precision": PRECISION},
        "evaluation": evaluation,
    })  # fmt: skip
    task = build_segmentation(experiment, labels)
    model: nn.Module = _SMP[architecture](f"tu-{encoder}", encoder_weights=None, classes=len(labels))
    # The parts come in one order under other names.
    own, other = task.network.body.state_dict(), model.state_dict()
    shapes = [[tuple(value.shape) for value in state.values()] for state in (own, other)]
    require(shapes[0] == shapes[1], f"{architecture} has the same parts in both libraries")
    model.load_state_dict(dict(zip(other, own.values(), strict=True)))
    words = f"the logits of {architecture}, {encoder}, with the same weights, to a thousandth of their spread"
    images = torch.randint(0, 256, (1, 3, 128, 160), dtype=torch.uint8)
    task.eval(), model.eval()
    with torch.inference_mode():
        found, wanted = task.network(images), model(normalised(images))
    return SegmentationPair(
        f"{architecture}, {encoder}",
        experiment,
        task,
        model,
        require(float((found - wanted).abs().max()) < 1e-3 * float(wanted.std()), words),
    )


def normalised(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32 as ImageNet's networks take them."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((images.float() / 255 - mean) / std).contiguous()


def teach(pair: SegmentationPair, samples: Sequence[Sample], steps: int) -> None:
    """Train the pair a little: a random network gives classes that are nearly equal, which any rounding swaps."""
    task = pair.task
    task.network.to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(
        pair.experiment.optimizer, task.network.encoder_parameters(), task.network.decoder_parameters()
    )
    for step in range(steps):
        batch = as_batch([samples[(2 * step + place) % len(samples)] for place in range(2)])
        small = Batch(batch.images[..., ::2, ::2], _pixels(batch)[..., ::2, ::2], batch.ids)
        optimizer.zero_grad()
        loss = task.total(task.loss_sums(small, None), task.loss_weights(small))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    task.eval()
    pair.model.load_state_dict(dict(zip(pair.model.state_dict(), task.network.body.state_dict().values(), strict=True)))
    pair.model.eval()


def autocast(precision: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def flags(precision: str) -> str:
    """The settings that a careful user of another library makes on this machine, in words."""
    return "channels_last + bf16" if precision == "bf16" else "channels_last"


def _pixels(batch: Batch) -> Tensor:
    assert isinstance(batch.targets, Tensor)
    return batch.targets


@dataclass(frozen=True, slots=True)
class DetectionPair:
    """One RetinaNet twice.

    Attributes:
        name: backbone and variant.
        experiment: pixbox's, with ``precision: auto`` resolved.
        task: pixbox's: raw pixels in.
        model: torchvision's: float pictures 0-1 in, a list.
        equal: what was found equal.
    """

    name: str
    experiment: Experiment
    task: DetectionTask
    model: RetinaNet
    equal: str


def detection_pair(backbone: str, labels: LabelMap, side: int) -> DetectionPair:
    """pixbox's and torchvision's RetinaNet with the same weights, for pictures of ``side`` x ``side``.

    ``backbone`` is ``resnet50`` (torchvision's second version) or ``resnet18`` (the first).
    """
    torch.manual_seed(0)
    second = backbone == "resnet50"
    classes = len(labels)
    settings: dict[str, Any] = {"num_classes": classes, "min_size": side, "max_size": side}
    if second:
        model = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None, **settings)
    else:
        pyramid = resnet_fpn_backbone(
            backbone_name=backbone,
            weights=None,
            norm_layer=nn.BatchNorm2d,
            trainable_layers=5,
            returned_layers=[2, 3, 4],
            extra_blocks=LastLevelP6P7(256, 256),
        )
        model = RetinaNet(pyramid, **settings)
    _give_answers(model)
    experiment = Experiment.model_validate({
        "name": "benchmark",
        "task": "detection",
        "data": {"root": ".", "labels": labels, "size": (side, side), "batch_size": 2},
        "model": {
            "encoder": backbone,
            "options": {
                "encoder_norm": "batch", "norm": "group" if second else "none", "extra_from": "c5" if second else "p5",
            },
        },
        "detection": {"anchors": "torchvision", "box_loss": "giou" if second else "l1"},
        "training": {"precision": PRECISION},
        "evaluation": {"mode": "whole", "batch": 2},
    })  # fmt: skip
    task = build_detection(experiment, labels)
    task.network.load_state_dict(torchvision_state(model.state_dict(), classes))
    name = f"RetinaNet, {backbone}, {side} x {side}"
    return DetectionPair(name, experiment, task, model, _same_detections(task, model, side))


@torch.no_grad()
def _give_answers(model: RetinaNet) -> None:
    """Random weights that find boxes: statistics of its own activations, answers that differ between anchors."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()
    model.backbone(torch.randn(2, 3, 128, 160))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    for module in model.head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    model.eval()
    answers = model.head(list(model.backbone(torch.randn(1, 3, 128, 160)).values()))
    classes, boxes = model.head.classification_head.cls_logits, model.head.regression_head.bbox_reg
    # Sure answers would be rounded to equal scores, and boxes that move far would leave the picture.
    classes.weight *= 0.7 / answers["cls_logits"].abs().max()
    classes.bias.uniform_(-4, -2)
    boxes.weight *= 0.1 / answers["bbox_regression"].abs().max()


@torch.no_grad()
def _same_detections(task: DetectionTask, model: RetinaNet, side: int) -> str:
    """In double precision, so that what differs in the order of additions swaps no two detections."""
    image = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8)
    ours, theirs = copy.deepcopy(task).double().eval(), copy.deepcopy(model).double().eval()
    logits, offsets = ours.network(image.permute(2, 0, 1)[None])
    whole = Placement((side, side), (side, side), (side, side))
    found = ours.decode(AnchorAnswer(logits, offsets, (side, side)), whole)
    [wanted] = theirs([image.permute(2, 0, 1).double() / 255])
    # By pairs: scores that differ in the ninth digit may stand in another order.
    near = torch.cdist(found.boxes_xyxy.double(), wanted["boxes"], p=float("inf")) < 1e-2
    near &= found.classes[:, None] == wanted["labels"]
    near &= (found.scores.double()[:, None] - wanted["scores"]).abs() < 1e-4
    again = int(near.any(dim=0).sum())
    count = len(wanted["scores"])
    words = f"{again} of {count} boxes with the same weights ({EQUAL_BOXES:.0%} asked), to a hundredth of a pixel"
    return require(len(found.scores) == count > 20 and again >= EQUAL_BOXES * count, words)
