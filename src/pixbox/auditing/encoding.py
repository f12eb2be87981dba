"""How the masks of a bare folder say what each pixel is, and the label map that reads them.

Masks are looked at as sets of tones (``tones.py``): first all are counted, then the labels among the tones are told
from noise, then each mask is judged by them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixbox.auditing.class_tables import ClassTable
from pixbox.auditing.masks import is_jpeg, judge_mask, sort_tones, tell_soft_edges
from pixbox.auditing.naming import VOC, Labels, listed_tones, name_labels, voc_tones, with_values, without_near
from pixbox.auditing.result import Guess
from pixbox.auditing.tones import (
    CROWDED,
    LEAST_SOLID_PIXELS,
    SHIFT,
    Census,
    Form,
    Tally,
    Tones,
    as_points,
    as_source,
    count_tones,
    find_labels,
    many,
    nearest,
    pack,
    show_tone,
    spacing,
    widest_tolerance,
)
from pixbox.data.findings import Findings
from pixbox.data.formats.voc import voc_color
from pixbox.data.images import read_mask
from pixbox.data.mask_facts import MaskFacts
from pixbox.errors import DataError
from pixbox.labels import MAX_MASK_CLASSES, LabelMap
from pixbox.sample import Record

Kind = Literal["grey", "palette", "colour"]
Masks = Callable[[], Iterable[tuple[Record, MaskFacts]]]

RARE = 0.02
"""A value in a smaller share of the masks is taken for a stray."""

_ENOUGH_MASKS = 50
_FEW_MASKS = 5
_TINY_SHARE = 0.001
_FAIR_SHARE = 0.01
_SHOWN_FILES = 20
_SHOWN_STRAYS = 5
_MOST_SIGHTINGS = 4096
_MOST_PAIRS = 1 << 16
# Colours of one kind of file are those of another if they cover so much of its pixels.
_SAME = 0.99
_BEYOND = 0.001
_TOO_MUCH_UNEXPLAINED = 0.4
# A mask with more tones that are no labels, or with less of its pixels near a label, is no mask of this set.
_MOST_LOOSE = 128
_LEAST_EXPLAINED = 0.6
# So many different largest values, with no gap below, are rather counts of objects.
_MANY_TOPS = 5
_MOSTLY_ONCE = 0.8
_SHADE = 3
_CLOSE = 8
_VOC_PALETTE = np.array([voc_color(index) for index in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Encoding:
    """How masks are encoded.

    Attributes:
        labels: reads them; always one that can be used, also where findings say that the masks cannot.
        guesses: what they were taken for, and what the classes are called.
        decisions: what was decided about values that are no labels, each in a sentence.
        findings: ``rare-value``, ``soft-edges``, ``structure``, ``not-labels``. Noise that the label map's tolerance
            covers is not among them; ``check_mask`` tells it mask by mask.
    """

    labels: LabelMap
    guesses: tuple[Guess, ...]
    decisions: tuple[str, ...]
    findings: Findings


def infer_encoding(masks: Masks, table: ClassTable | None) -> Encoding:
    """Work out the label map of a set of masks.

    Args:
        masks: gives all masks with what they hold, as often as it is called (two or three times); up to 32 of the
            files are read once more.
        table: what a file says of the classes.

    Raises:
        DataError: there is no mask.
    """
    survey = _Survey()
    for record, facts in masks():
        survey.add(record, facts)
    if not survey.records:
        raise DataError("none of the masks can be read", code="structure")
    if table is not None and (joined := _read_as_both(survey, table)):
        return joined
    reading = _choose_reading(survey)
    findings = Findings()
    census = survey.census(reading.form, reading.kinds)
    if table is not None and reading.form == "values":
        table = with_values(table, census)
    listed = listed_tones(table, census, reading.form)
    found = find_labels(census, reading.form, lambda file: read_mask(survey.mask_file(file)), listed)
    if table is None:
        listed = voc_tones(found, census, reading.form, has_palette=survey.has_voc_palette)
        if len(listed):
            table, found = VOC, np.union1d(without_near(found, listed, census, reading.form), listed)
    sorting = _Sorting(reading.form, found, findings)
    for record, facts in masks():
        if _kind(facts) in reading.kinds:
            sorting.add(record, facts)
        else:
            what = f"is a {_WORDS[_kind(facts)]} mask, while {reading.majority}; nothing says how the two agree"
            findings.add("structure", str(record.annotation), what, _MIXED, id=record.id)
    return _conclude(survey, reading, census, sorting, listed, table)


_MIXED = "Save all masks the same way, or write a label map with a value and a colour for each class."
_COUNTED_AS: Mapping[Kind, tuple[Form, ...]] = {
    "grey": ("values",),
    "palette": ("values", "colors"),
    "colour": ("colors",),
}
_WORDS: Mapping[Kind, str] = {"grey": "grey", "palette": "palette", "colour": "colour"}


def _kind(facts: MaskFacts) -> Kind:
    if facts.values.ndim == 2:
        return "colour"
    return "grey" if facts.palette is None else "palette"


class _Survey:
    """All masks counted by kind, before anything is decided."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.counts: Counter[Kind] = Counter()
        self.jpegs = 0
        self.voc_palettes = 0
        self.are_apart = True
        self.tops: set[int] | None = set()
        self.pairs: set[tuple[int, int]] = set()
        self._tallies: dict[tuple[Kind, Form], Tally] = {}

    def add(self, record: Record, facts: MaskFacts) -> None:
        kind = _kind(facts)
        self.counts[kind] += 1
        self.jpegs += is_jpeg(record)
        for form in _COUNTED_AS[kind]:
            tones, counts = count_tones(facts, form)
            self._tallies.setdefault((kind, form), Tally()).add(tones, counts, len(self.records))
        if kind != "colour":
            self._look_at_values(facts.values)
        if facts.palette is not None:
            self._look_at_palette(facts.values, facts.palette)
        self.records.append(record)

    def _look_at_values(self, values: NDArray[np.int64]) -> None:
        held = set(values[:2].tolist()) | set(values[-1:].tolist())
        self.are_apart &= not {1, 255} <= held
        is_gapless = int(values[0]) == 0 and len(values) == int(values[-1]) + 1
        if self.tops is not None:
            self.tops = self.tops | {int(values[-1])} if is_gapless and len(self.tops) < 256 else None

    def _look_at_palette(self, indices: NDArray[np.int64], palette: NDArray[np.uint8]) -> None:
        self.voc_palettes += len(palette) > 20 and bool((palette == _VOC_PALETTE[: len(palette)]).all())
        if len(self.pairs) < _MOST_PAIRS:
            used = indices[indices < len(palette)]
            self.pairs.update(zip(used.tolist(), pack(palette[used]).tolist(), strict=True))

    def mask_file(self, number: int) -> Path:
        file = self.records[number].annotation
        assert isinstance(file, Path)  # What has facts is a file.
        return file

    def census(self, form: Form, kinds: Iterable[Kind]) -> Census:
        """The tones of all masks of these kinds, read in one form."""
        tally = Tally()
        for kind in kinds:
            as_counted: Form = "colors" if kind == "colour" else "values" if kind == "grey" else form
            if (kind, as_counted) in self._tallies:
                census = self._tallies[kind, as_counted].census()
                if as_counted != form:
                    convert = {"values": census.tones & 255, "colors": census.tones * 0x010101}[form]
                    census = replace(census, tones=convert)
                tally.add_all(census)
        return tally.census()

    @property
    def counts_up(self) -> bool:
        """Whether each mask holds all values from 0 to its largest, which differs much from mask to mask."""
        return "colour" not in self.counts and self.tops is not None and len(self.tops) >= _MANY_TOPS

    @property
    def has_voc_palette(self) -> bool:
        """Whether all masks are palette files with Pascal VOC's palette."""
        return self.voc_palettes == len(self.records)

    @property
    def colors_are_grey(self) -> bool:
        """Whether the three channels of all colour masks are equal."""
        return bool((self.census("colors", ["colour"]).tones % 0x010101 == 0).all())

    @property
    def order_changes(self) -> bool:
        """Whether the same colours stand at other indices from palette to palette."""
        indices, colors = Counter(index for index, _ in self.pairs), Counter(color for _, color in self.pairs)
        # Palettes that only differ in what they show have each colour at one index.
        further_colors, further_indices = len(self.pairs) - len(indices), len(self.pairs) - len(colors)
        return further_colors > 0 and further_indices >= further_colors / 4


