from __future__ import annotations

import numpy as np
import pytest

from pixbox.augment import sample_rng
from pixbox.augment.paste import Cutout, draw_paste, paste

INTEREST = np.array([0.0, 2.0, 1.0])


def donor() -> np.ndarray:
    """100 x 120: an object of both classes of interest that touch, one too small, one too large, and nothing else."""
    classes = np.zeros((100, 120), np.uint8)
    classes[50:56, 10:18] = 1
    classes[56:60, 13:16] = 2
    classes[80:82, 80:84] = 1  # 8 pixels
    classes[0:30, 60:100] = 2  # 1,200 pixels, a tenth
    classes[90:, :] = 255
    return classes


def test_what_touches_is_one_object_and_what_is_too_small_or_large_is_none() -> None:
    (cutout,) = draw_paste(sample_rng(0, 0, 0), donor(), INTEREST, (100, 120))
    assert (cutout.top, cutout.left, cutout.shape.shape) == (50, 10, (10, 8))
    assert cutout.shape.sum() == 6 * 8 + 4 * 3


def test_objects_stay_in_the_picture_and_near_their_height() -> None:
    places = [draw_paste(sample_rng(0, 0, index), donor(), INTEREST, (60, 40))[0] for index in range(300)]
    # 3 % of 60 is 1.8: from 50 to 48..52, but 10 rows must fit below.
    assert {cutout.to_top for cutout in places} == {48, 49, 50}
    assert {cutout.to_left for cutout in places} == set(range(33))
    assert 100 < sum(cutout.mirrored for cutout in places) < 200
    assert draw_paste(sample_rng(0, 0, 0), donor(), INTEREST, (60, 7)) == []  # eight columns do not fit


def test_no_more_objects_than_six_and_none_twice() -> None:
    classes = np.zeros((100, 120), np.uint8)
    for row in range(0, 100, 20):
        for column in range(0, 120, 20):
            classes[row : row + 6, column : column + 6] = 1
    drawn = draw_paste(sample_rng(3, 0, 0), classes, INTEREST, (100, 120))
    assert len({(cutout.top, cutout.left) for cutout in drawn}) == 6


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_object_alone_is_copied_with_its_labels(mirrored: bool) -> None:
    shape = np.array([[True, False], [True, True]])
    image, classes = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    colours = np.arange(1, 49, dtype=np.uint8).reshape(4, 4, 3)
    labels = np.arange(1, 17, dtype=np.uint8).reshape(4, 4)
    pasted, named = paste(image, classes, colours, labels, [Cutout(shape, 1, 0, 2, 1, mirrored)])
    # The donor's 2 x 2 at row 1, column 0 holds labels 5, 6 over 9, 10; of the upper ones only the left is the object.
    expected = np.zeros((4, 4), np.uint8)
    expected[2, 2 if mirrored else 1] = 5
    expected[3, 1:3] = (10, 9) if mirrored else (9, 10)
    np.testing.assert_array_equal(named, expected)
    np.testing.assert_array_equal(pasted[..., 2], np.where(expected > 0, expected.astype(int) * 3, 0))
    assert not image.any()
    assert not classes.any()
