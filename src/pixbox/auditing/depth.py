"""How the numbers of deep and many-banded pictures in a bare folder become red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pixbox.data.images import AS_IT_IS, ImageFacts, PixelReading, describe_image, read_image
from pixbox.errors import DataError
from pixbox.sample import Record

_SAMPLE = 4
# Reflectances, percents, bytes, 10, 11, 12 and 14 bits, reflectances times 10,000, 15 and 16 bits.
_HIGHEST = (1, 10, 100, 255, 1023, 2047, 4095, 10_000, 16_383, 32_767, 65_535)
_SATURATED = 0.01


def infer_reading(records: Sequence[Record]) -> tuple[PixelReading, list[str]]:
    """The bands and the range of numbers that suit a few of the pictures, and what was decided, in sentences.

    Pictures that can be read as they are, and whose numbers fill at least a quarter of their range, stay so.
    """
    sample = [record.image for record in records[:: max(1, len(records) // _SAMPLE)]][:_SAMPLE]
    described = [(file, facts) for file in sample if (facts := _describe(file)) is not None]
    if not described:
        return AS_IT_IS, []
    decisions = []
    bands = None
    if all(facts.kind == "bands" for _, facts in described):
        count = min(facts.bands for _, facts in described)
        bands = (1, 2, 3) if count >= 3 else (1, 1, 1)
        decisions.append(
            f"the pictures have {count} bands; {', '.join(map(str, bands))} are taken for red, green and blue "
            f"(`data.bands`). Satellite products often begin with blue: [3, 2, 1]."
        )
    is_deep = all(facts.bits > 8 for _, facts in described)
    high = _suitable_high([file for file, _ in described], bands) if is_deep else None
    needs_range = any(facts.kind in ("integer", "float") for _, facts in described)
    if high is not None and (needs_range or high <= _HIGHEST[-1] // 4):
        decisions.append(f"their numbers lie within 0 and {high:,}, which become black and white (`data.value_range`).")
        return PixelReading(bands, (0.0, float(high))), decisions
    return PixelReading(bands), decisions


def _describe(file: Path) -> ImageFacts | None:
    try:
        return describe_image(file)
    except DataError:
        return None


def _suitable_high(files: Sequence[Path], bands: tuple[int, int, int] | None) -> int | None:
    """The least of the usual ends of a range under which hardly a number is cut off."""
    for high in _HIGHEST:
        try:
            read = [read_image(file, PixelReading(bands, (0.0, float(high)))) for file in files]
        except DataError:
            return None
        if float(np.mean([(image == 255).mean() for image in read])) < _SATURATED:
            return high
    return None
