"""Where windows lie, and what is made of what they say, against plain loops over the whole picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixbox.networks.network import SegmentationNetwork
from pixbox.prediction.pixels import SlidingWindows, many_looks
from pixbox.prediction.windows import Window, blend_weights, lay_windows, starts, window_size
from pixbox.tasks.segmentation import class_probabilities

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("length", "window", "stride"),
    [(5, 5, 1), (6, 5, 1), (64, 16, 4), (65, 16, 4), (67, 16, 16), (100, 33, 1), (1, 1, 1), (4000, 512, 32),
     (30, 30, 32), (33, 32, 32), (704, 320, 16)],
)  # fmt: skip
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_begin_at_the_start_end_at_the_end_and_share_what_was_asked(
    length: int, window: int, stride: int, overlap: float
) -> None:
    places = starts(length, window, overlap, stride)
    assert places[0] == 0
    assert 0 <= places[-1] - (length - window) < stride
    step = max(1, int(window * (1 - overlap)))
    assert all(0 < after - before <= step for before, after in itertools.pairwise(places))
    if step < stride:
        # The overlap comes first.
        assert places[-1] == length - window
    else:
        assert all(place % stride == 0 for place in places)
        # No more of them than steps on the grid need.
        assert len(places) == 1 + int(np.ceil((length - window) / (step // stride * stride)))


def test_sides_of_a_window_are_multiples_of_the_stride_but_no_longer_than_the_picture() -> None:
    assert window_size((100, 64), 32, (500, 500)) == (128, 64)
    assert window_size((100, 64), 32, (110, 40)) == (110, 40)


def test_windows_are_laid_row_by_row_and_cover_everything() -> None:
    seen = np.zeros((37, 50), int)
    rows = list(lay_windows((37, 50), (16, 16), 0.25, 4))
    for row in rows:
        assert len({window.top for window in row}) == 1
        for window in row:
            seen[window.rows, window.columns] += 1
    assert seen.min() == 1
    # Rows at 0, 12 and 24, the last cut off at 37; columns at 0, 12, 24 and 36, the last cut off at 50.
    assert [row[0].top for row in rows] == [0, 12, 24]
    assert rows[-1][-1] == Window(24, 36, 13, 14)


def test_the_middle_of_a_window_counts_most_and_its_border_a_little() -> None:
    weights = blend_weights((33, 65), "gaussian")
    assert np.unravel_index(weights.argmax(), weights.shape) == (16, 32)
    assert weights.max() == 1
    assert 0 < weights.min() < 0.01
    np.testing.assert_allclose(weights, weights[::-1, ::-1])
    # One deviation, an eighth of the side, from the middle.
    assert weights[16, 32 + 8] == pytest.approx(np.exp(-0.5 * (8 / (65 / 8)) ** 2), rel=1e-6)
    assert (blend_weights((4, 6), "flat") == 1).all()


def local(images: Tensor) -> Tensor:
    """Probabilities of three classes that depend on nothing but a pixel and its eight neighbours."""
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).expand(3, 1, 3, 3) / 1600
    padded = functional.pad(images.float(), (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, kernel, groups=3).softmax(dim=1)


def by_place(images: Tensor) -> Tensor:
    """Says something else at every place of a window: what a seam would come from."""
    batch, _, height, width = images.shape
    share = torch.linspace(0, 1, width).expand(batch, 1, height, width)
    return torch.cat([share, 1 - share], dim=1)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def slide(windows: SlidingWindows, image: np.ndarray, band: int | None = None) -> Tensor:
    size_hw = image.shape[0], image.shape[1]
    said = torch.full((windows.classes, *size_hw), torch.nan)
    for window, part in windows.strips(lambda at: image[at.rows, at.columns], size_hw, band):
        assert said[:, window.rows, window.columns].isnan().all(), "a pixel is done twice"
        said[:, window.rows, window.columns] = part
    return said


def windows(look: object, classes: int, **changes: object) -> SlidingWindows:
    settings = {"stride": 4, "window_hw": (16, 20), "overlap": 0.25, "blend": "gaussian", "batch": 3, "device": CPU}
    return SlidingWindows(look, classes=classes, **{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("size_hw", [(16, 20), (40, 61), (17, 200), (5, 7), (1, 50)])
def test_windows_say_what_the_whole_says_away_from_their_borders(size_hw: tuple[int, int]) -> None:
    image = picture(*size_hw)
    whole = local(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    found = slide(windows(local, 3, overlap=0.5), image)
    assert not found.isnan().any()
    cut = np.zeros(size_hw, bool)
    for window in itertools.chain.from_iterable(lay_windows(size_hw, window_size((16, 20), 4, size_hw), 0.5, 4)):
        for rows, columns in _borders(window, size_hw):
            cut[rows, columns] = True
    torch.testing.assert_close(found[:, ~cut], whole[:, ~cut], atol=1e-6, rtol=1e-5)


class Coarse(nn.Module):
    """Mean colours of cells of 16 x 16 pixels, mixed with those of the cells around them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 3, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.encoder(functional.avg_pool2d(x, 16)), scale_factor=16.0)


