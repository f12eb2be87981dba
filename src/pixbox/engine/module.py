"""The one LightningModule: it drives a task step by step and keeps the position in training.

Lightning is given the whole training as one stream of optimizer steps; epochs are arithmetic on the step.
So the position is one number, every random draw follows from it, and a run can be continued at any step.
Optimization is manual, because a loss is a sum and a weight: the weights of all batches of a step, on all
processes, must be known before the first gradient is computed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from pixbox.checkpoint import Position, describe_run
from pixbox.config import Experiment
from pixbox.errors import DataError, TrainingError
from pixbox.metrics import ConfusionMatrix
from pixbox.optim import Plateau, build_optimizer, learning_rate_factor
from pixbox.sample import Batch, WholeImage
from pixbox.tasks.task import Metrics, Scores, Task


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The length of a training, in optimizer steps; the first ``halved_steps`` see pictures at half their size."""

    steps_per_epoch: int
    total_steps: int
    halved_steps: int = 0

    def epoch_of(self, steps_done: int) -> int:
        """Epochs completed after so many steps."""
        return steps_done // self.steps_per_epoch

    def validates_after(self, steps_done: int, every_steps: int) -> bool:
        return steps_done % every_steps == 0 or steps_done == self.total_steps


@dataclass
class TrainingFigures:
    """Sums over the steps since they were last reset; what the log shows."""

    confusion: ConfusionMatrix | None
    loss_sum: float = 0.0
    steps: int = 0
    batch_seconds: float = 0.0
    data_seconds: float = 0.0

    @property
    def loss(self) -> float | None:
        return self.loss_sum / self.steps if self.steps else None


