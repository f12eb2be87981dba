"""Pictures that are there twice, exactly or nearly, and sequences that give pictures to two splits."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixbox.auditing.pictures import MIRRORED, small_grey
from pixbox.data.findings import Finding
from pixbox.data.splits import SplitName
from pixbox.errors import DataError

# Two looks that differ in at most 7 of 64 bits differ in at most one bit of one of four bands of 16.
_BANDS, _BAND_BITS = 4, 16
_FARTHEST = 2 * _BANDS - 1
# What a search over any number of pictures costs at most.
_NEIGHBOURS_PER_BAND = 64
_CANDIDATES_PER_PICTURE = 16
_MOST_CANDIDATES = 30_000
_MOST_READ = 10_000
_QUERIES = 1024
_PORTION = 256
# In grey levels of the small pictures. Saved anew as JPEG, halved, blurred a little or brightened by 20 levels, a
# picture differs by 1 to 10 (its worst pixel by 16); frames of a driving car 1/15 s apart differ by 14 and more (24).
_MOST_DIFFERENT = 10.0
_WORST_PIXEL = 20.0
_MOST_UNEXPLAINED = 0.03
_USUAL_CONTRAST = 20.0
_SHOWN_NAMES = 3
_LEAST_FRAMES = 3
_FRAME = re.compile(r"(?P<sequence>.+)[_\-. ][A-Za-z]{0,5}\d+")
_YEAR = re.compile(r"(19|20)\d\d")
_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
_BITS_OF_OCTET = np.array([octet.bit_count() for octet in range(256)], dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class PictureKey:
    """A picture by which it is compared with others: see ``PictureFacts``."""

    id: str
    file: Path
    split: SplitName
    content: bytes
    look: int
    is_flat: bool


def find_duplicates(pictures: Sequence[PictureKey], read: Callable[[Path], NDArray[np.uint8]]) -> list[Finding]:
    """Groups of equal or nearly equal pictures: one finding each, for the last picture of the group.

    Files that are byte for byte the same are `duplicate-image`, or `leaked-image` where they are in several splits.
    Pictures that differ by how they were saved (as JPEG, in another size, grey, a little blurred, brighter, mirrored
    left to right), or that were taken twice, are `near-duplicate-image` or `near-leaked-image`. Those whose looks
    differ in at most 7 bits are read with ``read``, which gives (H, W, 3) uint8 RGB and is called by several threads,
    and compared; a picture that it cannot read any more (DataError) is left out. At most 10,000 pictures are read;
    where that leaves some uncompared, the findings say so.
    """
    by_content: dict[bytes, list[PictureKey]] = defaultdict(list)
    for picture in pictures:
        by_content[picture.content].append(picture)
    exact = [_exact(group) for group in by_content.values() if len(group) > 1]
    # Copies are alike by definition; the first of each stands for all.
    firsts = [group[0] for group in by_content.values() if not group[0].is_flat]
    candidates = _find_candidates(np.array([picture.look for picture in firsts], dtype=np.uint64))
    links = _verify(candidates, [picture.file for picture in firsts], read)
    near = []
    for group in _groups(links):
        copies = [by_content[firsts[index].content] for index in group]
        near.append(_near(copies, links, group, candidates.is_capped))
    return exact + near


def find_shared_sequences(ids: Mapping[SplitName, Sequence[str]]) -> list[Finding]:
    """Sequences, by the names of their frames, that give pictures to two splits: one finding for each two splits.

    A frame is named by its sequence, a separator and a number: ``0016E5_07959``, ``Seq05VD_f00630``. What counts as
    a sequence has a digit in its name (others are kinds of things: ``cat_01``), is no year and has 3 frames or more.
    Where all frames are of one sequence, nothing is found.
    """
    counts: dict[str, dict[SplitName, int]] = defaultdict(lambda: defaultdict(int))
    for split, names in ids.items():
        for name in names:
            frame = _FRAME.fullmatch(name.rpartition("/")[2])
            if frame:
                counts[frame["sequence"]][split] += 1
    if len(counts) < 2:
        return []
    findings = []
    for sequence, frames in sorted(counts.items()):
        is_sequence = re.search(r"\d", sequence) and not _YEAR.fullmatch(sequence)
        if not is_sequence or sum(frames.values()) < _LEAST_FRAMES:
            continue
        present = [split for split in ids if frames[split]]
        findings += [_shared(sequence, one, other, frames, ids) for one, other in combinations(present, 2)]
    return findings


def _shared(
    sequence: str,
    earlier: SplitName,
    later: SplitName,
    frames: Mapping[SplitName, int],
    ids: Mapping[SplitName, Sequence[str]],
) -> Finding:
    def share(split: SplitName) -> str:
        count, total = frames[split], len(ids[split])
        return f"all {total:,} {split} pictures" if count == total else f"{count:,} of the {total:,} {split} pictures"

    message = f"sequence {sequence} gives {share(later)} and {share(earlier)}"
    hint = (
        f"Neighbouring frames look alike, so {later} scores will be better than on new sequences. Split by sequence: "
        "all frames of one in the same split."
    )
    details = {"sequence": sequence, earlier: frames[earlier], later: frames[later]}
    return Finding("shared-sequence", "", message, hint, split=later, details=details)


# What a finding says


def _exact(group: Sequence[PictureKey]) -> Finding:
    last, others = group[-1], group[:-1]
    splits = _splits(group)
    message = f"is byte for byte the same file as {_names(others)}"
    code = "leaked-image" if len(splits) > 1 else "duplicate-image"
    details = {"same_as": [other.id for other in others], "splits": splits, "difference": 0.0}
    return Finding(code, str(last.file), message, _advice(group), last.id, last.split, details)


def _near(
    copies: Sequence[Sequence[PictureKey]], links: Sequence[_Link], group: Sequence[int], capped: bool
) -> Finding:
    """``copies`` are the equal files of each picture of the ``group``, the first picture first."""
    last = copies[-1][-1]
    members = [picture for same in copies for picture in same]
    others = [picture for picture in members if picture is not last]
    splits = _splits(members)
    link = min((link for link in links if group[-1] in (link.earlier, link.later)), key=lambda link: link.difference)
    how = "mirrored it looks" if link.is_mirrored else "looks"
    message = f"{how} like {_names(others)}: small grey copies differ by {link.difference:.1f} of 255 levels"
    hint = _advice(members)
    if capped:
        hint += " So many pictures look alike that only the nearest were compared: there may be more."
    details = {
        "same_as": [other.id for other in others],
        "splits": splits,
        "difference": round(link.difference, 2),
        "mirrored": link.is_mirrored,
        "complete": not capped,
    }
    code = "near-leaked-image" if len(splits) > 1 else "near-duplicate-image"
    return Finding(code, str(last.file), message, hint, last.id, last.split, details)


def _splits(group: Iterable[PictureKey]) -> list[SplitName]:
    """The splits of a group, in their own order."""
    present = {picture.split for picture in group}
    return [split for split in _SPLITS if split in present]


def _names(pictures: Sequence[PictureKey]) -> str:
    named = [f"{picture.id} ({picture.split})" for picture in pictures[:_SHOWN_NAMES]]
    more = len(pictures) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def _advice(group: Sequence[PictureKey]) -> str:
    *earlier, last = _splits(group)
    if not earlier:
        return f"Keep one: {_exclude(group[1:])}."
    flatters = f"Scores on {last} will flatter: the network learns from these pictures." if "train" in earlier else ""
    spare = [picture for picture in group if picture.split != last]
    if {picture.id for picture in spare} & {picture.id for picture in group if picture.split == last}:
        return f"{flatters} Take the picture out of all lists but one.".strip()
    return f"{flatters} Keep them in {last} alone: {_exclude(spare)}.".strip()


def _exclude(pictures: Sequence[PictureKey]) -> str:
    patterns = [json.dumps(glob.escape(picture.id), ensure_ascii=False) for picture in pictures[:_SHOWN_NAMES]]
    return f"`data.exclude: [{', '.join(patterns)}{', ...' if len(pictures) > _SHOWN_NAMES else ''}]`"


# Which pictures may be alike


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Pairs of pictures of similar looks, the most similar first: (P,) each; the first two count pictures.

    ``is_capped``: there are more than can be compared.
    """

    earlier: NDArray[np.int64]
    later: NDArray[np.int64]
    is_mirrored: NDArray[np.bool_]
    is_capped: bool


