from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixbox.config import Experiment, Interval, json_schema, read_experiment
from pixbox.errors import ConfigError

Write = Callable[..., Path]

MINIMAL = "name: x\ndata: {root: photos}\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "e.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults_of(path: Path, overrides: dict[str, Any] | None = None) -> dict[str, str]:
    """What is wrong, by the name of the setting; each with its place in front, without the folder."""
    with pytest.raises(ConfigError) as caught:
        read_experiment(path, overrides)
    places = [fault.where.removeprefix(f"{path.parent}/") for fault in caught.value.faults]
    found = {}
    for place, fault in zip(places, caught.value.faults, strict=True):
        name, _, what = fault.what.partition(": ")
        assert name not in found, "two faults of one setting"
        found[name] = f"{place}: {what}"
    return found


def test_minimal_file_gets_the_documented_defaults(write: Write) -> None:
    experiment = read_experiment(write(MINIMAL))
    augment = experiment.data.augment
    ranges = {"scale": (1.0, 1.0), "crop_area": (1.0, 1.0), "crop_ratio": (0.75, 4 / 3)}
    assert {name: getattr(augment, name) for name in ranges} == ranges
    assert {getattr(augment, name) for name in type(augment).model_fields if name not in ranges} == {0.0}
    assert experiment.schedule.warmup_steps == 0
    assert (experiment.training.ema, experiment.training.patience) == (0.0, 0)
    assert experiment.optimizer.encoder_lr_factor == 1.0


def test_every_fault_is_reported_at_once_with_its_line(write: Write) -> None:
    write("classes:\n  - {name: a, colr: '#000000'}\n  - {name: b,\n     color: '#00000'}\n", "l.yaml")
    path = write(
        """\
name: x y
data:
  root: d
  labels: l.yaml
  workers: many
  size: ["360", true]
  augment: {scale: [2, 1]}
loss: {class_weights: [1, -2]}
training:
  devices: -1
  evaluate_every: 5 stps
  monitr: off
  epochs: on
optimizer: {lr: off, name: adamm, betas: [0.9], weight_decay: yes, momentum: true}
modl: {}
"""
    )
    found = faults_of(path, {"data.labels.tolerance": "x", "schedule.nam": "poly", "training.seed": 1.5})
    assert found == {
        "data.labels.classes.0.colr": 'l.yaml:2: unknown setting. Did you mean "color"?',
        "data.labels.classes.1.color": 'l.yaml:4: a colour is "#rrggbb" or [red, green, blue] with numbers 0-255, '
        "not '#00000'",
        "data.labels.tolerance": "--set data.labels.tolerance=x: input should be a valid integer (found 'x')",
        "name": "e.yaml:1: string should match pattern '^[A-Za-z0-9._-]+(\\{time\\}[A-Za-z0-9._-]*)?$' (found 'x y')",
        "data.workers": "e.yaml:5: input should be a valid integer, or 'auto' (found 'many')",
        "data.size.0": "e.yaml:6: input should be a valid integer (found '360')",
        "data.size.1": "e.yaml:6: input should be a valid integer (found True)",
        "data.augment.scale": "e.yaml:7: the range [2.0, 1.0] must be positive and ascending",
        "loss.class_weights.1": "e.yaml:8: input should be greater than or equal to 0 (found -2)",
        "training.devices": "e.yaml:10: input should be greater than or equal to 1, or 'auto' (found -1)",
        "training.evaluate_every": 'e.yaml:11: write a number of epochs (5) or of steps ("500 steps")',
        "training.monitr": 'e.yaml:12: unknown setting. Did you mean "monitor"?',
        "training.epochs": "e.yaml:13: input should be a valid integer (found 'on')",
        "training.seed": "--set training.seed=1.5: input should be a valid integer (found 1.5)",
        "optimizer.lr": "e.yaml:14: input should be a valid number (found 'off')",
        "optimizer.name": "e.yaml:14: 'adamm' is not known. Did you mean \"adam\"?",
        "optimizer.betas.1": "e.yaml:14: this setting is required",
        "optimizer.weight_decay": "e.yaml:14: input should be a valid number (found 'yes')",
        "optimizer.momentum": "e.yaml:14: input should be a valid number (found True)",
        "schedule.nam": '--set schedule.nam=poly: unknown setting. Did you mean "name"?',
        "modl": 'e.yaml:15: unknown setting. Did you mean "model"?',
    }


