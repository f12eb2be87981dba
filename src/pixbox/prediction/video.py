"""Videos: every frame through the network, an overlay video out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

# What is wrong with a file is said once, by a fault; FFmpeg would add its own lines to the standard error.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
import cv2
import numpy as np
from numpy.typing import NDArray

from pixbox.config import Task
from pixbox.errors import DataError
from pixbox.prediction.pipeline import RESULT_SUFFIX, THREADS, InOrder, bytes_of, in_groups, most_bytes
from pixbox.prediction.predictor import Predictor, Prepared
from pixbox.results import Prediction, needs_probabilities

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
_USUAL_RATE = 25.0
"""Frames a second, where a file says none."""
_MISSING = 0.02
"""Share of the frames that a file may lack of what its header declares: some formats only estimate it."""


def frame_count(video: Path) -> int:
    """How many frames a video declares; 0 where it says nothing or cannot be read."""
    capture = cv2.VideoCapture(str(video))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()


def still(video: Path, index: int, task: Task) -> Path:
    """Where the result of a frame lies: for ``x_overlay.mp4`` in ``x/frame_000000.png``, counted from 0."""
    return video.parent / video.name.removesuffix("_overlay.mp4") / f"frame_{index:06d}{RESULT_SUFFIX[task]}"


def stills(video: Path, frames: int, task: Task) -> list[Path]:
    return [still(video, index, task) for index in range(frames)]


def predict_video(
    predictor: Predictor,
    video: Path,
    path: Path,
    extras: Sequence[str] | None,
    progress: Callable[[int], None],
) -> None:
    """Predict every frame of a video and write the overlay video at ``path``, MPEG-4 at its rate and size.

    The video has no sound. With ``extras``, of ``results.EXTRAS``, which may be empty, the result of each frame is
    written beside it with these; None writes none. ``progress`` is told the frames that are done.

    Raises:
        DataError: it is no video, or ends before its header says; no overlay video is written.
        OSError: it cannot be written.
    """
    task = predictor.run.experiment.task
    most = most_bytes(predictor)
    with (
        _opened(video) as capture,
        _Film(path, capture.get(cv2.CAP_PROP_FPS)) as film,
        # After what they work on, so that they end before it is closed.
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as film_writer,
        ThreadPoolExecutor(THREADS) as still_writers,
    ):
        reading: InOrder[int, Prepared | None] = InOrder(reader, most)
        filming: InOrder[int, None] = InOrder(film_writer, most)
        saving: InOrder[int, list[Path]] = InOrder(still_writers, most)
        frames = 0
        for group in in_groups(_frames(capture, predictor, reading), predictor):
            pictures = [picture for _, picture in group if isinstance(picture, Prepared)]
            for result in predictor.predict_together(pictures, probabilities=needs_probabilities(extras or ())):
                size = bytes_of(result)
                for _, written in filming.give(frames, size, partial(film.add, result)):
                    written.result()
                if extras is not None:
                    work = partial(result.save, still(path, frames, task), extras)
                    for _, saved in saving.give(frames, size, work):
                        saved.result()
                frames += 1
            progress(frames)
        for pending in (filming, saving):
            for _, future in pending.rest():
                future.result()
        declared = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if frames == 0 or frames < (1 - _MISSING) * declared - 1:
            raise DataError(f"the video is incomplete or damaged: {frames} of {max(declared, 0)} frames can be read",
                            where=str(video), hint="Copy it anew, or convert it with a video program.")  # fmt: skip
        film.finish()


@contextmanager
def _opened(video: Path) -> Iterator[Any]:
    capture = cv2.VideoCapture(str(video))
    try:
        if not capture.isOpened():
            raise DataError("is no video that can be read, or incomplete or damaged", where=str(video),
                            hint="Convert it with a video program, to H.264 in .mp4 for example.")  # fmt: skip
        yield capture
    finally:
        capture.release()


def _frames(
    capture: Any, predictor: Predictor, reading: InOrder[int, Prepared | None]
) -> Iterator[tuple[int, Prepared]]:
    size = int(3 * capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT))

    def read() -> Prepared | None:
        there, frame = capture.read()
        return predictor.prepare(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)) if there else None

    for number in count():
        for index, future in reading.give(number, size, read):
            frame = future.result()
            if frame is None:
                return
            yield index, frame


class _Film:
    """A video that grows in a folder of its own; it comes to its path when it is finished, or is removed."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path = path
        self._rate = rate if 0 < rate < 1000 else _USUAL_RATE
        path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.")
        self._partial = Path(self._folder.name) / path.name
        self._writer: Any = None
        self._frames = 0

    def __enter__(self) -> _Film:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.release()
        self._folder.cleanup()

    def add(self, result: Prediction) -> None:
        self._write(result.overlay())

    def _write(self, picture: NDArray[np.uint8]) -> None:
        if self._writer is None:
            size_wh = (picture.shape[1], picture.shape[0])
            self._writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, size_wh)
            if not self._writer.isOpened():
                raise OSError(0, "no MPEG-4 video of this size can be written", str(self._path))
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def finish(self) -> None:
        """Put the video in its place."""
        self._writer.release()
        # The writer of OpenCV tells no errors.
        if frame_count(self._partial) != self._frames:
            raise OSError(0, "the video was not written whole; is the disk full?", str(self._path))
        self._partial.replace(self._path)
