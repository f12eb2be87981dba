from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch.multiprocessing
from PIL import Image

from pixbox.data import cache as cache_module
from pixbox.data.cache import Cache, CacheKey, Decoded, cache_key, free_shared_memory, open_cache, user_cache_folder
from pixbox.data.dataset import SampleReader
from pixbox.data.images import PixelReading, read_image, read_mask
from pixbox.errors import DataError
from pixbox.labels import LabelMap
from pixbox.sample import Mask, Record, Sample

LABELS = LabelMap.model_validate({"classes": ["a", "b", "c"]})
KINDS = ("none", "ram", "disk")


def read_record(record: Record, labels: LabelMap = LABELS) -> Decoded:
    mask = record.annotation
    return read_image(record.image), labels.encode(read_mask(mask)) if isinstance(mask, Path) else None


class Counted:
    """What reads a record, and how often it did."""

    def __init__(self, record: Record, labels: LabelMap = LABELS) -> None:
        self.record, self.labels, self.calls = record, labels, 0

    def __call__(self) -> Decoded:
        self.calls += 1
        return read_record(self.record, self.labels)


def key_of(record: Record, labels: LabelMap = LABELS) -> CacheKey:
    return cache_key(record, labels)


def assert_equal(found: Decoded, expected: Decoded) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None)
    if found[1] is not None:
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Five pictures of different sizes; the last has no mask."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(5):
        height, width = 5 + index, 9 - index
        image, mask = tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(image)
        Image.fromarray(rng.integers(0, 3, (height, width), dtype=np.uint8)).save(mask)
        found.append(Record(str(index), image, mask if index < 4 else None))
    return found


@pytest.fixture
def open_kind(tmp_path: Path, records: list[Record]) -> Callable[[str], Cache]:
    return lambda kind: open_cache(kind, tmp_path / "kept", records)  # type: ignore[arg-type]


def change(path: Path, pixels: np.ndarray) -> None:
    """Replace a picture; its time of change moves even where the clock of the file system is coarse."""
    before = path.stat().st_mtime_ns
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(before + 1000, before + 1000))


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_out_is_what_was_read_and_read_only(
    kind: str, open_kind: Callable[[str], Cache], records: list[Record]
) -> None:
    cache = open_kind(kind)
    for _ in range(2):
        for record in records:
            image, mask = cache.get(key_of(record), Counted(record))
            assert_equal((image, mask), read_record(record))
            assert (image.dtype, image.flags.writeable) == (np.uint8, False)
            assert mask is None or (mask.dtype, mask.flags.writeable) == (np.uint8, False)


@pytest.mark.parametrize(("kind", "calls"), [("none", 3), ("ram", 1), ("disk", 1)])
def test_a_picture_is_read_once_if_it_is_kept(
    kind: str, calls: int, open_kind: Callable[[str], Cache], records: list[Record]
) -> None:
    cache = open_kind(kind)
    read = Counted(records[1])
    for _ in range(3):
        cache.get(key_of(records[1]), read)
    assert read.calls == calls


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_hw", [(6, 8), (3, 4)], ids=["same size", "other size"])
def test_changed_picture_is_never_served_from_before(
    kind: str, size_hw: tuple[int, int], open_kind: Callable[[str], Cache], records: list[Record]
) -> None:
    cache = open_kind(kind)
    record = records[1]
    kept = cache.get(key_of(record), Counted(record))
    before = kept[0].copy()
    assert record.annotation is not None
    change(record.image, np.full((*size_hw, 3), 77, np.uint8))
    change(Path(str(record.annotation)), np.full(size_hw, 2, np.uint8))
    for _ in range(2):
        image, mask = cache.get(key_of(record), Counted(record))
        assert image.shape == (*size_hw, 3)
        assert (image == 77).all()
        assert mask is not None
        assert (mask == 2).all()
    np.testing.assert_array_equal(kept[0], before)  # what was handed out stays as it was


