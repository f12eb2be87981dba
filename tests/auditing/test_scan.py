from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from pixbox.auditing.scan import LabelScan, scan_labels
from pixbox.data.findings import KEPT_PER_CODE
from pixbox.labels import LabelMap
from pixbox.sample import Record, Shape, Shapes

LABELS = LabelMap.model_validate(
    {"classes": [{"name": "a", "value": 0}, {"name": "b", "value": 7}, {"name": "c", "value": 9}], "ignore": [255]}
)
CAMVID = Path(__file__).parents[2].parent / "shared" / "data" / "camvid"


def write_record(folder: Path, name: str, mask: NDArray[np.uint8] | None, size_hw: tuple[int, int] = (2, 3)) -> Record:
    Image.new("RGB", size_hw[::-1]).save(folder / f"{name}.jpg")
    if mask is None:
        return Record(name, folder / f"{name}.jpg", None)
    Image.fromarray(mask).save(folder / f"{name}.png")
    return Record(name, folder / f"{name}.jpg", folder / f"{name}.png")


def test_counts_are_those_of_a_hand_example(tmp_path: Path) -> None:
    records = [
        write_record(tmp_path, "1", np.array([[0, 0, 7], [7, 7, 255]], np.uint8)),
        write_record(tmp_path, "2", np.array([[0, 255, 255], [255, 255, 255]], np.uint8)),
        write_record(tmp_path, "3", np.full((2, 3), 255, np.uint8)),
    ]
    steps: list[int] = []
    scan = scan_labels(records, LABELS, progress=steps.append, workers=2)
    assert scan.pixels.tolist() == [3, 3, 0]
    assert scan.images_with_class.tolist() == [2, 1, 0]
    assert scan.pixels_of_images_with_class.tolist() == [12, 6, 0]
    assert (scan.ignored_pixels, scan.images) == (1 + 5 + 6, 3)
    assert [finding.code for finding in scan.findings] == ["empty-mask", "ignored-mask"]
    assert scan.pixels.dtype == scan.pixels_of_images_with_class.dtype == scan.images_with_class.dtype == np.int64
    assert steps == [1, 2, 3]


def test_no_masks_give_zeros() -> None:
    scan = scan_labels([], LABELS)
    assert scan.pixels.tolist() == [0, 0, 0]
    assert scan.images == 0


def test_every_bad_mask_is_named_with_what_is_wrong_and_the_way_out(tmp_path: Path) -> None:
    unknown = np.zeros((2, 3), np.uint8)
    unknown[1, 1:] = 21
    records = [
        write_record(tmp_path, "good", np.zeros((2, 3), np.uint8)),
        write_record(tmp_path, "unknown", unknown),
        write_record(tmp_path, "unlabelled", None),
        write_record(tmp_path, "turned", np.zeros((3, 2), np.uint8)),
        write_record(tmp_path, "broken", np.zeros((2, 3), np.uint8)),
        Record("gone", tmp_path / "good.jpg", tmp_path / "gone.png"),
    ]
    (tmp_path / "broken.png").write_bytes((tmp_path / "broken.png").read_bytes()[:-14])
    scan = scan_labels(records, LABELS)
    found = {Path(finding.file).name: finding for finding in scan.findings.errors()}
    assert {name: finding.code for name, finding in found.items()} == {
        "unknown.png": "unknown-value",
        "unlabelled.jpg": "missing-mask",
        "turned.png": "mask-size",
        "broken.png": "truncated-file",
        "gone.png": "missing-file",
    }
    assert all(finding.severity == "error" for finding in found.values())
    details = found["unknown.png"].details
    assert (details["value"], details["row"], details["column"], details["count"]) == (21, 1, 1, 2)
    assert "2 x 3" in found["turned.png"].message
    assert "3 x 2" in found["turned.png"].message
    assert (scan.images, scan.pixels.tolist()) == (1, [6, 0, 0])


