"""From Records to what a network sees: augmented windows for training, whole pictures for evaluation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from pixbox.augment import (
    FILL,
    ColorPolicy,
    GeometryPolicy,
    Warp,
    apply_color,
    beside,
    center_crop,
    draw_color,
    draw_geometry,
    draw_paste,
    draw_point,
    halved,
    move_window,
    paste,
    place_whole,
    sample_rng,
    warp_boxes,
    warp_image,
    warp_mask,
)
from pixbox.config import DataConfig, Experiment, Task
from pixbox.data.annotation import read_boxes, read_category, read_classes
from pixbox.data.cache import Cache, cache_key
from pixbox.data.images import AS_IT_IS, PixelReading, read_image
from pixbox.data.sampler import EpochIndex, StepSampler
from pixbox.errors import DataError
from pixbox.labels import IGNORE, LabelMap
from pixbox.sample import (
    Batch,
    Boxes,
    BoxTargets,
    Category,
    Mask,
    Placement,
    Record,
    Sample,
    Target,
    WholeImage,
    stack_boxes,
)


@dataclass(frozen=True)
class SampleReader:
    """Reads a Record into memory: picture decoded, its annotation turned into what the task learns."""

    labels: LabelMap
    cache: Cache
    pixels: PixelReading = AS_IT_IS
    task: Task = "segmentation"

    def read(self, record: Record) -> Sample:
        """Read one picture and its target, in the picture's pixels.

        Raises:
            DataError: naming the file that cannot be used.
        """
        kept = kept_record(record, self.task)
        image, classes = self.cache.get(cache_key(kept, self.labels, self.pixels), lambda: self._decode(kept))
        return Sample(record.id, image, self._target(record, image, classes))

    def _decode(self, record: Record) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        image = read_image(record.image, self.pixels)
        if record.annotation is None:
            return image, None
        return image, read_classes(record, self.labels, image.shape[:2])

    def _target(
        self, record: Record, image: NDArray[np.uint8], classes: NDArray[np.uint8] | None
    ) -> Mask | Boxes | Category | None:
        if self.task == "detection":
            return read_boxes(record, self.labels, image.shape[:2])
        if self.task == "classification":
            return read_category(record, self.labels)
        return None if classes is None else Mask(classes)


def kept_record(record: Record, task: Task) -> Record:
    """What a cache keeps of a record: boxes and categories are known without reading anything."""
    return record if task == "segmentation" else replace(record, annotation=None)


class TrainingSet(Dataset[Any]):
    """Augmented training samples; equal for equal (seed, epoch, index), whichever process reads them.

    Args:
        min_area: boxes that are smaller after the warp are dropped, pixels.
        class_pixels: (N,) labelled pixels of each class in the training masks; needed for ``augment.rare_crops`` and
            ``augment.paste``.
    """

    def __init__(
        self,
        records: Sequence[Record],
        reader: SampleReader,
        data: DataConfig,
        seed: int,
        min_area: float = 0.0,
        class_pixels: NDArray[np.int64] | None = None,
    ) -> None:
        self.records = records
        self.reader = reader
        self.seed = seed
        self.min_area = min_area
        self.geometry = geometry_policy(data)
        self.halved_geometry = halved(self.geometry)
        self.color = color_policy(data)
        self.rare_crops = data.augment.rare_crops
        self.paste = data.augment.paste
        self.interest = None if class_pixels is None else interest_in_rare_classes(class_pixels)

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        size_hw = self.geometry.size_hw
        size = f"{size_hw[0]} x {size_hw[1]}"
        if self.geometry.fit == "short_side":
            size = f"shorter side {min(size_hw)}, longer side at most {max(size_hw)}"
        return f"TrainingSet({len(self)} pictures, {size}, {self.geometry}, {self.color})"

    def __getitem__(self, key: EpochIndex) -> Sample:
        sample = self.reader.read(self.records[key.index])
        assert sample.target is not None
        rng = sample_rng(self.seed, key.epoch, key.index)
        warp = draw_geometry(rng, sample.size_hw, self.halved_geometry if key.halved else self.geometry)
        # Lane 1 is that of the part of the picture.
        if self.paste > 0 and isinstance(sample.target, Mask):
            sample = self._with_rare_objects(beside(rng, lane=2), sample, sample.target)
        if self.rare_crops > 0 and isinstance(sample.target, Mask):
            warp = self._around_a_rare_class(beside(rng, lane=3), sample.target, warp)
        assert sample.target is not None
        image = apply_color(warp_image(sample.image, warp, FILL), draw_color(rng, self.color))
        return Sample(sample.id, image, _warp_target(sample.target, warp, self.min_area))

    def _with_rare_objects(self, rng: np.random.Generator, sample: Sample, mask: Mask) -> Sample:
        """With the probability that was asked for, the picture with rare objects of another one laid over it."""
        assert self.interest is not None
        drawn, donor_at = rng.random(2).tolist()
        if drawn >= self.paste:
            return sample
        donor = self.reader.read(self.records[int(donor_at * len(self.records))])
        assert isinstance(donor.target, Mask)
        cutouts = draw_paste(rng, donor.target.classes, self.interest, sample.size_hw)
        image, classes = paste(sample.image, mask.classes, donor.image, donor.target.classes, cutouts)
        return Sample(sample.id, image, Mask(classes))

    def _around_a_rare_class(self, rng: np.random.Generator, mask: Mask, warp: Warp) -> Warp:
        """With the probability that was asked for, the window around a pixel of a rare class that the picture holds."""
        assert self.interest is not None
        drawn, x_at, y_at = rng.random(3).tolist()
        if drawn >= self.rare_crops:
            return warp
        point = draw_point(rng, mask.classes, self.interest)
        # Anywhere but at the window's border, where half of what the pixel belongs to would be cut away.
        at_xy = (0.2 + 0.6 * x_at, 0.2 + 0.6 * y_at)
        return warp if point is None else move_window(warp, mask.classes.shape, point, at_xy)


def interest_in_rare_classes(pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) one over the root of a class's share of the labelled pixels; 0 for one that is not rare.

    Rare is what occurs and has less than half an even share, 1 / 2N of ``pixels`` (N,), the training masks' counts.
    """
    share = pixels / max(1, pixels.sum())
    rare = (pixels > 0) & (share < 0.5 / len(pixels))
    return np.where(rare, 1 / np.sqrt(np.where(rare, share, 1.0)), 0.0)