@dataclass
class Progress:
    """What must survive an interruption besides weights and optimizer."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
    without_improvement: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    best_metrics: dict[str, Any] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        return dict(vars(self))


class TrainingModule(pl.LightningModule):
    """Adapter between a task and the trainer. A task returns numbers; callbacks decide what becomes of them."""

    def __init__(self, task: Task, experiment: Experiment, plan: TrainingPlan) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.task = task
        self.experiment = experiment
        self.plan = plan
        self.progress = Progress()
        self.configured_groups: list[dict[str, Any]] = []
        self.plateau = Plateau(
            mode="min" if experiment.training.monitor.startswith("min") else "max",
            factor=experiment.schedule.factor,
            patience=experiment.schedule.patience,
            min_factor=experiment.schedule.min_factor,
        )
        self.train_figures = TrainingFigures(task.training_confusion())
        self.val_scores: Scores = task.scores()
        self.val_loss_sums = torch.zeros(2, 0, dtype=torch.float64)
        self.val_images = 0
        self.val_metrics: Metrics | None = None
        self.val_counts: Scores | None = None  # of all processes
        self._answering: list[Task] = []  # in a list, because it is no part of this module and its checkpoints
        self.stop_asked = False  # of this process; `stop_agreed`: known to all, at the same step
        self.stop_agreed = False

    # -- training ------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Optimizer:
        network = self.task.network
        optimizer = build_optimizer(
            self.experiment.optimizer, network.encoder_parameters(), network.decoder_parameters()
        )
        self.configured_groups = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        return optimizer

    def on_train_start(self) -> None:
        # A resumed optimizer has brought its own rates; the configuration may have changed them since.
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        for group, configured in zip(optimizer.param_groups, self.configured_groups, strict=True):
            group.update(configured)

    def training_step(self, window: list[Batch], batch_idx: int) -> None:
        """One optimizer step over a window of batches."""
        step = self.progress.step
        torch.manual_seed(_step_seed(self.experiment.training.seed, self.global_rank, step))
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        self._set_learning_rate(optimizer.optimizer, step)
        optimizer.zero_grad()
        weights = self._window_weights(window)
        loss = torch.zeros((), device=self.device)
        for batch in window:
            sums = self.task.loss_sums(batch, self.train_figures.confusion)
            # DistributedDataParallel averages gradients over processes; their sum is wanted.
            part = self.task.total(sums, weights) * self.trainer.world_size
            self.manual_backward(part)
            loss += part.detach()
        loss = self.trainer.strategy.reduce(loss / self.trainer.world_size, reduce_op="sum")
        value = float(loss)
        if not math.isfinite(value):
            raise self._not_a_number(value, window)
        optimizer.step()
        self.train_figures.loss_sum += value
        self.train_figures.steps += 1
        self.progress.step += 1

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Lightning calls this with unscaled gradients in every precision.
        training = self.experiment.training
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if training.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, training.clip_norm)
        if training.clip_value > 0:
            torch.nn.utils.clip_grad_value_(parameters, training.clip_value)

    def learning_rates(self) -> dict[str, float]:
        """Name of each parameter group -> its present learning rate."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        return {group["name"]: group["lr"] for group in optimizer.optimizer.param_groups}

    def _set_learning_rate(self, optimizer: Optimizer, step: int) -> None:
        plan = self.plan
        factor = learning_rate_factor(self.experiment.schedule, step, plan.total_steps, plan.steps_per_epoch)
        if self.experiment.schedule.name == "plateau":
            factor *= self.plateau.factor
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def _window_weights(self, window: list[Batch]) -> Tensor:
        """(T,) float: the weight of each loss term over all batches of this step on all processes.

        A last entry travels along, so that a request to stop reaches all processes at the same step.
        """
        weights = torch.stack([self.task.loss_weights(batch) for batch in window]).sum(dim=0)
        message = torch.cat([weights.float(), torch.tensor([float(self.stop_asked)], device=weights.device)])
        message = self.trainer.strategy.reduce(message, reduce_op="sum")
        self.stop_agreed = bool(message[-1] > 0)
        return message[:-1]

    def _not_a_number(self, value: float, window: list[Batch]) -> TrainingError:
        ids = [name for batch in window for name in batch.ids]
        epoch = self.plan.epoch_of(self.progress.step) + 1
        return TrainingError(
            f"the loss became {value} at step {self.progress.step + 1} (epoch {epoch}), on {', '.join(ids[:8])}"
            f"{', ...' if len(ids) > 8 else ''}; learning rate {next(iter(self.learning_rates().values())):.3g}",
            hint="The checkpoints of the last good epoch are kept. Try a lower `optimizer.lr`,\n"
            "`training.clip_norm: 1`, `schedule.warmup_steps`, or `training.precision: 32`; then start again.",
        )

    def transfer_batch_to_device(
        self, batch: list[Batch] | WholeImage | DataError, device: torch.device, dataloader_idx: int
    ) -> list[Batch] | WholeImage:
        if isinstance(batch, DataError):
            raise batch
        # A whole picture is moved in the step, its truth and its original with it only if needed.
        return batch if isinstance(batch, WholeImage) else [part.to(device, non_blocking=True) for part in batch]

    # -- validation ----------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        self.share_buffers()

    def on_validation_epoch_start(self) -> None:
        # Once more: with averaged weights, this is now another set of buffers.
        self.share_buffers()
        # As in `evaluate`, so that both find the same.
        self._answering = [self.task.for_inference(self.experiment.training.precision)]
        self.val_scores.reset()
        self.val_images = 0
        self.val_loss_sums = torch.zeros(2, 0, dtype=torch.float64)

    def validation_step(self, item: WholeImage, batch_idx: int) -> dict[str, Any]:
        """Scores one picture; returns its prediction."""
        assert item.target is not None
        answer = self._answering[0].answer(item.image, item.placement)
        sums, weights = self.task.validation_loss(answer, item.placement, item.target)
        prediction = self.task.decode(answer, item.placement)
        # The place of the picture in the whole set: process r of w has every w-th.
        index = batch_idx * self.trainer.world_size + self.global_rank
        self.task.score(self.val_scores, index, prediction, item.target)
        self.val_images += 1
        found = torch.stack([sums, weights]).double().cpu()
        self.val_loss_sums = found if self.val_loss_sums.shape[1] == 0 else self.val_loss_sums + found
        return {"prediction": prediction}

    def on_validation_epoch_end(self) -> None:
        self._answering = []
        scores, sums, images = self.task.scores(), torch.zeros(2, 0, dtype=torch.float64), 0
        for part_scores, part_sums, part_images in self._of_all_processes(
            (self.val_scores, self.val_loss_sums, self.val_images)
        ):
            scores.merge(part_scores)
            images += part_images
            if part_sums.shape[1]:  # A process without a picture has none.
                sums = part_sums if sums.shape[1] == 0 else sums + part_sums
        self.val_counts, self.val_metrics = scores, self.task.metrics(scores, images)
        loss = self.task.total(sums[0], sums[1]).item()
        self.progress.metrics = {
            **{name: value for name, value in self.val_metrics.to_plain().items() if not isinstance(value, dict)},
            "val_loss": loss if math.isfinite(loss) else None,
        }

    def _of_all_processes(self, own: Any) -> list[Any]:
        """What each process has, in the order of their ranks."""
        if self.trainer.world_size == 1:
            return [own]
        gathered: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, own)
        return gathered

    def share_buffers(self) -> None:
        """Rank 0's BatchNorm statistics to all: every process must score and save the same network."""
        if self.trainer.world_size > 1:
            for buffer in self.task.buffers():
                torch.distributed.broadcast(buffer, src=0)

    # -- checkpoints ---------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The position is the step alone; Lightning's own loop counters would contradict it on a resumed run.
        del checkpoint["loops"]
        progress = self.progress
        position = Position(progress.step, self.plan.epoch_of(progress.step), progress.metrics)
        checkpoint["pixbox"] = describe_run(self.experiment, self.task.labels, position)
        checkpoint["plan"] = asdict(self.plan)
        checkpoint["progress"] = progress.to_plain()
        checkpoint["plateau"] = self.plateau.state_dict()
        figures = self.train_figures
        checkpoint["figures"] = {
            "confusion": None if figures.confusion is None else figures.confusion.matrix.cpu(),
            "loss_sum": figures.loss_sum,
            "steps": figures.steps,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.progress = Progress(**checkpoint["progress"])
        self.plateau.load_state_dict(checkpoint["plateau"])
        figures = checkpoint["figures"]
        self.train_figures = TrainingFigures(
            self.task.training_confusion(), loss_sum=figures["loss_sum"], steps=figures["steps"]
        )
        if self.train_figures.confusion is not None:
            self.train_figures.confusion.matrix.copy_(figures["confusion"])


def _step_seed(seed: int, rank: int, step: int) -> int:
    """Dropout and its like are drawn anew from this at every step."""
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0] >> 1)
