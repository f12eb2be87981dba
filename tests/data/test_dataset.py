"""What training and evaluation see: the same pictures from any number of processes, whole ones untouched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pixbox.augment import FILL
from pixbox.config import Experiment, read_experiment
from pixbox.data.cache import open_cache
from pixbox.data.dataset import (
    SampleReader,
    TrainingSet,
    WholeSet,
    as_batch,
    interest_in_rare_classes,
    training_loader,
    whole_loader,
    worker_count,
)
from pixbox.data.sampler import EpochIndex, StepSampler
from pixbox.data.splits import labels_of, read_splits
from pixbox.errors import DataError
from pixbox.labels import IGNORE, LabelMap
from pixbox.sample import Boxes, BoxTargets, Category, Mask, Record, Sample, WholeImage
from tiny import SIZE_HW, draw_scene, experiment, write_scenes

VARIED = {
    "scale": [0.5, 2.0], "rotate": 20, "shear": 5, "flip": 0.5, "flip_vertical": 0.5, "brightness": 0.2,
    "contrast": 0.2, "saturation": 0.3, "hue": 0.05, "blur": 1.0, "noise": 4.0,
}  # fmt: skip
Seen = dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def configured(scenes: Path, tmp_path: Path) -> Any:
    """``configured(data__fit="pad")``: the experiment on the tiny scenes."""

    def configure(**changes: Any) -> Experiment:
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump(experiment(scenes, **changes)))
        return read_experiment(file)

    return configure


def reader_of(configured: Experiment, cache: str = "none", folder: Path | None = None) -> SampleReader:
    splits = read_splits(configured)
    return SampleReader(labels_of(configured), open_cache(cache, folder, [*splits.train, *splits.val]))


def seen_in_training(
    configured: Experiment, reader: SampleReader, *, workers: int = 0, batch_size: int = 2, accumulate: int = 1
) -> Seen:
    """Every sample of two epochs, by epoch and picture."""
    dataset = TrainingSet(read_splits(configured).train, reader, configured.data, seed=5)
    per_epoch = len(dataset) // (batch_size * accumulate)
    sampler = StepSampler(len(dataset), batch_size, accumulate, seed=5, first_step=0, total_steps=2 * per_epoch)
    seen: Seen = {}
    for step, window in enumerate(training_loader(dataset, sampler, workers=workers, pin_memory=False)):
        assert [len(batch) for batch in window] == [batch_size] * accumulate
        for batch in window:
            assert batch.images.dtype == batch.targets.dtype == torch.uint8
            for id_, image, target in zip(batch.ids, batch.images, batch.targets, strict=True):
                seen[step // per_epoch, id_] = image.numpy(), target.numpy()
    assert len(seen) == 2 * len(dataset)
    return seen


def assert_same(one: Seen, other: Seen) -> None:
    assert one.keys() == other.keys()
    for key, (image, target) in one.items():
        np.testing.assert_array_equal(image, other[key][0])
        np.testing.assert_array_equal(target, other[key][1])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 4])
def test_training_samples_do_not_depend_on_the_number_of_workers(configured: Any, workers: int) -> None:
    varied = configured(data__augment=VARIED)
    alone = seen_in_training(varied, reader_of(varied))
    assert_same(alone, seen_in_training(varied, reader_of(varied), workers=workers))
    first, second = (alone[epoch, "images/s0003"][0] for epoch in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize(("batch_size", "accumulate"), [(1, 1), (8, 1), (2, 2), (1, 4)])
def test_training_samples_do_not_depend_on_how_they_are_grouped(
    configured: Any, batch_size: int, accumulate: int
) -> None:
    varied = configured(data__augment=VARIED)
    grouped = seen_in_training(varied, reader_of(varied), batch_size=batch_size, accumulate=accumulate)
    assert_same(seen_in_training(varied, reader_of(varied)), grouped)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_cache_changes_nothing_that_training_sees(configured: Any, tmp_path: Path, cache: str) -> None:
    varied = configured(data__augment=VARIED)
    plain = seen_in_training(varied, reader_of(varied))
    cached = reader_of(varied, cache, tmp_path / "cache")
    for workers in (0, 2, 0):  # the second pass and the third find what the first has kept
        assert_same(plain, seen_in_training(varied, cached, workers=workers))


def test_a_sample_is_a_window_of_the_asked_size_with_void_where_there_is_no_picture(configured: Any) -> None:
    wide = configured(data__size=[64, 80], data__augment={})
    seen = seen_in_training(wide, reader_of(wide))
    for (_, id_), (image, target) in seen.items():
        assert image.shape == (3, 64, 80)
        assert target.shape == (64, 80)
        picture, mask = draw_scene(int(id_[-4:]))
        # The scenes are 40 x 56 and nothing is varied: somewhere in the window each lies as it is.
        rows, columns = np.nonzero(target != 255)
        bottom, right = rows.max() + 1, columns.max() + 1
        top, left = bottom - SIZE_HW[0], right - SIZE_HW[1]
        np.testing.assert_array_equal(image[:, top:bottom, left:right], picture.transpose(2, 0, 1))
        classes = np.select([mask == 0, mask == 80, mask == 200], [0, 1, 2], 255)
        np.testing.assert_array_equal(target[top:bottom, left:right], classes)
        outside = np.ones((64, 80), dtype=bool)
        outside[top:bottom, left:right] = False
        assert (target[outside] == 255).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch", "short_side"])
def test_validation_pictures_are_not_augmented(configured: Any, fit: str) -> None:
    calm, varied = (
        configured(data__augment=augment, data__fit=fit, data__val=None, data__val_fraction=0.5)
        for augment in ({}, VARIED)
    )
    sets = [WholeSet(read_splits(each).val, reader_of(each), each) for each in (calm, varied)]
    assert len(sets[0]) == 4
    for index in range(4):
        one, other = (whole[index] for whole in sets)
        np.testing.assert_array_equal(one.image, other.image)
        picture, mask = draw_scene(int(one.id[-4:]))
        np.testing.assert_array_equal(other.original, picture)
        if fit == "crop":
            np.testing.assert_array_equal(other.image, picture)
        assert isinstance(other.target, Mask)
        np.testing.assert_array_equal(
            other.target.classes, np.select([mask == 0, mask == 80, mask == 200], [0, 1, 2], 255)
        )


def test_a_center_cut_has_the_asked_size_whatever_training_resized_to(configured: Any) -> None:
    cut = configured(data__size=[40, 40], data__base_size=112, evaluation__crop="center")
    item = WholeSet(read_splits(cut).val, reader_of(cut), cut)[0]
    picture, _ = draw_scene(int(item.id[-4:]))
    np.testing.assert_array_equal(item.image, picture[:, 8:48])
    assert item.placement.original_hw == item.placement.content_hw == (40, 40)


def test_every_process_sees_its_share_of_the_whole_set_once(configured: Any) -> None:
    plain = configured()
    whole = WholeSet(read_splits(plain).val, reader_of(plain), plain)
    shares = [[item.id for item in whole_loader(whole, rank=rank, world=3, workers=rank)] for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 1]
    assert sorted(id_ for share in shares for id_ in share) == sorted(record.id for record in whole.records)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_comes_as_its_fault_and_the_others_as_they_are(tmp_path: Path, workers: int) -> None:
    data = write_scenes(tmp_path / "data", train=4, val=3)
    for name in ("s1001", "s0002"):
        file = data / f"images/{name}.png"
        file.write_bytes(file.read_bytes()[:200])
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(experiment(data)))
    plain = read_experiment(tmp_path / "c.yaml")
    reader = SampleReader(labels_of(plain), open_cache("none", None))
    splits = read_splits(plain)
    items: list[Any] = list(whole_loader(WholeSet(splits.val, reader, plain), workers=workers))
    assert [type(item) for item in items] == [WholeImage, DataError, WholeImage]
    assert items[1].faults[0].where == str(data / "images/s1001.png")
    dataset = TrainingSet(splits.train, reader, plain.data, seed=0)
    sampler = StepSampler(4, 4, 1, seed=0, first_step=0, total_steps=1)
    (window,) = training_loader(dataset, sampler, workers=workers, pin_memory=False)
    assert isinstance(window, DataError)
    assert window.faults[0].where == str(data / "images/s0002.png")


@pytest.mark.parametrize("mask_hw", [(20, 28), (80, 112), (30, 42), (100, 140)])
def test_a_mask_of_another_resolution_is_resized_to_the_nearest_label(
    configured: Any, tmp_path: Path, mask_hw: tuple[int, int]
) -> None:
    values = np.random.default_rng(0).choice(np.array([0, 80, 200, 255], dtype=np.uint8), mask_hw)
    Image.fromarray(draw_scene(0)[0]).save(tmp_path / "p.png")
    Image.fromarray(values).save(tmp_path / "m.png")
    reader = SampleReader(labels_of(configured()), open_cache("none", None))
    target = reader.read(Record("p", tmp_path / "p.png", tmp_path / "m.png")).target
    assert isinstance(target, Mask)
    by_pillow = np.array(Image.fromarray(values).resize(SIZE_HW[::-1], Image.Resampling.NEAREST))
    expected = np.select([by_pillow == 0, by_pillow == 80, by_pillow == 200], [0, 1, 2], 255)
    np.testing.assert_array_equal(target.classes, expected)
    if mask_hw == (20, 28):
        by_hand = np.repeat(np.repeat(values, 2, axis=0), 2, axis=1)
        np.testing.assert_array_equal(by_pillow, by_hand)


def test_a_training_set_says_what_it_does(configured: Any) -> None:
    varied = configured(data__augment=VARIED)
    told = repr(TrainingSet(read_splits(varied).train, reader_of(varied), varied.data, seed=0))
    for part in ("8 pictures", "32 x 48", "crop", "rotate=20", "hue=0.05"):
        assert part in told


def test_a_training_set_by_the_shorter_side_says_so(configured: Any) -> None:
    parts = configured(data__fit="short_side", data__augment={"crop_area": [0.25, 1], "crop_ratio": [0.5, 2]})
    dataset = TrainingSet(read_splits(parts).train, reader_of(parts), parts.data, seed=0)
    assert "8 pictures, shorter side 32, longer side at most 48" in repr(dataset)
    assert (dataset.geometry.crop_area, dataset.geometry.crop_ratio) == ((0.25, 1.0), (0.5, 2.0))


def test_samples_of_one_size_are_stacked_as_they_are() -> None:
    rng = np.random.default_rng(0)
    samples = [Sample(str(i), pixels(rng, (4, 6, 3)), Mask(pixels(rng, (4, 6)))) for i in range(3)]
    batch = as_batch(samples)
    for row, sample in enumerate(samples):
        np.testing.assert_array_equal(batch.images[row].permute(1, 2, 0), sample.image)
        assert isinstance(sample.target, Mask)
        np.testing.assert_array_equal(batch.targets[row], sample.target.classes)
    # Channels last, as convolutions like them.
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_samples_of_different_sizes_are_padded_right_and_below() -> None:
    rng = np.random.default_rng(0)
    sizes_hw = [(2, 5), (4, 3), (1, 1)]
    images = [pixels(rng, (*size_hw, 3)) for size_hw in sizes_hw]
    masks = [pixels(rng, size_hw) for size_hw in sizes_hw]
    batch = as_batch([Sample("", image, Mask(mask)) for image, mask in zip(images, masks, strict=True)])
    assert batch.images.shape == (3, 3, 4, 5)
    for row, (image, mask) in enumerate(zip(images, masks, strict=True)):
        rest = (0, 4 - mask.shape[0]), (0, 5 - mask.shape[1])
        np.testing.assert_array_equal(batch.targets[row], np.pad(mask, rest, constant_values=IGNORE))
        for channel, fill in enumerate(FILL):
            expected = np.pad(image[:, :, channel], rest, constant_values=fill)
            np.testing.assert_array_equal(batch.images[row, channel], expected)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_padding_leaves_boxes_and_categories_as_they_are() -> None:
    images = [np.zeros((4, 6, 3), np.uint8), np.zeros((8, 2, 3), np.uint8)]
    corners = np.array([[[1, 0, 5, 3]], [[0, 2, 2, 8]]], dtype=np.float32)
    boxes = [Boxes(xyxy, np.array([0]), *np.zeros((2, 1), dtype=bool)) for xyxy in corners]
    batch = as_batch([Sample("", image, target) for image, target in zip(images, boxes, strict=True)])
    assert isinstance(batch.targets, BoxTargets)
    assert batch.images.shape == (2, 3, 8, 6)
    np.testing.assert_array_equal(batch.targets.boxes_xyxy, corners)
    named = as_batch([Sample("", image, Category(index)) for index, image in enumerate(images, start=4)])
    assert isinstance(named.targets, torch.Tensor)
    assert named.targets.tolist() == [4, 5]


def pixels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 200, shape, dtype=np.uint8)


def test_windows_around_rare_classes_show_them(configured: Any, tmp_path: Path) -> None:
    canvas = np.zeros((200, 300, 3), np.uint8)
    classes = np.zeros((200, 300), np.uint8)
    classes[150:153, 20:23] = 2
    Image.fromarray(canvas).save(tmp_path / "p.png")
    Image.fromarray(classes).save(tmp_path / "m.png")
    record = Record("p", tmp_path / "p.png", tmp_path / "m.png")
    labels = LabelMap.model_validate({"classes": [{"name": name, "value": i} for i, name in enumerate("abc")]})
    reader = SampleReader(labels, open_cache("none", None, [record]))
    shown = {}
    for share in (0.0, 0.5, 1.0):
        data = configured(data__augment={"rare_crops": share, "flip": 0.5}).data
        dataset = TrainingSet([record], reader, data, seed=0, class_pixels=np.array([59990, 0, 10]))
        targets = [dataset[EpochIndex(epoch, 0)].target for epoch in range(200)]
        shown[share] = np.mean([(target.classes == 2).any() for target in targets if isinstance(target, Mask)])
    assert shown[1.0] == 1
    # A window of 32 x 48 sees the nine pixels by chance in about one of 30 cases.
    assert shown[0.0] < 0.15
    assert 0.4 < shown[0.5] < 0.65


def test_rare_objects_of_other_pictures_are_pasted_with_their_labels(configured: Any, tmp_path: Path) -> None:
    records = []
    for name, value in (("empty", 0), ("donor", 2)):
        canvas, classes = np.full((32, 48, 3), 10, np.uint8), np.zeros((32, 48), np.uint8)
        if value:
            canvas[10:18, 20:28], classes[10:18, 20:28] = (250, 0, 0), value
        Image.fromarray(canvas).save(tmp_path / f"{name}.png")
        Image.fromarray(classes).save(tmp_path / f"{name}_mask.png")
        records.append(Record(name, tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png"))
    labels = LabelMap.model_validate({"classes": [{"name": name, "value": i} for i, name in enumerate("abc")]})
    reader = SampleReader(labels, open_cache("none", None, records))
    data = configured(data__augment={"paste": 0.8}).data
    dataset = TrainingSet(records, reader, data, seed=0, class_pixels=np.array([3008, 0, 64]))
    samples = [dataset[EpochIndex(epoch, 0)] for epoch in range(200)]
    pasted = 0
    for sample in samples:
        assert isinstance(sample.target, Mask)
        red = (sample.image == (250, 0, 0)).all(axis=2)
        np.testing.assert_array_equal(red, sample.target.classes == 2)
        pasted += bool(red.any())
    # 0.8, times one half: the donor is either of the two.
    assert 55 < pasted < 105


def test_rare_is_less_than_half_an_even_share() -> None:
    # Four classes: even is a quarter, half of that an eighth of 800 = 100.
    interest = interest_in_rare_classes(np.array([612, 100, 88, 0]))
    np.testing.assert_allclose(interest, [0, 0, (88 / 800) ** -0.5, 0])
    assert not interest_in_rare_classes(np.array([3, 3])).any()


def test_a_sample_is_a_pure_function_of_seed_epoch_and_index(configured: Any) -> None:
    varied = configured(data__augment=VARIED)
    records, reader = read_splits(varied).train, reader_of(varied)
    one, same, other = (TrainingSet(records, reader, varied.data, seed) for seed in (1, 1, 2))
    key = EpochIndex(3, 2)
    one[EpochIndex(0, 0)]  # what was read before does not matter
    np.testing.assert_array_equal(one[key].image, same[key].image)
    assert (one[key].image != other[key].image).any()
    assert (one[key].image != one[EpochIndex(4, 2)].image).any()


@pytest.mark.parametrize(
    ("cores", "on_gpu", "pictures", "expected"),
    [
        (1, False, 100, 0),
        (2, False, 100, 0),
        (6, False, 100, 1),
        (64, False, 100, 4),
        (1, True, 100, 1),
        (8, True, 100, 7),
        (64, True, 100, 16),
        (64, True, 3, 3),
        (64, False, 1, 1),
    ],
)
def test_automatic_workers_leave_cores_to_the_network_and_do_not_outnumber_the_pictures(
    monkeypatch: pytest.MonkeyPatch, cores: int, on_gpu: bool, pictures: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert worker_count("auto", on_gpu=on_gpu, pictures=pictures) == expected
    assert worker_count(7, on_gpu=on_gpu, pictures=pictures) == 7
