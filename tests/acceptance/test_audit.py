"""`pixbox audit` by the front door: bare folders to trained models, damages one by one, real data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from acceptance.conftest import Command
from auditing import trees
from tiny import experiment, write_scenes

DATA = Path(__file__).parents[2].parent / "shared" / "data"
ROOT = Path(__file__).parents[2]
QUICK = (
    "--set", "training.max_steps=2", "--set", "data.workers=0", "--set", "data.batch_size=2",
    "--set", "training.precision=32", "--set", "training.accelerator=cpu",
)  # fmt: skip


def audit(command: Command, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    done = command("audit", *arguments, "--json")
    assert done.out, done.err
    return done.status, done.json


def errors(result: dict[str, Any]) -> set[tuple[str, str]]:
    return {(f["code"], Path(f["file"].split(":")[0]).name) for f in result["findings"] if f["severity"] == "error"}


@pytest.mark.parametrize(
    "write",
    [
        trees.write_rgb_folder, trees.write_voc, trees.write_jpeg_masks, trees.write_binary, trees.write_labelme,
        trees.write_yolo_polygons, trees.write_coco, trees.write_mat, trees.write_objects, trees.write_cvat,
        trees.write_label_studio, trees.write_list,
    ],
)  # fmt: skip
def test_a_bare_folder_becomes_a_trained_model_without_editing(
    write: Callable[[Path], Path], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    status, result = audit(command, folder, "--write-recipe", "recipe.yaml", "--html", "audit.html")
    assert (status, errors(result)) == (0, set())
    assert result["task"] == "segmentation"
    assert {"layout", "splits"} <= {guess["about"] for guess in result["inferred"]}
    assert result["splits"]["train"]["images"] > 0
    assert result["splits"]["val"]["images"] > 0
    assert (tmp_path / "audit.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    trained = command("train", "recipe.yaml", *QUICK, "--out", "run", "--json")
    assert trained.status == 0, trained.err
    assert trained.json["steps"] == 2
    assert command("audit", "recipe.yaml").status == 0


@pytest.mark.parametrize("write", [trees.write_yolo_boxes, trees.write_voc_boxes, trees.write_box_list])
def test_a_folder_of_boxes_is_audited_for_detection(
    write: Callable[[Path], Path], command: Command, tmp_path: Path
) -> None:
    status, result = audit(command, write(tmp_path / "data"), "--write-recipe", tmp_path / "recipe.yaml")
    assert (status, errors(result), result["task"]) == (0, set(), "detection")
    assert result["anchors"]["boxes"] > 0
    written = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert written["task"] == "detection"
    assert audit(command, tmp_path / "recipe.yaml")[0] == 0
    trained = command("train", tmp_path / "recipe.yaml", *QUICK, "--out", tmp_path / "run", "--json")
    assert trained.status == 0, trained.err
    assert "map_50" in trained.json["best"]


def test_folders_of_classes_are_audited_for_classification(command: Command, tmp_path: Path) -> None:
    folder = trees.write_imagefolder(tmp_path / "data")
    status, result = audit(command, folder, "--write-recipe", tmp_path / "recipe.yaml")
    assert (status, result["task"]) == (0, "classification")
    trained = command("train", tmp_path / "recipe.yaml", *QUICK, "--out", tmp_path / "run", "--json")
    assert trained.status == 0, trained.err
    assert "accuracy" in trained.json["best"]
    assert sum(c["images"] for c in result["splits"]["train"]["classes"].values()) > 0


def test_a_clean_configuration_is_clean_and_gives_its_figures(command: Command, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "data")
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(experiment(folder)))
    status, result = audit(command, config)
    assert status == 0
    assert result["errors"] == 0
    masks = [np.array(Image.open(path)) for path in sorted((folder / "masks").glob("s0*.png"))]
    train = result["splits"]["train"]["classes"]
    for name, value in (("ground", 0), ("disk", 80), ("bar", 200)):
        assert train[name]["pixels"] == sum(int((mask == value).sum()) for mask in masks)
        assert train[name]["images"] == sum(bool((mask == value).any()) for mask in masks)
    pictures = np.stack([np.array(Image.open(path)) for path in sorted((folder / "images").glob("s0*.png"))]) / 255
    np.testing.assert_allclose(result["mean"], pictures.mean((0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(result["std"], pictures.std((0, 1, 2)), atol=2e-3)
    assert result["splits"]["train"]["sizes"] == [[40, 56, 8]]


def test_train_refuses_what_audit_calls_an_error_and_data_exclude_excuses_it(command: Command, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "data")
    mask = np.array(Image.open(folder / "masks" / "s0003.png"))
    mask[5, 7] = 99
    Image.fromarray(mask).save(folder / "masks" / "s0003.png")
    (folder / "masks" / "s0005.png").unlink()
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(experiment(folder, training__max_steps=1)))
    status, result = audit(command, config)
    assert status == 1
    assert errors(result) == {("unknown-value", "s0003.png"), ("missing-file", "train.txt")}
    unknown = next(f for f in result["findings"] if f["code"] == "unknown-value")
    assert (unknown["row"], unknown["column"], unknown["count"], unknown["value"]) == (5, 7, 1, 99)
    refused = command("train", config, "--out", tmp_path / "run")
    assert refused.status == 2
    assert not (tmp_path / "run").exists()
    exclude = "data.exclude=[images/s0003, images/s0005]"
    done = command("train", config, "--set", exclude, "--out", tmp_path / "run")
    assert done.status == 0, done.err


def test_a_bare_folder_with_damages_still_gives_a_recipe_that_trains(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trees.write_rgb_folder(tmp_path / "data", 14)
    masks = sorted(path for path in folder.rglob("*.png") if "mask" in str(path.parent).lower())
    pictures = sorted(path for path in folder.rglob("*") if path.is_file() and path not in masks)
    (masks[0]).unlink()
    pictures[1].write_bytes(b"")
    pictures[2].write_bytes(pictures[2].read_bytes()[:200])
    Image.open(masks[3]).resize((10, 300), Image.Resampling.NEAREST).save(masks[3])
    monkeypatch.chdir(tmp_path)
    status, result = audit(command, folder, "--write-recipe", "recipe.yaml")
    assert status == 1
    assert Counter(code for code, _ in errors(result)) == {
        "missing-mask": 1, "empty-file": 1, "truncated-file": 1, "mask-size": 1
    }  # fmt: skip
    assert any("4 pictures" in decision for decision in result["decisions"])
    trained = command("train", "recipe.yaml", *QUICK, "--out", "run")
    assert trained.status == 0, trained.err


def test_five_pictures_give_a_training_and_a_validation_part(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, result = audit(command, trees.write_binary(tmp_path / "data", 5), "--write-recipe", "recipe.yaml")
    assert status == 0
    assert (result["splits"]["train"]["images"], result["splits"]["val"]["images"]) == (4, 1)
    assert command("train", "recipe.yaml", *QUICK, "--out", "run").status == 0


def test_a_value_in_hardly_any_mask_is_an_error_that_names_the_file_and_is_ignored_in_the_recipe(
    command: Command, tmp_path: Path
) -> None:
    folder = trees.write_binary(tmp_path / "data", 60)
    odd = sorted(path for path in folder.rglob("*.png") if "mask" in str(path.parent).lower())[7]
    mask = np.array(Image.open(odd))
    mask[3, 4] = 77
    Image.fromarray(mask).save(odd)
    status, result = audit(command, folder, "--write-recipe", tmp_path / "recipe.yaml")
    assert status == 1
    assert errors(result) == {("rare-value", odd.name)}
    assert yaml.safe_load((tmp_path / "labels.yaml").read_text())["ignore"] == [77]
    assert "exclude" not in yaml.safe_load((tmp_path / "recipe.yaml").read_text())["data"]
    assert command("audit", tmp_path / "recipe.yaml").status == 0


def test_wrong_use_is_said_in_one_message_with_status_2(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ((tmp_path / "nowhere",), "nowhere"),
        ((tmp_path / "empty",), "empty"),
        ((tmp_path / "empty", "--set", "a=1"), "--set"),
    ):
        done = command("audit", *arguments)
        assert done.status == 2
        assert words in done.err
        assert "Traceback" not in done.err


def test_a_recipe_is_never_overwritten(command: Command, tmp_path: Path) -> None:
    folder = trees.write_binary(tmp_path / "data")
    (tmp_path / "recipe.yaml").write_text("mine")
    done = command("audit", folder, "--write-recipe", tmp_path / "recipe.yaml")
    assert done.status == 2
    assert (tmp_path / "recipe.yaml").read_text() == "mine"
    assert not (tmp_path / "labels.yaml").exists()


def test_the_cleaned_copy_has_no_errors_and_the_source_is_untouched(command: Command, tmp_path: Path) -> None:
    folder = trees.write_jpeg_masks(tmp_path / "data", 10)
    victim = next(path for path in sorted(folder.rglob("*.jpg")) if "mask" not in str(path.parent).lower())
    victim.write_bytes(victim.read_bytes()[:150])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert command("audit", folder, "--fix", tmp_path / "clean").status == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    status, result = audit(command, tmp_path / "clean" / "recipe.yaml")
    assert (status, errors(result)) == (0, set())
    assert (tmp_path / "clean" / "changes.csv").read_text(encoding="utf-8").count(victim.name) >= 1
    assert {Image.open(path).mode for path in (tmp_path / "clean").rglob("masks/**/*.png")} == {"P"}


@pytest.mark.skipif(not (DATA / "camvid").is_dir(), reason="the CamVid pictures are not here")
def test_camvid_as_a_bare_folder_tells_void_and_the_shared_sequence(command: Command, tmp_path: Path) -> None:
    status, result = audit(command, DATA / "camvid", "--write-recipe", tmp_path / "recipe.yaml")
    assert (status, errors(result)) == (0, set())
    assert result["format"] == "list"
    assert result["labels"]["ignore"] == [11]
    assert [entry["name"] for entry in result["labels"]["classes"]][:3] == ["Sky", "Building", "Pole"]
    (shared,) = (f for f in result["findings"] if f["code"] == "shared-sequence")
    assert "0016E5" in shared["message"]
    assert "101" in shared["message"]
    assert "204" in shared["message"]
    assert set(result["counts"]) <= {"shared-sequence"}
    shares = result["splits"]["train"]["classes"]
    total = sum(c["pixels"] for c in shares.values())
    assert total + result["splits"]["train"]["ignored_pixels"] == 367 * 360 * 480
    assert shares["Road"]["pixels"] / (367 * 360 * 480) == pytest.approx(0.317, abs=5e-4)


@pytest.mark.skipif(not (DATA / "ccp").is_dir(), reason="the clothing pictures are not here")
def test_ccp_tells_the_empty_mask_and_the_classes_that_never_occur(command: Command) -> None:
    status, result = audit(command, ROOT / "recipes" / "ccp_unet.yaml", "--set", f"data.root={DATA / 'ccp'}")
    assert status == 0
    never = {f["class"] for f in result["findings"] if f["code"] == "class-missing"}
    assert never == {"bra", "clogs", "earrings", "intimate", "panties", "swimwear"}
    assert result["counts"]["class-rare"] == 13
    (empty,) = (f for f in result["findings"] if f["code"] == "empty-mask")
    assert Path(empty["file"]).name == "0536.mat"
    assert set(result["counts"]) <= {"class-missing", "class-rare", "class-only-in-val", "empty-mask"}


@pytest.mark.skipif(not (DATA / "bccd").is_dir(), reason="the blood cell pictures are not here")
def test_bccd_tells_the_empty_and_the_doubled_boxes(command: Command, tmp_path: Path) -> None:
    status, result = audit(command, DATA / "bccd", "--write-recipe", tmp_path / "recipe.yaml")
    assert (status, errors(result)) == (0, set())
    found = [(f["code"], Path(f["file"].split(":")[0]).stem) for f in result["findings"]]
    assert {stem for code, stem in found if code == "empty-box"} == {"BloodImage_00338", "BloodImage_00343"}
    assert {stem for code, stem in found if code == "duplicate-box"} == {
        f"BloodImage_{number}" for number in ("00020", "00100", "00104", "00251", "00331", "00403")
    }
    assert (result["counts"]["empty-box"], result["counts"]["duplicate-box"]) == (2, 6)
    boxes = Counter[str]()
    for split in result["splits"].values():
        boxes.update({name: entry["objects"] for name, entry in split["classes"].items()})
    assert boxes == {"RBC": 3348, "WBC": 301, "Platelets": 292}
    assert (result["splits"]["train"]["images"], result["splits"]["val"]["images"]) == (205, 87)
    # Two pictures of one field of view at different focus, which the description of the data does not mention.
    (leaked,) = (f for f in result["findings"] if f["code"] == "near-leaked-image")
    assert Path(leaked["file"]).stem == "BloodImage_00037"
    assert "BloodImage_00038" in leaked["message"]
    assert set(result["counts"]) == {"empty-box", "duplicate-box", "near-leaked-image"}


def test_convert_writes_voc_boxes_as_a_list_and_any_outlines_as_index_masks(command: Command, tmp_path: Path) -> None:
    boxes = trees.write_voc_boxes(tmp_path / "voc")
    done = command("convert", "voc-boxes", boxes, "--split", "train", "--out", tmp_path / "voc_train.txt")
    assert done.status == 0, done.err
    first = (tmp_path / "voc_train.txt").read_text().splitlines()[0].split()
    assert (len(first) - 1) % 5 == 0
    outlines = trees.write_labelme(tmp_path / "labelme")
    split = "." if (outlines / "a.json").exists() or not (outlines / "train").is_dir() else "train"
    done = command("convert", "labelme", outlines, "--split", split, "--out", tmp_path / "masks")
    assert done.status == 0, done.err
    assert (tmp_path / "masks" / "labels.yaml").is_file()
    assert all(Image.open(path).mode == "P" for path in (tmp_path / "masks").rglob("masks/**/*.png"))


def test_json_output_is_one_document_with_plain_values(command: Command, tmp_path: Path) -> None:
    done = command("audit", trees.write_binary(tmp_path / "data"), "--json")
    document = json.loads(done.out)
    assert {"findings", "splits", "inferred", "labels", "counts"} <= set(document)
    assert "NaN" not in done.out


def test_masks_saved_as_jpeg_keep_every_class(command: Command, tmp_path: Path) -> None:
    status, result = audit(command, trees.write_jpeg_masks(tmp_path / "data", 10))
    assert status == 0
    found = [entry["color"] for entry in result["labels"]["classes"]]
    for true in trees.COLORS.tolist():
        distances = [max(abs(int(c[i : i + 2], 16) - v) for i, v in zip((1, 3, 5), true, strict=True)) for c in found]
        assert min(distances) < 20
    assert len(found) == len(trees.COLORS)
