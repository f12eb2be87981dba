"""The command line itself: help, usage, and the verbs that train nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from pixbox.config import Architecture

RECIPES = Path(__file__).parents[2] / "recipes"
VERBS = ["demo", "evaluate", "models", "predict", "schema", "train"]
IN_ONE_PROCESS = """
import contextlib, io, json, sys
from pixbox.cli import main
told = {}
for verb in [None, *sys.argv[1:]]:
    sys.argv = ["pixbox", *([verb] if verb else []), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as exit_:
            told[verb or ""] = [exit_.code or 0, out.getvalue()]
heavy = [name for name in ("torch", "timm", "cv2", "pytorch_lightning", "scipy", "rich") if name in sys.modules]
print(json.dumps([told, heavy]))
"""


def test_help_answers_for_every_verb_and_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, *VERBS], capture_output=True, text=True, check=True, timeout=120
    )
    told, heavy = json.loads(done.stdout)
    assert heavy == []
    assert {status for status, _ in told.values()} == {0}
    for verb in VERBS:
        assert re.search(rf"^\s+{verb}\s", told[""][1], re.MULTILINE)
        assert f"pixbox {verb}" in told[verb][1]
    for verb in ("train", "evaluate", "predict"):
        assert "--set KEY=VALUE" in told[verb][1]
        assert "--json" in told[verb][1]


def test_version_is_the_packages(command: Any) -> None:
    from pixbox import __version__

    assert command("--version").out == f"pixbox {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["train"],
        ["train", "c.yaml", "--epochs", "3"],
        ["predict", "run", "photos"],
        ["predict", "run", "--out", "masks"],
        ["evaluate"],
        ["evaluate", "run", "--set"],
        ["demo", "--seed", "-1"],
        ["models", "unet"],
    ],
)
def test_wrong_usage_exits_with_2_and_no_traceback(
    command: Any, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_models_lists_every_architecture_with_its_parameters(command: Any) -> None:
    listed = command("models", "--json").json
    assert [item["name"] for item in listed] == list(get_args(Architecture))
    text = command("models").out
    for item in listed:
        assert re.search(rf"^{item['name']}: .*\d{{4}}", text, re.MULTILINE), "a source with its year"
        assert item["source"] in text
        for name, option in item["options"].items():
            assert option["meaning"].strip()
            assert f"options.{name} ({option['type']}" in text


def fits(schema: Any, value: Any, root: dict[str, Any]) -> bool:
    """Whether a value has the form that a schema describes; the part of JSON Schema that editors need here."""
    if "$ref" in schema:
        return fits(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root)
    kinds = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
        "null": type(None),
    }  # fmt: skip
    for choices in (schema.get("anyOf"), schema.get("oneOf")):
        if choices is not None and not any(fits(choice, value, root) for choice in choices):
            return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema:
        is_kind = isinstance(value, kinds[schema["type"]]) and isinstance(value, bool) <= (schema["type"] == "boolean")
        if not is_kind:
            return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        inner = [fits(properties[key], item, root) for key, item in value.items() if key in properties]
        unknown = schema.get("additionalProperties", True) is False and value.keys() - properties.keys()
        return all(inner) and not unknown and all(key in value for key in schema.get("required", []))
    if isinstance(value, list):
        items = schema.get("items", {})
        return all(fits(items, item, root) for item in value) if isinstance(items, dict) else True
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, int | float):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def test_the_schema_describes_every_recipe(command: Any) -> None:
    from pixbox.documents import read_document

    schema = command("schema").json
    recipes = [read_document(path).value for path in RECIPES.glob("*.yaml")]
    recipes = [recipe for recipe in recipes if "data" in recipe]
    assert len(recipes) >= 5
    for recipe in recipes:
        assert fits(schema, recipe, schema), recipe["name"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "x"},
        {"name": "x", "data": {"root": "d", "siez": [3, 4]}},
        {"name": "x", "data": {"root": "d"}, "model": {"architecture": "unett"}},
        {"name": "x", "data": {"root": "d"}, "training": {"epochs": "many"}},
        {"name": "x", "data": {"root": "d"}, "training": {"epochs": 0}},
        {"name": "x", "data": {"root": "d", "labels": {"classes": [{"value": 3}]}}},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(command: Any, wrong: dict[str, Any], tmp_path: Path) -> None:
    schema = command("schema").json
    assert not fits(schema, wrong, schema)
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    assert command("train", tmp_path / "wrong.yaml").status == 2
