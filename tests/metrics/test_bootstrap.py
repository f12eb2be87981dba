"""Bootstrap intervals against scipy, hand arithmetic and how often they hold the truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap

from pixbox.metrics import Interval, intervals, paired
from pixbox.metrics.pictures import ClassificationPictures, PictureStatistics, SegmentationPictures

ROUNDS = 9999


def answers(right: NDArray[np.bool_], true: NDArray[np.int64] | None = None) -> ClassificationPictures:
    """Pictures of the classes "yes" and "no" (all "yes" unless said otherwise), classified right or wrong."""
    true = np.zeros(len(right), dtype=np.int64) if true is None else true
    ids = [f"p{number}" for number in range(len(right))]
    return ClassificationPictures(ids, ("yes", "no"), true, np.where(right, true, 1 - true), np.ones(len(right), bool))


def random_answers(seed: int, count: int, share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(count) < share


def confusions(rows: list[tuple[int, int, int, int]], pictures: int, classes: int = 3) -> PictureStatistics:
    """From (picture, true class, predicted class, pixels)."""
    columns = np.array(rows, dtype=np.int64).T
    return SegmentationPictures(
        [f"p{n}" for n in range(pictures)], [f"c{n}" for n in range(classes)], *columns
    )  # fmt: skip


def limits(found: Interval | None) -> tuple[float, float]:
    assert found is not None
    return found.low, found.high


# One run


def test_the_interval_of_a_mean_over_pictures_is_scipys() -> None:
    right = random_answers(0, 200, 0.7)
    expected = bootstrap((right,), np.mean, n_resamples=ROUNDS, method="percentile", rng=1).confidence_interval
    found = intervals(answers(right), resamples=ROUNDS)["accuracy"]
    # The two draw differently: the ends themselves vary by some tenths of a percent.
    assert limits(found) == pytest.approx((expected.low, expected.high), abs=0.006)
    narrow = bootstrap((right,), np.mean, n_resamples=ROUNDS, method="percentile", rng=1, confidence_level=0.5)
    found = intervals(answers(right), resamples=ROUNDS, level=0.5)["accuracy"]
    assert limits(found) == pytest.approx(tuple(narrow.confidence_interval), abs=0.006)


def test_the_interval_of_a_ratio_of_sums_is_scipys() -> None:
    # IoU is a ratio of sums over pictures: not a mean of the IoUs of pictures.
    source = np.random.default_rng(3)
    hits, misses = source.integers(0, 50, 80), source.integers(1, 90, 80)
    rows = [(n, 0, predicted, int(pixels[n])) for n in range(80) for predicted, pixels in ((0, hits), (1, misses))]
    expected = bootstrap(
        (hits, misses), lambda h, m, axis: h.sum(axis=axis) / (h.sum(axis=axis) + m.sum(axis=axis)),
        paired=True, n_resamples=ROUNDS, method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    found = intervals(confusions(rows, 80), resamples=ROUNDS)["class_iou/c0"]
    assert limits(found) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_two_pictures_by_hand() -> None:
    # One right, one wrong: a draw has accuracy 0, 1/2 or 1, a quarter, a half and a quarter of the time.
    pictures = answers(np.array([True, False]))
    assert intervals(pictures)["accuracy"] == Interval(0.0, 1.0)
    assert intervals(pictures, level=0.4)["accuracy"] == Interval(0.5, 0.5)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        low, high = limits(intervals(answers(random_answers(seed, 60, 0.7)), resamples=400, seed=seed)["accuracy"])
        held += low <= 0.7 <= high
    # 95 % in the limit of many pictures; with 60 somewhat less.
    assert 0.89 <= held / 200 <= 0.99


def test_a_split_in_which_every_picture_stands_twice_is_narrower_by_the_root_of_two() -> None:
    right = random_answers(0, 100, 0.5)
    once, twice = (
        limits(intervals(answers(pictures), resamples=ROUNDS)["accuracy"]) for pictures in (right, right.repeat(2))
    )
    assert (once[1] - once[0]) / (twice[1] - twice[0]) == pytest.approx(2**0.5, rel=0.07)


def test_a_seed_draws_the_same_again() -> None:
    pictures = answers(random_answers(0, 50, 0.5))
    assert intervals(pictures, seed=1) == intervals(pictures, seed=1)
    assert intervals(pictures, resamples=7, seed=1) != intervals(pictures, resamples=7, seed=2)


def test_an_undefined_figure_has_no_interval() -> None:
    found = intervals(answers(np.array([True, False, True])))
    assert found["class_accuracy/no"] is None
    assert found["class_accuracy/yes"] is not None


def test_a_class_of_a_single_picture_has_no_interval_and_the_mean_has() -> None:
    # It is missing from more than a third of the draws; in all others its figure is the same.
    true = np.array([0] * 19 + [1])
    found = intervals(answers(random_answers(0, 20, 0.6), true))
    assert found["class_accuracy/no"] is None
    assert found["class_accuracy/yes"] is not None
    assert found["accuracy"] is not None


def test_draws_without_a_rare_class_are_left_out_of_its_interval() -> None:
    # In six of forty pictures, three right: missing from one draw in five hundred.
    true = np.array([0] * 34 + [1] * 6)
    low, high = limits(intervals(answers(np.arange(40) % 2 == 0, true))["class_accuracy/no"])
    assert 0 <= low < 0.5 < high <= 1


def test_one_picture_or_none_has_no_interval() -> None:
    assert set(intervals(answers(np.array([True]))).values()) == {None}
    assert set(intervals(answers(np.zeros(0, dtype=bool))).values()) == {None}


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"level": 0.0}, {"level": 1.0}, {"level": 95.0}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"resamples|level"):
        intervals(answers(np.array([True, False])), **wrong)  # type: ignore[arg-type]


# Two runs


def test_the_interval_of_a_difference_is_scipys_paired_one() -> None:
    a = random_answers(0, 150, 0.6)
    b = np.where(random_answers(1, 150, 0.8), a, random_answers(2, 150, 0.9))
    expected = bootstrap(
        (a, b), lambda x, y, axis: y.mean(axis=axis) - x.mean(axis=axis),
        paired=True, n_resamples=ROUNDS, method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    found = paired(answers(a), answers(b), resamples=ROUNDS)["accuracy"]
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert (found.a, found.b) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
    assert limits(found.interval) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_the_shares_of_draws_by_hand() -> None:
    # Differences per picture +1, +1, -1: all 27 draws of three.
    a, b = np.array([False, False, True]), np.array([True, True, False])
    sums = [sum(draw) for draw in product([1, 1, -1], repeat=3)]
    found = paired(answers(a), answers(b), resamples=ROUNDS)["accuracy"]
    below = sum(total < 0 for total in sums) / 27
    assert found.difference == pytest.approx(1 / 3)
    assert found.a_better == pytest.approx(below, abs=0.02)
    assert found.two_sided == pytest.approx(2 * below, abs=0.04)
    assert not found.is_clear


def test_equal_runs_are_not_told_apart() -> None:
    pictures = answers(random_answers(0, 40, 0.6))
    found = paired(pictures, pictures)["accuracy"]
    assert (found.difference, found.interval) == (0, Interval(0, 0))
    assert (found.a_better, found.two_sided, found.is_clear) == (0.5, 1.0, False)


def test_a_run_that_is_better_on_every_picture_is_told_apart() -> None:
    worse, better = answers(np.zeros(10, dtype=bool)), answers(np.ones(10, dtype=bool))
    found = paired(worse, better)["accuracy"]
    assert (found.difference, found.interval) == (1, Interval(1, 1))
    assert (found.a_better, found.two_sided, found.is_clear) == (0, 0, True)
    turned = paired(better, worse)["accuracy"]
    assert (turned.difference, turned.a_better, turned.is_clear) == (-1, 1, True)


def test_runs_that_err_alike_are_told_apart_where_their_own_intervals_overlap() -> None:
    # B is right wherever A is, and on a tenth more.
    a = random_answers(0, 200, 0.5)
    b = a | random_answers(1, 200, 0.1)
    of_a, of_b = (limits(intervals(answers(right))["accuracy"]) for right in (a, b))
    assert of_a[1] > of_b[0]
    found = paired(answers(a), answers(b))["accuracy"]
    assert found.is_clear
    assert limits(found.interval)[0] > 0


def test_a_difference_of_nothing_defined_is_none() -> None:
    right = random_answers(0, 30, 0.5)
    found = paired(answers(right), answers(~right))["class_accuracy/no"]
    assert (found.a, found.b, found.difference, found.interval) == (None,) * 4
    assert (found.a_better, found.two_sided, found.is_clear) == (None, None, False)
    single = paired(answers(np.array([True])), answers(np.array([False])))["accuracy"]
    assert (single.difference, single.interval, single.is_clear) == (-1, None, False)


def test_only_the_same_pictures_are_compared() -> None:
    with pytest.raises(ValueError, match="same task, classes and pictures"):
        paired(answers(np.array([True, False])), answers(np.array([True])))
