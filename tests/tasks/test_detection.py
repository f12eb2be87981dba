"""The detector as a configuration names it, against torchvision's with the same weights and picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection import (
    RetinaNet_ResNet50_FPN_Weights,
    retinanet_resnet50_fpn,
    retinanet_resnet50_fpn_v2,
)

from networks.reference import alive
from pixbox.boxes import Selection, encode_boxes
from pixbox.config import DataConfig, Experiment
from pixbox.data.dataset import fit_whole
from pixbox.data.splits import labels_of
from pixbox.losses import smooth_l1
from pixbox.networks.weights import LoadReport, load_weights
from pixbox.sample import Batch, Boxes, BoxTargets, stack_boxes
from pixbox.tasks.detection import DetectionTask, build_detection

COCO = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
USED = [index for index, name in enumerate(COCO) if index > 0 and name != "N/A"]
BUILDERS = {"v1": retinanet_resnet50_fpn, "v2": retinanet_resnet50_fpn_v2}
OPTIONS = {"v1": {"norm": "none", "extra_from": "p5"}, "v2": {"norm": "group", "extra_from": "c5"}}
SIZE_HW = (352, 480)


def torchvisions(version: str, classes: int, counted: list[int], size_hw: tuple[int, int]) -> TorchvisionRetinaNet:
    """Its own model, which finds the counted classes alone and takes pictures of this size as they are."""
    torch.manual_seed(0)
    model = BUILDERS[version](
        weights=None, weights_backbone=None, num_classes=classes, min_size=size_hw[0], max_size=size_hw[1]
    )
    model = alive(model)
    with torch.no_grad():
        silent = [index for index in range(classes) if index not in counted]
        model.head.classification_head.cls_logits.bias.view(-1, classes)[:, silent] = -30
    # In double precision, so that what differs in the order of additions swaps no two detections.
    return model.double()


def configured(version: str, names: list[str], **detection: Any) -> DetectionTask:
    """A task with torchvision's own defaults, written out."""
    experiment = Experiment.model_validate(
        {
            "name": "coco",
            "task": "detection",
            "data": {"root": "photos", "labels": {"classes": names}, "fit": "crop"},
            "model": {"encoder": "resnet50", "weights": "coco.pth", "options": {"depth": 4, **OPTIONS[version]}},
            "detection": {
                "anchors": "torchvision", "levels": 5, "score_threshold": 0.05, "overlap": "union",
                "overlap_threshold": 0.5, "candidates": 1000, "max_detections": 300, **detection,
            },
        }
    )  # fmt: skip
    return build_detection(experiment, labels_of(experiment))


def loaded(task: DetectionTask, model: TorchvisionRetinaNet, folder: Path) -> LoadReport:
    torch.save(model.float().state_dict(), folder / "retinanet.pth")
    report = load_weights(task.network, str(folder / "retinanet.pth"))
    model.double()
    task.double().eval()
    return report


