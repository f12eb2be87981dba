"""Metrics against hand arithmetic, scikit-learn and torchmetrics."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)

from pixbox.labels import IGNORE
from pixbox.metrics import ConfusionMatrix, predicted_classes

NAMES = ("sky", "road", "car", "tree", "pole")


def random_maps(absent: tuple[int, ...] = (), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Prediction and truth, (3, 20, 30) uint8; the truth is partly ignored, and ``absent`` is in neither."""
    source = torch.Generator().manual_seed(seed)
    classes = torch.tensor([c for c in range(len(NAMES)) if c not in absent], dtype=torch.uint8)
    truth = classes[torch.randint(0, len(classes), (3, 20, 30), generator=source)]
    noise = classes[torch.randint(0, len(classes), (3, 20, 30), generator=source)]
    prediction = torch.where(torch.rand(truth.shape, generator=source) < 0.6, truth, noise)
    truth[torch.rand(truth.shape, generator=source) < 0.15] = IGNORE
    return prediction, truth


def counted(prediction: Tensor, truth: Tensor) -> ConfusionMatrix:
    confusion = ConfusionMatrix(len(NAMES))
    confusion.update(prediction, truth)
    return confusion


def test_hand_checked_pixels() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0, 0, 0, 1, 1, 255], dtype=torch.uint8))
    assert confusion.matrix.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    metrics = confusion.compute(("a", "b", "c"), images=1)
    assert metrics.to_plain() == {
        "miou": pytest.approx(2 / 3),
        "pixel_accuracy": pytest.approx(4 / 5),
        "mean_accuracy": pytest.approx((2 / 3 + 1) / 2),
        "frequency_weighted_iou": pytest.approx(2 / 3),
        "class_iou": {"a": pytest.approx(2 / 3), "b": pytest.approx(2 / 3), "c": None},
        "class_accuracy": {"a": pytest.approx(2 / 3), "b": 1.0, "c": None},
        "images": 1,
        "pixels": 5,
    }


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("absent", [(), (0,), (2, 4)])
def test_matrix_equals_scikit_learn_and_torchmetrics(absent: tuple[int, ...], dtype: torch.dtype) -> None:
    prediction, truth = random_maps(absent)
    found = counted(prediction.to(dtype), truth).matrix
    labelled = truth != IGNORE
    np.testing.assert_array_equal(found, confusion_matrix(truth[labelled], prediction[labelled], labels=range(5)))
    reference = multiclass_confusion_matrix(prediction.int(), truth.int(), num_classes=5, ignore_index=IGNORE)
    assert torch.equal(found, reference)


@pytest.mark.parametrize("absent", [(), (0,), (2, 4)])
def test_scores_equal_scikit_learn_over_the_classes_that_occur(absent: tuple[int, ...]) -> None:
    prediction, truth = random_maps(absent)
    metrics = counted(prediction, truth).compute(NAMES)
    occurring = [c for c in range(5) if c not in absent]
    labelled = truth != IGNORE
    y, p = truth[labelled].numpy(), prediction[labelled].numpy()
    iou = jaccard_score(y, p, labels=occurring, average=None)
    recall = recall_score(y, p, labels=occurring, average=None)
    assert [metrics.class_iou[NAMES[c]] for c in occurring] == pytest.approx(list(iou))
    assert [metrics.class_accuracy[NAMES[c]] for c in occurring] == pytest.approx(list(recall))
    assert {name for name, value in metrics.class_iou.items() if value is None} == {NAMES[c] for c in absent}
    assert metrics.miou == pytest.approx(iou.mean())
    assert metrics.mean_accuracy == pytest.approx(recall.mean())
    assert metrics.pixel_accuracy == pytest.approx((y == p).mean())
    assert metrics.frequency_weighted_iou == pytest.approx(jaccard_score(y, p, average="weighted"))
    assert metrics.pixels == len(y)


def test_scores_equal_torchmetrics() -> None:
    prediction, truth = random_maps()
    metrics = counted(prediction, truth).compute(NAMES)
    maps = prediction.int(), truth.int()
    iou = multiclass_jaccard_index(*maps, num_classes=5, ignore_index=IGNORE)
    accuracy = multiclass_accuracy(*maps, num_classes=5, ignore_index=IGNORE, average="micro")
    assert metrics.miou == pytest.approx(iou.item())
    assert metrics.pixel_accuracy == pytest.approx(accuracy.item())


