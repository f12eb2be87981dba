"""The nouns that travel through the house: what lies on disk, what a network sees.

Rows before columns everywhere: sizes are (height, width); boxes are (x1, y1, x2, y2) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    # Torch takes over a second to import; `pixbox schema` and `--help` need only the names.
    from torch import Tensor, device


@dataclass(frozen=True, slots=True)
class Mask:
    """The class of every pixel: (H, W) uint8, 0..N-1 or ``labels.IGNORE``."""

    classes: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.classes.ndim != 2 or self.classes.dtype != np.uint8:
            raise ValueError(f"a mask is (H, W) uint8, not {self.classes.shape} {self.classes.dtype}")


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of one picture.

    Attributes:
        xyxy: (N, 4) float32, pixels of the picture, x2 >= x1 and y2 >= y1.
        classes: (N,) int64 class indices.
        difficult: (N,) bool; such boxes count neither as found nor as missed.
        crowd: (N,) bool; which of the difficult ones stand for many objects at once.
    """

    xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_]

    def __post_init__(self) -> None:
        count = len(self.classes)
        shapes = [flags.shape for flags in (self.difficult, self.crowd)]
        if self.xyxy.shape != (count, 4) or shapes != [(count,)] * 2:
            raise ValueError(f"{self.xyxy.shape} boxes, {count} classes and {shapes} flags do not agree")
        if (self.crowd & ~self.difficult).any():
            raise ValueError("crowds are some of the difficult boxes")


@dataclass(frozen=True, slots=True)
class Category:
    """The class index of a whole picture."""

    index: int


Target = Mask | Boxes | Category


@dataclass(frozen=True, slots=True)
class RunLengths:
    """A set of pixels in COCO's run-length code: column by column, lengths of 0 and 1 in turn, 0 first.

    Attributes:
        size_hw: of the picture.
        counts: the lengths, or COCO's compressed text of them.
    """

    size_hw: tuple[int, int]
    counts: tuple[int, ...] | bytes


@dataclass(frozen=True, slots=True)
class MapSegment:
    """The pixels of one segment in a panoptic map, a picture whose colours number the segments.

    Attributes:
        file: the map, 8-bit RGB.
        number: red + 256 green + 65536 blue of its pixels.
    """

    file: Path
    number: int


@dataclass(frozen=True, slots=True)
class Shape:
    """One object as an annotation file describes it; nothing about it has been checked yet.

    Attributes:
        label: the class as the file names it.
        box_xyxy: (x1, y1, x2, y2) in pixels, as written: may be inverted, outside the picture or NaN.
        region: its pixels: outlines, each (K, 2) float64 x, y in pixels, of which the union counts; run
            lengths; a segment of a map; a mask file in which they are not zero; None where only the box is known.
        difficult: counts neither as found nor as missed.
        crowd: stands for many objects at once; ignored in training.
        where: file and place in it, for messages.
    """

    label: str
    box_xyxy: tuple[float, float, float, float]
    region: tuple[NDArray[np.float64], ...] | RunLengths | MapSegment | Path | None = None
    difficult: bool = False
    crowd: bool = False
    where: str = ""


