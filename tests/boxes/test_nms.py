"""Suppression and selection against hand arithmetic and torchvision."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.retinanet import RetinaNet, retinanet_resnet50_fpn
from torchvision.ops import batched_nms

from pixbox.boxes import Overlap, grid, select_detections, suppress_overlaps, torchvision_anchors


def random_boxes(count: int, seed: int, low: float = 0.0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    corner = low + torch.rand(count, 2, generator=source) * 100
    return torch.cat((corner, corner + 1 + torch.rand(count, 2, generator=source) * 60), dim=1)


def greedy(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, overlap: Overlap) -> list[int]:
    """Suppression by its definition, one box after the other."""
    stays: list[int] = []
    corners, group = boxes.tolist(), groups.tolist()
    for index in scores.argsort(descending=True, stable=True).tolist():
        x1, y1, x2, y2 = corners[index]
        for other in stays:
            a1, b1, a2, b2 = corners[other]
            shared = max(0.0, min(x2, a2) - max(x1, a1)) * max(0.0, min(y2, b2) - max(y1, b1))
            areas = (x2 - x1) * (y2 - y1), (a2 - a1) * (b2 - b1)
            whole = min(areas) if overlap == "min" else sum(areas) - shared
            if group[index] == group[other] and shared / whole > threshold:
                break
        else:
            stays.append(index)
    return stays


def test_three_boxes_worked_by_hand() -> None:
    # The second shares 60 of 140 with the first, the third, inside the first, 16 of 100; 16 is all of it.
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [1, 1, 5, 5]])
    scores, groups = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64)
    assert suppress_overlaps(boxes, scores, groups, threshold=0.42).tolist() == [0, 2]
    assert suppress_overlaps(boxes, scores, groups, threshold=0.43).tolist() == [0, 1, 2]
    assert suppress_overlaps(boxes, scores, groups, threshold=0.59, overlap="min").tolist() == [0]
    assert suppress_overlaps(boxes, scores, groups, threshold=0.61, overlap="min").tolist() == [0, 1]


@pytest.mark.parametrize("overlap", ["union", "min"])
def test_a_box_that_is_suppressed_suppresses_none(overlap: Overlap) -> None:
    # Each overlaps its neighbours only: the second goes, so the third stays, and the fourth goes.
    boxes = torch.tensor([[float(6 * i), 0, 6 * i + 10, 10] for i in range(4)])
    scores, groups = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.zeros(4, dtype=torch.int64)
    assert suppress_overlaps(boxes, scores, groups, threshold=0.2, overlap=overlap).tolist() == [0, 2]


@pytest.mark.parametrize("overlap", ["union", "min"])
@pytest.mark.parametrize(("count", "low"), [(300, 0.0), (300, -80.0), (1300, 0.0)])
def test_equals_suppression_by_its_definition(overlap: Overlap, count: int, low: float) -> None:
    source = torch.Generator().manual_seed(count)
    boxes = random_boxes(count, seed=count, low=low)
    scores = torch.rand(count, generator=source)
    groups = torch.randint(0, 30, (count,), generator=source) * 1000
    found = suppress_overlaps(boxes, scores, groups, threshold=0.3, overlap=overlap)
    assert found.tolist() == greedy(boxes, scores, groups, 0.3, overlap)


def test_equals_torchvisions_batched_nms() -> None:
    boxes, scores = random_boxes(400, seed=1), torch.rand(400, generator=torch.Generator().manual_seed(2))
    groups = torch.arange(400) % 7
    assert torch.equal(suppress_overlaps(boxes, scores, groups, threshold=0.5), batched_nms(boxes, scores, groups, 0.5))


def test_of_equal_scores_the_first_comes_first() -> None:
    boxes = torch.tensor([[0.0, 0, 8, 8], [20, 0, 28, 8], [0, 0, 8, 8]])
    for overlap in ("union", "min"):
        stays = suppress_overlaps(boxes, torch.full((3,), 0.5), torch.zeros(3).long(), threshold=0.5, overlap=overlap)
        assert stays.tolist() == [0, 1]


@pytest.mark.parametrize("overlap", ["union", "min"])
def test_nothing_to_suppress(overlap: Overlap) -> None:
    none = torch.zeros(0)
    assert suppress_overlaps(torch.zeros(0, 4), none, none.long(), threshold=0.5, overlap=overlap).shape == (0,)


# Two anchors of 10 x 10 beside each other, in a picture of 30 x 10.
ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
PICTURE = torch.tensor([0.0, 0, 30, 10])


def answer(logits: list[list[float]], offsets: list[list[float]] | None = None) -> tuple[Tensor, Tensor]:
    return torch.tensor([logits]), torch.tensor([offsets or [[0.0] * 4] * 2])


def test_scores_are_sigmoids_above_the_threshold_in_falling_order() -> None:
    # sigmoid(-1) = .2689, sigmoid(0) = .5, sigmoid(1) = .7311; an anchor may show two classes.
    [found] = select_detections(
        *answer([[-1.0, 1.0], [0.0, -9.0]]), ANCHORS, pictures_xyxy=PICTURE, score_threshold=0.25
    )
    torch.testing.assert_close(found.scores, torch.tensor([0.7310586, 0.5, 0.2689414]))
    assert found.classes.tolist() == [1, 0, 0]
    assert torch.equal(found.boxes_xyxy, ANCHORS[[0, 1, 0]])
    [at_the_threshold] = select_detections(
        *answer([[-9.0], [0.0]]), ANCHORS, pictures_xyxy=PICTURE, score_threshold=0.5
    )
    assert len(at_the_threshold.scores) == 0


def test_boxes_are_clipped_to_where_their_picture_lies_and_dropped_if_nothing_is_left() -> None:
    logits, offsets = answer([[3.0], [2.0]], [[0.5, 0, 0, 0], [0.0, 0, 0.6931472, 0]])  # moved 5, twice as wide
    logits, offsets = logits.repeat(2, 1, 1), offsets.repeat(2, 1, 1)
    whole, left = select_detections(
        logits, offsets, ANCHORS, pictures_xyxy=torch.stack((PICTURE, torch.tensor([0.0, 2, 12, 8])))
    )
    torch.testing.assert_close(whole.boxes_xyxy, torch.tensor([[5.0, 0, 15, 10], [15, 0, 30, 10]]))
    torch.testing.assert_close(left.boxes_xyxy, torch.tensor([[5.0, 2, 12, 8]]))


def test_only_the_best_of_every_level_go_on() -> None:
    logits, offsets = answer([[3.0, 2.0], [1.0, 0.0]])
    kept = select_detections(logits, offsets, ANCHORS, pictures_xyxy=PICTURE, topk=2)[0]
    assert kept.boxes_xyxy[:, 0].tolist() == [0, 0]
    kept = select_detections(logits, offsets, ANCHORS, pictures_xyxy=PICTURE, topk=1, level_lengths=[1, 1])[0]
    assert kept.boxes_xyxy[:, 0].tolist() == [0, 20]
    assert kept.classes.tolist() == [0, 0]


def test_classes_and_pictures_suppress_only_themselves() -> None:
    anchors = ANCHORS[:1].repeat(2, 1)
    logits = torch.tensor([[[3.0, -9], [2.0, 1.0]], [[2.0, -9], [3.0, -9]]])
    first, second = select_detections(logits, torch.zeros(2, 2, 4), anchors, pictures_xyxy=PICTURE)
    assert first.classes.tolist() == [0, 1]
    assert second.scores.tolist() == pytest.approx([0.95257413])


def test_at_most_so_many_detections_stay() -> None:
    [found] = select_detections(*answer([[0.0], [1.0]]), ANCHORS, pictures_xyxy=PICTURE, max_detections=1)
    assert found.boxes_xyxy[:, 0].tolist() == [20]


def test_a_part_inside_its_whole_goes_by_the_smaller_area() -> None:
    anchors = torch.tensor([[0.0, 0, 30, 10], [2, 2, 8, 8]])
    logits, offsets = answer([[2.0], [1.0]])
    for overlap, left in (("union", 2), ("min", 1)):
        [found] = select_detections(logits, offsets, anchors, pictures_xyxy=PICTURE, overlap=overlap)
        assert len(found.scores) == left


def test_half_precision_answers_select_the_same_boxes() -> None:
    logits, offsets = answer([[3.0, 2.0], [1.0, 0.0]])
    [found] = select_detections(logits.bfloat16(), offsets.bfloat16(), ANCHORS, pictures_xyxy=PICTURE)
    [wanted] = select_detections(logits, offsets, ANCHORS, pictures_xyxy=PICTURE)
    assert found.scores.dtype == torch.float32
    assert torch.equal(found.scores, wanted.scores)
    assert torch.equal(found.boxes_xyxy, wanted.boxes_xyxy)


@pytest.fixture(scope="module")
def reference() -> RetinaNet:
    # As many as there are, because torchvision also counts boxes that clipping leaves without an area.
    model: RetinaNet = retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=7, detections_per_img=10**6
    )
    return model


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_equals_torchvisions_postprocessing(reference: RetinaNet, spread: float) -> None:
    size_hw = (160, 224)
    anchors = torchvision_anchors()
    boxes, lengths = grid(anchors, size_hw), anchors.level_lengths(size_hw)
    source = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(2, len(boxes), 7, generator=source) - 4
    offsets = 0.3 * torch.randn(2, len(boxes), 4, generator=source)
    shapes_hw = [(160, 224), (150, 200)]
    wanted = reference.postprocess_detections(
        {"cls_logits": list(logits.split(lengths, 1)), "bbox_regression": list(offsets.split(lengths, 1))},
        [list(boxes.split(lengths))] * 2,
        shapes_hw,
    )
    found = select_detections(
        logits,
        offsets,
        boxes,
        pictures_xyxy=torch.tensor([[0.0, 0, w, h] for h, w in shapes_hw]),
        level_lengths=lengths,
    )
    for ours, theirs in zip(found, wanted, strict=True):
        with_area = (theirs["boxes"][:, 2:] > theirs["boxes"][:, :2]).all(dim=1).nonzero()[:300, 0]
        assert len(ours.scores) == 300
        assert torch.equal(ours.scores, theirs["scores"][with_area])
        assert torch.equal(ours.classes, theirs["labels"][with_area])
        torch.testing.assert_close(ours.boxes_xyxy, theirs["boxes"][with_area], rtol=0, atol=1e-3)


@pytest.mark.parametrize("crowded", [False, True])
def test_the_most_boxes_asked_for_are_the_first_of_all(crowded: bool) -> None:
    # Crowded: all boxes of one picture overlap, so the best candidates alone do not give enough.
    source = torch.Generator().manual_seed(7)
    logits = torch.randn(2, 600, 3, generator=source)
    anchors = random_boxes(600, seed=7)
    if crowded:
        anchors[:500] = torch.tensor([0.0, 0, 50, 50])
        logits[1, :500] += 8
    pictures = torch.tensor([0.0, 0, 200, 200])

    def select(most: int) -> list[Tensor]:
        found = select_detections(
            logits, torch.zeros(2, 600, 4), anchors, pictures_xyxy=pictures, topk=2000, max_detections=most
        )
        return [torch.cat((one.boxes_xyxy, one.scores[:, None], one.classes[:, None]), dim=1) for one in found]

    for first, every in zip(select(20), select(10_000), strict=True):
        assert len(first) == min(20, len(every)) > 3
        assert torch.equal(first, every[:20])