@dataclass(frozen=True)
class _Reading:
    """Whether masks are read as values or as colours, and which kinds of files can be."""

    form: Form
    kinds: frozenset[Kind]
    majority: str
    reason: str
    order_changes: bool = False


def _choose_reading(survey: _Survey) -> _Reading:
    counts, total = survey.counts, survey.counts.total()
    shown = ", ".join(
        f"{number:,} of {total:,} masks are {_WORDS[kind]} files" for kind, number in counts.most_common()
    )
    order_changes = survey.order_changes
    by_value = _Reading("values", frozenset(counts), "", shown)
    if "palette" not in counts and survey.colors_are_grey:
        return by_value
    if "colour" not in counts and not order_changes:
        return by_value
    main: Kind = "colour" if "colour" in counts else "palette"
    if order_changes:
        shown += "; the same colours stand at other indices from file to file"
    whole = survey.census("colors", [main])
    same = {kind for kind in counts if kind == main or _share_in(survey.census("colors", [kind]), whole) >= _SAME}
    others = frozenset(counts) - same
    if survey.colors_are_grey and others:
        values = survey.census("values", others)
        if _share_in(survey.census("values", ["colour"]), values) >= _SAME:
            return by_value
    if sum(counts[kind] for kind in others) > sum(counts[kind] for kind in same):
        return _Reading("values", others, _majority(counts, others), shown)
    return _Reading("colors", frozenset(same), _majority(counts, same), shown, order_changes)