def _find_candidates(looks: NDArray[np.uint64]) -> _Candidates:
    """Pairs whose looks differ in at most ``_FARTHEST`` bits, as they are or one of them mirrored."""
    straight, mirrored = _similar(looks, 0), _similar(looks, MIRRORED)
    pairs = np.concatenate([straight.pairs, mirrored.pairs])
    distances = np.concatenate([straight.distances, mirrored.distances])
    is_mirrored = np.arange(len(pairs)) >= len(straight.pairs)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], is_mirrored, distances))
    affordable = _affordable(pairs[order])
    kept = order[:affordable]
    is_capped = straight.is_capped or mirrored.is_capped or affordable < len(order)
    return _Candidates(pairs[kept, 0], pairs[kept, 1], is_mirrored[kept], is_capped)


def _affordable(pairs: NDArray[np.int64]) -> int:
    """How many of the first pairs can be compared without reading or comparing too many pictures."""
    _, first_places = np.unique(pairs[:_MOST_CANDIDATES], return_index=True)
    if len(first_places) <= _MOST_READ:
        return min(len(pairs), _MOST_CANDIDATES)
    return int(np.sort(first_places)[_MOST_READ]) // 2


@dataclass(frozen=True, slots=True)
class _Similar:
    """(P, 2) int64 pairs of places, the lower one first, and the (P,) bits in which their looks differ."""

    pairs: NDArray[np.int64]
    distances: NDArray[np.uint8]
    is_capped: bool


