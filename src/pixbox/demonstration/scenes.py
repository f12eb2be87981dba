"""Aerial scenes drawn by rule: roads, buildings with cast shadows, vegetation and bare ground, with exact masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.demonstration.world import (
    BACKGROUND,
    BUILDING,
    MARGIN,
    ROAD,
    VEGETATION,
    Sun,
    World,
    build,
    lay_ground,
    lay_roads,
    pave,
    photograph,
    plant,
)
from pixbox.errors import DataError
from pixbox.files import write_file

# Part of the label file: a set drawn by older rules is drawn again.
_RULES = 1
_HEADING = "# Aerial scenes drawn by pixbox"
_FIRST_INDEX = {"train": 0, "val": 1_000_000, "test": 2_000_000}


def draw_scene(
    seed: int, index: int, size_hw: tuple[int, int] = (256, 256)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One scene; a pure function of its arguments.

    Returns the picture, (H, W, 3) uint8 RGB, and its mask, (H, W) uint8 with ``BACKGROUND``, ``BUILDING``,
    ``VEGETATION`` and ``ROAD``: the grey value of what is drawn topmost at each pixel.
    """
    rng = np.random.default_rng([seed, index])
    high, wide = size_hw[0] + 2 * MARGIN, size_hw[1] + 2 * MARGIN
    azimuth = rng.uniform(0, 2 * np.pi)
    sun = Sun(np.array([np.cos(azimuth), np.sin(azimuth)], dtype=np.float32), rng.uniform(0.7, 1.2))
    world = World(
        rng,
        sun,
        albedo=lay_ground(rng, (high, wide)),
        mask=np.full((high, wide), BACKGROUND, dtype=np.uint8),
        shadow=np.zeros((high, wide), dtype=np.uint8),
    )
    roads = lay_roads(rng, world.size_hw)
    pave(world, roads)
    build(world, roads)
    relief = plant(world, roads)
    picture = photograph(world, relief)
    inside = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
    return np.ascontiguousarray(picture[inside]), np.ascontiguousarray(world.mask[inside])


def write_scenes(folder: Path, *, seed: int, train: int, val: int, test: int) -> None:
    """Draw a data set: ``images/``, ``masks/``, ``train.txt``, ``val.txt``, ``test.txt`` and ``labels.yaml``.

    A complete set of the same parameters is left as it is; the scenes of a split do not depend on how many
    the others have. ``labels.yaml`` is written last, so that an interrupted call is noticed by the next.

    Raises:
        DataError: the folder holds other data, or cannot be written.
    """
    counts = {"train": train, "val": val, "test": test}
    names = {split: [f"{split}_{number:03d}.png" for number in range(count)] for split, count in counts.items()}
    labels = _label_file(seed, counts)
    target = folder / "labels.yaml"
    try:
        if target.exists():
            written = target.read_text(encoding="utf-8")
            if written == labels and _complete(folder, names):
                return
            if not written.startswith(_HEADING):
                raise DataError("holds a label map that was not made by the demo", where=str(target),
                                hint="Choose another folder.")  # fmt: skip
            target.unlink()
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for split, files in names.items():
            for number, name in enumerate(files):
                image, mask = draw_scene(seed, _FIRST_INDEX[split] + number)
                _write_png(folder / "images" / name, image[:, :, ::-1])
                _write_png(folder / "masks" / name, mask)
            lines = "".join(f"images/{name};masks/{name}\n" for name in files)
            (folder / f"{split}.txt").write_text(lines, encoding="utf-8")
        write_file(target, labels)
    except OSError as error:
        raise DataError(f"cannot be written ({error})", where=str(folder)) from None


def _label_file(seed: int, counts: dict[str, int]) -> str:
    shown = ", ".join(f"{split} {count}" for split, count in counts.items())
    return (
        f"{_HEADING}: seed {seed}, {shown}, rules {_RULES}.\n"
        "classes:\n"
        f'  - {{name: background, value: {BACKGROUND}, color: "#b8a888"}}\n'
        f'  - {{name: building, value: {BUILDING}, color: "#d1495b"}}\n'
        f'  - {{name: vegetation, value: {VEGETATION}, color: "#3e8e5a"}}\n'
        f'  - {{name: road, value: {ROAD}, color: "#33658a"}}\n'
    )


def _complete(folder: Path, names: dict[str, list[str]]) -> bool:
    parts = ("images", "masks")
    return all(
        (folder / part / name).is_file() for files in names.values() for name in files for part in parts
    ) and all((folder / f"{split}.txt").is_file() for split in names)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise OSError(f"{path.name} cannot be encoded")
    path.write_bytes(data.tobytes())
