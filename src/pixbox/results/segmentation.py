"""The class of every pixel, as it was predicted."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixbox.drawing import as_png, legend, overlay, side_by_side
from pixbox.labels import IGNORE, LabelMap
from pixbox.results.checks import check_picture, check_probabilities
from pixbox.results.outlines import Region, cut_holes, find_regions
from pixbox.results.rows import Row, area_rows
from pixbox.results.saving import save_files
from pixbox.results.showing import notebook_png, size_text
from pixbox.results.streams import tiff_bytes
from pixbox.results.vectors import coco_document, feature_collection, polygon_feature
from pixbox.sample import Georeference

_PORTION = 1 << 22


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Segmentation:
    """A predicted mask with what is needed to show and save it.

    Attributes:
        name: file name of the picture without folder and suffix.
        image: (H, W, 3) uint8 RGB, the picture at its original size.
        mask: (H, W) uint8, likewise: class indices, or ``IGNORE`` where nothing is said.
        labels: what the indices mean.
        probabilities: (N, H, W) float32, 0 to 1, that sum to one over N, if they were asked for.
        georeference: where the pixels lie on the earth, if the picture says so.
        file_name: of the picture, with its suffix, if it is a file.

    Raises:
        ValueError: the parts have other shapes, types or values, or do not fit one another.
    """

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    labels: LabelMap
    probabilities: NDArray[np.float32] | None = None
    georeference: Georeference | None = None
    file_name: str | None = None

    def __post_init__(self) -> None:
        check_picture(self.image)
        if self.mask.ndim != 2 or self.mask.dtype != np.uint8:
            raise ValueError(f"a mask is (H, W) uint8, not {self.mask.shape} {self.mask.dtype}")
        if self.image.shape != (*self.mask.shape, 3):
            raise ValueError(f"the picture is {self.image.shape}, the mask {self.mask.shape}")
        strange = np.flatnonzero(_value_counts(self.mask)[len(self.labels) : IGNORE])
        if len(strange):
            first = len(self.labels) + int(strange[0])
            raise ValueError(f"the mask holds {first}; there are {len(self.labels)} classes, from 0, and {IGNORE}")
        if self.probabilities is not None:
            check_probabilities(self.probabilities, (len(self.labels), *self.mask.shape))

    def __repr__(self) -> str:
        shares = [f"{name} {100 * share:.1f} %" for name, share in self._shares()]
        shown = ", ".join(shares[:6]) + (f" and {len(shares) - 6} more" if len(shares) > 6 else "")
        return f"Segmentation({self.name}, {size_text(self.image)} pixels: {shown or 'no class'})"

    def _repr_png_(self) -> bytes:
        return notebook_png(self.side_by_side())

    def areas(self) -> dict[str, int]:
        """How many pixels each class has, by name; all classes, in the label map's order."""
        return dict(zip(self.labels.names, _value_counts(self.mask).tolist(), strict=False))

    def confidence(self) -> NDArray[np.float32]:
        """(H, W) float32: the highest probability of each pixel, 1/N to 1."""
        highest: NDArray[np.float32] = self._known_probabilities().max(axis=0)
        return highest

    def entropy(self) -> NDArray[np.float32]:
        """(H, W) float32: -sum(p ln p) / ln N of each pixel: 0 where one class is certain, 1 where all are alike."""
        total = np.zeros(self.mask.shape, dtype=np.float32)
        for probability in self._known_probabilities():
            # The limit of p ln p at 0 is 0.
            total -= probability * np.log(np.maximum(probability, np.finfo(np.float32).tiny))
        # Of a single class it is 0.
        shares: NDArray[np.float32] = (total / math.log(max(2, len(self.labels)))).clip(0, 1)
        return shares

    def regions(self, classes: Collection[str] | None = None) -> list[Region]:
        """Connected regions of all classes, the background too, or of those that are named.

        Raises:
            ValueError: there is no such class.
        """
        wanted = range(len(self.labels)) if classes is None else [_index(self.labels, name) for name in classes]
        return [region for region in find_regions(self.mask) if region.index in wanted]

    def polygons(self, classes: Collection[str] | None = None) -> dict[str, Any]:
        """COCO's description of the regions (``vectors.coco_document``); decoded, it gives the very pixels.

        A region with holes is several polygons that have none and do not overlap.
        """
        regions = self.regions(classes)
        return coco_document(
            self.file_name or self.name, self.mask.shape, regions, cut_holes(self.mask, regions), self.labels
        )

    def geojson(self, classes: Collection[str] | None = None) -> dict[str, Any]:
        """A GeoJSON feature for each region, with its holes: ``class``, ``pixels`` and, on a map, ``square_metres``."""
        size = None if self.georeference is None else self.georeference.square_metres
        features = []
        for region in self.regions(classes):
            properties = {"class": self.labels.names[region.index], "pixels": region.pixels}
            if size is not None:
                properties["square_metres"] = round(region.pixels * size, 4)
            features.append(polygon_feature((region.outline, *region.holes), properties, self.georeference))
        return feature_collection(features, self.georeference)

    def table_rows(self) -> list[Row]:
        """The rows of the picture in ``areas.csv``."""
        return area_rows(self.areas(), self.georeference)

    def overlay(self, opacity: float = 0.5) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the picture with the classes' colours laid over it."""
        return overlay(self.image, self.mask, self.labels, opacity)

    def side_by_side(self, opacity: float = 0.5) -> NDArray[np.uint8]:
        """uint8 RGB: the picture, the overlay beside it, and below them the classes that occur with their shares."""
        colors = dict(zip(self.labels.names, self.labels.colors, strict=True))
        entries = [(f"{name} {100 * share:.1f} %", colors[name]) for name, share in self._shares()]
        return legend(side_by_side([self.image, self.overlay(opacity)]), entries)

    def save(self, path: str | Path, extras: Sequence[str] = ()) -> list[Path]:
        """Write the mask as a palette picture of class indices, and what else is asked for beside it.

        ``path`` is a folder (the mask becomes ``<name>.png``) or a file that ends in ``.png`` or, where rasterio is
        installed, in ``.tif``: a TIFF keeps the ``georeference``. ``extras`` are of ``EXTRAS``; tables such as
        ``areas`` are of a whole run and not written here. Returns the paths written.

        Raises:
            ConfigError: a segmentation has no such extra.
            ValueError: an extra needs probabilities, and this result was made without.
        """
        is_tiff = Path(path).suffix.lower() == ".tif"
        content = partial(self._content, is_tiff=is_tiff)
        return save_files(path, self.name, ".tif" if is_tiff else ".png", extras, "segmentation", content)

    def _content(self, extra: str, is_tiff: bool) -> bytes | str:
        match extra:
            case "overlay":
                return as_png(Image.fromarray(self.overlay()))
            case "side_by_side":
                return as_png(Image.fromarray(self.side_by_side()))
            case "colors":
                return as_png(Image.fromarray(self.labels.colorize(self.mask)))
            case "probabilities":
                buffer = io.BytesIO()
                np.savez_compressed(buffer, probabilities=self._known_probabilities().astype(np.float16))
                return buffer.getvalue()
            case "confidence":
                return as_png(_grey(self.confidence()))
            case "entropy":
                return as_png(_grey(self.entropy()))
            case "polygons":
                return json.dumps(self.polygons(), ensure_ascii=False)
            case "geojson":
                return json.dumps(self.geojson(), ensure_ascii=False)
        if is_tiff:
            return tiff_bytes(self.mask, self.labels.palette, self.georeference)
        mask = Image.fromarray(self.mask)
        mask.putpalette(self.labels.palette)
        return as_png(mask)

    def _shares(self) -> list[tuple[str, float]]:
        """The classes that occur and their shares of the pixels that have a class, the largest first."""
        areas = self.areas()
        total = max(1, sum(areas.values()))
        return [(name, count / total) for name, count in sorted(areas.items(), key=lambda area: -area[1]) if count]

    def _known_probabilities(self) -> NDArray[np.float32]:
        if self.probabilities is None:
            raise ValueError("this result was made without probabilities: predict(..., probabilities=True)")
        return self.probabilities


def _value_counts(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256,) how often each value occurs."""
    # In portions: counting takes eight bytes a pixel.
    flat = np.ascontiguousarray(mask).ravel()
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, flat.size, _PORTION):
        counts += np.bincount(flat[start : start + _PORTION], minlength=256)
    return counts


def _grey(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray((np.minimum(values, 1) * 255).round().astype(np.uint8))


def _index(labels: LabelMap, name: str) -> int:
    if name not in labels.names:
        raise ValueError(f'there is no class "{name}": {", ".join(labels.names[:40])}')
    return labels.names.index(name)
