"""What the labels of a bare folder are called: what a file says, a palette that everyone knows, or what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.auditing.class_tables import ClassTable
from pixbox.auditing.result import Guess
from pixbox.auditing.tones import Census, Form, Tones, as_points, as_source, as_tone, many, nearest, show_tone
from pixbox.data.formats import voc
from pixbox.labels import Color, LabelClass

Source = int | Color

_COLOR_WORDS: Mapping[str, Color] = {
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "silver": (192, 192, 192),
    "red": (255, 0, 0), "maroon": (128, 0, 0), "orange": (255, 140, 0), "brown": (150, 90, 40),
    "yellow": (255, 255, 0), "olive": (128, 128, 0), "lime": (160, 255, 0), "green": (0, 192, 0),
    "dark_green": (0, 100, 0), "teal": (0, 128, 128), "cyan": (0, 255, 255), "sky_blue": (100, 180, 255),
    "blue": (0, 0, 255), "navy": (0, 0, 128), "purple": (128, 0, 128), "violet": (150, 90, 230),
    "magenta": (255, 0, 255), "pink": (255, 160, 190), "beige": (230, 220, 180),
}  # fmt: skip
# Distance within which colours of masks saved with loss count as those of a table.
_NEAR = 16.0
# A table speaks of these masks if it lists so much of their pixels.
_LEAST_LISTED = 0.5
_NEARLY_ALL = 0.9
_BACKGROUND = ("background", "null")
# Colours of VOC's palette are widely used for other classes; that many of its 21 are no chance.
_LEAST_VOC = 11
_VOC_BORDER = as_tone(voc.voc_color(255))
VOC = ClassTable(
    file=Path("Pascal VOC's palette"),
    classes=voc.LABELS.classes,
    ignored=(LabelClass(name="border", values=(255,), colors=(voc.voc_color(255),)),),
    numbered=True,
)
"""What masks in Pascal VOC's own colours mean, if nothing else is said."""
_BORDER_SHARE = 0.15


@dataclass(frozen=True)
class Naming:
    """Classes with the values or colours that stand for them, what is ignored, and how that was worked out."""

    classes: tuple[LabelClass, ...]
    ignore: tuple[Source, ...]
    guess: Guess
    decisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """The labels that a set of masks holds.

    Attributes:
        form: whether they are values or colours.
        pixels: tone -> how many pixels have it; every label, ascending.
        has_voc_palette: all masks are palette files with Pascal VOC's palette.
        are_apart: no mask holds both 1 and 255.
        has_color_files: there are RGB files, whose pixels would be looked up by colour.
    """

    form: Form
    pixels: Mapping[int, int]
    has_voc_palette: bool
    are_apart: bool
    has_color_files: bool


def with_values(table: ClassTable, census: Census) -> ClassTable:
    """The table with the order of its lines as values, from 0 or, behind a background, from 1, if that fits."""
    names = len(table.classes) + len(table.ignored)
    # 0 and 255 occur in any encoding and say nothing.
    telling = ~np.isin(census.tones, (0, 255))
    counted = max(1, int(census.pixels[telling].sum()))
    shares = [census.pixels[telling & (census.tones < most)].sum() / counted for most in (names, names + 1)]
    if table.numbered or max(shares) < _NEARLY_ALL:
        return table
    if shares[0] >= _NEARLY_ALL:
        return replace(table, numbered=True)
    if any(item.name.lower() in _BACKGROUND for item in table.classes):
        return table
    classes, ignored = (
        tuple(item.model_copy(update={"values": (item.values[0] + 1,)}) for item in items if item.values != (255,))
        for items in (table.classes, table.ignored)
    )
    return replace(
        table, classes=(LabelClass(name="background", values=(0,)), *classes), ignored=ignored, numbered=True
    )


def listed_tones(table: ClassTable | None, census: Census, form: Form) -> Tones:
    """The tones that a table lists, ascending; none if it does not speak of these masks."""
    nothing = np.zeros(0, dtype=np.int64)
    if table is None or (form == "values" and not table.numbered):
        return nothing
    items = (*table.classes, *table.ignored)
    listed = np.array(sorted({as_tone(s) for item in items for s in _sources(item, form)}), dtype=np.int64)
    if not all(_sources(item, form) for item in table.classes):
        return nothing
    away, _ = nearest(as_points(census.tones, form), as_points(listed, form))
    is_listed = away <= _reach(census, form)
    return listed if census.pixels[is_listed].sum() >= _LEAST_LISTED * census.pixels.sum() else nothing


