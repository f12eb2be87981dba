"""How weights are moved, and how fast at which step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any, Literal

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from pixbox.config import OptimizerConfig, ScheduleConfig

_WARMUP_START = 0.01
_ONECYCLE_START = 0.04  # Torch's own: a twenty-fifth.


def build_optimizer(
    config: OptimizerConfig, encoder: Iterable[nn.Parameter], decoder: Iterable[nn.Parameter]
) -> Optimizer:
    """The named optimizer over the parameters that train; frozen ones are left out.

    Groups are ``encoder`` and ``decoder`` and, where ``decay_norm_and_bias`` is off, ``encoder_no_decay`` and
    ``decoder_no_decay`` with the parameters of at most one dimension; without parameters a group is left out.
    Each has ``name`` and ``base_lr``, the rate that a schedule's factor multiplies.
    """
    groups: list[dict[str, Any]] = []
    for name, parameters, lr in (
        ("encoder", encoder, config.lr * config.encoder_lr_factor),
        ("decoder", decoder, config.lr),
    ):
        training = [parameter for parameter in parameters if parameter.requires_grad]
        exempt = [p for p in training if p.ndim <= 1 and not config.decay_norm_and_bias]
        decayed = [p for p in training if p.ndim > 1 or config.decay_norm_and_bias]
        for suffix, members, decay in (("", decayed, config.weight_decay), ("_no_decay", exempt, 0.0)):
            if members:
                groups.append(
                    {"params": members, "name": name + suffix, "lr": lr, "base_lr": lr, "weight_decay": decay}
                )
    # On a CPU the fused step is 2 to 20 times as fast. On a GPU torch's own choice is nearly as fast as fused, and
    # a fused optimizer unscales float16 gradients itself, after the moment at which they must be clipped.
    on_cpu = all(p.device.type == "cpu" for p in chain.from_iterable(group["params"] for group in groups))
    fused = True if on_cpu else None
    match config.name:
        case "adam":
            return Adam(groups, betas=config.betas, fused=fused)
        case "adamw":
            return AdamW(groups, betas=config.betas, fused=fused)
        case "sgd":
            return SGD(groups, momentum=config.momentum, fused=fused)
        case "rmsprop":
            return RMSprop(groups, momentum=config.momentum)


def learning_rate_factor(config: ScheduleConfig, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """What every group's base learning rate is multiplied by at an optimizer step, 0..total_steps - 1.

    A pure function of the step. The schedule runs over all steps; during warm-up (from a hundredth, linear, at
    most a tenth of all steps) it is multiplied by the ramp. ``plateau`` gives the warm-up alone: its own factor
    is ``Plateau.factor``.
    """
    return _warmup(config, step, total_steps) * _schedule(config, step, total_steps, steps_per_epoch)


class Plateau:
    """A factor that shrinks when a figure has not improved for ``patience`` updates in a row.

    ``factor`` is a property: 1 at first, multiplied by the constructor's ``factor`` each time, never below
    ``min_factor``. Better means by more than a ten-thousandth of the best value; NaN is never better.

    Same rules as ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with its defaults.
    """

    _THRESHOLD = 1e-4

    def __init__(self, mode: Literal["min", "max"], factor: float, patience: int, min_factor: float) -> None:
        self._mode = mode
        self._shrink = factor
        self._patience = patience
        self._min_factor = min_factor
        self._best: float | None = None
        self._without_improvement = 0
        self._factor = 1.0

    @property
    def factor(self) -> float:
        return self._factor

    def update(self, value: float) -> None:
        """Take in the figure of one validation."""
        if self._improves(value):
            self._best = value
            self._without_improvement = 0
        else:
            self._without_improvement += 1
        if self._without_improvement > self._patience:
            self._factor = max(self._factor * self._shrink, self._min_factor)
            self._without_improvement = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers; with the constructor's settings they are the whole state."""
        return {"best": self._best, "without_improvement": self._without_improvement, "factor": self._factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best = state["best"]
        self._without_improvement = state["without_improvement"]
        self._factor = state["factor"]

    def _improves(self, value: float) -> bool:
        if self._best is None:
            return not math.isnan(value)
        if self._mode == "min":
            return value < self._best * (1 - self._THRESHOLD)
        return value > self._best * (1 + self._THRESHOLD)


def _warmup(config: ScheduleConfig, step: int, total_steps: int) -> float:
    steps = min(config.warmup_steps, total_steps // 10)
    return 1.0 if step >= steps else _WARMUP_START + (1 - _WARMUP_START) * step / steps


def _schedule(config: ScheduleConfig, step: int, total_steps: int, steps_per_epoch: int) -> float:
    progress = min(step / total_steps, 1.0)
    match config.name:
        case "constant" | "plateau":
            return 1.0
        case "poly":
            return float((1 - progress) ** config.power)
        case "cosine":
            return _cosine(1.0, config.min_factor, progress)
        case "onecycle":
            if progress < config.peak:
                return _cosine(max(_ONECYCLE_START, config.min_factor), 1.0, progress / config.peak)
            fall = (progress - config.peak) / (1 - config.peak) if config.peak < 1 else 0.0
            return _cosine(1.0, config.min_factor, fall)
        case "step":
            if config.every is not None:
                return float(config.factor ** (step // config.every.in_steps(steps_per_epoch)))
            passed = sum(step >= milestone.in_steps(steps_per_epoch) for milestone in config.milestones)
            return float(config.factor**passed)


def _cosine(start: float, end: float, progress: float) -> float:
    """From ``start`` to ``end`` along half a cosine wave, ``progress`` 0..1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
