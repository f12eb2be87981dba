"""Reports of invented predictions, with metrics that scikit-learn computes from the same pixels."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score

from pixbox.config import Experiment
from pixbox.labels import IGNORE, LabelMap
from pixbox.report import Example, SegmentationReport


def _metrics(names, truths, predictions):
    truth, prediction = truths.ravel(), predictions.ravel()
    truth, prediction = truth[truth != IGNORE], prediction[truth != IGNORE]
    indices = np.arange(len(names))
    iou = jaccard_score(truth, prediction, labels=indices, average=None, zero_division=0)
    recall = recall_score(truth, prediction, labels=indices, average=None, zero_division=0)
    in_truth, in_either = np.isin(indices, truth), np.isin(indices, np.union1d(truth, prediction))
    shares = np.bincount(truth, minlength=len(names)) / len(truth)
    metrics = {
        "miou": float(iou[in_either].mean()),
        "pixel_accuracy": float((truth == prediction).mean()),
        "mean_accuracy": float(recall[in_truth].mean()),
        "frequency_weighted_iou": float((shares * iou).sum()),
        "class_iou": {n: float(v) if there else None for n, v, there in zip(names, iou, in_either, strict=True)},
        "class_accuracy": {n: float(v) if there else None for n, v, there in zip(names, recall, in_truth, strict=True)},
        "images": len(truths),
        "pixels": len(truth),
    }
    return metrics, confusion_matrix(truth, prediction, labels=indices)


@pytest.fixture
def make_report():
    """A function (classes, pictures=2, **changed fields) -> SegmentationReport."""

    def make(names, pictures=2, **changes):
        rng = np.random.default_rng(3)
        used = max(2, len(names) - 1)  # the last class occurs neither in truth nor in prediction
        truths = rng.integers(0, used, (2, 24, 32)).astype(np.uint8)
        predictions = np.where(rng.random(truths.shape) < 0.7, truths, rng.integers(0, used, truths.shape))
        truths[:, :2] = IGNORE
        predictions = predictions.astype(np.uint8)
        labels = LabelMap.model_validate({"classes": list(names)})
        metrics, confusion = _metrics(labels.names, truths, predictions)
        examples = [
            Example(
                f"street/{i}",
                rng.integers(0, 256, (24, 32, 3)).astype(np.uint8),
                truths[i],
                predictions[i],
                0.5 + i / 8,
            )
            for i in range(pictures)
        ]
        columns = ("epoch", "step", "train_loss", "val_loss", "miou", "pixel_accuracy", "lr_all")
        rows = (
            (1.0, 10.0, 1.25, 1.5, 0.25, 0.5, 0.01),
            (2.0, 20.0, 0.75, None, None, None, 0.005),
            (3.0, 30.0, 0.5, 0.875, 0.75, 0.875, 0.001),
        )
        history = [dict(zip(columns, row, strict=True)) for row in rows]
        fields = {
            "title": "streets",
            "split": "val",
            "experiment": Experiment.model_validate(
                {"name": "streets", "data": {"root": "data/streets", "labels": labels}}
            ),
            "labels": labels,
            "metrics": metrics,
            "confusion": confusion,
            "history": history,
            "examples": examples,
            "facts": {"parameters": "1,234,567"},
        }
        return SegmentationReport(**(fields | changes))

    return make
