"""Optimizers, schedules and the plateau against torch's own."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop, lr_scheduler

from pixbox.config import Interval, OptimizerConfig, ScheduleConfig
from pixbox.optim import Plateau, build_optimizer, learning_rate_factor


def parts() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Conv2d(4, 2, 1)


def built(config: OptimizerConfig) -> tuple[Optimizer, nn.Module, nn.Module]:
    encoder, decoder = parts()
    return build_optimizer(config, encoder.parameters(), decoder.parameters()), encoder, decoder


def groups_of(optimizer: Optimizer) -> dict[str, tuple[int, float, float]]:
    """Group name -> number of tensors, learning rate, weight decay."""
    return {
        group["name"]: (len(group["params"]), group["lr"], group["weight_decay"]) for group in optimizer.param_groups
    }


# -- optimizers ------------------------------------------------------------------------------------------------


def test_encoder_learns_at_its_own_rate() -> None:
    optimizer, _, _ = built(OptimizerConfig(lr=0.02, weight_decay=0.5, encoder_lr_factor=0.1))
    assert groups_of(optimizer) == {"encoder": (4, pytest.approx(0.002), 0.5), "decoder": (2, 0.02, 0.5)}
    assert [group["base_lr"] for group in optimizer.param_groups] == [pytest.approx(0.002), 0.02]


def test_norms_and_biases_can_be_exempt_from_decay() -> None:
    optimizer, encoder, _ = built(OptimizerConfig(lr=0.1, weight_decay=0.5, decay_norm_and_bias=False))
    assert groups_of(optimizer) == {
        "encoder": (1, 0.1, 0.5),
        "encoder_no_decay": (3, 0.1, 0.0),
        "decoder": (1, 0.1, 0.5),
        "decoder_no_decay": (1, 0.1, 0.0),
    }
    assert optimizer.param_groups[0]["params"] == [encoder[0].weight]


def test_frozen_parameters_are_left_out() -> None:
    encoder, decoder = parts()
    encoder.requires_grad_(False)
    decoder.bias.requires_grad_(False)
    optimizer = build_optimizer(OptimizerConfig(), encoder.parameters(), decoder.parameters())
    assert groups_of(optimizer) == {"decoder": (1, 1e-3, 1e-2)}


REFERENCES: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "adam": lambda p: Adam(p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1),
    "adamw": lambda p: AdamW(p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1),
    "sgd": lambda p: SGD(p, lr=0.01, momentum=0.7, weight_decay=0.1),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, momentum=0.7, weight_decay=0.1),
}


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_steps_equal_those_of_torch(name: str) -> None:
    config = OptimizerConfig(name=name, lr=0.01, weight_decay=0.1, momentum=0.7, betas=(0.8, 0.95))
    _, reference_decoder = parts()
    encoder, decoder = parts()
    optimizer = build_optimizer(config, encoder.parameters(), decoder.parameters())
    reference = REFERENCES[name](list(reference_decoder.parameters()))
    source = torch.Generator().manual_seed(0)
    for _ in range(4):
        for ours, theirs in zip(decoder.parameters(), reference_decoder.parameters(), strict=True):
            ours.grad = torch.randn(ours.shape, generator=source)
            theirs.grad = ours.grad.clone()
        optimizer.step()
        reference.step()
    for ours, theirs in zip(decoder.parameters(), reference_decoder.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


# -- schedules -------------------------------------------------------------------------------------------------


def torch_rates(make: Callable[[Optimizer], lr_scheduler.LRScheduler], steps: int) -> list[float]:
    """The learning rate of each step of an optimizer with rate 1 under one of torch's schedulers."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def our_rates(config: ScheduleConfig, steps: int, steps_per_epoch: int = 10) -> list[float]:
    return [learning_rate_factor(config, step, steps, steps_per_epoch) for step in range(steps)]


def test_poly_equals_torch() -> None:
    expected = torch_rates(lambda o: lr_scheduler.PolynomialLR(o, total_iters=50, power=0.9), 50)
    assert our_rates(ScheduleConfig(name="poly", power=0.9), 50) == pytest.approx(expected)


def test_cosine_equals_torch() -> None:
    expected = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=50, eta_min=0.05), 50)
    assert our_rates(ScheduleConfig(name="cosine", min_factor=0.05), 50) == pytest.approx(expected)


@pytest.mark.parametrize("peak", [0.2, 0.5])
def test_onecycle_equals_torch(peak: float) -> None:
    # Torch counts its last step as the end of the fall, ours is the one after it: hence 51 steps and that share.
    expected = torch_rates(
        lambda o: lr_scheduler.OneCycleLR(
            o, max_lr=1.0, total_steps=51, pct_start=(50 * peak + 1) / 51, cycle_momentum=False, final_div_factor=4
        ),
        50,
    )
    assert our_rates(ScheduleConfig(name="onecycle", peak=peak, min_factor=0.01), 50) == pytest.approx(expected)


