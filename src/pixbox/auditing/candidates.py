"""What a bare folder may be: one recogniser per layout, each looking at names and at the beginnings of a few files.

A recogniser only supposes; ``auditing.layout`` has the data listed by their reader and keeps what proves right.
"""

from __future__ import annotations

import codecs
import mmap
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote
from xml.sax.saxutils import unescape

from pixbox.auditing.class_tables import find_class_table
from pixbox.auditing.folder_pairs import (
    Pair,
    PairGroup,
    find_odd_names,
    find_pair_groups,
    is_aside,
    is_convincing,
    look_of_mask,
    mask_evidence,
    name_hint,
)
from pixbox.auditing.survey import (
    FILES,
    Survey,
    common_folder,
    inside,
    joined,
    split_of,
    split_of_path,
    stem_of,
    suffix_of,
)
from pixbox.config import AnnotatedFolder, FolderPair, Format
from pixbox.data.formats import Source, voc
from pixbox.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from pixbox.data.splits import SplitName
from pixbox.files import open_file

_HEAD_BYTES = 1 << 14
_LINES = 20
_SAMPLE = 8
_DOCUMENTS_PER_FOLDER = 40
# Natural pictures and their masks differ by this much in looks alone.
_ENOUGH_EVIDENCE = 0.6
_NAME_FILES: Mapping[Format, re.Pattern[str]] = {
    "yolo": re.compile(r".*\.ya?ml|classes\.txt|obj\.names|names\.txt|_darknet\.labels"),
    "labelme": re.compile(r"labels\.txt"),
    "box-list": re.compile(r"classes\.txt"),
}
"""Files that name the classes of a format; their readers look for them in ``data.root``."""
T = TypeVar("T")

Named = dict[SplitName | None, str]
"""Names or paths by the part of the data that they speak of; None where they speak of none."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout that a folder may have.

    Attributes:
        format: of ``data.format``.
        root: folder below the top that becomes ``data.root``; ``..`` for the one that holds the top.
        sources: what ``data.train``, ``data.val`` and ``data.test`` would be.
        labels: what a labelled picture has in this layout: "a line in train.txt".
        most: the largest share of the folder's pictures that can prove to be labelled, 0 to 1.
        is_listed: lists or fixed names say which pictures count; others are left out on purpose.
        evidence: what speaks for it beside the number of pictures; 1 is enough.
    """

    format: Format
    root: str
    sources: Mapping[SplitName, Source]
    labels: str
    most: float = 1.0
    is_listed: bool = False
    evidence: float = 1.0


@dataclass(frozen=True, slots=True)
class LayoutKind:
    """A kind of candidate: what it is called, an example, and what finds it."""

    format: Format
    title: str
    example: str
    find: Callable[[Survey], Iterator[Candidate]]


# Data sets with folders of fixed names.


def _cityscapes(survey: Survey) -> Iterator[Candidate]:
    for place in _folders_with(survey, "leftImg8bit", "gtFine"):
        # The masks of its test part are dummies.
        names = (name for name in ("train", "val") if _has(survey, place, f"leftImg8bit/{name}", f"gtFine/{name}"))
        yield _fixed("cityscapes", place, {split_of(name)[0]: name for name in names}, "label ids in gtFine/")


def _ade20k(survey: Survey) -> Iterator[Candidate]:
    for place in _folders_with(survey, "images", "annotations"):
        names = [
            name
            for name in ("training", "validation")
            if _has(survey, place, f"images/{name}", f"annotations/{name}")
            and any(file.startswith("ADE_") for file in survey.folders[joined(place, "images", name)].pictures[:1])
        ]
        yield _fixed("ade20k", place, {split_of(name)[0]: name for name in names}, "a mask in annotations/")


def _coco_stuff(survey: Survey) -> Iterator[Candidate]:
    for place in _folders_with(survey, "stuffthingmaps"):
        names = (
            name
            for name in survey.children[joined(place, "stuffthingmaps")]
            if _has(survey, place, f"images/{name}") or _has(survey, place, name)
        )
        yield _fixed("coco-stuff", place, {split_of(name)[0]: name for name in names}, "a map in stuffthingmaps/")


