"""Makes docs/configuration.md from the schema: ``python docs/make_configuration.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixbox.config import json_schema

PAGE = Path(__file__).with_name("configuration.md")

INTRODUCTION = """\
# Every setting

<!-- Made by docs/make_configuration.py from the fields in src/pixbox/config.py and labels.py. Edit those. -->

A configuration is a YAML or JSON file. Only `name`, `data.root` and, for formats without a label map of their own,
`data.labels` must be written; everything else has a default. Any setting can be given on the command line instead, in
YAML, as often as needed: `--set optimizer.lr=3e-4 --set training.epochs=80`. The run folder keeps the complete result
as `config.yaml`. `pixbox schema` prints the JSON schema, with which editors complete and check.

- **Paths.** `data.root`, `data.labels`, `data.cache_dir`, `first_stage.labels` and a file in `model.weights` are
  relative to the configuration file, or to the current folder where `--set` gives them. `data.train`, `data.val` and
  `data.test` are relative to `data.root`.
- **YAML.** Only `true` and `false` are truth values: `no`, `on` and `off` are text. `1e-3` is a number. A key that is
  written twice is an error. So is an unknown key; the message names the nearest known one.
- **Lengths of training** (`training.evaluate_every`, `schedule.every`, `schedule.milestones`) are epochs (`5`) or
  optimizer steps (`"500 steps"`).
"""


@dataclass
class Section:
    """A table of the page: a mapping that may be written at each of ``paths``."""

    schema: Mapping[str, Any]
    defaults: Mapping[str, Any]
    paths: list[str] = field(default_factory=list)


def render() -> str:
    """The whole page."""
    schema = json_schema()
    sections = {"": Section(schema, {})}
    _collect("", "", schema["$defs"], sections)
    return "\n".join([INTRODUCTION, *(_table(section, sections) for section in sections.values())])


def _collect(name: str, path: str, definitions: Mapping[str, Any], sections: dict[str, Section]) -> None:
    """Find the sections below one, in the order of their first use, and every place where each may stand."""
    for key, value in sections[name].schema["properties"].items():
        place = f"{path}.{key}" if path else key
        for inner in _referred(value):
            default = value.get("default")
            section = Section(definitions[inner], default if isinstance(default, dict) else {})
            sections.setdefault(inner, section).paths.append(place)
            _collect(inner, place, definitions, sections)


def _table(section: Section, sections: Mapping[str, Section]) -> str:
    title = ", ".join(f"`{path}`" for path in section.paths) or "The experiment"
    prefix = f"{section.paths[0]}." if len(section.paths) == 1 else ""
    lines = [f"## {title}", "", _text(section.schema["description"]), ""]
    lines += ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, value in section.schema["properties"].items():
        # Read from the section's default where there is one: it is written as a file would write it.
        default = section.defaults.get(key, value.get("default"))
        shown = "required" if key in section.schema.get("required", ()) else _default(default)
        about = value.get("description") or sections[_referred(value)[0]].schema["description"]
        lines.append(f"| `{prefix}{key}` | {_type(value)} | {shown} | {_text(about)} |")
    return "\n".join([*lines, ""])


def _forms(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The forms in which a value may be written; the absence of one is not a form."""
    alternatives = value.get("anyOf") or value.get("oneOf")
    if alternatives is None:
        return [] if value.get("type") == "null" else [value]
    return [form for alternative in alternatives for form in _forms(alternative)]


def _referred(value: Mapping[str, Any]) -> list[str]:
    """Names of the sections that a value may be, or be a list of."""
    forms = [inner for form in _forms(value) for inner in (_forms(form["items"]) if "items" in form else [form])]
    return [form["$ref"].rpartition("/")[2] for form in forms if "$ref" in form]


def _type(value: Mapping[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_form(form) for form in _forms(value)))


def _form(form: Mapping[str, Any]) -> str:
    if "$ref" in form:
        return "mapping"
    if "enum" in form or "const" in form:
        return ", ".join(dict.fromkeys(f"`{choice}`" for choice in form.get("enum", [form.get("const")])))
    if "prefixItems" in form:
        return f"[{', '.join(_type(item) for item in form['prefixItems'])}]"
    if form["type"] == "array":
        items = _type(form["items"])
        return f"list of ({items})" if " or " in items else f"list of {items}"
    kind = {"string": "text", "boolean": "`true`, `false`", "object": "mapping"}.get(form["type"], form["type"])
    if "minimum" in form and "maximum" in form:
        return f"{kind} {form['minimum']} to {form['maximum']}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
    return " ".join([kind, *(f"{sign} {form[name]}" for name, sign in signs.items() if name in form)])


def _default(default: Any) -> str:
    if isinstance(default, dict) and default:
        return "see below"
    if default is None or default == "":
        return "not set"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _text(description: str) -> str:
    """A docstring or description on one line of a table."""
    return description.replace("``", "`").replace("|", "\\|").replace("\n\n", "<br>").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
