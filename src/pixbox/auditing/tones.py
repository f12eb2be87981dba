"""Which numbers and colours of masks are labels, and which are traces of compression or of a smooth resize.

A *tone* is a value or a colour as one number (red * 65536 + green * 256 + blue). A label fills regions, so most of
its pixels lie among their like. What JPEG or a smooth resize makes of an edge never does, however often it occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, isfinite
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pixbox.data.mask_facts import MaskFacts
from pixbox.errors import DataError
from pixbox.labels import MAX_MASK_CLASSES, Color, RawMask

Form = Literal["values", "colors"]
Tones = NDArray[np.int64]
Points = NDArray[np.float64]

CROWDED = 64
"""A mask with more distinct tones than this is no drawing of labels as they are."""

_BUFFERED = 1 << 20
_MOST_TONES = 1 << 21
_FILES_LOOKED_AT = 32
_CANDIDATES = 1024
_CLUSTERED = 2048
_LEAST_CROWDED = 0.2
# Of the pixels of a label in the masks looked at, so many have eight neighbours like them. Noise has under a tenth
# where it is sparse, and up to a third on plateaus of JPEG's colours.
_LEAST_SOLID = 0.4
LEAST_SOLID_PIXELS = 9
# Within a flat region JPEG leaves differences of so much in a channel; more where regions are small. The first under
# which most pixels lie among their like is taken.
_RIPPLES = (10, 20, 40)
_MOSTLY = 0.7
# It leaves the mean of a region within this of the colour that was saved.
SHIFT = 16.0
_SPACING = 24.0

# To judge a mask, its most frequent tones and labels are enough.
_JUDGED = 256
_JUDGED_LABELS = 16
# The rounding of three channels puts a mixture of two colours up to 0.9 off the line between them.
_OFF_LINE = 1.5
# JPEG's coarser colours carry mixtures off it by far more.
_FAR_OFF_LINE = 48.0
_HARDLY_OFF = 4.0
_WIDE = 128.0
_LEAST_EXPLAINED = 3
_MIDDLE = 0.2
_LEAST_MIDDLE = 0.25


def tones_of(mask: RawMask, form: Form) -> Tones:
    """The tone of every pixel, (H, W) int64.

    As values: indices of palette files, the first channel of colour files. As colours: those of the palette, and
    grey values as grey colours, as ``LabelMap.encode`` reads them.
    """
    pixels = mask.pixels
    if form == "values":
        return np.asarray(pixels[:, :, 0] if pixels.ndim == 3 else pixels, dtype=np.int64)
    if pixels.ndim == 3:
        return pack(pixels)
    if mask.palette is None:
        return pixels.astype(np.int64) * 0x010101
    colors: Tones = np.zeros(256, dtype=np.int64)
    colors[: len(mask.palette)] = pack(mask.palette)
    return np.take(colors, pixels)


def pack(colors: NDArray[Any]) -> Tones:
    """Tones of (..., 3) RGB colours."""
    parts: Tones = np.asarray(colors, dtype=np.int64)
    packed: Tones = parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]
    return packed


def count_tones(facts: MaskFacts, form: Form) -> tuple[Tones, NDArray[np.int64]]:
    """The distinct tones of a mask, ascending, and how many pixels have each."""
    tones, inverse = np.unique(tones_of(facts.as_mask(), form)[0], return_inverse=True)
    return tones, np.bincount(inverse, weights=facts.counts, minlength=len(tones)).astype(np.int64)


def as_points(tones: Tones, form: Form) -> Points:
    """(K, 1) values or (K, 3) RGB colours, float64: what distances are measured between."""
    channels: tuple[Tones, ...] = (tones,) if form == "values" else (tones >> 16, tones >> 8 & 255, tones & 255)
    return np.stack(channels, axis=1).astype(np.float64)


def as_source(tone: int, form: Form) -> int | Color:
    """A tone as a label map writes it."""
    return int(tone) if form == "values" else (int(tone) >> 16, int(tone) >> 8 & 255, int(tone) & 255)


def as_tone(source: int | Color) -> int:
    return source if isinstance(source, int) else source[0] << 16 | source[1] << 8 | source[2]


def many(form: Form) -> str:
    """``values`` or ``colours``, as people read it."""
    return "values" if form == "values" else "colours"


def show_tone(tone: int, form: Form) -> str:
    """``value 7`` or ``colour #ff0000``."""
    return f"value {tone}" if form == "values" else f"colour #{tone:06x}"


