"""Trains: an experiment and its data in, checkpoints and a history out."""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.strategies import DDPStrategy
from rich.console import Console
from torch.utils.data import DataLoader

from pixbox.checkpoint import RunFolder, read_checkpoint, write_checkpoint
from pixbox.config import Experiment
from pixbox.data.dataset import TrainingSet, WholeSet, training_loader, whole_loader, worker_count
from pixbox.data.sampler import StepSampler, steps_per_epoch
from pixbox.engine.allocator import memory_kept
from pixbox.engine.callbacks import AveragedWeights, Journal, ProgressBar, Schedule, StoppedByUser
from pixbox.engine.module import TrainingModule, TrainingPlan
from pixbox.errors import TrainingError
from pixbox.networks.inference import computes_bf16
from pixbox.networks.network import Network
from pixbox.sample import Batch, WholeImage
from pixbox.tasks.task import Task

log = logging.getLogger("pixbox")

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


class CompilationError(TrainingError):
    """The network cannot be compiled on this machine."""


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training came to.

    Attributes:
        best: scalar metrics of the best checkpoint; of the last where nothing was monitored.
        epochs, steps: done in all, also before a resume.
        seconds: of this call.
        stopped: the user asked to stop; the state is saved.
    """

    best: dict[str, Any]
    epochs: int
    steps: int
    seconds: float
    stopped: bool


def fit(
    task: Task,
    experiment: Experiment,
    train: TrainingSet,
    val: WholeSet | None,
    run: RunFolder,
    *,
    resume_from: Path | None,
    console: Console,
    watchers: Sequence[Callback] = (),
) -> TrainingOutcome:
    """Train to the end, or from a checkpoint to the end.

    ``experiment.training.precision`` must be resolved. Writes checkpoints, metrics.csv and event files into
    ``run``. ``watchers`` are asked last.

    Raises:
        TrainingError: the loss is no longer a number, or memory is exhausted.
    """
    began = time.monotonic()
    accelerator, world = computing(experiment)
    plan = plan_training(experiment, len(train), world)
    module = TrainingModule(task, experiment, plan)
    # The journal first: on resume, a row that no checkpoint has reached is dropped, but a missing one is not made up.
    own = [ProgressBar(console), *averaging(experiment), Journal(run), Schedule(run)]
    trainer = lightning_trainer(experiment, [*own, *watchers], validates=val is not None)
    first_step = 0 if resume_from is None else _resume_at(read_checkpoint(resume_from), plan)
    if first_step < plan.total_steps:
        loaders = Loaders(train, val, experiment, plan, first_step, on_gpu=accelerator != "cpu")
        stopped = not run_trainer(trainer, module, loaders, resume_from=resume_from)
    else:
        log.info("The run is complete: %d of %d steps are done.", first_step, plan.total_steps)
        if resume_from is not None:
            module.on_load_checkpoint(read_checkpoint(resume_from))
        stopped = False
    progress = module.progress
    return TrainingOutcome(
        best=progress.best_metrics or progress.metrics,
        epochs=plan.epoch_of(progress.step),
        steps=progress.step,
        seconds=time.monotonic() - began,
        stopped=stopped,
    )


def computing(experiment: Experiment) -> tuple[str, int]:
    """What computes, and how many processes of it there are on all machines."""
    training = experiment.training
    accelerator, devices = resolve_devices(training.accelerator, training.devices)
    return accelerator, devices * training.nodes


def averaging(experiment: Experiment) -> list[Callback]:
    decay = experiment.training.ema
    return [AveragedWeights(decay=decay)] if decay > 0 else []


def lightning_trainer(experiment: Experiment, callbacks: list[Callback], *, validates: bool) -> pl.Trainer:
    """A trainer that does nothing but what the module and the callbacks say."""
    training = experiment.training
    accelerator, world = computing(experiment)
    return pl.Trainer(
        accelerator=accelerator,
        devices=world // training.nodes,
        num_nodes=training.nodes,
        strategy=DDPStrategy(broadcast_buffers=False) if world > 1 else "auto",
        precision=PRECISIONS[training.precision],  # type: ignore[arg-type]  # a closed set that mypy cannot see
        max_epochs=1,
        check_val_every_n_epoch=None,
        val_check_interval=1 if validates else None,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        sync_batchnorm=training.sync_bn and accelerator != "cpu" and world > 1,
        # Trying out algorithms pays where a size comes again; by the shorter side nearly every batch has its own.
        benchmark=accelerator != "cpu" and experiment.data.fit != "short_side",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        plugins=[WholeFileIO()],
    )


def run_trainer(
    trainer: pl.Trainer,
    module: TrainingModule,
    loaders: Loaders,
    *,
    resume_from: Path | None = None,
    goes_on: bool = False,
) -> bool:
    """Train; False if the user asked to stop. ``goes_on``: the processes stay connected for another training.

    Raises:
        TrainingError: the loss is no longer a number, or memory is exhausted.
        CompilationError: ``training.compile`` is on, and torch cannot compile the network here.
    """
    module.task.network.to(memory_format=torch.channels_last)
    if module.experiment.training.compile is True:
        compile_parts(module.task.network)
    done = False
    with stop_signals(module), memory_kept():
        try:
            trainer.fit(module, datamodule=loaders, ckpt_path=resume_from, weights_only=True)
            done = True
        except StoppedByUser:
            pass
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(error, module.experiment) from None
        except RuntimeError as error:
            if module.experiment.training.compile is True and _is_of_the_compiler(error):
                raise CompilationError(
                    f"torch cannot compile the network here ({str(error).splitlines()[0]})",
                    where="training.compile",
                    hint="Set it to false. On a CPU, a C++ compiler is needed.",
                ) from error
            raise
        finally:
            # A second connection could read the addresses of the first, which a launcher's store keeps.
            if torch.distributed.is_initialized() and not (done and goes_on):
                torch.distributed.destroy_process_group()
    return done


def compile_parts(network: Network) -> None:
    """Let torch compile the parts of a network's body when they are first called.

    In place: names of weights stay, and copies of the network (averaged weights, for validation) are not compiled.
    Parts, because a body with an auxiliary head is not called as a whole.
    """
    for part in network.body.children():
        part.compile()


def _is_of_the_compiler(error: RuntimeError) -> bool:
    # Imported only here: it takes a second.
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


def _resume_at(content: Mapping[str, Any], plan: TrainingPlan) -> int:
    """The step that a checkpoint has reached; warns where the rest will not be what it would have been."""
    saved = TrainingPlan(**content["plan"])
    if saved.steps_per_epoch != plan.steps_per_epoch:
        log.warning(
            "An epoch had %d steps and now has %d (other pictures, batches or processes): the run goes on at its step, "
            "but not exactly.",
            saved.steps_per_epoch,
            plan.steps_per_epoch,
        )
    if saved.total_steps != plan.total_steps:
        log.warning(
            "The run was planned for %d steps and now has %d: the learning rate follows the new total.",
            saved.total_steps,
            plan.total_steps,
        )
    return int(content["progress"]["step"])


class Loaders(pl.LightningDataModule):
    """Asked for its loaders when the processes know their ranks."""

    def __init__(
        self,
        train: TrainingSet,
        val: WholeSet | None,
        experiment: Experiment,
        plan: TrainingPlan,
        first_step: int,
        *,
        on_gpu: bool,
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.experiment, self.plan, self.first_step = experiment, plan, first_step
        self.on_gpu = on_gpu
        self.workers = worker_count(experiment.data.workers, on_gpu=on_gpu, pictures=len(train))

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        assert self.trainer is not None
        sampler = StepSampler(
            length=len(self.train),
            batch_size=self.experiment.data.batch_size,
            accumulate=self.experiment.training.accumulate,
            seed=self.experiment.training.seed,
            first_step=self.first_step,
            total_steps=self.plan.total_steps,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            halved_steps=self.plan.halved_steps,
        )
        return training_loader(self.train, sampler, workers=self.workers, pin_memory=self.on_gpu)

    def val_dataloader(self) -> DataLoader[WholeImage] | list[Any]:
        assert self.trainer is not None
        if self.val is None:
            return []
        return whole_loader(
            self.val, rank=self.trainer.global_rank, world=self.trainer.world_size, workers=min(self.workers, 2)
        )


def plan_training(experiment: Experiment, pictures: int, world: int) -> TrainingPlan:
    """The length of a training on so many pictures and processes."""
    training = experiment.training
    per_epoch = steps_per_epoch(pictures, experiment.data.batch_size * training.accumulate * world)
    total = training.max_steps or per_epoch * training.epochs
    return TrainingPlan(per_epoch, total, round(training.halved_first * total))


def resolve_devices(accelerator: str, devices: int | str) -> tuple[str, int]:
    """What computes and how many processes of it: all GPUs, or one CPU process, unless the user says otherwise."""
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if isinstance(devices, int):
        return accelerator, devices
    return accelerator, torch.cuda.device_count() if accelerator == "gpu" and torch.cuda.is_available() else 1


def resolve_precision(precision: str, accelerator: str) -> str:
    """`auto` is what the hardware multiplies natively: bf16, else 16 on a GPU and 32 on a CPU."""
    if precision != "auto":
        return precision
    if accelerator == "gpu" and torch.cuda.is_available():
        return "bf16" if computes_bf16(torch.device("cuda")) else "16"
    return "bf16" if accelerator == "cpu" and computes_bf16(torch.device("cpu")) else "32"


class WholeFileIO(CheckpointIO):
    """Checkpoints are written whole or not at all, and read as plain data."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


@contextmanager
def stop_signals(module: TrainingModule) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends training after the next step, on all processes alike; a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if module.stop_asked:
            raise KeyboardInterrupt
        module.stop_asked = True
        log.warning("Stopping after the next step (or validation); press Ctrl-C again to stop at once.")

    former: Mapping[int, Any] = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def quiet_lightning() -> None:
    """Lightning's own messages (devices found, hints about loggers) say nothing that a user of pixbox can use."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def _out_of_memory(error: BaseException, experiment: Experiment) -> TrainingError:
    data = experiment.data
    return TrainingError(
        f"memory is exhausted at batch_size {data.batch_size} and size {data.size[0]} x {data.size[1]} ({error})",
        hint="Lower data.batch_size (and raise training.accumulate by as much), or data.size.",
    )
