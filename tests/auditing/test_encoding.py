"""Bare sets of masks of every encoding, generated: the classes that were drawn are the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixbox.auditing.class_tables import ClassTable, find_class_table
from pixbox.auditing.encoding import Encoding, infer_encoding
from pixbox.auditing.masks import check_mask
from pixbox.data.formats.voc import LABELS as VOC_LABELS
from pixbox.data.formats.voc import voc_color
from pixbox.data.images import read_mask
from pixbox.data.mask_facts import MaskFacts, mask_facts
from pixbox.errors import DataError
from pixbox.labels import IGNORE
from pixbox.sample import Record

DATA = Path(__file__).parents[2].parent / "shared" / "data"
Classes = NDArray[np.uint8]
GREY = np.array([0, 76, 150, 255], np.uint8)
BINARY = np.array([0, 255], np.uint8)
VOC = np.array([voc_color(index) for index in range(256)], np.uint8)
VOC_PALETTE = VOC.ravel().tolist()


def regions(seed: int, classes: int, size: int = 96, seeds: int | None = None) -> Classes:
    """(size, size) classes in regions with wavy borders; class 0 is everywhere on the left, too."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, size, (seeds or 2 * classes, 2))
    y, x = np.mgrid[:size, :size]
    wavy_y, wavy_x = y + size / 50 * np.sin(x * 22 / size), x + size / 50 * np.sin(y * 27 / size)
    nearest = ((wavy_y[..., None] - places[:, 0]) ** 2 + (wavy_x[..., None] - places[:, 1]) ** 2).argmin(axis=2)
    # Each class in turn, so that none is left out.
    mask = (np.arange(len(places)) % classes)[nearest].astype(np.uint8)
    mask[:, : size // 6] = 0
    return mask


def drawn(count: int, classes: int, size: int = 96) -> list[Classes]:
    return [regions(seed, classes, size) for seed in range(count)]


class Masks:
    """Mask files in a folder; called, it gives their records and facts, and counts the calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[Record] = []
        self.calls = 0

    def add(self, image: Image.Image | NDArray[np.integer], suffix: str = ".png", quality: int = 75) -> None:
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        file = self.folder / f"m{len(self.records):03d}{suffix}"
        picture.save(file, **({"quality": quality} if suffix == ".jpg" else {}))
        self.records.append(Record(file.stem, self.folder / f"{file.stem}_photo.png", file))

    def __call__(self) -> Iterator[tuple[Record, MaskFacts]]:
        self.calls += 1
        for record in self.records:
            assert isinstance(record.annotation, Path)
            yield record, mask_facts(read_mask(record.annotation))

    def infer(self, table: ClassTable | None = None) -> Encoding:
        return infer_encoding(self, table)

    def read(self, encoding: Encoding, number: int) -> Classes:
        file = self.records[number].annotation
        assert isinstance(file, Path)
        return encoding.labels.encode(read_mask(file))

    def check(self, encoding: Encoding) -> list[str]:
        """Codes of what is found in the masks under the label map."""
        checks = [check_mask(record, facts, encoding.labels, None) for record, facts in self()]
        return [finding.code for check in checks for finding in check.findings]


@pytest.fixture
def masks(tmp_path: Path) -> Masks:
    return Masks(tmp_path)


def table_of(folder: Path, name: str, text: str) -> ClassTable:
    (folder / name).write_text(text)
    table = find_class_table(folder)
    assert table is not None
    return table


def sources(encoding: Encoding) -> list[int | str]:
    """The value, or the colour as hex digits, of each class."""
    return [
        item.values[0] if item.values else "{:02x}{:02x}{:02x}".format(*item.colors[0])
        for item in encoding.labels.classes
    ]


def found(encoding: Encoding) -> list[tuple[str, str]]:
    """Code and picture of each finding."""
    return [(finding.code, finding.id) for finding in encoding.findings]


def is_clean(encoding: Encoding) -> bool:
    return not len(encoding.findings) and encoding.labels.unknown == "error" and encoding.labels.tolerance == 0


def share_right(masks: Masks, encoding: Encoding, truth: Sequence[Classes], table: NDArray[np.integer]) -> float:
    """Share of all pixels that come back as the class whose colour or value, in ``table``, is nearest to theirs."""
    shown = np.array([item.values[:1] or item.colors[0] for item in encoding.labels.classes], dtype=float)
    distances = np.linalg.norm(shown[:, None] - table.reshape(1, len(table), -1), axis=2)
    meant = np.full(256, IGNORE)
    meant[: len(shown)] = distances.argmin(axis=1)
    right = sum(int((meant[masks.read(encoding, number)] == classes).sum()) for number, classes in enumerate(truth))
    return right / sum(classes.size for classes in truth)


# Masks as they should be.


def test_indices_are_classes_by_value(masks: Masks) -> None:
    for classes in drawn(6, 5):
        masks.add(classes)
    encoding = masks.infer()
    assert is_clean(encoding)
    assert sources(encoding) == [0, 1, 2, 3, 4]
    assert encoding.labels.names == ("background", "class_1", "class_2", "class_3", "class_4")
    kind, names = encoding.guesses
    assert (kind.about, kind.value) == ("masks", "class indices 0-4")
    assert "6 of 6 masks are grey files, with values 0-4" in kind.reason
    assert kind.confidence > 0.8 > names.confidence
    assert masks.calls == 2


def test_value_0_is_a_class_like_others_where_it_does_not_dominate(masks: Masks) -> None:
    for classes in drawn(6, 3):
        masks.add(np.where(classes == 0, 2, classes - 1).astype(np.uint8))
    assert masks.infer().labels.names == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 38)])
def test_two_values_are_background_and_foreground(masks: Masks, values: tuple[int, int]) -> None:
    for classes in drawn(5, 2):
        masks.add(np.array(values, np.uint8)[1 - classes])
    encoding = masks.infer()
    assert is_clean(encoding)
    assert encoding.labels.names == ("background", "foreground")
    assert sources(encoding) == list(values)
    assert encoding.guesses[0].confidence > 0.8


def test_masks_of_0_and_1_among_masks_of_0_and_255_mean_the_same(masks: Masks) -> None:
    for number, classes in enumerate(drawn(6, 2)):
        masks.add(classes * np.uint8(255 if number % 2 else 1))
    encoding = masks.infer()
    assert encoding.labels.classes[1].values == (1, 255)
    assert any("1" in decision and "255" in decision for decision in encoding.decisions)
    for number, classes in enumerate(drawn(6, 2)):
        assert (masks.read(encoding, number) == classes).all()


def test_sparse_grey_values_are_classes(masks: Masks) -> None:
    for classes in drawn(5, 4):
        masks.add(GREY[classes])
    encoding = masks.infer()
    assert is_clean(encoding)
    assert sources(encoding) == [0, 76, 150, 255]
    assert encoding.guesses[0].value == "4 grey values"


def test_grey_values_in_rgb_files_are_values(masks: Masks) -> None:
    for classes in drawn(5, 4):
        masks.add(np.repeat(GREY[classes][:, :, None], 3, axis=2))
    encoding = masks.infer()
    assert sources(encoding) == [0, 76, 150, 255]
    assert masks.check(encoding) == []


def test_indices_of_16_bits_are_values(masks: Masks) -> None:
    for classes in drawn(5, 4):
        masks.add(classes.astype(np.uint16) * 1000)
    encoding = masks.infer()
    assert sources(encoding) == [0, 1000, 2000, 3000]
    assert (masks.read(encoding, 2) == drawn(5, 4)[2]).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_classes_with_colour_words(masks: Masks, mode: str) -> None:
    colors = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 250), (60, 180, 75)], np.uint8)
    for classes in drawn(5, 4):
        masks.add(Image.fromarray(colors[classes]).convert(mode))
    encoding = masks.infer()
    assert is_clean(encoding)
    assert encoding.labels.names[0] == "background"
    assert set(encoding.labels.names[1:]) == {"red_ff0000", "blue_0000fa", "green_3cb44b"}
    assert share_right(masks, encoding, drawn(5, 4), colors) == 1


def test_black_and_white_masks_saved_as_grey_among_colours_are_colours(masks: Masks) -> None:
    colors = np.array([(0, 0, 0), (255, 255, 255), (255, 0, 0)], np.uint8)
    for number in range(6):
        classes = regions(number, 3 if number else 2)
        masks.add(colors[classes] if number else BINARY[classes])
    encoding = masks.infer()
    assert is_clean(encoding)
    assert masks.check(encoding) == []
    assert (encoding.labels.colorize(masks.read(encoding, 0)) == colors[regions(0, 2)]).all()


def test_thin_lines_and_rare_small_objects_are_labels_too(masks: Masks) -> None:
    for number, classes in enumerate(drawn(8, 4)):
        mask = GREY[classes]
        cv2.line(mask, (20, 5 + number), (90, 60), 100, 1)
        cv2.line(mask, (20, 90), (90, 70 - number), 200, 1)
        mask[40:44, 80:83] = 30
        masks.add(mask)
    encoding = masks.infer()
    assert is_clean(encoding)
    assert sources(encoding) == [0, 30, 76, 100, 150, 200, 255]


# Palettes.


def paletted(indices: Classes, palette: Sequence[int]) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette(list(palette))
    return image


def test_pascal_voc_s_palette_gives_its_names_and_ignores_borders(masks: Masks) -> None:
    for classes in drawn(6, 5):
        edges = cv2.morphologyEx(classes, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        masks.add(paletted(np.where(edges, 255, classes).astype(np.uint8), VOC_PALETTE))
    encoding = masks.infer()
    assert is_clean(encoding)
    assert encoding.labels.names == VOC_LABELS.names
    assert encoding.labels.ignore == (255,)
    assert any("rename" in decision for decision in encoding.decisions)
    assert encoding.guesses[1].confidence <= 0.5


def test_255_above_indices_is_void_and_255_among_grey_values_is_a_class(masks: Masks, tmp_path: Path) -> None:
    for classes in drawn(6, 4):
        mask = classes.copy()
        mask[:3] = 255
        masks.add(mask)
    encoding = masks.infer()
    assert (sources(encoding), encoding.labels.ignore) == ([0, 1, 2, 3], (255,))
    assert any("255" in decision and "void" in decision for decision in encoding.decisions)


def test_voc_s_border_colour_is_ignored(masks: Masks) -> None:
    for classes in drawn(6, 4):
        mask = classes.copy()
        mask[10:13] = 255
        masks.add(VOC[mask])
    encoding = masks.infer()
    assert encoding.labels.ignore == ((224, 224, 192),)
    assert set(sources(encoding)) == {"000000", "800000", "008000", "808000"}


def test_palettes_of_another_order_in_each_file_are_read_by_colour(masks: Masks) -> None:
    for number, classes in enumerate(drawn(6, 4)):
        order = np.random.default_rng(number).permutation(4)
        palette = np.zeros((4, 3), np.uint8)
        palette[order] = VOC[:4]
        masks.add(paletted(order[classes].astype(np.uint8), palette.ravel().tolist()))
    encoding = masks.infer()
    assert is_clean(encoding)
    assert all(item.colors and not item.values for item in encoding.labels.classes)
    assert "order changes" in encoding.guesses[0].value
    assert share_right(masks, encoding, drawn(6, 4), VOC[:4]) == 1


def test_palettes_that_only_show_other_colours_are_read_by_index(masks: Masks) -> None:
    rng = np.random.default_rng(0)
    for classes in drawn(6, 4):
        masks.add(paletted(classes, rng.integers(0, 256, 768).tolist()))
    encoding = masks.infer()
    assert sources(encoding) == [0, 1, 2, 3]
    assert (masks.read(encoding, 3) == drawn(6, 4)[3]).all()


# Names from a file.


def test_names_and_void_come_from_a_table_by_value(masks: Masks, tmp_path: Path) -> None:
    for classes in drawn(5, 4):
        masks.add(classes)
    text = "# index,name,R,G,B\n0,sky,9,9,9\n1,road,1,2,3\n2,void,0,0,0\n3,car,4,5,6\n4,never,7,7,7\n"
    encoding = masks.infer(table_of(tmp_path, "classes.txt", text))
    assert encoding.labels.names == ("sky", "road", "car", "never")
    assert encoding.labels.ignore == (2,)
    assert encoding.labels.classes[2].colors == ((4, 5, 6),)
    assert any('calls it "void"' in decision for decision in encoding.decisions)


def test_display_colours_do_not_confuse_grey_masks_in_rgb_files(masks: Masks, tmp_path: Path) -> None:
    for classes in drawn(5, 3):
        masks.add(np.repeat(classes[:, :, None], 3, axis=2))
    encoding = masks.infer(table_of(tmp_path, "classes.txt", "0,sky,9,9,9\n1,road,1,2,3\n2,car,4,5,6\n"))
    assert encoding.labels.names == ("sky", "road", "car")
    assert (masks.read(encoding, 1) == drawn(5, 3)[1]).all()


def test_names_come_from_a_table_by_colour_and_colours_that_it_lacks_are_added(masks: Masks, tmp_path: Path) -> None:
    for classes in drawn(5, 4):
        masks.add(VOC[classes])
    text = "name,r,g,b\nsky,0,0,0\nroad,128,0,0\nVoid,0,128,0\nnever,1,1,1\n"
    encoding = masks.infer(table_of(tmp_path, "class_dict.csv", text))
    assert encoding.labels.names == ("sky", "road", "never", "olive_808000")
    assert encoding.labels.ignore == ((0, 128, 0),)
    assert any("#808000" in decision for decision in encoding.decisions)


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ((0, 1, 2), "sky road car", {"sky": 0, "road": 1, "car": 2}),
        ((0, 1, 2), "road car", {"background": 0, "road": 1, "car": 2}),
        ((0, 76, 255), "sky road car", {"sky": 0, "road": 76, "car": 255}),
        ((0, 76, 255), "road car", {"background": 0, "road": 76, "car": 255}),
        ((0, 1, 2), "sky road car tree", {"sky": 0, "road": 1, "car": 2, "tree": 3}),
    ],
)
def test_names_without_values_are_taken_in_their_order_where_that_fits(
    masks: Masks, tmp_path: Path, values: tuple[int, ...], names: str, expected: dict[str, int]
) -> None:
    for classes in drawn(5, 3):
        masks.add(np.array(values, np.uint8)[classes])
    encoding = masks.infer(table_of(tmp_path, "classes.txt", "\n".join(names.split())))
    assert {item.name: item.values[0] for item in encoding.labels.classes} == expected


def test_a_list_of_names_that_does_not_fit_is_left_and_said(masks: Masks, tmp_path: Path) -> None:
    for classes in drawn(5, 4):
        masks.add(GREY[classes])
    encoding = masks.infer(table_of(tmp_path, "classes.txt", "one\ntwo\n"))
    assert sources(encoding) == [0, 76, 150, 255]
    assert any("classes.txt was not used" in decision for decision in encoding.decisions)


def test_masks_of_indices_among_masks_of_colours_are_joined_by_a_table(masks: Masks, tmp_path: Path) -> None:
    for number, classes in enumerate(drawn(6, 3)):
        masks.add(classes if number < 2 else VOC[classes])
    text = "0,sky,0,0,0\n1,road,128,0,0\n2,car,0,128,0\n"
    encoding = masks.infer(table_of(tmp_path, "classes.txt", text))
    assert len(encoding.findings) == 0
    for number, classes in enumerate(drawn(6, 3)):
        assert (masks.read(encoding, number) == classes).all()


def test_masks_of_indices_among_masks_of_colours_are_an_error_where_nothing_joins_them(masks: Masks) -> None:
    for number, classes in enumerate(drawn(6, 4)):
        masks.add(classes if number in (1, 4) else VOC[classes])
    encoding = masks.infer()
    assert found(encoding) == [("structure", "m001"), ("structure", "m004")]
    assert "4 of the 6 masks are colour files" in next(iter(encoding.findings)).message
    assert set(sources(encoding)) == {"000000", "800000", "008000", "808000"}


# Masks saved with loss.


@pytest.mark.parametrize("quality", [75, 90, 95])
@pytest.mark.parametrize("classes", [4, 12])
def test_colours_come_back_from_jpeg(masks: Masks, classes: int, quality: int) -> None:
    truth = drawn(3, classes, 512)
    for mask in truth:
        masks.add(VOC[mask], ".jpg", quality)
    encoding = masks.infer()
    held = {f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in VOC[:classes].tolist()}
    # Twelve colours of VOC's are no chance: then all of its 21 classes are named.
    assert set(sources(encoding)) >= held if classes == 12 else set(sources(encoding)) == held
    assert share_right(masks, encoding, truth, VOC[:21]) >= 0.97
    gap = 64 if classes == 12 else 128
    assert 0 < encoding.labels.tolerance < gap / 2
    assert encoding.labels.unknown == "ignore"
    assert len(encoding.findings) == 0
    assert any("3 of 3 masks were saved with loss" in decision for decision in encoding.decisions)
    assert masks.check(encoding) == ["lossy-mask"] * 3


@pytest.mark.parametrize("quality", [75, 90, 95])
@pytest.mark.parametrize("table", [BINARY, GREY])
def test_grey_values_come_back_from_jpeg(masks: Masks, table: Classes, quality: int) -> None:
    truth = drawn(4, len(table), 512)
    for mask in truth:
        masks.add(table[mask], ".jpg", quality)
    encoding = masks.infer()
    assert sources(encoding) == table.tolist()
    assert share_right(masks, encoding, truth, table) > 0.995
    assert len(encoding.findings) == 0


def test_jpeg_inside_png_is_seen_by_its_noise(masks: Masks, tmp_path: Path) -> None:
    truth = drawn(4, 4, 256)
    for mask in truth:
        Image.fromarray(VOC[mask]).save(tmp_path / "lossy.jpg", quality=85)
        masks.add(np.asarray(Image.open(tmp_path / "lossy.jpg")))
    encoding = masks.infer()
    assert set(sources(encoding)) == {"000000", "800000", "008000", "808000"}
    assert share_right(masks, encoding, truth, VOC[:4]) > 0.97


def test_colours_of_a_table_name_lossy_colours(masks: Masks, tmp_path: Path) -> None:
    truth = drawn(4, 3, 256)
    colors = np.array([(0, 0, 0), (250, 20, 70), (61, 181, 74)], np.uint8)
    for mask in truth:
        masks.add(colors[mask], ".jpg")
    text = "name,r,g,b\nground,0,0,0\nroof,250,20,70\nlawn,61,181,74\nnever,255,255,255\n"
    encoding = masks.infer(table_of(tmp_path, "class_dict.csv", text))
    assert encoding.labels.names == ("ground", "roof", "lawn", "never")
    right = sum(int((masks.read(encoding, number) == mask).sum()) for number, mask in enumerate(truth))
    assert right / (4 * 256 * 256) > 0.97


def test_class_indices_in_jpeg_are_an_error(masks: Masks) -> None:
    for classes in drawn(5, 5):
        masks.add(classes, ".jpg", 90)
    (finding,) = (finding for finding in masks.infer().findings if finding.code == "not-labels")
    assert "5 of 5 masks are JPEG files" in finding.message


# Antialiased masks.


@pytest.mark.parametrize("table", [BINARY, GREY, VOC[:4]])
@pytest.mark.parametrize("size", [70, 160])
def test_mixed_tones_of_smooth_resizes_are_no_classes(masks: Masks, table: Classes, size: int) -> None:
    truth = drawn(5, len(table))
    for mask in truth:
        masks.add(Image.fromarray(table[mask]).resize((size, size), Image.Resampling.BILINEAR))
    encoding = masks.infer()
    expected = (
        {"{:02x}{:02x}{:02x}".format(*color) for color in table.tolist()} if table.ndim == 2 else set(table.tolist())
    )
    assert set(sources(encoding)) == expected
    assert (encoding.labels.unknown, encoding.labels.tolerance) == ("ignore", 0)
    assert found(encoding) == [("soft-edges", record.id) for record in masks.records]
    assert any("5 of 5 masks have mixed" in decision for decision in encoding.decisions)
    # What is said here is not said again.
    assert masks.check(encoding) == []
    for number, mask in enumerate(truth):
        read = masks.read(encoding, number)
        small = cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)
        assert (read == IGNORE).mean() < 0.25
        shown = np.array([item.values[:1] or item.colors[0] for item in encoding.labels.classes], np.uint8)
        same = shown[read.clip(max=len(shown) - 1)] == table.reshape(len(table), -1)[small]
        assert same.all(axis=2)[read != IGNORE].mean() > 0.97


def test_one_antialiased_mask_is_named(masks: Masks) -> None:
    for number, classes in enumerate(drawn(8, 2)):
        image = Image.fromarray(BINARY[classes])
        masks.add(image.resize((70, 70), Image.Resampling.BILINEAR) if number == 5 else image)
    encoding = masks.infer()
    assert found(encoding) == [("soft-edges", "m005")]
    assert encoding.labels.names == ("background", "foreground")


# Strays.


def test_a_value_in_under_2_percent_of_the_masks_names_its_files_and_is_ignored(masks: Masks) -> None:
    for number in range(120):
        mask = BINARY[regions(number % 7, 2, 32)]
        mask[3, 4:9] = 77 if number in (20, 90) else mask[3, 4:9]
        masks.add(mask)
    encoding = masks.infer()
    assert found(encoding) == [("rare-value", "m020"), ("rare-value", "m090")]
    assert [f.details for f in encoding.findings] == 2 * [{"value": 77, "count": 5, "masks": 2}]
    assert (encoding.labels.ignore, encoding.labels.unknown) == ((77,), "error")
    assert any("77" in decision for decision in encoding.decisions)


def test_a_value_in_2_percent_of_the_masks_is_a_class(masks: Masks) -> None:
    for number in range(100):
        mask = GREY[regions(number % 7, 3, 32)]
        mask[20:26, 20:26] = 200 if number in (20, 90) else mask[20:26, 20:26]
        masks.add(mask)
    encoding = masks.infer()
    assert is_clean(encoding)
    assert 200 in sources(encoding)


def test_what_a_table_lists_is_no_stray(masks: Masks, tmp_path: Path) -> None:
    for number in range(60):
        mask = regions(number % 7, 3, 32)
        mask[20, 20] = 3 if number == 20 else mask[20, 20]
        masks.add(mask)
    encoding = masks.infer(table_of(tmp_path, "classes.txt", "ground\nroad\ncar\nsign\n"))
    assert is_clean(encoding)
    assert encoding.labels.names == ("ground", "road", "car", "sign")


@pytest.mark.parametrize("colored", [False, True])
def test_of_few_masks_a_speck_in_one_is_a_stray_and_an_object_in_one_is_not(masks: Masks, colored: bool) -> None:
    for number, classes in enumerate(drawn(8, 3)):
        mask = GREY[classes]
        mask[5, 50:53] = 33 if number == 2 else mask[5, 50:53]
        mask[60:80, 60:80] = 220 if number == 4 else mask[60:80, 60:80]
        masks.add(np.stack([mask, mask, 255 - mask], axis=2) if colored else mask)
    encoding = masks.infer()
    (finding,) = encoding.findings
    assert (finding.code, finding.id, finding.details["count"]) == ("rare-value", "m002", 3)
    assert encoding.labels.ignore == (((33, 33, 222),) if colored else (33,))
    assert len(encoding.labels) == 4
    assert masks.check(encoding) == []


# No masks at all.


def photograph(seed: int) -> Classes:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def depth_map(seed: int) -> Classes:
    y, x = np.mgrid[:120, :120]
    return ((x * 0.8 + y + 20 * seed) % 250).astype(np.uint8)


def instances(seed: int) -> Classes:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (40, 3)).astype(np.uint8)[regions(seed, 40, 96, 40)]


@pytest.mark.parametrize("draw", [photograph, depth_map, instances])
def test_what_is_no_mask_is_told_and_still_gives_a_label_map(masks: Masks, draw: Callable[[int], Classes]) -> None:
    for seed in range(6):
        masks.add(draw(seed))
    encoding = masks.infer()
    (finding,) = encoding.findings
    assert (finding.code, finding.id) == ("not-labels", "")
    assert encoding.guesses[0].confidence < 0.2
    assert encoding.labels.unknown == "ignore"


def test_more_than_254_values_are_no_classes(masks: Masks) -> None:
    for start in range(0, 400, 40):
        masks.add(np.kron(np.arange(start, start + 40).reshape(5, 8), np.ones((9, 9))).astype(np.uint16))
    (finding,) = masks.infer().findings
    assert finding.code == "not-labels"
    assert "400 different values" in finding.message


def test_one_photograph_among_masks_is_named(masks: Masks) -> None:
    for number, classes in enumerate(drawn(6, 4)):
        masks.add(photograph(number) if number == 3 else VOC[classes])
    encoding = masks.infer()
    assert found(encoding) == [("not-labels", "m003")]
    assert set(sources(encoding)) == {"000000", "800000", "008000", "808000"}


def test_masks_of_one_value_alone_are_told(masks: Masks) -> None:
    for _ in range(3):
        masks.add(np.zeros((9, 9), np.uint8))
    encoding = masks.infer()
    (finding,) = encoding.findings
    assert "nothing but value 0" in finding.message
    assert encoding.labels.names == ("background",)


def test_values_without_gaps_up_to_another_number_in_each_mask_may_count_objects(masks: Masks) -> None:
    for number in range(8):
        masks.add(regions(number, 3 + number, 96, 3 + number))
    guess = masks.infer().guesses[0]
    assert guess.confidence <= 0.5
    assert "objects" in guess.reason


def test_no_masks_are_an_error(masks: Masks) -> None:
    with pytest.raises(DataError, match="none of the masks"):
        masks.infer()


def test_a_mask_that_is_gone_when_it_is_looked_at_does_no_harm(masks: Masks) -> None:
    for classes in drawn(5, 4):
        masks.add(classes)
    listed = list(masks())
    for record, _ in listed:
        assert isinstance(record.annotation, Path)
        record.annotation.unlink()
    assert infer_encoding(lambda: listed, None).labels.names[1:] == ("class_1", "class_2", "class_3")


# Real data.


def stored(files: Sequence[Path]) -> Callable[[], list[tuple[Record, MaskFacts]]]:
    found = [(Record(file.stem, file, file), mask_facts(read_mask(file))) for file in files]
    return lambda: found


@pytest.mark.skipif(not (DATA / "camvid").is_dir(), reason="the CamVid pictures are not here")
def test_camvid_is_eleven_classes_and_void_11() -> None:
    masks = stored(sorted((DATA / "camvid" / "valannot").glob("*.png")))
    encoding = infer_encoding(masks, find_class_table(DATA / "camvid"))
    assert is_clean(encoding)
    assert sources(encoding) == list(range(11))
    assert encoding.labels.names[:4] == ("Sky", "Building", "Pole", "Road")
    assert encoding.labels.ignore == (11,)
    assert all(check_mask(record, facts, encoding.labels, (360, 480)).findings == () for record, facts in masks())


@pytest.mark.skipif(not (DATA / "ccp").is_dir(), reason="the clothing pictures are not here")
def test_ccp_is_indices_up_to_58_and_background_dominates() -> None:
    masks = stored(sorted((DATA / "ccp" / "annotations" / "pixel-level").glob("*.mat")))
    held = {value for _, facts in masks() for value in facts.values.tolist()}
    few = {value for value in held if sum(value in facts.values for _, facts in masks()) < 5}
    assert len(few) == 13
    encoding = infer_encoding(masks, None)
    assert set(sources(encoding)) == held - few
    assert set(encoding.labels.ignore) == few
    assert encoding.labels.names[0] == "background"
    assert {finding.code for finding in encoding.findings} == {"rare-value"}
    checks = [check_mask(record, facts, encoding.labels, None) for record, facts in masks()]
    assert [(f.code, f.id) for check in checks for f in check.findings] == [("empty-mask", "0536")]