def _majority(counts: Counter[Kind], kinds: Iterable[Kind]) -> str:
    number = sum(counts[kind] for kind in kinds)
    return (
        f"{number:,} of the {counts.total():,} masks are {' and '.join(sorted(_WORDS[kind] for kind in kinds))} files"
    )


def _share_in(part: Census, whole: Census) -> float:
    return float(part.pixels[np.isin(part.tones, whole.tones)].sum() / max(1, part.pixels.sum()))


def _read_as_both(survey: _Survey, table: ClassTable) -> Encoding | None:
    """Masks of values beside masks of colours, where the table gives both for every class."""
    flat = [kind for kind in survey.counts if kind != "colour"]
    if not flat or "colour" not in survey.counts or survey.colors_are_grey or survey.order_changes:
        return None
    by_value, by_color = survey.census("values", flat), survey.census("colors", ["colour"])
    values = listed_tones(table, by_value, "values")
    colors = listed_tones(table, by_color, "colors")
    if not len(values) or not len(colors) or _share_in(survey.census("colors", flat), by_color) >= _SAME:
        return None
    what = f"{sum(survey.counts[kind] for kind in flat):,} masks of values and {survey.counts['colour']:,} of colours"
    reason = f"{table.file.name} gives a value and a colour for each class"
    labels = LabelMap(classes=table.classes, ignore=table.ignore_sources)
    guesses = (
        Guess("masks", what, 0.9, reason),
        Guess("class names", f"{len(table.classes)} names from {table.file.name}", 0.97, reason),
    )
    return Encoding(labels, guesses, (f"{what}: each is read by what {table.file.name} says.",), Findings())


