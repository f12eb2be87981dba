"""`import pixbox`: the names that scripts may rely on."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import pixbox
from tiny import SIZE_HW, draw_scene, experiment

PUBLIC = [
    "__version__", "Audit", "Categorization", "Detections", "Experiment", "LabelMap", "Model", "PixboxError",
    "Segmentation", "audit", "compare", "convert", "demo", "evaluate", "load", "models", "predict", "read_experiment",
    "schema", "train",
]  # fmt: skip
VERBS = ["audit", "compare", "convert", "demo", "evaluate", "load", "models", "predict", "schema", "train"]


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(experiment(scenes)))
    return pixbox.train(
        folder / "tiny.yaml",
        overrides={"training.epochs": 3, "data.augment": {"flip": 0.5}, "optimizer.lr": 0.02},
        out=folder / "run",
    )


def test_the_public_surface_is_what_it_is() -> None:
    assert sorted(pixbox.__all__) == sorted(PUBLIC)
    for name in PUBLIC[1:]:
        assert getattr(pixbox, name).__module__.startswith("pixbox.")
    assert pixbox.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="trian"):
        _ = pixbox.trian  # type: ignore[attr-defined]


def test_no_module_has_the_name_of_a_public_function() -> None:
    # Importing such a module would put it in the function's place.
    assert {module.name for module in pkgutil.iter_modules(pixbox.__path__)}.isdisjoint(PUBLIC)


def test_importing_pixbox_loads_nothing_heavy() -> None:
    code = (
        "import json, sys, pixbox; from pixbox import read_experiment, LabelMap, PixboxError, train;"
        "print(json.dumps([m for m in ('torch', 'timm', 'pytorch_lightning') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == []


def test_the_example_of_the_documentation_works(trained: Any, scenes: Path, tmp_path: Path) -> None:
    assert (trained.epochs, trained.steps, trained.stopped) == (3, 12, False)
    assert trained.run.is_dir()
    model = pixbox.load(trained.run)
    assert isinstance(model, pixbox.Model)
    assert model.labels.names == ("ground", "disk", "bar")
    assert model.experiment.training.epochs == 3
    assert model.metrics["miou"] == pytest.approx(trained.best["miou"])
    result = model.predict(str(scenes / "images/s1000.png"))
    assert isinstance(result, pixbox.Segmentation)
    assert result.mask.shape == SIZE_HW
    assert result.mask.dtype == np.uint8
    assert result.overlay().shape == (*SIZE_HW, 3)
    assert result.save(tmp_path / "out") == [tmp_path / "out/s1000.png"]
    with Image.open(tmp_path / "out/s1000.png") as saved:
        np.testing.assert_array_equal(np.array(saved), result.mask)


def test_a_picture_is_predicted_alike_as_file_as_array_and_by_the_verb(
    trained: Any, scenes: Path, tmp_path: Path
) -> None:
    model = pixbox.load(trained.run / "checkpoints/best.ckpt")
    picture, _ = draw_scene(1001)
    file = scenes / "images/s1001.png"
    of_file, of_array = model.predict(file), model.predict(picture, probabilities=True)
    np.testing.assert_array_equal(of_file.mask, of_array.mask)
    np.testing.assert_array_equal(of_array.image, picture)
    assert of_file.probabilities is None
    assert of_array.probabilities is not None
    np.testing.assert_array_equal(of_array.probabilities.argmax(axis=0), of_array.mask)
    done: list[tuple[int, int]] = []
    written = pixbox.predict(trained.run, file, out=tmp_path, progress=lambda *step: done.append(step))
    assert written.files == {file: tmp_path / "s1001.png"}
    assert written.failed == ()
    assert done == [(1, 1)]
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "s1001.png")), of_file.mask)


def test_another_array_is_refused(trained: Any) -> None:
    model = pixbox.load(trained.run)
    for wrong in (np.zeros(SIZE_HW, np.uint8), np.zeros((*SIZE_HW, 3), np.float32), np.zeros((3, *SIZE_HW), np.uint8)):
        with pytest.raises(ValueError, match="a picture is"):
            model.predict(wrong)


def test_evaluating_returns_what_it_writes(trained: Any, tmp_path: Path) -> None:
    found = pixbox.evaluate(trained.run, split="train", out=tmp_path)
    assert found.metrics == json.loads((tmp_path / "metrics.json").read_text())
    assert found.metrics["images"] == 8
    assert found.report.is_file()
    best = pixbox.evaluate(trained.run).metrics
    assert best["miou"] == pytest.approx(trained.best["miou"], abs=1e-6)
    assert (trained.run / "evaluation/val/metrics.json").is_file()


def test_an_experiment_made_in_python_trains_as_its_file_does(
    trained: Any, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scenes.parent)
    plain = experiment(Path(scenes.name), optimizer__lr=0.02, data__augment={"flip": 0.5})
    made = pixbox.Experiment.model_validate(plain)
    run = pixbox.train(made, overrides={"training.epochs": 3}, out=tmp_path / "run")
    assert run.best == trained.best
    # What was relative when it was trained is found from anywhere.
    monkeypatch.chdir(tmp_path)
    assert pixbox.evaluate("run").metrics["images"] == 5


def test_faults_are_pixbox_errors(trained: Any, scenes: Path, tmp_path: Path) -> None:
    refused: list[Callable[[], Any]] = [
        lambda: pixbox.train(tmp_path / "none.yaml"),
        lambda: pixbox.train(trained.run),
        lambda: pixbox.train(tmp_path, resume=True),
        lambda: pixbox.train(trained.run / "config.yaml", overrides={"training.epoch": 3}),
        lambda: pixbox.load(tmp_path),
        lambda: pixbox.evaluate(trained.run, split="vall"),
        lambda: pixbox.evaluate(trained.run, split="test"),
        lambda: pixbox.predict(trained.run, scenes / "none.png", out=tmp_path),
        lambda: pixbox.predict(trained.run, scenes, out=tmp_path, save=["masks"]),
    ]
    for refuse in refused:
        with pytest.raises(pixbox.PixboxError) as error:
            refuse()
        assert error.value.faults[0].where


@pytest.mark.parametrize("taken", ["taken", "taken/inner"])
def test_results_that_could_not_be_written_are_refused_before_the_work(
    trained: Any, scenes: Path, tmp_path: Path, taken: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    done: list[int] = []
    for work in (
        lambda: pixbox.evaluate(trained.run, out=tmp_path / taken, progress=lambda one, of: done.append(one)),
        lambda: pixbox.predict(tmp_path / "no run yet", scenes, out=tmp_path / taken),
        lambda: pixbox.compare(tmp_path / "no run yet", trained.run, html=tmp_path / taken / "page.html"),
    ):
        with pytest.raises(pixbox.PixboxError, match="is no folder") as error:
            work()
        assert error.value.faults[0].where == str(tmp_path / "taken")
    assert not done


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_rights_is_refused_before_the_work(trained: Any, scenes: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(pixbox.PixboxError, match="may not be written to"):
        pixbox.predict(trained.run, scenes, out=tmp_path / "out")


def test_verbs_stay_functions_after_use(trained: Any) -> None:
    from pixbox import api

    pixbox.evaluate(trained.run)
    pixbox.models()
    pixbox.schema()
    for name in VERBS:
        assert getattr(pixbox, name) is getattr(api, name)
