from __future__ import annotations

from pathlib import Path

import pytest

from pixbox.config import FolderPair
from pixbox.data.formats import folders
from pixbox.errors import DataError
from tiny import strictly

read_records = strictly(folders.read_records)


def ids(root: Path, source: str | FolderPair) -> list[str]:
    return [record.id for record in read_records(root, source)]


def message(root: Path, source: str | FolderPair) -> str:
    with pytest.raises(DataError) as error:
        read_records(root, source)
    return str(error.value)


PAIR = FolderPair(images="images", masks="masks")


def test_pictures_and_masks_are_matched_by_name_in_natural_order(tmp_path, write_pictures, write_masks):
    write_pictures("images/f10.jpg", "images/f9.PNG", "images/f1.tif", "images/g.bmp", "images/h.webp", "images/i.jpeg")
    write_masks("masks/f1.png", "masks/f9.TIF", "masks/f10.mat", "masks/g.gif", "masks/h.bmp", "masks/i.tiff")
    records = read_records(tmp_path, PAIR)
    assert [record.id for record in records] == [f"images/{name}" for name in ("f1", "f9", "f10", "g", "h", "i")]
    assert records[1].image == tmp_path / "images" / "f9.PNG"
    assert [Path(str(record.annotation)).name for record in records[:3]] == ["f1.png", "f9.TIF", "f10.mat"]


def test_other_files_and_masks_without_a_picture_are_left_aside(tmp_path, write_pictures, write_masks, write_text):
    write_pictures("images/a.jpg", "images/.hidden.jpg", "images/__MACOSX/a.jpg", "images/.thumbnails/b.jpg")
    write_text("images/notes.txt", "x")
    write_masks("masks/a.png", "masks/b.png")
    assert ids(tmp_path, PAIR) == ["images/a"]


def test_mask_suffix_is_part_of_the_match(tmp_path, write_pictures, write_masks):
    write_pictures("images/a.jpg", "images/b.jpg")
    write_masks("masks/a_seg.png", "masks/b_seg.png", "masks/a_other.png")
    records = read_records(tmp_path, FolderPair(images="images", masks="masks", mask_suffix="_seg"))
    assert [Path(str(record.annotation)).name for record in records] == ["a_seg.png", "b_seg.png"]


def test_folders_within_are_searched_and_belong_to_the_name(tmp_path, write_pictures, write_masks):
    write_pictures("images/north/1.jpg", "images/south/1.jpg", "images/1.jpg")
    write_masks("masks/north/1.png", "masks/south/1.png", "masks/1.png")
    records = read_records(tmp_path, PAIR)
    assert [record.id for record in records] == ["images/1", "images/north/1", "images/south/1"]
    assert records[2].annotation == tmp_path / "masks" / "south" / "1.png"


def test_a_link_to_a_folder_above_is_followed_once(tmp_path, write_pictures, write_masks):
    write_pictures("images/a.jpg")
    write_masks("masks/a.png")
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images", target_is_directory=True)
    assert ids(tmp_path, PAIR) == ["images/a"]


def test_pictures_and_masks_may_share_a_folder(tmp_path, write_pictures, write_masks):
    write_pictures("all/a.png", "all/b.png")
    write_masks("all/a_mask.png", "all/b_mask.png")
    pair = FolderPair(images="all", masks="all", mask_suffix="_mask")
    records = read_records(tmp_path, pair)
    assert [(record.id, Path(str(record.annotation)).name) for record in records] == [
        ("all/a", "a_mask.png"),
        ("all/b", "b_mask.png"),
    ]
    text = message(tmp_path, FolderPair(images="all", masks="all"))
    assert "cannot be told apart" in text
    assert "mask_suffix" in text


def test_one_folder_may_lie_within_the_other(tmp_path, write_pictures, write_masks):
    write_pictures("a.png")
    write_masks("labels/a.png")
    assert ids(tmp_path, FolderPair(images=".", masks="labels")) == ["a"]


@pytest.mark.parametrize(("images", "masks"), [("train/images", "train/masks"), ("images/train", "masks/train")])
def test_a_name_stands_for_either_layout(tmp_path, write_pictures, write_masks, images, masks):
    write_pictures(f"{images}/a.jpg")
    write_masks(f"{masks}/a.png")
    assert ids(tmp_path, "train") == [f"{images}/a"]


def test_a_name_without_folders_says_all_that_was_looked_for(tmp_path, write_pictures):
    write_pictures("images/training/a.jpg")
    text = message(tmp_path, "train")
    assert "no folder train/images/ or images/train/" in text
    assert "no folder train/masks/ or masks/train/" in text
    assert f"{tmp_path} holds images/." in text


