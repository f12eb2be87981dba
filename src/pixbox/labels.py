"""What the numbers and colours in a mask mean: the label map, and the only owner of "ignore".

A mask on disk holds grey values, class indices, palette indices or colours. A ``LabelMap`` turns any of them
into class indices by one table look-up and back into palettes and colours. A value that the map does not
know is never guessed at: it is an error, or becomes what ``unknown`` says.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from pixbox.errors import ConfigError, DataError, Fault

IGNORE = 255
"""Class index of pixels that count in neither loss nor metric. Every mask inside pixbox uses this one number."""

IGNORED_NAME = -1
"""What ``LabelMap.class_of`` gives for a name that counts in neither loss nor metric: no class index is negative."""

MAX_CLASSES = 65_535
"""Most classes of a label map; a mask has fewer."""

MAX_MASK_CLASSES = 254
"""Most classes of masks, which are bytes: 254 and ``IGNORE`` are taken."""

_UNKNOWN = 254
# The powers of the inverse of the root of x^4 = x + 1.
_ROBERTS = 1.2207440846057596 ** -np.arange(1.0, 4.0)
_DARKEST = 40
_PORTION = 1 << 15

Color = tuple[int, int, int]


def _read_color(value: Any) -> Color:
    if isinstance(value, str):
        digits = value.removeprefix("#")
        if len(digits) == 6 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    elif isinstance(value, list | tuple) and len(value) == 3:
        red, green, blue = value
        if all(type(part) is int and 0 <= part <= 255 for part in (red, green, blue)):
            return red, green, blue
    raise ValueError(f'a colour is "#rrggbb" or [red, green, blue] with numbers 0-255, not {value!r}')


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _read_source(value: Any) -> int | Color:
    if type(value) is int:
        if not 0 <= value <= 65535:
            raise ValueError(f"a mask value lies within 0-65535, not {value}")
        return value
    return _read_color(value)


_VALUE_SCHEMA: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 65535}
_COLOR_SCHEMA: dict[str, Any] = {"anyOf": [
    {"type": "string", "pattern": "^#?[0-9a-fA-F]{6}$"},
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}, "minItems": 3, "maxItems": 3},
]}  # fmt: skip
ColorField = Annotated[
    Color,
    BeforeValidator(_read_color),
    PlainSerializer(_hex, when_used="always"),
    WithJsonSchema(_COLOR_SCHEMA),
]
SourceField = Annotated[
    int | Color,
    BeforeValidator(_read_source),
    PlainSerializer(lambda source: source if isinstance(source, int) else _hex(source), when_used="always"),
    WithJsonSchema({"anyOf": [_VALUE_SCHEMA, *_COLOR_SCHEMA["anyOf"]]}),
]
MaskValue = Annotated[int, Field(ge=0, le=65535)]


def _add_short_forms(schema: dict[str, Any]) -> None:
    schema["properties"]["value"] = {**_VALUE_SCHEMA, "description": "Short for `values` with one entry."}
    schema["properties"]["color"] = {**_COLOR_SCHEMA, "description": "Short for `colors` with one entry."}


def _add_bare_names(schema: dict[str, Any]) -> None:
    classes = schema["properties"]["classes"]
    classes["items"] = {"anyOf": [{"type": "string", "minLength": 1}, classes["items"]]}


class LabelClass(BaseModel):
    """One class: its name and every mask value and colour that stands for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_add_short_forms)

    name: Annotated[str, Field(min_length=1, description="Name shown in reports and outputs.")]
    values: Annotated[
        tuple[MaskValue, ...], Field(description="Grey values, indices or palette indices (0-65535).")
    ] = ()
    colors: Annotated[
        tuple[ColorField, ...],
        Field(description='Colours in RGB masks, "#rrggbb" or [r, g, b]; the first is also the display colour.'),
    ] = ()
    aliases: Annotated[tuple[str, ...], Field(description="Other names that annotation files use for the class.")] = ()

    @model_validator(mode="before")
    @classmethod
    def _singular(cls, data: Any) -> Any:
        """``value`` and ``color`` may be written for one; ``values`` and ``colors`` for several."""
        if isinstance(data, str):
            return {"name": data}
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for one, many in (("value", "values"), ("color", "colors")):
            if one in data:
                if many in data:
                    raise ValueError(f'write "{one}" or "{many}", not both')
                data[many] = [data.pop(one)]
        for value in data.get("values") or ():
            if type(value) is not int:
                raise ValueError(f"a mask value is a whole number, not {value!r}")
        return data


