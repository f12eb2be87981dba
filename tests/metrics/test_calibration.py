"""The expected calibration error by hand and against torchmetrics."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from pixbox.metrics import CalibrationScores


def predictions(seed: int, count: int = 5000) -> tuple[torch.Tensor, torch.Tensor]:
    """(count, 4) probabilities of an over-confident model, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, 4, generator=generator)
    return logits.softmax(dim=1), torch.multinomial((logits / 3).softmax(dim=1), 1, generator=generator)[:, 0]


def counted(probabilities: torch.Tensor, classes: torch.Tensor) -> CalibrationScores:
    scores = CalibrationScores()
    confidence, predicted = probabilities.max(dim=1)
    scores.update(confidence, predicted == classes)
    return scores


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_that_of_torchmetrics(seed: int) -> None:
    probabilities, classes = predictions(seed)
    expected = MulticlassCalibrationError(num_classes=4, n_bins=15, norm="l1")(probabilities, classes)
    found = counted(probabilities, classes).ece()
    assert found == pytest.approx(float(expected), abs=1e-6)
    assert found > 0.1


def test_the_error_and_the_bins_by_hand() -> None:
    scores = CalibrationScores()
    scores.update(torch.tensor([0.5, 0.52, 0.95, 1.0, 1.0]), torch.tensor([True, False, True, True, False]))
    bins = scores.bins()
    assert len(bins) == 15
    assert [bin.count for bin in bins] == [0] * 7 + [2] + [0] * 6 + [3]
    assert (bins[7].low, bins[7].high) == (7 / 15, 8 / 15)
    assert (bins[7].confidence, bins[7].accuracy) == (pytest.approx(0.51, abs=1e-7), 0.5)
    assert (bins[14].confidence, bins[14].accuracy) == (pytest.approx(2.95 / 3, abs=1e-7), pytest.approx(2 / 3))
    assert bins[0].confidence is None
    assert bins[0].accuracy is None
    assert scores.ece() == pytest.approx((2 * 0.01 + 3 * (2.95 - 2) / 3) / 5, abs=1e-7)


def test_confidence_at_the_edge_of_bins_belongs_to_the_lower_and_zero_to_the_first() -> None:
    scores = CalibrationScores()
    scores.update(torch.tensor([0.0, 0.2]), torch.tensor([False, True]))
    assert [index for index, bin in enumerate(scores.bins()) if bin.count] == [0, 2]


def test_means_that_rounding_has_carried_above_one_are_one() -> None:
    scores = CalibrationScores()
    scores.update(torch.tensor([1.0000001]), torch.tensor([True]))
    assert scores.ece() == 0.0


def test_the_order_and_the_parts_change_no_digit() -> None:
    probabilities, classes = predictions(7, 20000)
    whole = counted(probabilities, classes)
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(1))
    parts = [counted(probabilities[some], classes[some]) for some in order.split(777)]
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].ece() == whole.ece()
    assert parts[0].bins() == whole.bins()


def test_maps_of_pixels_are_counted_pixel_by_pixel() -> None:
    flat, square = CalibrationScores(), CalibrationScores()
    confidence = torch.rand(6, 8, generator=torch.Generator().manual_seed(0))
    square.update(confidence, confidence > 0.5)
    flat.update(confidence.flatten(), confidence.flatten() > 0.5)
    assert square.bins() == flat.bins()


def test_nothing_counted_is_undefined_and_shapes_must_agree() -> None:
    assert CalibrationScores().ece() is None
    with pytest.raises(ValueError, match="differ in shape"):
        CalibrationScores().update(torch.rand(3), torch.ones(2, dtype=torch.bool))
