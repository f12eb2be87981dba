"""Labelling the pixels of pictures: the network alone on 1 x 3 x 352 x 480, and the whole way from file to PNG.

pixbox's ``Predictor`` and ``pixbox.predict`` beside a U-Net of segmentation-models-pytorch (SMP) with the same weights:
fp32 as it is, channels_last, every flag (bf16 where the hardware computes it), and ONNX Runtime where it is there (it
comes with the extra ``export``). From file to PNG all begin with a file of weights. The labels must be equal in 99.5 %
of the pixels.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import pixbox
from benchmarks.measure import Case, Comparison, Goal, is_installed, require
from benchmarks.models import PRECISION, SegmentationPair, autocast, flags, normalised, segmentation_pair, teach
from benchmarks.pictures import Pictures, camvid
from pixbox.checkpoint import LoadedRun, Position, describe_run, write_checkpoint
from pixbox.prediction.predictor import Predictor

THREADS = 2
SIZE_HW = (352, 480)
EQUAL = 0.995
"""Least share of pixels with the same label."""
EAGER = "SMP, fp32"


def comparisons(options: argparse.Namespace) -> Iterator[Comparison]:
    with tempfile.TemporaryDirectory() as folder:
        pictures = camvid(options, 4 if options.quick else 32, Path(folder) / "camvid")
        pair = segmentation_pair("unet", "resnet18", pictures.reader.labels, SIZE_HW)
        samples = pictures.samples()
        teach(pair, samples, 2 if options.quick else 30)
        height, width = (96, 128) if options.quick else SIZE_HW
        yield _network(pair, samples[0].image[:height, :width])
        yield _verb(pair, pictures, Path(folder))


def _network(pair: SegmentationPair, image: NDArray[np.uint8]) -> Comparison:
    predictor = Predictor(LoadedRun(pair.task, pair.experiment, Position(0, 0, {}), Path()), "cpu")
    prepared = predictor.prepare(image)

    def ours() -> NDArray[np.uint8]:
        return predictor.label(prepared.fitted, prepared.placement).numpy()  # type: ignore[no-any-return]  # a tensor

    batch = normalised(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
    cases = {EAGER: _labels(pair.model, batch, "32", tuned=False)}
    cases["SMP, channels_last"] = _labels(pair.model, batch, "32", tuned=True)
    if PRECISION == "bf16":
        cases[f"SMP, {flags(PRECISION)}"] = _labels(pair.model, batch, PRECISION, tuned=True)
    left_out = {}
    if is_installed("onnxruntime") and is_installed("onnxscript"):
        cases["ONNX Runtime, fp32"] = _onnx(pair.model, batch)
    else:
        left_out["ONNX Runtime, fp32"] = "onnxruntime and onnxscript are not installed (pip install 'pixbox[export]')"
    found = ours()
    shares = [float((found == run()).mean()) for run in cases.values()]
    words = f"the labels, in {min(shares):.2%} of the pixels or more ({EQUAL:.1%} asked)"
    height, width = image.shape[:2]
    return Comparison(
        f"The network, {pair.name}, 1 x 3 x {height} x {width}, pixbox in {PRECISION}",
        "pictures/s",
        [Case("pixbox", ours), *(Case(name, run) for name, run in cases.items())],
        goals=[Goal("pixbox", EAGER, 3.0, "the network in `predict`, where bf16 is computed by the hardware")],
        equal=[pair.equal, require(min(shares) >= EQUAL, words)],
        left_out=left_out,
    )


def _labels(model: nn.Module, batch: Tensor, precision: str, *, tuned: bool) -> Callable[[], NDArray[np.uint8]]:
    layout = torch.channels_last if tuned else torch.contiguous_format
    own, pictures = copy.deepcopy(model).to(memory_format=layout).eval(), batch.contiguous(memory_format=layout)

    def run() -> NDArray[np.uint8]:
        with torch.inference_mode(), autocast(precision):
            classes: NDArray[np.uint8] = own(pictures).argmax(dim=1)[0].to(torch.uint8).numpy()
            return classes

    return run


def _onnx(model: nn.Module, batch: Tensor) -> Callable[[], NDArray[np.uint8]]:
    import onnxruntime

    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "network.onnx"
        torch.onnx.export(copy.deepcopy(model).eval(), (batch,), written)
        session = onnxruntime.InferenceSession(str(written), threads, providers=["CPUExecutionProvider"])
    name, pixels = session.get_inputs()[0].name, batch.numpy()

    def run() -> NDArray[np.uint8]:
        classes: NDArray[np.uint8] = session.run(None, {name: pixels})[0].argmax(axis=1)[0].astype(np.uint8)
        return classes

    return run


def _verb(pair: SegmentationPair, pictures: Pictures, folder: Path) -> Comparison:
    """Weights and pictures in, a folder of PNGs out."""
    files = [record.image for record in pictures.records]
    checkpoint = folder / "network.ckpt"
    state = {f"task.{name}": value for name, value in pair.task.state_dict().items()}
    saved = describe_run(pair.experiment, pair.task.labels, Position(0, 0, {}))
    write_checkpoint(checkpoint, {"pixbox": saved, "state_dict": state})
    weights = folder / "network.pt"
    torch.save(pair.model.state_dict(), weights)
    classes = len(pair.task.labels)
    numbers = count()

    def ours() -> Path:
        out = folder / f"ours_{next(numbers)}"
        pixbox.predict(checkpoint, files, out=out)
        return out

    plain = _script(weights, classes, files, folder / "plain", "32", tuned=False)
    twin = _script(weights, classes, files, folder / "tuned", PRECISION, tuned=True)
    found, wanted = ours(), plain()
    names = [f"{file.stem}.png" for file in files]
    shares = [float((_read_classes(found / name) == _read_classes(wanted / name)).mean()) for name in names]
    words = f"the PNGs, in {np.mean(shares):.2%} of the pixels ({EQUAL:.1%} asked)"
    every = f"a plain script, SMP, {flags(PRECISION)}"
    return Comparison(
        f"From file to PNG, {pair.name}, {pictures.name}, pixbox in {PRECISION}",
        "pictures/s",
        [
            Case("pixbox.predict", ours, len(files)),
            Case("a plain script, SMP, fp32", plain, len(files)),
            Case(every, twin, len(files)),
        ],
        goals=[Goal("pixbox.predict", "a plain script, SMP, fp32", 2.5, "reading, network and writing overlap")],
        equal=[require(float(np.mean(shares)) >= EQUAL, words)],
    )


def _script(
    weights: Path, classes: int, files: Sequence[Path], out: Path, precision: str, *, tuned: bool
) -> Callable[[], Path]:
    """As it is written in an afternoon: one picture after the other."""
    layout = torch.channels_last if tuned else torch.contiguous_format
    out.mkdir()

    def run() -> Path:
        own = smp.Unet("tu-resnet18", encoder_weights=None, classes=classes)
        own.load_state_dict(torch.load(weights, weights_only=True))
        own.to(memory_format=layout).eval()
        for file in files:
            picture = cv2.imread(str(file))
            assert picture is not None
            image = torch.from_numpy(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).permute(2, 0, 1)[None]
            height, width = image.shape[-2:]
            batch = normalised(image).contiguous(memory_format=layout)
            # To a multiple of the network's stride.
            batch = nn.functional.pad(batch, (0, -width % 32, 0, -height % 32))
            with torch.inference_mode(), autocast(precision):
                found = own(batch)[..., :height, :width].argmax(dim=1)[0].to(torch.uint8).numpy()
            Image.fromarray(found).save(out / f"{file.stem}.png")
        return out

    return run


def _read_classes(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)
