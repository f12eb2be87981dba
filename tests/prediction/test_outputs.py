"""Many pictures and videos through one predictor: order, memory, faults, shares, and what is there already."""

from __future__ import annotations

import errno
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image

from pixbox.config import EvaluationConfig
from pixbox.errors import ConfigError, DataError, PixboxError
from pixbox.prediction.outputs import (
    FRAMES,
    Shard,
    find_pictures,
    output_paths,
    predict_files,
    write_summaries,
)
from pixbox.prediction.pipeline import InOrder
from pixbox.prediction.predictor import Predictor
from prediction.test_predictor import LABELS, picture_and_truth, predictor

SIZE_HW = (24, 36)


def looking(**settings: Any) -> Predictor:
    return predictor().with_settings(EvaluationConfig.model_validate(settings))


def write_pictures(folder: Path, sizes_hw: list[tuple[int, int]]) -> dict[Path, np.ndarray]:
    """``p00.png``, ``p01.png``, ... and what is to be found in each."""
    folder.mkdir(parents=True, exist_ok=True)
    truths = {}
    for number, size_hw in enumerate(sizes_hw):
        image, truths[folder / f"p{number:02d}.png"] = picture_and_truth(*size_hw)
        Image.fromarray(image).save(folder / f"p{number:02d}.png")
    return truths


def paths_of(folder: Path, out: Path, *extras: str) -> dict[Path, Path]:
    return output_paths(find_pictures([folder], out), out, extras, "segmentation")


def mask_of(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


# Order and memory


def test_work_comes_back_in_the_order_in_which_it_was_given_however_long_it_takes() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return -number

    with ThreadPoolExecutor(4) as pool:
        work: InOrder[int, int] = InOrder(pool, 100)
        back = [done for number in range(20) for done in work.give(number, 1, partial(slow, number))]
        back += work.rest()
    assert [(key, future.result()) for key, future in back] == [(number, -number) for number in range(20)]


def test_work_waits_until_there_is_room_for_its_bytes() -> None:
    with ThreadPoolExecutor(4) as pool:
        work: InOrder[str, None] = InOrder(pool, 100)
        assert work.give("a", 60, lambda: None) == []
        assert work.give("b", 40, lambda: None) == []
        assert [key for key, _ in work.give("c", 10, lambda: None)] == ["a"]
        # More than all that there is goes alone.
        assert [key for key, _ in work.give("huge", 1000, lambda: None)] == ["b", "c"]
        assert [key for key, _ in work.give("d", 1, lambda: None)] == ["huge"]


def test_pictures_of_one_size_are_seen_together_and_labelled_as_alone(tmp_path: Path) -> None:
    sizes = [SIZE_HW, SIZE_HW, SIZE_HW, SIZE_HW, (30, 20), SIZE_HW]
    truths = write_pictures(tmp_path / "in", sizes)
    together = looking(batch=3)
    outcome = predict_files(together, paths_of(tmp_path / "in", tmp_path / "out"), ["probabilities"])
    assert list(outcome.files) == list(truths)
    for picture, truth in truths.items():
        np.testing.assert_array_equal(mask_of(outcome.files[picture]), truth)
    network: Any = together.task.network
    # Beside what measures the memory.
    assert [size for size in network.sizes if size in sizes] == [SIZE_HW, SIZE_HW, (30, 20), SIZE_HW]
    alone = looking()
    for picture in truths:
        kept = np.load(outcome.files[picture].with_name(f"{picture.stem}_probabilities.npz"))["probabilities"]
        expected: Any = alone.predict(picture, probabilities=True)
        np.testing.assert_array_equal(kept, expected.probabilities.astype(np.float16))


@pytest.mark.parametrize("settings", [{"mode": "sliding"}, {"flip": True}, {"scales": [1.0, 2.0]}, {}])
def test_only_single_looks_at_whole_pictures_share_a_batch(settings: dict[str, Any]) -> None:
    assert looking(**settings, batch=4).most_together(SIZE_HW) == (4 if settings == {} else 1)


def test_a_batch_is_no_larger_than_the_memory_allows() -> None:
    side = 1000
    one = looking(batch=8)._bytes_per_pixel * side * side
    assert looking(batch=8, max_memory=f"{round(3.5 * one / 1e3)}kB").most_together((side, side)) == 3
    assert looking(batch=8, max_memory="1kB").most_together((side, side)) == 1


def test_settings_of_a_call_leave_the_predictor_as_it_was() -> None:
    first = predictor()
    second = first.with_settings(EvaluationConfig(mode="sliding", window=(16, 16)))
    assert second.task is first.task
    assert second.mode(SIZE_HW) == "sliding"
    assert first.mode(SIZE_HW) == "whole"


# Faults


def test_a_broken_picture_neither_stops_nor_hides_itself(tmp_path: Path) -> None:
    truths = write_pictures(tmp_path / "in", [SIZE_HW] * 12)
    broken = tmp_path / "in/p03.png"
    broken.write_bytes(broken.read_bytes()[:60])
    told: list[tuple[int, int]] = []
    outcome = predict_files(
        looking(batch=2),
        paths_of(tmp_path / "in", tmp_path / "out"),
        [],
        progress=lambda done, total: told.append((done, total)),
    )
    assert list(outcome.files) == [picture for picture in truths if picture != broken]
    ((fault,),) = outcome.failed.values()
    assert fault.where == str(broken)
    assert sorted(told) == [(done, 12) for done in range(1, 13)]


def test_a_result_that_cannot_be_written_is_a_fault_of_its_picture(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", [SIZE_HW] * 3)
    (tmp_path / "out/p01.png/taken").mkdir(parents=True)
    outcome = predict_files(predictor(), paths_of(tmp_path / "in", tmp_path / "out"), [])
    assert [picture.name for picture in outcome.files] == ["p00.png", "p02.png"]
    ((fault,),) = outcome.failed.values()
    assert fault.where == str(tmp_path / "in/p01.png")
    assert "cannot be written" in fault.what


def test_a_full_disk_ends_the_work_and_says_what_failed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "in", [SIZE_HW] * 30)
    (tmp_path / "in/p00.png").write_text("no picture")
    from pixbox.results import saving

    write = saving.write_file

    def full(path: Path, content: bytes | str) -> None:
        if path.name > "p04.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(saving, "write_file", full)
    with pytest.raises(PixboxError) as stopped:
        predict_files(predictor(), paths_of(tmp_path / "in", tmp_path / "out"), [])
    first, last = stopped.value.faults
    assert first.where.endswith("p00.png")
    assert "No space left" in last.what
    assert "--skip-existing" in last.hint
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"p{number:02d}.png" for number in range(1, 5)
    ]


