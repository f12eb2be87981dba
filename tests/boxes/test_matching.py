"""Matching against hand arithmetic and torchvision's matcher."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from pixbox.boxes import BETWEEN, NEGATIVE, compact_anchors, grid, match_anchors, matching, torchvision_anchors

LONG = [0.0, 0, 100, 10]
"""A part of it with a length of n pixels has an IoU of n / 100 with it."""


def part(length: float) -> list[float]:
    return [0.0, 0, length, 10]


def match(
    boxes: list[list[float]],
    anchors: list[list[float]],
    ignored: list[bool] | None = None,
    positive_iou: float = 0.5,
    negative_iou: float = 0.4,
) -> list[int]:
    """One picture."""
    table = torch.tensor(boxes).view(1, -1, 4)
    found = match_anchors(
        table,
        torch.ones(table.shape[:2], dtype=torch.bool),
        torch.tensor(anchors),
        positive_iou=positive_iou,
        negative_iou=negative_iou,
        ignored=None if ignored is None else torch.tensor([ignored]),
    )
    assert found.dtype == torch.int64
    return [int(index) for index in found[0]]


def random_picture(count: int, seed: int, side: int = 200, grain: int = 1) -> Tensor:
    """(count, 4) boxes with whole corners, multiples of ``grain``."""
    source = torch.Generator().manual_seed(seed)
    low = torch.randint(0, side // grain, (count, 2), generator=source)
    size = torch.randint(1, side // 2 // grain, (count, 2), generator=source)
    return torch.cat((low, low + size), dim=1).float() * grain


def batch_of(pictures: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Boxes filled up with a box that would match well, and which are valid."""
    most = max(len(boxes) for boxes in pictures)
    filled = torch.tensor([0.0, 0, 64, 64]).repeat(len(pictures), most, 1)
    valid = torch.zeros(len(pictures), most, dtype=torch.bool)
    for index, boxes in enumerate(pictures):
        filled[index, : len(boxes)] = boxes
        valid[index, : len(boxes)] = True
    return filled, valid


def torchvision_matches(boxes: Tensor, anchors: Tensor) -> Tensor:
    matches: Tensor = Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(boxes, anchors))
    return matches


def test_thresholds_belong_to_the_upper_side() -> None:
    best, half, below_half, four_tenths, below = part(90), part(50), part(49), part(40), part(39)
    anchors = [best, half, below_half, four_tenths, below, [0.0, 50, 9, 59]]
    assert match([LONG], anchors) == [0, 0, BETWEEN, BETWEEN, NEGATIVE, NEGATIVE]


def test_equal_thresholds_leave_nothing_between() -> None:
    assert match([LONG], [part(90), part(50), part(49)], negative_iou=0.5) == [0, 0, NEGATIVE]


def test_the_best_anchor_of_every_box_is_positive_however_small_the_overlap() -> None:
    assert match([LONG], [part(10), part(9), [50.0, 50, 60, 60]]) == [0, NEGATIVE, NEGATIVE]


def test_equally_good_best_anchors_are_all_positive() -> None:
    assert match([LONG], [part(30), [70.0, 0, 100, 10], part(20)]) == [0, 0, NEGATIVE]


def test_an_anchor_finds_the_box_it_overlaps_most() -> None:
    boxes = [LONG, part(60)]
    assert match(boxes, [part(90), part(70), part(55)]) == [0, 1, 1]


def test_an_anchor_that_is_one_boxs_best_keeps_to_the_box_it_overlaps_most() -> None:
    # The far box touches only the anchor that the long one has at IoU .9. It goes without, as in torchvision.
    boxes = [LONG, [89.0, 9, 120, 40]]
    anchors = [part(90), part(10)]
    assert match(boxes, anchors) == [0, NEGATIVE]
    assert torchvision_matches(torch.tensor(boxes), torch.tensor(anchors)).tolist() == [0, NEGATIVE]


