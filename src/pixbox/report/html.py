"""What every page is made of: the frame with its style, tiles, bars, swatches and pictures that lie in the page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.files import write_file


def write_page(path: Path, title: str, sections: Sequence[str]) -> None:
    """Write a page of sections, whole or not at all; empty sections are left out, and ``title`` is escaped.

    Raises:
        OSError: the folder cannot be written.
    """
    style = files("pixbox.report").joinpath("style.css").read_text(encoding="utf-8")
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · pixbox</title>\n<style>\n{style}</style>\n</head>\n"
        "<body>\n<main>\n" + "\n".join(section for section in sections if section) + "\n</main>\n</body>\n</html>\n"
    )
    # A file name may hold bytes that are no UTF-8; Python carries them as lone surrogates.
    write_file(path, page.encode("utf-8", errors="replace"))


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def class_attribute(names: str) -> str:
    """`` class="..."``, or nothing where there is no name."""
    return f' class="{names}"' if names else ""


def prose(text: str) -> str:
    """A sentence of ours as HTML: what stands in backticks is code, lines stay lines."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)).replace("\n", "<br>")


Range = tuple[float, float]
"""The lower and the upper end of a 95 % interval, fractions."""


def range_text(interval: Range) -> str:
    return f"{100 * interval[0]:.1f}–{interval[1]:.1%}"


def tile(name: str, value: str, kind: str = "", interval: Range | None = None) -> str:
    """One figure of a ``<dl class="tiles">``; ``kind`` is one of the style sheet's."""
    below = f'<dd class="range" title="95% interval">{range_text(interval)}</dd>' if interval else ""
    return f"<div{class_attribute(f'tile {kind}'.strip())}><dt>{escape(name)}</dt><dd>{escape(value)}</dd>{below}</div>"


def in_millions(name: str, amount: int) -> tuple[str, str]:
    """Name and value of a tile: from ten millions on in millions, for all digits would not fit."""
    return (name, f"{amount:,}") if amount < 10_000_000 else (f"{name}, millions", f"{amount / 1e6:,.1f}")


def swatch(color: Sequence[int] | NDArray[np.uint8]) -> str:
    red, green, blue = (int(part) for part in color)
    return f'<span class="swatch" style="background:#{red:02x}{green:02x}{blue:02x}"></span>'


def legend(keys: Iterable[tuple[Sequence[int] | NDArray[np.uint8], str]]) -> str:
    """What colours mean: (RGB, name) pairs."""
    return f'<ul class="legend">{"".join(f"<li>{swatch(color)}{escape(name)}</li>" for color, name in keys)}</ul>'


def measure(share: float, text: str, interval: Range | None = None) -> str:
    """A bar that fills ``share`` (0 to 1) of its track, and its value in words; the interval as a thin line on it."""
    bar = f'<span class="bar" style="width:{100 * share:.1f}%"></span>'
    title = numbers = ""
    if interval:
        low, high = interval
        bar += f'<span class="whisker" style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></span>'
        title = f' title="95% interval: {range_text(interval)}"'
        numbers = f"<small>{range_text(interval)}</small>"
    return (
        f'<span class="measure"{title}><span class="track">{bar}</span>'
        f'<span class="value">{escape(text)}{numbers}</span></span>'
    )


def definitions(items: Mapping[str, str]) -> str:
    """Names and values in two columns; nothing where there are none."""
    if not items:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in items.items())
    return f'<dl class="settings">{rows}</dl>'


def shrunk_size(pixels: NDArray[np.uint8], longest_side: int) -> tuple[int, int] | None:
    """(width, height) at which the longer side is ``longest_side``, or None if a picture may stay as it is."""
    height, width = pixels.shape[:2]
    factor = longest_side / max(height, width)
    return None if factor >= 1 else (max(1, round(width * factor)), max(1, round(height * factor)))


def photo_uri(image: NDArray[np.uint8], longest_side: int, quality: int) -> str:
    """An (H, W, 3) uint8 RGB picture as JPEG in the page, made smaller where it is larger than ``longest_side``."""
    size = shrunk_size(image, longest_side)
    shown = image if size is None else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return data_uri(Image.fromarray(shown), "JPEG", quality=quality)


def data_uri(picture: Image.Image, kind: str, **options: Any) -> str:
    """A picture as text that ``src`` takes: ``kind`` is "JPEG" or "PNG", ``options`` are Pillow's."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
