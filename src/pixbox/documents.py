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

KeyPath = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)")
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
        raise ConfigError([_as_fault(model, document, dict(item)) for item in error.errors()]) from None


def _parse(text: str, where: str) -> tuple[Any, dict[KeyPath, str]]:
    origin: dict[KeyPath, str] = {}
    try:
        # A JSON file may be indented by tabs, which YAML refuses; inside JSON strings raw tabs are not allowed.
        node = yaml.compose(text.replace("\t", "  "), Loader=yaml.SafeLoader)
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
    return _scalar(node)


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.style in ("'", '"', "|", ">"):
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text.replace("_", ""), 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _as_fault(model: type[BaseModel], document: Document, item: dict[str, Any]) -> Fault:
    path = _written_path(document.value, item["loc"], item["type"] == "missing")
    name = ".".join(str(step) for step in path)
    where = document.where(path)
    kind, message = item["type"], item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "extra_forbidden":
        return Fault(where, f"{name}: unknown setting. {did_you_mean(str(path[-1]), _known_keys(model, path[:-1]))}")
    if kind == "missing":
        return Fault(where, f"{name}: this setting is required")
    if kind == "literal_error":
        return Fault(where, f'{name}: "{item["input"]}" is not known. {_near_literal(item)}')
    found = item["input"]
    shown = "a mapping" if isinstance(found, dict) else "a list" if isinstance(found, list) else repr(found)
    what, _, hint = message.partition("\n")
    return Fault(
        where,
        f"{name}: {what[:1].lower()}{what[1:]} (found {shown})"
        if kind != "value_error"
        else f"{name}: {what}"
        if name
        else what,
        hint,
    )


def _near_literal(item: dict[str, Any]) -> str:
    known = re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))
    return did_you_mean(str(item["input"]), known)


def _written_path(value: Any, loc: Sequence[str | int], missing: bool) -> KeyPath:
    """The location without the names of union members, which pydantic puts in between."""
    path: list[str | int] = []
    for position, step in enumerate(loc):
        if isinstance(value, dict) and step in value:
            value = value[str(step)]
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
    return list(model.model_fields)


def _models_within(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_within(part)]
