"""Class weights against hand arithmetic, scikit-learn and the CamVid training masks."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from pixbox.errors import DataError
from pixbox.losses import class_weights_from_counts

CAMVID = Path(__file__).parents[2].parent / "shared" / "data" / "camvid"


def test_median_frequency_of_hand_checked_counts() -> None:
    # Frequencies .5, .2, .1, .05: the median is .15.
    found = class_weights_from_counts(
        "median_frequency", torch.tensor([500, 100, 100, 25]), torch.tensor([1000, 500, 1000, 500])
    )
    torch.testing.assert_close(found, torch.tensor([0.3, 0.75, 1.5, 3.0]))


def test_a_class_without_pixel_weighs_nothing_and_is_no_part_of_the_median() -> None:
    pixels, images = torch.tensor([500, 0, 100, 50]), torch.tensor([1000, 0, 1000, 1000])
    found = class_weights_from_counts("median_frequency", pixels, images)
    torch.testing.assert_close(found, torch.tensor([0.2, 0.0, 1.0, 2.0]))
    for method in ("enet", "inverse"):
        weights = class_weights_from_counts(method, pixels, images)
        assert weights[1] == 0
        assert (weights[[0, 2, 3]] > 0).all()


def test_enet_of_hand_checked_counts() -> None:
    found = class_weights_from_counts("enet", torch.tensor([900, 100]), torch.tensor([0, 0]))
    torch.testing.assert_close(found, torch.tensor([1 / math.log(1.92), 1 / math.log(1.12)]))


def test_inverse_equals_balanced_weights_of_scikit_learn() -> None:
    pixels = [7, 30, 3]
    truth = np.repeat(np.arange(3), pixels)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=truth)
    found = class_weights_from_counts("inverse", torch.tensor(pixels), torch.tensor([40, 40, 40]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_no_labelled_pixel_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="no labelled pixel"):
        class_weights_from_counts("inverse", torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))


@pytest.mark.skipif(not CAMVID.exists(), reason="needs the CamVid pictures")
def test_median_frequency_of_camvid_training_masks() -> None:
    pixels, images = np.zeros(11, dtype=np.int64), np.zeros(11, dtype=np.int64)
    for line in (CAMVID / "train.txt").read_text().split():
        mask = np.asarray(Image.open(CAMVID / line.split(";")[1]))
        count = np.bincount(mask.ravel(), minlength=12)[:11]
        pixels += count
        images += np.where(count > 0, mask.size, 0)
    found = class_weights_from_counts("median_frequency", torch.from_numpy(pixels), torch.from_numpy(images))
    expected = [0.2793, 0.2017, 4.7865, 0.1490, 1.0, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747, 8.8587]
    np.testing.assert_allclose(found, expected, atol=5e-5)
