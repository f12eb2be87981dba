from __future__ import annotations

import pytest

from pixbox.config import DataConfig, FolderPair, Format
from pixbox.data.formats import default_labels, find_root, read_records
from pixbox.errors import ConfigError, DataError


def test_every_format_is_read_through_one_door(tmp_path, write_pictures, write_masks, write_text):
    write_pictures("l/a.jpg", "train/images/a.jpg", "JPEGImages/a.jpg", "leftImg8bit/train/x/a_leftImg8bit.png")
    write_pictures("images/training/a.jpg", "images/val2017/a.jpg", "photos/a.jpg")
    write_masks("l/a.png", "train/masks/a.png", "SegmentationClass/a.png", "gtFine/train/x/a_gtFine_labelIds.png")
    write_masks("annotations/training/a.png", "stuffthingmaps/val2017/a.png", "annotations/pixel-level/a.mat")
    write_text("list.txt", "l/a.jpg;l/a.png")
    write_text("ImageSets/Segmentation/train.txt", "a")
    expected: dict[Format, tuple[str, str]] = {
        "list": ("list.txt", "l/a"),
        "folders": ("train", "train/images/a"),
        "voc": ("train", "JPEGImages/a"),
        "cityscapes": ("train", "leftImg8bit/train/x/a_leftImg8bit"),
        "ade20k": ("train", "images/training/a"),
        "coco-stuff": ("val", "images/val2017/a"),
        "ccp": ("all", "photos/a"),
    }
    for name, (source, id_) in expected.items():
        data = DataConfig(format=name, root=str(tmp_path))
        (record,) = read_records(data, source)
        assert record.id == id_
        assert record.image.is_absolute()
        assert record.image.is_file()


def test_folders_can_be_named_only_where_the_format_has_none(tmp_path, write_pictures, write_masks):
    write_pictures("p/a.jpg")
    write_masks("m/a.png")
    pair = FolderPair(images="p", masks="m")
    assert read_records(DataConfig(format="folders", root=str(tmp_path)), pair)[0].id == "p/a"
    with pytest.raises(ConfigError, match="`format: voc` takes the name of a split or list"):
        read_records(DataConfig(format="voc", root=str(tmp_path)), pair)


def test_standard_sets_have_labels_and_free_ones_do_not(tmp_path):
    counts = {"voc": 21, "cityscapes": 19, "ade20k": 150, "coco-stuff": 171, "list": None, "folders": None}
    for name, count in counts.items():
        labels = default_labels(DataConfig.model_validate({"format": name, "root": str(tmp_path)}), "segmentation", [])
        assert (labels and len(labels)) == count


def test_a_missing_root_says_where_the_data_come_from_and_how_to_point_to_them(tmp_path):
    data = DataConfig(format="ccp", root=str(tmp_path / "nowhere"))
    for ask in (
        find_root,
        lambda data, origin: default_labels(data, "segmentation", [], origin),
        lambda data, origin: read_records(data, "all", origin),
    ):
        with pytest.raises(DataError) as error:
            ask(data, "github.com/bearpaw/clothing-co-parsing")
        text = str(error.value)
        assert text.startswith(f"{tmp_path / 'nowhere'}: no such folder")
        assert "These data come from: github.com/bearpaw/clothing-co-parsing" in text
        assert "--set data.root=FOLDER" in text


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"")
    with pytest.raises(DataError, match="this file is not a folder"):
        find_root(DataConfig(root=str(tmp_path / "data.zip")))


def test_a_relative_root_gives_absolute_paths(tmp_path, write_pictures, write_masks, write_text, monkeypatch):
    write_pictures("d/a.jpg")
    write_masks("d/a.png")
    write_text("d/train.txt", "a.jpg;a.png")
    monkeypatch.chdir(tmp_path)
    (record,) = read_records(DataConfig(root="./d"), "train.txt")
    assert record.image == tmp_path / "d" / "a.jpg"