@pytest.mark.parametrize("size_hw", [(160, 208), (170, 203), (65, 47), (144, 81)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_the_grid_of_a_network_lies_in_every_window_as_in_the_whole(size_hw: tuple[int, int], overlap: float) -> None:
    torch.manual_seed(0)
    network, image = SegmentationNetwork(Coarse(), stride=16), picture(*size_hw)

    @torch.no_grad()
    def look(images: Tensor) -> Tensor:
        return class_probabilities(network(images))

    whole = look(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    found = slide(windows(look, 3, stride=16, window_hw=(64, 48), overlap=overlap, blend="flat"), image)
    cut = np.zeros(size_hw, bool)
    # A border takes away what the cells along it see of their neighbours.
    for window in itertools.chain.from_iterable(lay_windows(size_hw, window_size((64, 48), 16, size_hw), overlap, 16)):
        for rows, columns in _borders(window, size_hw, 16):
            cut[rows, columns] = True
    torch.testing.assert_close(found[:, ~cut], whole[:, ~cut], atol=1e-6, rtol=1e-5)


def _borders(window: Window, size_hw: tuple[int, int], depth: int = 1) -> Iterator[tuple[slice, slice]]:
    """The outermost pixels of a window, where that is not the picture's border."""
    bottom, right = window.top + window.height, window.left + window.width
    if window.top > 0:
        yield slice(window.top, window.top + depth), window.columns
    if bottom < size_hw[0]:
        yield slice(bottom - depth, bottom), window.columns
    if window.left > 0:
        yield window.rows, slice(window.left, window.left + depth)
    if right < size_hw[1]:
        yield window.rows, slice(right - depth, right)


@pytest.mark.parametrize("blend", ["gaussian", "flat"])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.8])
def test_every_pixel_is_the_weighted_mean_of_the_windows_that_hold_it(blend: str, overlap: float) -> None:
    image, shape = picture(45, 70), (16, 20)
    sums, shares = np.zeros((2, 45, 70)), np.zeros((45, 70))
    weights = blend_weights(shape, blend)  # type: ignore[arg-type]
    for window in itertools.chain.from_iterable(lay_windows((45, 70), shape, overlap, 4)):
        said = by_place(torch.zeros(1, 3, window.height, window.width))[0].numpy()
        counts = weights[: window.height, : window.width]
        sums[:, window.rows, window.columns] += said * counts
        shares[window.rows, window.columns] += counts
    found = slide(windows(by_place, 2, blend=blend, overlap=overlap), image)
    np.testing.assert_allclose(found.numpy(), sums / shares, atol=1e-5)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(45, 70), atol=1e-5, rtol=0)


@pytest.mark.parametrize("band", [1, 20, 33, 69, 500])
@pytest.mark.parametrize("batch", [1, 7])
def test_what_is_found_depends_neither_on_bands_nor_on_batches(band: int, batch: int) -> None:
    image = picture(50, 70)
    torch.testing.assert_close(
        slide(windows(by_place, 2, batch=batch), image, band), slide(windows(by_place, 2), image), atol=1e-6, rtol=0
    )


def test_a_band_reads_no_more_columns_than_its_windows_have() -> None:
    image, read = picture(40, 200), []
    sliding = windows(by_place, 2)
    for _ in sliding.strips(lambda at: read.append(at) or image[at.rows, at.columns], (40, 200), 40):
        pass
    assert max(window.width for window in read) <= 40 + 2 * 20
    assert max(window.height for window in read) == 16
    assert sliding.memory((40, 200), 40) < sliding.memory((40, 200), 200)


def test_gaussian_blending_hides_the_seams_that_flat_blending_shows() -> None:
    image = picture(16, 120)
    steps = {
        blend: slide(windows(by_place, 2, blend=blend, overlap=0.5), image)[0].diff(dim=1).abs().max()
        for blend in ("gaussian", "flat")
    }
    assert steps["gaussian"] < 0.5 * steps["flat"]


def test_several_looks_are_averaged_as_probabilities() -> None:
    image = torch.from_numpy(picture(24, 32)).permute(2, 0, 1)[None]

    def resized(scale: float) -> Tensor:
        size = [round(24 * scale), round(32 * scale)]
        seen = functional.interpolate(image.float(), size, mode="bilinear", antialias=scale < 1)
        both = local(seen) + local(seen.flip(-1)).flip(-1)
        return functional.interpolate(both, (24, 32), mode="bilinear", antialias=scale > 1)

    expected = (resized(0.5) + resized(1.0) + resized(1.5)) / 6
    found = many_looks(local, [0.5, 1.0, 1.5], True)(image)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert many_looks(local, [1.0], False) is local


def test_a_look_at_the_mirror_image_makes_a_lopsided_network_even() -> None:
    found = many_looks(by_place, [1.0], True)(torch.zeros(1, 3, 8, 10, dtype=torch.uint8))
    torch.testing.assert_close(found, torch.full((1, 2, 8, 10), 0.5))
