"""Every kind of damage, one by one: what `pixbox audit` says of it, and what `pixbox train` does."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from acceptance.conftest import Command
from acceptance.damages import (
    CLEAN,
    COCO,
    DAMAGES,
    LABELME,
    TXT,
    XML,
    Damage,
    Found,
    in_coco,
    paint,
    write_configuration,
)
from auditing import trees
from pixbox.data.findings import CODES


@pytest.fixture(scope="session")
def clean_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a clean set, which is written once and must not be changed."""
    top = tmp_path_factory.mktemp("clean")

    def folder(name: str) -> Path:
        if not (top / name).exists():
            CLEAN[name].write(top / name)
        return top / name

    return folder


@pytest.fixture
def copy(clean_folders: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a clean set, to be damaged."""
    return lambda name: Path(shutil.copytree(clean_folders(name), tmp_path / "data"))


# What the audit says


def audit(command: Command, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    done = command("audit", *arguments, "--json")
    assert "Traceback" not in done.err
    assert done.out, done.err
    return done.status, done.json


def place_of(finding: Mapping[str, Any], data: Path) -> str:
    """The file of a finding below the data root, ``.`` for the root itself."""
    file = str(finding["file"])
    return "." if file == str(data) else file.replace(f"{data}/", "", 1)


def found(result: Mapping[str, Any], data: Path) -> Counter[Found]:
    return Counter((finding["code"], place_of(finding, data)) for finding in result["findings"])


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_in_a_clean_set(name: str, command: Command, copy: Callable[[str], Path]) -> None:
    data = copy(name)
    status, result = audit(command, write_configuration(data, name, {}))
    assert (status, found(result, data)) == (0, {})


@pytest.mark.parametrize("name", DAMAGES)
def test_the_audit_names_the_damage_and_nothing_else(name: str, command: Command, copy: Callable[[str], Path]) -> None:
    broken = DAMAGES[name]
    data = copy(broken.on)
    broken.make(data)
    status, result = audit(command, write_configuration(data, broken.on, broken.settings))
    assert found(result, data) == Counter((code, file) for code, file, _ in broken.expected)
    code, file, entries = broken.expected[0]
    finding = next(f for f in result["findings"] if (f["code"], place_of(f, data)) == (code, file))
    assert {key: finding.get(key) for key in entries} == entries
    assert all(words in f"{finding['message']} {finding.get('hint', '')}" for words in broken.words), finding
    assert finding["severity"] == CODES[code].severity
    assert status == (1 if broken.is_error else 0)


def test_every_code_has_its_damage() -> None:
    covered = {code for broken in DAMAGES.values() for code, _, _ in broken.expected}
    # These two are found where there is no configuration: in a bare folder, and in converting.
    assert set(CODES) - covered == {"rare-value", "left-out"}


def test_a_value_in_one_of_sixty_masks_of_a_bare_folder_is_rare(command: Command, tmp_path: Path) -> None:
    data = trees.write_binary(tmp_path / "data", 60)
    assert found(audit(command, data)[1], data) == {}
    paint(data / "masks/scene_007.png", 77, (3, 4), (3, 5))
    status, result = audit(command, data)
    assert (status, found(result, data)) == (1, {("rare-value", "masks/scene_007.png"): 1})
    (finding,) = result["findings"]
    assert (finding["id"], finding["value"], finding["count"]) == ("images/scene_007", 77, 2)


def test_an_object_that_the_other_format_cannot_hold_is_left_out_and_told(
    command: Command, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    data = copy("boxes")
    in_coco(data, iscrowd=1)
    done = command("convert", "coco", data, "--to", "yolo", "--out", tmp_path / "yolo", "--json")
    assert done.status == 0, done.err
    (finding,) = done.json["skipped"]
    assert (finding["severity"], finding["code"], place_of(finding, data)) == (
        "note", "left-out", f"{COCO}: annotation 1"
    )  # fmt: skip


def test_what_is_wrong_beyond_a_thousand_files_is_counted_and_excluded(command: Command, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(1020):
        for kind in ("images", "masks") if number < 10 else ("images",):
            (data / kind).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), number % 2).save(data / kind / f"{number}.bmp")
    status, result = audit(command, data, "--write-recipe", tmp_path / "recipe.yaml")
    assert (status, result["counts"]["missing-mask"], result["errors"]) == (1, 1010, 1010)
    assert len(yaml.safe_load((tmp_path / "recipe.yaml").read_text())["data"]["exclude"]) == 1010


# What training does


def errors_that(train: str) -> list[str]:
    """Of each clean set and code the first damage with which training does so."""
    found: dict[tuple[str, str], str] = {}
    for name, broken in DAMAGES.items():
        if broken.train == train:
            found.setdefault((broken.on, broken.expected[0][0]), name)
    return list(found.values())


def of_pixels(broken: Damage) -> bool:
    return "task" not in CLEAN[broken.on].settings


@pytest.mark.parametrize("name", errors_that("refuses"))
def test_training_refuses_the_damage_and_starts_without_it(
    name: str, command: Command, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    broken = DAMAGES[name]
    data = copy(broken.on)
    broken.make(data)
    config = write_configuration(data, broken.on, broken.settings)
    refused = command("train", config, "--out", tmp_path / "run")
    assert refused.status == 2
    assert broken.expected[0][1] in refused.err
    assert "Traceback" not in refused.err
    assert not (tmp_path / "run").exists()
    if broken.is_whole:
        return
    exclude = excluding(command, config, data)
    if of_pixels(broken):
        done = command("train", config, "--set", exclude, *ONE_STEP, "--out", tmp_path / "run")
        assert done.status == 0, done.err


ONE_STEP = ("--set", "training.max_steps=1")


def excluding(command: Command, config: Path, data: Path) -> str:
    """The override that leaves out what an audit finds wrong, after which it finds nothing wrong."""
    findings = audit(command, config)[1]["findings"]
    names = {f.get("id", place_of(f, data)) for f in findings if f["severity"] == "error"}
    override = f"data.exclude={json.dumps(sorted(names))}"
    status, result = audit(command, config, "--set", override)
    assert (status, found(result, data)) == (0, {})
    return override


@pytest.mark.parametrize("name", [name for name in errors_that("stops") if of_pixels(DAMAGES[name])])
def test_training_stops_at_a_picture_that_is_damaged_inside_and_runs_without_it(
    name: str, command: Command, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    broken = DAMAGES[name]
    data = copy(broken.on)
    broken.make(data)
    config = write_configuration(data, broken.on, broken.settings)
    stopped = command("train", config, "--out", tmp_path / "run")
    assert stopped.status == 2
    assert stopped.err.splitlines()[-2].startswith(f"Error: {data}/{broken.expected[0][1]}: ")
    assert "Traceback" not in stopped.err
    exclude = excluding(command, config, data)
    done = command("train", config, "--set", exclude, "--out", tmp_path / "without")
    assert done.status == 0, done.err


# Files that are written in another way and are right


def as_windows(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def as_old_mac(text: str) -> bytes:
    return text.replace("\n", "\r").encode()


def with_mark(text: str) -> bytes:
    return text.encode("utf-8-sig")


def as_utf_16(text: str) -> bytes:
    return text.encode("utf-16")


@pytest.mark.parametrize("write", [as_windows, as_old_mac, with_mark, as_utf_16])
@pytest.mark.parametrize(
    ("on", "file"),
    [
        ("scenes", "train.txt"), ("box-list", "train.txt"), ("yolo", TXT), ("voc-boxes", XML),
        ("voc-boxes", "ImageSets/Main/train.txt"), ("boxes", COCO), ("labelme", LABELME), ("cvat", "annotations.xml"),
        ("label-studio", "export.json"),
    ],
)  # fmt: skip
def test_files_of_other_systems_are_read(
    on: str, file: str, write: Callable[[str], bytes], command: Command, copy: Callable[[str], Path]
) -> None:
    data = copy(on)
    text = (data / file).read_text(encoding="utf-8")
    if write is as_utf_16:
        text = text.replace('encoding="utf-8"', 'encoding="utf-16"')
    (data / file).write_bytes(write(text))
    status, result = audit(command, write_configuration(data, on, {}))
    assert (status, found(result, data)) == (0, {})


@pytest.mark.parametrize("write", [as_windows, as_old_mac, with_mark])
def test_configurations_and_label_maps_of_other_systems_are_read(
    write: Callable[[str], bytes], command: Command, copy: Callable[[str], Path]
) -> None:
    data = copy("scenes")
    config = write_configuration(data, "scenes", {})
    for file in (config, data / "labels.yaml"):
        file.write_bytes(write(file.read_text(encoding="utf-8")))
    status, result = audit(command, config)
    assert (status, found(result, data)) == (0, {})


# Wrong use, odd places and odd names


@pytest.mark.parametrize("verb", ["audit", "train"])
def test_a_configuration_that_is_not_there_is_said_in_one_message(verb: str, command: Command, tmp_path: Path) -> None:
    done = command(verb, tmp_path / "nowhere.yaml")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"Error: {tmp_path}/nowhere.yaml: no such file")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("verb", ["audit", "train"])
def test_data_that_are_not_there_are_said_in_one_message(
    verb: str, command: Command, copy: Callable[[str], Path]
) -> None:
    config = write_configuration(copy("scenes"), "scenes", {"data__root": "elsewhere"})
    done = command(verb, config)
    assert (done.status, done.out) == (2, "")
    assert "elsewhere: no such folder" in done.err
    assert done.err.count("Error:") == 1


@pytest.fixture
def without_rights() -> Iterator[Callable[[Path], None]]:
    """Takes the rights to a file or folder away until the end of the test; skips it for root."""
    taken: dict[Path, int] = {}

    def take(path: Path) -> None:
        taken[path] = path.stat().st_mode
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")

    yield take
    for path, mode in taken.items():
        path.chmod(mode)


def test_a_folder_without_rights_is_said_in_one_message(
    command: Command, tmp_path: Path, without_rights: Callable[[Path], None]
) -> None:
    data = trees.write_binary(tmp_path / "data")
    without_rights(data)
    done = command("audit", data)
    assert (done.status, done.out) == (2, "")
    assert f"'{data}' is not readable" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("folder", ["val/masks", "val/images", "train/images/more"])
def test_a_folder_of_files_without_rights_is_found(
    folder: str, command: Command, copy: Callable[[str], Path], without_rights: Callable[[Path], None]
) -> None:
    data = copy("folders")
    config = write_configuration(data, "folders", {})
    (data / folder).mkdir(exist_ok=True)
    without_rights(data / folder)
    status, result = audit(command, config)
    assert (status, found(result, data)) == (1, {("unreadable-file", folder): 1})
    refused = command("train", config, "--out", data.parent / "run")
    assert refused.status == 2
    assert folder in refused.err


@pytest.mark.parametrize("file", ["images/s0003.png", "masks/s0003.png", "val.txt"])
def test_a_file_without_rights_is_unreadable(
    file: str, command: Command, copy: Callable[[str], Path], without_rights: Callable[[Path], None]
) -> None:
    data = copy("scenes")
    config = write_configuration(data, "scenes", {})
    without_rights(data / file)
    status, result = audit(command, config)
    assert (status, found(result, data)) == (1, {("unreadable-file", file): 1})
    assert "Permission denied" in result["findings"][0]["message"]
    refused = command("train", config, "--out", data.parent / "run")
    assert refused.status in ([0, 2] if file.startswith("images") else [2])
    assert refused.status == 0 or file in refused.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize(
    ("on", "file"),
    [
        ("scenes", "images/s0003.png"), ("scenes", "masks/s0003.png"), ("voc-boxes", XML), ("yolo", TXT),
        ("labelme", LABELME), ("objects", "train/scene_003/masks/00scene_003.png"),
    ],
)  # fmt: skip
def test_a_pipe_among_the_files_keeps_nobody_waiting(
    on: str, file: str, command: Command, copy: Callable[[str], Path]
) -> None:
    data = copy(on)
    config = write_configuration(data, on, {})
    (data / file).unlink()
    os.mkfifo(data / file)
    status, result = audit(command, config)
    assert (status, found(result, data)) == (1, {("unreadable-file", file): 1})
    assert "pipe" in result["findings"][0]["message"]
    bare = command("audit", data)
    assert bare.status in (0, 1)
    assert "Traceback" not in bare.err


def test_links_that_lead_in_a_circle_are_walked_once(command: Command, copy: Callable[[str], Path]) -> None:
    data = copy("folders")
    (data / "train/images/again").symlink_to(data / "train/images")
    (data / "val/images/back").symlink_to(data / "val")
    (data / "val/images/far").symlink_to("/")
    (data / "train/images/itself").symlink_to("itself")
    (data / "train/masks/itself.png").symlink_to("itself.png")
    status, result = audit(command, write_configuration(data, "folders", {}))
    assert (status, found(result, data)) == (0, {("unmatched-mask", "train/masks/itself.png"): 1})
    assert command("audit", data).status in (0, 1)


ODD_NAMES = (
    "two words", "it's \"quoted\"", "中文图片", "line\nbreak", "tab\there", "back\\slash", "semi;colon", "100%", "#1",
    "[x]", "*", "-dash", "\x07bell", os.fsdecode(b"caf\xe9"),
)  # fmt: skip


def test_files_of_any_name_are_audited_printed_and_excluded(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the masks are empty files, so that their names stand in messages, page and recipe."""
    data = trees.write_pairs(tmp_path / "data", 2 * len(ODD_NAMES))
    for number, name in enumerate(ODD_NAMES):
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            file = data / kind / f"scene_{number:03d}.{suffix}"
            file.rename(file.with_name(f"{name}.{suffix}"))
        (data / "masks" / f"{name}.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    status, result = audit(command, data, "--html", "audit.html", "--write-recipe", "recipe.yaml")
    expected = {("empty-file", f"masks/{name}.png"): 1 for name in ODD_NAMES}
    assert (status, found(result, data)) == (1, expected)
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("two words", "中文图片", "it&#x27;s &quot;quoted&quot;"))
    assert command("audit", data).status == 1
    assert command("audit", "recipe.yaml").status == 0
    tiny = ("--set", "model={architecture: unet_classic, options: {base_channels: 4}}", "--set", "data.workers=0")
    done = command("train", "recipe.yaml", *tiny, *ONE_STEP, "--set", "training.accelerator=cpu", "--out", "run")
    assert done.status == 0, done.err


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_names_that_a_terminal_cannot_show_are_printed_in_another_way(
    encoding: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = trees.write_pairs(tmp_path / "data", 6)
    names = ["中文", os.fsdecode(b"caf\xe9")]
    for number, name in enumerate(names):
        (data / f"images/scene_{number:03d}.jpg").rename(data / f"images/{name}.jpg")
        (data / f"masks/scene_{number:03d}.png").rename(data / f"masks/{name}.png")
        (data / f"masks/{name}.png").write_bytes(b"")
    for options in ((), ("--json",)):
        screen = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding=encoding, write_through=True))
            assert command("audit", data, *options).status == 1
            shown = screen.getvalue()
    assert {Path(finding["file"]).stem for finding in json.loads(shown)["findings"]} == set(names)
