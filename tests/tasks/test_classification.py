"""What a classifier counts and tells in training."""

from __future__ import annotations

import torch
from torch import nn

from pixbox.labels import LabelMap
from pixbox.metrics import ClassificationScores
from pixbox.sample import Batch
from pixbox.tasks.classification import ClassificationTask


def task_of(classes: int) -> ClassificationTask:
    class Right(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """Every picture's class is the first channel of its first pixel."""
            return nn.functional.one_hot(images[:, 0, 0, 0].long(), classes).float()

    labels = LabelMap.model_validate({"classes": [f"c{i}" for i in range(classes)]})
    return ClassificationTask(Right(), labels, 0.0)  # type: ignore[arg-type]


def test_training_accuracy_is_the_share_of_pictures_that_are_found() -> None:
    task, images = task_of(300), torch.zeros(4, 3, 2, 2)
    images[:, 0, 0, 0] = torch.tensor([0.0, 255, 299, 7])
    seen = task.training_confusion()
    assert task.training_figures(seen) == {"accuracy": None}
    task.loss_sums(Batch(images, torch.tensor([0, 255, 299, 8]), tuple("abcd")), seen)
    assert task.training_figures(seen) == {"accuracy": 3 / 4}
    # Two numbers, however many classes: a thousand would be eight megabytes in every checkpoint.
    assert seen.matrix.shape == (2, 2)


def test_few_classes_have_a_curve_each_and_many_have_none() -> None:
    for count, curves in ((100, 100), (101, 0)):
        scores = ClassificationScores(count)
        scores.update(torch.eye(count), torch.arange(count))
        task = task_of(count)
        assert len(task.class_figures(task.metrics(scores, count))) == curves