def _ccp(survey: Survey) -> Iterator[Candidate]:
    for place in _folders_with(survey, "photos", "annotations"):
        if _has(survey, place, "annotations/pixel-level") and survey.has_file(joined(place, "label_list.mat")):
            yield _fixed("ccp", place, {None: "all"}, "a .mat file in annotations/pixel-level/")


def _voc(survey: Survey) -> Iterator[Candidate]:
    for images, masks in (("JPEGImages", "SegmentationClass"), ("JPEGImages", "SegmentationClassAug"), ("img", "cls")):
        for place in _folders_with(survey, images, masks):
            # With classes of its own it is not Pascal VOC, but two folders and lists of names.
            table = find_class_table(survey.file(place))
            if table is None or {item.name.lower() for item in table.classes} <= set(voc.LABELS.names):
                lists = _id_lists(survey, joined(place, "ImageSets/Segmentation")) or _id_lists(survey, place)
                yield _fixed("voc", place, lists, f"a mask in {masks}/")


def _voc_lists(survey: Survey) -> Iterator[Candidate]:
    for images, files in (("JPEGImages", "Annotations"), ("images", "annotations")):
        for place in _folders_with(survey, images, files):
            lists = _id_lists(survey, joined(place, "ImageSets/Main"))
            yield _fixed("voc-boxes", place, lists, f"an XML file in {files}/")


def _fixed(name: Format, place: str, found: Mapping[SplitName | None, str], labels: str) -> Candidate:
    return Candidate(name, place, _splits(found), labels, is_listed=True)


def _folders_with(survey: Survey, *names: str) -> list[str]:
    return [path for path, children in survey.children.items() if set(names) <= set(children)]


def _has(survey: Survey, place: str, *names: str) -> bool:
    return all(joined(place, name) in survey.folders for name in names)


def _id_lists(survey: Survey, place: str) -> Named:
    """The lists ``train.txt``, ``val.txt``, ``test.txt``, or else ``trainval.txt``, in a folder: name by part."""
    folder = survey.folders.get(place)
    stems = [name.removesuffix(".txt") for name in folder.documents if name.endswith(".txt")] if folder else []
    found: Named = {split_of(stem)[0]: stem for stem in stems if split_of(stem)[1] == "{}"}
    return found or ({None: "trainval"} if "trainval" in stems else {})


# Lists.


def _pair_lists(survey: Survey) -> Iterator[Candidate]:
    """Lists of ``image;label``; paths are relative to a folder above the list, or to the one that holds the top."""

    def pair(row: list[str]) -> list[str]:
        return row if len(row) == 2 and all(suffix_of(field) in FILES for field in row) else []

    for base, lists in _lists_of_files(survey, (".txt", ".csv"), pair):
        yield Candidate(
            "list", base, _splits(lists), f"a line with a mask in {_either(lists.values())}", is_listed=True
        )


def _lists_of_files(
    survey: Survey, suffixes: tuple[str, ...], files_of: Callable[[list[str]], list[str]]
) -> Iterator[tuple[str, Named]]:
    """The folder that lists of files are relative to, and the lists, as paths below it.

    Args:
        files_of: the paths in a row of fields; none if the row is not of such a list.
    """
    found: defaultdict[tuple[str, str], Named] = defaultdict(dict)
    for path in _documents(survey, *suffixes):
        rows = _rows(survey, path)
        files = [paths for paths in map(files_of, rows) if paths]
        # A table may have a line of titles.
        if files and len(files) >= len(rows) - 1 and (base := _base(survey, path, files)) is not None:
            split, template = split_of_path(path)
            below_base = f"{survey.top.name}/{path}" if base == ".." else inside(path, base)
            found[base, template].setdefault(split, below_base)
    yield from ((base, lists) for (base, _), lists in found.items())


def _base(survey: Survey, path: str, rows: Sequence[Sequence[str]]) -> str | None:
    """The folder that the paths in a list are relative to."""
    fields = [field.replace("\\", "/").removeprefix("./") for row in rows for field in row]
    for base in _above(path):
        if sum(survey.has_file(joined(base, field)) for field in fields) > len(fields) / 2:
            return base
    top = f"{survey.top.name}/"
    within = [field.removeprefix(top) for field in fields if field.startswith(top)]
    return ".." if sum(map(survey.has_file, within)) > len(fields) / 2 else None