def test_two_layouts_at_once_are_a_fault(tmp_path, write_pictures, write_masks):
    write_pictures("train/images/a.jpg", "images/train/a.jpg")
    write_masks("train/masks/a.png")
    assert "it is not clear which to use" in message(tmp_path, "train")


def test_missing_folders_are_named_with_what_is_there(tmp_path, write_pictures):
    write_pictures("photos/a.jpg")
    text = message(tmp_path, PAIR)
    assert "no folder images/" in text
    assert "no folder masks/" in text
    assert f"{tmp_path} holds photos/." in text


def test_folders_out_of_the_root_are_refused(tmp_path):
    assert "outside the data root" in message(tmp_path, FolderPair(images="../images", masks="masks"))
    assert "outside the data root" in message(tmp_path, "../train")


def test_a_folder_without_pictures_says_what_it_holds(tmp_path, write_masks, write_text):
    write_text("images/a.txt", "x")
    write_masks("masks/a.png")
    text = message(tmp_path, PAIR)
    assert text.startswith(f"{tmp_path / 'images'}: there are no pictures (*.jpg *.jpeg")
    assert "It holds a.txt." in text


def test_a_picture_without_a_mask_is_a_fault_with_a_way_out(tmp_path, write_pictures, write_masks):
    write_pictures("images/a.jpg", "images/b.jpg", "images/c.jpg")
    write_masks("masks/a.png")
    text = message(tmp_path, PAIR)
    assert f"{tmp_path}/images/b.jpg: no mask for this picture: looked for {tmp_path}/masks/b with .png" in text
    assert f"{tmp_path}/images/c.jpg: " in text
    assert "There are masks for a." in text
    assert "a list of the pictures to use" in text


def test_masks_that_end_differently_suggest_the_mask_suffix(tmp_path, write_pictures, write_masks):
    write_pictures("images/a1.jpg")
    write_masks("masks/a10.png", "masks/a1_label.png")
    assert 'There is a1_label: `format: folders` can be told `mask_suffix: "_label"`.' in message(tmp_path, PAIR)


def test_a_wrong_mask_suffix_shows_what_the_folder_of_masks_holds(tmp_path, write_pictures, write_masks):
    write_pictures("images/a.jpg", "images/deep/b.jpg")
    write_masks("masks/x.png")
    text = message(tmp_path, FolderPair(images="images", masks="masks", mask_suffix="_m"))
    assert f"looked for {tmp_path}/masks/a_m with .png" in text
    assert f"{tmp_path}/masks holds x.png." in text
    assert f"There is no folder {tmp_path}/masks/deep." in text


def test_names_that_are_there_twice_are_a_fault(tmp_path, write_pictures, write_masks):
    write_pictures("images/a.jpg", "images/a.png", "images/b.jpg")
    write_masks("masks/a.png", "masks/b.png", "masks/b.mat")
    text = message(tmp_path, PAIR)
    assert f"{tmp_path}/images: a.jpg and a.png have one name" in text
    assert f"{tmp_path}/masks: b.mat and b.png have one name" in text


def test_ids_choose_pictures_and_order(tmp_path, write_pictures, write_masks, write_text):
    write_pictures("images/a.jpg", "images/b.jpg", "images/c.v2.jpg", "images/without_mask.jpg")
    write_masks("masks/a.png", "masks/b.png", "masks/c.v2.png")
    write_text("ids.txt", "# two", "c.v2", "", "a.jpg")
    assert ids(tmp_path, FolderPair(images="images", masks="masks", ids="ids.txt")) == ["images/c.v2", "images/a"]


def test_wrong_ids_are_named_with_their_lines(tmp_path, write_pictures, write_masks, write_text):
    write_pictures("images/a.jpg", "images/b.jpg")
    write_masks("masks/a.png")
    write_text("ids.txt", "a", "x", "a", "b")
    text = message(tmp_path, FolderPair(images="images", masks="masks", ids="ids.txt"))
    assert f'{tmp_path}/ids.txt:2: no picture is called "x"\n  There are a, b.' in text
    assert f'{tmp_path}/ids.txt:3: "a" is listed twice\n  First at {tmp_path}/ids.txt:1.' in text
    assert "b.jpg: no mask" in text
    assert "ids2.txt: no such file" in message(tmp_path, FolderPair(images="images", masks="masks", ids="ids2.txt"))