@dataclass(frozen=True, eq=False)
class Census:
    """The tones of a set of masks, ascending.

    Attributes:
        tones: (K,) int64.
        pixels: (K,) int64 pixels of each in all masks.
        peaks: (K,) float64, the largest share of a mask's pixels that each has anywhere,
        peak_files: (K,) int64, the number of that mask, and
        peak_sizes: (K,) int64, how many tones that mask has.
        masks: how many were counted.
        crowded: how many of them have more than ``CROWDED`` tones.
    """

    tones: Tones
    pixels: NDArray[np.int64]
    peaks: NDArray[np.float64]
    peak_files: NDArray[np.int64]
    peak_sizes: NDArray[np.int64]
    masks: int
    crowded: int

    @property
    def is_lossy(self) -> bool:
        """Whether a fair part of the masks has far too many tones."""
        return self.crowded >= max(1, _LEAST_CROWDED * self.masks)


class Tally:
    """Takes a census mask by mask. Memory grows with the number of tones, not of masks."""

    def __init__(self) -> None:
        self._parts: list[Census] = []
        self._buffered = 0

    def add(self, tones: Tones, counts: NDArray[np.int64], file: int) -> None:
        """Count a mask, the ``file``-th; its tones are distinct."""
        size = len(tones)
        self.add_all(
            Census(
                tones, counts, counts / counts.sum(), np.full(size, file), np.full(size, size), 1, int(size > CROWDED)
            )
        )

    def add_all(self, census: Census) -> None:
        """Count the masks of a census."""
        self._parts.append(census)
        self._buffered += len(census.tones)
        if self._buffered > _BUFFERED and len(self._parts) > 1:
            self._parts = [_merge(self._parts)]
            self._buffered = 0

    def census(self) -> Census:
        return _merge(self._parts)


def _merge(parts: Sequence[Census]) -> Census:
    """One census of several: pixels are added up, and the largest share of a mask is kept."""
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Census(none, none, none.astype(np.float64), none, none, 0, 0)
    tones = np.concatenate([part.tones for part in parts])
    peaks = np.concatenate([part.peaks for part in parts])
    order = np.lexsort((-peaks, tones))
    starts = np.flatnonzero(np.diff(tones[order], prepend=-1))
    pixels = np.add.reduceat(np.concatenate([part.pixels for part in parts])[order], starts)
    first = order[starts]
    kept = np.arange(len(first))
    if len(first) > _MOST_TONES:
        # Photographs. What has the smallest share wherever it occurs is no label.
        kept = np.sort(np.argpartition(-peaks[first], _MOST_TONES)[:_MOST_TONES])
    return Census(
        tones[first][kept],
        pixels[kept],
        peaks[first][kept],
        np.concatenate([part.peak_files for part in parts])[first][kept],
        np.concatenate([part.peak_sizes for part in parts])[first][kept],
        sum(part.masks for part in parts),
        sum(part.crowded for part in parts),
    )


def find_labels(census: Census, form: Form, read: Callable[[int], RawMask], known: Tones) -> Tones:
    """The tones that fill regions, and those of ``known``, ascending.

    ``read`` gives the mask of a number; up to 32 are looked at, those in which single tones have their largest share.
    """
    if len(census.tones) <= 2:
        return np.union1d(census.tones, known)
    if form == "colors" and census.is_lossy:
        found = _find_flat_colors(_files_to_look_at(census, form, _SPACING), read, known)
    else:
        tones, solid, pixels = _look_at(_files_to_look_at(census, form, 0), form, read, 0)
        found = tones[(solid >= LEAST_SOLID_PIXELS) & (solid >= _LEAST_SOLID * pixels)]
        found = _without_shifted(found, census, form)
    found = np.union1d(found, known)
    # Thin lines alone never fill a region: the two most frequent tones are labels in any case.
    frequent = census.tones[np.argsort(-census.pixels, kind="stable")[:2]]
    return found if len(found) > 1 else np.union1d(found, frequent)


def _files_to_look_at(census: Census, form: Form, spacing: float) -> list[int]:
    """The masks in which tones that are not near one another have their largest share."""
    candidates = np.argsort(-census.peaks, kind="stable")[:_CANDIDATES]
    points = as_points(census.tones[candidates], form)
    is_open = np.ones(len(candidates), dtype=np.bool_)
    files: dict[int, None] = {}
    while is_open.any() and len(files) < _FILES_LOOKED_AT:
        next_ = int(is_open.argmax())
        files[int(census.peak_files[candidates[next_]])] = None
        is_open &= np.linalg.norm(points - points[next_], axis=1) > spacing
    return list(files)