def test_a_box_that_no_anchor_touches_claims_none() -> None:
    assert match([[500.0, 500, 510, 510], [7.0, 7, 7, 9]], [part(90), part(50)]) == [NEGATIVE, NEGATIVE]


@pytest.mark.parametrize("count", [0, 3])
def test_a_picture_without_boxes_is_all_background(count: int) -> None:
    boxes = torch.tensor(LONG).expand(2, count, 4)
    valid = torch.zeros(2, count, dtype=torch.bool)
    found = match_anchors(boxes, valid, torch.tensor([LONG, part(50)]), positive_iou=0.5, negative_iou=0.4)
    assert found.tolist() == [[NEGATIVE, NEGATIVE]] * 2


def test_anchors_on_ignored_boxes_are_between_unless_a_counted_box_claims_them() -> None:
    counted, ignored = LONG, [0.0, 0, 100, 20]
    tall = [0.0, 0, 95, 20]  # IoU .95 with the ignored box, 950 / 1950 with the counted one
    anchors = [part(90), tall, [0.0, 10, 100, 20], [0.0, 20, 100, 30]]
    assert match([counted, ignored], anchors, ignored=[False, True]) == [0, BETWEEN, BETWEEN, NEGATIVE]
    # Here the same anchor is the counted box's best.
    assert match([counted, ignored], anchors[1:], ignored=[False, True]) == [0, BETWEEN, NEGATIVE]
    # An IoU of .5 with a counted box is enough, whatever the ignored one has.
    assert match([counted, ignored], [part(90), [0.0, 0, 100, 20]], ignored=[False, True]) == [0, 0]


def test_ignored_boxes_claim_no_anchor() -> None:
    assert match([LONG], [part(41), [0.0, 0, 300, 10]], ignored=[True]) == [BETWEEN, NEGATIVE]


def test_an_anchor_half_within_an_ignored_box_is_between_however_small_it_is() -> None:
    anchors = [part(5), [95.0, 0, 105, 10], [96.0, 0, 106, 10]]  # all of it, a half, four tenths
    assert match([LONG], anchors, ignored=[True]) == [BETWEEN, BETWEEN, NEGATIVE]


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_equals_torchvisions_matcher_picture_by_picture(seed: int) -> None:
    # Coarse corners, so that many overlaps are equal.
    pictures = [random_picture(count, seed=10 * seed + count, grain=8) for count in (1, 5, 17)]
    anchors = grid((compact_anchors, torchvision_anchors)[seed % 2](), (192, 256))
    boxes, valid = batch_of(pictures)
    found = match_anchors(boxes, valid, anchors, positive_iou=0.5, negative_iou=0.4)
    for matches, picture in zip(found, pictures, strict=True):
        assert torch.equal(matches, torchvision_matches(picture, anchors))


def test_equal_boxes_are_told_apart_as_torchvision_does() -> None:
    picture = torch.tensor([[16.0, 16, 48, 48]] * 3 + [[100.0, 60, 130, 90]])
    anchors = grid(compact_anchors(), (128, 192))
    boxes, valid = batch_of([picture])
    found = match_anchors(boxes, valid, anchors, positive_iou=0.5, negative_iou=0.4)
    assert torch.equal(found[0], torchvision_matches(picture, anchors))


def test_a_table_in_parts_gives_the_same_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every box twice, so that equally good ones lie in different parts.
    boxes, valid = batch_of([random_picture(count, seed=count, grain=8).repeat(2, 1) for count in (12, 4)])
    ignored = torch.arange(boxes.shape[1]) % 5 == 0
    anchors = grid(compact_anchors(), (192, 256))

    def found() -> Tensor:
        return match_anchors(
            boxes, valid, anchors, positive_iou=0.5, negative_iou=0.4, ignored=ignored.expand_as(valid)
        )

    whole = found()
    monkeypatch.setattr(matching, "_LARGEST_TABLE", 2 * len(anchors) * 3)
    assert torch.equal(found(), whole)
    assert {BETWEEN, NEGATIVE} < set(whole.unique().tolist())