@pytest.mark.parametrize("kind", KINDS)
def test_changed_mask_alone_is_noticed(kind: str, open_kind: Callable[[str], Cache], records: list[Record]) -> None:
    cache = open_kind(kind)
    cache.get(key_of(records[0]), Counted(records[0]))
    change(Path(str(records[0].annotation)), np.full((5, 9), 1, np.uint8))
    assert_equal(cache.get(key_of(records[0]), Counted(records[0])), read_record(records[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_changed_label_map_is_noticed(kind: str, open_kind: Callable[[str], Cache], records: list[Record]) -> None:
    cache = open_kind(kind)
    other = LabelMap.model_validate({"classes": [{"name": "b", "values": [0, 2]}, {"name": "a", "value": 1}]})
    for labels in (LABELS, other, LABELS):
        found = cache.get(key_of(records[2], labels), Counted(records[2], labels))
        assert_equal(found, read_record(records[2], labels))


def test_key_differs_with_each_of_its_parts(records: list[Record], tmp_path: Path) -> None:
    image, mask = records[0].image, records[0].annotation
    copy = tmp_path / "copy.png"
    copy.write_bytes(image.read_bytes())
    os.utime(copy, ns=(image.stat().st_atime_ns, image.stat().st_mtime_ns))
    renamed = LabelMap.model_validate({"classes": ["a", "b", "d"]})
    keys = {
        cache_key(Record("x", image, mask), LABELS).digest, cache_key(Record("x", image, None), LABELS).digest,
        cache_key(Record("x", copy, None), LABELS).digest, cache_key(Record("x", copy, mask), LABELS).digest,
        cache_key(Record("x", image, mask), renamed).digest,
        cache_key(Record("x", image, mask), LABELS, PixelReading(bands=(3, 2, 1))).digest,
    }  # fmt: skip
    assert len(keys) == 6
    assert cache_key(Record("x", image, mask), LABELS) == cache_key(Record("y", image, mask), LABELS.model_copy())
    with pytest.raises(DataError, match="no such file"):
        cache_key(Record("x", tmp_path / "gone.png", None), LABELS)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_reading_pass_through_and_nothing_is_kept(
    kind: str, open_kind: Callable[[str], Cache], records: list[Record]
) -> None:
    def fail() -> Decoded:
        raise DataError("broken", where="x")

    cache = open_kind(kind)
    with pytest.raises(DataError, match="x: broken"):
        cache.get(key_of(records[0]), fail)
    assert_equal(cache.get(key_of(records[0]), Counted(records[0])), read_record(records[0]))


# Several processes.


def assert_all_equal(samples: Sequence[Sample], expected: Sequence[Decoded]) -> None:
    for sample, decoded in zip(samples, expected, strict=True):
        mask = sample.target.classes if isinstance(sample.target, Mask) else None
        assert_equal((sample.image, mask), decoded)


@pytest.mark.parametrize(("kind", "method"), [("ram", "fork"), ("disk", "fork"), ("ram", "spawn")])
def test_processes_share_what_any_of_them_has_read(
    kind: str, method: str, open_kind: Callable[[str], Cache], records: list[Record]
) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    cache = open_kind(kind)
    expected = [read_record(record) for record in records]
    with torch.multiprocessing.get_context(method).Pool(1) as pool:
        assert_all_equal(pool.map(SampleReader(LABELS, cache).read, records[1:]), expected[1:])
        for record, calls in zip(records, (1, 0, 0, 0, 0), strict=True):
            read = Counted(record)
            cache.get(key_of(record), read)
            assert read.calls == calls
        # Same size, same time of change: whoever still reads the files stumbles.
        for record in records:
            status = record.image.stat()
            record.image.write_bytes(bytes(status.st_size))
            os.utime(record.image, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert_all_equal(pool.map(SampleReader(LABELS, cache).read, records), expected)


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_processes_that_fill_at_once_all_get_it_right(
    kind: str, open_kind: Callable[[str], Cache], records: list[Record]
) -> None:
    expected = [read_record(record) for record in records]
    cache = open_kind(kind)
    with torch.multiprocessing.get_context("fork").Pool(6) as pool:
        samples = pool.map(SampleReader(LABELS, cache).read, records * 8, chunksize=1)
    assert_all_equal(samples, expected * 8)
    read = Counted(records[0])
    assert_equal(cache.get(key_of(records[0]), read), expected[0])
    assert read.calls == 0


@pytest.mark.parametrize("kind", KINDS)
def test_caches_can_be_pickled(kind: str, open_kind: Callable[[str], Cache], records: list[Record]) -> None:
    cache = pickle.loads(pickle.dumps(open_kind(kind)))
    assert_equal(cache.get(key_of(records[0]), Counted(records[0])), read_record(records[0]))


# Memory.


def test_ram_refuses_what_does_not_fit_and_says_so(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "free_shared_memory", lambda: 700)
    # 5 pictures of 45, 48, 49, 48 and 45 pixels: 3 bytes each, 4 with a mask (the first four).
    with pytest.raises(DataError) as caught:
        open_cache("ram", None, records)
    assert "cache: disk" in caught.value.faults[0].hint
    monkeypatch.setattr(cache_module, "free_shared_memory", lambda: 10**6)
    open_cache("ram", None, records)


def test_ram_names_both_figures_in_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "free_shared_memory", lambda: 1_500_000_000)
    monkeypatch.setattr(cache_module, "image_size_hw", lambda _: (20_000, 30_000))
    record = Record("x", tmp_path / "x.png", tmp_path / "x_mask.png")
    with pytest.raises(DataError, match=r"need 2\.4 GB of shared memory; 1\.5 GB are free"):
        open_cache("ram", None, [record])


def test_free_memory_is_a_plausible_number() -> None:
    free = free_shared_memory()
    assert free is None or 0 < free < 2**50


def test_ram_reads_pictures_it_was_not_told_of(records: list[Record]) -> None:
    cache = open_cache("ram", None, records[:1])
    read = Counted(records[3])
    for _ in range(2):
        assert_equal(cache.get(key_of(records[3]), read), read_record(records[3]))
    assert read.calls == 2


def test_ram_keeps_a_picture_listed_twice_once(records: list[Record]) -> None:
    cache = open_cache("ram", None, [*records, *records])
    for record in records * 2:
        assert_equal(cache.get(key_of(record), Counted(record)), read_record(record))


# Disk.


def kept_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_disk_serves_a_later_run(records: list[Record], tmp_path: Path) -> None:
    for calls in (1, 0):
        read = Counted(records[0])
        open_cache("disk", tmp_path / "kept").get(key_of(records[0]), read)
        assert read.calls == calls
    assert len(kept_files(tmp_path / "kept")) == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "other pixels", "zeros", "header", "size"])
def test_damaged_file_is_noticed_and_rebuilt(damage: str, records: list[Record], tmp_path: Path) -> None:
    open_cache("disk", tmp_path / "kept").get(key_of(records[0]), Counted(records[0]))
    (file,) = kept_files(tmp_path / "kept")
    content = bytearray(file.read_bytes())
    damaged = {
        "empty": b"",
        "cut": content[:-1],
        "longer": content + b"x",
        "other pixels": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        "zeros": bytes(len(content)),
        "header": content[:10],
        "size": content[:8] + content[12:16] + content[8:12] + content[16:],
    }[damage]
    assert bytes(damaged) != bytes(content)
    file.write_bytes(damaged)
    cache = open_cache("disk", tmp_path / "kept")
    read = Counted(records[0])
    for _ in range(2):
        assert_equal(cache.get(key_of(records[0]), read), read_record(records[0]))
    assert read.calls == 1
    assert file.read_bytes() == content


def test_writer_that_is_stopped_leaves_no_file_under_a_name(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_cache("disk", tmp_path / "kept")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        cache.get(key_of(records[0]), Counted(records[0]))
    monkeypatch.undo()
    (remains,) = kept_files(tmp_path / "kept")
    assert remains.parent.name == "unfinished"
    read = Counted(records[0])
    cache.get(key_of(records[0]), read)
    assert read.calls == 1
    open_cache("disk", tmp_path / "kept")
    assert remains.exists()  # it may still be written
    os.utime(remains, (time.time() - 2 * 24 * 3600,) * 2)
    open_cache("disk", tmp_path / "kept")
    assert not remains.exists()


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "no space is left"), (errno.EACCES, "cannot be written here")]
)
def test_disk_that_cannot_be_written_is_a_clear_error(
    number: int, message: str, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_cache("disk", tmp_path / "kept")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match=message) as caught:
        cache.get(key_of(records[0]), Counted(records[0]))
    assert caught.value.faults[0].where == str(tmp_path / "kept")
    assert "`data.cache_dir`" in caught.value.faults[0].hint
    assert kept_files(tmp_path / "kept") == []


def test_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    with pytest.raises(DataError, match="cannot be written here"):
        open_cache("disk", tmp_path / "kept")


def test_cache_folder_may_vanish_while_it_is_open(records: list[Record], tmp_path: Path) -> None:
    cache = open_cache("disk", tmp_path / "kept")
    cache.get(key_of(records[0]), Counted(records[0]))
    for path in sorted((tmp_path / "kept").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert_equal(cache.get(key_of(records[0]), Counted(records[0])), read_record(records[0]))


@pytest.mark.skipif(os.name == "nt", reason="Windows has LOCALAPPDATA")
def test_default_folder_follows_the_xdg_convention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_folder("pictures") == tmp_path / "pixbox" / "pictures"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache_folder("pictures") == tmp_path / ".cache" / "pixbox" / "pictures"
