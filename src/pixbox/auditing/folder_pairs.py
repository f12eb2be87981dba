"""Which two folders hold pictures and their labels: found by equal names, told apart by what the files look like."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np

from pixbox.auditing.survey import Folder, Survey, split_of_path, stem_of, suffix_of
from pixbox.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask
from pixbox.data.mask_facts import mask_facts
from pixbox.data.splits import SplitName
from pixbox.errors import DataError

_LOOKED_UP = 20_000
_PER_FOLDER = (3, 40)
_FOLDERS_PER_STEM = 50
_GROUPS = 24
_OPENED = 3
_LARGEST_OPENED = 64 << 20
_UNTOLD = 0.3
_OTHER_LOOK = 0.1
# Neighbouring pixels of one region differ by no more, also in a JPEG.
_FLAT = 6
_FEW_VALUES = 32
_LEAST_EVIDENCE = 0.3
_BESIDE = (".jpg", ".png")

_MASK_NAME = re.compile(
    r"mask|label|annot|truth|segm|trimap|matte|(?<![a-z])(gts?|segs?|anns?|lbls?|y|targets?|manual\d?)(?![a-z])"
)
_IMAGE_NAME = re.compile(
    r"image|photo|picture|frames?(?![a-z])|(?<![a-z])(imgs?|rgb|jpe?gs?|pics?|x|inputs?|raw|originals?|src|sat)(?![a-z])"
)
_ASIDE_NAME = re.compile(
    r"preview|overlay|thumb|visual|segmentationobject|(?<![a-z])(vis|viz|blend(ed)?|instances?|instanceids|edges?|"
    r"contours?|boundar(y|ies)|depth|pred(iction)?s?|results?|debug|backup|old|tmp)(?![a-z])"
)
_GLUED_END = re.compile(r"(?:masks?|labels?|lbl|gt|seg|annot|truth)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """A folder of pictures and a folder of labels with the same names in them.

    Attributes:
        images, labels: paths below the top; may be one folder.
        end: what follows a picture's stem in its label's.
    """

    images: str
    labels: str
    end: str = ""


@dataclass(frozen=True, slots=True)
class PairGroup:
    """The pairs of the parts of one data set: ``train/`` and ``trainannot/``, ``val/`` and ``valannot/``.

    Attributes:
        pairs: by part; under None where the names speak of no part.
        matches: (picture, label) files that belong together, paths below the top, of all parts.
    """

    pairs: dict[SplitName | None, Pair]
    matches: list[tuple[str, str]]


def find_pair_groups(survey: Survey, suffixes: Collection[str]) -> list[PairGroup]:
    """Groups of folders in which files with these suffixes have the names of pictures; largest first.

    Where the labels may be pictures too (masks), every pair is there both ways round.
    """
    votes: Counter[tuple[str, str, str]] = Counter()
    pairs: defaultdict[tuple[str, str, str], dict[SplitName | None, Pair]] = defaultdict(dict)
    for pair, count in _whole_folders(_vote(survey, suffixes)).most_common():
        (split, images), (labels_split, labels) = split_of_path(pair.images), split_of_path(pair.labels)
        if labels_split in (None, split):
            key = images, labels, pair.end
            # Of scenes with equal file names, each folder of pictures would go with every folder of masks.
            votes[key] += count * (1 + max(0, _name_evidence(pair)))
            pairs[key].setdefault(split, pair)
    groups = []
    for key, _ in votes.most_common(_GROUPS):
        matches = [match for pair in pairs[key].values() for match in find_matches(survey, pair, suffixes)]
        if matches:
            groups.append(PairGroup(pairs[key], matches))
    return groups


def find_matches(survey: Survey, pair: Pair, suffixes: Collection[str]) -> list[tuple[str, str]]:
    """(picture, label) files of equal names in two folders and the folders in them, paths below the top."""
    labels = dict(_named(survey, pair.labels, suffixes, pair.images))
    found = []
    for stem, picture in _named(survey, pair.images, IMAGE_SUFFIXES, pair.labels):
        label = labels.get(stem + pair.end)
        if label is not None and label != picture:
            found.append((picture, label))
    return found


def mask_evidence(survey: Survey, group: PairGroup) -> float:
    """How much speaks for the labels of a group being masks, and the pictures none; above 0 for, below against.

    Counts: what up to three files of each look like, the kinds of files, and the names of folders and ends.
    """
    step = max(1, len(group.matches) // _OPENED)
    sample = group.matches[::step][:_OPENED]
    looks = [(look_of_mask(survey.file(image)), look_of_mask(survey.file(label))) for image, label in sample]
    image_look, label_look = (float(np.mean(part)) for part in zip(*looks, strict=True))
    pair = next(iter(group.pairs.values()))
    image_kinds, label_kinds = ({suffix_of(match[side]) for match in group.matches} for side in (0, 1))
    lossy = {".jpg", ".jpeg"}
    kind = (image_kinds <= lossy and not label_kinds & lossy) - (label_kinds <= lossy and not image_kinds & lossy)
    evidence = label_look - image_look + 0.5 * _name_evidence(pair) + 0.25 * kind
    # Two copies of the pictures are no pictures and masks, whatever the first folder is called.
    is_mask = label_look > image_look + _OTHER_LOOK or name_hint(f"{_differing(pair)[1]}/{pair.end}") > 0
    return evidence if is_mask else min(evidence, 0.0)


def find_odd_names(survey: Survey) -> tuple[str, str] | None:
    """How pictures and masks are called whose names belong together but cannot be matched: ``img_*`` and ``mask_*``.

    Also ``*.jpg`` and ``*.png`` of the same names in one folder. Names are compared without what all files of a
    folder begin and end with; in a single folder, without their first or last word.
    """
    full = sorted(survey.folders.values(), key=lambda folder: -len(folder.pictures))[:_GROUPS]
    for folder in full:
        pictures, masks = ({stem_of(n) for n in folder.pictures if suffix_of(n) == kind} for kind in _BESIDE)
        if len(pictures & masks) > 0.8 * len(pictures) > 0:
            return f"{folder.path}/*.jpg".lstrip("/"), f"{folder.path}/*.png".lstrip("/")
    groups = [group for folder in full if len(folder.pictures) > 1 for group in _named_alike(folder)]
    for one, other in combinations(groups, 2):
        shared = len(one.cores & other.cores)
        (start, end), (other_start, other_end) = sorted((one.affixes, other.affixes))
        # Names that differ by the end alone were matched, and did not look like pictures and masks.
        is_odd = start != other_start or not other_end.startswith(end)
        if is_odd and shared >= 2 and shared >= 0.8 * min(len(one.cores), len(other.cores)):
            first, second = (f"{group.folder}/{'*'.join(group.affixes)}".lstrip("/") for group in (one, other))
            return (second, first) if name_hint(first) > name_hint(second) else (first, second)
    return None


@dataclass(frozen=True, slots=True)
class _NamedAlike:
    """Files of a folder that begin and end alike, and what stands between."""

    folder: str
    affixes: tuple[str, str]
    cores: frozenset[str]


def _named_alike(folder: Folder) -> Iterator[_NamedAlike]:
    stems = [stem_of(name) for name in folder.pictures]
    start, end = _common_start(stems), _common_start([stem[::-1] for stem in stems])[::-1]
    yield _NamedAlike(folder.path, (start, end), frozenset(s[len(start) : len(s) - len(end)] for s in stems))
    words: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for stem in stems:
        if match := re.fullmatch(r"([^\W_]+[\W_])(.+)", stem):
            words[match[1], ""].add(match[2])
        if match := re.fullmatch(r"(.+)([\W_][^\W_]+)", stem):
            words["", match[2]].add(match[1])
    for affixes, cores in words.items():
        if len(cores) >= 0.3 * len(stems):
            yield _NamedAlike(folder.path, affixes, frozenset(cores))


def _common_start(texts: Sequence[str]) -> str:
    """What all begin with, without digits at its end: they belong to a number that goes on."""
    first, last = min(texts), max(texts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length].rstrip("0123456789")


def is_convincing(evidence: float) -> bool:
    return evidence >= _LEAST_EVIDENCE


def look_of_mask(path: Path) -> float:
    """How much a file looks like a mask, 0 to 1: few values in flat regions; 0.3 where it cannot be told."""
    if path.suffix.lower() == ".mat":
        return 1.0
    try:
        status = path.stat()
    except OSError:
        return _UNTOLD
    return _look(path, status.st_mtime_ns) if status.st_size <= _LARGEST_OPENED else _UNTOLD


@lru_cache(maxsize=256)
def _look(path: Path, _changed: int) -> float:
    try:
        mask = read_mask(path)
    except DataError:
        return _UNTOLD
    pixels = mask.pixels
    if pixels.shape[1] < 2:
        return _UNTOLD
    steps = np.abs(np.diff(pixels.astype(np.int32), axis=1)).reshape(len(pixels), pixels.shape[1] - 1, -1).max(axis=2)
    # Palette indices and class numbers have no distance; where they are few, every change is a border.
    if len(mask_facts(mask).values) <= _FEW_VALUES:
        return float(np.mean(steps == 0))
    return float(np.mean(steps <= _FLAT)) ** 4


def _vote(survey: Survey, suffixes: Collection[str]) -> Counter[Pair]:
    """Pairs of folders, and how many files of a sample speak for each."""
    is_mask = not set(suffixes).isdisjoint(MASK_SUFFIXES)
    files = {folder.path: _files(folder, suffixes) for folder in survey.folders.values()}
    files = {path: names for path, names in files.items() if names}
    least, most = _PER_FOLDER
    count = min(max(least, _LOOKED_UP // max(1, len(files))), most)
    neighbours, random = _Neighbours(survey), Random(0)
    votes: Counter[Pair] = Counter()
    for path, names in files.items():
        # At random: every second name may be a mask.
        for name in random.sample(names, min(count, len(names))):
            stem = stem_of(name)
            for base, end in _cuts(stem) if is_mask else [(stem, "")]:
                for images in neighbours.of(path, base):
                    if images != path or end or not is_mask:
                        votes[_above_equal_parts(images, path, end)] += 1
    return votes


def _cuts(stem: str) -> Iterator[tuple[str, str]]:
    """The ways to read a stem as a picture's name and an end."""
    yield stem, ""
    places = {match.start() for match in re.finditer(r"[\W_]", stem)}
    if glued := _GLUED_END.search(stem):
        places.add(glued.start())
    yield from ((stem[:place], stem[place:]) for place in sorted(places) if place)


