"""Losses against hand arithmetic, torch, torchvision, scikit-learn and segmentation-models-pytorch."""

import math
from typing import get_args

import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from pixbox.config import LossName
from pixbox.errors import ConfigError
from pixbox.labels import IGNORE
from pixbox.losses import (
    LOSSES,
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    Focal,
    Lovasz,
    Ohem,
    PixelBinary,
    SegmentationLoss,
    build_loss,
    weighted_total,
)

WEIGHTS = torch.tensor([0.3, 1.0, 2.5, 0.0])
NEUTRAL = {
    "class_weights": None, "label_smoothing": 0.0, "gamma": 2.0,
    "dice_weight": 1.0, "ohem_threshold": 0.7, "ohem_min_kept": 0.1,
}  # fmt: skip
EVERY_LOSS = [
    CrossEntropy(),
    CrossEntropy(WEIGHTS),
    CrossEntropy(WEIGHTS, label_smoothing=0.2),
    PixelBinary(),
    Dice(),
    CrossEntropyDice(WEIGHTS, dice_weight=0.5),
    Focal(gamma=2.0),
    Focal(gamma=0.5, class_weights=WEIGHTS),
    Lovasz(),
    Ohem(threshold=0.4, min_kept=0.25),
]
every_loss = pytest.mark.parametrize("loss", EVERY_LOSS, ids=lambda loss: type(loss).__name__)


