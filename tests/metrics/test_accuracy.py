"""Classification scores against hand arithmetic, scikit-learn and torchmetrics."""

import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from pixbox.metrics import ClassificationScores


def random_pictures(classes: int, absent: tuple[int, ...] = (), seed: int = 0) -> tuple[Tensor, Tensor]:
    """(200, N) logits and (200,) targets; the truth lacks the ``absent`` classes."""
    source = torch.Generator().manual_seed(seed)
    present = torch.tensor([c for c in range(classes) if c not in absent])
    targets = present[torch.randint(0, len(present), (200,), generator=source)]
    logits = torch.randn(200, classes, generator=source)
    logits[torch.arange(200), targets] += 1.5
    return logits, targets


def scored(logits: Tensor, targets: Tensor) -> ClassificationScores:
    scores = ClassificationScores(logits.shape[1])
    scores.update(logits, targets)
    return scores


def names(classes: int) -> list[str]:
    return [f"class {c}" for c in range(classes)]


def test_hand_checked_pictures() -> None:
    # The true class ranks 1st, 2nd, 6th and 5th of seven.
    logits = torch.tensor(
        [[9.0, 1, 2, 3, 4, 5, 6], [9, 8, 1, 2, 3, 4, 5], [9, 2, 3, 4, 5, 6, 1], [9, 3, 5, 6, 7, 2, 1]]
    )
    scores = scored(logits, torch.tensor([0, 1, 1, 2]))
    found = scores.compute(["a", "b", "c", "d", "e", "f", "g"])
    assert found.to_plain() == {
        "accuracy": 1 / 4,
        "top5_accuracy": 3 / 4,
        "class_accuracy": {"a": 1.0, "b": 0.0, "c": 0.0, "d": None, "e": None, "f": None, "g": None},
        "images": 4,
    }
    assert scores.pictures == {(0, 0): 1, (1, 0): 2, (2, 0): 1}


@pytest.mark.parametrize("classes", [5, 12, 300])
def test_scores_equal_scikit_learn(classes: int) -> None:
    logits, targets = random_pictures(classes, absent=(1, classes - 1))
    scores = scored(logits, targets)
    found = scores.compute(names(classes))
    predicted = logits.argmax(dim=1)
    every = range(classes)
    assert found.accuracy == pytest.approx(accuracy_score(targets, predicted))
    if classes > 5:
        assert found.top5_accuracy == pytest.approx(top_k_accuracy_score(targets, logits, k=5, labels=every))
    matrix = confusion_matrix(targets, predicted, labels=every)
    assert scores.pictures == {tuple(pair): matrix[tuple(pair)] for pair in np.argwhere(matrix).tolist()}
    present = targets.unique().tolist()
    recall = recall_score(targets, predicted, labels=present, average=None)
    assert [found.class_accuracy[f"class {c}"] for c in present] == pytest.approx(list(recall))
    assert sum(value is None for value in found.class_accuracy.values()) == classes - len(present)
    assert found.images == 200


def test_scores_equal_torchmetrics() -> None:
    logits, targets = random_pictures(12)
    found = scored(logits, targets).compute(names(12))
    first = multiclass_accuracy(logits, targets, num_classes=12, average="micro")
    among_five = multiclass_accuracy(logits, targets, num_classes=12, average="micro", top_k=5)
    by_class = multiclass_accuracy(logits, targets, num_classes=12, average="none")
    assert found.accuracy == pytest.approx(first.item())
    assert found.top5_accuracy == pytest.approx(among_five.item())
    assert list(found.class_accuracy.values()) == pytest.approx(by_class.tolist())


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_with_five_classes_or_fewer_every_picture_is_among_the_top_five(classes: int) -> None:
    assert scored(*random_pictures(classes)).compute(names(classes)).top5_accuracy == 1.0


def test_of_equal_logits_the_first_ranks_highest_as_in_argmax() -> None:
    logits, targets = torch.zeros(8, 8), torch.arange(8)
    found = scored(logits, targets).compute(names(8))
    assert (found.accuracy, found.top5_accuracy) == (1 / 8, 5 / 8)
    coarse = torch.randint(0, 3, (500, 8), generator=torch.Generator().manual_seed(0))
    targets = torch.from_numpy(coarse.numpy().argmax(axis=1))
    assert scored(coarse.float(), targets).compute(names(8)).accuracy == 1.0


def test_a_network_that_answers_nan_is_not_right_everywhere() -> None:
    found = scored(torch.full((8, 8), torch.nan), torch.arange(8)).compute(names(8))
    assert (found.accuracy, found.top5_accuracy) == (1 / 8, 5 / 8)


def test_batches_add_up_and_parts_of_several_processes_merge() -> None:
    logits, targets = random_pictures(12)
    parts, other = ClassificationScores(12), ClassificationScores(12)
    parts.update(logits[:31].bfloat16().float(), targets[:31])
    parts.reset()
    parts.update(logits[:70], targets[:70])
    parts.update(logits[:0], targets[:0])
    other.update(logits[70:], targets[70:])
    parts.merge(pickle.loads(pickle.dumps(other)))
    assert parts.compute(names(12)) == scored(logits, targets).compute(names(12))


def test_no_pictures_are_null_everywhere_and_never_nan() -> None:
    plain = ClassificationScores(3).compute(("a", "b", "c")).to_plain()
    assert json.loads(json.dumps(plain, allow_nan=False)) == {
        "accuracy": None,
        "top5_accuracy": None,
        "class_accuracy": {"a": None, "b": None, "c": None},
        "images": 0,
    }


def test_of_many_classes_only_what_occurs_is_kept() -> None:
    scores = ClassificationScores(65_535)
    logits = torch.zeros(2, 65_535)
    logits[0, 65_534] = logits[1, 300] = 1
    scores.update(logits, torch.tensor([65_534, 255]))
    assert scores.pictures == {(65_534, 65_534): 1, (255, 300): 1}
    found = scores.compute(names(65_535))
    assert (found.accuracy, found.class_accuracy["class 65534"], found.class_accuracy["class 255"]) == (0.5, 1.0, 0.0)
    assert len(pickle.dumps(scores)) < 1000


@pytest.mark.parametrize("wrong", [-1, 3, 255])
def test_class_indices_outside_the_classes_are_refused(wrong: int) -> None:
    scores = ClassificationScores(3)
    with pytest.raises(ValueError, match=f"true class {wrong}, but there are 3"):
        scores.update(torch.zeros(2, 3), torch.tensor([0, wrong]))
    assert scores.compute(("a", "b", "c")).images == 0


@pytest.mark.parametrize(("logits", "targets"), [((2, 4), (2,)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((3,), (3,))])
def test_shapes_must_agree(logits: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="for 3 classes"):
        ClassificationScores(3).update(torch.zeros(logits), torch.zeros(targets, dtype=torch.int64))
