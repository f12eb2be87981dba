from __future__ import annotations

from pathlib import Path

import pytest

from pixbox.data.formats import list_file
from pixbox.errors import DataError
from tiny import strictly

read_records = strictly(list_file.read_records)

CAMVID = Path(__file__).parents[3].parent / "shared" / "data" / "camvid"


@pytest.fixture
def root(tmp_path, write_pictures, write_masks):
    write_pictures("a/10.jpg", "a/9.jpg", "b/x y.png")
    write_masks("m/10.png", "m/9.png", "m/x y.png")
    return tmp_path


def faults(root: Path, source: str = "train.txt") -> tuple[list[str], str]:
    """What each fault says, and all of the message."""
    with pytest.raises(DataError) as error:
        read_records(root, source)
    return [fault.what for fault in error.value.faults], str(error.value)


def test_pairs_come_in_the_order_of_the_list(root, write_text):
    write_text("train.txt", "b/x y.png;m/x y.png", "a/10.jpg;m/10.png", "a/9.jpg;m/9.png")
    records = read_records(root, "train.txt")
    assert [record.id for record in records] == ["b/x y", "a/10", "a/9"]
    assert records[0].image == root / "b" / "x y.png"
    assert records[0].annotation == root / "m" / "x y.png"


@pytest.mark.parametrize("separator", [";", " ; ", ",", ", ", "\t", " ", "   "])
def test_every_separator_is_read(root, write_text, separator):
    write_text("train.txt", f"a/10.jpg{separator}m/10.png")
    assert [record.id for record in read_records(root, "train.txt")] == ["a/10"]


def test_what_editors_leave_behind_is_tolerated(root):
    text = "\ufeff# pictures\r\n\r\na\\10.jpg;m\\10.png\r\n  ./a/9.jpg ; m//9.png ;\r\n   \r\n"
    (root / "train.txt").write_bytes(text.encode("utf-8"))
    records = read_records(root, "train.txt")
    assert [record.id for record in records] == ["a/10", "a/9"]
    assert records[1].annotation == root / "m" / "9.png"


def test_the_suffix_of_the_list_may_be_left_out(root, write_text):
    write_text("train.txt", "a/10.jpg;m/10.png")
    assert len(read_records(root, "train")) == 1


def test_absolute_paths_within_the_root_are_read(root, write_text):
    write_text("train.txt", f"{root}/a/10.jpg;{root}/m/10.png")
    assert read_records(root, "train.txt")[0].id == "a/10"


def test_a_missing_list_says_what_was_looked_for_and_what_is_there(root, write_text):
    write_text("trian.txt", "a/10.jpg;m/10.png")
    whats, text = faults(root, "train")
    assert whats == ['no list "train" here: looked for train, train.txt']
    assert text.startswith(f"{root}: ")
    assert "holds a/, b/, m/, trian.txt." in text


@pytest.mark.parametrize("outside", ["../other/x.jpg", "a/../../x.jpg", "/etc/passwd", "..\\x.jpg"])
def test_paths_out_of_the_root_are_refused(root, write_text, outside):
    write_text("train.txt", f"{outside};m/10.png")
    whats, text = faults(root)
    assert whats == [f'"{outside}" lies outside the data root {root}']
    assert text.startswith(f"{root / 'train.txt'}:1: ")


def test_a_list_out_of_the_root_is_refused(root):
    assert "outside the data root" in faults(root, "../train.txt")[1]
    assert "outside the data root" in faults(root, "/etc/hosts")[1]


def test_lines_that_are_no_pair_are_refused_with_the_form_to_write(root, write_text):
    write_text("train.txt", "a/10.jpg", "# fine", "a/9.jpg m/9.png extra", "a/10.jpg;m/10.png")
    whats, text = faults(root)
    assert whats == ['a picture without a label in "a/10.jpg"', '3 entries in "a/9.jpg m/9.png extra"']
    assert f"{root / 'train.txt'}:1: " in text
    assert f"{root / 'train.txt'}:3: " in text
    assert "`image;label`" in text


