"""A whole training: reading, augmentation, steps, figures, logs and the checkpoint. U-Net, 352 x 480, two threads.

pixbox's training (what `pixbox train` does once its checks are over) beside a plain script for PyTorch Lightning with
the same network of segmentation-models-pytorch (SMP): at the defaults of both, the same with an allocator that keeps
its memory (glibc's settings, in the environment), and with every flag set by hand (that allocator, channels_last, bf16
where the hardware computes it, fused AdamW, a worker). All see the same pictures, augmented by the same code, and count
the same IoU at every step (the scripts with torchmetrics); the scripts' pictures are normalised by their loader.

Each case lives in a process of its own that has imported everything before, and trains so many steps from the start in
each round. All rounds count the start of the workers and the last checkpoint; validation is not part of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import Case, Comparison, Goal, peers, set_threads
from benchmarks.models import PRECISION, SegmentationPair, flags, normalised, segmentation_pair
from benchmarks.pictures import Pictures, camvid
from pixbox.config import Experiment
from pixbox.data.dataset import TrainingSet, as_batch, quiet_worker
from pixbox.data.sampler import StepSampler
from pixbox.labels import IGNORE
from pixbox.sample import Sample

THREADS = 2
ROUNDS = 3
SIZE_HW = (352, 480)
BATCH, STEPS = 4, 10
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""What keeps memory with the process, for glibc."""
_AUGMENT = {"scale": [0.5, 2.0], "rotate": 10.0, "flip": 0.5, "blur": 0.5}


@dataclass(frozen=True)
class Work:
    """What each case trains on; sent to its process."""

    pictures: Pictures
    size_hw: tuple[int, int]
    steps: int
    threads: int

    def pair(self) -> SegmentationPair:
        return segmentation_pair("unet", "resnet18", self.pictures.reader.labels, self.size_hw)

    def training_set(self, experiment: Experiment) -> TrainingSet:
        return TrainingSet(self.pictures.records, self.pictures.reader, experiment.data, seed=0)


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        pictures = camvid(options, BATCH * STEPS, Path(folder) / "pictures")
        work = Work(
            pictures,
            (64, 96) if options.quick else SIZE_HW,
            2 if options.quick else STEPS,
            options.threads or THREADS,
        )
        waited: dict[str, list[float]] = {}

        def case(name: str, train: Callable[..., float], environment: Mapping[str, str], *settings: bool) -> Case:
            ask = processes.enter_context(_process(train, environment, work, Path(folder), *settings))
            shares = waited.setdefault(name, [])
            return Case(name, lambda: shares.append(ask()), BATCH * work.steps)

        default, tuned = "Lightning + SMP, defaults", "Lightning + SMP, defaults, allocator tuned"
        flagged = f"Lightning + SMP, {flags(PRECISION)}, fused AdamW, a worker, allocator tuned"
        others, left_out = peers([
            ("torchmetrics", default, lambda: case(default, _lightning, {}, False)),
            ("torchmetrics", tuned, lambda: case(tuned, _lightning, ALLOCATOR, False)),
            ("torchmetrics", flagged, lambda: case(flagged, _lightning, ALLOCATOR, True)),
        ])  # fmt: skip
        pair = work.pair()
        height, width = work.size_hw
        shape = f"batch {BATCH}, {height} x {width}, {work.steps} steps"
        yield Comparison(
            f"{pair.name}, {shape}, {pictures.name}, pixbox in {PRECISION}",
            "pictures/s",
            [case("pixbox", _pixbox, {}), *others],
            goals=[
                Goal("pixbox", default, 3.0, "what a user gets who sets nothing"),
                Goal("pixbox", tuned, 1.9, "who knows of the allocator"),
                Goal("pixbox", flagged, 1.1, "every flag set by hand"),
            ],
            equal=[pair.equal],
            left_out=left_out,
            also_found=lambda: _shares(waited),
        )


def _shares(waited: Mapping[str, Sequence[float]]) -> list[str]:
    shares = (f"{name} {statistics.median(found):.1%}" for name, found in waited.items())
    return [f"Share of the steps' time that was spent waiting for data: {'; '.join(shares)}"]


# -- in the processes ------------------------------------------------------------------------------------------