def _warp_target(target: Target, warp: Warp, min_area: float) -> Target:
    if isinstance(target, Mask):
        return Mask(warp_mask(target.classes, warp))
    return warp_boxes(target, warp, min_area=min_area) if isinstance(target, Boxes) else target


class WholeSet(Dataset[Any]):
    """Whole pictures as `evaluate` and `predict` see them, with the truth at its original size."""

    def __init__(self, records: Sequence[Record], reader: SampleReader, experiment: Experiment) -> None:
        self.records = records
        self.reader = reader
        self.centered = experiment.evaluation.crop == "center"
        # The cut already has the size that the network is to see.
        self.data = experiment.data.model_copy(update={"base_size": None}) if self.centered else experiment.data

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"WholeSet({len(self)} pictures, fit {self.data.fit})"

    def __getitem__(self, index: int) -> WholeImage:
        sample = self.reader.read(self.records[index])
        if self.centered:
            sample = _cut_center(sample, self.data.size)
        image, placement = fit_whole(sample.image, self.data)
        return WholeImage(sample.id, image, placement, sample.target, sample.image)


def fit_whole(image: NDArray[np.uint8], data: DataConfig) -> tuple[NDArray[np.uint8], Placement]:
    """Bring a whole picture to the form that training has taught the network to expect.

    ``image`` is (H, W, 3) uint8 RGB. Returns the network's input and where the picture lies in it.
    """
    warp, placement = place_whole(image.shape[:2], data.size, data.fit, data.base_size)
    return (image if warp is None else warp_image(image, warp, FILL)), placement


def pixel_reading(data: DataConfig) -> PixelReading:
    return PixelReading(data.bands, data.value_range)


def geometry_policy(data: DataConfig) -> GeometryPolicy:
    augment = data.augment
    return GeometryPolicy(
        size_hw=data.size,
        fit=data.fit,
        base_size=data.base_size,
        scale=augment.scale,
        rotate=augment.rotate,
        shear=augment.shear,
        flip=augment.flip,
        flip_vertical=augment.flip_vertical,
        crop_area=augment.crop_area,
        crop_ratio=augment.crop_ratio,
    )


