"""Strict reading of YAML and JSON files: every value knows the line it came from.

PyYAML alone reads ``1e-3`` as text, ``no`` and ``off`` as False, and lets a second equal key win in
silence. Here numbers and truth values follow YAML 1.2 (only ``true`` and ``false`` are truth values),
and a duplicate key is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from pixbox.errors import ConfigError, Fault, did_you_mean

_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ["null", "bool", "int", "float", "str", "timestamp", "value", "merge", "seq", "map"]
}
KeyPath = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Document:
    """Plain values (dict, list, str, int, float, bool, None) and where each was written.

    Attributes:
        value: the document; a mapping for every file that pixbox reads.
        origin: key path -> ``file:line`` or ``--set ...``.
        folder: what relative paths written in the file are relative to.
    """

    value: dict[str, Any]
    origin: dict[KeyPath, str] = field(default_factory=dict)
    folder: Path = Path()

    def where(self, path: Sequence[str | int]) -> str:
        """Where the nearest written ancestor of a key path stands."""
        key = tuple(path)
        while key and key not in self.origin:
            key = key[:-1]
        return self.origin.get(key, "")


def read_document(path: Path) -> Document:
    """Read a YAML or JSON file that holds a mapping.

    Raises:
        ConfigError: missing, not UTF-8, not YAML, a duplicate key, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    except IsADirectoryError:
        raise ConfigError("is a folder, not a file", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read as UTF-8 text ({error})", where=str(path)) from None
    value, origin = _parse(text, str(path))
    if value is None:
        raise ConfigError("the file is empty", where=str(path))
    if not isinstance(value, dict):
        raise ConfigError("the file must hold a mapping of settings", where=str(path))
    return Document(value, origin, path.resolve().parent)


class _Dumper(yaml.SafeDumper):
    """Quotes text that `read_document` would take for a number (PyYAML writes ``1e3`` bare)."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if isinstance(_plain(text), str) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)


def to_yaml(value: Mapping[str, Any]) -> str:
    """Plain values as YAML text; ``read_document`` reads equal values back."""
    return yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse_value(text: str, where: str) -> Any:
    """Read one value as YAML, as ``--set key=VALUE`` does."""
    return _parse(text, where)[0]


def override(document: Document, overrides: Mapping[str, Any]) -> Document:
    """A copy of the document with dotted keys replaced; mappings on the way are created.

    ``{"optimizer.lr": 1e-3}`` sets one value; a mapping replaces the whole mapping.
    """
    value: dict[str, Any] = _copy(document.value)
    origin = dict(document.origin)
    for dotted, new in overrides.items():
        path = tuple(dotted.split("."))
        place = f"--set {dotted}={new}"
        if not all(path):
            raise ConfigError("the key is empty", where=place, hint="Write --set section.key=value.")
        parent = value
        for step in path[:-1]:
            child = parent.get(step)
            if isinstance(child, list):
                raise ConfigError(f'"{step}" is a list', where=place, hint="Override the whole list.")
            if not isinstance(child, dict):
                child = parent[step] = {}
            parent = child
        parent[path[-1]] = _copy(new)
        for known in [key for key in origin if key[: len(path)] == path]:
            del origin[known]
        origin[path] = place
    return Document(value, origin, document.folder)


def validate(model: type[Model], document: Document) -> Model:
    """Build a pydantic model; every fault is reported at once, one line each, with its place.

    Raises:
        ConfigError: with one Fault per wrong setting.
    """
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        raise ConfigError(_as_faults(model, document, [dict(item) for item in error.errors()])) from None


def _parse(text: str, where: str) -> tuple[Any, dict[KeyPath, str]]:
    origin: dict[KeyPath, str] = {}
    try:
        # JSON may be indented by tabs, which YAML refuses; inside JSON strings raw tabs are not allowed.
        is_json = text.lstrip().startswith(("{", "["))
        node = yaml.compose(text.replace("\t", " ") if is_json else text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"not valid YAML: {error.problem or error.context}", where=f"{where}{line}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where=where) from None
    return (None if node is None else _build(node, (), where, origin, ())), origin


def _build(node: yaml.Node, path: KeyPath, where: str, origin: dict[KeyPath, str], parents: tuple[int, ...]) -> Any:
    line = f"{where}:{node.start_mark.line + 1}"
    origin.setdefault(path, line)
    if node.tag not in _TAGS:
        raise ConfigError(f'the tag "{node.tag}" is not known', where=line, hint="Write the value without a tag.")
    if id(node) in parents:
        raise ConfigError("an anchor contains itself", where=line)
    inside = parents + (id(node),)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = f"{where}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError("a key must be plain text", where=key_line)
            key = key_node.value
            if key in mapping:
                raise ConfigError(
                    f'"{key}" is written twice', where=key_line, hint=f"First at {origin[path + (key,)]}."
                )
            origin[path + (key,)] = key_line
            mapping[key] = _build(value_node, path + (key,), where, origin, inside)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, path + (i,), where, origin, inside) for i, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    return _plain(node.value) if node.style is None else node.value


def _plain(text: str) -> Any:
    """What an unquoted piece of text means."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text, 16 if text.startswith("0x") else 10)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _as_faults(model: type[BaseModel], document: Document, items: Sequence[dict[str, Any]]) -> list[Fault]:
    """One fault per setting: where several forms are allowed (`auto` or a number), pydantic complains of each."""
    by_path: dict[KeyPath, list[dict[str, Any]]] = {}
    for item in items:
        by_path.setdefault(_written_path(document.value, item["loc"], item["type"] == "missing"), []).append(item)
    # A fault inside a list says more than "neither a name nor a list" about the list.
    outer = {path[:end] for path in by_path for end in range(1, len(path))}
    return [_as_fault(model, document, path, found) for path, found in by_path.items() if path not in outer]


def _as_fault(model: type[BaseModel], document: Document, path: KeyPath, items: Sequence[dict[str, Any]]) -> Fault:
    name = ".".join(str(step) for step in path)
    where = document.where(path)
    literal = next((item for item in items if item["type"] == "literal_error"), None)
    item = next((item for item in items if item is not literal), items[0])
    if item["type"] == "extra_forbidden":
        return Fault(where, f"{name}: unknown setting. {did_you_mean(str(path[-1]), _known_keys(model, path[:-1]))}")
    if item["type"] == "missing":
        return Fault(where, f"{name}: this setting is required")
    message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if item["type"] == "value_error":
        what, _, hint = message.partition("\n")
        # A section's own checks begin with the setting at fault; where that is not written, its section is.
        inner = what.split(" ", 1)[0].strip("`:").split(".")
        return Fault(document.where((*path, *inner)), f"{name}: {what}" if name else what, hint)
    found = item["input"]
    shown = "a mapping" if isinstance(found, dict) else "a list" if isinstance(found, list) else repr(found)
    if literal is item:
        return Fault(where, f"{name}: {shown} is not known. {_near_literal(literal)}")
    also = f", or {literal['ctx']['expected']}" if literal else ""
    return Fault(where, f"{name}: {message[:1].lower()}{message[1:]}{also} (found {shown})")


def _near_literal(item: dict[str, Any]) -> str:
    known = re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))
    return did_you_mean(str(item["input"]), known)


def _written_path(value: Any, loc: Sequence[str | int], missing: bool) -> KeyPath:
    """The location without the names of union members, which pydantic puts in between."""
    path: list[str | int] = []
    for position, step in enumerate(loc):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, dict) and isinstance(step, str) and step.removesuffix("s") in value:
            step = step.removesuffix("s")  # written in the singular: `color` for `colors`
            value = value[step]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        elif position < len(loc) - 1 or not missing:
            continue
        path.append(step)
    return tuple(path)


def _known_keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Field names of the section that a key path leads to."""
    for step in path:
        if isinstance(step, int):
            continue
        inner = _models_within(model.model_fields[step].annotation) if step in model.model_fields else []
        if not inner:
            return []
        model = inner[0]
    return list(model.model_json_schema()["properties"])


def _models_within(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_within(part)]