@dataclass
class _Sighting:
    """Where a tone occurs: masks, pixels, the largest share of one mask, and the first masks with their pixels."""

    masks: int = 0
    pixels: int = 0
    peak: float = 0.0
    first: list[tuple[Record, int]] = field(default_factory=list)


class _Sorting:
    """Masks judged one by one, once the labels are told from noise."""

    def __init__(self, form: Form, found: Tones, findings: Findings) -> None:
        self.form = form
        self.found = found
        self.findings = findings
        self.points = as_points(found, form)
        self.gap = spacing(self.points)
        self.sightings: dict[int, _Sighting] = {}
        self.overflows = False
        self.masks = 0
        self.pixels = 0
        self.strange_masks = 0
        self.strange_findings = Findings()
        self.soft_masks = 0
        self.soft_pixels = 0
        self.lossy_masks = 0
        self.first_lossy: list[tuple[Record, int]] = []
        # Pixels of lossy masks by their distance to the nearest label, rounded up.
        self.distances = np.zeros(512, dtype=np.int64)

    def add(self, record: Record, facts: MaskFacts) -> None:
        tones, counts = count_tones(facts, self.form)
        seen = sort_tones(tones, counts, ~np.isin(tones, self.found), self.form)
        verdict = judge_mask(record, seen, self.gap)
        self.masks += 1
        if verdict == "labels" and len(seen.loose) <= _MOST_LOOSE:
            self.pixels += seen.total
            self._see(record, tones, counts)
            return
        away, index = nearest(as_points(tones, self.form), self.points)
        is_explained = counts[away < self.gap / 2].sum() >= _LEAST_EXPLAINED * seen.total
        if len(seen.loose) > _MOST_LOOSE and (verdict == "labels" or not is_explained):
            self._tell_strange(record, len(seen.loose))
            return
        self.pixels += seen.total
        is_close = away <= min(self.gap / 2, SHIFT)
        per_label = np.bincount(index[is_close], weights=counts[is_close], minlength=len(self.found)).astype(np.int64)
        is_there = per_label >= LEAST_SOLID_PIXELS
        self._see(record, self.found[is_there], per_label[is_there])
        if verdict == "lossy":
            self.lossy_masks += 1
            steps = np.minimum(np.ceil(away), len(self.distances) - 1).astype(np.int64)
            self.distances += np.bincount(steps, weights=counts, minlength=len(self.distances)).astype(np.int64)
            _note(self.first_lossy, record, len(seen.loose))
        else:
            self.soft_masks += 1
            self.soft_pixels += int(seen.counts.sum())
            self.findings.append(tell_soft_edges(record, seen))

    def _tell_strange(self, record: Record, loose: int) -> None:
        self.strange_masks += 1
        what = f"holds {loose:,} {many(self.form)} that are no labels of the other masks: a photograph or a depth map?"
        hint = "Put the mask in its place, or leave it out (`data.exclude`)."
        self.strange_findings.add("not-labels", str(record.annotation), what, hint, id=record.id)

    def _see(self, record: Record, tones: Tones, counts: NDArray[np.int64]) -> None:
        total = int(counts.sum())
        for tone, count in zip(tones.tolist(), counts.tolist(), strict=True):
            if tone not in self.sightings and len(self.sightings) >= _MOST_SIGHTINGS:
                self.overflows = True
                continue
            sighting = self.sightings.setdefault(tone, _Sighting())
            sighting.masks += 1
            sighting.pixels += count
            sighting.peak = max(sighting.peak, count / total)
            _note(sighting.first, record, count)


def _note(first: list[tuple[Record, int]], record: Record, count: int) -> None:
    if len(first) < _SHOWN_FILES:
        first.append((record, count))


