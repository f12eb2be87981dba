from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixbox.auditing.depth import infer_reading
from pixbox.data.images import AS_IT_IS, PixelReading, read_image
from pixbox.sample import Record


def record(path: Path) -> Record:
    return Record(path.stem, path, None)


def write_bands(path: Path, bands: NDArray[np.generic]) -> Record:
    """(count, H, W) of any type as a TIFF that does not say what its bands are."""
    rasterio = pytest.importorskip("rasterio")
    count, height, width = bands.shape
    with rasterio.open(path, "w", driver="GTiff", count=count, height=height, width=width, dtype=str(bands.dtype),
                       photometric="MINISBLACK", ALPHA="NO") as file:  # fmt: skip
        file.write(bands)
    return record(path)


def test_ordinary_pictures_are_read_as_they_are(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (200, 10, 10)).save(tmp_path / "a.png")
    Image.new("L", (8, 6), 90).save(tmp_path / "b.jpg")
    assert infer_reading([record(tmp_path / "a.png"), record(tmp_path / "b.jpg")]) == (AS_IT_IS, [])
    assert infer_reading([]) == (AS_IT_IS, [])


def test_bands_and_the_range_of_a_satellite_are_worked_out_and_the_pictures_are_not_black(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [
        write_bands(tmp_path / f"{i}.tif", rng.integers(0, 3000, (4, 40, 50)).astype(np.uint16)) for i in range(5)
    ]
    reading, decisions = infer_reading(records)
    assert reading == PixelReading((1, 2, 3), (0.0, 4095.0))
    assert "4 bands" in decisions[0]
    assert "4,095" in decisions[1]
    assert 80 < read_image(records[0].image, reading).mean() < 105  # 1,500 of 4,095 is 93 of 255.


def test_reflectances_between_0_and_1_get_that_range(tmp_path: Path) -> None:
    picture = np.random.default_rng(1).random((3, 20, 20)).astype(np.float32) * 0.9
    reading, _ = infer_reading([write_bands(tmp_path / "a.tif", picture)])
    assert reading.value_range == (0.0, 1.0)


def test_sixteen_bit_pictures_that_fill_their_range_are_read_as_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 65536, (30, 30)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert infer_reading([record(tmp_path / "a.png")]) == (AS_IT_IS, [])


def test_unreadable_pictures_decide_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"no picture")
    assert infer_reading([record(tmp_path / "a.tif")]) == (AS_IT_IS, [])
