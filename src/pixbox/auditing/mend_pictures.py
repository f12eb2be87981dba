"""Pictures as a viewer shows them: upright, 8-bit RGB, one frame. What is that already stays byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pixbox.data.images import AS_IT_IS, ImageFacts, PixelReading, describe_image, read_image
from pixbox.drawing import as_png


@dataclass(frozen=True, slots=True)
class MendedPicture:
    """A picture for the copy.

    Attributes:
        content: the file to copy, or a new PNG file's bytes.
        size_hw: as it is read.
        exif_orientation: of the source, 1-8.
        was: what made a new file necessary, in words; empty if the file is copied.
    """

    content: Path | bytes
    size_hw: tuple[int, int]
    exif_orientation: int
    was: str = ""


def mend_picture(file: Path, reading: PixelReading) -> MendedPicture:
    """Read a picture as training does, and see whether it can be copied as it is.

    Raises:
        DataError: it cannot be read.
    """
    facts = describe_image(file)
    pixels = read_image(file, reading)
    size_hw = pixels.shape[0], pixels.shape[1]
    was = ", ".join(_oddities(facts, reading))
    if not was:
        return MendedPicture(file, size_hw, facts.exif_orientation)
    return MendedPicture(as_png(Image.fromarray(pixels)), size_hw, facts.exif_orientation, was)


def _oddities(facts: ImageFacts, reading: PixelReading) -> list[str]:
    said = []
    if reading != AS_IT_IS:
        said.append("read by `data.bands` or `data.value_range`")
    if facts.frames > 1:
        said.append(f"{facts.frames} frames")
    if facts.exif_orientation != 1:
        said.append(f"orientation mark {facts.exif_orientation}")
    if facts.bits > 8:
        said.append(f"{facts.bits} bits")
    if facts.has_alpha:
        said.append("transparency")
    if facts.kind in ("CMYK", "Lab"):
        said.append(facts.kind)
    return said
