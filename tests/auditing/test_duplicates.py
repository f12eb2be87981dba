from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from pixbox.auditing import duplicates
from pixbox.auditing.duplicates import PictureKey, find_duplicates, find_shared_sequences
from pixbox.auditing.pictures import MIRRORED, inspect_picture
from pixbox.data.findings import Finding
from pixbox.data.images import read_image
from pixbox.data.splits import SplitName
from pixbox.errors import DataError
from pixbox.sample import Record

Add = Callable[..., PictureKey]
DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def add(tmp_path: Path) -> Add:
    """``add("train/a", image)``: the key of a picture, saved as PNG or, with ``quality``, as JPEG."""

    def add_picture(id: str, image: Image.Image, quality: int | None = None) -> PictureKey:
        path = tmp_path / f"{id}.{'png' if quality is None else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        image.save(path, quality=quality or 0)
        split: SplitName = "val" if id.startswith("val") else "test" if id.startswith("test") else "train"
        return key_of(Record(id, path, None), split)

    return add_picture


def key_of(record: Record, split: SplitName) -> PictureKey:
    facts = inspect_picture(record)
    assert facts.look is not None
    return PictureKey(facts.id, facts.file, split, facts.content, facts.look, facts.is_flat)


def scene(seed: int, *, detail: int = 12) -> Image.Image:
    """300 x 220: smooth colours with discs, boxes and noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (detail, detail, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((300, 220), Image.Resampling.BICUBIC)).copy()
    for _ in range(12):
        x, y, size = (int(value) for value in rng.integers((0, 0, 8), (300, 220, 40)))
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        cv2.circle(pixels, (x, y), size, color, -1)
        cv2.rectangle(pixels, (y, x), (y + size, x + size // 2), color[::-1], -1)
    return Image.fromarray(np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8))


def codes(findings: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in findings]


# The same bytes


def test_a_copy_within_a_split_is_named_with_its_original(add: Add) -> None:
    keys = [add("train/a", scene(1)), add("train/b", scene(2)), add("train/c", scene(1))]
    (finding,) = find_duplicates(keys, read_image)
    assert (finding.code, finding.id, finding.split) == ("duplicate-image", "train/c", "train")
    assert finding.file == str(keys[2].file)
    assert "same file as train/a (train)" in finding.message
    assert finding.details["same_as"] == ["train/a"]
    assert finding.hint == 'Keep one: `data.exclude: ["train/c"]`.'


@pytest.mark.parametrize(("one", "other"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_a_copy_in_another_split_is_a_leak(add: Add, one: str, other: str) -> None:
    keys = [add(f"{one}/a[1]", scene(1)), add(f"{other}/b", scene(1))]
    (finding,) = find_duplicates(keys, read_image)
    assert (finding.code, finding.id, finding.split) == ("leaked-image", f"{other}/b", other)
    assert finding.details["splits"] == [one, other]
    # Brackets are a pattern in `data.exclude`: as one of [[] they mean themselves.
    assert f'Keep them in {other} alone: `data.exclude: ["{one}/a[[]1]"]`.' in finding.hint
    assert ("will flatter" in finding.hint) == (one == "train")


def test_one_file_in_two_lists_is_a_leak_that_no_exclusion_mends(add: Add) -> None:
    key = add("train/a", scene(1))
    (finding,) = find_duplicates([key, replace(key, split="val")], read_image)
    assert finding.code == "leaked-image"
    assert "exclude" not in finding.hint
    assert "Take the picture out of all lists but one." in finding.hint


def test_a_group_of_copies_is_one_finding(add: Add) -> None:
    keys = [add(f"train/{number}", scene(1)) for number in range(7)]
    (finding,) = find_duplicates(keys, read_image)
    assert finding.details["same_as"] == [f"train/{number}" for number in range(6)]
    assert "train/0 (train), train/1 (train), train/2 (train) and 3 more" in finding.message
    assert finding.hint == 'Keep one: `data.exclude: ["train/1", "train/2", "train/3", ...]`.'


# Nearly the same


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved as JPEG": lambda image: as_jpeg(image, 75),
    "saved as a poor JPEG": lambda image: as_jpeg(image, 30),
    "halved": lambda image: image.resize((150, 110), Image.Resampling.BOX),
    "enlarged": lambda image: image.resize((450, 330), Image.Resampling.BICUBIC),
    "squeezed into a square": lambda image: image.resize((224, 224), Image.Resampling.LANCZOS),
    "brightened": lambda image: image.point(lambda value: min(255, value + 15)),
    "of more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.1),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "grey": lambda image: image.convert("L"),
    "halved, brightened and saved as JPEG": lambda image: as_jpeg(
        image.resize((150, 110)).point(lambda value: min(255, value + 10)), 60
    ),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_saved_in_another_way_is_nearly_the_same(add: Add, how: str) -> None:
    originals = [add(f"train/{seed}", scene(seed)) for seed in range(6)]
    copies = [add(f"train/{seed} {how}", COPIES[how](scene(seed))) for seed in range(6)]
    findings = find_duplicates(originals + copies, read_image)
    assert codes(findings) == ["near-duplicate-image"] * 6
    assert [finding.id for finding in findings] == [copy.id for copy in copies]
    assert [finding.details["same_as"] for finding in findings] == [[original.id] for original in originals]
    assert not any(finding.details["mirrored"] for finding in findings)


def test_a_mirrored_copy_is_nearly_the_same(add: Add) -> None:
    keys = [add("train/a", scene(1)), add("val/b", ImageOps.mirror(scene(1)), quality=85)]
    (finding,) = find_duplicates(keys, read_image)
    assert (finding.code, finding.details["mirrored"]) == ("near-leaked-image", True)
    assert "mirrored it looks like train/a (train)" in finding.message


def test_soft_pictures_may_be_shifted_a_little(add: Add) -> None:
    soft = scene(1).filter(ImageFilter.GaussianBlur(6))
    keys = [add("train/a", soft.crop((0, 0, 297, 219))), add("val/b", soft.crop((2, 1, 299, 220)))]
    assert codes(find_duplicates(keys, read_image)) == ["near-leaked-image"]


def test_the_difference_is_that_of_the_grey_levels(add: Add) -> None:
    blocks = np.random.default_rng(0).integers(20, 230, (32, 32), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    keys = [add("train/a", Image.fromarray(blocks)), add("train/b", Image.fromarray(blocks + np.uint8(6)))]
    (finding,) = find_duplicates(keys, read_image)
    assert finding.details["difference"] == 6.0
    assert "differ by 6.0 of 255 levels" in finding.message


def test_a_picture_that_is_nearly_in_another_split_leaks_with_all_its_copies(add: Add) -> None:
    keys = [add("train/a", scene(1)), add("train/b", scene(1), quality=80), add("val/c", scene(1))]
    leaked, near = find_duplicates(keys, read_image)
    assert (leaked.code, leaked.id, leaked.details["same_as"]) == ("leaked-image", "val/c", ["train/a"])
    assert (near.code, near.id, near.details["same_as"]) == ("near-leaked-image", "train/b", ["train/a", "val/c"])


def test_different_pictures_are_not_alike(add: Add) -> None:
    keys = [add(f"train/{seed}", scene(seed)) for seed in range(20)]
    assert find_duplicates(keys, read_image) == []


def test_an_object_that_comes_into_view_makes_another_picture(add: Add) -> None:
    street = scene(1)
    with_car = street.copy()
    with_car.paste(Image.new("RGB", (40, 24), (10, 10, 10)), (120, 150))
    assert find_duplicates([add("train/a", street), add("train/b", with_car)], read_image) == []


def test_flat_pictures_are_the_same_only_byte_for_byte(add: Add) -> None:
    keys = [add(f"train/{grey}", Image.new("L", (60, 60), grey)) for grey in (100, 101, 102)]
    assert find_duplicates(keys, read_image) == []
    assert codes(find_duplicates([*keys, add("train/copy", Image.new("L", (60, 60), 101))], read_image)) == [
        "duplicate-image"
    ]


def test_pictures_of_equal_looks_are_told_apart_by_reading_them(add: Add) -> None:
    keys = [replace(add(f"train/{seed}", scene(seed)), look=12345) for seed in range(5)]
    assert find_duplicates(keys, read_image) == []


def test_a_picture_that_is_gone_by_now_is_left_out(add: Add) -> None:
    keys = [add("train/a", scene(1)), add("train/b", scene(1), quality=80)]

    def read(file: Path) -> NDArray[np.uint8]:
        raise DataError("no such file", where=str(file))

    assert find_duplicates(keys, read) == []


def test_nothing_is_found_in_nothing() -> None:
    assert find_duplicates([], read_image) == []


# The search


def looks_with_copies(count: int, copies: int, most_bits: int) -> tuple[NDArray[np.uint64], set[tuple[int, int]]]:
    """Random looks, of which the last are the first with up to ``most_bits`` bits changed, and the pairs of these."""
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 2**64, count, dtype=np.uint64)
    for copy in range(copies):
        changed = rng.choice(64, rng.integers(0, most_bits + 1), replace=False)
        looks[count - copies + copy] = looks[copy] ^ np.uint64(sum(1 << int(bit) for bit in changed))
    return looks, {(copy, count - copies + copy) for copy in range(copies)}


@pytest.mark.parametrize("mirror", [0, MIRRORED])
def test_the_search_finds_the_very_pairs_that_comparing_all_finds(mirror: int) -> None:
    looks, _ = looks_with_copies(3000, 400, 9)
    looks[2900:] ^= np.uint64(mirror)
    candidates = duplicates._find_candidates(looks)
    found = list(zip(candidates.earlier, candidates.later, candidates.is_mirrored, strict=True))
    expected = set()
    for is_mirrored in (False, True):
        sought = looks ^ np.uint64(MIRRORED if is_mirrored else 0)
        for earlier in range(len(looks)):
            bits = np.unpackbits((looks[earlier + 1 :] ^ sought[earlier])[:, None].view(np.uint8), axis=1).sum(axis=1)
            expected |= {(earlier, earlier + 1 + int(later), is_mirrored) for later in np.flatnonzero(bits <= 7)}
    assert len(found) == len(expected)
    assert set(found) == expected
    assert not candidates.is_capped
    distances = [
        int(looks[one] ^ looks[other] ^ np.uint64(MIRRORED * int(is_mirrored))).bit_count()
        for one, other, is_mirrored in found
    ]
    assert distances == sorted(distances)


def test_the_search_does_not_compare_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 20_000
    looks, copies = looks_with_copies(count, 500, 7)
    compared = 0
    differing_bits = duplicates._differing_bits

    def counting(difference: NDArray[np.uint64]) -> NDArray[np.uint8]:
        nonlocal compared
        compared += len(difference)
        return differing_bits(difference)

    monkeypatch.setattr(duplicates, "_differing_bits", counting)
    candidates = duplicates._find_candidates(looks)
    assert set(zip(candidates.earlier.tolist(), candidates.later.tolist(), strict=True)) >= copies
    assert compared < count * (count - 1) // 2 / 50


def test_work_is_bounded_where_all_looks_are_equal_and_the_finding_says_so(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_MOST_READ", 3)
    candidates = duplicates._find_candidates(np.full(3000, 12345, dtype=np.uint64))
    assert candidates.is_capped
    assert len(np.unique([candidates.earlier, candidates.later])) == 3

    keys = [add("train/a", scene(1))] + [add(f"train/{quality}", scene(1), quality=quality) for quality in (90, 80, 70)]
    read: list[Path] = []

    def read_and_note(file: Path) -> NDArray[np.uint8]:
        read.append(file)
        return read_image(file)

    (finding,) = find_duplicates(keys, read_and_note)
    assert len(read) == len(set(read)) == 3
    assert len(finding.details["same_as"]) == 2
    assert finding.details["complete"] is False
    assert "there may be more" in finding.hint


# Real data


def keys_of(files: Sequence[Path], split: SplitName) -> list[PictureKey]:
    return [key_of(Record(f"{file.parent.name}/{file.stem}", file, None), split) for file in files]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the CamVid data")
def test_frames_of_a_video_are_different_pictures() -> None:
    files = sorted((DATA / "camvid" / "val").glob("*.png"))
    assert find_duplicates(keys_of(files, "val"), read_image) == []


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the BCCD data")
def test_of_blood_cells_only_the_field_that_was_photographed_twice_is_found() -> None:
    files = sorted((DATA / "bccd" / "JPEGImages").glob("*.jpg"))
    (finding,) = find_duplicates(keys_of(files, "train"), read_image)
    assert (finding.id, finding.details["same_as"]) == (
        "JPEGImages/BloodImage_00038",
        ["JPEGImages/BloodImage_00037"],
    )


# Sequences


def names(sequence: str, count: int, start: int = 0) -> list[str]:
    return [f"{sequence}_{number:05d}" for number in range(start, start + count)]


def test_camvid_shares_one_sequence() -> None:
    train = [f"train/{name}" for name in [*names("0001TP", 62), *names("0006R0", 101), *names("0016E5", 204)]]
    val = [f"val/{name}" for name in names("0016E5", 101, 5000)]
    (finding,) = find_shared_sequences({"train": train, "val": val, "test": []})
    assert (finding.code, finding.file, finding.split) == ("shared-sequence", "", "val")
    assert finding.message == "sequence 0016E5 gives all 101 val pictures and 204 of the 367 train pictures"
    assert finding.details == {"sequence": "0016E5", "train": 204, "val": 101}


def test_each_two_splits_are_a_finding() -> None:
    ids: dict[SplitName, list[str]] = {
        "train": [*names("seq1", 5), *names("seq2", 5)],
        "val": names("seq1", 2, 90),
        "test": [*names("seq1", 2, 95), "seq3-f00001.left"],
    }
    findings = find_shared_sequences(ids)
    assert [sorted(set(finding.details) - {"sequence"}) for finding in findings] == [
        ["train", "val"],
        ["test", "train"],
        ["test", "val"],
    ]


@pytest.mark.parametrize(
    "frame", ["{}_00007", "{}-7", "{} 0007", "{}.7", "{}_f00930", "{}_frame12", "deep/er/{}_00007"]
)
def test_frames_are_recognised_by_their_names(frame: str) -> None:
    train = [*names("s1", 3), "s2_1"]
    assert len(find_shared_sequences({"train": train, "val": [frame.format("s1")]})) == 1


@pytest.mark.parametrize(
    ("train", "val"),
    [
        (names("BloodImage", 200), names("BloodImage", 90, 200)),  # one name for all
        ([f"photos/{number:04d}" for number in range(50)], ["photos/0050"]),  # numbers alone
        (names("cat", 50) + names("dog", 50), names("cat", 9, 50)),  # kinds of things
        (names("2007", 50) + names("2008", 50), names("2007", 9, 50)),  # years
        (names("seq1", 50), names("seq2", 50)),  # nothing shared
        ([*names("seq1", 1), *names("seq2", 9)], names("seq1", 1, 1)),  # two frames
    ],
)
def test_what_is_no_shared_sequence_is_not_told(train: list[str], val: list[str]) -> None:
    assert find_shared_sequences({"train": train, "val": val}) == []
