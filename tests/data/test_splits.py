from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest
import yaml

from pixbox.config import Experiment
from pixbox.data.splits import labels_of, read_split, read_splits
from pixbox.errors import ConfigError, DataError
from pixbox.labels import LabelMap


@pytest.fixture
def experiment(tmp_path):
    """``experiment(seed=1, train="train.txt", ...)``: an experiment on the data below ``tmp_path``."""

    def make(seed: int = 0, **data: Any) -> Experiment:
        data = {"root": str(tmp_path), **data}
        return Experiment.model_validate({"name": "x", "data": data, "training": {"seed": seed}, "origin": "the attic"})

    return make


@pytest.fixture
def folders(write_pictures, write_masks):
    """40 pictures and masks, and how to name them."""
    write_pictures(*(f"images/{number}.png" for number in range(40)))
    write_masks(*(f"masks/{number}.png" for number in range(40)))
    return {"format": "folders", "train": {"images": "images", "masks": "masks"}}


def ids(records) -> list[str]:
    return [record.id for record in records]


def test_named_splits_are_read(experiment, write_pictures, write_masks, write_text):
    write_pictures("a.jpg", "b.jpg", "c.jpg")
    write_masks("a.png", "b.png", "c.png")
    for name, line in {"train": "b.jpg;b.png", "val": "a.jpg;a.png", "test": "c.jpg;c.png"}.items():
        write_text(f"{name}.txt", line)
    splits = read_splits(experiment(train="train.txt", val="val.txt", test="test.txt"))
    assert (ids(splits.train), ids(splits.val), ids(splits.test)) == (["b"], ["a"], ["c"])
    alone = read_splits(experiment(train="train.txt"))
    assert (alone.val, alone.test) == ((), ())


def test_held_out_part_is_disjoint_complete_and_of_the_right_size(experiment, folders):
    splits = read_splits(experiment(**folders, val_fraction=0.25))
    assert (len(splits.train), len(splits.val)) == (30, 10)
    assert not set(ids(splits.train)) & set(ids(splits.val))
    assert sorted(ids(splits.train) + ids(splits.val)) == sorted(f"images/{number}" for number in range(40))
    natural = [f"images/{number}" for number in range(40)]
    assert ids(splits.train) == [id_ for id_ in natural if id_ in ids(splits.train)]


def test_held_out_part_follows_from_the_seed(experiment, folders):
    first = read_splits(experiment(**folders, val_fraction=0.25, seed=3))
    assert first == read_splits(experiment(**folders, val_fraction=0.25, seed=3))
    others = [read_splits(experiment(**folders, val_fraction=0.25, seed=seed)).val for seed in (4, 5, 6)]
    assert len({first.val, *others}) == 4


def test_held_out_part_does_not_depend_on_the_order_of_the_disk(experiment, folders, monkeypatch):
    straight = read_splits(experiment(**folders, val_fraction=0.25))
    walk, listdir = os.walk, os.listdir
    monkeypatch.setattr(os, "listdir", lambda *args: listdir(*args)[::-1])
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((p, d[::-1], sorted(f)[::-1]) for p, d, f in walk(*a, **k)))
    assert read_splits(experiment(**folders, val_fraction=0.25)) == straight


def test_held_out_part_does_not_depend_on_the_order_of_the_list(experiment, folders, write_text):
    lines = [f"images/{number}.png;masks/{number}.png" for number in range(40)]
    write_text("up.txt", *lines)
    write_text("down.txt", *lines[::-1])
    up, down = (read_splits(experiment(train=name, val_fraction=0.25)) for name in ("up.txt", "down.txt"))
    assert set(ids(up.val)) == set(ids(down.val))
    assert ids(up.val) == ids(down.val)[::-1]


@pytest.mark.parametrize(("fraction", "expected"), [(0.001, 1), (0.999, 39)])
def test_at_least_one_picture_is_on_each_side(experiment, folders, fraction, expected):
    assert len(read_splits(experiment(**folders, val_fraction=fraction)).val) == expected


def test_one_picture_cannot_be_split(experiment, write_pictures, write_masks, write_text):
    write_pictures("a.jpg")
    write_masks("a.png")
    write_text("train.txt", "a.jpg;a.png")
    with pytest.raises(DataError, match=r"data\.val_fraction: one picture cannot be split") as error:
        read_splits(experiment(train="train.txt", val_fraction=0.5))
    assert "Give more pictures" in str(error.value)
    assert len(read_splits(experiment(train="train.txt")).train) == 1