def _look_at(
    files: Sequence[int], form: Form, read: Callable[[int], RawMask], ripple: int
) -> tuple[Tones, NDArray[np.int64], NDArray[np.int64]]:
    """The tones of these masks; how many pixels of each lie among their like, and how many there are."""
    none = np.zeros(0, dtype=np.int64)
    parts = [(none, none, none)]
    for file in files:
        try:
            tones = tones_of(read(file), form)
        except DataError:  # Gone since it was counted; the others tell enough.
            continue
        solid, flat = _is_solid(tones, form, ripple).ravel().astype(np.int64), tones.ravel()
        # Neighbours are mostly equal: sorting the runs instead of the pixels is ten times as fast.
        starts = np.flatnonzero(np.diff(flat, prepend=-1))
        parts.append(_add_up(flat[starts], np.add.reduceat(solid, starts), np.diff(starts, append=len(flat))))
    tones, solid, pixels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return _add_up(tones, solid, pixels)


def _add_up(
    tones: Tones, solid: NDArray[np.int64], pixels: NDArray[np.int64]
) -> tuple[Tones, NDArray[np.int64], NDArray[np.int64]]:
    """Each tone once, ascending, with its sums."""
    distinct, inverse = np.unique(tones, return_inverse=True)
    sums = [np.bincount(inverse, weights=counts, minlength=len(distinct)) for counts in (solid, pixels)]
    return distinct, sums[0].astype(np.int64), sums[1].astype(np.int64)


def _is_solid(tones: Tones, form: Form, ripple: int) -> NDArray[np.bool_]:
    """Which pixels differ from none of their eight neighbours by more than ``ripple`` in any channel."""
    if form == "values":
        planes = tones.astype(np.uint16)[:, :, None]
    else:
        planes = np.stack([tones >> 16, tones >> 8 & 255, tones & 255], axis=2).astype(np.uint8)
    square = np.ones((3, 3), dtype=np.uint8)
    spread = cv2.dilate(planes, square) - cv2.erode(planes, square)
    return np.asarray((spread.reshape(*tones.shape, -1) <= ripple).all(axis=2))


def _without_shifted(found: Tones, census: Census, form: Form) -> Tones:
    """Leave out what a single lossy mask among others makes of a label: its regions, a shade off."""
    at = np.searchsorted(census.tones, found)
    pixels, points = census.pixels[at], as_points(found, form)
    if form == "values":
        return found
    is_suspect = census.peak_sizes[at] > CROWDED
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= SHIFT
    is_shifted = (near & (pixels[None] >= 8 * pixels[:, None])).any(axis=1)
    return np.asarray(found[~(is_suspect & is_shifted)])


def _find_flat_colors(files: Sequence[int], read: Callable[[int], RawMask], known: Tones) -> Tones:
    """The colours that the regions of lossy masks were saved with."""
    found: Tones | None = None
    for ripple in _RIPPLES:
        tones, solid, pixels = _look_at(files, "colors", read, ripple)
        if found is not None:
            found = _with_small_regions(found, _cluster(tones, solid, pixels, found))
        elif solid.sum() >= _MOSTLY * pixels.sum() or ripple == _RIPPLES[-1]:
            found = np.union1d(known, _cluster(tones, solid, pixels, known))
    assert found is not None
    return found


def _with_small_regions(found: Tones, candidates: Tones) -> Tones:
    """Add what fills regions too small to be flat, unless it may be a mixture of two colours along an edge."""
    for candidate in candidates:
        points = as_points(found, "colors")
        pairs = list(combinations(range(len(points)), 2)) or [(index, index) for index in range(len(points))]
        point = as_points(np.array([candidate]), "colors")[0]
        if all(_off_line(point, points[one], points[other]) > _FAR_OFF_LINE for one, other in pairs):
            found = np.union1d(found, candidate)
    return found


def _off_line(point: Points, one: Points, other: Points) -> float:
    """Distance of a colour from the mixtures of two."""
    along = other - one
    place = np.clip((point - one) @ along / max(float(along @ along), 1.0), 0, 1)
    return float(np.linalg.norm(point - one - place * along))


