from __future__ import annotations

import os
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from pixbox.data.mask_facts import MaskFacts, MaskFactStore, mask_facts
from pixbox.errors import DataError
from pixbox.labels import RawMask


def counted(facts: MaskFacts | DataError) -> dict[object, int]:
    """Value or (red, green, blue) -> pixels."""
    assert isinstance(facts, MaskFacts)
    values = facts.values.tolist()
    assert len({str(value) for value in values}) == len(values)
    return {
        tuple(value) if isinstance(value, list) else value: int(count)
        for value, count in zip(values, facts.counts, strict=True)
    }


def by_hand(pixels: NDArray[np.integer]) -> Counter[object]:
    """The same, pixel by pixel."""
    if pixels.ndim == 3:
        return Counter(tuple(pixel) for row in pixels.tolist() for pixel in row)
    return Counter(value for row in pixels.tolist() for value in row)


def read(folder: Path, *files: Path) -> list[MaskFacts | DataError]:
    return list(MaskFactStore(folder, workers=2).read(files))


def write(path: Path, pixels: NDArray[np.integer]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def repaint_unnoticed(path: Path, pixels: NDArray[np.integer]) -> None:
    """Another content of equal size and time of change: what a store that remembers does not see."""
    before = path.stat()
    Image.fromarray(pixels).save(path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("kind", ["uint8", "uint16", "color", "noise"])
def test_facts_equal_a_count_pixel_by_pixel(kind: str) -> None:
    rng = np.random.default_rng(3)
    regions = np.kron(rng.integers(0, 6, (5, 7)), np.ones((6, 4), int))
    pixels = {
        "uint8": (regions * 51).astype(np.uint8),
        "uint16": (regions * 13107).astype(np.uint16),
        "color": rng.integers(0, 256, (6, 3)).astype(np.uint8)[regions],
        "noise": rng.integers(0, 256, (30, 28, 3)).astype(np.uint8),
    }[kind]
    facts = mask_facts(RawMask(pixels))
    assert counted(facts) == by_hand(pixels)
    assert (facts.values.dtype, facts.counts.dtype) == (pixels.dtype, np.int64)
    assert facts.size_hw == (30, 28)
    assert counted(mask_facts(RawMask(pixels[::2, ::3]))) == by_hand(pixels[::2, ::3])


def test_facts_of_a_row_that_holds_each_value_once_are_its_mask() -> None:
    pixels = np.array([[9, 7, 7], [0, 9, 7]], np.uint8)
    mask = mask_facts(RawMask(pixels)).as_mask()
    assert mask.pixels.tolist() == [[0, 7, 9]]


def test_what_was_read_is_the_same_when_it_is_remembered(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    palette = Image.fromarray(rng.integers(0, 4, (8, 9)).astype(np.uint8))
    palette.putpalette([200, 10, 10, 0, 250, 0, 5, 5, 90, 1, 2, 3])
    palette.save(tmp_path / "palette.png")
    scipy.io.savemat(tmp_path / "matrix.mat", {"groundtruth": rng.integers(0, 59, (8, 9)).astype(np.uint8)})
    files = [
        write(tmp_path / "grey.png", rng.integers(0, 256, (8, 9)).astype(np.uint8)),
        write(tmp_path / "deep.png", rng.integers(0, 65536, (8, 9)).astype(np.uint16)),
        write(tmp_path / "color.png", rng.integers(0, 256, (8, 9, 3)).astype(np.uint8)),
        tmp_path / "palette.png",
        tmp_path / "matrix.mat",
    ]
    first, again = read(tmp_path / "store", *files), read(tmp_path / "store", *files)
    for one, other in zip(first, again, strict=True):
        assert isinstance(one, MaskFacts)
        assert isinstance(other, MaskFacts)
        assert one.size_hw == other.size_hw == (8, 9)
        assert one.values.dtype == other.values.dtype
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.counts, other.counts)
        assert (one.palette is None) == (other.palette is None)
        if one.palette is not None and other.palette is not None:
            np.testing.assert_array_equal(one.palette, other.palette)
    with Image.open(files[3]) as image:
        assert counted(again[3]) == by_hand(np.asarray(image))


def test_a_second_read_decodes_nothing_until_a_file_changes(tmp_path: Path) -> None:
    store = tmp_path / "store"
    file = write(tmp_path / "a.png", np.full((4, 4), 3, np.uint8))
    assert counted(*read(store, file)) == {3: 16}
    repaint_unnoticed(file, np.full((4, 4), 5, np.uint8))
    assert counted(*read(store, file)) == {3: 16}
    changed = file.stat().st_mtime_ns + 1_000_000
    os.utime(file, ns=(changed, changed))
    assert counted(*read(store, file)) == {5: 16}
    write(file, np.zeros((4, 400), np.uint8))
    assert counted(*read(store, file)) == {0: 1600}


def test_facts_come_in_the_order_of_the_files_and_each_failure_in_its_place(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{number:04d}.png", np.full((2, 3), number % 251, np.uint8)) for number in range(600)]
    files[7].write_bytes(b"no picture")
    files[300].unlink()
    for _ in range(2):
        found = read(tmp_path / "store", *files, files[1])
        for number, facts in enumerate(found):
            if number in (7, 300):
                assert isinstance(facts, DataError)
                assert facts.faults[0].where == str(files[number])
            else:
                assert counted(facts) == {(1 if number == 600 else number) % 251: 6}
    write(files[300], np.full((2, 3), 9, np.uint8))
    assert counted(*read(tmp_path / "store", files[300])) == {9: 6}


def test_what_was_read_before_an_interruption_is_remembered(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{number}.png", np.full((2, 2), number, np.uint8)) for number in range(9)]
    reading = MaskFactStore(tmp_path / "store", workers=1).read(files)
    for _ in range(3):
        next(reading)
    reading.close()  # type: ignore[attr-defined]
    repaint_unnoticed(files[1], np.full((2, 2), 77, np.uint8))
    assert counted(*read(tmp_path / "store", files[1])) == {1: 4}


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    try:
        file = write(tmp_path / os.fsdecode(b"caf\xe9.png"), np.full((4, 4), 3, np.uint8))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert counted(*read(tmp_path / "store", file)) == {3: 16}
    repaint_unnoticed(file, np.full((4, 4), 5, np.uint8))
    assert counted(*read(tmp_path / "store", file)) == {3: 16}


def test_a_relative_name_means_the_file_that_it_names_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, name in enumerate(("one", "two"), start=1):
        (tmp_path / name).mkdir()
        file = write(tmp_path / name / "a.png", np.full((4, 4), value, np.uint8))
        os.utime(file, ns=(10**18, 10**18))
        monkeypatch.chdir(tmp_path / name)
        assert counted(*read(tmp_path / "store", Path("a.png"))) == {value: 16}


@pytest.mark.parametrize("damage", ["garbage", "other table", "wrong rows", "folder"])
def test_a_broken_database_only_means_no_memory(tmp_path: Path, damage: str) -> None:
    file = write(tmp_path / "a.png", np.full((4, 4), 3, np.uint8))
    database = tmp_path / "store" / "masks.sqlite"
    database.parent.mkdir()
    if damage == "garbage":
        database.write_bytes(b"not a database at all" * 100)
    elif damage == "folder":
        database.mkdir()
    elif damage == "other table":
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE masks (name TEXT)")
    else:
        read(tmp_path / "store", file)
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE masks SET vals = NULL, counts = 'abc', kind = 'color'")
    for _ in range(2):
        assert counted(*read(tmp_path / "store", file)) == {3: 16}


def test_a_folder_that_cannot_be_written_only_means_no_memory(tmp_path: Path) -> None:
    file = write(tmp_path / "a.png", np.full((4, 4), 3, np.uint8))
    (tmp_path / "file").write_text("in the way of a folder")
    for _ in range(2):
        assert counted(*read(tmp_path / "file" / "store", file)) == {3: 16}
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    assert counted(*read(locked, file)) == {3: 16}
    locked.chmod(0o700)


def test_a_database_that_another_process_holds_only_means_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.png", np.full((4, 4), 3, np.uint8))
    read(tmp_path / "store", file)
    connect = sqlite3.connect
    holder = connect(tmp_path / "store" / "masks.sqlite")
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout=0.01))
    assert counted(*read(tmp_path / "store", file)) == {3: 16}
    holder.close()