def _above(path: str) -> Iterator[str]:
    """The folders above a file, nearest first; the last is the top."""
    while path:
        path = os.path.dirname(path)
        yield path


# One file that describes many pictures.


def _box_lists(survey: Survey) -> Iterator[Candidate]:
    yield from _described(survey, "box-list", (".txt",), _names_in_box_list, "a line of boxes")


def _coco(survey: Survey) -> Iterator[Candidate]:
    order = ("instances", "panoptic", "stuff", "person_keypoints")
    for candidate in _described(survey, "coco", (".json",), _names_in_coco, "an entry"):
        yield replace(candidate, evidence=1 - 0.05 * sum(kind in candidate.labels for kind in order[1:]))


def _cvat(survey: Survey) -> Iterator[Candidate]:
    yield from _described(survey, "cvat", (".xml",), _names_in_cvat, "an entry")


def _label_studio(survey: Survey) -> Iterator[Candidate]:
    yield from _described(survey, "label-studio", (".json",), _names_in_label_studio, "an entry")


def _described(
    survey: Survey, name: Format, suffixes: tuple[str, ...], names_in: Callable[[Path], list[str]], entry: str
) -> Iterator[Candidate]:
    """Candidates of files in which pictures are described by name.

    Args:
        names_in: the names of some pictures, relative to some folder; none if it is not such a file.
    """
    found = []
    for path in _documents(survey, *suffixes):
        names = names_in(survey.file(path))
        images = _folder_of(survey, names, path) if names else None
        if images is not None:
            found.append((images, path))
    for root, sources in _by_annotations(survey, found, name):
        pictures = {joined(root, source.images) for source in sources.values()}
        most = sum(_count(survey, images) for images in pictures) / max(1, _count(survey, ""))
        files = _either(source.annotations for source in sources.values())
        yield Candidate(name, root, sources, f"{entry} in {files}", min(1.0, most))


def _by_annotations(
    survey: Survey, found: Iterable[tuple[str, str]], name: Format
) -> Iterator[tuple[str, dict[SplitName, AnnotatedFolder]]]:
    """Root and sources of (folder of pictures, annotations) that differ in the part that their paths speak of."""
    groups: defaultdict[str, dict[SplitName | None, tuple[str, str]]] = defaultdict(dict)
    for images, path in found:
        split, template = split_of_path(path)
        groups[template].setdefault(split or split_of_path(images)[0], (images, path))
    for group in groups.values():
        # A folder of annotations lies in one, as a file does.
        places = [place for images, path in group.values() for place in (images, os.path.dirname(path))]
        root = _with_names(survey, common_folder(places), name)
        sources = {
            split: AnnotatedFolder(images=inside(images, root), annotations=inside(path, root))
            for split, (images, path) in group.items()
        }
        yield root, _splits(sources)


def _folder_of(survey: Survey, names: Iterable[str], path: str) -> str | None:
    """The folder that names of pictures in a file are relative to: the one that has most of them."""
    votes: Counter[str] = Counter()
    for name in names:
        place, file = os.path.split(name.replace("\\", "/").removeprefix("./"))
        for folder in survey.by_stem.get(stem_of(file), ()):
            if survey.has_file(joined(folder, file)) and f"/{folder}".endswith(f"/{place}".rstrip("/")):
                votes[folder[: len(folder) - len(place)].rstrip("/")] += 1
    if not votes:
        return None
    split = split_of_path(path)[0]
    return max(
        votes, key=lambda folder: (votes[folder], split_of_path(folder)[0] == split, folder == os.path.dirname(path))
    )


def _names_in_box_list(file: Path) -> list[str]:
    rows = [line.split() for line in _lines(file)]
    boxes = [row for row in rows if suffix_of(row[0]) in IMAGE_SUFFIXES and len(row) % 5 == 1]
    boxes = [row for row in boxes if all(re.fullmatch(r"-?\d+(\.\d*)?", field) for field in row[1:])]
    is_list = len(boxes) == len(rows) and any(len(row) > 1 for row in boxes)
    return [row[0] for row in boxes[:_SAMPLE]] if is_list else []


