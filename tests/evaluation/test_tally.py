"""What is counted of each picture: the same, whoever counts it and in whatever order parts are added up."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pixbox.boxes import Selection, compact_anchors
from pixbox.config import DetectionConfig
from pixbox.evaluation.tally import WORST, Tally
from pixbox.labels import IGNORE, LabelMap
from pixbox.losses import DetectionLoss
from pixbox.metrics.bootstrap import intervals
from pixbox.sample import Boxes, Category, Mask, Placement, WholeImage
from pixbox.tasks.classification import ClassificationTask
from pixbox.tasks.detection import DetectionTask
from pixbox.tasks.segmentation import SegmentationTask
from pixbox.tasks.task import Task

LABELS = LabelMap.model_validate({"classes": ["one", "two", "three"]})
SIZE_HW = (20, 30)
PICTURES = WORST + 7


def segmentation() -> Task:
    loss: Any = None
    network: Any = nn.Identity()
    return SegmentationTask(network, loss, LABELS, 0.0)


def detection() -> Task:
    network: Any = nn.Identity()
    loss = DetectionLoss(alpha=0.25, gamma=2, box_loss="smooth_l1", beta=0.1, box_weight=1)
    return DetectionTask(network, compact_anchors(), loss, LABELS, DetectionConfig())


def classification() -> Task:
    network: Any = nn.Identity()
    return ClassificationTask(network, LABELS, 0.0)


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.integers(0, 12, (count, 2))
    return np.concatenate((corners, corners + rng.integers(4, 8, (count, 2))), axis=1).astype(np.float32)


def picture(task: Task, index: int) -> tuple[WholeImage, Any, torch.Tensor | None]:
    """A picture with its truth, a fair prediction of it, and for pixels how sure that is."""
    rng = np.random.default_rng(index)
    target: Any
    confidence = None
    if isinstance(task, SegmentationTask):
        classes = rng.integers(0, 3, SIZE_HW).astype(np.uint8)
        prediction: Any = torch.from_numpy(np.where(rng.random(SIZE_HW) < 0.7, classes, 1).astype(np.uint8))
        classes[:3] = IGNORE
        target, confidence = Mask(classes), torch.from_numpy(rng.random(SIZE_HW).astype(np.float32))
    elif isinstance(task, DetectionTask):
        xyxy, count = boxes(rng, 3), 3
        target = Boxes(xyxy, rng.integers(0, 3, count), np.zeros(count, bool), np.zeros(count, bool))
        found = np.concatenate((xyxy, boxes(rng, 4)))
        scores = rng.integers(1, 9, 7) / 10  # equal scores are likely
        prediction = Selection(*(torch.from_numpy(part) for part in (found, rng.integers(0, 3, 7), scores)))
    else:
        target = Category(int(rng.integers(0, 3)))
        prediction = torch.from_numpy(rng.dirichlet((1, 1, 1)).astype(np.float32))
    image = np.zeros((*SIZE_HW, 3), dtype=np.uint8)
    return WholeImage(f"p{index}", image, Placement(SIZE_HW, SIZE_HW, SIZE_HW), target, image), prediction, confidence


def tally(task: Task, name: str, places: list[int]) -> Tally:
    """As a process sends it to another."""
    counted = Tally(task, name)
    for index in places:
        counted.add(task, index, *picture(task, index), "whole")
    return pickle.loads(pickle.dumps(counted))  # type: ignore[no-any-return]


def everything(task: Task, tally: Tally) -> dict[str, Any]:
    """All that an evaluation writes down, comparable with ``==``."""

    def plain(found: Any) -> list[Any]:
        parts = (found.boxes_xyxy, found.classes, found.scores) if isinstance(found, Selection) else (found,)
        return [part.tolist() for part in parts]

    pictures = tally.pictures.finish()
    return {
        "metrics": task.metrics(tally.scores, PICTURES).to_plain(),
        "calibration": tally.calibration().bins(),
        "ece": tally.calibration().ece(),
        "boundary": tally.boundary.compute(LABELS.names),
        "intervals": intervals(pictures, resamples=20),
        "pictures": {name: array.tolist() for name, array in pictures.save_arrays().items()} | {"ids": pictures.ids},
        "worst": [(index, plain(found)) for index, found in tally.worst()],
        "modes": tally.modes,
    }


TASKS = [(segmentation, "segmentation"), (detection, "detection"), (classification, "classification")]


@pytest.mark.parametrize(("build", "name"), TASKS)
@pytest.mark.parametrize("world", [2, 3, PICTURES + 2])
def test_parts_of_several_processes_equal_the_whole_digit_for_digit(build: Any, name: str, world: int) -> None:
    task = build()
    whole = everything(task, tally(task, name, list(range(PICTURES))))
    parts = [tally(task, name, list(range(rank, PICTURES, world))) for rank in range(world)]
    for part in parts[1:]:
        parts[0].merge(part)
    assert everything(task, parts[0]) == whole
    assert whole["ece"] > 0


def test_the_worst_pictures_are_those_of_the_lowest_miou() -> None:
    task = segmentation()
    counted = tally(task, "segmentation", list(range(PICTURES)))
    mious = {}
    for index in range(PICTURES):
        item, prediction, _ = picture(task, index)
        scores = task.scores()
        task.score(scores, 0, prediction, item.target)  # type: ignore[arg-type]
        mious[index] = scores.compute(LABELS.names).miou
    worst = counted.worst()
    assert [index for index, _ in worst] == sorted(mious, key=mious.__getitem__)[:WORST]
    for index, prediction in worst:
        assert torch.equal(prediction, picture(task, index)[1])


def test_no_more_masks_are_kept_than_are_shown() -> None:
    task = segmentation()
    few, many = tally(task, "segmentation", list(range(WORST))), tally(task, "segmentation", list(range(3 * WORST)))
    assert len(many._kept) == len(few._kept) == WORST


def test_a_picture_without_labels_is_not_among_the_worst() -> None:
    task = segmentation()
    counted = Tally(task, "segmentation")
    item, prediction, confidence = picture(task, 0)
    void = WholeImage("void", item.image, item.placement, Mask(np.full(SIZE_HW, IGNORE, np.uint8)), item.original)
    counted.add(task, 0, void, prediction, confidence, "whole")
    assert counted.worst() == []
    assert counted.calibration().ece() is None


def test_classes_that_were_found_are_not_shown_and_the_surest_errors_come_first() -> None:
    task = classification()
    counted = Tally(task, "classification")
    image = picture(task, 0)[0]
    for index, (truth, sure) in enumerate([(0, 0.9), (1, 0.7), (2, 0.8), (0, 0.6)]):
        item = WholeImage(str(index), image.image, image.placement, Category(truth), image.original)
        counted.add(task, index, item, torch.tensor([sure, 1 - sure, 0]), None, "whole")
    assert [index for index, _ in counted.worst()] == [2, 1]
