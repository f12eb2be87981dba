"""Pictures predicted in parts, against the same pictures predicted whole or in windows of the decoded picture."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pixbox.checkpoint import LoadedRun, Position
from pixbox.config import Experiment
from pixbox.data.images import read_mask
from pixbox.data.rasters import Raster
from pixbox.drawing import overlay
from pixbox.errors import DataError
from pixbox.labels import LabelMap
from pixbox.losses import build_loss
from pixbox.prediction.large import Areas, is_for_parts, predict_file
from pixbox.prediction.predictor import Predictor
from pixbox.results import Detections, Segmentation
from pixbox.sample import Georeference
from pixbox.tasks.build import build_task
from pixbox.tasks.segmentation import SegmentationTask

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
LABELS = LabelMap.model_validate({"classes": [{"name": name, "color": color} for name, color in (
    ("field", "#20a040"), ("road", "#808080"), ("water", "#2040c0"))]})  # fmt: skip
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 412345.25, 0, -0.5, 5712345.75)}
PLACE = Georeference("EPSG:32633", (0.5, 0, 412345.25, 0, -0.5, 5712345.75), 1.0)
TILED = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}


class Neighbourhood(nn.Module):
    """Random 5 x 5 convolution: what it says of a pixel depends on those around it. (B, 3, H, W) -> (B, 3, H, W)."""

    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, len(LABELS), 5, padding=2)
        random = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in self.layer.parameters():
                weight.copy_(torch.randn(weight.shape, generator=random) * 0.04)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.float() - 127.5)  # type: ignore[no-any-return]


def predictor(data: dict[str, Any] | None = None, **evaluation: Any) -> Predictor:
    experiment = Experiment.model_validate({
        "name": "x", "data": {"root": "nowhere", "size": [96, 96], **(data or {})},
        "evaluation": {"mode": "sliding", **evaluation}, "training": {"precision": "32"},
    })  # fmt: skip
    network: Any = Neighbourhood()
    settings = experiment.loss.model_dump(exclude={"class_weights", "auxiliary_weight"})
    task = SegmentationTask(network, build_loss(**settings, class_weights=None), LABELS, 0.0)
    return Predictor(LoadedRun(task, experiment, Position(0, 0, {}), Path("x.ckpt")), device="cpu", task=task)


def scene(height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: smooth hills with noise."""
    random = np.random.default_rng(height + width)
    rows, columns = np.mgrid[:height, :width]
    hills = 127 + 90 * np.sin(rows / 17) * np.cos(columns / 23)
    return np.clip(hills[:, :, None] + random.normal(0, 25, (height, width, 3)), 0, 255).astype(np.uint8)


def write_tiff(path: Path, pixels: NDArray[np.uint8], **options: Any) -> Path:
    with rasterio.open(path, "w", driver="GTiff", height=pixels.shape[0], width=pixels.shape[1], count=3,
                       dtype="uint8", **{**TILED, **options}) as file:  # fmt: skip
        file.write(np.moveaxis(pixels, 2, 0))
    return path


