"""Reading, the network and writing at the same time, in order, with little of it held at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import fields
from typing import Generic, TypeVar

import numpy as np

from pixbox.config import Task
from pixbox.errors import DataError
from pixbox.prediction.predictor import Predictor, Prepared
from pixbox.results import Prediction

Key = TypeVar("Key")
Done = TypeVar("Done")

RESULT_SUFFIX: Mapping[Task, str] = {"segmentation": ".png", "detection": ".json", "classification": ".json"}
"""Of the file that is written for a picture or a frame; a mask on a map, or in parts of a TIFF, is a ``.tif``."""
THREADS = 4
"""For reading and again for writing: decoding, packing and waiting for disks leave the interpreter to others."""
_MOST_ITEMS = 8
_MOST_BYTES = 256 << 20
"""Of pictures that are read ahead, and again of results that wait to be written."""


class InOrder(Generic[Key, Done]):
    """Work for threads that comes back in the order in which it was given.

    Args:
        pool: the threads.
        most_bytes: of all the work that is held at once; one piece may be larger.
    """

    def __init__(self, pool: Executor, most_bytes: int) -> None:
        self._pool = pool
        self._most_bytes = most_bytes
        self._held: deque[tuple[Key, int, Future[Done]]] = deque()

    def give(self, key: Key, size: int, work: Callable[[], Done]) -> list[tuple[Key, Future[Done]]]:
        """Start some work that holds ``size`` bytes; returns the oldest, which has to make room for it."""
        taken = []
        while self._held and (
            len(self._held) >= _MOST_ITEMS or size + sum(held for _, held, _ in self._held) > self._most_bytes
        ):
            taken.append(self._oldest())
        self._held.append((key, size, self._pool.submit(work)))
        return taken

    def rest(self) -> Iterator[tuple[Key, Future[Done]]]:
        """What has been given and not yet come back."""
        while self._held:
            yield self._oldest()

    def _oldest(self) -> tuple[Key, Future[Done]]:
        key, _, future = self._held.popleft()
        # Waiting here, not where the result is asked for: what is not done still holds its memory.
        future.exception()
        return key, future


def bytes_of(result: Prediction) -> int:
    """That a result holds in arrays."""
    held = (getattr(result, part.name) for part in fields(result))
    return sum(array.nbytes for array in held if isinstance(array, np.ndarray))


def most_bytes(predictor: Predictor) -> int:
    """That may wait on either side of the network."""
    return min(_MOST_BYTES, predictor.budget // 8)


Arrived = tuple[Key, Prepared | DataError | None]
"""A picture that was read, or what is wrong with it; None stands for what is not read whole."""


def in_groups(arrived: Iterable[Arrived[Key]], predictor: Predictor) -> Iterator[list[Arrived[Key]]]:
    """Neighbours that may go through the network together; whatever is no ``Prepared`` comes alone. Keeps the order."""
    group: list[Arrived[Key]] = []
    shape: tuple[int, ...] | None = None
    most = 1
    for key, read in arrived:
        found = read.fitted.shape if isinstance(read, Prepared) else None
        if group and (found != shape or len(group) >= most):
            yield group
            group = []
        if found is None:
            yield [(key, read)]
            continue
        if not group:
            shape, most = found, predictor.most_together((found[0], found[1]))
        group.append((key, read))
    if group:
        yield group