def _conclude(
    survey: _Survey, reading: _Reading, census: Census, sorting: _Sorting, listed: Tones, table: ClassTable | None
) -> Encoding:
    """From what was seen to a label map, and words."""
    form = reading.form
    tolerance, beyond = _choose_tolerance(sorting)
    rare = _find_rare(sorting, listed)
    strays = set(rare)
    kept = {tone: seen.pixels for tone, seen in sorted(sorting.sightings.items()) if tone not in strays}
    is_strange = _tell_no_labels(survey, census, sorting, kept, listed, beyond)
    decisions: list[str] = []
    if is_strange:
        kept, rare, tolerance = _most_frequent(sorting, census, listed), [], 0
        decisions.append(f"Only the {len(kept)} most frequent {many(form)} are classes; all others are ignored.")
    else:
        decisions += _tell_rare(sorting, rare)
    if tolerance:
        kept, moved = _round_colors(kept, listed, sorting)
        tolerance = min(tolerance + moved, widest_tolerance(sorting.gap))
    facts = Labels(form, kept, survey.has_voc_palette, survey.are_apart, "colour" in reading.kinds)
    naming = name_labels(facts, table, listed)
    ignore = (*naming.ignore, *(as_source(tone, form) for tone in rare))
    labels = LabelMap(
        classes=naming.classes,
        ignore=tuple(dict.fromkeys(ignore)),
        unknown="ignore" if is_strange or beyond or sorting.soft_masks else "error",
        tolerance=tolerance,
    )
    decisions += [*naming.decisions, *_describe_noise(sorting, tolerance, beyond)]
    guess = _guess_masks(survey, reading, sorting, sorted(kept), tolerance, is_strange=is_strange)
    return Encoding(labels, (guess, naming.guess), tuple(decisions), sorting.findings)


def _find_rare(sorting: _Sorting, listed: Tones) -> list[int]:
    """Tones in so few masks that they are probably strays; what a table lists is none."""
    named = set(listed.tolist())
    seen = {tone: sighting for tone, sighting in sorting.sightings.items() if tone not in named}
    if sorting.masks >= _ENOUGH_MASKS:
        return sorted(tone for tone, sighting in seen.items() if sighting.masks < RARE * sorting.masks)
    odd = [tone for tone, sighting in seen.items() if sighting.masks == 1 and sighting.peak < _TINY_SHARE]
    others = [sighting for tone, sighting in sorting.sightings.items() if tone not in odd]
    is_regular = all(sighting.masks >= 3 or sighting.peak >= _FAIR_SHARE for sighting in others)
    return sorted(odd) if sorting.masks >= _FEW_MASKS and others and is_regular else []


def _tell_rare(sorting: _Sorting, rare: Sequence[int]) -> list[str]:
    """A finding for each stray and mask; a decision for each stray."""
    total, form = sorting.masks, sorting.form
    decisions = []
    for tone in rare:
        seen = sorting.sightings[tone]
        shown = show_tone(tone, form)
        for record, count in seen.first:
            what = f"{shown} ({count:,} pixels) is in {seen.masks:,} of {total:,} masks only"
            hint = "Mend the mask; or, if it is a class, add it to the label map."
            sorting.findings.add(
                "rare-value", str(record.annotation), what, hint, id=record.id,
                value=tone if form == "values" else f"#{tone:06x}", count=count, masks=seen.masks,
            )  # fmt: skip
        if len(rare) <= _SHOWN_STRAYS:
            decisions.append(f"{shown.capitalize()} is ignored: it is in {seen.masks:,} of {total:,} masks only.")
    if len(rare) > _SHOWN_STRAYS:
        listed = ", ".join(show_tone(tone, form) for tone in rare[:_SHOWN_STRAYS])
        decisions.append(f"{len(rare):,} {many(form)} are ignored, each in hardly any mask: {listed}, ...")
    if total >= _ENOUGH_MASKS and 0 < sorting.lossy_masks < RARE * total:
        for record, count in sorting.first_lossy:
            what = f"{count:,} {many(form)} near the labels that hardly any other mask has: traces of saving with loss"
            sorting.findings.add("rare-value", str(record.annotation), what, "Make it again as PNG.", id=record.id)
    return decisions


