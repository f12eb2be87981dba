"""Runs a trained task on whole pictures; `evaluate` and `predict` share this path and its precision."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixbox.augment import FILL, center_crop, warp_image
from pixbox.boxes import Selection
from pixbox.checkpoint import LoadedRun
from pixbox.config import EvaluationConfig
from pixbox.data.dataset import fit_whole, pixel_reading
from pixbox.data.images import read_image
from pixbox.errors import ConfigError
from pixbox.networks.inference import layout_bytes
from pixbox.prediction.memory import ALWAYS_WHOLE, bytes_per_pixel, memory_budget, write_amount
from pixbox.prediction.objects import Find, find_in_windows, find_many
from pixbox.prediction.pixels import Look, SlidingWindows, many_looks
from pixbox.prediction.windows import Window, window_size
from pixbox.results import Categorization, Detections, Prediction, Segmentation
from pixbox.sample import Placement
from pixbox.tasks.classification import ClassificationTask
from pixbox.tasks.detection import DetectionTask
from pixbox.tasks.segmentation import SegmentationTask, class_probabilities
from pixbox.tasks.task import Task

log = logging.getLogger("pixbox")
_WINDOWS_ON_CPU, _WINDOWS_ELSEWHERE = 2, 4
"""If nothing is asked. On a processor the features of more windows leave its caches, and take a fifth longer."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture and what the network is to see of it.

    Attributes:
        name: of the file, without folder and suffix.
        image: (H, W, 3) uint8 RGB, at its original size.
        fitted: the network's input, (h, w, 3) uint8 RGB.
        placement: where the picture lies in it.
        file_name: with its suffix, if it is a file.
    """

    name: str
    image: NDArray[np.uint8]
    fitted: NDArray[np.uint8]
    placement: Placement
    file_name: str | None = None


class Predictor:
    """A trained task with everything around it. How it looks at pictures is in the experiment's ``evaluation``.

    Attributes:
        task: a copy of the run's, made ready to answer (``Task.for_inference``) in the precision of training.

    Raises:
        ConfigError: a setting of ``evaluation`` has no meaning for the task.
    """

    def __init__(self, run: LoadedRun, device: str = "auto", *, task: Task | None = None) -> None:
        """``task``: what was made ready of the run before, on the same device."""
        self.run = run
        self.labels = run.task.labels
        self.settings = run.experiment.evaluation
        self._noted: set[str] = set()
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.task = task or run.task.to(self.device).for_inference(run.experiment.training.precision)
        if isinstance(self.task, ClassificationTask) and self.settings.mode == "sliding":
            raise ConfigError("a whole picture has one class; windows of it have none", where="evaluation.mode",
                              hint="Use `whole`, or several `evaluation.scales`.")  # fmt: skip

    def with_settings(self, settings: EvaluationConfig) -> Predictor:
        """The same task and weights, looking at pictures in another way.

        Raises:
            ConfigError: a setting has no meaning for the task.
        """
        experiment = self.run.experiment.model_copy(update={"evaluation": settings})
        return Predictor(replace(self.run, experiment=experiment), str(self.device), task=self.task)

    def predict(self, picture: str | Path | NDArray[np.uint8], *, probabilities: bool = False) -> Prediction:
        """What the task says of a picture, at its original size.

        ``picture`` is a file, or (H, W, 3) uint8 RGB. ``probabilities`` keeps those of every pixel, for segmentation.

        Raises:
            DataError: the file cannot be read as a picture.
            ValueError: the array has another shape or type.
        """
        return self.predict_together([self.prepare(picture)], probabilities=probabilities)[0]

    def prepare(self, picture: str | Path | NDArray[np.uint8]) -> Prepared:
        """Read a picture and bring it to the network's form. May be called from any thread.

        Raises:
            DataError, ValueError: as for ``predict``.
        """
        if isinstance(picture, np.ndarray):
            name, file_name, image = "picture", None, picture
        else:
            path = Path(picture)
            name, file_name = path.stem, path.name
            image = read_image(path, pixel_reading(self.run.experiment.data))
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"a picture is (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
        return Prepared(name, image, *self._fitted(image), file_name)

    def most_together(self, input_hw: tuple[int, int]) -> int:
        """How many pictures of this input size may go through the network at once: as many as ``batch`` asks for and
        memory allows, if the network looks at them whole and once; else one."""
        asked = self.settings.batch or 1
        if asked == 1 or not self._one_look or self.mode(input_hw) != "whole":
            return 1
        return max(1, min(asked, int(self.budget / (input_hw[0] * input_hw[1] * self._bytes_per_pixel))))

    def predict_together(self, pictures: Sequence[Prepared], *, probabilities: bool = False) -> list[Prediction]:
        """What the task says of each of some pictures of one input size, no more than ``most_together`` says.

        A network may compute several pictures by other kernels than one. Its probabilities then differ in the last
        bits, and a class where two of them are equal up to these.
        """
        if len(pictures) == 1:
            return [self._result(pictures[0], *self._label_one(pictures[0], probabilities))]
        placements = [picture.placement for picture in pictures]
        results = []
        with self.running():
            answers = self.task.answers([picture.fitted for picture in pictures], placements)
            found = self.task.decode_together(answers, placements)
            for picture, answer, prediction in zip(pictures, answers, found, strict=True):
                kept = None
                if probabilities and isinstance(self.task, SegmentationTask):
                    kept = self.task.probabilities(answer, picture.placement).cpu().contiguous().numpy()
                results.append(self._result(picture, prediction, kept))
        return results

    def _label_one(self, picture: Prepared, probabilities: bool) -> tuple[Any, NDArray[np.float32] | None]:
        if isinstance(self.task, SegmentationTask):
            return self.label_pixels(picture.fitted, picture.placement, probabilities=probabilities)
        return self.label(picture.fitted, picture.placement), None

    def _result(self, picture: Prepared, found: Any, probabilities: NDArray[np.float32] | None) -> Prediction:
        name, image = picture.name, picture.image
        if isinstance(self.task, SegmentationTask):
            classes = found.cpu().numpy()
            return Segmentation(name, image, classes, self.labels, probabilities, file_name=picture.file_name)
        if isinstance(self.task, DetectionTask):
            boxes, classes, scores = (part.cpu().numpy() for part in (found.boxes_xyxy, found.classes, found.scores))
            return Detections(name, image, boxes, classes, scores, self.labels, self.task.settings.shown_score)
        return Categorization(name, image, found.cpu().numpy(), self.labels)

    def _fitted(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Placement]:
        data = self.run.experiment.data
        if self.settings.crop == "center" and isinstance(self.task, ClassificationTask):
            # As it is scored. What lies outside has pixels and boxes as well, but no class of its own.
            cut = center_crop((image.shape[0], image.shape[1]), min(data.size), data.size)
            image, data = warp_image(image, cut, FILL), data.model_copy(update={"base_size": None})
        return fit_whole(image, data)

    def label(self, fitted: NDArray[np.uint8], placement: Placement) -> Any:
        """The task's prediction for a picture that ``fit_whole`` has brought to the network's form."""
        if isinstance(self.task, SegmentationTask):
            return self.label_pixels(fitted, placement)[0]
        if isinstance(self.task, DetectionTask):
            return self._find(self.task, fitted, placement)
        assert isinstance(self.task, ClassificationTask)
        task = self.task
        with self.running():
            looks = many_looks(lambda images: task.network(images).float().softmax(dim=1)[:, :, None, None],
                               self.settings.scales, self.settings.flip)  # fmt: skip
            return looks(self._tensor(fitted))[0, :, 0, 0]

    def label_with_confidence(self, fitted: NDArray[np.uint8], placement: Placement) -> tuple[Any, Tensor | None]:
        """The same as ``label`` and, of pixels, (H0, W0) float32: how probable the class is that each is given."""
        if not isinstance(self.task, SegmentationTask):
            return self.label(fitted, placement), None
        classes, highest = self._label_pixels(fitted, placement, lambda said: said.amax(dim=1, keepdim=True))
        assert highest is not None
        return classes, highest[0]

    def label_pixels(
        self, fitted: NDArray[np.uint8], placement: Placement, *, probabilities: bool = False
    ) -> tuple[Tensor, NDArray[np.float32] | None]:
        """(H0, W0) uint8 class indices at the original size and, if asked for, (N, H0, W0) float32 probabilities."""
        classes, kept = self._label_pixels(fitted, placement, (lambda said: said) if probabilities else None)
        return classes, None if kept is None else kept.cpu().contiguous().numpy()

    def _label_pixels(
        self, fitted: NDArray[np.uint8], placement: Placement, keep: Callable[[Tensor], Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Classes, and what ``keep`` makes of the probabilities: (1, N, h, w) -> (1, K, h, w), here (K, H0, W0)."""
        task = self.task
        assert isinstance(task, SegmentationTask)
        with self.running():
            if self.mode(fitted.shape[:2]) == "whole" and self._one_look:
                answer = task.answer(fitted, placement)
                kept = None if keep is None else keep(task.probabilities(answer, placement)[None])[0]
                return task.decode(answer, placement), kept
            if self.mode(fitted.shape[:2]) == "whole":
                said = _content(self.look(self._tensor(fitted)), placement)
            elif placement.content_hw == placement.original_hw:
                return self._label_strips(_cut(fitted, placement), keep)
            else:
                content = _cut(fitted, placement)
                said = torch.empty(1, len(self.labels), *content.shape[:2], device=self.device)
                for window, part in self.windows.strips(_reader(content), content.shape[:2]):
                    said[0, :, window.rows, window.columns] = part
            full = task.resized(said, placement)
            return task.classes(full), None if keep is None else keep(full)[0]

    def mode(self, size_hw: tuple[int, int]) -> str:
        """``whole`` or ``sliding``, for a network input of this size."""
        if self.settings.mode != "auto":
            return self.settings.mode
        if isinstance(self.task, ClassificationTask) or self.is_small(size_hw):
            return "whole"
        needed = self.network_bytes(size_hw)
        mode = "whole" if needed <= self.budget else "sliding"
        if mode not in self._noted:
            self._noted.add(mode)
            log.info("mode auto: %s, for %d x %d pixels: the whole would take %s of memory, %s may be taken",
                     mode, size_hw[1], size_hw[0], write_amount(needed), write_amount(self.budget))  # fmt: skip
        return mode

    def is_small(self, size_hw: tuple[int, int]) -> bool:
        """Whether a network input of this size needs no look at the memory, at the largest of the scales."""
        return max(self.settings.scales) ** 2 * size_hw[0] * size_hw[1] <= ALWAYS_WHOLE

    def network_bytes(self, size_hw: tuple[int, int]) -> int:
        """Bytes that looking at one picture of this size takes, with all that is asked for."""
        pixels = max(self.settings.scales) ** 2 * size_hw[0] * size_hw[1]
        return int(pixels * self._bytes_per_pixel) + layout_bytes(self.task.network)

    @cached_property
    def budget(self) -> int:
        """Bytes that prediction may take beyond what is taken now."""
        return memory_budget(self.settings.max_memory, self.device)

    @cached_property
    def host_budget(self) -> int:
        """Of the machine's memory; on a CPU the same as ``budget``."""
        return (
            self.budget if self.device.type == "cpu" else memory_budget(self.settings.max_memory, torch.device("cpu"))
        )

    @cached_property
    def look(self) -> Look:
        """What the network says of a batch of pictures, with all scales and mirror images."""
        task = self.task
        assert isinstance(task, SegmentationTask)
        return many_looks(lambda images: class_probabilities(task.network(images)), self.settings.scales,
                          self.settings.flip)  # fmt: skip

    @cached_property
    def windows(self) -> SlidingWindows:
        """How pictures are looked at in windows, as many at once as the settings say and memory allows."""
        settings = self.settings
        window_hw = settings.window or self.run.experiment.data.size
        one = self.network_bytes(window_hw)
        asked = settings.batch or (_WINDOWS_ON_CPU if self.device.type == "cpu" else _WINDOWS_ELSEWHERE)
        return SlidingWindows(
            self.look,
            classes=len(self.labels),
            stride=self.task.network.stride,
            window_hw=window_hw,
            overlap=settings.overlap,
            blend=settings.blend,
            batch=max(1, min(asked, int(self.budget / 2 / one))),
            device=self.device,
        )

    @property
    def _one_look(self) -> bool:
        return self.settings.scales == [1.0] and not self.settings.flip

    @cached_property
    def _bytes_per_pixel(self) -> float:
        network = self.task.network

        def run(images: Tensor) -> Any:
            said = network(images)
            return class_probabilities(said) if isinstance(said, Tensor) else said

        with self.running():
            return bytes_per_pixel(run, self.device)

    def _label_strips(
        self, image: NDArray[np.uint8], keep: Callable[[Tensor], Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        """By windows at the picture's own scale."""
        height, width = image.shape[:2]
        classes = torch.empty(height, width, dtype=torch.uint8)
        kept: Tensor | None = None
        task = self.task
        assert isinstance(task, SegmentationTask)
        for window, part in self.windows.strips(_reader(image), (height, width)):
            classes[window.rows, window.columns] = task.classes(part[None]).cpu()
            if keep is not None:
                some = keep(part[None])[0].cpu()
                kept = torch.empty(len(some), height, width) if kept is None else kept
                kept[:, window.rows, window.columns] = some
        return classes, kept

    def _find(self, task: DetectionTask, fitted: NDArray[np.uint8], placement: Placement) -> Selection:
        settings = self.settings
        sliding = self.mode(fitted.shape[:2]) == "sliding"
        if not sliding and self._one_look:
            with self.running():
                return task.decode(task.answer(fitted, placement), placement)

        content = _cut(fitted, placement)
        looks = self.find(task)
        with self.running():
            if not sliding:
                return task.in_original(looks(content), placement)
            window_hw = self.window_hw((content.shape[0], content.shape[1]))
            found = find_in_windows(
                looks,
                _reader(content),
                (content.shape[0], content.shape[1]),
                window_hw,
                settings.overlap,
                task.network.stride,
                task.settings,
            )
            return task.in_original(found, placement)

    def window_hw(self, picture_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the windows of a picture of this size."""
        return window_size(self.settings.window or self.run.experiment.data.size, self.task.network.stride, picture_hw)

    def find(self, task: DetectionTask) -> Find:
        """What finds boxes in a picture that the network is to see as it is, with all scales and mirror images."""

        def find(image: NDArray[np.uint8]) -> Selection:
            size_hw = (image.shape[0], image.shape[1])
            whole = Placement(size_hw, size_hw, size_hw)
            return task.decode(task.answer(image, whole), whole)

        return find_many(find, task.settings, self.settings.scales, self.settings.flip)

    def _tensor(self, image: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(image.copy()).to(self.device).permute(2, 0, 1)[None]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around everything that the network computes: no gradients."""
        with torch.inference_mode():
            yield


def _cut(fitted: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """The picture without what pads it."""
    height, width = placement.content_hw
    return fitted[placement.top : placement.top + height, placement.left : placement.left + width]


def _content(said: Tensor, placement: Placement) -> Tensor:
    """The same for (B, N, H, W)."""
    height, width = placement.content_hw
    return said[:, :, placement.top : placement.top + height, placement.left : placement.left + width]


def _reader(image: NDArray[np.uint8]) -> Callable[[Window], NDArray[np.uint8]]:
    return lambda window: image[window.rows, window.columns]
