"""From folders of pictures to files of predictions."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pixbox.config import Task
from pixbox.data.images import IMAGE_SUFFIXES
from pixbox.errors import DataError, Fault
from pixbox.files import write_file
from pixbox.prediction.predictor import Predictor
from pixbox.results import Detections, extra_file

SUFFIX: Mapping[Task, str] = {"segmentation": ".png", "detection": ".json", "classification": ".json"}
"""Of the file that is written for each picture."""


def find_pictures(inputs: Sequence[Path], out: Path) -> dict[Path, Path]:
    """The pictures that files and folders stand for, each with its path relative to the folder that was named.

    Folders are searched through all levels, but not in ``out``: what an earlier prediction wrote there is no
    input. Sorted; every picture once.

    Raises:
        DataError: an input does not exist, or a folder holds no picture.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        if given.is_dir():
            pictures = _search(given, out)
            if not pictures:
                raise DataError(
                    f"no picture in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})", where=str(given)
                )
            found |= {picture: picture.relative_to(given) for picture in pictures}
        elif given.is_file():
            found[given] = Path(given.name)
        else:
            raise DataError("no such file or folder", where=str(given))
    return dict(sorted(found.items()))


def _search(folder: Path, out: Path) -> list[Path]:
    inside, root = out.resolve(), folder.resolve()
    results = folder / inside.relative_to(root) if inside != root and inside.is_relative_to(root) else None
    return [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not (results is not None and path.is_relative_to(results))
    ]


def output_paths(
    pictures: Mapping[Path, Path], out: Path, extras: Sequence[str], suffix: str = ".png"
) -> dict[Path, Path]:
    """Picture -> path of its result below ``out``, where it mirrors the picture's relative path.

    ``a/x.jpg`` becomes ``a/x.png``; where ``a/x.png`` is there too, ``a/x.jpg.png`` and ``a/x.png.png``.

    Raises:
        DataError: two masks, or a mask and one of the ``extras``, would have the same path, or would be written
            over a picture.
    """
    stems = Counter(relative.with_suffix("") for relative in pictures.values())
    inputs = {os.path.realpath(picture) for picture in pictures}
    paths: dict[Path, Path] = {}
    owner: dict[Path, Path] = {}
    for picture, relative in pictures.items():
        shared = stems[relative.with_suffix("")] > 1
        mask = out / relative.parent / f"{relative.name if shared else relative.stem}{suffix}"
        paths[picture] = mask
        for path in (mask, *(extra_file(mask, extra) for extra in set(extras))):
            if path in owner:
                raise DataError(
                    f"its result would be written to {path}, and so would that of {owner[path]}",
                    where=str(picture),
                    hint="Predict the two with different --out.",
                )
            if os.path.realpath(path) in inputs:
                raise DataError(
                    "this picture would be overwritten by a result",
                    where=str(path),
                    hint="Write the results into another folder: --out.",
                )
            owner[path] = picture
    return paths


def predict_files(
    predictor: Predictor,
    paths: Mapping[Path, Path],
    extras: Sequence[str],
    out: Path,
    progress: Callable[[int, int], None],
) -> tuple[dict[Path, Path], list[Fault]]:
    """Predict each picture and save it; a picture that cannot be read is a fault in the result.

    ``paths`` maps pictures to files, ``extras`` are of ``results.EXTRAS``. Boxes of all pictures also come to
    ``predictions.json`` in ``out``. Returns picture -> file for those that were written, and the faults.
    """
    written: dict[Path, Path] = {}
    failed: list[Fault] = []
    boxes = _CocoResults(out)
    for done, (picture, path) in enumerate(paths.items(), start=1):
        try:
            result = predictor.predict(picture, probabilities="probabilities" in extras)
        except DataError as error:
            failed.extend(error.faults)
        else:
            result.save(path, extras)
            written[picture] = path
            if isinstance(result, Detections):
                boxes.add(picture, result)
        progress(done, len(paths))
    boxes.save()
    return written, failed


class _CocoResults:
    """All boxes in COCO's results format, with the list of pictures that its ``image_id`` count."""

    def __init__(self, out: Path) -> None:
        self._path = out / "predictions.json"
        self._images: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []
        self._categories: list[dict[str, Any]] = []

    def add(self, picture: Path, found: Detections) -> None:
        image_id = len(self._images) + 1
        height, width = found.image.shape[:2]
        self._images.append({"id": image_id, "file_name": picture.as_posix(), "height": height, "width": width})
        self._categories = [{"id": i, "name": name} for i, name in enumerate(found.labels.names, start=1)]
        for (x1, y1, x2, y2), index, score in zip(
            found.boxes_xyxy.tolist(), found.classes.tolist(), found.scores.tolist(), strict=True
        ):
            box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
            self._results.append(
                {"image_id": image_id, "category_id": index + 1, "bbox": box, "score": round(score, 5)}
            )

    def save(self) -> None:
        """``predictions.json`` holds the results; ``predictions_images.json`` beside it what their ids mean."""
        if self._images:
            write_file(self._path, json.dumps(self._results))
            described = {"images": self._images, "categories": self._categories}
            write_file(self._path.with_name("predictions_images.json"), json.dumps(described, ensure_ascii=False))
