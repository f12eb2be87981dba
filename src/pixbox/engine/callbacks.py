"""What watches a training: checkpoints and the end of training, the log, the progress bar. The only place that logs."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, WeightAveraging
from rich.console import Console
from rich.progress import Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from pixbox.checkpoint import RunFolder, read_history
from pixbox.config import MONITORED
from pixbox.drawing import draw_confusion, side_by_side
from pixbox.engine.module import TrainingFigures, TrainingModule
from pixbox.files import write_file
from pixbox.metrics import ClassificationScores, ConfusionMatrix
from pixbox.sample import Batch, WholeImage

log = logging.getLogger("pixbox")

GRID_ROWS, GRID_HEIGHT = 15, 240
# Of more, a confusion matrix has cells too small to read.
READABLE_CLASSES = 100


class StoppedByUser(Exception):
    """Training was asked to stop (Ctrl-C, SIGTERM) and has saved its state."""


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights; validation and the saved ``state_dict`` use it.

    After t steps the average so far counts ``min(decay, (1 + t) / (10 + t))``: it begins short and grows with the
    training. At ``decay`` from the start, 0.999 would leave a fifth of the random first weights in the average of 1,600
    steps.

    Lightning's own ``EMAWeightAveraging`` goes through the tensors one by one, which took a twelfth of a short step.

    Source: Polyak and Juditsky 1992, in the exponential form of Tarvainen and Valpola 2017; the growth is that of
    TensorFlow's ExponentialMovingAverage (``num_updates``).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=self._mix)
        self._decay = decay
        # Lightning's count lies on the device; to look at it would make the processor wait.
        self._step = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        self._step = pl_module.progress.step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @torch.no_grad()
    def _mix(self, averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        del count
        if averaged[0].is_floating_point():
            decay = min(self._decay, (1 + self._step) / (10 + self._step))
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:
            torch._foreach_copy_(averaged, current)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Lightning counts steps from zero in every process; a step counted before would stop the averaging.
        del state_dict


class Schedule(Callback):
    """Says when to validate, saves checkpoints, keeps the best, and ends the training early."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.told_undefined = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, TrainingModule)
        step, plan, training = module.progress.step, module.plan, module.experiment.training
        every = training.evaluate_every.in_steps(plan.steps_per_epoch)
        due = plan.validates_after(step, every) and has_validation(trainer)
        # Lightning validates where the step is a multiple of this number: 1 is now, more than all steps is not.
        trainer.val_check_batch = 1 if due else plan.total_steps + 1
        if not due and (step % plan.steps_per_epoch == 0 or step == plan.total_steps):
            self._end_of_stretch(trainer, module)
        if module.stop_agreed:
            self._save(trainer, self.run.last)
            raise StoppedByUser

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        progress, monitor = module.progress, module.experiment.training.monitor
        value = _monitored(module, monitor)
        if value is None:
            if monitor != "off" and not self.told_undefined:
                log.warning(
                    "%s is undefined on the validation pictures (no label of theirs counts?): by it no checkpoint "
                    "becomes the best. Validate on other pictures, or judge by another figure (training.monitor).",
                    monitor.split()[1],
                )
                self.told_undefined = True
            return self._end_of_stretch(trainer, module)
        module.plateau.update(value)
        if _is_better(value, progress.best, monitor):
            progress.best, progress.best_step, progress.without_improvement = value, progress.step, 0
            progress.best_metrics = dict(progress.metrics)
            self._save(trainer, self.run.best)
        else:
            progress.without_improvement += 1
        patience = module.experiment.training.patience
        if patience > 0 and progress.without_improvement >= patience:
            log.info("No better %s for %d validations: stopping.", monitor.split()[-1], patience)
            trainer.should_stop = True
        return self._end_of_stretch(trainer, module)

    def _end_of_stretch(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        module.share_buffers()
        # Their row is written; a run that goes on from here counts anew.
        module.train_figures = TrainingFigures(module.task.training_confusion())
        step, plan, training = module.progress.step, module.plan, module.experiment.training
        epoch = plan.epoch_of(step)
        if training.save_every > 0 and step % (plan.steps_per_epoch * training.save_every) == 0:
            self._save(trainer, self.run.checkpoints / f"epoch-{epoch:04d}.ckpt")
        self._save(trainer, self.run.last)

    @staticmethod
    def _save(trainer: pl.Trainer, path: Path) -> None:
        trainer.save_checkpoint(path)


class Journal(Callback):
    """Writes metrics.csv, train.log and TensorBoard, on the first process only."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.writer: SummaryWriter | None = None
        self.rows: list[dict[str, float | None]] = []
        self.pictures: list[NDArray[np.uint8]] = []
        self.started = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if trainer.is_global_zero:
            # Steps after the checkpoint were made by the interrupted run and will be made again.
            self.writer = SummaryWriter(str(self.run.path), purge_step=module.progress.step + 1)
            self.rows = [row for row in read_history(self.run.history) if (row["step"] or 0) <= module.progress.step]

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, TrainingModule)
        step, plan = module.progress.step, module.plan
        if self.writer is not None and step % module.experiment.training.log_every == 0:
            figures = module.train_figures
            scalars = {"train/loss": figures.loss}
            scalars |= {f"train/{name}": value for name, value in _counted(module).items()}
            scalars |= {f"learning_rate/{name}": lr for name, lr in module.learning_rates().items()}
            self._scalars(scalars, step)
        end_of_epoch = step % plan.steps_per_epoch == 0 or step == plan.total_steps
        if end_of_epoch and not has_validation(trainer):
            self._finish_row(trainer, module)

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.pictures = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: WholeImage,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(module, TrainingModule)
        # Spread over the set: neighbours in a list are often neighbours in a film.
        spread = max(1, int(trainer.num_val_batches[0]) // GRID_ROWS)
        if self.writer is not None and batch_idx % spread == 0 and len(self.pictures) < GRID_ROWS:
            self.pictures.append(_grid_row(module, batch, outputs["prediction"]))

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        self._finish_row(trainer, module)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._close()

    def _finish_row(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """One row of metrics.csv, one line of the log, scalars and pictures."""
        figures, metrics, step = module.train_figures, module.progress.metrics, module.progress.step
        counted = _counted(module)
        if trainer.is_global_zero:
            epoch = step / module.plan.steps_per_epoch
            row: dict[str, float | None] = {"epoch": epoch, "step": step, "train_loss": figures.loss}
            row |= {f"train_{name}": value for name, value in counted.items()}
            validated = [name for name in MONITORED[module.experiment.task] if name != "train_loss"]
            row |= {name: metrics.get(name) for name in validated}
            row |= {f"lr_{name}": lr for name, lr in module.learning_rates().items()}
            row["seconds"] = round(time.monotonic() - self.started, 2)
            self.rows.append(row)
            write_file(self.run.history, _as_csv(self.rows))
            if self.writer is not None:
                self._scalars({f"val/{name}": metrics.get(name) for name in validated}, step)
                if module.val_metrics is not None:
                    self._scalars(dict(module.task.class_figures(module.val_metrics)), step)
                self._pictures_and_histograms(module, step)
            log.info("%s", _as_line(row, module.plan.total_steps, validated))

    def _pictures_and_histograms(self, module: TrainingModule, step: int) -> None:
        assert self.writer is not None
        if self.pictures:
            width = max(picture.shape[1] for picture in self.pictures)
            padded = [np.pad(p, ((0, 4), (0, width - p.shape[1]), (0, 0))) for p in self.pictures]
            self.writer.add_image("input | target | prediction", np.concatenate(padded), step, dataformats="HWC")
        names, confusion = module.task.labels.names, _confusion(module)
        if confusion is not None:
            self.writer.add_image("confusion, row: truth", draw_confusion(confusion, names), step, dataformats="HWC")
        if module.experiment.training.log_histograms:
            for name, parameter in module.task.named_parameters():
                self.writer.add_histogram(f"weights/{name.replace('.', '/')}", parameter, step)

    def _scalars(self, scalars: dict[str, float | None], step: int) -> None:
        assert self.writer is not None
        for name, value in scalars.items():
            if value is not None:
                self.writer.add_scalar(name, value, step)

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class ProgressBar(Callback):
    """Epoch, loss, accuracy, mIoU, batch and data time, on standard error."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.batch_began = self.batch_ended = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if trainer.is_global_zero and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                # No bar: in 80 columns the figures need the room.
                TaskProgressColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[figures]}"),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("", total=module.plan.total_steps, figures="")
            self.bar.start()
        self.batch_ended = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(module, TrainingModule)
        self.batch_began = time.monotonic()
        module.train_figures.data_seconds += self.batch_began - self.batch_ended

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Sequence[Batch], batch_idx: int
    ) -> None:
        assert isinstance(module, TrainingModule)
        self.batch_ended = time.monotonic()
        figures = module.train_figures
        figures.batch_seconds += self.batch_ended - self.batch_began
        if self.bar is not None and self.task is not None:
            plan = module.plan
            counted = "".join(f" {name} {value or 0:.3f}" for name, value in _counted(module).items())
            self.bar.update(
                self.task,
                completed=module.progress.step,
                description=f"epoch {1 + (module.progress.step - 1) // plan.steps_per_epoch}"
                f"/{math.ceil(plan.total_steps / plan.steps_per_epoch)}",
                figures=f"loss {figures.loss:.4f}{counted} batch {figures.batch_seconds / figures.steps:.2f}s "
                f"data {figures.data_seconds / figures.steps:.2f}s",
            )

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.batch_ended = time.monotonic()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def has_validation(trainer: pl.Trainer) -> bool:
    return trainer.enable_validation