def random_batch(pictures: int = 3, classes: int = 4, side: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(B, N, H, W) float64 logits and (B, H, W) uint8 targets, about a fifth of them ignored."""
    source = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(pictures, classes, side, side, generator=source, dtype=torch.float64)
    target = torch.randint(0, classes, (pictures, side, side), generator=source).to(torch.uint8)
    target[torch.rand(target.shape, generator=source) < 0.2] = IGNORE
    return logits, target


def one_row(probabilities: list[list[float]]) -> Tensor:
    """One picture, one row: a list of pixels, each with its class probabilities -> (1, N, 1, W) logits."""
    return torch.tensor(probabilities, dtype=torch.float64).log().T[None, :, None]


def row_of(classes: list[int]) -> Tensor:
    return torch.tensor(classes, dtype=torch.uint8)[None, None]


# -- the contract that every loss keeps ------------------------------------------------------------------------


def test_losses_have_the_names_of_the_configuration() -> None:
    assert set(LOSSES) == set(get_args(LossName))


@every_loss
def test_gradient_equals_finite_differences(loss: SegmentationLoss) -> None:
    logits, target = random_batch(pictures=2, side=3)
    assert torch.autograd.gradcheck(lambda x: loss.sums(x, target), logits.requires_grad_())


@every_loss
def test_ignored_pixels_change_neither_loss_nor_gradient(loss: SegmentationLoss) -> None:
    logits, target = random_batch()
    ignored = (target == IGNORE)[:, None].expand_as(logits)
    changed = torch.where(ignored, 7 * torch.randn_like(logits), logits).requires_grad_()
    logits.requires_grad_()
    first, second = loss(logits, target), loss(changed, target)
    first.backward()
    second.backward()
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(logits.grad, changed.grad)
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any()


@every_loss
def test_an_ignored_margin_equals_a_smaller_picture(loss: SegmentationLoss) -> None:
    logits, target = random_batch()
    padded = F.pad(target, (2, 1, 0, 3), value=IGNORE)
    torch.testing.assert_close(loss(F.pad(logits, (2, 1, 0, 3)), padded), loss(logits, target))


@every_loss
def test_sums_and_weights_of_unequal_parts_add_up_to_the_whole_batch(loss: SegmentationLoss) -> None:
    logits, target = random_batch(pictures=4)
    target[0, :5] = IGNORE
    whole = logits.clone().requires_grad_()
    loss(whole, target).backward()
    parts = logits.clone().requires_grad_()
    cut = (slice(0, 1), slice(1, 4))
    weights = torch.stack([loss.weights(target[part]) for part in cut]).sum(dim=0)
    value = torch.stack([loss.sums(parts[part], target[part]) for part in cut]).sum(dim=0)
    total = weighted_total(value, weights)
    total.backward()
    torch.testing.assert_close(total, loss(logits, target))
    torch.testing.assert_close(parts.grad, whole.grad)


@every_loss
def test_a_batch_without_labelled_pixel_is_zero_with_zero_gradients(loss: SegmentationLoss) -> None:
    logits, target = random_batch()
    logits.requires_grad_()
    value = loss(logits, target.fill_(IGNORE))
    value.backward()
    assert value == 0
    assert torch.equal(loss.weights(target), torch.zeros(len(loss.weights(target))))
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@every_loss
def test_a_picture_without_labelled_pixel_moves_nothing(loss: SegmentationLoss) -> None:
    logits, target = random_batch(pictures=2)
    more = torch.cat([target, torch.full_like(target[:1], IGNORE)])
    torch.testing.assert_close(loss(torch.cat([logits, logits[:1]]), more), loss(logits, target))


@every_loss
def test_an_empty_batch_weighs_nothing(loss: SegmentationLoss) -> None:
    terms = len(loss.weights(torch.zeros(1, 2, 2, dtype=torch.uint8)))
    assert torch.equal(loss.weights(torch.empty(0, 2, 2, dtype=torch.uint8)), torch.zeros(terms))


@pytest.mark.parametrize("name", get_args(LossName))
def test_how_the_logits_lie_in_memory_changes_neither_loss_nor_gradient(name: str) -> None:
    loss = build_loss(name, **NEUTRAL)
    logits, target = random_batch(classes=40, side=9)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = logits.detach().clone(memory_format=layout).requires_grad_()
        total = weighted_total(loss.sums(leaf, target), loss.weights(target))
        total.backward()
        found.append((total.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1])


@every_loss
def test_targets_and_logits_are_left_as_they_are(loss: SegmentationLoss) -> None:
    logits, target = random_batch()
    before = logits.clone(), target.clone()
    loss(logits, target)
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])


@every_loss
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(loss: SegmentationLoss, half: torch.dtype) -> None:
    logits, target = random_batch(side=32)
    rounded = logits.to(half)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = loss.sums(rounded, target)
    assert sums.dtype == loss.weights(target).dtype == torch.float32
    torch.testing.assert_close(sums.double(), loss.sums(rounded.double(), target), rtol=1e-5, atol=1e-5)


@every_loss
def test_extreme_logits_give_finite_loss_and_gradient(loss: SegmentationLoss) -> None:
    logits, target = random_batch()
    extreme = (logits.sign() * 60000).float().requires_grad_()
    value = loss(extreme, target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(extreme.grad).all()


# -- cross-entropy ---------------------------------------------------------------------------------------------


def test_cross_entropy_of_two_hand_checked_pixels() -> None:
    logits, target = one_row([[0.2, 0.6, 0.2], [0.3, 0.3, 0.4]]), row_of([1, 0])
    loss = CrossEntropy()
    assert loss(logits[..., :1], target[..., :1]).item() == pytest.approx(0.5108256, abs=5e-8)
    assert loss(logits[..., 1:], target[..., 1:]).item() == pytest.approx(1.2039728, abs=5e-8)
    assert loss(logits, target).item() == pytest.approx(0.8573992, abs=5e-8)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_equals_torch(weights: Tensor | None, smoothing: float) -> None:
    logits, target = random_batch()
    expected = F.cross_entropy(
        logits,
        target.long(),
        weight=None if weights is None else weights.double(),
        ignore_index=IGNORE,
        label_smoothing=smoothing,
    )
    torch.testing.assert_close(CrossEntropy(weights, smoothing)(logits, target), expected)


def test_cross_entropy_of_hopeless_pixels_equals_torch() -> None:
    # The true class has a probability of e^-60 to e^-300, beyond the digits of float32.
    logits = torch.zeros(1, 3, 2, 2, requires_grad=True)
    with torch.no_grad():
        logits[0, 1] = torch.tensor([[60.0, 120.0], [300.0, 5.0]])
    target = torch.tensor([[[0, 2], [0, IGNORE]]], dtype=torch.uint8)
    ours = CrossEntropy().sums(logits, target)
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    assert ours.item() == pytest.approx(60 + 120 + 300)
    theirs = F.cross_entropy(logits, target.long(), ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, logits)[0])


def test_labelled_pixels_of_classes_without_weight_give_zero() -> None:
    logits, _ = random_batch(pictures=1)
    target = torch.full((1, 6, 6), 3, dtype=torch.uint8)
    value = CrossEntropy(WEIGHTS, label_smoothing=0.1)(logits.requires_grad_(), target)
    value.backward()
    assert value == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_class_weights_are_saved_with_the_loss() -> None:
    assert torch.equal(CrossEntropyDice(WEIGHTS).state_dict()["cross_entropy.class_weights"], WEIGHTS)
    assert torch.equal(Focal(class_weights=WEIGHTS).state_dict()["class_weights"], WEIGHTS)


# -- per-pixel binary cross-entropy ----------------------------------------------------------------------------


def test_binary_equals_torch_summed_over_classes_and_divided_by_labelled_pixels() -> None:
    logits, target = random_batch()
    labelled = target != IGNORE
    truth = F.one_hot(target[labelled].long(), 4).double()
    pixels = logits.permute(0, 2, 3, 1)[labelled]
    expected = F.binary_cross_entropy_with_logits(pixels, truth, reduction="sum") / labelled.sum()
    torch.testing.assert_close(PixelBinary()(logits, target), expected)


def test_binary_of_two_hand_checked_pixels() -> None:
    q = torch.tensor([[0.2, 0.6, 0.2], [0.3, 0.3, 0.4]], dtype=torch.float64)
    loss = PixelBinary()(torch.logit(q).T[None, :, None], row_of([1, 0]))
    first, second = -math.log(0.8 * 0.6 * 0.8), -math.log(0.3 * 0.7 * 0.6)
    assert (round(first, 4), round(second, 4), round((first + second) / 2, 4)) == (0.9571, 2.0715, 1.5143)
    assert loss.item() == pytest.approx((first + second) / 2)


def test_binary_of_undecided_pixels_is_one_bit_for_each_class() -> None:
    assert PixelBinary()(torch.zeros(1, 5, 1, 2), row_of([0, 4])).item() == pytest.approx(5 * math.log(2))


# -- Dice ------------------------------------------------------------------------------------------------------


def test_dice_of_a_hand_checked_picture() -> None:
    # Class 0: overlap .8 + .4, areas 1.3 and 2 (.8 + .4 + .1); class 1: overlap .9, areas 1.7 and 1.
    logits, target = one_row([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]]), row_of([0, 0, 1])
    expected = ((1 - 2 * 1.2 / (1.3 + 2)) + (1 - 2 * 0.9 / (1.7 + 1))) / 2
    assert Dice()(logits, target).item() == pytest.approx(expected)


def test_dice_of_one_picture_with_all_classes_equals_smp() -> None:
    from segmentation_models_pytorch.losses import DiceLoss

    logits, target = random_batch(pictures=1)
    reference = DiceLoss("multiclass", ignore_index=IGNORE)
    torch.testing.assert_close(Dice()(logits, target), reference(logits, target.long()))


def test_dice_leaves_absent_classes_out_where_smp_counts_them_as_perfect() -> None:
    from segmentation_models_pytorch.losses import DiceLoss

    logits, target = random_batch(pictures=1)
    target[target >= 2] = 0
    reference = DiceLoss("multiclass", ignore_index=IGNORE)(logits, target.masked_fill(target == IGNORE, 0).long())
    torch.testing.assert_close(Dice()(logits, target.masked_fill(target == IGNORE, 0)), reference * 4 / 2)


def test_dice_is_a_mean_over_pictures_whatever_their_labelled_area() -> None:
    logits, target = random_batch(pictures=2)
    target[0, :5] = IGNORE
    each = [Dice()(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(Dice()(logits, target), (each[0] + each[1]) / 2)


def test_cross_entropy_dice_is_the_weighted_sum_of_both() -> None:
    logits, target = random_batch()
    expected = CrossEntropy(WEIGHTS, 0.1)(logits, target) + 0.4 * Dice()(logits, target)
    torch.testing.assert_close(CrossEntropyDice(WEIGHTS, 0.1, dice_weight=0.4)(logits, target), expected)


# -- focal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_of_two_classes_equals_torchvision_binary_focal(gamma: float) -> None:
    # Softmax over (0, x) is the sigmoid of x. (SMP's multi-class focal is one-against-all, another function.)
    logits, target = random_batch(classes=2)
    logits[:, 0] = 0
    labelled = target != IGNORE
    expected = sigmoid_focal_loss(
        logits[:, 1][labelled], target[labelled].double(), alpha=-1, gamma=gamma, reduction="mean"
    )
    torch.testing.assert_close(Focal(gamma)(logits, target), expected)


def test_focal_with_gamma_zero_is_weighted_cross_entropy() -> None:
    logits, target = random_batch()
    expected = F.cross_entropy(logits, target.long(), weight=WEIGHTS.double(), ignore_index=IGNORE)
    torch.testing.assert_close(Focal(0.0, WEIGHTS)(logits, target), expected)


def test_focal_of_two_hand_checked_pixels() -> None:
    logits, target = one_row([[0.2, 0.6, 0.2], [0.3, 0.3, 0.4]]), row_of([1, 0])
    expected = (0.4**2 * -math.log(0.6) + 0.7**2 * -math.log(0.3)) / 2
    assert Focal(2.0)(logits, target).item() == pytest.approx(expected)


# -- Lovasz-softmax --------------------------------------------------------------------------------------------


def test_lovasz_equals_smp_per_picture() -> None:
    from segmentation_models_pytorch.losses import LovaszLoss

    logits, target = random_batch()
    logits = logits.float()
    target[0][target[0] == 2] = 1
    reference = LovaszLoss("multiclass", per_image=True, ignore_index=IGNORE)
    torch.testing.assert_close(Lovasz()(logits, target), reference(logits, target.long()))


def test_lovasz_of_hard_decisions_is_one_minus_the_mean_iou_of_present_classes() -> None:
    logits, target = random_batch(pictures=1)
    target[target == 3] = 0
    predicted = logits.argmax(dim=1)
    hard = 1e4 * F.one_hot(predicted, 4).permute(0, 3, 1, 2).double()
    labelled = target != IGNORE
    iou = jaccard_score(target[labelled], predicted[labelled], labels=[0, 1, 2], average="macro")
    assert Lovasz()(hard, target).item() == pytest.approx(1 - iou)


# -- online hard example mining --------------------------------------------------------------------------------


def test_ohem_averages_pixels_below_the_threshold() -> None:
    logits = one_row([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.75, 0.25]])
    expected = -(math.log(0.6) + math.log(0.2)) / 2
    assert Ohem(0.7, 0.25)(logits, row_of([0, 0, 0, 0])).item() == pytest.approx(expected)


def test_ohem_keeps_the_least_share_of_labelled_pixels_when_none_is_hard() -> None:
    logits = one_row([[0.99, 0.01], [0.95, 0.05], [0.9, 0.1], [0.8, 0.2], [0.5, 0.5], [0.1, 0.9]])
    target = row_of([0, 0, 0, 0, IGNORE, IGNORE])
    assert Ohem(0.5, 0.5)(logits, target).item() == pytest.approx(-(math.log(0.8) + math.log(0.9)) / 2)
    assert Ohem(0.5, 0.26)(logits, target).item() == pytest.approx(-(math.log(0.8) + math.log(0.9)) / 2)
    assert Ohem(0.5, 0.0)(logits, target).item() == pytest.approx(-math.log(0.8))


def test_ohem_does_not_count_ignored_pixels_among_equally_easy_ones() -> None:
    logits = one_row([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    assert Ohem(0.7, 1.0)(logits, row_of([0, 0, 0, IGNORE])).item() == pytest.approx(math.log(2) / 3)


def test_ohem_that_keeps_everything_is_cross_entropy_of_each_picture() -> None:
    logits, target = random_batch()
    each = [F.cross_entropy(x[None], t[None].long(), ignore_index=IGNORE) for x, t in zip(logits, target, strict=True)]
    torch.testing.assert_close(Ohem(threshold=0.7, min_kept=1.0)(logits, target), torch.stack(each).mean())


# -- building --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_name_builds_its_loss(name: str) -> None:
    assert type(build_loss(name, **NEUTRAL)) is LOSSES[name]


def test_settings_reach_the_loss() -> None:
    logits, target = random_batch()
    asked = {**NEUTRAL, "gamma": 3.0, "dice_weight": 0.3, "ohem_threshold": 0.2, "ohem_min_kept": 0.5}
    for name, expected in (
        ("cross_entropy_dice", CrossEntropyDice(WEIGHTS, 0.1, 0.3)),
        ("focal", Focal(3.0, WEIGHTS)),
        ("ohem", Ohem(0.2, 0.5)),
    ):
        fitting = {"class_weights": WEIGHTS if name != "ohem" else None, "label_smoothing": 0.1 * (name[0] == "c")}
        built = build_loss(name, **{**asked, **fitting})
        torch.testing.assert_close(built(logits, target), expected(logits, target), rtol=0, atol=0)


def test_settings_without_effect_are_faults_that_name_the_losses_that_have_them() -> None:
    with pytest.raises(ConfigError) as caught:
        build_loss("dice", **{**NEUTRAL, "class_weights": WEIGHTS, "label_smoothing": 0.1})
    text = str(caught.value)
    assert "loss.class_weights has no effect with `loss.name: dice`" in text
    assert "choose one of: cross_entropy, cross_entropy_dice, focal." in text
    assert "loss.label_smoothing has no effect with `loss.name: dice`" in text
    assert "choose one of: cross_entropy, cross_entropy_dice." in text


def test_an_unknown_loss_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match='Did you mean "lovasz"'):
        build_loss("lovasc", **NEUTRAL)
