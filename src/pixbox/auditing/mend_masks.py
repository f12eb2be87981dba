"""Masks with soft edges, traces of compression or strays become masks of classes.

A pixel whose tone is no label takes a class that is certain within a few pixels of it: of these the nearest in
colour, where the tone comes from a mixture or from noise, else the nearest in place. Nearest in colour alone would
put a grey class between black and white ones. Where nothing is certain near by, the pixel stays what it was: a patch
of an unknown tone is no edge, and nothing is made up for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.auditing.masks import form_of, judge_mask, sort_tones
from pixbox.auditing.tones import (
    SHIFT,
    Form,
    Points,
    Tones,
    as_points,
    as_tone,
    count_tones,
    mixtures,
    nearest,
    spacing,
    tones_of,
    widest_tolerance,
)
from pixbox.data.mask_facts import mask_facts
from pixbox.labels import IGNORE, LabelMap, RawMask
from pixbox.sample import Record

REACH = 4
"""Pixels. Edges are softer than this only in masks that were enlarged by more than eight."""
# The rounding of three channels puts a mixture of two colours up to 0.9 off the line between them.
_OFF_LINE = 1.5


@dataclass(frozen=True, eq=False)
class MendedMask:
    """A mask as classes.

    Attributes:
        classes: (H, W) uint8, 0..N-1 or ``IGNORE``.
        loose: how many distinct tones are no labels.
        decided: pixels of such a tone that took a class near by.
        undecided: those that did not: they are ignored, or what ``labels.unknown`` says.
    """

    classes: NDArray[np.uint8]
    loose: int = 0
    decided: int = 0
    undecided: int = 0


def mend_mask(record: Record, mask: RawMask, labels: LabelMap) -> MendedMask:
    """The classes of a mask as it was read from the file of ``record``.

    Tones that the label map lists, or that its ``unknown`` and ``tolerance`` give a class, are read as training reads
    them, unless the mask has soft edges or was saved with loss.

    Raises:
        DataError: the mask is of a form that the label map cannot read.
    """
    facts = mask_facts(mask)
    read = labels.model_copy(update={"unknown": "ignore"} if labels.unknown == "error" else {}).encode(mask)
    form = form_of(facts, labels)
    listed, owners = _listed(labels, form)
    tones, counts = count_tones(facts, form)
    is_loose = ~np.isin(tones, listed)
    if not is_loose.any():
        return MendedMask(read)
    targets = as_points(listed, form)
    gap = spacing(targets)
    verdict = judge_mask(record, sort_tones(tones, counts, is_loose, form), gap)
    if verdict == "labels" and labels.unknown != "error":
        return MendedMask(read)
    certain_within = labels.tolerance if verdict == "labels" else 0
    if verdict == "lossy":
        certain_within = min(int(SHIFT), widest_tolerance(gap))
    away, index = nearest(as_points(tones, form), targets)
    if verdict == "labels" and away.max() <= certain_within:
        return MendedMask(read)
    pixels = _Pixels(tones_of(mask, form), tones, away <= certain_within, index)
    if verdict == "lossy":
        pixels.keep_only_regions()
    if verdict != "labels":
        pixels.doubt_mixtures(targets)
    decided = pixels.decide(as_points(tones, form), targets, owners, by_tone=verdict != "labels")
    classes = np.where(decided == _OPEN, read, decided).astype(np.uint8)
    was_open = ~pixels.is_certain
    undecided = int((was_open & (decided == _OPEN)).sum())
    return MendedMask(classes, int(is_loose.sum()), int(was_open.sum()) - undecided, undecided)


_OPEN = -1


def _listed(labels: LabelMap, form: Form) -> tuple[Tones, NDArray[np.int64]]:
    """The tones that a label map lists, and the class index of each."""
    pairs = [
        (as_tone(source), index)
        for index, item in enumerate(labels.classes)
        for source in (item.values if form == "values" else item.colors)
    ]
    pairs += [(as_tone(source), IGNORE) for source in labels.ignore if isinstance(source, int) == (form == "values")]
    tones, owners = zip(*pairs, strict=True)
    return np.array(tones, dtype=np.int64), np.array(owners, dtype=np.int64)


class _Pixels:
    """The pixels of a mask: which are certain, and of which listed tone.

    Attributes:
        is_certain: (H, W) bool.
        source: (H, W) place of the nearest listed tone.
    """

    def __init__(self, tone_map: Tones, tones: Tones, is_certain: NDArray[np.bool_], index: NDArray[np.intp]) -> None:
        self._place = np.searchsorted(tones, tone_map)
        self.is_certain = is_certain[self._place]
        self.source = index[self._place]

    def keep_only_regions(self) -> None:
        """Noise hits the tone of a class that is not there: one that nowhere fills 2 x 2 pixels is not certain."""
        for source in self._sources():
            mine = self._of(source)
            if not _opened(mine).any():
                self.is_certain &= ~mine

    def doubt_mixtures(self, targets: Points) -> None:
        """Where a tone is a mixture of two others that fill regions, pixels of it in no 2 x 2 are not certain.

        Half black and half white may be exactly the grey of a class; a thin line of that grey goes with it.
        """
        regions = {source: _opened(self._of(source)) for source in self._sources()}
        filled = [source for source, region in regions.items() if region.any()]
        for source, region in regions.items():
            others = [other for other in filled if other != source]
            if len(others) < 2:
                continue
            off, along = mixtures(targets[[source]], targets[others])
            if off[0] <= _OFF_LINE and 0 < along[0] < 1:
                self.is_certain &= (self.source != source) | region

    def decide(self, points: Points, targets: Points, owners: NDArray[np.int64], *, by_tone: bool) -> NDArray[np.int64]:
        """(H, W) class of every pixel, ``_OPEN`` where nothing certain is near.

        ``points`` are those of the distinct tones; ``by_tone``: of the classes near by the one with the nearest tone.
        """
        best = np.full(self.source.shape, np.inf, dtype=np.float32)
        decided = np.full(self.source.shape, _OPEN, dtype=np.int64)
        for source in self._sources():
            mine = self._of(source)
            if not by_tone:
                score = np.asarray(cv2.distanceTransform((~mine).astype(np.uint8), cv2.DIST_L2, 5), dtype=np.float32)
            elif _opened(mine).any():
                score = np.linalg.norm(points - targets[source], axis=1).astype(np.float32)[self._place]
            else:
                continue
            is_better = _widened(mine) & (score < best)
            best[is_better] = score[is_better]
            decided[is_better] = owners[source]
        # The rim of a patch of unknown tones is part of the patch.
        decided[_widened(~self.is_certain & (decided == _OPEN))] = _OPEN
        decided[self.is_certain] = owners[self.source[self.is_certain]]
        return decided

    def _sources(self) -> list[int]:
        return [int(source) for source in np.unique(self.source[self.is_certain])]

    def _of(self, source: int) -> NDArray[np.bool_]:
        return np.asarray(self.is_certain & (self.source == source))


def _opened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask that belong to 2 x 2 of its pixels."""
    return np.asarray(
        cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)), dtype=np.bool_
    )


def _widened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask and those within ``REACH`` of them, along and across."""
    square = np.ones((2 * REACH + 1, 2 * REACH + 1), dtype=np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), square), dtype=np.bool_)