def _names_in_coco(file: Path) -> list[str]:
    head = _head(file).lstrip()
    key = re.match(r'\{\s*"(info|licenses|images|annotations|categories|type)"\s*:', head)
    return _found(file, rb'"file_name"\s*:\s*"([^"]+)"') if key and "caption" not in file.name else []


def _names_in_cvat(file: Path) -> list[str]:
    is_cvat = re.search(r"<annotations[\s>]", _head(file)[:1024])
    return (
        [unescape(name, {"&quot;": '"'}) for name in _found(file, rb'<image\s[^>]*?name="([^"]*)"')] if is_cvat else []
    )


def _names_in_label_studio(file: Path) -> list[str]:
    head = _head(file)
    if not re.match(r"\s*\[", head) or not re.search(r'"(annotations|completions|data|image)"\s*:', head):
        return []
    suffixes = "|".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    paths = _found(file, rf'"([^"]+\.(?:{suffixes}))"'.encode())
    # An upload is called by eight digits and the name of the file.
    names = (re.split(r"[/=\\]", unquote(path))[-1] for path in paths)
    return [form for name in names for form in (name, re.sub(r"^[0-9a-f]{8}-", "", name))]


def _found(file: Path, pattern: bytes) -> list[str]:
    """The first few matches in a file that may be very large."""
    try:
        with open_file(file) as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = [match[1] for match in islice(re.finditer(pattern, content, re.IGNORECASE), _SAMPLE)]
    except (OSError, ValueError):
        return []
    return [text.decode("utf-8", "replace").replace("\\/", "/") for text in found]


# Two folders with files of the same names.


def _folders(survey: Survey) -> Iterator[Candidate]:
    for group in find_pair_groups(survey, MASK_SUFFIXES):
        evidence = mask_evidence(survey, group)
        if is_convincing(evidence):
            for candidate in _of_group(survey, group, "folders", "a mask"):
                yield replace(candidate, evidence=evidence / _ENOUGH_EVIDENCE)


def _labelme(survey: Survey) -> Iterator[Candidate]:
    yield from _annotated(survey, "labelme", ".json", _is_labelme, "a JSON file")


def _voc_folders(survey: Survey) -> Iterator[Candidate]:
    yield from _annotated(survey, "voc-boxes", ".xml", _is_voc_xml, "an XML file")


def _yolo(survey: Survey) -> Iterator[Candidate]:
    found = list(_annotated(survey, "yolo", ".txt", _is_yolo, "a text file"))

    def picture(row: list[str]) -> list[str]:
        # CVAT writes `data/obj_train_data/a.jpg` for a folder beside the list.
        return [row[0].removeprefix("data/")] if len(row) == 1 and suffix_of(row[0]) in IMAGE_SUFFIXES else []

    for base, lists in _lists_of_files(survey, (".txt",), picture) if found else ():
        if base != "..":
            yield Candidate("yolo", base, _splits(lists), f"a line in {_either(lists.values())}", is_listed=True)
    yield from found


