from __future__ import annotations

import pytest

from pixbox.config import AnnotatedFolder
from pixbox.data.findings import Findings
from pixbox.data.formats import imagefolder
from pixbox.errors import ConfigError, DataError
from tiny import strictly

read_records = strictly(imagefolder.read_records)


def test_the_folder_of_a_picture_is_its_class(tmp_path, write_pictures):
    write_pictures("train/dog/10.jpg", "train/dog/9.jpg", "train/cat/old/1.PNG", "val/cat/2.jpg")
    records = read_records(tmp_path, "train")
    assert [(record.id, record.annotation) for record in records] == [
        ("train/cat/old/1", "cat"),
        ("train/dog/9", "dog"),
        ("train/dog/10", "dog"),
    ]
    assert records[0].image == tmp_path / "train/cat/old/1.PNG"


@pytest.mark.parametrize("folder", ["val", "valid", "validation"])
def test_val_may_be_called_otherwise(tmp_path, write_pictures, folder):
    write_pictures(f"{folder}/cat/1.jpg")
    assert [record.id for record in read_records(tmp_path, "val")] == [f"{folder}/cat/1"]


def test_a_point_is_the_root(tmp_path, write_pictures):
    write_pictures("cat/1.jpg", "dog/1.jpg")
    assert [record.annotation for record in read_records(tmp_path, ".")] == ["cat", "dog"]


def test_class_names_are_those_of_all_splits_that_hold_pictures(tmp_path, write_pictures):
    write_pictures("train/c10/1.jpg", "train/c9/1.jpg", "val/c11/1.jpg")
    (tmp_path / "train" / "empty").mkdir()
    assert imagefolder.class_names(tmp_path, ["train", "val"]) == ["c9", "c10", "c11"]


def test_pictures_without_a_class_and_of_one_name_are_found(tmp_path, write_pictures):
    write_pictures("train/lost.jpg", "train/cat/1.jpg", "train/cat/1.png", "train/cat/2.jpg")
    findings = Findings()
    records = imagefolder.read_records(tmp_path, "train", findings)
    assert [record.id for record in records] == ["train/cat/2"]
    assert [(finding.code, finding.file, finding.id) for finding in findings] == [
        ("missing-mask", f"{tmp_path}/train/lost.jpg", "train/lost"),
        ("duplicate-stem", f"{tmp_path}/train/cat", "train/cat/1"),
    ]


def test_nothing_to_read_says_what_is_there(tmp_path, write_pictures):
    write_pictures("train/1.jpg", "val/cat/1.jpg", "valid/cat/1.jpg")
    with pytest.raises(DataError, match=r"there are no pictures in class folders .*\n.*It holds 1\.jpg\."):
        read_records(tmp_path, "train")
    with pytest.raises(DataError, match=r"no folder test/\n.*holds train/, val/, valid/\."):
        read_records(tmp_path, "test")
    with pytest.raises(DataError, match="not clear which to use"):
        read_records(tmp_path, "val")
    with pytest.raises(DataError, match="outside the data root"):
        read_records(tmp_path, "../other")
    with pytest.raises(ConfigError, match="takes the name of a folder"):
        read_records(tmp_path, AnnotatedFolder(images="train", annotations="x"))