class _Neighbours:
    """Finds, of the folders that have a file of one name, those whose own paths have most parts in common with one."""

    def __init__(self, survey: Survey) -> None:
        self._by_stem = survey.by_stem
        self._by_part: dict[str, dict[tuple[str, ...], list[str]]] = {}

    def of(self, path: str, stem: str) -> list[str]:
        """The folders; the path itself too, if it has a file of that name."""
        folders: Collection[str] = self._by_stem.get(stem, ())
        if len(folders) > _FOLDERS_PER_STEM:
            groups = (self._groups(stem).get(key, ()) for key in _keys(path))
            folders = {place for group in groups if len(group) <= _FOLDERS_PER_STEM for place in group}
        parts = path.split("/")
        equal = {place: sum(map(str.__eq__, place.split("/"), parts)) for place in folders if place != path}
        most = max(equal.values(), default=0)
        return [place for place in folders if place == path or equal[place] == most]

    def _groups(self, stem: str) -> dict[tuple[str, ...], list[str]]:
        """Folders by what they have in common; where there are thousands, comparing each with each takes minutes."""
        if stem not in self._by_part:
            groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
            for place in self._by_stem[stem]:
                for key in _keys(place):
                    groups[key].append(place)
            self._by_part[stem] = groups
        return self._by_part[stem]