def _annotated(
    survey: Survey, name: Format, suffix: str, is_one: Callable[[Path], bool | None], file: str
) -> Iterator[Candidate]:
    """Candidates of one annotation file a picture.

    Args:
        is_one: whether a file is one of the format; None if it does not say.
    """
    for group in find_pair_groups(survey, (suffix,)):
        step = max(1, len(group.matches) // (4 * _SAMPLE))
        said = [is_one(survey.file(label)) for _, label in group.matches[::step]]
        told = [answer for answer in said if answer is not None]
        if sum(told) > len(told) / 2:
            yield from _of_group(survey, group, name, file)


def _of_group(survey: Survey, group: PairGroup, name: Format, file: str) -> Iterator[Candidate]:
    """The candidate of a group of folders, and before it one for each set of lists of names that goes with it."""
    folders = [folder for pair in group.pairs.values() for folder in (pair.images, pair.labels)]
    whole = group.pairs.get(None)
    end = next(iter(group.pairs.values())).end
    called = f"{file} of the same name{f' with {end}' if end else ''}"
    for lists in _lists_of_names(survey, whole.images) if whole else ():
        root = _with_names(survey, common_folder([*folders, *map(os.path.dirname, lists.values())]), name)
        found = {split: _source(name, whole, root, inside(path, root)) for split, path in lists.items() if whole}
        named = f"{called} in {folder_name(inside(whole.labels, root))}" if whole else called
        yield Candidate(name, root, _splits(found), named, is_listed=True)
    root = _with_names(survey, common_folder(folders), name)
    sources = {split: _source(name, pair, root) for split, pair in group.pairs.items()}
    most = len(group.matches) / max(1, pictures_beside(survey, group.matches))
    is_beside = all(pair.images == pair.labels for pair in group.pairs.values())
    places = _either(folder_name(inside(pair.labels, root)) for pair in group.pairs.values())
    yield Candidate(name, root, _splits(sources), f"{called} {'beside it' if is_beside else f'in {places}'}", most)


def pictures_beside(survey: Survey, pairs: Collection[tuple[str, str]], place: str = "") -> int:
    """How many pictures lie in and below a folder whose labels are these.

    What lies in a folder of labels is no picture, nor is a label in a folder of pictures. Folders that are called
    after masks, previews or overlays hold none either.

    Args:
        pairs: (picture, label) files, paths below the top.
    """
    holding = {os.path.dirname(picture) for picture, _ in pairs}
    aside = {os.path.dirname(label) for _, label in pairs} - holding
    labels = {label for _, label in pairs if suffix_of(label) in IMAGE_SUFFIXES}
    count = 0
    for folder in survey.below(place):
        if folder.path in holding:
            count += folder.images - sum(joined(folder.path, n) in labels for n in folder.pictures)
        elif folder.path not in aside and name_hint(folder.path) <= 0 and not is_aside(folder.path):
            count += folder.images
    return count


def _source(name: Format, pair: Pair, root: str, ids: str | None = None) -> Source:
    images, labels = inside(pair.images, root), inside(pair.labels, root)
    if name == "folders":
        return FolderPair(images=images, masks=labels, mask_suffix=pair.end, ids=ids)
    return AnnotatedFolder(images=images, annotations=labels, ids=ids)


def _lists_of_names(survey: Survey, images: str) -> Iterator[Named]:
    """Lists whose lines are names of pictures in a folder, by the part that the lists' names speak of."""
    groups: defaultdict[str, Named] = defaultdict(dict)
    for path in _documents(survey, ".txt"):
        split, template = split_of_path(path)
        rows = _rows(survey, path) if split is not None else []
        if rows and all(len(row) == 1 for row in rows):
            there = sum(_is_picture_name(survey, images, row[0]) for row in rows)
            if there > len(rows) / 2:
                groups[template].setdefault(split, path)
    yield from groups.values()


def _is_picture_name(survey: Survey, images: str, name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    place, stem = os.path.split(stem if suffix.lower() in IMAGE_SUFFIXES else name)
    return joined(images, place) in survey.by_stem.get(stem, ())


def _with_names(survey: Survey, root: str, name: Format) -> str:
    """The folder itself, or the nearest one above it with the file that names the classes of a format."""
    pattern = _NAME_FILES.get(name)
    places = (root, *_above(root)) if pattern else ()
    names = ((place, file.lower()) for place in places for file in survey.folders[place].documents)
    return next((place for place, file in names if pattern and pattern.fullmatch(file)), root)


def _is_labelme(file: Path) -> bool:
    return bool(re.search(r'"shapes"\s*:\s*\[', _head(file)))


def _is_voc_xml(file: Path) -> bool:
    return bool(re.search(r"<annotation[\s>]", _head(file)[:1024]))


def _is_yolo(file: Path) -> bool | None:
    rows = [line.split() for line in _lines(file)]
    if not rows:
        return None
    numbers = r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?"
    return all(
        re.fullmatch(r"\d+", row[0])
        and (len(row) == 5 or (len(row) >= 7 and len(row) % 2))
        and all(re.fullmatch(numbers, field) for field in row[1:])
        for row in rows
    )


# Folders that are labels themselves.


def _objects(survey: Survey) -> Iterator[Candidate]:
    """``train/<id>/images`` with one picture and ``train/<id>/masks``, or ``images/<id>.png`` and ``masks/<id>/``."""
    entry = "a mask for each object"
    scenes: Counter[str] = Counter()
    for path in _folders_with(survey, "images", "masks"):
        if path and len(survey.folders[joined(path, "images")].pictures) == 1:
            scenes[os.path.dirname(path)] += 1
    for root, group in _by_split(place for place, count in scenes.items() if count > 1):
        others = sum(f.images for path, f in survey.folders.items() if "/masks/" not in f"/{path}/")
        most = sum(scenes[joined(root, place)] for place in group.values()) / max(1, others)
        yield Candidate("objects", root, _splits(group), f"{entry} beside it", min(1.0, most))
    pairs = ((images, masks) for masks in survey.children for images in _pictures_of_objects(survey, masks))
    for root, sources in _by_annotations(survey, pairs, "objects"):
        yield Candidate("objects", root, sources, f"{entry} in a folder of its name")


def _pictures_of_objects(survey: Survey, masks: str) -> Iterator[str]:
    """The folder whose pictures have the names of the folders in a folder of masks, if there is one."""
    names = survey.children[masks]
    places = Counter(images for name in names for images in survey.by_stem.get(name, ()))
    for images, count in places.most_common(1):
        files = survey.folders[joined(masks, names[0])].pictures
        if count >= max(2, len(names) / 2) and files and not f"{images}/".startswith(f"{masks}/"):
            first = survey.file(joined(masks, names[0], files[0]))
            yield from [images] if look_of_mask(first) > 0.5 else []


def _by_split(places: Iterable[str]) -> Iterator[tuple[str, Named]]:
    """Folders that differ in the part of the data that they speak of: the root, and their paths below it."""
    groups: defaultdict[str, Named] = defaultdict(dict)
    for place in places:
        split, template = split_of_path(place)
        groups[template].setdefault(split, place)
    for group in groups.values():
        root = common_folder(group.values())
        yield root, {split: inside(place, root) for split, place in group.items()}


def _classes(survey: Survey) -> Iterator[Candidate]:
    """Folders beside each other that hold pictures and nothing else."""
    total = max(1, _count(survey, ""))
    for root, group in _by_split(path for path in survey.folders if _holds_classes(survey, path)):
        most = sum(_count(survey, joined(root, path)) for path in group.values()) / total
        # Albums look the same, but have no training and validation part; and so do folders of pictures and masks.
        evidence = 0.6 if len(group) < 2 else 0.9
        if evidence < 0.9 and find_odd_names(survey):
            continue
        yield Candidate("imagefolder", root, _splits(group), "a class by its folder", most, evidence=evidence)


def _holds_classes(survey: Survey, path: str) -> bool:
    if survey.folders[path].pictures:
        return False
    places = [survey.folders[joined(path, name)] for name in survey.children[path]]
    classes = [place for place in places if place.pictures]
    names = [os.path.basename(place.path) for place in classes]
    is_other = any(place.documents for place in classes) or any(split_of(n)[0] or name_hint(n) for n in names)
    return len(classes) >= 2 and not is_other


LAYOUTS: tuple[LayoutKind, ...] = (
    LayoutKind("cityscapes", "Cityscapes",
               "leftImg8bit/train/ulm/a_leftImg8bit.png, gtFine/train/ulm/a_gtFine_labelIds.png", _cityscapes),
    LayoutKind("ade20k", "ADE20K", "images/training/ADE_1.jpg, annotations/training/ADE_1.png", _ade20k),
    LayoutKind("coco-stuff", "COCO-Stuff", "images/train2017/1.jpg, stuffthingmaps/train2017/1.png", _coco_stuff),
    LayoutKind("ccp", "Clothing Co-Parsing", "photos/1.jpg, annotations/pixel-level/1.mat, label_list.mat", _ccp),
    LayoutKind("voc", "Pascal VOC, masks",
               "ImageSets/Segmentation/train.txt, JPEGImages/a.jpg, SegmentationClass/a.png", _voc),
    LayoutKind("list", "lists of pictures and masks", "train.txt with lines images/a.jpg;masks/a.png", _pair_lists),
    LayoutKind("objects", "one mask an object", "train/ID/images/a.png, train/ID/masks/1.png, 2.png, ...", _objects),
    LayoutKind("folders", "pictures and masks in folders", "images/a.jpg, masks/a.png (or a_mask.png)", _folders),
    LayoutKind("voc-boxes", "Pascal VOC, boxes",
               "ImageSets/Main/train.txt, JPEGImages/a.jpg, Annotations/a.xml", _voc_lists),
    LayoutKind("coco", "COCO JSON", "annotations/instances_train.json, train/a.jpg", _coco),
    LayoutKind("cvat", "CVAT for images", "annotations.xml, images/a.jpg", _cvat),
    LayoutKind("label-studio", "Label Studio JSON", "export.json, images/a.jpg", _label_studio),
    LayoutKind("box-list", "lists of boxes", "train.txt with lines a.jpg ymin xmin ymax xmax class ...", _box_lists),
    LayoutKind("labelme", "labelme", "a.jpg, a.json", _labelme),
    LayoutKind("yolo", "YOLO", "images/train/a.jpg, labels/train/a.txt", _yolo),
    LayoutKind("voc-boxes", "an XML file of boxes a picture", "images/a.jpg, annotations/a.xml", _voc_folders),
    LayoutKind("imagefolder", "a folder a class", "train/cat/a.jpg, train/dog/b.jpg", _classes),
)  # fmt: skip
"""All layouts that are recognised. Of two that explain the same pictures, the one that stands first is right."""


def find_candidates(survey: Survey) -> Iterator[tuple[LayoutKind, Candidate]]:
    for kind in LAYOUTS:
        yield from ((kind, candidate) for candidate in kind.find(survey) if candidate.sources)


# What recognisers share.


def _splits(found: Mapping[SplitName | None, T]) -> dict[SplitName, T]:
    """What is trained on: what speaks of training, else of no part, else the first there is."""
    named: dict[SplitName, T] = {split: value for split, value in found.items() if split is not None}
    if "train" not in named and None in found:
        return {"train": found[None], **named}
    if "train" not in named and named:
        return {"train": named.pop(next(iter(named))), **named}
    return named


def _documents(survey: Survey, *suffixes: str) -> Iterator[str]:
    """Files that may describe many pictures: those that are not called like a picture, of each folder a few."""
    for folder in survey.folders.values():
        files = [
            name for name in folder.documents if suffix_of(name) in suffixes and stem_of(name) not in survey.by_stem
        ]
        if len(files) > _DOCUMENTS_PER_FOLDER:
            files.sort(key=lambda name: split_of(name)[0] is None)
        yield from (joined(folder.path, name) for name in files[:_DOCUMENTS_PER_FOLDER])


def _rows(survey: Survey, path: str) -> list[list[str]]:
    """The fields of the first lines of a list."""
    lines = _lines(survey.file(path))
    parts = (re.split(r"[;\t,]" if re.search(r"[;\t,]", line) else r"\s+", line) for line in lines)
    return [[field.strip() for field in fields if field.strip()] for fields in parts]


def _lines(file: Path) -> list[str]:
    """The first lines that say something; a line that is cut off is left out."""
    text = _head(file)
    whole = text.splitlines() if len(text) < _HEAD_BYTES / 2 else text.splitlines()[:-1]
    stripped = (line.strip() for line in whole)
    return list(islice((line for line in stripped if line and not line.startswith("#")), _LINES))


def _head(file: Path) -> str:
    """The beginning of a text file; nothing if it cannot be read."""
    try:
        with open_file(file) as stream:
            data = stream.read(_HEAD_BYTES)
    except OSError:
        return ""
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig", "replace")


def _count(survey: Survey, path: str) -> int:
    """Pictures in and below a folder."""
    return sum(folder.images for folder in survey.below(path))


def folder_name(path: str) -> str:
    return "the folder" if path == "." else f"{path}/"


def _either(names: Iterable[object]) -> str:
    return " or ".join(dict.fromkeys(map(str, names)))