# What is there already


def test_results_that_are_complete_are_skipped_and_left_as_they_are(tmp_path: Path) -> None:
    truths = write_pictures(tmp_path / "in", [SIZE_HW] * 3)
    paths = paths_of(tmp_path / "in", tmp_path / "out")
    predict_files(predictor(), paths, [])
    before = {path: path.stat().st_mtime_ns for path in paths.values()}
    again = predict_files(predictor(), paths, [], skip_existing=True)
    assert (list(again.skipped), again.files) == (list(truths), {})
    assert {path: path.stat().st_mtime_ns for path in paths.values()} == before
    # An overlay is asked for that only one picture has.
    (tmp_path / "out/p01_overlay.png").write_bytes(b"there")
    more = predict_files(predictor(), paths, ["overlay"], skip_existing=True)
    assert [picture.name for picture in more.skipped] == ["p01.png"]
    assert [picture.name for picture in more.files] == ["p00.png", "p02.png"]


def test_the_table_of_areas_counts_skipped_pictures_too(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", [SIZE_HW, (30, 20)])
    paths = paths_of(tmp_path / "in", tmp_path / "out", "areas")
    tables = []
    for _ in range(2):
        outcome = predict_files(predictor(), paths, ["areas"], skip_existing=True)
        write_summaries(outcome, tmp_path / "out", ["areas"], list(paths), LABELS, Shard())
        tables.append((tmp_path / "out/areas.csv").read_text())
    assert len(outcome.skipped) == 2
    assert tables[0] == tables[1]
    bright = int(picture_and_truth(*SIZE_HW)[1].sum())
    assert f"p00.png,bright,{bright}," in tables[0]


def test_a_mask_on_a_map_is_known_again(tmp_path: Path) -> None:
    image, truth = picture_and_truth(*SIZE_HW)
    (tmp_path / "in").mkdir()
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5600000)}
    with rasterio.open(tmp_path / "in/field.tif", "w", driver="GTiff", count=3, height=SIZE_HW[0], width=SIZE_HW[1],
                       dtype="uint8", **place) as file:  # fmt: skip
        file.write(image.transpose(2, 0, 1))
    paths = paths_of(tmp_path / "in", tmp_path / "out", "areas", "overlay")
    tables = []
    for _ in range(2):
        outcome = predict_files(predictor(), paths, ["areas", "overlay"], skip_existing=True)
        write_summaries(outcome, tmp_path / "out", ["areas"], list(paths), LABELS, Shard())
        tables.append((tmp_path / "out/areas.csv").read_text())
    assert list(outcome.skipped.values()) == [tmp_path / "out/field.tif"]
    assert tables[0] == tables[1]
    # A pixel is half a metre wide and high.
    assert tables[0].splitlines()[2].endswith(f",{truth.sum() / 4}")
    np.testing.assert_array_equal(mask_of(tmp_path / "out/field.tif"), truth)