@contextmanager
def _process(
    train: Callable[..., float], environment: Mapping[str, str], *arguments: Any
) -> Iterator[Callable[[], float]]:
    """A process with these variables; what is yielded lets it train once, and returns what ``train`` did."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, train, *arguments))
    former = dict(os.environ)
    os.environ.update(environment)
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(former)
    there.close()

    def ask() -> float:
        here.send(True)
        share: float = here.recv()
        return share

    try:
        yield ask
    finally:
        here.close()
        process.join()


def _serve(pipe: Connection, train: Callable[..., float], work: Work, folder: Path, *settings: bool) -> None:
    # A spawned process would spawn its workers too, which import everything again.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    set_threads(work.threads)
    pair = work.pair()
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        with tempfile.TemporaryDirectory(dir=folder) as run:
            pipe.send(train(pair, work, Path(run), *settings))


class _Waiting(Callback):
    """How long steps take, and how long each waits for its pictures before."""

    def __init__(self) -> None:
        self.waited = self.computed = 0.0
        self.since = time.perf_counter()

    @property
    def share(self) -> float:
        return self.waited / (self.waited + self.computed)

    def on_train_start(self, *_: Any) -> None:
        self.since = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        self.waited += self._passed()

    def on_train_batch_end(self, *_: Any) -> None:
        self.computed += self._passed()

    def _passed(self) -> float:
        before, self.since = self.since, time.perf_counter()
        return self.since - before


def _experiment(pair: SegmentationPair, work: Work) -> Experiment:
    settings = pair.experiment.model_dump()
    settings["data"] |= {"augment": _AUGMENT, "batch_size": BATCH, "labels": work.pictures.reader.labels}
    settings["training"] |= {"max_steps": work.steps}
    return Experiment.model_validate(settings)


def _pixbox(pair: SegmentationPair, work: Work, folder: Path) -> float:
    from rich.console import Console

    from pixbox.checkpoint import RunFolder
    from pixbox.engine.trainer import fit, quiet_lightning

    # As at the start of `pixbox train`.
    quiet_lightning()
    run = RunFolder(folder)
    run.checkpoints.mkdir()
    waiting = _Waiting()
    experiment = _experiment(pair, work)
    train = work.training_set(experiment)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        fit(
            pair.task, experiment, train, None, run, resume_from=None, console=Console(file=nowhere), watchers=[waiting]
        )
    return waiting.share


class _Floats(Dataset[tuple[Tensor, Tensor]]):
    """What a script's data set yields: a normalised picture and its classes."""

    def __init__(self, samples: TrainingSet) -> None:
        self.samples = samples

    def __getitem__(self, key: Any) -> tuple[Tensor, Tensor]:
        sample: Sample = self.samples[key]
        batch = as_batch([sample])
        assert isinstance(batch.targets, Tensor)
        return normalised(batch.images)[0], batch.targets[0].long()


class _Plain(pl.LightningModule):
    """As the documentation of Lightning writes it."""

    def __init__(self, model: nn.Module, classes: int, *, tuned: bool) -> None:
        super().__init__()
        from torchmetrics.classification import MulticlassJaccardIndex

        self.model = model
        self.iou = MulticlassJaccardIndex(classes, ignore_index=IGNORE)
        self.tuned = tuned

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, targets = batch
        if self.tuned:
            images = images.contiguous(memory_format=torch.channels_last)
        logits = self.model(images)
        loss = functional.cross_entropy(logits, targets, ignore_index=IGNORE)
        self.iou.update(logits.detach(), targets)
        self.log("train_loss", loss)
        self.log("train_iou", self.iou, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3, fused=True if self.tuned else None)


def _lightning(pair: SegmentationPair, work: Work, folder: Path, tuned: bool) -> float:
    from pixbox.engine.trainer import PRECISIONS, quiet_lightning

    quiet_lightning()
    samples = work.training_set(_experiment(pair, work))
    sampler = StepSampler(len(samples), BATCH, 1, seed=0, first_step=0, total_steps=work.steps)
    loader = DataLoader(
        _Floats(samples),
        batch_sampler=sampler,
        num_workers=1 if tuned else 0,
        persistent_workers=tuned,
        worker_init_fn=quiet_worker if tuned else None,
    )
    model = pair.model.train().to(memory_format=torch.channels_last if tuned else torch.contiguous_format)
    waiting = _Waiting()
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=PRECISIONS[PRECISION if tuned else "32"],  # type: ignore[arg-type]  # as in pixbox.engine.trainer
        max_steps=work.steps,
        default_root_dir=folder,
        # What is printed is nobody's here.
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[waiting],
    )
    trainer.fit(_Plain(model, len(pair.task.labels), tuned=tuned), loader)
    return waiting.share