def voc_tones(found: Tones, census: Census, form: Form, *, has_palette: bool) -> Tones:
    """Pascal VOC's tones, if the labels are VOC's by its palette or by so many of its colours that it is no chance."""
    listed = np.array(sorted(as_tone(s) for item in (*VOC.classes, *VOC.ignored) for s in _sources(item, form)))
    matched = len(np.intersect1d(listed, listed[_nearest_within(found, listed, _reach(census, form), form)]))
    needed = 1 if has_palette else len(listed) if form == "values" else _LEAST_VOC
    return listed if matched >= max(needed, _NEARLY_ALL * len(found)) else np.zeros(0, dtype=np.int64)


def without_near(found: Tones, listed: Tones, census: Census, form: Form) -> Tones:
    """The labels that are none of the listed ones, a shade off."""
    away, _ = nearest(as_points(found, form), as_points(listed, form))
    return found[away > _reach(census, form)]


def _nearest_within(found: Tones, listed: Tones, reach: float, form: Form) -> NDArray[np.intp]:
    away, index = nearest(as_points(found, form), as_points(listed, form))
    return index[away <= reach]


def _reach(census: Census, form: Form) -> float:
    """How far colours may be from those of a table and still be these."""
    return _NEAR if form == "colors" and census.is_lossy else 0.0


def _sources(item: LabelClass, form: Form) -> Sequence[Source]:
    return item.values if form == "values" else item.colors


def name_labels(labels: Labels, table: ClassTable | None, listed: Tones) -> Naming:
    """Names for all labels. ``listed`` are the tones of the table; none if it does not speak of these masks."""
    if table is not None and len(listed):
        return _by_table(labels, table)
    by_order = _by_order(labels, table) if table is not None and labels.form == "values" else None
    naming = by_order or _by_themselves(labels)
    if table is None or by_order:
        return naming
    unused = f"{table.file.name} was not used: what it lists does not fit the masks."
    return Naming(naming.classes, naming.ignore, naming.guess, (*naming.decisions, unused))


def _by_table(labels: Labels, table: ClassTable) -> Naming:
    """All classes of the table, also those that never occur, and labels that it does not list behind them."""
    form = labels.form
    listed = {as_tone(s) for item in (*table.classes, *table.ignored) for s in _sources(item, form)}
    others = {tone: n for tone, n in labels.pixels.items() if tone not in listed}
    void = _void_tone(labels, others)
    rest = [tone for tone in others if tone != void]
    taken = {item.name for item in table.classes}
    extra = [LabelClass(name=_unlike(_plain_name(tone, form), taken), **_source_of(tone, form)) for tone in rest]
    classes = [_for_masks(item, labels) for item in table.classes]
    voids = [item for item in table.ignored if _sources(item, form)]
    decisions = [
        f"{', '.join(show_tone(as_tone(s), form) for s in _sources(item, form))} is ignored: {table.file.name} calls it"
        f' "{item.name}".'
        for item in voids
    ]
    if void is not None:
        decisions.append(_void_decision(void, labels))
    if rest:
        decisions.append(f"{table.file.name} does not list {_show_all(rest, form)}; made classes of their own.")
    ignore = [s for item in voids for s in _sources(item, form)] + ([as_source(void, form)] if void is not None else [])
    seen = sum(tone in listed for tone in labels.pixels)
    reason = f"{seen} of the {len(labels.pixels)} labels found are among the {len(listed)} that it lists"
    value = f"{len(table.classes)} names from {table.file.name}"
    confidence = 0.97 if not rest else 0.8
    if table is VOC:
        confidence = 0.9 if seen >= _LEAST_VOC else 0.5
        decisions.append("The classes have Pascal VOC's names. Many tools write its palette for other classes:"
                         " if they are yours, rename them.")  # fmt: skip
    guess = Guess("class names", value, confidence, reason)
    return Naming((*classes, *extra), tuple(ignore), guess, tuple(decisions))


def _for_masks(item: LabelClass, labels: Labels) -> LabelClass:
    """A class with what these masks are read by: colours beside values are for display, where that is safe."""
    if labels.form == "colors":
        return item.model_copy(update={"values": ()})
    return item.model_copy(update={"colors": ()}) if labels.has_color_files else item