def _similar(looks: NDArray[np.uint64], mirror: int) -> _Similar:
    """Pairs of places i < j for which ``looks[i] ^ mirror`` is similar to ``looks[j]``.

    For each band the looks are sorted by that band and the ones after it; what shares the band, but for one bit,
    with a look stands together there, and what shares most of the rest nearest to where the look itself would.
    """
    sorted_looks = []
    for band in range(_BANDS):
        turned = _turn(looks, band * _BAND_BITS)
        order = np.argsort(turned, kind="stable")
        sorted_looks.append((turned[order], order))
    found, is_capped = [], False
    for start in range(0, len(looks), _QUERIES):
        queries = np.arange(start, min(start + _QUERIES, len(looks)))
        sought = looks[queries] ^ np.uint64(mirror)
        pairs, was_cut = [], False
        for band, (turned, order) in enumerate(sorted_looks):
            for flip in (0, *(1 << bit for bit in range(64 - _BAND_BITS, 64))):
                places, matches, cut = _in_band(_turn(sought, band * _BAND_BITS) ^ np.uint64(flip), turned)
                one, other = queries[places], order[matches]
                near = (one != other) & (_differing_bits(sought[places] ^ looks[other]) <= _FARTHEST)
                pairs.append(np.stack([one[near], other[near]], axis=1))
                was_cut |= cut
        kept, was_crowded = _nearest(np.concatenate(pairs), looks, mirror)
        found.append(kept)
        is_capped |= was_cut or was_crowded
    if not found:
        return _Similar(np.zeros((0, 2), np.int64), np.zeros(0, np.uint8), False)
    unique = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    distances = _differing_bits(looks[unique[:, 0]] ^ looks[unique[:, 1]] ^ np.uint64(mirror))
    return _Similar(unique, distances, is_capped)


