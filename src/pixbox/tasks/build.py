"""The table of tasks."""

from __future__ import annotations

from torch import Tensor

from pixbox.config import Experiment
from pixbox.labels import LabelMap
from pixbox.tasks.classification import build_classification
from pixbox.tasks.detection import build_detection
from pixbox.tasks.segmentation import build_segmentation
from pixbox.tasks.task import Task


def build_task(experiment: Experiment, labels: LabelMap, class_weights: Tensor | None = None) -> Task:
    """The task of an experiment with fresh weights; ``class_weights`` (N,) float is for segmentation.

    Raises:
        ModelError: the network cannot be built as asked.
        ConfigError: a setting has no meaning for the task, or an option is unknown or wrong.
    """
    match experiment.task:
        case "segmentation":
            return build_segmentation(experiment, labels, class_weights)
        case "detection":
            return build_detection(experiment, labels)
        case "classification":
            return build_classification(experiment, labels)