def test_of_very_many_faults_the_first_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    record = write_record(tmp_path, "x", np.full((2, 3), 8, np.uint8))
    scan = scan_labels([record] * (KEPT_PER_CODE + 34), LABELS)
    assert len(list(scan.findings)) == KEPT_PER_CODE
    assert scan.findings.counts == {"unknown-value": KEPT_PER_CODE + 34}


@pytest.mark.parametrize(
    ("mask_hw", "image_hw", "fine"),
    [
        ((20, 30), (40, 60), True), ((80, 120), (40, 60), True), ((187, 250), (375, 500), True),
        ((188, 250), (375, 500), True), ((40, 61), (40, 60), True), ((40, 63), (40, 60), False),
        ((60, 40), (40, 60), False), ((20, 40), (40, 60), False),
    ],
)  # fmt: skip
def test_masks_of_the_same_proportions_are_noted_and_others_refused(
    tmp_path: Path, mask_hw: tuple[int, int], image_hw: tuple[int, int], fine: bool
) -> None:
    record = write_record(tmp_path, "x", np.zeros(mask_hw, np.uint8), image_hw)
    found = [f for f in scan_labels([record], LABELS).findings if f.code != "empty-mask"]
    (noted,) = found
    assert noted.code == ("mask-resized" if fine else "mask-size")
    assert noted.file == str(record.annotation)
    assert f"{mask_hw[1]} x {mask_hw[0]}" in noted.message
    assert f"{image_hw[1]} x {image_hw[0]}" in noted.message


def test_masks_are_read_in_threads_but_progress_is_told_in_the_callers(tmp_path: Path) -> None:
    record = write_record(tmp_path, "x", np.zeros((2, 3), np.uint8))
    told: list[tuple[int, int]] = []
    scan_labels([record] * 600, LABELS, progress=lambda done: told.append((done, threading.get_ident())), workers=4)
    assert told == [(done, threading.get_ident()) for done in range(1, 601)]


def test_mat_masks_are_counted(tmp_path: Path) -> None:
    record = write_record(tmp_path, "x", None)
    scipy.io.savemat(tmp_path / "x.mat", {"groundtruth": np.array([[0, 7, 9], [9, 9, 255]], np.uint8)})
    scan = scan_labels([Record("x", record.image, tmp_path / "x.mat")], LABELS)
    assert scan.pixels.tolist() == [1, 1, 3]


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the CamVid pictures are not here")
def test_camvid_gives_its_known_median_frequency_weights() -> None:
    names = [line.split(",")[1] for line in (CAMVID / "classes.txt").read_text().splitlines()[1:12]]
    labels = LabelMap.model_validate({"classes": names, "ignore": [11]})
    pairs = [line.split(";") for line in (CAMVID / "train.txt").read_text().split()]
    scan = scan_labels([Record(image, CAMVID / image, CAMVID / mask) for image, mask in pairs], labels)
    frequency = scan.pixels / scan.pixels_of_images_with_class
    known = [0.2793, 0.2017, 4.7865, 0.1490, 1.0, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747, 8.8587]
    np.testing.assert_allclose(np.median(frequency) / frequency, known, atol=5e-5)
    assert scan.pixels.sum() + scan.ignored_pixels == 367 * 360 * 480
    assert scan.images == 367
    assert list(scan.findings) == []


def test_painted_objects_are_counted_like_masks(tmp_path: Path) -> None:
    record = write_record(tmp_path, "x", None, (4, 5))
    square = np.array([(1, 1), (3, 1), (3, 3), (1, 3)], dtype=np.float64)
    shapes = Shapes((Shape("b", (1, 1, 3, 3), (square,)),), tmp_path / "x.json")
    scan: LabelScan = scan_labels([Record("x", record.image, shapes)], LABELS)
    assert scan.pixels.tolist() == [16, 4, 0]
    unknown = Shapes((Shape("zebra", (1, 1, 3, 3), (square,)),), tmp_path / "x.json")
    (finding,) = scan_labels([Record("x", record.image, unknown)], LABELS).findings
    assert finding.code == "unknown-class"