@dataclass(frozen=True, slots=True)
class Shapes:
    """The objects of one picture, in the order in which they are painted: later ones lie over earlier ones.

    Attributes:
        shapes: none is a picture without objects.
        file: the file that says so.
        size_hw: of the picture, as the file states it; None where it does not.
    """

    shapes: tuple[Shape, ...]
    file: Path
    size_hw: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where the pixels of a picture lie on the earth.

    Attributes:
        crs: the coordinate reference system: ``EPSG:<number>`` where it has one, else WKT.
        transform: (a, b, c, d, e, f) that carry a place in the picture to the map, x = a column + b row + c and
            y = d column + e row + f; whole numbers are corners of pixels, (0, 0) the upper left one of the first.
        metres_per_unit: length of a unit of x and y in metres; None for degrees, or where it is not known.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    metres_per_unit: float | None = None

    def __post_init__(self) -> None:
        if len(self.transform) != 6 or not all(map(isfinite, self.transform)) or not self.determinant:
            raise ValueError(f"{self.transform} carries no picture to a map: six numbers that can be inverted do")
        if self.metres_per_unit is not None and not self.metres_per_unit > 0:
            raise ValueError(f"a unit of the map is no {self.metres_per_unit} metres long")

    @property
    def determinant(self) -> float:
        """Area of a pixel in square units of the map; negative where rows run down and y runs up, as is usual."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d

    @property
    def square_metres(self) -> float | None:
        """Area of a pixel, if the map is one of metres, feet or the like."""
        return None if self.metres_per_unit is None else abs(self.determinant) * self.metres_per_unit**2

    def to_map(self, places_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2) places in the picture, column and row, -> (..., 2) x and y on the map, float64."""
        a, b, c, d, e, f = self.transform
        on_map: NDArray[np.float64] = places_xy @ np.array([(a, d), (b, e)]) + np.array((c, f))
        return on_map


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled (or unlabelled) picture on disk.

    Attributes:
        id: the picture's path below the data root without its suffix, with ``/``: unique within a data set.
        image: absolute path.
        annotation: a mask file; objects; the name of the picture's class; None if unlabelled.
    """

    id: str
    image: Path
    annotation: Path | Shapes | str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture in memory with its target.

    Attributes:
        id: of its Record.
        image: (H, W, 3) uint8 RGB.
        target: in the pixels of ``image``; None if unlabelled.
    """

    id: str
    image: NDArray[np.uint8]
    target: Target | None

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies within what the network sees; needed to carry the network's answer back.

    Attributes:
        original_hw: the picture as it was read.
        input_hw: the network's input.
        content_hw: size of the (resized) picture inside the input.
        top, left: where it starts there, in pixels.
    """

    original_hw: tuple[int, int]
    input_hw: tuple[int, int]
    content_hw: tuple[int, int]
    top: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class BoxTargets:
    """The boxes of B pictures, filled up to M, the most that one of them has.

    Attributes:
        boxes_xyxy: (B, M, 4) float32, pixels of the input.
        classes: (B, M) int64 class indices.
        valid: (B, M) bool; False where a row only fills up.
        difficult: (B, M) bool; such boxes are neither to be found nor background.
    """

    boxes_xyxy: Tensor
    classes: Tensor
    valid: Tensor
    difficult: Tensor

    def to(self, target: device | str, non_blocking: bool = False) -> BoxTargets:
        return BoxTargets(*(part.to(target, non_blocking=non_blocking) for part in self._parts()))

    def pin_memory(self) -> BoxTargets:
        return BoxTargets(*(part.pin_memory() for part in self._parts()))

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.boxes_xyxy, self.classes, self.valid, self.difficult


def stack_boxes(pictures: Sequence[Boxes]) -> BoxTargets:
    """The boxes of a batch, filled up with empty ones."""
    from torch import from_numpy

    most = max((len(boxes.classes) for boxes in pictures), default=0)
    xyxy = np.zeros((len(pictures), most, 4), dtype=np.float32)
    classes = np.zeros((len(pictures), most), dtype=np.int64)
    valid, difficult = np.zeros_like(classes, dtype=np.bool_), np.zeros_like(classes, dtype=np.bool_)
    for row, boxes in enumerate(pictures):
        count = len(boxes.classes)
        xyxy[row, :count], classes[row, :count], valid[row, :count] = boxes.xyxy, boxes.classes, True
        difficult[row, :count] = boxes.difficult
    return BoxTargets(*(from_numpy(array) for array in (xyxy, classes, valid, difficult)))


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass takes.

    Attributes:
        images: (B, 3, H, W) uint8 RGB; scaling to floats happens in the model.
        targets: for pixels (B, H, W) uint8 class indices or ``IGNORE``; for boxes BoxTargets; for whole pictures (B,)
            int64 class indices.
        ids: of the Records.
    """

    images: Tensor
    targets: Tensor | BoxTargets
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, target: device | str, non_blocking: bool = False) -> Batch:
        return replace(
            self,
            images=self.images.to(target, non_blocking=non_blocking),
            targets=self.targets.to(target, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        return replace(self, images=self.images.pin_memory(), targets=self.targets.pin_memory())


@dataclass(frozen=True, slots=True)
class WholeImage:
    """One picture of a validation or test set: what the network sees and the truth at its original size.

    Attributes:
        id: of its Record.
        image: (H, W, 3) uint8 RGB, the network's input.
        placement: of the original picture within ``image``.
        target: in the pixels of the original picture.
        original: the picture as it was read, (H0, W0, 3) uint8 RGB.
    """

    id: str
    image: NDArray[np.uint8]
    placement: Placement
    target: Target | None
    original: NDArray[np.uint8]
