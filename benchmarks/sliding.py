"""Labelling a large picture window by window: 1080 x 1920, windows of 512, overlap 25 %, Gaussian blending.

pixbox's ``Predictor`` beside MONAI's ``sliding_window_inference`` on the same U-Net with the same weights: fp32, and
with every flag (channels_last, bf16 where the hardware computes it). How many windows are best seen at once depends on
the machine: pixbox chooses itself, MONAI is given one, two and four. MONAI starts its windows at other places unless
the picture's size fits, and averages what the network says as it is. So they are held against each other first on a
picture whose size fits, with MONAI given probabilities and both blending flatly: there the labels must be equal in
99.9 % of the pixels.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.measure import Case, Comparison, Goal, peers, require
from benchmarks.models import PRECISION, SegmentationPair, autocast, flags, normalised, segmentation_pair, teach
from benchmarks.pictures import camvid, drawn_picture
from pixbox.checkpoint import LoadedRun, Position
from pixbox.prediction.predictor import Predictor
from pixbox.results import Segmentation

THREADS = 2
OVERLAP = 0.25
EQUAL = 0.995 if PRECISION == "bf16" else 0.999
"""Least share of pixels with the same label where the windows lie alike; bf16 with BatchNorm folded rounds otherwise
than without, and a network that was taught for a moment is undecided in many pixels."""


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    side = 128 if options.quick else 512
    picture_hw = (270, 480) if options.quick else (1080, 1920)
    with tempfile.TemporaryDirectory() as folder:
        pictures = camvid(options, 4 if options.quick else 16, Path(folder))
        labels = pictures.reader.labels
        pair = segmentation_pair(
            "unet", "resnet18", labels, (side, side), mode="sliding", window=[side, side], overlap=OVERLAP
        )
        teach(pair, pictures.samples(), 2 if options.quick else 30)
    image, _ = drawn_picture(0, picture_hw, len(labels))
    predictor = Predictor(LoadedRun(pair.task, pair.experiment, Position(0, 0, {}), Path()), "cpu")

    def other(name: str, tuned: bool, batch: int) -> Case:
        return Case(name, _monai(pair.model, image, side, tuned=tuned, batch=batch))

    makers = [("MONAI, fp32, 4 at once", False, 4)]
    makers += [(f"MONAI, {flags(PRECISION)}, {batch} at once", True, batch) for batch in (1, 2, 4)]
    cases, left_out = peers(("monai", name, partial(other, name, tuned, batch)) for name, tuned, batch in makers)
    yield Comparison(
        f"{pair.name}, {picture_hw[0]} x {picture_hw[1]}, windows of {side}, pixbox in {PRECISION}",
        "s",
        [Case("pixbox", lambda: _labels(predictor, image)), *cases],
        goals=[Goal("pixbox", None, 1.3, "less than MONAI on two cores that compute bf16 natively")],
        equal=[pair.equal, *([_same_labels(pair, predictor, side)] if cases else [])],
        left_out=left_out,
    )


def _labels(predictor: Predictor, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found = predictor.predict(image)
    assert isinstance(found, Segmentation)
    return found.mask


def _same_labels(pair: SegmentationPair, predictor: Predictor, side: int) -> str:
    step = int(side * (1 - OVERLAP))
    image, _ = drawn_picture(1, (side + step, side + 2 * step), len(pair.task.labels))
    flat = predictor.with_settings(predictor.settings.model_copy(update={"blend": "flat"}))
    wanted = _monai(pair.model, image, side, tuned=True, mode="constant", probabilities=True)()
    share = float((_labels(flat, image) == wanted).mean())
    return require(
        share >= EQUAL, f"the labels where windows lie alike, in {share:.3%} of the pixels ({EQUAL:.1%} asked)"
    )


def _monai(
    model: nn.Module,
    image: NDArray[np.uint8],
    side: int,
    *,
    tuned: bool,
    batch: int = 4,
    mode: str = "gaussian",
    probabilities: bool = False,
) -> Callable[[], NDArray[np.uint8]]:
    """From the picture's pixels to labels, as pixbox does it."""
    from monai.inferers import sliding_window_inference

    layout = torch.channels_last if tuned else torch.contiguous_format
    own = copy.deepcopy(model).to(memory_format=layout).eval()

    def look(windows: Tensor) -> Tensor:
        with autocast(PRECISION if tuned else "32"):
            said: Tensor = own(windows.contiguous(memory_format=layout)).float()
        return said.softmax(dim=1) if probabilities else said

    def run() -> NDArray[np.uint8]:
        with torch.inference_mode():
            pixels = normalised(torch.from_numpy(image).permute(2, 0, 1)[None])
            said: Any = sliding_window_inference(pixels, (side, side), batch, look, OVERLAP, mode)
            classes: NDArray[np.uint8] = said.max(dim=1).indices[0].to(torch.uint8).numpy()
            return classes

    return run
