"""Losses of boxes against hand arithmetic, torch and torchvision."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from pixbox.boxes import BETWEEN, NEGATIVE, compact_anchors, decode_boxes, encode_boxes, grid, match_anchors
from pixbox.losses import Assignment, BoxLoss, DetectionLoss, detection_total, focal_loss, giou_loss, smooth_l1

CLASSES = 4
ANCHORS = grid(compact_anchors(), (64, 96))


def random_boxes(count: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=source) * 60
    return torch.cat((low, low + 8 + torch.rand(count, 2, generator=source) * 40), dim=1)


def random_batch(counts: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Assignment]:
    """(B, K, C) and (B, K, 4) float64 answers, and what was asked: so many boxes in each picture."""
    source = torch.Generator().manual_seed(seed)
    boxes = torch.zeros(len(counts), max(counts), 4)
    valid = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    for picture, count in enumerate(counts):
        boxes[picture, :count] = random_boxes(count, seed=100 * seed + picture)
    classes = torch.randint(0, CLASSES, valid.shape, generator=source)
    matches = match_anchors(boxes, valid, ANCHORS, positive_iou=0.5, negative_iou=0.4)
    logits = 2 * torch.randn(len(counts), len(ANCHORS), CLASSES, generator=source, dtype=torch.float64)
    offsets = 0.3 * torch.randn(len(counts), len(ANCHORS), 4, generator=source, dtype=torch.float64)
    return logits, offsets, Assignment(matches, boxes, classes, ANCHORS)


def picture_of(assignment: Assignment, index: int) -> Assignment:
    one = slice(index, index + 1)
    return Assignment(
        assignment.matches[one], assignment.boxes_xyxy[one], assignment.classes[one], assignment.anchors_xyxy
    )


def test_focal_loss_of_answers_worked_by_hand() -> None:
    # Probabilities .2 and .75, the second is there: .75 * .2^2 * -ln .8 + .25 * .25^2 * -ln .75.
    logits = torch.tensor([0.2, 0.75], dtype=torch.float64).logit()
    found = focal_loss(logits, torch.tensor(1), alpha=0.25, gamma=2.0)
    assert found.item() == pytest.approx(0.75 * 0.04 * -math.log(0.8) + 0.25 * 0.0625 * -math.log(0.75), rel=1e-9)
    none = focal_loss(logits, torch.tensor(-1), alpha=0.25, gamma=2.0)
    assert none.item() == pytest.approx(0.75 * (0.04 * -math.log(0.8) + 0.5625 * -math.log(0.25)), rel=1e-9)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.75, 0.5), (0.25, 3.5)])
def test_focal_loss_and_its_gradient_equal_torchvisions(alpha: float, gamma: float) -> None:
    source = torch.Generator().manual_seed(1)
    logits = 4 * torch.randn(50, 5, generator=source, dtype=torch.float64)
    classes = torch.randint(-1, 5, (50,), generator=source)
    truth = (classes[:, None] == torch.arange(5)).double()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = focal_loss(ours, classes, alpha=alpha, gamma=gamma)
    wanted = sigmoid_focal_loss(theirs, truth, alpha=alpha, gamma=gamma).sum(dim=1)
    torch.testing.assert_close(found, wanted)
    found.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_extreme_answers_have_finite_losses_and_gradients(dtype: torch.dtype, gamma: float) -> None:
    logits = torch.tensor([[-6e4, -200, -30, 0, 30, 200, 6e4]] * 2, dtype=dtype).T.contiguous().requires_grad_()
    found = focal_loss(logits, torch.tensor([-1, 0, 1, -1, 1, 0, 1]), alpha=0.25, gamma=gamma)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    # A sure and wrong answer costs its logit.
    assert focal_loss(torch.tensor([-200.0]), torch.tensor(0), alpha=0.25, gamma=gamma).item() == pytest.approx(50)


@pytest.mark.parametrize("beta", [1 / 9, 1.0, 0.0])
def test_smooth_l1_equals_torchs(beta: float) -> None:
    source = torch.Generator().manual_seed(2)
    a, b = torch.randn(20, 4, generator=source), torch.randn(20, 4, generator=source)
    assert smooth_l1(a, b, beta).sum().item() == pytest.approx(
        (F.smooth_l1_loss(a, b, beta=beta, reduction="sum") if beta else (a - b).abs().sum()).item(), rel=1e-5
    )


def test_smooth_l1_of_errors_worked_by_hand() -> None:
    # beta 1/2: .25 lies in the quadratic part, .25^2 / (2 * .5); 2 in the linear, 2 - .25.
    assert smooth_l1(torch.tensor([0.25, -2.0, 0, 0]), torch.zeros(4), 0.5).item() == pytest.approx(0.0625 + 1.75)


def test_giou_loss_of_two_squares_worked_by_hand() -> None:
    # 2 x 2 each, 1 shared of 7, around them 9; apart by 2: nothing shared, 8 of 12 covered.
    a = torch.tensor([0.0, 0, 2, 2])
    assert giou_loss(a, torch.tensor([1.0, 1, 3, 3])).item() == pytest.approx(1 - 1 / 7 + 2 / 9)
    assert giou_loss(a, torch.tensor([4.0, 0, 6, 2])).item() == pytest.approx(1 + 4 / 12)
    assert giou_loss(a, a).item() == pytest.approx(0, abs=1e-6)


def test_the_worked_numbers_of_the_documents() -> None:
    # docs/losses.md: two classes at one anchor, and an anchor that is to become a box beside it, twice as high.
    logits = torch.tensor([0.2, 0.75], dtype=torch.float64).logit()
    assert focal_loss(logits, torch.tensor(1), alpha=0.25, gamma=2.0).item() == pytest.approx(0.011189, abs=5e-7)
    missed = torch.tensor([0.1], dtype=torch.float64).logit()
    assert focal_loss(missed, torch.tensor(0), alpha=0.25, gamma=2.0).item() == pytest.approx(0.4663, abs=5e-5)
    anchor, box = torch.tensor([0.0, 0, 20, 20]), torch.tensor([5.0, 0, 25, 40])
    offsets = encode_boxes(box, anchor)
    torch.testing.assert_close(offsets, torch.tensor([0.25, 0.5, 0, math.log(2)]))
    assert smooth_l1(torch.zeros(4), offsets, 1 / 9).item() == pytest.approx(1.2765, abs=5e-5)
    assert giou_loss(anchor, box).item() == pytest.approx(0.7667, abs=5e-5)


def test_giou_loss_and_its_gradient_equal_torchvisions() -> None:
    a, b = random_boxes(40, seed=3).double(), random_boxes(40, seed=4).double()
    ours, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    found, wanted = giou_loss(ours, b), generalized_box_iou_loss(theirs, b)
    torch.testing.assert_close(found, wanted)
    found.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_box_without_area_has_a_finite_giou_gradient() -> None:
    boxes = torch.tensor([[3.0, 3, 3, 3], [3.0, 3, 3, 3]], requires_grad=True)
    giou_loss(boxes, torch.tensor([[0.0, 0, 5, 5], [3.0, 3, 3, 3]])).sum().backward()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


@pytest.mark.parametrize("box_loss", ["l1", "giou"])
@pytest.mark.parametrize("count", [5, 1, 0])
def test_the_loss_of_one_picture_equals_torchvisions_retinanet(box_loss: BoxLoss, count: int) -> None:
    # One picture: torchvision divides each by its own positives and averages over pictures.
    logits, offsets, assignment = random_batch([count])
    head = RetinaNetHead(in_channels=8, num_anchors=3, num_classes=CLASSES)
    head.regression_head._loss_type = box_loss
    targets = [{"boxes": assignment.boxes_xyxy[0].double(), "labels": assignment.classes[0]}]
    anchors = [ANCHORS.double()]
    wanted = head.compute_loss(
        targets, {"cls_logits": logits, "bbox_regression": offsets}, anchors, list(assignment.matches)
    )
    loss = DetectionLoss(box_loss=box_loss)
    found = loss.sums(logits, offsets, assignment) / loss.weights(assignment.matches).clamp(min=1)
    torch.testing.assert_close(found, torch.stack((wanted["classification"], wanted["bbox_regression"])))
    torch.testing.assert_close(loss(logits, offsets, assignment), sum(wanted.values()))


def test_weights_count_the_positive_anchors() -> None:
    matches = torch.tensor([[0, NEGATIVE, BETWEEN, 2], [NEGATIVE, NEGATIVE, 1, BETWEEN]])
    weights = DetectionLoss().weights(matches)
    assert weights.tolist() == [3, 3]
    assert weights.dtype == torch.float32
    assert DetectionLoss().weights(torch.full((2, 5), NEGATIVE)).tolist() == [0, 0]


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_sums_of_parts_add_up_to_those_of_the_batch(box_loss: BoxLoss) -> None:
    logits, offsets, assignment = random_batch([3, 0, 7])
    loss = DetectionLoss(box_loss=box_loss)
    parts = [
        (loss.sums(logits[i : i + 1], offsets[i : i + 1], part), loss.weights(part.matches))
        for i in range(3)
        for part in [picture_of(assignment, i)]
    ]
    torch.testing.assert_close(sum(sums for sums, _ in parts), loss.sums(logits, offsets, assignment))
    torch.testing.assert_close(sum(weights for _, weights in parts), loss.weights(assignment.matches))


def test_a_loss_without_positive_anchors_is_divided_by_one() -> None:
    assert detection_total(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.0])).item() == 3
    assert detection_total(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 2.0])).item() == 4


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_a_batch_without_boxes_trains_the_classes_alone(box_loss: BoxLoss) -> None:
    logits, offsets, assignment = random_batch([0, 0])
    logits.requires_grad_()
    offsets.requires_grad_()
    DetectionLoss(box_loss=box_loss)(logits, offsets, assignment).backward()
    assert logits.grad is not None
    assert offsets.grad is not None
    assert (logits.grad > 0).all()
    assert not offsets.grad.any()


def test_anchors_between_change_neither_loss_nor_gradient() -> None:
    logits, offsets, assignment = random_batch([4, 6])
    between = assignment.matches == BETWEEN
    assert between.any()
    loss = DetectionLoss()
    before = loss(logits, offsets, assignment)
    logits = torch.where(between[..., None], 50.0, logits).requires_grad_()
    offsets = torch.where(between[..., None], -7.0, offsets).requires_grad_()
    after = loss(logits, offsets, assignment)
    after.backward()
    torch.testing.assert_close(after, before)
    assert logits.grad is not None
    assert offsets.grad is not None
    assert not logits.grad[between].any()
    assert not offsets.grad[assignment.matches < 0].any()


@pytest.mark.parametrize("box_loss", ["smooth_l1", "l1", "giou"])
def test_answers_that_are_right_cost_next_to_nothing(box_loss: BoxLoss) -> None:
    _, _, assignment = random_batch([4, 6])
    positive = assignment.matches >= 0
    found = assignment.matches.clamp(min=0)
    classes = assignment.classes.gather(1, found)
    there = (classes[..., None] == torch.arange(CLASSES)) & positive[..., None]
    boxes = assignment.boxes_xyxy.gather(1, found[..., None].expand(-1, -1, 4))
    offsets = torch.where(positive[..., None], encode_boxes(boxes, ANCHORS), 0.0)
    torch.testing.assert_close(decode_boxes(offsets, ANCHORS)[positive], boxes[positive], rtol=1e-4, atol=1e-3)
    loss = DetectionLoss(box_loss=box_loss)
    assert loss(torch.where(there, 20.0, -20.0), offsets, assignment).item() < 1e-3
    shifted = DetectionLoss(box_loss=box_loss)(torch.where(there.roll(1, dims=2), 20.0, -20.0), offsets, assignment)
    assert shifted.item() > 1


def test_box_weight_multiplies_the_second_term() -> None:
    batch = random_batch([4])
    one, three = DetectionLoss(), DetectionLoss(box_weight=3.0)
    torch.testing.assert_close(three.sums(*batch), one.sums(*batch) * torch.tensor([1.0, 3.0]))


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_gradients_equal_numeric_ones(box_loss: BoxLoss) -> None:
    logits, offsets, assignment = random_batch([2])
    few = (assignment.matches[0] >= 0).nonzero()[:3, 0].tolist() + [0, 1]
    part = Assignment(
        assignment.matches[:, few], assignment.boxes_xyxy.double(), assignment.classes, ANCHORS[few].double()
    )
    loss = DetectionLoss(box_loss=box_loss)
    answers = logits[:, few].requires_grad_(), offsets[:, few].requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss.sums(a, b, part), answers)


def test_half_precision_answers_are_computed_with_in_float32() -> None:
    logits, offsets, assignment = random_batch([3, 5])
    half = DetectionLoss().sums(logits.bfloat16(), offsets.bfloat16(), assignment)
    assert half.dtype == torch.float32
    wanted = DetectionLoss().sums(logits.bfloat16().float(), offsets.bfloat16().float(), assignment)
    assert torch.equal(half, wanted)