def test_a_class_that_is_predicted_but_absent_has_iou_zero_and_no_accuracy() -> None:
    metrics = counted(torch.tensor([0, 2], dtype=torch.uint8), torch.tensor([0, 0], dtype=torch.uint8)).compute(NAMES)
    assert metrics.class_iou == {"sky": 0.5, "road": None, "car": 0.0, "tree": None, "pole": None}
    assert metrics.class_accuracy == {"sky": 0.5, "road": None, "car": None, "tree": None, "pole": None}
    assert metrics.miou == 0.25


def test_nothing_labelled_is_null_everywhere_and_never_nan() -> None:
    metrics = counted(torch.zeros(2, 3, dtype=torch.uint8), torch.full((2, 3), IGNORE, dtype=torch.uint8))
    plain = metrics.compute(NAMES, images=1).to_plain()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["miou"], plain["pixel_accuracy"], plain["mean_accuracy"]) == (None, None, None)
    assert plain["frequency_weighted_iou"] is None
    assert set(plain["class_iou"].values()) == set(plain["class_accuracy"].values()) == {None}
    assert plain["pixels"] == 0


def test_pictures_of_any_size_add_up_and_matrices_merge() -> None:
    prediction, truth = random_maps()
    parts, other = ConfusionMatrix(5), ConfusionMatrix(5)
    parts.update(prediction[0, :7], truth[0, :7])
    parts.update(prediction[0, 7:], truth[0, 7:])
    parts.update(prediction[:0], truth[:0])
    other.update(prediction[1:], truth[1:])
    parts.merge(other)
    assert torch.equal(parts.matrix, counted(prediction, truth).matrix)
    parts.reset()
    assert parts.matrix.sum() == 0


def test_class_indices_beyond_the_last_class_are_refused() -> None:
    zero = torch.zeros(2, 2, dtype=torch.uint8)
    confusion = ConfusionMatrix(3)
    for wrong in (3, 254):
        with pytest.raises(ValueError, match=f"true class {wrong}"):
            confusion.update(zero, torch.full_like(zero, wrong))
        with pytest.raises(ValueError, match=f"predicted class {wrong}"):
            confusion.update(torch.full_like(zero, wrong), zero)
    assert confusion.matrix.sum() == 0


def test_shapes_and_types_must_agree() -> None:
    zero = torch.zeros(2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="shape"):
        ConfusionMatrix(3).update(zero, zero[0])
    with pytest.raises(ValueError, match="uint8"):
        ConfusionMatrix(3).update(zero, zero.long())


def test_the_largest_number_of_classes_is_counted_right() -> None:
    classes = torch.arange(254, dtype=torch.uint8)
    confusion = ConfusionMatrix(254)
    confusion.update(classes.flip(0), classes)
    assert torch.equal(confusion.matrix, torch.eye(254, dtype=torch.int64).flip(0))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predicted_classes_equal_numpy_argmax_with_ties_to_the_first(
    layout: torch.memory_format, dtype: torch.dtype
) -> None:
    # Few different values, so that most pixels have several highest.
    logits = torch.randint(-2, 3, (2, 7, 33, 65), generator=torch.Generator().manual_seed(0))
    found = predicted_classes(logits.to(dtype).contiguous(memory_format=layout))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found, logits.numpy().argmax(axis=1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_predicted_classes_of_a_part_of_the_logits_and_of_many_pieces(layout: torch.memory_format) -> None:
    # A network's answer is cropped back to the picture: its rows do not follow each other in memory.
    logits = torch.rand(2, 5, 140, 300, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=layout)
    cut = logits[:, :, 3:135, 7:290].requires_grad_()
    np.testing.assert_array_equal(predicted_classes(cut), cut.detach().numpy().argmax(axis=1))


@pytest.mark.parametrize("count", [1, 255, 256])
def test_predicted_classes_of_one_and_of_the_most_classes(count: int) -> None:
    logits = torch.zeros(1, count, 4, 6)
    logits[:, count - 1, :, 3] = 1
    assert predicted_classes(logits)[0, 0].tolist() == [0, 0, 0, count - 1, 0, 0]