def _tell_no_labels(
    survey: _Survey, census: Census, sorting: _Sorting, kept: Mapping[int, int], listed: Tones, beyond: float
) -> bool:
    """Say so if the files are probably no masks, or masks that were spoiled. Gives whether labels cannot be told."""
    form, masks, findings = many(sorting.form), sorting.masks, sorting.findings
    what = _why_no_labels(census, sorting, kept, listed, beyond)
    if what:
        hint = "Name the folder of the masks; or, if these number objects, give each object its class."
        findings.add("not-labels", "", f"{what}: probably photographs, depth maps or numbers of objects", hint)
        return True
    findings.extend(sorting.strange_findings)
    if len(kept) == 1:
        what = f"all {masks:,} masks hold nothing but {show_tone(next(iter(kept)), sorting.form)}"
        findings.add("not-labels", "", what, "Name the folder of the masks; from these nothing can be learnt.")
    elif sorting.form == "values" and 2 * survey.jpegs > masks and sorting.gap <= _CLOSE:
        what = f"{survey.jpegs:,} of {masks:,} masks are JPEG files, with {form} only {sorting.gap:.0f} apart"
        hint = "JPEG does not keep such differences: edges become other classes. Make the masks again as PNG."
        findings.add("not-labels", "", what, hint)
    return False


def _why_no_labels(census: Census, sorting: _Sorting, kept: Mapping[int, int], listed: Tones, beyond: float) -> str:
    """What speaks against labels; empty if nothing does."""
    form, masks = many(sorting.form), sorting.masks
    labels = len(kept.keys() | set(listed.tolist()))
    once = sum(seen.masks == 1 for seen in sorting.sightings.values())
    unexplained = beyond + sorting.soft_pixels / max(1, sorting.pixels)
    if 2 * sorting.strange_masks > masks:
        return f"{sorting.strange_masks:,} of {masks:,} masks hold more than {_MOST_LOOSE} {form} that fill no region"
    if labels > MAX_MASK_CLASSES or sorting.overflows:
        return f"the masks hold {labels:,} different {form}; there can be {MAX_MASK_CLASSES} classes"
    if sorting.form == "values" and labels > CROWDED and 2 * census.crowded > masks:
        return f"{census.crowded:,} of {masks:,} masks hold more than {CROWDED} different values each"
    if not kept or (masks > 2 and labels > CROWDED / 2 and once > _MOSTLY_ONCE * len(sorting.sightings)):
        return f"{once:,} of {len(sorting.sightings):,} different {form} are in one mask only"
    if unexplained > _TOO_MUCH_UNEXPLAINED:
        return f"{unexplained:.0%} of the pixels have {form} that no label explains"
    return ""


def _most_frequent(sorting: _Sorting, census: Census, listed: Tones) -> dict[int, int]:
    """Pixels of the labels that are kept where there are too many."""
    order = np.argsort(-census.pixels, kind="stable")[:_MOST_SIGHTINGS]
    pixels = {tone: seen.pixels for tone, seen in sorting.sightings.items()}
    pixels = pixels or dict(zip(census.tones[order].tolist(), census.pixels[order].tolist(), strict=True))
    named = set(listed.tolist())
    others = sorted(pixels.keys() - named, key=lambda tone: (-pixels[tone], tone))[: MAX_MASK_CLASSES - len(named)]
    return {tone: pixels[tone] for tone in sorted((*others, *(pixels.keys() & named)))}


def _choose_tolerance(sorting: _Sorting) -> tuple[int, float]:
    """The smallest tolerance that leaves out hardly a pixel; and the share of all pixels that it leaves out."""
    if not sorting.lossy_masks:
        return 0, 0.0
    beyond = (sorting.distances.sum() - np.cumsum(sorting.distances)) / sorting.pixels
    tolerance = min(int(np.argmax(beyond <= _BEYOND)), widest_tolerance(sorting.gap))
    return tolerance, float(beyond[tolerance])


