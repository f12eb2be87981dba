"""One mask under a label map: what it holds, and what is wrong with it. No pixel is decoded unless something is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.auditing.tones import (
    Form,
    Tones,
    Verdict,
    as_points,
    as_tone,
    judge,
    many,
    mixtures,
    nearest,
    show_tone,
    spacing,
    tones_of,
    widest_tolerance,
)
from pixbox.data.annotation import same_proportions, size_text
from pixbox.data.findings import Finding
from pixbox.data.images import describe_image, image_size_hw, read_mask
from pixbox.data.mask_facts import MaskFacts
from pixbox.errors import DataError
from pixbox.labels import IGNORE, LabelMap, RawMask, UnknownLabelError
from pixbox.sample import Record

_JPEG_SUFFIXES = (".jpg", ".jpeg")
_LISTED = 20
_FEW_MIXED = 16
_MOSTLY = 0.7
_LEAVE_OUT = "Leave both out (`data.exclude`), or mend them: a mask must cover its picture."


@dataclass(frozen=True, eq=False)
class MaskCheck:
    """What was found in one mask.

    Attributes:
        counts: (N,) int64 pixels of each class.
        ignored: pixels that count in neither loss nor metric. Pixels of unknown values are in neither.
        findings: errors and warnings.
    """

    counts: NDArray[np.int64]
    ignored: int
    findings: tuple[Finding, ...]


def check_mask(record: Record, facts: MaskFacts, labels: LabelMap, image_hw: tuple[int, int] | None) -> MaskCheck:
    """Check a mask, whose file is ``record.annotation``, by what it holds.

    ``image_hw`` is its picture's size; None where that is not known. Values that are not listed are errors where
    ``labels.unknown`` is ``error``; otherwise they are what it says.
    """
    findings: list[Finding] = []
    classes, loose = np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.intp)
    try:
        classes = labels.encode(facts.as_mask())[0]
    except UnknownLabelError as error:
        # Each value is one pixel there, so that a column is a place among the values.
        loose = np.array([value.column for value in error.unknown], dtype=np.intp)
        findings.append(_tell_unknown(record, facts, labels, loose))
        known = np.delete(facts.values, loose, axis=0)
        if len(known):
            classes = labels.encode(RawMask(known[None], facts.palette))[0]
    except DataError as error:
        loose = np.arange(len(facts.values))
        findings += [
            Finding("unknown-value", str(record.annotation), fault.what, fault.hint, record.id)
            for fault in error.faults
        ]
    known_counts = np.delete(facts.counts, loose)
    per_class = np.bincount(classes, weights=known_counts, minlength=256).astype(np.int64)
    counts, ignored = per_class[: len(labels)], int(per_class[IGNORE])
    if not findings and labels.tolerance:
        findings += _tell_lossy(record, facts, labels, classes)
    findings += _tell_size(record, facts.size_hw, image_hw)
    findings += _tell_emptiness(record, counts, ignored, int(facts.counts.sum()), labels)
    return MaskCheck(counts, ignored, tuple(findings))


def check_mark(record: Record, mark: int, image_hw: tuple[int, int]) -> Finding | None:
    """What to say of a picture with an orientation mark (2-8) whose mask has not the same.

    Nothing where the size tells that the mask was drawn on the picture as it is read, ``image_hw``; one drawn before
    the picture was turned is of another size, which ``check_mask`` tells.
    """
    if not isinstance(record.annotation, Path):
        return None
    try:
        mask_mark, mask_hw = 1, image_size_hw(record.annotation)
        if record.annotation.suffix.lower() != ".mat":
            mask_mark = describe_image(record.annotation).exif_orientation
    except DataError:
        return None
    changes_sides = mark >= 5 and not same_proportions(image_hw, image_hw[::-1])
    if mask_mark == mark or changes_sides or not same_proportions(mask_hw, image_hw):
        return None
    what = (
        f"its picture {record.image} has an orientation mark ({mark}) and is turned or mirrored as it is read; the "
        f"mask has {'none' if mask_mark == 1 else f'another ({mask_mark})'}, and fits both ways"
    )
    hint = "Look at its overlay; if it is wrong, take the mark away from the picture, or turn the mask, too."
    return Finding("mask-turned", str(record.annotation), what, hint, record.id, details={"orientation": mark})


def is_jpeg(record: Record) -> bool:
    """Whether the mask is a JPEG file, going by its name."""
    return isinstance(record.annotation, Path) and record.annotation.suffix.lower() in _JPEG_SUFFIXES


def _listed(labels: LabelMap, form: Form) -> tuple[Tones, list[str]]:
    """The tones that a label map lists, and the name of the class of each."""
    pairs: list[tuple[int, str]] = []
    for item in labels.classes:
        pairs += [(as_tone(source), item.name) for source in (item.values if form == "values" else item.colors)]
    pairs += [(as_tone(s), "ignored") for s in labels.ignore if isinstance(s, int) == (form == "values")]
    return np.array([tone for tone, _ in pairs], dtype=np.int64), [name for _, name in pairs]


def form_of(facts: MaskFacts, labels: LabelMap) -> Form:
    """How ``LabelMap.encode`` reads a mask."""
    if facts.values.ndim == 2:
        return "colors" if all(item.colors for item in labels.classes) else "values"
    return "values" if all(item.values for item in labels.classes) else "colors"


def _tell_unknown(record: Record, facts: MaskFacts, labels: LabelMap, loose: NDArray[np.intp]) -> Finding:
    """What the values are that the label map does not have: edges, noise, or values of their own."""
    form = form_of(facts, labels)
    listed, names = _listed(labels, form)
    targets = as_points(listed, form)
    is_loose = np.zeros(len(facts.values), dtype=np.bool_)
    is_loose[loose] = True
    seen = sort_tones(tones_of(facts.as_mask(), form)[0], facts.counts, is_loose, form)
    verdict = judge_mask(record, seen, spacing(targets))
    if verdict == "soft":
        return tell_soft_edges(record, seen)
    unknown, counts = seen.loose, seen.counts
    away, index = nearest(as_points(unknown, form), targets)
    place = _first_place(record, int(unknown[0]), form)
    near = int(index[0])
    text = f"{show_tone(int(unknown[0]), form)} ({counts[0]:,} pixels{_at(place)})"
    if len(unknown) > 1:
        text += f" and {len(unknown) - 1:,} more ({counts.sum():,} pixels in all)"
    text += f", nearest: {names[near]} ({show_tone(int(listed[near]), form)}), distance {away[0]:.0f}"
    hint = "Add it to the classes, list it under `ignore`, or set `unknown: ignore`."
    if verdict == "lossy":
        text += "; these are traces of saving with loss (JPEG)"
        hint = _tolerance_hint(float(away.max()), spacing(targets), labels)
    details = {
        "value": _plain(int(unknown[0]), form), "count": int(counts[0]), "nearest": names[near],
        "distance": round(float(away[0]), 1), "values": [_plain(int(tone), form) for tone in unknown[:_LISTED]],
        "pixels": int(counts.sum()), **_rc(place),
    }  # fmt: skip
    return Finding("unknown-value", str(record.annotation), text, hint, record.id, details=details)


def _tolerance_hint(reach: float, gap: float, labels: LabelMap) -> str:
    """Which tolerance covers noise that reaches so far, where labels are ``gap`` apart."""
    widest = widest_tolerance(gap)
    needed = min(int(np.ceil(reach)), widest)
    setting = f"Set `tolerance: {needed}`" if needed > labels.tolerance else "Set `unknown: ignore`"
    if needed <= labels.tolerance or reach <= widest:
        return f"{setting}, or make the mask again as PNG."
    return f"{setting} and `unknown: ignore` for what lies between two classes, or make the mask again as PNG."


@dataclass(frozen=True, eq=False)
class SortedTones:
    """The tones of a mask, told apart, most frequent first.

    Attributes:
        form: whether they are values or colours.
        labels: (L,) int64 those that are labels.
        loose: (K,) int64 the others, and
        counts: (K,) int64 their pixels.
        total: pixels of the mask.
    """

    form: Form
    labels: Tones
    loose: Tones
    counts: NDArray[np.int64]
    total: int


def sort_tones(tones: Tones, counts: NDArray[np.int64], is_loose: NDArray[np.bool_], form: Form) -> SortedTones:
    """Tell the tones of a mask apart; ``counts`` are their pixels."""
    order = np.argsort(-counts, kind="stable")
    tones, sorted_counts, is_loose = tones[order], counts[order], is_loose[order]
    return SortedTones(form, tones[~is_loose], tones[is_loose], sorted_counts[is_loose], int(counts.sum()))


def judge_mask(record: Record, seen: SortedTones, gap: float) -> Verdict:
    """As ``judge``; where few mixed tones might as well be strays, the file is looked at."""
    form = seen.form
    present = as_points(seen.labels, form)
    verdict = judge(as_points(seen.loose, form), seen.counts, present, gap, is_jpeg=is_jpeg(record))
    if verdict == "soft" and len(seen.loose) < _FEW_MIXED and not _lie_on_edges(record, seen):
        return "labels"
    return verdict


def _lie_on_edges(record: Record, seen: SortedTones) -> bool:
    """Whether most pixels of the loose tones have two different labels within two pixels."""
    tones = _read_tones(record, seen.form)
    if tones is None:
        return False
    order = np.argsort(seen.labels)
    index = np.searchsorted(seen.labels[order], tones).clip(max=len(order) - 1)
    is_label = seen.labels[order][index] == tones
    around = np.ones((5, 5), dtype=np.uint8)
    highest = cv2.dilate(np.where(is_label, index, -1).astype(np.float32), around)
    lowest = cv2.erode(np.where(is_label, index, len(order)).astype(np.float32), around)
    is_loose = np.isin(tones, seen.loose)
    return bool((highest > lowest)[is_loose].mean() >= _MOSTLY) if is_loose.any() else False


def tell_soft_edges(record: Record, seen: SortedTones) -> Finding:
    """What to say of mixed tones along the edges of a mask."""
    form = seen.form
    _, along = mixtures(as_points(seen.loose, form), as_points(seen.labels[:_LISTED], form))
    middle = int(seen.loose[int(np.argmin(np.abs(along - 0.5)))])
    place = _first_place(record, middle, form)
    share = seen.counts.sum() / seen.total
    what = (
        f"{len(seen.loose):,} mixed {many(form)} between two labels on {share:.1%} of the pixels, such as"
        f" {show_tone(middle, form)}{_at(place)}: the mask was resized smoothly or drawn with antialiasing"
    )
    hint = "Make it again with nearest-neighbour resizing and without antialiasing, or set `unknown: ignore`."
    details = {"value": _plain(middle, form), "values": len(seen.loose), "count": int(seen.counts.sum()), **_rc(place)}
    return Finding("soft-edges", str(record.annotation), what, hint, record.id, details=details)


def _plain(tone: int, form: Form) -> int | str:
    return tone if form == "values" else f"#{tone:06x}"


def _read_tones(record: Record, form: Form) -> Tones | None:
    """(H, W) the tone of every pixel; None if the file is gone since it was counted."""
    try:
        return tones_of(read_mask(record.annotation), form) if isinstance(record.annotation, Path) else None
    except DataError:
        return None


def _first_place(record: Record, tone: int, form: Form) -> tuple[int, int] | None:
    """Row and column, from 0, of the first pixel of a tone; None if the file has changed since."""
    tones = _read_tones(record, form)
    if tones is None or not bool((tones == tone).any()):
        return None
    row, column = divmod(int((tones == tone).argmax()), tones.shape[1])
    return row, column


def _at(place: tuple[int, int] | None) -> str:
    return f" at row {place[0]}, column {place[1]}" if place else ""


def _rc(place: tuple[int, int] | None) -> dict[str, int]:
    return {"row": place[0], "column": place[1]} if place else {}


def _tell_lossy(record: Record, facts: MaskFacts, labels: LabelMap, classes: NDArray[np.uint8]) -> list[Finding]:
    """A warning where values count as others that are near them."""
    form = form_of(facts, labels)
    tones = tones_of(facts.as_mask(), form)[0]
    listed, _ = _listed(labels, form)
    is_near = ~np.isin(tones, listed) & (classes != IGNORE)
    if not is_near.any():
        return []
    total = facts.counts.sum()
    share = facts.counts[is_near].sum() / total
    what = f"{int(is_near.sum()):,} {many(form)} are near a listed one and count as it: {share:.1%} of the pixels"
    beyond = facts.counts[~np.isin(tones, listed) & (classes == IGNORE)].sum() / total
    if beyond:
        what += f"; {beyond:.1%} are too far off, mostly at edges, and are ignored"
    hint = "Masks belong in PNG files; `pixbox audit --fix OUT` writes them."
    details = {"values": int(is_near.sum()), "count": int(facts.counts[is_near].sum())}
    return [Finding("lossy-mask", str(record.annotation), what, hint, record.id, details=details)]


def _tell_size(record: Record, mask_hw: tuple[int, int], image_hw: tuple[int, int] | None) -> list[Finding]:
    if image_hw is None or mask_hw == image_hw:
        return []
    what = f"the mask is {size_text(mask_hw)} pixels, its picture {record.image} is {size_text(image_hw)}"
    details = {"mask_size": list(mask_hw), "image_size": list(image_hw)}
    file = str(record.annotation)
    if same_proportions(mask_hw, image_hw):
        return [Finding("mask-resized", file, f"{what}; it is resized", "", record.id, details=details)]
    if same_proportions(mask_hw, image_hw[::-1]):
        what += "; turned, it would fit: was it drawn before an orientation mark was applied?"
    return [Finding("mask-size", file, what, _LEAVE_OUT, record.id, details=details)]


def _tell_emptiness(
    record: Record, counts: NDArray[np.int64], ignored: int, total: int, labels: LabelMap
) -> list[Finding]:
    file = str(record.annotation)
    if ignored == total:
        return [Finding("ignored-mask", file, "every pixel is ignored", "Nothing can be learnt from it.", record.id)]
    background = _background(labels)
    if background is None or len(labels) == 1 or counts[background] + ignored < total:
        return []
    what = f'nothing but "{labels.names[background]}"'
    return [Finding("empty-mask", file, what, "Fine if the picture shows nothing else.", record.id)]


def _background(labels: LabelMap) -> int | None:
    """The class of value 0, or of black where the classes have colours only."""
    if labels.outside != IGNORE:
        return labels.outside
    return next((index for index, item in enumerate(labels.classes) if (0, 0, 0) in item.colors), None)