def test_missing_files_are_named_with_line_and_what_is_there(root, write_text):
    write_text("train.txt", "a/10.jpg;m/10.png", "a/9.jpeg;m/11.png", "c/1.jpg;m/9.png")
    whats, text = faults(root)
    assert whats == [
        f"no such file: {root}/a/9.jpeg",
        f"no such file: {root}/m/11.png",
        f"no such file: {root}/c/1.jpg",
    ]
    assert f"{root / 'train.txt'}:2: " in text
    assert f"There is {root}/a/9.jpg." in text
    assert f"{root}/m holds 10.png, 9.png, x y.png." in text
    assert f"{root} holds a/, b/, m/, train.txt." in text


def test_a_picture_listed_twice_is_a_fault(root, write_text):
    write_text("train.txt", "a/10.jpg;m/10.png", "a/9.jpg;m/9.png", "./a/10.jpg;m/9.png")
    whats, text = faults(root)
    assert whats == ['"10.jpg" is listed twice']
    assert text.startswith(f"{root / 'train.txt'}:3: ")
    assert f"First at {root / 'train.txt'}:1." in text


def test_two_pictures_of_one_name_are_a_fault(root, write_text, write_pictures):
    write_pictures("a/10.png")
    write_text("train.txt", "a/10.jpg;m/10.png", "a/10.png;m/10.png")
    assert faults(root)[0] == ["10.jpg and 10.png have one name and cannot be told apart"]


def test_many_faults_are_counted_not_listed(root, write_text):
    write_text("train.txt", *(f"a/none{i}.jpg;m/9.png" for i in range(1234)))
    whats, text = faults(root)
    assert len(whats) == 11
    assert whats[-1] == "and 1,224 more like these"
    assert text.count("no such file") == 10


def test_lists_that_cannot_be_read_name_themselves(root):
    path = root / "train.txt"
    path.write_text("# nothing\n\n")
    assert faults(root)[1] == f"{path}: the list is empty"
    path.write_bytes("a/ä.jpg;m/9.png".encode("latin-1"))
    assert faults(root)[1].startswith(f"{path}: is not UTF-8 text (byte 2)")


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not here")
def test_camvid_lists_hold_367_and_101_pairs():
    train, val = read_records(CAMVID, "train.txt"), read_records(CAMVID, "val.txt")
    assert (len(train), len(val)) == (367, 101)
    assert train[0].id == "train/0001TP_006690"
    assert len({record.id for record in train + val}) == 468
    assert all(isinstance(record.annotation, Path) and record.annotation.is_file() for record in train + val)


# Classes of whole pictures.


def test_a_label_may_be_the_name_of_the_pictures_class(root, write_text):
    write_text("train.txt", "# two", "a/10.jpg;golden retriever", "a/9.jpg ; tench, Tinca tinca", "b/x y.png\tclass 10")
    records = strictly(list_file.read_categories)(root, "train.txt")
    assert [(record.id, record.annotation) for record in records] == [
        ("a/10", "golden retriever"), ("a/9", "tench, Tinca tinca"), ("b/x y", "class 10"),
    ]  # fmt: skip


def test_class_names_of_all_lists_come_in_natural_order(root, write_text):
    write_text("train.txt", "a/10.jpg 10", "a/9.jpg 9")
    write_text("val.txt", "b/x y.png;2", "nowhere.png;9")
    assert list_file.class_names(root, ["train", "val"]) == ["2", "9", "10"]


def test_what_is_wrong_with_a_list_of_classes_is_told_as_in_any_list(root, write_text):
    write_text("train.txt", "a/10.jpg", "a/11.jpg;cat", "a/9.jpg;cat", "a/9.jpg;dog", "../out.jpg;cat")
    with pytest.raises(DataError) as error:
        strictly(list_file.read_categories)(root, "train.txt")
    # Lines that cannot be read come before files that are not there.
    assert [fault.where.rpartition(":")[2] for fault in error.value.faults] == ["1", "5", "2", "4"]
    assert {fault.code for fault in error.value.faults} == {
        "bad-line", "outside-root", "missing-file", "duplicate-line",
    }  # fmt: skip
