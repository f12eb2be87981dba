"""Augmented training pictures on one core: scale 0.5-2, rotation by 10 degrees, padding, crop, mirror image, blur.

pixbox's one warp beside albumentations, torchvision's transforms (v2) and the steps by hand in OpenCV, with one policy.
CamVid goes to 360 x 360, Clothing Co-Parsing to 512 x 512. Each side delivers what its training step needs: the others
normalised float32 tensors, pixbox uint8, because its network normalises; ``pixbox, normalised`` does that as well, and
``albumentations, uint8`` leaves it out. ``albumentations, one warp`` scales and rotates in one step (``Affine``) where
its usual way takes two; it does less: of an enlarged picture only the middle is kept to crop from. With decoding, every
side reads the files; ``cache: disk`` is pixbox's, filled before.

The zoom is drawn uniformly, as the others do; with decoding pixbox runs as in training, where it is drawn
log-uniformly: 1.08 on average and not 1.25.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray

from benchmarks.measure import Case, Comparison, Goal, peers, require
from benchmarks.pictures import Pictures, camvid, clothes
from pixbox.augment import (
    FILL,
    ColorPolicy,
    GeometryPolicy,
    apply_color,
    draw_color,
    draw_geometry,
    sample_rng,
    warp_image,
    warp_mask,
)
from pixbox.config import AugmentConfig, DataConfig
from pixbox.data.cache import open_cache
from pixbox.data.dataset import TrainingSet
from pixbox.data.sampler import EpochIndex
from pixbox.labels import IGNORE
from pixbox.networks.network import IMAGENET_MEAN, IMAGENET_STD
from pixbox.sample import Mask, Record, Sample

THREADS = 1
SCALE, DEGREES, BLUR = (0.5, 2.0), 10.0, 1.0
ALBUMENTATIONS = "albumentations"
_MEAN, _STD = np.array(IMAGENET_MEAN, np.float32) * 255, np.array(IMAGENET_STD, np.float32) * 255

Picture = NDArray[np.uint8]
Change = Callable[[Picture, Picture], object]
"""From a picture, (H, W, 3) uint8 RGB, and its mask, (H, W) uint8, to what a training step takes."""


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    # A library that looks for its newest version on import would call out of a measurement.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    count = 2 if options.quick else 24
    with tempfile.TemporaryDirectory() as folder:
        for pictures, side, decoded, read, cached in (
            (camvid(options, count, Path(folder) / "camvid"), 360, 2.5, 1.4, 5.0),
            (clothes(options, count, Path(folder) / "clothes"), 512, 2.5, 2.1, 3.3),
        ):
            yield _in_memory(pictures, side, decoded)
            yield _from_disk(pictures, side, read, cached, Path(folder) / f"cache_{side}")


def _in_memory(pictures: Pictures, side: int, goal: float) -> Comparison:
    pairs = [(sample.image, _classes(sample)) for sample in pictures.samples()]
    ours = _pixbox(side)
    mean, std = torch.from_numpy(_MEAN)[:, None, None], torch.from_numpy(_STD)[:, None, None]

    def normalised(picture: Picture, mask: Picture) -> object:
        image, classes = ours(picture, mask)
        return (torch.from_numpy(image).permute(2, 0, 1).float() - mean) / std, classes

    def case(name: str, change: Change) -> Case:
        return Case(name, lambda: [change(*pair) for pair in pairs], len(pairs))

    def other(name: str, make: Callable[[int], Change]) -> Case:
        return case(name, make(side))

    others, left_out = peers((library, name, partial(other, name, make)) for library, name, make in _OTHERS)
    return Comparison(
        f"{pictures.name}, to {side} x {side}, from memory",
        "pictures/s",
        [case("pixbox", ours), case("pixbox, normalised", normalised), *others],
        goals=[Goal("pixbox", ALBUMENTATIONS, goal, "the fastest library; each side delivers what its step needs")],
        left_out=left_out,
    )


def _from_disk(pictures: Pictures, side: int, goal: float, cached_goal: float, folder: Path) -> Comparison:
    augment = AugmentConfig(scale=SCALE, rotate=DEGREES, flip=0.5, blur=BLUR)
    data = DataConfig(root=".", size=(side, side), augment=augment)
    kept = replace(pictures.reader, cache=open_cache("disk", folder))
    sets = {
        "pixbox": TrainingSet(pictures.records, pictures.reader, data, seed=0),
        "pixbox, cache: disk": TrainingSet(pictures.records, kept, data, seed=0),
    }

    def other(name: str, make: Callable[[int], Change]) -> Case:
        change = make(side)
        return Case(name, lambda: [change(*_read(record)) for record in pictures.records], len(pictures.records))

    others, left_out = peers((library, name, partial(other, name, make)) for library, name, make in _OTHERS)
    return Comparison(
        f"{pictures.name}, to {side} x {side}, decoding included",
        "pictures/s",
        [*(Case(name, _epochs(dataset), len(dataset)) for name, dataset in sets.items()), *others],
        equal=[require(_same_samples(*sets.values()), "what training gets with `cache: disk` and without")],
        goals=[
            Goal("pixbox", ALBUMENTATIONS, goal, "the fastest library, reading by OpenCV"),
            Goal("pixbox, cache: disk", ALBUMENTATIONS, cached_goal, "from the second epoch on"),
        ],
        left_out=left_out,
    )


def _same_samples(one: TrainingSet, other: TrainingSet) -> bool:
    """Also fills what one of them keeps."""
    # Twice: first it is read, then what was kept is given out.
    for key in 2 * [EpochIndex(0, index) for index in range(len(one))]:
        left, right = one[key], other[key]
        if not ((left.image == right.image).all() and (_classes(left) == _classes(right)).all()):
            return False
    return True


def _epochs(dataset: TrainingSet) -> Callable[[], object]:
    """One epoch after another, each with draws of its own."""
    epoch = iter(range(1 << 30))

    def run() -> list[Sample]:
        number = next(epoch)
        return [dataset[EpochIndex(number, index)] for index in range(len(dataset))]

    return run


def _classes(sample: Sample) -> Picture:
    assert isinstance(sample.target, Mask)
    return sample.target.classes


def _read(record: Record) -> tuple[Picture, Picture]:
    """As scripts do it."""
    path = record.annotation
    assert isinstance(path, Path)
    picture: Any = cv2.imread(str(record.image))
    if path.suffix == ".mat":
        mask: Any = scipy.io.loadmat(str(path))["groundtruth"]
    else:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), mask


def _pixbox(side: int) -> Callable[[Picture, Picture], tuple[Picture, Picture]]:
    numbers = iter(range(1 << 30))
    color = ColorPolicy(blur=BLUR)

    def change(picture: Picture, mask: Picture) -> tuple[Picture, Picture]:
        rng = sample_rng(0, 0, next(numbers))
        zoom = rng.uniform(*SCALE)
        geometry = GeometryPolicy((side, side), scale=(zoom, zoom), rotate=DEGREES, flip=0.5)
        warp = draw_geometry(rng, (picture.shape[0], picture.shape[1]), geometry)
        return apply_color(warp_image(picture, warp, FILL), draw_color(rng, color)), warp_mask(mask, warp)

    return change


def _albumentations(side: int, *, one_warp: bool = False, normalise: bool = True) -> Change:
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    if one_warp:
        # Without `fit_output`, which with a scale puts the picture at wrong places (2.0.8).
        moves = [A.Affine(scale=SCALE, rotate=(-DEGREES, DEGREES), keep_ratio=True, fill=FILL, fill_mask=IGNORE, p=1)]
    else:
        moves = [
            A.RandomScale((SCALE[0] - 1, SCALE[1] - 1), p=1),
            A.Rotate(DEGREES, border_mode=cv2.BORDER_CONSTANT, fill=FILL, fill_mask=IGNORE, p=1),
        ]
    steps = [
        *moves,
        A.PadIfNeeded(side, side, border_mode=cv2.BORDER_CONSTANT, fill=FILL, fill_mask=IGNORE, p=1),
        A.RandomCrop(side, side, p=1),
        A.HorizontalFlip(p=0.5),
        A.GaussianBlur(blur_limit=0, sigma_limit=(0, BLUR), p=1),
        *([A.Normalize(IMAGENET_MEAN, IMAGENET_STD)] if normalise else []),
        ToTensorV2(),
    ]
    compose = A.Compose(steps, seed=0)
    return lambda picture, mask: compose(image=picture, mask=mask)


def _torchvision(side: int) -> Change:
    from torchvision import tv_tensors
    from torchvision.transforms import InterpolationMode, v2

    fill: Mapping[type, object] = {tv_tensors.Image: list(FILL), tv_tensors.Mask: IGNORE}
    rest = v2.Compose([
        v2.RandomRotation(DEGREES, InterpolationMode.BILINEAR, fill=fill),
        v2.RandomCrop((side, side), pad_if_needed=True, fill=fill),
        v2.RandomHorizontalFlip(0.5),
        v2.GaussianBlur(5, (0.01, BLUR)),
        v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
        v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ])  # fmt: skip

    def change(picture: Picture, mask: Picture) -> object:
        scale = v2.ScaleJitter(picture.shape[:2], SCALE)
        image = tv_tensors.Image(torch.from_numpy(picture).permute(2, 0, 1))
        return rest(*scale(image, tv_tensors.Mask(torch.from_numpy(mask)[None])))

    return change


def _by_hand(side: int) -> Change:
    """One step after the other, each over the whole picture, as templates are written."""
    rng = np.random.default_rng(0)

    def change(picture: Picture, mask: Picture) -> object:
        zoom = rng.uniform(*SCALE)
        size = round(picture.shape[1] * zoom), round(picture.shape[0] * zoom)
        image: Any = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        classes: Any = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), rng.uniform(-DEGREES, DEGREES), 1.0)
        image = cv2.warpAffine(image, turn, size, flags=cv2.INTER_LINEAR, borderValue=FILL)
        classes = cv2.warpAffine(classes, turn, size, flags=cv2.INTER_NEAREST, borderValue=IGNORE)
        below, right = max(side - size[1], 0), max(side - size[0], 0)
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=FILL)
        classes = cv2.copyMakeBorder(classes, 0, below, 0, right, cv2.BORDER_CONSTANT, value=IGNORE)
        top = rng.integers(image.shape[0] - side + 1)
        left = rng.integers(image.shape[1] - side + 1)
        image, classes = image[top : top + side, left : left + side], classes[top : top + side, left : left + side]
        if rng.random() < 0.5:
            image, classes = np.fliplr(image).copy(), np.fliplr(classes).copy()
        image = cv2.GaussianBlur(image, (5, 5), rng.random() * BLUR + 1e-3)
        normalised = (image.astype(np.float32) - _MEAN) / _STD
        return normalised.transpose(2, 0, 1), classes

    return change


_OTHERS: Sequence[tuple[str, str, Callable[[int], Change]]] = (
    ("albumentations", ALBUMENTATIONS, _albumentations),
    ("albumentations", "albumentations, one warp", lambda side: _albumentations(side, one_warp=True)),
    ("albumentations", "albumentations, uint8", lambda side: _albumentations(side, normalise=False)),
    ("torchvision", "torchvision v2", _torchvision),
    ("cv2", "OpenCV, step by step", _by_hand),
)