def read_tiff(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


@pytest.fixture
def too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture of these tests has more pixels than are decoded at once."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)


def in_parts(given: Predictor, path: Path, out: Path, *extras: str) -> list[Path]:
    assert is_for_parts(given, path)
    result, files = predict_file(given, path, out, extras)
    assert isinstance(result, Areas)
    return files


@pytest.mark.parametrize("size_hw", [(300, 450), (97, 1000), (600, 95), (1, 5000), (5000, 1)])
def test_pictures_in_parts_have_the_labels_of_the_picture_in_windows(
    tmp_path: Path, size_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = scene(*size_hw)
    path = write_tiff(tmp_path / "scene.tif", image)
    expected = predictor().predict(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    (mask,) = in_parts(predictor(), path, tmp_path / "out" / "scene.png")
    assert isinstance(expected, Segmentation)
    assert mask == tmp_path / "out" / "scene.tif"
    np.testing.assert_array_equal(read_tiff(mask), expected.mask)
    assert len(np.unique(expected.mask)) == 3


@pytest.mark.parametrize(("memory", "bands"), [("36MB", "several"), ("40MB", "several"), ("68MB", "one")])
def test_any_budget_gives_the_same_labels(
    tmp_path: Path, memory: str, bands: str, caplog: pytest.LogCaptureFixture
) -> None:
    image = scene(300, 6000)
    path = write_tiff(tmp_path / "scene.tif", image)
    expected = predictor().predict(image)
    assert isinstance(expected, Segmentation)
    with caplog.at_level(logging.INFO, logger="pixbox"):
        (mask,) = in_parts(predictor(max_memory=memory), path, tmp_path / "mask.png")
    np.testing.assert_array_equal(read_tiff(mask), expected.mask)
    assert ("all columns at once" in caplog.text) == (bands == "one"), caplog.text
    assert "scene.tif: 6000 x 300 pixels in windows of 96 x 96" in caplog.text
    assert f"of {memory[:2]} MB of memory" in caplog.text


@pytest.mark.usefixtures("too_many")
def test_no_more_than_a_row_of_windows_is_ever_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "scene.tif", scene(700, 500))
    read, original = [], Raster.read

    def counted(raster: Raster, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        read.append((top, height, width))
        return original(raster, top, left, height, width)

    monkeypatch.setattr(Raster, "read", counted)
    in_parts(predictor(), path, tmp_path / "mask.png")
    assert max(height * width for _, height, width in read) == 96 * 500
    # Rows that two rows of windows share are read once.
    assert sum(height for _, height, _ in read) == 700


def test_a_picture_that_fits_is_predicted_whole(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", scene(200, 300))
    whole = predictor(max_memory="100MB")
    assert not is_for_parts(whole, path)
    result, files = predict_file(whole, path, tmp_path / "out.png", ["overlay"])
    assert isinstance(result, Segmentation)
    assert files == [tmp_path / "out.png", tmp_path / "out_overlay.png"]
    np.testing.assert_array_equal(read_mask(files[0]).pixels, result.mask)


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_masks_keep_place_and_colours(tmp_path: Path, parts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "scene.tif", scene(300, 200), **UTM)
    expected = predictor().predict(path)
    if parts:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert isinstance(expected, Segmentation)
    result, files = predict_file(predictor(), path, tmp_path / "out" / "scene.png", ["colors"])
    assert isinstance(result, Areas) == parts
    assert result.table_rows() == replace(expected, georeference=PLACE).table_rows()  # type: ignore[union-attr]
    with rasterio.open(files[0]) as mask:
        assert (mask.crs, mask.transform) == (rasterio.CRS.from_epsg(32633), UTM["transform"])
        assert mask.block_shapes == [(256, 256)]
        assert mask.profile["compress"] == "deflate"
        np.testing.assert_array_equal([mask.colormap(1)[i][:3] for i in range(3)], LABELS.colors)
        np.testing.assert_array_equal(mask.read(1), expected.mask)
    monkeypatch.undo()
    as_read = read_mask(files[0])
    assert as_read.palette is not None
    np.testing.assert_array_equal(as_read.palette[:3], LABELS.colors)
    assert files[1].name == ("scene_colors.tif" if parts else "scene_colors.png")


@pytest.mark.usefixtures("too_many")
def test_overlay_and_colours_can_be_made_in_parts(tmp_path: Path) -> None:
    image = scene(300, 420)
    path = write_tiff(tmp_path / "scene.tif", image, **UTM)
    mask, over, colors = in_parts(predictor(), path, tmp_path / "out" / "m.png", "overlay", "colors")
    assert [file.name for file in (mask, over, colors)] == ["m.tif", "m_overlay.tif", "m_colors.tif"]
    labels = read_tiff(mask)
    with rasterio.open(over) as drawn, rasterio.open(colors) as colored:
        np.testing.assert_array_equal(np.moveaxis(drawn.read(), 0, 2), overlay(image, labels, LABELS))
        np.testing.assert_array_equal(np.moveaxis(colored.read(), 0, 2), LABELS.colorize(labels))
        assert drawn.transform == UTM["transform"]


@pytest.mark.usefixtures("too_many")
def test_what_needs_the_whole_picture_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", scene(200, 200))
    with pytest.raises(DataError, match="`probabilities, polygons` cannot be made in parts"):
        predict_file(predictor(), path, tmp_path / "out" / "x.png", ["overlay", "probabilities", "polygons"])
    assert not (tmp_path / "out").exists()


def test_a_png_in_parts_becomes_a_palette_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(scene(211, 333)).save(path)
    expected = predictor().predict(path)
    assert isinstance(expected, Segmentation)
    expected.save(tmp_path / "expected.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    files = in_parts(predictor(), path, tmp_path / "out.png")
    assert files == [tmp_path / "out.png"]
    monkeypatch.undo()
    ours, pillows = read_mask(files[0]), read_mask(tmp_path / "expected.png")
    np.testing.assert_array_equal(ours.pixels, pillows.pixels)
    assert ours.palette is not None
    np.testing.assert_array_equal(ours.palette, pillows.palette)


def test_a_palette_png_made_by_bands_of_columns_is_whole(tmp_path: Path) -> None:
    image = scene(320, 6000)
    path = tmp_path / "scene.png"
    Image.fromarray(image).save(path, compress_level=1)
    expected = predictor().predict(image)
    assert isinstance(expected, Segmentation)
    (mask,) = in_parts(predictor(max_memory="36MB"), path, tmp_path / "mask.png")
    np.testing.assert_array_equal(np.asarray(Image.open(mask)), expected.mask)


@pytest.mark.usefixtures("too_many")
@pytest.mark.parametrize("damage", ["a tile", "the end"])
def test_a_broken_picture_leaves_no_file(tmp_path: Path, damage: str) -> None:
    path = write_tiff(tmp_path / "scene.tif", scene(640, 640))
    data = bytearray(path.read_bytes())
    if damage == "a tile":
        with rasterio.open(path) as file:
            offset = int(file.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
        data[offset : offset + 64] = b"\xff" * 64
    else:
        data = data[: len(data) * 3 // 4]
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"scene\.tif: .*(damaged|incomplete)"):
        predict_file(predictor(), path, tmp_path / "out" / "scene.png", ["overlay"])
    assert list(tmp_path.glob("out/**/*")) == []


@pytest.mark.usefixtures("too_many")
def test_a_mask_never_replaces_its_picture(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", scene(100, 100))
    before = path.read_bytes()
    with pytest.raises(DataError, match="would be overwritten"):
        predict_file(predictor(), path, tmp_path / "scene.png", [])
    assert path.read_bytes() == before


def test_too_little_memory_for_one_window_is_said(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", scene(1500, 1500))
    with pytest.raises(DataError, match=r"take 3\d MB of memory; 20 MB may be taken") as error:
        predict_file(predictor(max_memory="20MB"), path, tmp_path / "x.png", [])
    assert "evaluation.window" in str(error.value)


def test_a_small_picture_that_is_looked_at_enlarged_is_large(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    Image.fromarray(scene(120, 160)).save(path)
    assert not is_for_parts(predictor(mode="auto", max_memory="20MB"), path)
    with pytest.raises(DataError, match=r"its 160 x 120 pixels take [\d.]+ GB of memory; 20 MB may be taken"):
        predict_file(predictor(mode="auto", scales=[1, 100], max_memory="20MB"), path, tmp_path / "x.png", [])


def test_what_cannot_be_read_in_parts_says_what_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "scene.bmp"
    Image.fromarray(scene(2000, 2000)).save(path)
    with pytest.raises(DataError, match="it is no TIFF, PNG or JPEG") as error:
        predict_file(predictor(max_memory="20MB"), path, tmp_path / "x.png", [])
    assert "pixbox[geo]" in str(error.value)


def test_a_tiff_of_very_large_tiles_says_what_is_needed(tmp_path: Path) -> None:
    image = np.zeros((2100, 2100, 3), dtype=np.uint8)
    path = write_tiff(tmp_path / "x.tif", image, blockxsize=2112, blockysize=2112)
    with pytest.raises(DataError, match="save it as a tiled TIFF"):
        predict_file(predictor(max_memory="20MB"), path, tmp_path / "x.png", [])


@pytest.mark.parametrize("mode", ["whole", "auto"])
def test_what_is_asked_for_as_whole_is_done_whole(tmp_path: Path, mode: str) -> None:
    path = write_tiff(tmp_path / "x.tif", scene(1100, 1600))
    asked = predictor(mode=mode, max_memory="40MB")
    assert is_for_parts(asked, path) == (mode == "auto")


def test_a_picture_that_is_decoded_whole_may_still_be_predicted_in_parts(tmp_path: Path) -> None:
    image = scene(1100, 1600)
    path = tmp_path / "scene.bmp"
    Image.fromarray(image).save(path)
    expected = predictor().predict(image)
    assert isinstance(expected, Segmentation)
    (mask,) = in_parts(predictor(max_memory="45MB"), path, tmp_path / "x.png")
    np.testing.assert_array_equal(np.asarray(Image.open(mask)), expected.mask)


@pytest.mark.usefixtures("too_many")
@pytest.mark.parametrize("data", [{"fit": "stretch"}, {"base_size": 64}], ids=["fit", "base_size"])
def test_models_that_see_pictures_made_smaller_refuse_what_is_too_large(tmp_path: Path, data: dict[str, Any]) -> None:
    path = write_tiff(tmp_path / "scene.tif", scene(200, 200))
    with pytest.raises(DataError, match=r"sees pictures whole"):
        predict_file(predictor(data), path, tmp_path / "out.png", [])


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_boxes_are_found_in_parts(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment.model_validate({
        "name": "x", "task": "detection", "data": {"root": "nowhere", "size": [128, 128]},
        "model": {"encoder": "test_resnet"}, "evaluation": {"mode": "sliding"}, "training": {"precision": "32"},
        "detection": {"score_threshold": 0.0},
    })  # fmt: skip
    torch.manual_seed(0)
    task: Any = build_task(experiment, LABELS)
    finder = Predictor(LoadedRun(task, experiment, Position(0, 0, {}), Path("x.ckpt")), device="cpu")
    image = scene(300, 400)
    path = tmp_path / f"scene.{kind}"
    if kind == "tif":
        write_tiff(path, image, **UTM)
    else:
        Image.fromarray(image).save(path)
    expected = finder.predict(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    result, files = predict_file(finder, path, tmp_path / "scene.json", [])
    assert files == [tmp_path / "scene.json"]
    assert isinstance(result, Detections)
    assert json.loads(files[0].read_text()) == expected.to_plain()  # type: ignore[union-attr]
    assert len(expected.to_plain()["boxes"]) > 10  # type: ignore[union-attr]


def test_what_boxes_in_parts_are_said_to_need_is_enough_and_less_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    path = write_tiff(tmp_path / "scene.tif", scene(300, 400))

    def finder(memory: str) -> Predictor:
        experiment = Experiment.model_validate({
            "name": "x", "task": "detection", "data": {"root": "nowhere", "size": [128, 128]},
            "model": {"encoder": "test_resnet"}, "training": {"precision": "32"},
            "evaluation": {"mode": "sliding", "max_memory": memory},
        })  # fmt: skip
        task: Any = build_task(experiment, LABELS)
        return Predictor(LoadedRun(task, experiment, Position(0, 0, {}), Path("x.ckpt")), device="cpu")

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(DataError) as caught:
        predict_file(finder("1MB"), path, tmp_path / "scene.json", [])
    needed = float(caught.value.faults[0].what.split(" take ")[1].split(" MB")[0])
    assert predict_file(finder(f"{1.02 * needed:.2f}MB"), path, tmp_path / "scene.json", [])[1]
    # Nothing is planned for the last tenth.
    with pytest.raises(DataError, match="Even in parts"):
        predict_file(finder(f"{0.95 * needed:.2f}MB"), path, tmp_path / "scene.json", [])