def _cluster(tones: Tones, solid: NDArray[np.int64], pixels: NDArray[np.int64], known: Tones) -> Tones:
    """Where the most pixels among their like gather in the space of colours; a known colour stands for its region."""
    kept = np.sort(np.argsort(-solid, kind="stable")[:_CLUSTERED])
    tones, solid, pixels = tones[kept], solid[kept].astype(np.float64), pixels[kept]
    points = as_points(tones, "colors")
    is_open = np.ones(len(tones), dtype=np.bool_)
    for point in as_points(known, "colors"):
        is_open &= np.linalg.norm(points - point, axis=1) > _SPACING
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = distances <= SHIFT
    masses, pixels_near = near @ (solid * is_open), near @ pixels
    found: list[int] = []
    while is_open.any() and len(found) <= MAX_MASK_CLASSES:
        center = int(np.where(is_open, masses, -1).argmax())
        if masses[center] < LEAST_SOLID_PIXELS:
            break
        if masses[center] >= _LEAST_SOLID * pixels_near[center]:
            found.append(int(tones[int((solid * (near[center] & is_open)).argmax())]))
        closed = is_open & (distances[center] <= _SPACING)
        masses -= near[:, closed] @ solid[closed]
        is_open &= ~closed
    return np.array(sorted(found), dtype=np.int64)


Verdict = Literal["labels", "soft", "lossy"]


def nearest(points: Points, labels: Points) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distance of each point to the nearest label, and which it is."""
    distances, indices = cKDTree(labels).query(points)
    return np.asarray(distances, dtype=np.float64), np.asarray(indices, dtype=np.intp)


def spacing(labels: Points) -> float:
    """Distance of the two labels that are nearest to each other; infinite for a single one."""
    if len(labels) < 2:
        return float("inf")
    distances, _ = cKDTree(labels).query(labels, k=[2])
    return float(np.min(distances))


def widest_tolerance(gap: float) -> int:
    """The largest tolerance of a label map under which labels that are ``gap`` apart do not meet."""
    return min(127, max(0, ceil(gap / 2) - 1)) if isfinite(gap) else 127


def judge(loose: Points, counts: NDArray[np.int64], present: Points, gap: float, *, is_jpeg: bool) -> Verdict:
    """What the tones of one mask that are no labels come from.

    ``soft``: mixtures of two labels from end to end (a smooth resize, antialiasing); ``lossy``: noise about labels
    (JPEG); ``labels``: neither, so each stands for itself, a stray or a label that was not known.

    Args:
        loose: (K, D) the tones, ``counts`` their pixels.
        present: (L, D) the labels that the mask holds, most frequent first.
        gap: ``spacing`` of all labels.
    """
    # Between labels that are next to each other, as class indices are, there is no room for noise.
    if not len(loose) or not len(present) or gap <= 2 * _HARDLY_OFF:
        return "labels"
    kept = np.argsort(-counts, kind="stable")[:_JUDGED]
    loose, counts, present = loose[kept], counts[kept], present[:_JUDGED_LABELS]
    away, _ = nearest(loose, present)
    off, along = mixtures(loose, present)
    is_noise = away < min(gap, _WIDE) / 2
    is_mixed = off <= _OFF_LINE
    explained = int((is_noise | is_mixed).sum())
    hardly = away.max() <= _HARDLY_OFF and gap >= 4 * _HARDLY_OFF and (is_jpeg or len(loose) > 1)
    if not hardly and explained < max(_LEAST_EXPLAINED, len(present) + 1):
        return "labels"
    is_middle = is_mixed & (along > _MIDDLE) & (along < 1 - _MIDDLE) & (away > SHIFT / 2)
    if not is_jpeg and counts[is_middle].sum() >= _LEAST_MIDDLE * counts.sum():
        return "soft"
    # Noise is densest close to the labels. Where nothing is close, these are thin lines of other labels.
    return "lossy" if is_jpeg or away.min() <= _HARDLY_OFF else "labels"


def mixtures(points: Points, labels: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each point is off the nearest line between two labels, and where along it lies (0 to 1).

    Infinite and 0 where there are fewer than two labels.
    """
    off, along = np.full(len(points), np.inf), np.zeros(len(points))
    pairs = [(labels[i], labels[j]) for i in range(len(labels)) for j in range(i)]
    # Of lines on one another the shortest counts: grey values lie on all of them.
    for start, end in sorted(pairs, key=lambda pair: float(np.linalg.norm(pair[1] - pair[0]))):
        way = end - start
        at = np.clip((points - start) @ way / (way @ way), 0, 1)
        distance = np.linalg.norm(points - start - at[:, None] * way, axis=1)
        closer = distance < off - 1e-9
        off[closer], along[closer] = distance[closer], at[closer]
    return off, along