def _as_csv(rows: Sequence[Mapping[str, float | None]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else f"{value:.10g}" for name, value in row.items()} for row in rows)
    return text.getvalue()


def _as_line(row: Mapping[str, float | None], total_steps: int, validated: Sequence[str]) -> str:
    names = ("train_loss", "val_loss", *validated[:2])
    figures = ", ".join(f"{name} {row[name]:.4f}" for name in names if row.get(name) is not None)
    return f"epoch {row['epoch']:.4g}, step {row['step']}/{total_steps}: {figures} ({row['seconds']:.0f} s)"


def _counted(module: TrainingModule) -> dict[str, float | None]:
    """What the task makes of its predictions on training pictures."""
    seen = module.train_figures.confusion
    return {} if seen is None else module.task.training_figures(seen)


def _confusion(module: TrainingModule) -> NDArray[np.int64] | None:
    """(N, N) counts of the last validation, row: true class; None for boxes, and where nobody could read it."""
    counts, classes = module.val_counts, len(module.task.labels)
    if classes > READABLE_CLASSES:
        return None
    if isinstance(counts, ConfusionMatrix):
        return counts.matrix.numpy()
    if not isinstance(counts, ClassificationScores):
        return None
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for pair, number in counts.pictures.items():
        matrix[pair] = number
    return matrix


def _monitored(module: TrainingModule, monitor: str) -> float | None:
    if monitor == "off":
        return None
    name = monitor.split()[1]
    value = module.train_figures.loss if name == "train_loss" else module.progress.metrics.get(name)
    return None if value is None else float(value)


def _is_better(value: float, best: float | None, monitor: str) -> bool:
    return best is None or (value > best if monitor.startswith("max") else value < best)


def _grid_row(module: TrainingModule, item: WholeImage, prediction: Any) -> NDArray[np.uint8]:
    """Input, target and prediction of one validation picture side by side."""
    drawn = [module.task.picture(item.original, labelled) for labelled in (item.target, prediction)]
    row = side_by_side([item.original, *drawn])
    shrink = min(1.0, GRID_HEIGHT / row.shape[0])
    return np.asarray(cv2.resize(row, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), dtype=np.uint8)