def _round_colors(kept: Mapping[int, int], listed: Tones, sorting: _Sorting) -> tuple[dict[int, int], int]:
    """Colours that loss has moved by a shade, moved back to round ones; and by how much at most."""
    if sorting.form == "values" or 2 * sorting.lossy_masks < sorting.masks:
        return dict(kept), 0
    rounded: dict[int, int] = {}
    farthest = 0.0
    for tone, pixels in kept.items():
        channels = as_points(np.array([tone]), "colors")[0]
        steps = np.array([0, 64, 128, 192, 255])
        near = steps[np.abs(channels[:, None] - steps).argmin(axis=1)]
        moved = np.where(np.abs(near - channels) <= _SHADE, near, channels).astype(np.int64)
        target = int(pack(moved))
        if tone in listed or target in kept or target in rounded:
            target, moved = tone, channels.astype(np.int64)
        rounded[target] = pixels
        farthest = max(farthest, float(np.linalg.norm(moved - channels)))
    return dict(sorted(rounded.items())), ceil(farthest)


def _describe_noise(sorting: _Sorting, tolerance: int, beyond: float) -> list[str]:
    tones, masks = many(sorting.form), sorting.masks
    said = []
    if sorting.lossy_masks:
        said.append(
            f"{sorting.lossy_masks:,} of {masks:,} masks were saved with loss: {tones} up to {tolerance} from a label"
            f" count as it (`tolerance: {tolerance}`); {beyond:.2%} of the pixels are farther off and ignored"
            " (`unknown: ignore`)."
        )
    if sorting.soft_masks:
        share = sorting.soft_pixels / sorting.pixels
        said.append(
            f"{sorting.soft_masks:,} of {masks:,} masks have mixed {tones} at edges, {share:.2%} of all pixels; they"
            " are ignored (`unknown: ignore`)."
        )
    return said


def _guess_masks(
    survey: _Survey, reading: _Reading, sorting: _Sorting, kept: Sequence[int], tolerance: int, *, is_strange: bool
) -> Guess:
    form = reading.form
    if is_strange:
        return Guess("masks", "no masks that can be told", 0.1, reading.reason)
    confidence = 0.97 * sorting.masks / (sorting.masks + 0.5)
    if form == "colors":
        value = f"{len(kept)} colours"
        value += " of palettes whose order changes from file to file" if reading.order_changes else ""
        reason = f"{reading.reason}; they hold {_list_colors(kept)}"
    else:
        value = _name_values(kept)
        reason = f"{reading.reason}, with values {_list_values(kept)}"
        if survey.counts_up:
            confidence = 0.5
            reason += "; each holds all values from 0 to its largest: they may number objects, not classes"
    if sorting.lossy_masks:
        value += ", saved with loss"
        reason += f"; {sorting.lossy_masks:,} have further {many(form)} about these"
        confidence *= 0.95
    if sorting.soft_masks:
        value += ", with soft edges"
        reason += f"; {sorting.soft_masks:,} have mixtures of them"
        confidence *= 0.9
    return Guess("masks", value, round(confidence, 3), reason)


def _name_values(values: Sequence[int]) -> str:
    if len(values) == 2:
        return f"two values, {values[0]} and {values[1]}"
    below_void = [value for value in values if value != 255]
    if len(below_void) > 1 and min(np.diff(below_void)) <= 2:
        return f"class indices {_list_values(values)}"
    return f"{len(values)} grey values" if len(values) > 1 else f"value {values[0]} alone"


def _list_values(values: Sequence[int]) -> str:
    """``0-11, 255``; of many ranges the first."""
    runs = np.split(np.array(values), np.flatnonzero(np.diff(values) != 1) + 1)
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ", ".join(parts[:8]) + (", ..." if len(parts) > 8 else "")


def _list_colors(tones: Sequence[int]) -> str:
    return ", ".join(f"#{tone:06x}" for tone in tones[:6]) + (", ..." if len(tones) > 6 else "")