def test_held_out_pictures_are_those_whose_names_draw_least(experiment, folders):
    splits = read_splits(experiment(**folders, val_fraction=0.05))
    drawn = {hashlib.blake2b(f"0\0images/{number}".encode()).hexdigest(): f"images/{number}" for number in range(40)}
    assert set(ids(splits.val)) == {drawn[least] for least in sorted(drawn)[:2]}


def test_pictures_that_are_left_out_hardly_move_the_others(experiment, folders):
    before = set(ids(read_splits(experiment(**folders, val_fraction=0.25)).val))
    gone = sorted({f"images/{number}" for number in range(40)} - before)[:2]
    after = set(ids(read_splits(experiment(**folders, val_fraction=0.25, exclude=gone)).val))
    # A quarter of 38 is 10 (rounded), as of 40: the same pictures.
    assert after == before


def test_excluded_pictures_are_left_out_of_every_split(experiment, write_pictures, write_masks, write_text):
    names = ("day/1", "day/2", "night/1", "night/2", "[x]")
    write_pictures(*(f"{name}.jpg" for name in names))
    write_masks(*(f"{name}.png" for name in names))
    write_text("train.txt", *(f"{name}.jpg;{name}.png" for name in names))
    write_text("val.txt", "night/1.jpg;night/1.png", "day/1.jpg;day/1.png")
    splits = read_splits(experiment(train="train.txt", val="val.txt", exclude=["night/*"]))
    assert (ids(splits.train), ids(splits.val)) == (["day/1", "day/2", "[x]"], ["day/1"])
    splits = read_splits(experiment(train="train.txt", exclude=["day/?", "[[]x]", "night/2"]))
    assert ids(splits.train) == ["night/1"]


def test_patterns_that_match_nothing_are_faults_with_near_ids(experiment, folders):
    with pytest.raises(DataError) as error:
        read_splits(experiment(**folders, exclude=["images/1", "image/7", "images/7.png", "photos/*"]))
    text = str(error.value)
    assert 'data.exclude: "image/7" matches no picture id' in text
    assert 'Did you mean "images/7"?' in text
    assert '"images/7.png" matches no picture id (path below `data.root`, without suffix)' in text
    assert '"photos/*"' in text
    assert '"images/1"' not in text


def test_excluding_every_training_picture_is_an_error(experiment, folders):
    with pytest.raises(DataError, match="leaves no picture in the train split"):
        read_splits(experiment(**folders, exclude=["*"]))


def test_faults_of_all_splits_come_at_once(experiment, write_pictures, write_masks, write_text):
    write_pictures("a.jpg")
    write_masks("a.png")
    write_text("train.txt", "a.jpg;a.png", "b.jpg;a.png")
    with pytest.raises(DataError) as error:
        read_splits(experiment(train="train.txt", val="val.txt"))
    assert "train.txt:2: no such file" in str(error.value)
    assert 'no list "val.txt" here' in str(error.value)


def test_a_missing_root_is_said_once_with_its_origin(experiment):
    with pytest.raises(DataError) as error:
        read_splits(experiment(root="/nowhere/at/all", train="train.txt", val="val.txt", test="test.txt"))
    assert len(error.value.faults) == 1
    assert "These data come from: the attic" in str(error.value)


def test_one_split_is_what_all_splits_give_for_it(experiment, folders):
    for given in (
        experiment(**folders, val_fraction=0.25, exclude=["images/1?"], test=folders["train"]),
        experiment(**folders, val=folders["train"], test=folders["train"], exclude=["images/3"]),
    ):
        splits = read_splits(given)
        assert read_split(given, "train") == splits.train
        assert read_split(given, "val") == splits.val
        assert read_split(given, "test") == splits.test


def test_one_split_is_read_without_the_others(experiment, folders):
    given = experiment(**{**folders, "train": "gone"}, val=folders["train"], exclude=["other/*"])
    assert len(read_split(given, "val")) == 40
    with pytest.raises(ConfigError, match=r"`data\.test` is not set") as error:
        read_split(given, "test")
    assert "--set data.test=" in str(error.value)
    with pytest.raises(DataError, match="leaves no picture in the val split"):
        read_split(experiment(**folders, val=folders["train"], exclude=["*"]), "val")