def test_onecycle_never_goes_below_its_least_factor() -> None:
    assert min(our_rates(ScheduleConfig(name="onecycle", min_factor=0.3), 50)) >= 0.3


@pytest.mark.parametrize("peak", [0.0, 1.0])
def test_onecycle_may_only_fall_or_only_rise(peak: float) -> None:
    rates = our_rates(ScheduleConfig(name="onecycle", peak=peak, min_factor=0.1), 50)
    assert rates == sorted(rates, reverse=peak == 0.0)
    assert min(rates) >= 0.04
    assert max(rates) <= 1.0


def test_step_every_so_many_epochs_equals_torch() -> None:
    expected = torch_rates(lambda o: lr_scheduler.StepLR(o, step_size=20, gamma=0.3), 50)
    config = ScheduleConfig(name="step", every=Interval(2), factor=0.3)
    assert our_rates(config, 50, steps_per_epoch=10) == pytest.approx(expected)
    config = ScheduleConfig(name="step", every=Interval(20, "steps"), factor=0.3)
    assert our_rates(config, 50, steps_per_epoch=7) == pytest.approx(expected)


def test_step_at_milestones_equals_torch() -> None:
    expected = torch_rates(lambda o: lr_scheduler.MultiStepLR(o, milestones=[15, 40], gamma=0.1), 50)
    config = ScheduleConfig(name="step", milestones=[Interval(15, "steps"), Interval(4)], factor=0.1)
    assert our_rates(config, 50, steps_per_epoch=10) == pytest.approx(expected)


def test_constant_stays() -> None:
    assert our_rates(ScheduleConfig(name="constant"), 5) == [1.0] * 5


def test_warmup_equals_torch_linear_ramp() -> None:
    expected = torch_rates(lambda o: lr_scheduler.LinearLR(o, start_factor=0.01, total_iters=5), 60)
    assert our_rates(ScheduleConfig(name="constant", warmup_steps=5), 60) == pytest.approx(expected)
    assert our_rates(ScheduleConfig(name="plateau", warmup_steps=5), 60) == pytest.approx(expected)


def test_warmup_is_multiplied_into_the_schedule_and_leaves_the_rest_alone() -> None:
    with_warmup = our_rates(ScheduleConfig(name="poly", warmup_steps=4), 50)
    without = our_rates(ScheduleConfig(name="poly"), 50)
    assert with_warmup[4:] == without[4:]
    assert with_warmup[2] == pytest.approx(without[2] * (0.01 + 0.99 / 2))


def test_warmup_never_exceeds_a_tenth_of_all_steps() -> None:
    rates = our_rates(ScheduleConfig(name="constant", warmup_steps=1000), 50)
    assert rates[4] < 1.0
    assert rates[5:] == [1.0] * 45
    assert our_rates(ScheduleConfig(name="constant", warmup_steps=1000), 9) == [1.0] * 9


@pytest.mark.parametrize("name", ["poly", "cosine", "onecycle"])
def test_steps_beyond_the_end_keep_the_last_rate(name: str) -> None:
    config = ScheduleConfig(name=name, min_factor=0.2)
    assert learning_rate_factor(config, 80, 50, 10) == learning_rate_factor(config, 50, 50, 10)


# -- plateau ---------------------------------------------------------------------------------------------------

FIGURES = [0.5, 0.6, 0.60005, 0.6, math.nan, 0.7, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_plateau_equals_torch(mode: str, patience: int, sign: int) -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, factor=0.3, patience=patience, min_lr=0.02)
    plateau = Plateau(mode=mode, factor=0.3, patience=patience, min_factor=0.02)
    found, expected = [], []
    for value in [math.nan, *(sign * figure for figure in FIGURES)]:
        plateau.update(value)
        reference.step(value)
        found.append(plateau.factor)
        expected.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx(expected)
    assert found[-1] < 1.0


def test_plateau_continues_from_its_saved_state() -> None:
    whole = Plateau("max", 0.5, 1, 0.0)
    first = Plateau("max", 0.5, 1, 0.0)
    for value in FIGURES[:8]:
        whole.update(value)
        first.update(value)
    second = Plateau("max", 0.5, 1, 0.0)
    second.load_state_dict(first.state_dict())
    for value in FIGURES[8:]:
        whole.update(value)
        second.update(value)
        assert second.factor == whole.factor