@dataclass(frozen=True, slots=True)
class RawMask:
    """A mask as it lies on disk, before its numbers mean anything.

    Attributes:
        pixels: (H, W) uint8 or uint16 values, or (H, W, 3) uint8 RGB colours.
        palette: (P, 3) uint8 RGB, for a palette file, whose ``pixels`` are indices into it.
    """

    pixels: NDArray[Any]
    palette: NDArray[np.uint8] | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, slots=True)
class UnknownValue:
    """A value that the label map does not have: how often, and where first (row, column from 0)."""

    value: int | Color
    count: int
    row: int
    column: int

    def __str__(self) -> str:
        if isinstance(self.value, int):
            return f"value {self.value}"
        return f"colour {_hex(self.value)} {list(self.value)}"


class UnknownLabelError(DataError):
    """A mask holds values that the label map does not know."""

    def __init__(self, faults: str | Sequence[Fault], unknown: Sequence[UnknownValue] = ()) -> None:
        super().__init__(faults)
        self.unknown = tuple(unknown)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults, self.unknown)


class LabelMap(BaseModel):
    """Mask values, colours and names <-> class indices 0..N-1, in the order of ``classes``.

    Where no class names a value or a colour, value i is class i.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_add_bare_names)

    classes: Annotated[
        tuple[LabelClass, ...],
        Field(
            min_length=1,
            max_length=MAX_CLASSES,
            description="The classes; their order gives the class indices.",
        ),
    ]
    ignore: Annotated[
        tuple[SourceField, ...],
        Field(description="Mask values or colours that count in neither loss nor metric (void, borders)."),
    ] = ()
    ignore_names: Annotated[
        tuple[str, ...],
        Field(description="Class names of annotation files that count in neither loss nor metric."),
    ] = ()
    unknown: Annotated[
        str,
        Field(description="What a value becomes that is not listed: `error`, `ignore`, or the name of a class."),
    ] = "error"
    tolerance: Annotated[
        int,
        Field(ge=0, le=127, strict=True, description=(
            "Largest distance (Euclidean in RGB, absolute in grey, 0-127) at which a value still counts as the "
            "nearest listed one; for masks saved with loss (JPEG)."
        )),
    ] = 0  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _numbered(cls, data: Any) -> Any:
        """Where no class has a value or a colour, the classes are numbered from 0."""
        if isinstance(data, dict) and isinstance(data.get("classes"), list | tuple):
            classes = [{"name": item} if isinstance(item, str) else item for item in data["classes"]]
            keys = ("value", "values", "color", "colors")
            if all(isinstance(item, dict) and not any(key in item for key in keys) for item in classes):
                data = {**data, "classes": [{**item, "value": index} for index, item in enumerate(classes)]}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> LabelMap:
        owner: dict[int | Color, str] = {}
        names: set[str] = set()
        own_names = set(self.names)
        for item in self.classes:
            if item.name in names:
                raise ValueError(f'two classes are called "{item.name}"')
            names.add(item.name)
            sources: tuple[int | Color, ...] = (*item.values, *item.colors)
            for alias in item.aliases:
                if alias in names or alias in own_names:
                    raise ValueError(f'the alias "{alias}" of "{item.name}" belongs to another class')
                names.add(alias)
            for source in sources:
                if source in owner:
                    shown = source if isinstance(source, int) else _hex(source)
                    raise ValueError(f'{shown} belongs to both "{owner[source]}" and "{item.name}"')
                owner[source] = item.name
        for source in self.ignore:
            if source in owner:
                shown = source if isinstance(source, int) else _hex(source)
                raise ValueError(f'{shown} is under `ignore` and belongs to "{owner[source]}"')
        for name in self.ignore_names:
            if name in names:
                raise ValueError(f'"{name}" is under `ignore_names` and is a class')
        if self.unknown not in ("error", "ignore", *self.names):
            raise ValueError(f'unknown: "{self.unknown}" is neither `error`, `ignore` nor the name of a class')
        if not self._by_value and not self._by_color:
            without = next(item.name for item in self.classes if not item.values)
            raise ValueError(f'class "{without}" has no value, and not every class has a colour to be known by')
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    def __hash__(self) -> int:
        # Each mask asks for its tables by this; hashing all of 150 classes would take longer than many a look-up.
        return hash((len(self.classes), self.classes[0].name, self.unknown, self.tolerance))

    @property
    def colors(self) -> NDArray[np.uint8]:
        """(N, 3) uint8 RGB display colours: the first colour of each class, or one unlike all others and black."""
        return _display_colors(self).copy()

    @property
    def palette(self) -> list[int]:
        """768 numbers (256 RGB triples) for a palette PNG of class indices; unused entries, IGNORE too, are black.

        For masks, of at most ``MAX_MASK_CLASSES`` classes.
        """
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: len(self)] = _display_colors(self)
        return [int(part) for part in table.ravel()]

    def encode(self, mask: RawMask) -> NDArray[np.uint8]:
        """Class index of every pixel.

        Returns (H, W) uint8: 0..N-1, or ``IGNORE``. Palette files are read by index where the classes have
        values and by colour otherwise; a colour picture whose three channels are equal is read as grey where
        the classes have values only, and a grey one as colours where they have colours only.

        Raises:
            UnknownLabelError: values that the map does not know, with count and first position of each.
            DataError: a colour mask, but the classes have only values.
        """
        pixels = self._in_known_form(mask)
        if pixels.ndim == 3:
            classes = _look_up_colors(pixels, _color_table(self))
        elif pixels.dtype == np.uint8:
            classes = cv2.LUT(np.ascontiguousarray(pixels), _value_table(self)[:256])
        else:
            classes = np.take(_value_table(self), pixels)
        if self.unknown == "error" and bool((classes == _UNKNOWN).any()):
            unknown = _list_unknown(pixels, classes == _UNKNOWN)
            what = f"{_describe(unknown)}; the label map has {self._known_sources(pixels.ndim)}"
            hint = "Add it to the classes, list it under `ignore`, or set `unknown: ignore`."
            raise UnknownLabelError([Fault("", what, hint)], unknown)
        return classes

    def class_of(self, name: str) -> int | None:
        """Class index of a name in an annotation file, ``IGNORED_NAME``, or None if the name is not known."""
        known = _name_table(self)
        index = known.get(name)
        if index is None and self.unknown != "error":
            return known.get(self.unknown, IGNORED_NAME)
        return index

    @property
    def outside(self) -> int:
        """Class index of pixels that no object covers: the class of value 0, or ``IGNORE`` if no class has it."""
        return next((index for index, item in enumerate(self.classes) if 0 in item.values), IGNORE)

    def colorize(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) uint8 class indices -> (H, W, 3) uint8 RGB; ``IGNORE`` is black."""
        table = np.array(self.palette, dtype=np.uint8).reshape(1, 256, 3)
        # Ten times as fast as indexing the table by the classes.
        colored: NDArray[np.uint8] = cv2.LUT(cv2.cvtColor(np.ascontiguousarray(classes), cv2.COLOR_GRAY2RGB), table)
        return colored

    def one_hot(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) class indices -> (H, W, N) uint8 with a one at the class; ``IGNORE`` is all zero.

        ``one_hot(c).reshape(-1, N)`` gives the (H*W, N) form.
        """
        table = np.zeros((256, len(self)), dtype=np.uint8)
        table[: len(self)] = np.eye(len(self), dtype=np.uint8)
        return table[classes]

    def to_plain(self) -> dict[str, Any]:
        """Plain values that ``LabelMap.model_validate`` reads back, for YAML and checkpoints."""
        plain: dict[str, Any] = {"classes": []}
        for item in self.classes:
            entry: dict[str, Any] = {"name": item.name}
            if item.values:
                entry |= {"value": item.values[0]} if len(item.values) == 1 else {"values": list(item.values)}
            if item.colors:
                written = [_hex(color) for color in item.colors]
                entry |= {"color": written[0]} if len(written) == 1 else {"colors": written}
            if item.aliases:
                entry["aliases"] = list(item.aliases)
            plain["classes"].append(entry)
        if self.ignore:
            plain["ignore"] = [source if isinstance(source, int) else _hex(source) for source in self.ignore]
        if self.ignore_names:
            plain["ignore_names"] = list(self.ignore_names)
        if self.unknown != "error":
            plain["unknown"] = self.unknown
        if self.tolerance:
            plain["tolerance"] = self.tolerance
        return plain

    @property
    def _by_value(self) -> bool:
        return all(item.values for item in self.classes)

    @property
    def _by_color(self) -> bool:
        return all(item.colors for item in self.classes)

    def _in_known_form(self, mask: RawMask) -> NDArray[Any]:
        pixels: NDArray[Any] = mask.pixels
        if pixels.ndim == 2:
            if self._by_value:
                return pixels
            if pixels.dtype != np.uint8:
                raise DataError("the mask has 16-bit values, but the label map has colours only",
                                hint="Give each class a `value` in the label map.")  # fmt: skip
            if mask.palette is not None:
                table = np.zeros((256, 3), dtype=np.uint8)
                table[: len(mask.palette)] = mask.palette
                return np.take(table, pixels, axis=0)
            return np.repeat(pixels[:, :, None], 3, axis=2)
        if self._by_color:
            return pixels
        if bool((pixels[:, :, 0] == pixels[:, :, 1]).all() and (pixels[:, :, 0] == pixels[:, :, 2]).all()):
            return np.ascontiguousarray(pixels[:, :, 0])
        raise DataError("the mask is a colour picture, but the label map has values only",
                        hint="Give each class a `color` in the label map.")  # fmt: skip

    def _known_sources(self, ndim: int) -> str:
        if ndim == 3:
            colors = [_hex(c) for item in self.classes for c in item.colors]
            colors += [_hex(source) for source in self.ignore if not isinstance(source, int)]
            return "colours " + ", ".join(colors[:12]) + (", ..." if len(colors) > 12 else "")
        values = {v for item in self.classes for v in item.values} | {s for s in self.ignore if isinstance(s, int)}
        return "values " + _ranges(sorted(values))

    @property
    def _default(self) -> int:
        if self.unknown == "ignore":
            return IGNORE
        return _UNKNOWN if self.unknown == "error" else self.names.index(self.unknown)


def check_mask_classes(labels: LabelMap) -> None:
    """Refuse a label map that has more classes than a mask can tell apart.

    Raises:
        ConfigError: there are more than ``MAX_MASK_CLASSES``.
    """
    if len(labels) > MAX_MASK_CLASSES:
        raise ConfigError(
            f"{len(labels):,} classes; in masks there can be {MAX_MASK_CLASSES}",
            where="data.labels",
            hint="Give several values or names to one class. Detection and classification may have "
            f"{MAX_CLASSES:,} (`task`).",
        )


# A cache of its own, not an attribute: the tables are no part of equality, pickles and copies.
@lru_cache(maxsize=4)
def _name_table(labels: LabelMap) -> dict[str, int]:
    """Names and aliases -> class index or ``IGNORED_NAME``."""
    table = dict.fromkeys(labels.ignore_names, IGNORED_NAME)
    for index, item in enumerate(labels.classes):
        table |= dict.fromkeys((item.name, *item.aliases), index)
    return table


@lru_cache(maxsize=4)
def _value_table(labels: LabelMap) -> NDArray[np.uint8]:
    """(65536,) uint8: mask value -> class index."""
    table = np.full(65536, labels._default, dtype=np.uint8)
    distance = np.full(65536, labels.tolerance + 1, dtype=np.int64)
    sources = [(value, index) for index, item in enumerate(labels.classes) for value in item.values]
    sources += [(source, IGNORE) for source in labels.ignore if isinstance(source, int)]
    for value, index in sources:
        near = np.arange(max(0, value - labels.tolerance), min(65535, value + labels.tolerance) + 1)
        closer = np.abs(near - value) < distance[near]
        table[near[closer]] = index
        distance[near[closer]] = np.abs(near - value)[closer]
    return table


@lru_cache(maxsize=4)
def _color_table(labels: LabelMap) -> NDArray[np.uint8]:
    """(2^24,) uint8: red + 256 * green + 65536 * blue -> class index."""
    table = np.full(1 << 24, labels._default, dtype=np.uint8)
    sources = [(color, index) for index, item in enumerate(labels.classes) for color in item.colors]
    sources += [(source, IGNORE) for source in labels.ignore if not isinstance(source, int)]
    if labels.tolerance == 0:
        for color, index in sources:
            table[color[0] | color[1] << 8 | color[2] << 16] = index
        return table
    cube = table.reshape(256, 256, 256)  # blue, green, red
    distance = np.full((256, 256, 256), labels.tolerance**2 + 1, dtype=np.int32)
    for color, index in sources:
        near = [np.arange(max(0, part - labels.tolerance), min(255, part + labels.tolerance) + 1) for part in color]
        red, green, blue = ((steps - part) ** 2 for steps, part in zip(near, color, strict=True))
        squared = blue[:, None, None] + green[None, :, None] + red[None, None, :]
        box = tuple(slice(steps[0], steps[-1] + 1) for steps in reversed(near))
        closer = squared < distance[box]
        cube[box][closer] = index
        distance[box][closer] = squared[closer]
    return table


def _look_up_colors(pixels: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    flat = np.ascontiguousarray(pixels).reshape(1, -1, 3)
    classes = np.empty(flat.shape[1], dtype=np.uint8)
    # In portions whose words stay in the processor's cache: twice the speed of a whole picture at once.
    for start in range(0, len(classes), _PORTION):
        # One 32-bit word a pixel: OpenCV adds the fourth byte (255) far faster than numpy can pack three.
        words = cv2.cvtColor(flat[:, start : start + _PORTION], cv2.COLOR_RGB2RGBA).view("<i4")[0, :, 0]
        words &= 0x00FFFFFF
        np.take(table, words, out=classes[start : start + _PORTION], mode="clip")
    return classes.reshape(pixels.shape[:2])


def _list_unknown(pixels: NDArray[Any], where: NDArray[np.bool_]) -> list[UnknownValue]:
    """The unknown values, most frequent first."""
    rows, columns = np.nonzero(where)
    found = pixels[rows, columns]
    if found.ndim == 2:
        found = found.astype(np.int64) @ np.array([65536, 256, 1])
    values, first, counts = np.unique(found, return_index=True, return_counts=True)
    listed = []
    for i in np.argsort(-counts, kind="stable"):
        value = int(values[i])
        source = value if pixels.ndim == 2 else (value >> 16, value >> 8 & 255, value & 255)
        listed.append(UnknownValue(source, int(counts[i]), int(rows[first[i]]), int(columns[first[i]])))
    return listed


def _describe(unknown: Sequence[UnknownValue]) -> str:
    first = unknown[0]
    text = f"{first} at row {first.row}, column {first.column} ({first.count:,} pixels)"
    if len(unknown) > 1:
        more = ", ".join(f"{item} ({item.count:,})" for item in unknown[1:5])
        text += f"; also {more}" + (f" and {len(unknown) - 5} more values" if len(unknown) > 5 else "")
    return text


def _ranges(values: Sequence[int]) -> str:
    """``[0, 1, 2, 5]`` -> ``0-2, 5``."""
    parts: list[str] = []
    start = 0
    for i in range(1, len(values) + 1):
        if i == len(values) or values[i] != values[i - 1] + 1:
            parts.append(str(values[start]) if i - start == 1 else f"{values[start]}-{values[i - 1]}")
            start = i
    return ", ".join(parts)


@lru_cache(maxsize=4)
def _display_colors(labels: LabelMap) -> NDArray[np.uint8]:
    steps = [(hue / 36, saturation, value) for value in (0.95, 0.75, 0.55) for saturation in (0.7, 1.0, 0.45)
             for hue in range(36)]  # fmt: skip
    candidates = np.array([colorsys.hsv_to_rgb(*step) for step in steps]) * 255
    shown = [item.colors[0] if item.colors else None for item in labels.classes]
    distance = np.full(len(candidates), np.inf)
    for taken in [(0, 0, 0), *(color for color in shown if color)]:
        distance = np.minimum(distance, np.abs(candidates - taken).sum(1))
    colors = np.zeros((len(shown), 3), dtype=np.uint8)
    further = _spread_colors({color for color in shown if color} | {(0, 0, 0)})
    for index, color in enumerate(shown):
        if color is None and (number := int(distance.argmax())) >= 0 and distance[number] > 0:
            distance = np.minimum(distance, np.abs(candidates - candidates[number]).sum(1))
            color = candidates[number].round()
        colors[index] = next(further) if color is None else color
    return colors


def _spread_colors(taken: Set[Color]) -> Iterator[Color]:
    """Colours none of which is given twice or is taken; the first n are spread over the cube, for any n.

    Source: the additive recurrence of Roberts 2018, The unreasonable effectiveness of quasirandom sequences.
    """
    given = set(taken)
    position = np.full(3, 0.5)
    while True:
        position = (position + _ROBERTS) % 1
        # Not the darkest: they are not told from black, which is ignored.
        color = tuple((_DARKEST + position * (256 - _DARKEST)).astype(int).tolist())
        if color not in given:
            given.add(color)
            yield color