def test_labels_of_the_configuration_come_before_the_format_s(experiment):
    own = LabelMap.model_validate({"classes": ["a", "b"]})
    assert labels_of(experiment(format="voc", labels=own)) == own
    assert len(labels_of(experiment(format="voc"))) == 21


def test_a_label_file_is_read(experiment, write_text, tmp_path):
    write_text("labels.yaml", "classes: [sky, road]")
    assert labels_of(experiment(labels=str(tmp_path / "labels.yaml"))).names == ("sky", "road")


def test_missing_labels_show_what_to_write(experiment):
    with pytest.raises(ConfigError, match=r"data\.labels: `format: list` has no label map of its own") as error:
        labels_of(experiment())
    example = yaml.safe_load(error.value.faults[0].hint)
    assert LabelMap.model_validate(example["labels"]).names == ("background", "road")


def test_boxes_that_name_no_class_ask_for_names_and_not_for_mask_values(experiment, write_pictures, write_text):
    write_pictures("a.png", "b.png")
    write_text("train.txt", "a.png\nb.png\n")
    asked = experiment(format="box-list", train="train.txt").model_copy(update={"task": "detection"})
    with pytest.raises(ConfigError, match=r"data\.labels: the data name no class\n  Write the names") as error:
        labels_of(asked)
    assert "mask" not in str(error.value)


# Classes of whole pictures.


def classes(write_pictures, **counts: int) -> dict[str, Any]:
    write_pictures(*(f"all/{name}/{number}.png" for name, count in counts.items() for number in range(count)))
    return {"format": "imagefolder", "train": "all"}


def held_out(experiment: Experiment) -> dict[str, int]:
    val = [record.annotation for record in read_splits(experiment).val]
    return {str(name): val.count(name) for name in val}


def classify(experiment: Experiment) -> Experiment:
    return experiment.model_copy(update={"task": "classification"})


def test_of_every_class_the_same_share_is_held_out(experiment, write_pictures):
    data = classes(write_pictures, cat=40, dog=20, rare=10)
    for seed in range(3):
        assert held_out(classify(experiment(**data, val_fraction=0.1, seed=seed))) == {"cat": 4, "dog": 2, "rare": 1}


def test_a_class_of_one_picture_keeps_it_for_training(experiment, write_pictures):
    data = classes(write_pictures, cat=9, dog=9, once=1)
    for seed in range(3):
        assert "once" not in held_out(classify(experiment(**data, val_fraction=0.3, seed=seed)))


def test_validation_of_classes_may_be_called_otherwise(experiment, write_pictures):
    write_pictures("train/cat/1.png", "train/dog/1.png", "validation/cat/2.png")
    splits = read_splits(classify(experiment(format="imagefolder", train="train", val="val")))
    assert (ids(splits.train), ids(splits.val)) == (["train/cat/1", "train/dog/1"], ["validation/cat/2"])


def test_a_list_of_classes_names_its_classes_itself(experiment, write_pictures, write_text):
    write_pictures("a.jpg", "b.jpg", "c.jpg")
    write_text("train.txt", "a.jpg;class 10", "b.jpg;class 9")
    write_text("val.txt", "c.jpg;class 9")
    given = classify(experiment(train="train.txt", val="val.txt"))
    assert labels_of(given).names == ("class 9", "class 10")
    assert [record.annotation for record in read_split(given, "val")] == ["class 9"]


@pytest.mark.parametrize("task", ["segmentation", "detection", "classification"])
def test_only_masks_are_refused_more_than_254_classes(experiment, tmp_path, task):
    many = {"classes": [f"c{number}" for number in range(300)]}
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(many))
    for labels in (many, str(tmp_path / "labels.yaml")):
        given = experiment(labels=labels).model_copy(update={"task": task})
        if task == "segmentation":
            with pytest.raises(ConfigError, match=r"data\.labels: 300 classes; in masks there can be 254"):
                labels_of(given)
        else:
            assert len(labels_of(given)) == 300


def test_classes_that_the_data_name_are_counted_as_well(experiment, tmp_path, write_pictures, write_text):
    write_pictures("images/a.png")
    write_text("data.yaml", yaml.safe_dump({"names": [f"c{number}" for number in range(300)]}))
    write_text("labels/a.txt", "299 0.5 0.5 0.2 0.2")
    given = experiment(format="yolo", train=".")
    with pytest.raises(ConfigError, match="301 classes"):
        labels_of(given)
    assert len(labels_of(given.model_copy(update={"task": "detection"}))) == 300