def picture_of(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


@torch.no_grad()
def found_by(task: DetectionTask, picture: np.ndarray) -> Selection:
    image, placement = fit_whole(picture, DataConfig(root="photos", fit="crop"))
    selected: Selection = task.decode(task.answer(image, placement), placement)
    return selected


@torch.no_grad()
def found_by_torchvision(model: TorchvisionRetinaNet, picture: np.ndarray) -> dict[str, Tensor]:
    image = torch.from_numpy(picture).permute(2, 0, 1).double() / 255
    assert model.transform([image])[0].tensors.shape[-2:] == picture.shape[:2]
    [found] = model([image])
    detections: dict[str, Tensor] = found
    return detections


def assert_same(ours: Selection, theirs: dict[str, Tensor], kept: list[int]) -> None:
    assert len(ours.scores) == len(theirs["scores"]) > 50
    assert ours.classes.unique().numel() > 1
    assert ours.classes.tolist() == [kept.index(label) for label in theirs["labels"].tolist()]
    torch.testing.assert_close(ours.scores, theirs["scores"].float(), rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.boxes_xyxy, theirs["boxes"].float(), rtol=0, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_configuration_with_torchvisions_defaults_finds_torchvisions_boxes_of_coco(
    version: str, tmp_path: Path
) -> None:
    model = torchvisions(version, len(COCO), USED, SIZE_HW)
    task = configured(version, [COCO[index] for index in USED])
    report = loaded(task, model, tmp_path)
    assert report.missing == ()
    assert report.skipped == ()
    picture = picture_of(SIZE_HW)
    assert_same(found_by(task, picture), found_by_torchvision(model, picture), USED)


def test_torchvisions_background_class_makes_place_for_one_without(tmp_path: Path) -> None:
    size_hw = (128, 160)
    model = torchvisions("v2", 6, [1, 2, 3, 4, 5], size_hw)
    task = configured("v2", ["a", "b", "c", "d", "e"])
    assert loaded(task, model, tmp_path).missing == ()
    picture = picture_of(size_hw)
    assert_same(found_by(task, picture), found_by_torchvision(model, picture), [1, 2, 3, 4, 5])


def test_weights_of_coco_start_a_detector_of_three_classes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None)
    task = configured("v2", ["cell", "nucleus", "debris"])
    before = {name: tensor.clone() for name, tensor in task.network.state_dict().items()}
    report = loaded(task, model, tmp_path)
    classes = ("body.class_head.output.weight", "body.class_head.output.bias")
    assert report.missing == classes
    assert report.other_classes
    assert report.summary().endswith(
        "The source has other classes: only what tells them apart starts anew "
        "(body.class_head.output.weight, body.class_head.output.bias)."
    )
    state = task.network.state_dict()
    assert all(torch.equal(state[name], before[name].double()) for name in classes)
    theirs = model.state_dict()
    assert torch.equal(state["body.box_head.output.weight"], theirs["head.regression_head.bbox_reg.weight"])
    assert torch.equal(state["body.class_head.tower.3.0.weight"], theirs["head.classification_head.conv.3.0.weight"])


SMALL = {"encoder": "mobilenetv3_small_050", "options": {"channels": 16, "depth": 1}}


def small(**detection: Any) -> DetectionTask:
    torch.manual_seed(0)
    experiment = Experiment.model_validate(
        {
            "name": "small", "task": "detection", "data": {"root": "photos", "labels": {"classes": ["a", "b"]}},
            "model": SMALL, "detection": {"anchors": [[16, 16], [24, 12]], "levels": 3, **detection},
        }
    )  # fmt: skip
    return build_detection(experiment, labels_of(experiment))


def boxes(*xyxy: tuple[float, ...]) -> Boxes:
    none = np.zeros(len(xyxy), bool)
    return Boxes(np.array(xyxy, np.float32).reshape(-1, 4), np.zeros(len(xyxy), np.int64), none, none)


def batch(*pictures: Boxes) -> Batch:
    images = torch.randint(0, 256, (len(pictures), 3, 64, 96), generator=torch.Generator().manual_seed(2))
    return Batch(images.byte(), stack_boxes(pictures), tuple(str(number) for number in range(len(pictures))))


def test_candidates_are_the_best_of_each_level() -> None:
    picture = picture_of((64, 96))
    everything: dict[str, Any] = {"score_threshold": 0.0, "overlap_threshold": 1.0, "max_detections": 10000}
    # 96 cells of stride 8, 24 of 16, 6 of 32; two shapes and two classes in each.
    assert len(found_by(small(**everything).eval(), picture).scores) == 4 * (96 + 24 + 6)
    assert len(found_by(small(**everything, candidates=5).eval(), picture).scores) == 3 * 5


def test_the_beta_of_smooth_l1_is_that_of_the_configuration() -> None:
    task = small(smooth_l1_beta=0.5)
    truth = batch(boxes((10, 10, 28, 27)))
    sums = task.loss_sums(truth, None)
    _, offsets = task.network(truth.images)
    assert isinstance(truth.targets, BoxTargets)
    assignment = task._assign(truth.targets, (64, 96))
    picture, anchor = (assignment.matches >= 0).nonzero(as_tuple=True)
    wanted = encode_boxes(assignment.boxes_xyxy[0, :1], assignment.anchors_xyxy[anchor])
    torch.testing.assert_close(sums[1], smooth_l1(offsets[picture, anchor], wanted, 0.5).sum())
    assert not torch.isclose(sums[1], smooth_l1(offsets[picture, anchor], wanted, 1 / 9).sum())


def test_a_batch_without_a_box_teaches_the_classes_what_background_is() -> None:
    task = small().train()
    empty = batch(boxes(), boxes())
    assert isinstance(empty.targets, BoxTargets)
    assert empty.targets.boxes_xyxy.shape == (2, 0, 4)
    loss = task.total(task.loss_sums(empty, None), task.loss_weights(empty))
    loss.backward()
    assert loss.isfinite()
    assert task.network.body.class_head.output.weight.grad.any()
    assert not task.network.body.box_head.output.weight.grad.any()
    # No parameter is left without a gradient: processes wait for each other's.
    assert [name for name, p in task.network.named_parameters() if p.grad is None] == []


def test_a_picture_without_boxes_changes_nothing_of_what_its_neighbour_is_to_find() -> None:
    task = small().eval()
    one, both = batch(boxes((10, 10, 30, 30))), batch(boxes((10, 10, 30, 30)), boxes())
    with torch.no_grad():
        alone, together = task.loss_sums(one, None), task.loss_sums(both, None)
    assert torch.equal(task.loss_weights(one), task.loss_weights(both))
    torch.testing.assert_close(together[1], alone[1])
    assert together[0] > alone[0]