def _by_order(labels: Labels, table: ClassTable) -> Naming | None:
    """Names of a table without values, if there are as many as labels, or one less: then 0 is the background."""
    names = sorted((*table.classes, *table.ignored), key=lambda item: item.values[0])
    tones = list(labels.pixels)
    has_background = any(item.name.lower() in _BACKGROUND for item in names)
    if len(tones) == len(names) + 1 and tones[0] == 0 and not has_background:
        names.insert(0, LabelClass(name="background"))
    if len(tones) != len(names):
        return None
    named = [
        _for_masks(item.model_copy(update={"values": (tone,)}), labels) for item, tone in zip(names, tones, strict=True)
    ]
    voids = [item for item, name in zip(named, names, strict=True) if name in table.ignored]
    decisions = [f'Value {item.values[0]} is ignored: {table.file.name} calls it "{item.name}".' for item in voids]
    reason = f"{table.file.name} has {len(table.classes) + len(table.ignored)} lines, taken in the order of the values"
    guess = Guess("class names", f"{len(named) - len(voids)} names from {table.file.name}", 0.6, reason)
    classes = tuple(item for item in named if item not in voids)
    return Naming(classes, tuple(item.values[0] for item in voids), guess, tuple(decisions))


def _by_themselves(labels: Labels) -> Naming:
    """Background and foreground of two; else names made of the values or colours."""
    form, pixels = labels.form, dict(labels.pixels)
    decisions = []
    if form == "values" and sorted(pixels) == [0, 1, 255] and labels.are_apart:
        decisions.append("Some masks write the foreground as 1, others as 255; both are the foreground.")
        classes = [LabelClass(name="background", values=(0,)), LabelClass(name="foreground", values=(1, 255))]
        guess = Guess("class names", "background and foreground", 0.8, "no mask holds both 1 and 255")
        return Naming(tuple(classes), (), guess, tuple(decisions))
    void = _void_tone(labels, pixels)
    if void is not None:
        pixels.pop(void)
        decisions.append(_void_decision(void, labels))
    ignore = () if void is None else (as_source(void, form),)
    order = sorted(pixels, key=lambda tone: (tone != 0, -pixels[tone] if form == "colors" else tone))
    if form == "values" and len(order) == 2 and order[0] == 0:
        names = ["background", "foreground"]
        guess = Guess("class names", "background and foreground", 0.9, f"two values, 0 and {order[1]}")
    else:
        names = [_plain_name(tone, form) for tone in order]
        reason = "no file says what they are"
        if order[0] == 0 and pixels[0] == max(pixels.values()):
            names[0] = "background"
            what = "value 0" if form == "values" else "black"
            reason += f"; {what} has the most pixels, {pixels[0] / sum(pixels.values()):.0%}"
        guess = Guess("class names", f"made of the {many(form)}", 0.3, reason)
    classes = [LabelClass(name=name, **_source_of(tone, form)) for name, tone in zip(names, order, strict=True)]
    return Naming(tuple(classes), ignore, guess, tuple(decisions))


def _void_tone(labels: Labels, among: Mapping[int, int]) -> int | None:
    """The tone that stands for "count it nowhere" by custom: 255 above class indices, or VOC's border."""
    if labels.form == "values":
        others = sorted(tone for tone in labels.pixels if tone != 255)
        are_indices = len(others) > 1 and others[-1] < 255 and min(np.diff(others)) <= 4
        is_voc = labels.has_voc_palette and bool(others)
        return 255 if 255 in among and (are_indices or is_voc) else None
    share = among.get(_VOC_BORDER, 0) / max(1, sum(labels.pixels.values()))
    is_border = _VOC_BORDER in among and len(labels.pixels) > 1 and share < _BORDER_SHARE
    return _VOC_BORDER if is_border else None


def _void_decision(tone: int, labels: Labels) -> str:
    share = labels.pixels[tone] / sum(labels.pixels.values())
    return f"{show_tone(tone, labels.form).capitalize()} ({share:.1%} of the pixels) is ignored: by custom it is void."


def _plain_name(tone: int, form: Form) -> str:
    """``class_3``, or the nearest colour word and the colour: ``red_ff0000``."""
    if form == "values":
        return f"class_{tone}"
    words = _as_seen([as_tone(color) for color in _COLOR_WORDS.values()])
    nearest_word = int(np.linalg.norm(words - _as_seen([tone]), axis=1).argmin())
    return f"{list(_COLOR_WORDS)[nearest_word]}_{tone:06x}"


def _as_seen(tones: Sequence[int]) -> NDArray[np.float32]:
    """(K, 3) colours in CIE L*a*b*, where distances are those that eyes see."""
    rgb = as_points(np.array(tones), "colors").astype(np.float32)[None] / 255
    seen: NDArray[np.float32] = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    return seen


def _unlike(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _source_of(tone: int, form: Form) -> dict[str, tuple[Source, ...]]:
    return {form: (as_source(tone, form),)}


def _show_all(tones: Sequence[int], form: Form) -> str:
    shown = ", ".join(show_tone(tone, form) for tone in tones[:5])
    return shown + (f" and {len(tones) - 5} more" if len(tones) > 5 else "")
