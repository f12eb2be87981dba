"""Labels drawn on pictures: pixels laid over the photograph, boxes around objects, truth beside prediction."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pixbox.labels import IGNORE, LabelMap

CORRECT, WRONG, IGNORED = (222, 226, 230), (214, 40, 57), (24, 26, 30)
"""Colours of an error map."""

_RIGHT = (46, 160, 103)
_GAP = 4
_FONTS = (
    "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "msyh.ttc", "simsun.ttc", "PingFang.ttc",
    "STHeiti Light.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf",
)  # fmt: skip
"""Of Linux, Windows and macOS; the first that is there writes class names that are not English."""


def overlay(
    image: NDArray[np.uint8], classes: NDArray[np.uint8], labels: LabelMap, opacity: float = 0.5
) -> NDArray[np.uint8]:
    """The classes' colours laid over a picture; ignored pixels show the picture itself.

    ``image`` is (H, W, 3) uint8 RGB, ``classes`` (H, W) uint8 class indices or ``IGNORE``, ``opacity`` the share of
    the colours, 0 to 1. Returns (H, W, 3) uint8.

    Raises:
        ValueError: the sizes differ.
    """
    if image.shape[:2] != classes.shape:
        raise ValueError(f"a picture of {image.shape[:2]} and a mask of {classes.shape} differ in size")
    blended: NDArray[np.uint8] = cv2.addWeighted(image, 1 - opacity, labels.colorize(classes), opacity, 0)
    np.copyto(blended, image, where=(classes == IGNORE)[:, :, None])
    return blended


def draw_boxes(
    image: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float32],
    classes: NDArray[np.int64],
    labels: LabelMap,
    scores: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Each box outlined in its class's colour on a copy of the picture, with a dark rim that shows on any ground.

    ``image`` is (H, W, 3) uint8 RGB, ``boxes_xyxy`` (N, 4) in its pixels, ``classes`` (N,) class indices. With
    ``scores``, (N,) in 0..1, the name of the class and the score stand at the box.
    Names that are not English need a font of the system; without one their letters are drawn as empty frames.
    """
    drawn = image.copy()
    width = max(1, round(max(image.shape[:2]) / 320))
    colors = labels.colors
    for box, index in zip(boxes_xyxy, classes, strict=True):
        x1, y1, x2, y2 = (round(float(corner)) for corner in box)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), (20, 20, 20), 2 * width + 1)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), [int(part) for part in colors[index]], width)
    # Names above all outlines, the surest last.
    named = [] if scores is None else sorted(zip(scores.tolist(), boxes_xyxy, classes, strict=True), key=lambda n: n[0])
    for score, box, index in named:
        _write(drawn, f"{labels.names[index]} {score:.2f}", (float(box[0]), float(box[1])), colors[index])
    return drawn