def _keys(path: str) -> Iterator[tuple[str, ...]]:
    """The path without each one of its parts, and its last part."""
    parts = path.split("/")
    yield from ((str(index), *parts[:index], "", *parts[index + 1 :]) for index in range(len(parts)))
    yield ("last", parts[-1])


def _above_equal_parts(images: str, labels: str, end: str) -> Pair:
    """``images/rome`` and ``masks/rome`` are the pair ``images`` and ``masks``; the name of a split is kept."""
    first, second = images.split("/"), labels.split("/")
    if images != labels:
        while len(first) > 1 and len(second) > 1 and first[-1] == second[-1] and not split_of_path(first[-1])[0]:
            first.pop()
            second.pop()
    return Pair("/".join(first), "/".join(second), end)


def _whole_folders(votes: Counter[Pair]) -> Counter[Pair]:
    """Where pictures and labels lie in one folder, and there are many such folders: the folder that holds them."""
    together: defaultdict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in votes:
        if pair.images == pair.labels:
            together[_down_to_split(pair.images), pair.end].append(pair)
    whole: Counter[Pair] = Counter()
    for pair, count in votes.items():
        above = _down_to_split(pair.images)
        if pair.images == pair.labels and len(together[above, pair.end]) > 1:
            pair = Pair(above, above, pair.end)
        whole[pair] += count
    return whole


def _down_to_split(path: str) -> str:
    parts = path.split("/")
    while parts and split_of_path(parts[-1])[0] is None:
        parts.pop()
    return "/".join(parts)


def _named(survey: Survey, path: str, suffixes: Collection[str], without: str) -> Iterator[tuple[str, str]]:
    """Path below the folder without suffix, and path below the top, of the files in and below a folder."""
    start = len(path) + 1 if path else 0
    is_nested = without != path and (not path or without.startswith(f"{path}/"))
    for folder in survey.below(path):
        if is_nested and f"{folder.path}/".startswith(f"{without}/"):
            continue
        prefix = f"{folder.path}/" if folder.path else ""
        for name in _files(folder, suffixes):
            yield f"{prefix}{stem_of(name)}"[start:], prefix + name


def _files(folder: Folder, suffixes: Collection[str]) -> list[str]:
    ends = tuple(suffixes)
    return [name for name in (*folder.pictures, *folder.documents) if name.lower().endswith(ends)]


def _name_evidence(pair: Pair) -> int:
    """2 where the names say masks of pictures, -2 where they say the opposite; less for what is made of either."""
    images, labels = _differing(pair)
    return name_hint(f"{labels}/{pair.end}") - name_hint(images) - is_aside(f"{images}/{labels}/{pair.end}")


def _differing(pair: Pair) -> tuple[str, str]:
    """The paths without the parts that both have: ``data/images/train`` and ``data/masks/train`` differ in one."""
    images, labels = pair.images.split("/"), pair.labels.split("/")
    return "/".join(part for part in images if part not in labels), "/".join(p for p in labels if p not in images)


def is_aside(path: str) -> bool:
    """Whether a path speaks of what is made of pictures or masks: previews, overlays, instances, edges, ..."""
    return _ASIDE_NAME.search(path.lower()) is not None


def name_hint(path: str) -> int:
    """1 for the name of masks, -1 for that of pictures, 0 for any other; the last part that says it counts."""
    for part in reversed(path.lower().split("/")):
        if _MASK_NAME.search(part):
            return 1
        if _IMAGE_NAME.search(part):
            return -1
    return 0