def test_a_picture_is_not_its_own_result(tmp_path: Path) -> None:
    image, _ = picture_and_truth(*SIZE_HW)
    Image.fromarray(image).save(tmp_path / "a.tif")
    paths = {tmp_path / "a.tif": tmp_path / "a.png"}
    assert predict_files(predictor(), paths, [], skip_existing=True).files == paths


def test_a_file_of_someone_else_is_no_result(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", [SIZE_HW])
    paths = paths_of(tmp_path / "in", tmp_path / "out", "areas")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/p00.png").write_text("no mask")
    outcome = predict_files(predictor(), paths, ["areas"], skip_existing=True)
    assert (len(outcome.files), len(outcome.skipped)) == (1, 0)


# Shares


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/2", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard"):
        Shard.read(text)


def test_a_share_counts_from_one_and_names_its_tables() -> None:
    assert Shard.read("2/3") == Shard(1, 3)
    assert Shard(1, 3).file(Path("out/areas.csv")) == Path("out/areas_2of3.csv")
    assert Shard().file(Path("out/areas.csv")) == Path("out/areas.csv")


# Videos


def write_video(path: Path, frames: int, *, kind: str = "mp4v", rate: float = 12) -> list[np.ndarray]:
    """A bright bar that moves down 8 rows a frame; returns what is bright."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*kind), rate, (64, 48))
    assert writer.isOpened()
    truths = []
    for number in range(frames):
        truth = np.zeros((48, 64), dtype=np.uint8)
        truth[8 * (number % 5) : 8 * (number % 5) + 8] = 1
        writer.write(np.where(truth[:, :, None] == 1, 230, 20).astype(np.uint8).repeat(3, axis=2))
        truths.append(truth)
    writer.release()
    return truths


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][:, :, ::-1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


@pytest.mark.parametrize(("name", "kind"), [("film.mp4", "mp4v"), ("film.avi", "MJPG"), ("film.mkv", "MJPG")])
def test_a_video_becomes_an_overlay_video_and_a_result_for_each_frame(tmp_path: Path, name: str, kind: str) -> None:
    truths = write_video(tmp_path / name, 11, kind=kind)
    out = tmp_path / "out"
    told: list[tuple[int, int]] = []
    outcome = predict_files(
        looking(batch=4),
        output_paths({tmp_path / name: Path(name)}, out, [FRAMES, "colors"], "segmentation"),
        [FRAMES, "colors"],
        progress=lambda done, total: told.append((done, total)),
    )
    assert outcome.failed == {}
    assert outcome.files == {tmp_path / name: out / "film_overlay.mp4"}
    assert told[-1] == (11, 11)
    frames, rate = read_video(out / "film_overlay.mp4")
    assert (len(frames), rate, frames[0].shape) == (11, 12, (48, 64, 3))
    blended = np.where(truths[7][:, :, None] == 1, 230, 20) / 2 + LABELS.colorize(truths[7]) / 2.0
    assert np.abs(frames[7].astype(float) - blended).mean() < 12
    files = sorted(path.name for path in (out / "film").iterdir())
    assert files[:3] == ["frame_000000.png", "frame_000000_colors.png", "frame_000001.png"]
    assert len(files) == 22
    for number, truth in enumerate(truths):
        assert (mask_of(out / f"film/frame_{number:06d}.png") != truth).mean() < 0.02


def test_a_video_without_frames_asked_for_is_one_file_and_is_skipped_the_next_time(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", 5)
    paths = output_paths({tmp_path / "film.mp4": Path("film.mp4")}, tmp_path / "out", [], "segmentation")
    predict_files(predictor(), paths, [])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["film_overlay.mp4"]
    assert len(predict_files(predictor(), paths, [], skip_existing=True).skipped) == 1
    # Frames are missing; then one of them.
    assert len(predict_files(predictor(), paths, [FRAMES], skip_existing=True).files) == 1
    assert len(predict_files(predictor(), paths, [FRAMES], skip_existing=True).skipped) == 1
    (tmp_path / "out/film/frame_000003.png").unlink()
    assert len(predict_files(predictor(), paths, [FRAMES], skip_existing=True).files) == 1


@pytest.mark.parametrize("broken", ["cut", "text", "empty"])
def test_a_broken_video_is_a_fault_and_leaves_no_video(tmp_path: Path, broken: str) -> None:
    video = tmp_path / "film.avi"
    write_video(video, 40, kind="MJPG")
    content = {"cut": video.read_bytes()[: video.stat().st_size // 2], "text": b"no video", "empty": b""}[broken]
    video.write_bytes(content)
    write_pictures(tmp_path / "in", [SIZE_HW])
    paths = output_paths({video: Path("film.avi"), tmp_path / "in/p00.png": Path("p00.png")}, tmp_path / "out", [],
                         "segmentation")  # fmt: skip
    outcome = predict_files(predictor(), paths, [])
    ((fault,),) = outcome.failed.values()
    assert fault.where == str(video)
    assert "damaged" in fault.what
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p00.png"]


def test_a_video_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", 30)
    paths = output_paths({tmp_path / "film.mp4": Path("film.mp4")}, tmp_path / "out", [], "segmentation")

    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor(), paths, [], progress=stop)
    assert list((tmp_path / "out").iterdir()) == []


# Paths


def test_a_video_and_a_picture_of_one_stem_do_not_share_results(tmp_path: Path) -> None:
    pictures = {Path("a/x.mp4"): Path("x.mp4"), Path("a/x.jpg"): Path("x.jpg"), Path("a/y.jpg"): Path("y.jpg")}
    paths = output_paths(pictures, Path("out"), [], "detection")
    assert [str(path) for path in paths.values()] == ["out/x.mp4_overlay.mp4", "out/x.jpg.json", "out/y.json"]


def test_a_result_does_not_take_the_place_of_what_is_of_all_pictures() -> None:
    with pytest.raises(DataError, match=r"predictions\.json"):
        output_paths({Path("predictions.jpg"): Path("predictions.jpg")}, Path("out"), [], "detection")


def test_a_link_to_a_result_is_recognised_as_the_input_that_it_is(tmp_path: Path) -> None:
    write_pictures(tmp_path / "out", [SIZE_HW])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/p00.png").symlink_to(tmp_path / "out/p00.png")
    with pytest.raises(DataError, match="overwritten"):
        paths_of(tmp_path / "in", tmp_path / "out")


def test_boxes_of_shares_can_be_put_together(tmp_path: Path) -> None:
    from pixbox.prediction.outputs import Outcome

    pictures = [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]
    boxes = {
        picture: {"size": [10, 20], "boxes": [{"box": [1.0, 2.0, 4.5, 6.0], "class": "bright", "score": 0.5}]}
        for picture in pictures
    }
    write_summaries(Outcome(boxes=boxes), tmp_path, [], pictures, LABELS, Shard())
    for index in range(2):
        share = Outcome(boxes={picture: boxes[picture] for picture in pictures[index::2]})
        write_summaries(share, tmp_path, [], pictures, LABELS, Shard(index, 2))
    whole = json.loads((tmp_path / "predictions.json").read_text())
    parts = [json.loads((tmp_path / f"predictions_{part}of2.json").read_text()) for part in (1, 2)]
    assert sorted(parts[0] + parts[1], key=lambda found: found["image_id"]) == whole
    assert whole[1] == {"image_id": 2, "category_id": 2, "bbox": [1.0, 2.0, 3.5, 4.0], "score": 0.5}
    named = json.loads((tmp_path / "predictions_images_1of2.json").read_text())
    assert [(image["id"], image["file_name"]) for image in named["images"]] == [(1, "a.jpg"), (3, "c.jpg")]


def test_a_folder_that_cannot_be_searched_is_not_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos/locked").mkdir(parents=True)
    (tmp_path / "photos/a.png").touch()
    look_into = os.scandir

    def guarded(folder: str) -> object:
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(folder))
        return look_into(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match="cannot be searched: Permission denied") as error:
        find_pictures([tmp_path / "photos"], tmp_path / "out")
    assert error.value.faults[0].where == str(tmp_path / "photos/locked")
