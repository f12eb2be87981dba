"""What a result can be saved as: the one table that commands, checks and pages go by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pixbox.errors import ConfigError, did_you_mean
from pixbox.files import write_file


@dataclass(frozen=True, slots=True)
class Extra:
    """Something that can be saved beside the mask, the boxes or the class of a picture.

    Attributes:
        ending: of its file, after the stem of the picture's own; of a table, its name.
        tasks: whose results have it.
        meaning: what it holds, for people.
        probabilities: it is made of the probabilities of the pixels.
        table: one file for all pictures of a run instead of one for each.
    """

    ending: str
    tasks: tuple[str, ...]
    meaning: str
    probabilities: bool = False
    table: bool = False


_PIXELS, _BOXES, _WHOLE = ("segmentation",), ("segmentation", "detection"), ("classification",)
EXTRAS: Mapping[str, Extra] = {
    "overlay": Extra("_overlay.png", (*_BOXES, *_WHOLE), "the picture with what was found drawn on it"),
    "side_by_side": Extra("_side_by_side.png", _BOXES, "the picture, the overlay beside it and a legend below"),
    "colors": Extra("_colors.png", _PIXELS, "the classes in their colours, RGB"),
    "probabilities": Extra("_probabilities.npz", _PIXELS, "(N, H, W) float16, key `probabilities`", True),
    "confidence": Extra("_confidence.png", _PIXELS, "the highest probability, 8-bit grey, 255 is 1", True),
    "entropy": Extra("_entropy.png", _PIXELS, "the entropy as a share of its maximum ln N, 8-bit grey, 255 is 1", True),
    "polygons": Extra("_polygons.json", _PIXELS, "COCO JSON: connected regions as polygons without holes"),
    "geojson": Extra(".geojson", _BOXES, "GeoJSON: regions with holes, or boxes; on the map if the picture is"),
    "areas": Extra("areas.csv", _PIXELS, "pixels, share and square metres of each class in each picture", table=True),
    "classes": Extra("classes.csv", _WHOLE, "probability of each class for each picture", table=True),
}
"""What ``--save`` and ``save`` know, by name."""


def extras_of(task: str) -> tuple[str, ...]:
    """The names in ``EXTRAS`` that results of a task have."""
    return tuple(name for name, extra in EXTRAS.items() if task in extra.tasks)


def check_extras(names: Iterable[str], task: str | None = None, where: str = "--save") -> None:
    """Refuse what cannot be saved; without a task, what no result has.

    Raises:
        ConfigError: listing every such name.
    """
    for name in names:
        if name not in EXTRAS:
            raise ConfigError(f'"{name}" cannot be saved. {did_you_mean(name, EXTRAS)}', where=where)
    wrong = [name for name in names if task is not None and task not in EXTRAS[name].tasks]
    if wrong and task is not None:
        what = f"a result of {task} has no {', '.join(f'`{name}`' for name in wrong)}"
        raise ConfigError(what, where=where, hint=f"It has {', '.join(f'`{name}`' for name in extras_of(task))}.")


def needs_probabilities(names: Iterable[str]) -> bool:
    """Whether one of these extras is made of the probabilities of all classes."""
    return any(EXTRAS[name].probabilities for name in names)


def tables(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the extras that are one table for all pictures; the others are a file for each."""
    return tuple(name for name in dict.fromkeys(names) if EXTRAS[name].table)


def extra_file(main: Path, name: str) -> Path:
    """Where one of ``EXTRAS`` lies beside the main file of a picture: ``a/x.png`` -> ``a/x_overlay.png``."""
    return main.with_name(f"{main.stem}{EXTRAS[name].ending}")


def save_files(
    path: str | Path, name: str, suffix: str, extras: Iterable[str], task: str, content: Callable[[str], bytes | str]
) -> list[Path]:
    """Write a result and its extras, each whole or not at all; a table of all pictures is left to who has them all.

    Args:
        path: a folder, in which the result becomes ``<name><suffix>``, or a file that ends in ``suffix``.
        content: of a file, for the name of an extra or, for the result itself, "".

    Raises:
        ConfigError: the results of the task have no such extra.
    """
    names = tuple(dict.fromkeys(extras))
    check_extras(names, task, where="extras")
    main = Path(path)
    if main.suffix.lower() != suffix:
        main = main / f"{name}{suffix}"
    files = {main: content("")}
    files |= {extra_file(main, extra): content(extra) for extra in names if not EXTRAS[extra].table}
    for file, made in files.items():
        write_file(file, made)
    return list(files)