def caption(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of a picture, (H, W, 3) uint8 RGB, with a line of text in its upper left corner."""
    drawn = image.copy()
    _write(drawn, text, (0.0, 0.0), np.array([250, 250, 250], dtype=np.uint8))
    return drawn


def legend(image: NDArray[np.uint8], entries: Sequence[tuple[str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """A picture, (H, W, 3) uint8 RGB, with lines of text below it on white, each entry after a patch of its colour.

    It becomes wider where an entry is. Without entries it stays as it is.
    """
    if not entries:
        return image
    size = _text_size(image)
    line, patch, gap = round(1.7 * size), size, round(0.5 * size)
    widths = [round(_font(size, text.isascii()).getlength(text)) + patch + 3 * gap for text, _ in entries]
    width = max(image.shape[1], gap + max(widths))
    places: list[tuple[int, int]] = []
    x, y = gap, 0
    for part in widths:
        if x + part > width and x > gap:
            x, y = gap, y + line
        places.append((x, y))
        x += part
    board = Image.new("RGB", (width, y + line + gap), (255, 255, 255))
    pen = ImageDraw.Draw(board)
    for (text, color), (x, y) in zip(entries, places, strict=True):
        middle = y + (line + gap) // 2
        square = (x, middle - patch // 2, x + patch, middle - patch // 2 + patch)
        pen.rectangle(square, fill=tuple(int(part) for part in color), outline=(120, 120, 120))
        font = _font(size, text.isascii())
        # By the height of capitals, which is the same for every entry: letters below the line would lift it.
        _, top, _, bottom = font.getbbox("H" if text.isascii() else text)
        pen.text((x + patch + gap, middle - (top + bottom) / 2), text, fill=(20, 20, 20), font=font)
    padding = ((0, 0), (0, width - image.shape[1]), (0, 0))
    return np.concatenate([np.pad(image, padding, constant_values=255), np.asarray(board)])


def _text_size(image: NDArray[np.uint8]) -> int:
    """Pixels of a line of text, to be read at the size of the picture."""
    longest: int = max(image.shape[:2])
    return max(11, round(longest / 48))


def _write(image: NDArray[np.uint8], text: str, place_xy: tuple[float, float], color: NDArray[np.uint8]) -> None:
    """Text on a plate of a colour, its lower left corner at a place, but within the picture."""
    font = _font(_text_size(image), text.isascii())
    left, top, right, bottom = (round(part) for part in font.getbbox(text))
    width, height = right - left + 6, bottom - top + 6
    x = round(min(max(0.0, place_xy[0]), max(0, image.shape[1] - width)))
    y = round(max(place_xy[1], height))
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    ink = (20, 20, 20) if bright else (250, 250, 250)
    plate = Image.new("RGB", (width, height), (int(color[0]), int(color[1]), int(color[2])))
    ImageDraw.Draw(plate).text((3 - left, 3 - top), text, fill=ink, font=font)
    room = image[y - height : y, x : x + width]
    room[:] = np.asarray(plate)[: room.shape[0], : room.shape[1]]


@lru_cache(maxsize=32)
def _font(size: int, ascii_only: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of so many pixels: Pillow's own, or for other writing than English one of the system's."""
    for name in () if ascii_only else _FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def error_map(truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Where a prediction is ``CORRECT``, ``WRONG`` or ``IGNORED`` (the truth is ``IGNORE``).

    Both are (H, W) uint8 class indices. Returns (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the sizes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"a truth of {truth.shape} and a prediction of {prediction.shape} differ in size")
    verdict = (truth != prediction).astype(np.uint8)
    verdict[truth == IGNORE] = 2
    colors: NDArray[np.uint8] = np.array([CORRECT, WRONG, IGNORED], dtype=np.uint8)[verdict]
    return colors


def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one height, (H, W, 3) uint8, from left to right with 4 white pixels between them.

    Raises:
        ValueError: there is no picture, or the heights differ.
    """
    if len({picture.shape[0] for picture in pictures}) != 1:
        raise ValueError(f"pictures side by side need one height, not {[picture.shape[0] for picture in pictures]}")
    gap = np.full((pictures[0].shape[0], _GAP, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)


def draw_confusion(confusion: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.uint8]:
    """An (N, N) matrix of counts as a picture of shares, (H, W, 3) uint8; row: true class, column: what it was called.

    Right is green, wrong red, a class without truth grey; of twelve classes or fewer, percents stand in the cells.
    """
    total = confusion.sum(axis=1, keepdims=True)
    shares, hit = confusion / np.maximum(total, 1), np.eye(len(names), dtype=np.bool_)
    # The root lifts small errors above the white of none.
    shade = np.where(hit, shares, np.sqrt(shares))[:, :, None]
    cells = 255 - shade * (255 - np.where(hit[:, :, None], _RIGHT, WRONG))
    cells[total[:, 0] == 0] = 225
    numbered = len(names) <= 12
    side, size = (40, 13) if numbered else (14, 11)
    fonts = [_font(size, name.isascii()) for name in names]
    # Longer names are cut.
    margin = min(180, 12 + max(round(font.getlength(name)) for font, name in zip(fonts, names, strict=True)))
    board = Image.new("RGB", (margin + side * len(names), margin + side * len(names)), (255, 255, 255))
    board.paste(Image.fromarray(cells.astype(np.uint8).repeat(side, axis=0).repeat(side, axis=1)), (margin, margin))
    pen = ImageDraw.Draw(board)
    for number, (name, font) in enumerate(zip(names, fonts, strict=True)):
        start = margin + side * number
        plate = Image.new("RGB", (margin, side), (255, 255, 255))
        ImageDraw.Draw(plate).text((6, side / 2), name, fill=(20, 20, 20), font=font, anchor="lm")
        board.paste(plate, (0, start))
        board.paste(plate.rotate(90, expand=True), (start, 0))
        for other in range(len(names) if numbered else 0):
            place = (margin + side * (other + 0.5), start + side / 2)
            pen.text(place, f"{100 * shares[number, other]:.0f}", fill=(20, 20, 20), font=font, anchor="mm")
    return np.asarray(board)


def as_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
