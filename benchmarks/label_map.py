"""Colours of a mask to classes: 12 colours at 1080 x 1920, one thread.

pixbox's ``LabelMap.encode`` beside what scripts do: a loop over pixels, a comparison with each colour, ``np.unique``,
comparisons of packed colours, and a plain table of all 2^24 colours. All must give the same classes.
``LabelMap.encode`` also looks for colours that it does not know, which the others do not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Case, Comparison, Goal, require
from pixbox.labels import LabelMap, RawMask

THREADS = 1
CLASSES = 12


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    height, width = (120, 160) if options.quick else (1080, 1920)
    rng = np.random.default_rng(0)
    # Each channel from its own range: no two colours are equal.
    colors = (np.arange(CLASSES)[:, None] * (17, 11, 7) + (5, 60, 120)).astype(np.uint8)
    # Patches of 24 pixels: objects, not noise.
    patches = rng.integers(0, CLASSES, (height // 24 + 1, width // 24 + 1), dtype=np.uint8)
    truth = patches.repeat(24, axis=0).repeat(24, axis=1)[:height, :width]
    mask = colors[truth]
    labels = LabelMap.model_validate(
        {"classes": [{"name": f"class {index}", "color": color.tolist()} for index, color in enumerate(colors)]}
    )
    raw, corner = RawMask(mask), np.ascontiguousarray(mask[:60, :80])
    table = np.zeros(1 << 24, dtype=np.uint8)
    table[_packed(colors)] = np.arange(CLASSES, dtype=np.uint8)
    cases: dict[str, Callable[[], NDArray[np.uint8]]] = {
        "pixbox": lambda: labels.encode(raw),
        "a comparison with each colour": lambda: _by_comparison(mask, colors),
        "np.unique over pixels": lambda: _by_unique(mask, colors),
        "comparisons of packed colours": lambda: _by_packed_comparison(mask, colors),
        "a table of 2^24 colours, np.take": lambda: np.take(table, _packed(mask)),
    }
    loop = _by_loop(corner, colors)
    equal = all((run() == truth).all() for run in cases.values()) and bool((loop == truth[:60, :80]).all())
    megapixels = height * width / 1e6
    yield Comparison(
        f"{CLASSES} colours, {height} x {width}",
        "Mpx/s",
        [
            *(Case(name, run, megapixels) for name, run in cases.items()),
            Case("a loop over pixels (on 60 x 80)", lambda: _by_loop(corner, colors), corner[..., 0].size / 1e6),
            Case("copying the mask, nothing more", mask.copy, megapixels),
        ],
        goals=[Goal("pixbox", "a comparison with each colour", 75.0, "what most scripts do; without a compiler")],
        equal=[require(equal, "the classes of every pixel")],
    )


def _packed(colors: NDArray[np.uint8]) -> NDArray[np.int32]:
    wide = colors.astype(np.int32)
    return wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16


def _by_comparison(mask: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    classes = np.zeros(mask.shape[:2], dtype=np.uint8)
    for index, color in enumerate(colors):
        classes[(mask == color).all(axis=2)] = index
    return classes


def _by_packed_comparison(mask: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    classes, packed = np.zeros(mask.shape[:2], dtype=np.uint8), _packed(mask)
    for index, color in enumerate(_packed(colors)):
        classes[packed == color] = index
    return classes


def _by_unique(mask: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found, inverse = np.unique(mask.reshape(-1, 3), axis=0, return_inverse=True)
    known = {tuple(color): index for index, color in enumerate(colors.tolist())}
    indices = np.array([known[tuple(color)] for color in found.tolist()], dtype=np.uint8)
    return indices[inverse.reshape(mask.shape[:2])]


def _by_loop(mask: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    known = {tuple(color): index for index, color in enumerate(colors.tolist())}
    classes = np.zeros(mask.shape[:2], dtype=np.uint8)
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            classes[row, column] = known[tuple(mask[row, column].tolist())]
    return classes