def test_missing_settings_and_sections_are_named(write: Write) -> None:
    assert faults_of(write("task: segmentation\n")) == {
        "name": "e.yaml:1: this setting is required",
        "data": "e.yaml:1: this setting is required",
    }
    found = faults_of(write("name: x\ndata:\n  root: r\n  train:\n    images: photos\n"))
    assert found == {"data.train.masks": "e.yaml:4: this setting is required"}


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("training.epochs", True), ("training.epochs", "3"), ("training.epochs", 2.5), ("training.epochs", 0),
        ("optimizer.lr", True), ("optimizer.lr", "0.1"), ("optimizer.lr", 0), ("optimizer.lr", float("inf")),
        ("optimizer.lr", float("nan")), ("data.augment.flip", 1.5), ("data.augment.flip", False),
        ("data.augment.scale", [1.0]), ("data.augment.scale", [0, 1]), ("data.augment.scale", [1, 2, 3]),
        ("model.freeze_bn", 1), ("model.freeze_bn", "on"), ("model.encoder", 34), ("data.train", 5),
        ("data.train", ["a"]), ("data.labels", 5), ("data.size", 512), ("data.size", [0, 5]), ("name", 5),
        ("name", "a/b"), ("name", "x_{date}"), ("data.exclude", "a"), ("training.evaluate_every", 0),
        ("training.evaluate_every", True), ("training.evaluate_every", "0 steps"), ("data.val_fraction", 1),
        ("training.precision", 64), ("training", None), ("training", []), ("training.seed", -1),
        ("training.monitor", "max miu"), ("training.monitor", "miou"), ("training.monitor", False),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_at_their_place(write: Write, key: str, wrong: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        read_experiment(write(MINIMAL), {key: wrong})
    (fault,) = caught.value.faults
    assert fault.where == f"--set {key}={wrong}"
    assert key.rpartition(".")[0] in fault.what


def test_whole_numbers_serve_as_numbers_and_off_stays_text(write: Write) -> None:
    experiment = read_experiment(write(MINIMAL + "optimizer: {lr: 1}\ntraining: {monitor: off, precision: 16}\n"))
    assert (experiment.optimizer.lr, type(experiment.optimizer.lr)) == (1.0, float)
    assert experiment.training.monitor == "off"
    assert experiment.training.precision == "16"
    assert read_experiment(write(MINIMAL + "optimizer: {lr: 1e-3}\n")).optimizer.lr == 0.001


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("data: {root: r, val: v.txt, val_fraction: 0.1}", "val_fraction"),
        ("data: {root: r, fit: pad, base_size: 400}", "base_size"),
        ("data: {root: r}\nschedule: {name: step}", "milestones"),
        ("data: {root: r}\nschedule: {name: step, every: 3, milestones: [4]}", "milestones"),
        ("data: {root: r}\ntraining: {clip_norm: 1, clip_value: 1}", "clip_value"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(write: Write, text: str, key: str) -> None:
    (what,) = faults_of(write(f"name: x\n{text}\n")).values()
    assert key in what


@pytest.mark.parametrize(
    ("written", "interval", "steps"),
    [(3, Interval(3), 30), ("2 epochs", Interval(2), 20), ("1 epoch", Interval(1), 10),
     ("500 steps", Interval(500, "steps"), 500), ("1_000 steps", Interval(1000, "steps"), 1000)],
)  # fmt: skip
def test_intervals_are_epochs_or_steps(write: Write, written: Any, interval: Interval, steps: int) -> None:
    experiment = read_experiment(write(MINIMAL), {"training.evaluate_every": written})
    assert experiment.training.evaluate_every == interval
    assert interval.in_steps(10) == steps


# Paths.


def test_paths_in_the_file_are_relative_to_it_and_overrides_to_the_current_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write("classes: [a]\n", "recipes/l.yaml")
    write("classes: [b]\n", "here/l.yaml")
    path = write(
        "name: x\ndata: {root: ../photos, labels: l.yaml, train: t.txt, cache_dir: kept}\nmodel: {weights: w.pt}\n",
        "recipes/e.yaml",
    )
    experiment = read_experiment(Path("../recipes/e.yaml"))
    assert experiment.data.root == str(tmp_path / "photos")
    assert experiment.data.cache_dir == str(tmp_path / "recipes" / "kept")
    assert experiment.model.weights == str(tmp_path / "recipes" / "w.pt")
    assert experiment.data.train == "t.txt"
    assert not isinstance(experiment.data.labels, str | None)
    assert experiment.data.labels.names == ("a",)
    given = {"data.root": "photos", "data.labels": "l.yaml", "model.weights": "w.pt", "data.cache_dir": "kept"}
    experiment = read_experiment(path, given)
    assert experiment.data.root == str(tmp_path / "here" / "photos")
    assert experiment.data.cache_dir == str(tmp_path / "here" / "kept")
    assert experiment.model.weights == str(tmp_path / "here" / "w.pt")
    assert not isinstance(experiment.data.labels, str | None)
    assert experiment.data.labels.names == ("b",)


def test_home_and_absolute_paths_are_understood(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    path = write(f"name: x\ndata: {{root: ~/photos, cache_dir: {tmp_path / 'c'}}}\n", "recipes/e.yaml")
    experiment = read_experiment(path)
    assert experiment.data.root == str(tmp_path / "home" / "photos")
    assert experiment.data.cache_dir == str(tmp_path / "c")


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_weights_that_are_no_file_stay_as_written(write: Write, weights: str) -> None:
    path = write(MINIMAL + f"model: {{weights: {weights}}}\n")
    assert read_experiment(path).model.weights == weights
    assert read_experiment(write(MINIMAL), {"model.weights": weights}).model.weights == weights


# Label files.


def test_overrides_reach_into_a_label_file(write: Write) -> None:
    write("classes: [a, b]\n", "l.yaml")
    path = write("name: x\ndata: {root: r, labels: l.yaml}\n")
    labels = read_experiment(path, {"data.labels.unknown": "ignore"}).data.labels
    assert not isinstance(labels, str | None)
    assert (labels.names, labels.unknown) == (("a", "b"), "ignore")
    (what,) = faults_of(path, {"data.labels.unknown": "c"}).values()
    assert '"c" is neither' in what


def test_missing_and_faulty_label_files_are_reported_with_the_other_faults(write: Write) -> None:
    write("classes: [a]\nignore: [0]\n", "first.yaml")
    path = write(
        "name: x\ndata: {root: r, labels: nowhere.yaml}\n"
        "training: {epochs: 0}\nfirst_stage: {labels: first.yaml, epochs: 1}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_experiment(path, {"data.labels.unknown": "ignore"})
    found = [(Path(fault.where).name, fault.what) for fault in caught.value.faults]
    assert found == [
        ("nowhere.yaml", "no such file"),
        ("e.yaml:3", "training.epochs: input should be greater than or equal to 1 (found 0)"),
        ("first.yaml:1", 'first_stage.labels: 0 is under `ignore` and belongs to "a"'),
    ]
    write("classes: [a\n", "nowhere.yaml")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml:2: not valid YAML"):
        read_experiment(path)


def test_label_file_that_an_override_replaces_need_not_exist(write: Write) -> None:
    path = write("name: x\ndata: {root: r, labels: nowhere.yaml}\n")
    labels = read_experiment(path, {"data.labels": {"classes": ["z"]}}).data.labels
    assert not isinstance(labels, str | None)
    assert labels.names == ("z",)


# What is written reads back.

EXPERIMENTS: list[dict[str, Any]] = [
    {},
    {"name": "1e3", "origin": "off", "model.encoder": "007", "data.root": "/no:where #1", "data.exclude": ["*", "~"]},
    {"optimizer.lr": 1e-5, "optimizer.weight_decay": 1e20, "optimizer.betas": [0.1, 0.123456789012345]},
    {"data.train": {"images": "photos", "masks": "m", "mask_suffix": "_L"}, "data.val_fraction": 0.1},
    {"training.evaluate_every": "500 steps", "schedule.name": "step", "schedule.milestones": [3, "9 steps"]},
    {"schedule.name": "step", "schedule.every": "30 steps", "training.monitor": "off", "training.precision": 32},
    {"data.labels": {"classes": [{"name": "1e3", "value": 0}, {"name": "是", "values": [2, 3], "color": "#0a0b0c"}],
                     "ignore": [255, "#ffffff"], "unknown": "1e3", "tolerance": 3}},
    {"data.labels": {"classes": ["a", "b"]},
     "first_stage": {"labels": {"classes": [{"name": "fg", "values": [0, 1]}]}, "epochs": 2}},
    {"model.options": {"a": 1, "b": [1.5, "no", None, {"c": True}]}, "model.weights": "imagenet"},
    {"loss.class_weights": [1, 0.5, 2], "training.devices": 2, "training.accelerator": "cpu", "name": "r_{time}"},
    {"data.size": [352, 480], "data.base_size": 500, "data.augment": {"scale": [0.5, 2], "rotate": 10, "hue": 0.02}},
]  # fmt: skip


@pytest.mark.parametrize("overrides", EXPERIMENTS, ids=range(len(EXPERIMENTS)))
def test_resolved_experiment_reads_back_equal(write: Write, tmp_path: Path, overrides: dict[str, Any]) -> None:
    experiment = read_experiment(write(MINIMAL), overrides)
    saved = write(experiment.to_yaml(), "elsewhere/config.yaml")
    assert read_experiment(saved) == experiment
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment
    as_json = write(json.dumps(experiment.model_dump(mode="json"), indent="\t"), "elsewhere/config.json")
    assert read_experiment(as_json) == experiment
    assert read_experiment(saved).to_yaml() == experiment.to_yaml()


def test_every_setting_is_written_out(write: Write) -> None:
    text = read_experiment(write(MINIMAL)).to_yaml()
    for section in ("model", "loss", "optimizer", "schedule", "training", "evaluation"):
        fields = Experiment.model_fields[section].annotation
        assert all(f"  {name}:" in text for name in fields.model_fields), section  # type: ignore[union-attr]


# The schema.


def resolve(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    name = part["$ref"].removeprefix("#/$defs/")
    return {**schema["$defs"][name], **{key: value for key, value in part.items() if key != "$ref"}}


DETECTOR = "name: x\ntask: detection\ndata: {root: photos%s}\nmodel: {%s}\n"


@pytest.mark.parametrize(
    ("data", "model", "norm", "frozen"),
    [
        ("", "", "group", False),
        (", batch_size: 15", "weights: none", "group", False),
        (", batch_size: 16", "", "batch", False),  # enough pictures for statistics of one's own
        ("", "options: {encoder_norm: batch}", "batch", False),
        ("", "options: {channels: 64}", "group", False),
        ("", "weights: imagenet", "batch", True),
        ("", "weights: coco.pth", "batch", True),
        (", batch_size: 16", "weights: coco.pth", "batch", False),
        ("", "weights: coco.pth, freeze_bn: false", "batch", False),
        ("", "weights: run, options: {encoder_norm: group}", "group", False),  # nothing to freeze
        ("", "freeze_bn: true", "batch", True),  # refused where weights are loaded, with a reason
    ],
)
def test_a_detector_of_small_batches_has_group_norm_or_frozen_batch_norm(
    write: Write, data: str, model: str, norm: str, frozen: bool
) -> None:
    experiment = read_experiment(write(DETECTOR % (data, model)))
    assert (experiment.model.options.get("encoder_norm"), experiment.model.freeze_bn) == (norm, frozen)
    assert experiment.model.options.get("channels") == (64 if "channels" in model else None)
    assert read_experiment(write(experiment.to_yaml())) == experiment


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_only_detectors_are_normalised_otherwise_in_small_batches(write: Write, task: str) -> None:
    experiment = read_experiment(
        write(f"name: x\ntask: {task}\ndata: {{root: photos}}\nmodel: {{weights: imagenet}}\n")
    )
    assert (experiment.model.options, experiment.model.freeze_bn) == ({}, False)


def test_torchvisions_anchors_have_five_levels(write: Write) -> None:
    text = DETECTOR % ("", "") + "detection: {anchors: torchvision%s}\n"
    assert read_experiment(write(text % "")).detection.levels == 5
    with pytest.raises(ConfigError, match="`anchors: torchvision` has 5 levels, not 4"):
        read_experiment(write(text % ", levels: 4"))


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("loss.name", "dice"),
        ("loss.class_weights", "balanced"),
        ("training.monitor", "max miou"),
        ("detection.anchors", "torchvision"),
        ("detection.negative_iou", 0.9),
        ("data.base_size", 100),
    ],
)
def test_a_setting_that_does_not_fit_the_others_is_named_where_it_was_written(
    write: Write, key: str, wrong: Any
) -> None:
    path = write("""\
name: x
task: detection
data: {root: photos, fit: pad}
detection: {levels: 4}
""")
    with pytest.raises(ConfigError) as caught:
        read_experiment(path, {key: wrong})
    (fault,) = caught.value.faults
    assert fault.where == f"--set {key}={wrong}"


@pytest.mark.parametrize("given", ["10", 10, "2 gigabytes", "GB", ""])
def test_an_amount_of_memory_has_a_unit_and_the_fault_says_so(write: Write, given: Any) -> None:
    told = faults_of(write(MINIMAL), {"evaluation.max_memory": given})["evaluation.max_memory"]
    assert told.endswith(f'"{given}" is no amount of memory. Write a number and its unit: "2GB", "500 MB"')


def test_schema_describes_every_setting() -> None:
    schema = json_schema()
    sections = {name: part for name, part in schema["$defs"].items() if part["type"] == "object"}
    assert {"DataConfig", "AugmentConfig", "LabelMap", "LabelClass", "FolderPair", "FirstStage"} <= set(sections)
    for name, section in {**sections, "Experiment": schema}.items():
        assert section["additionalProperties"] is False, name
        assert section["description"], name
        for key, part in section["properties"].items():
            assert len(resolve(schema, part).get("description", "")) > 5, f"{name}.{key} says not what it means"


def test_schema_refers_only_to_what_it_holds_and_asks_for_the_required() -> None:
    schema = json_schema()
    text = json.dumps(schema)
    for name in schema["$defs"]:
        assert f'"#/$defs/{name}"' in text, f"{name} is never used"
    for reference in set(text.split('"#/$defs/')[1:]):
        assert reference.split('"')[0] in schema["$defs"]
    assert schema["required"] == ["name", "data"]
    assert schema["$defs"]["DataConfig"]["required"] == ["root"]


def test_schema_accepts_what_the_reader_accepts() -> None:
    schema = json_schema()
    every = schema["$defs"]["ScheduleConfig"]["properties"]["every"]["anyOf"]
    assert {"type": "integer", "minimum": 1} in [form for part in every for form in part.get("anyOf", [part])]
    label_class = schema["$defs"]["LabelClass"]["properties"]
    assert {"name", "value", "values", "color", "colors", "aliases"} == set(label_class)
    forms = schema["$defs"]["LabelMap"]["properties"]["classes"]["items"]["anyOf"]
    assert {"type": "string", "minLength": 1} in forms
    assert 32 in schema["$defs"]["TrainingConfig"]["properties"]["precision"]["enum"]
