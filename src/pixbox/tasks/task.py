"""What training, evaluation and prediction ask of a task, whatever it predicts."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixbox.labels import LabelMap
from pixbox.metrics import ConfusionMatrix
from pixbox.networks.inference import for_inference
from pixbox.networks.network import Network
from pixbox.sample import Batch, Placement, Target


class Metrics(Protocol):
    """Scores as fractions; None where undefined."""

    def to_plain(self) -> dict[str, Any]: ...


class Scores(Protocol):
    """Counts over any number of pictures; those of several processes can be pickled and merged."""

    def merge(self, other: Self) -> None: ...

    def reset(self) -> None: ...


class Task(nn.Module):
    """Network, loss, metric and decoding: plain PyTorch, no trainer, no files.

    Its ``state_dict`` is what a checkpoint holds. ``Answer`` is what the network says of one picture, ``prediction``
    what that means in the picture's own pixels; each task has types of its own for them.

    Attributes:
        network: raw pixels in.
        labels: the classes.
    """

    network: Network
    labels: LabelMap

    # -- training ------------------------------------------------------------------------------------------

    @abstractmethod
    def loss_weights(self, batch: Batch) -> Tensor:
        """(T,) float: what each term of the loss is divided by, summed over this batch. Needs only the targets."""

    @abstractmethod
    def loss_sums(self, batch: Batch, seen: ConfusionMatrix | None) -> Tensor:
        """(T,) float loss sums of one training forward pass, with gradient.

        What the network predicted on its way is counted in ``seen`` (made by ``training_confusion``).
        """

    @abstractmethod
    def total(self, sums: Tensor, weights: Tensor) -> Tensor:
        """Scalar: the loss that sums and weights (T,) stand for."""

    def training_confusion(self) -> ConfusionMatrix | None:
        """What counts predictions on training pictures, for the log; None where that would cost too much."""
        return ConfusionMatrix(len(self.labels))

    @abstractmethod
    def training_figures(self, seen: ConfusionMatrix) -> dict[str, float | None]:
        """Name -> value of what was counted in training."""

    # -- one whole picture ---------------------------------------------------------------------------------

    def for_inference(self, precision: str) -> Self:
        """A copy in evaluation mode that gives the same answers in less time and cannot be trained.

        It computes in ``precision`` (of ``training.precision``, resolved), also in an autocast region. Validation,
        ``evaluate`` and ``predict`` all use one, so they agree digit for digit.
        """
        network = for_inference(self.network, precision)
        return copy.deepcopy(self, {id(self.network): network, id(self.labels): self.labels}).eval()

    def answer(self, image: NDArray[np.uint8], placement: Placement) -> Any:
        """What the network says of a picture: ``image`` is (H, W, 3) uint8 RGB, the network's input."""
        return self.answers([image], [placement])[0]

    @abstractmethod
    def answers(self, images: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> list[Any]:
        """The answer for each of some pictures of one size, which go through the network together."""

    @abstractmethod
    def decode(self, answer: Any, placement: Placement) -> Any:
        """The prediction that an answer stands for, in the original picture's pixels."""

    def decode_together(self, answers: Sequence[Any], placements: Sequence[Placement]) -> list[Any]:
        """The prediction of each of some answers that came together."""
        return [self.decode(answer, placement) for answer, placement in zip(answers, placements, strict=True)]

    @abstractmethod
    def validation_loss(self, answer: Any, placement: Placement, target: Target) -> tuple[Tensor, Tensor]:
        """Sums and weights (T,) of the loss against the truth in the original picture's pixels."""

    @abstractmethod
    def picture(self, image: NDArray[np.uint8], labelled: Any) -> NDArray[np.uint8]:
        """A target or prediction drawn: (H, W, 3) uint8 RGB of the picture's size; ``image`` is the original."""

    # -- scores --------------------------------------------------------------------------------------------

    @abstractmethod
    def scores(self) -> Any:
        """An empty ``Scores`` of this task."""

    @abstractmethod
    def score(self, scores: Any, index: int, prediction: Any, target: Target) -> None:
        """Count a picture; ``index`` is its place in the data set."""

    @abstractmethod
    def metrics(self, scores: Any, images: int) -> Metrics:
        """What so many pictures came to."""

    @abstractmethod
    def class_figures(self, metrics: Any) -> Mapping[str, float | None]:
        """``<measure>/<class>`` -> value, for the log."""

    def _as_input(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """(B, 3, H, W) uint8 on the task's device."""
        # A network made ready for inference may have no parameters left.
        device = next(chain(self.parameters(), self.buffers())).device
        return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2)