def _turn(looks: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """The lowest bits follow after the highest: each look turned to the left."""
    if bits == 0:
        return looks
    return (looks << np.uint64(bits)) | (looks >> np.uint64(64 - bits))


def _in_band(
    sought: NDArray[np.uint64], table: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Places in ``sought`` and ``table`` of pairs that share the highest band, and whether some were left out."""
    band = np.uint64(64 - _BAND_BITS)
    lowest = sought >> band << band
    starts = np.searchsorted(table, lowest, side="left")
    ends = np.searchsorted(table, lowest | np.uint64((1 << (64 - _BAND_BITS)) - 1), side="right")
    at = np.searchsorted(table, sought)
    first = np.maximum(starts, at - _NEIGHBOURS_PER_BAND // 2)
    last = np.minimum(ends, at + _NEIGHBOURS_PER_BAND // 2)
    lengths = last - first
    places = np.repeat(np.arange(len(sought)), lengths)
    matches = np.arange(lengths.sum()) + np.repeat(first - (np.cumsum(lengths) - lengths), lengths)
    return places, matches, bool(((first > starts) | (last < ends)).any())


def _nearest(pairs: NDArray[np.int64], looks: NDArray[np.uint64], mirror: int) -> tuple[NDArray[np.int64], bool]:
    """The pairs with the nearest ``_CANDIDATES_PER_PICTURE`` of each first picture, and whether there were more."""
    pairs = np.unique(pairs, axis=0)
    distances = _differing_bits(looks[pairs[:, 0]] ^ looks[pairs[:, 1]] ^ np.uint64(mirror))
    pairs = pairs[np.lexsort((pairs[:, 1], distances, pairs[:, 0]))]
    _, starts, counts = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    ranks = np.arange(len(pairs)) - np.repeat(starts, counts)
    kept = ranks < _CANDIDATES_PER_PICTURE
    return pairs[kept], not bool(kept.all())


def _differing_bits(difference: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many bits of each number are set."""
    octets = np.ascontiguousarray(difference).view(np.uint8).reshape(-1, 8)
    return np.asarray(_BITS_OF_OCTET[octets].sum(axis=1, dtype=np.uint8))


# Whether they are


@dataclass(frozen=True, slots=True)
class _Link:
    """Two pictures, by place, that are nearly the same; ``difference`` in grey levels of their small copies."""

    earlier: int
    later: int
    difference: float
    is_mirrored: bool


def _verify(candidates: _Candidates, files: Sequence[Path], read: Callable[[Path], NDArray[np.uint8]]) -> list[_Link]:
    """Read the candidates and keep those that are nearly the same."""
    places = np.unique(np.concatenate([candidates.earlier, candidates.later])).tolist()
    small = dict(zip(places, _read_small([files[place] for place in places], read), strict=True))
    links = []
    for earlier, later, is_mirrored in zip(
        candidates.earlier.tolist(), candidates.later.tolist(), candidates.is_mirrored.tolist(), strict=True
    ):
        one, other = small[earlier], small[later]
        if one is None or other is None:
            continue
        one = one[:, ::-1] if is_mirrored else one
        if _is_same(one, other):
            difference = float(np.abs(one.astype(np.float64) - other).mean())
            links.append(_Link(earlier, later, difference, is_mirrored))
    return links


def _read_small(files: Sequence[Path], read: Callable[[Path], NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8] | None]:
    def read_one(file: Path) -> NDArray[np.uint8] | None:
        try:
            return small_grey(read(file))
        except DataError:
            return None

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), _PORTION):
            yield from pool.map(read_one, files[start : start + _PORTION])


def _is_same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two ``small_grey`` pictures show the same picture, saved or taken in another way.

    One must follow from the other by a curve of brightness and a slight shift: everywhere within 20 grey
    levels, in 99 % of the pixels within 10 (less in pictures of little contrast), with no more than 3 % of the
    variance left unexplained.
    """
    return _follows(one, other) or _follows(other, one)


def _follows(result: NDArray[np.uint8], source: NDArray[np.uint8]) -> bool:
    """Brightness that was cut off at white cannot be had back, so it matters which picture came first."""
    level, wanted = source / 255.0, result.ravel().astype(np.float64)
    down, right = np.gradient(level)
    terms = np.stack([np.ones_like(level), level, level**2, down, right]).reshape(5, -1).T
    weights = np.linalg.lstsq(terms, wanted, rcond=None)[0]
    off = np.abs(wanted - np.clip(terms @ weights, 0, 255))
    if float((off**2).mean()) > _MOST_UNEXPLAINED * float(wanted.var()):
        return False
    strictness = min(1.0, max(0.25, float(wanted.std()) / _USUAL_CONTRAST))
    return (
        float(off.max()) <= strictness * _WORST_PIXEL and float(np.percentile(off, 99)) <= strictness * _MOST_DIFFERENT
    )


def _groups(links: Sequence[_Link]) -> list[list[int]]:
    """Places that are linked, directly or by others: each group ascending, groups by their first place."""
    parents: dict[int, int] = {}

    def leader(place: int) -> int:
        while (parent := parents.setdefault(place, place)) != place:
            parents[place] = parents[parent]
            place = parent
        return place

    for link in links:
        one, other = sorted((leader(link.earlier), leader(link.later)))
        parents[other] = one
    groups: dict[int, list[int]] = defaultdict(list)
    for place in sorted(parents):
        groups[leader(place)].append(place)
    return list(groups.values())