def color_policy(data: DataConfig) -> ColorPolicy:
    augment = data.augment
    return ColorPolicy(
        brightness=augment.brightness,
        contrast=augment.contrast,
        saturation=augment.saturation,
        hue=augment.hue,
        blur=augment.blur,
        noise=augment.noise,
    )


def training_loader(
    dataset: TrainingSet, sampler: StepSampler, *, workers: int, pin_memory: bool
) -> DataLoader[list[Batch]]:
    """Yields one list of ``accumulate`` Batches per optimizer step; a DataError in place of one that has a bad file."""
    return DataLoader(
        _Carrier(dataset),
        batch_sampler=sampler,
        collate_fn=partial(as_window, batch_size=sampler.batch_size),
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=quiet_worker,
        prefetch_factor=4 if workers else None,
    )


def whole_loader(dataset: WholeSet, *, rank: int = 0, world: int = 1, workers: int = 0) -> DataLoader[WholeImage]:
    """Yields whole pictures one by one, a DataError in place of one that cannot be read.

    Of several processes, each sees every ``world``-th picture, none twice.
    """
    return DataLoader(
        _Carrier(dataset),
        sampler=range(rank, len(dataset), world),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        worker_init_fn=quiet_worker,
    )


class _Carrier(Dataset[Any]):
    """Carries the fault of an unreadable file out of a worker as a value: torch would wrap it in a traceback."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except DataError as error:
            return error


def as_window(samples: Sequence[Sample | DataError], batch_size: int) -> list[Batch] | DataError:
    """The samples of one optimizer step as Batches of ``batch_size``; or the fault of the first that has one."""
    readable: list[Sample] = []
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        readable.append(sample)
    return [as_batch(readable[start : start + batch_size]) for start in range(0, len(readable), batch_size)]


def as_batch(samples: Sequence[Sample]) -> Batch:
    """Stack samples; smaller ones are padded right and below to the largest height and width among them.

    Padding has the colour ``FILL`` and, in a mask, the label ``IGNORE``; boxes stay where they are.
    """
    images = _stack_padded([sample.image for sample in samples], FILL)
    # Channels last in memory is how the pictures lie already: the permuted view needs no copy.
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2)
    return Batch(pictures, _stack([sample.target for sample in samples]), tuple(sample.id for sample in samples))


def _stack(targets: Sequence[Target | None]) -> torch.Tensor | BoxTargets:
    boxes = [target for target in targets if isinstance(target, Boxes)]
    if boxes:
        return stack_boxes(boxes)
    if isinstance(targets[0], Category):
        return torch.tensor([target.index for target in targets if isinstance(target, Category)])
    return torch.from_numpy(_stack_padded([target.classes for target in targets if isinstance(target, Mask)], IGNORE))


def _stack_padded(arrays: Sequence[NDArray[np.uint8]], fill: int | tuple[int, int, int]) -> NDArray[np.uint8]:
    """(H, W, ...) arrays as (B, H, W, ...) of the largest H and W, padded with ``fill``."""
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    height, width = (max(array.shape[axis] for array in arrays) for axis in (0, 1))
    stacked = np.empty((len(arrays), height, width, *arrays[0].shape[2:]), dtype=np.uint8)
    for row, array in zip(stacked, arrays, strict=True):
        own_height, own_width = array.shape[:2]
        row[:own_height, :own_width] = array
        row[own_height:] = fill
        row[:own_height, own_width:] = fill
    return stacked


def worker_count(asked: int | str, *, on_gpu: bool, pictures: int) -> int:
    """Processes that read pictures. On a CPU they take cores from the network, which needs them more: one of four.

    Measured once on two cores, small pictures kept in memory: a training without a worker was 5 % faster.
    """
    if isinstance(asked, int):
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(pictures, max(1, min(16, cores - 1)) if on_gpu else min(4, cores // 4))


def quiet_worker(_: int) -> None:
    # One thread a worker: pools of threads in every worker would fight for the same cores, and OpenCV's
    # pool does not survive a fork.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _as_it_is(item: Any) -> Any:
    return item


def _cut_center(sample: Sample, size_hw: tuple[int, int]) -> Sample:
    warp: Warp = center_crop(sample.size_hw, min(size_hw), size_hw)
    assert sample.target is not None
    return Sample(sample.id, warp_image(sample.image, warp, FILL), _warp_target(sample.target, warp, 0.0))
