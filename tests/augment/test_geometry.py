from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from pixbox.augment import (
    ColorPolicy,
    GeometryPolicy,
    Warp,
    center_crop,
    draw_geometry,
    draw_point,
    halved,
    move_window,
    place_whole,
    sample_rng,
    warp_image,
    warp_mask,
)
from pixbox.augment.geometry import Part, draw_part
from pixbox.config import AugmentConfig
from pixbox.sample import Placement

MIDDLE = [0.5] * 7


def test_every_setting_of_a_picture_has_its_place_and_the_same_default() -> None:
    fields = [*dataclasses.fields(GeometryPolicy), *dataclasses.fields(ColorPolicy)]
    here = {field.name: field.default for field in fields if field.name not in ("size_hw", "fit", "base_size")}
    # Mixing is done to a batch, not to a picture; where a rare class lies is only known from the mask.
    assert here == AugmentConfig().model_dump(exclude={"mixup", "cutmix", "rare_crops", "paste"})


def test_letterbox_positions_by_hand() -> None:
    # 480 -> 512 is 16/15, so 360 -> 384, and (512 - 384) / 2 = 64 rows above and below.
    warp, placement = place_whole((360, 480), (512, 512), "pad")
    assert placement == Placement((360, 480), (512, 512), (384, 512), 64, 0)
    assert warp is not None
    assert warp.size_hw == (512, 512)
    np.testing.assert_allclose(warp.matrix, [[16 / 15, 0, 0], [0, 16 / 15, 64]], atol=1e-12)


def test_letterbox_puts_an_odd_rest_right_and_below() -> None:
    warp, placement = place_whole((10, 5), (10, 10), "pad")
    assert placement == Placement((10, 5), (10, 10), (10, 5), 0, 2)
    assert warp is not None
    np.testing.assert_array_equal(warp.matrix, [[1, 0, 2], [0, 1, 0]])


def test_stretch_reaches_every_corner() -> None:
    warp, placement = place_whole((100, 50), (25, 200), "stretch")
    assert placement == Placement((100, 50), (25, 200), (25, 200))
    assert warp is not None
    np.testing.assert_allclose(warp.matrix, [[4, 0, 0], [0, 0.25, 0]], atol=1e-12)


def test_crop_evaluates_the_whole_picture_at_its_own_size() -> None:
    assert place_whole((37, 91), (16, 16), "crop") == (None, Placement((37, 91), (37, 91), (37, 91)))


def test_base_size_is_the_long_side() -> None:
    warp, placement = place_whole((300, 400), (16, 16), "crop", 200)
    assert placement == Placement((300, 400), (150, 200), (150, 200))
    assert warp is not None
    np.testing.assert_allclose(warp.matrix, [[0.5, 0, 0], [0, 0.5, 0]], atol=1e-12)


@pytest.mark.parametrize("size_hw", [(800, 1333), (1333, 800), (512, 512), (64, 640)])
def test_the_shorter_side_makes_inputs_of_the_size_that_torchvisions_detectors_make(size_hw: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision.models.detection.transform")
    transform = detection.GeneralizedRCNNTransform(min(size_hw), max(size_hw), [0.0] * 3, [1.0] * 3)
    sizes = np.random.default_rng(0).integers(5, 3000, (30, 2))
    for image_hw in [(480, 640), (375, 500), (857, 40), (300, 300), (49, 49), *map(tuple, sizes.tolist())]:
        expected, _ = transform.resize(torch.empty(1, *image_hw, device="meta"), None)
        _, placement = place_whole(image_hw, size_hw, "short_side")
        assert placement == Placement(image_hw, tuple(expected.shape[-2:]), tuple(expected.shape[-2:]))


def test_the_shorter_side_by_hand() -> None:
    # 480 -> 240 halves 640 to 320; but the longer side of 100 x 600 may have no more than 400: two thirds.
    for image_hw, expected in (((480, 640), (240, 320)), ((640, 480), (320, 240)), ((100, 600), (66, 400))):
        _, placement = place_whole(image_hw, (240, 400), "short_side")
        assert placement == Placement(image_hw, expected, expected)
    # However long and thin it is, a pixel remains.
    assert place_whole((1, 5000), (240, 400), "short_side")[1].input_hw == (1, 400)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch", "short_side"])
def test_a_picture_that_already_fits_stays_as_it_is(fit: Any) -> None:
    assert place_whole((20, 30), (20, 30), fit) == (None, Placement((20, 30), (20, 30), (20, 30)))


@pytest.mark.parametrize("fit", ["pad", "stretch", "short_side"])
@pytest.mark.parametrize("image_hw", [(7, 13), (301, 77), (64, 48), (1, 1000)])
def test_without_augmentation_training_and_evaluation_see_the_same(fit: Any, image_hw: tuple[int, int]) -> None:
    policy = GeometryPolicy((44, 64), fit)
    whole, _ = place_whole(image_hw, (44, 64), fit)
    assert whole is not None
    for index in range(5):
        drawn = draw_geometry(sample_rng(0, 0, index), image_hw, policy)
        assert drawn.size_hw == whole.size_hw
        np.testing.assert_array_equal(drawn.matrix, whole.matrix)


def test_unaugmented_crops_lie_at_every_whole_position_equally_often() -> None:
    policy = GeometryPolicy((4, 5))
    places: Counter[tuple[float, float]] = Counter()
    for index in range(3000):
        matrix = draw_geometry(sample_rng(0, 0, index), (6, 9), policy).matrix
        np.testing.assert_array_equal(matrix[:, :2], np.eye(2))
        places[matrix[0, 2], matrix[1, 2]] += 1
    assert set(places) == {(-x, -y) for x in range(5) for y in range(3)}
    assert stats.chisquare(list(places.values())).pvalue > 1e-3


def test_a_picture_smaller_than_the_crop_lies_whole_at_every_position_of_it() -> None:
    policy = GeometryPolicy((6, 9))
    places = {tuple(draw_geometry(sample_rng(0, 0, i), (4, 5), policy).matrix[:, 2]) for i in range(500)}
    assert places == {(x, y) for x in range(5) for y in range(3)}


def test_a_zoomed_out_letterbox_stays_centred_and_a_zoomed_in_one_is_searched() -> None:
    policy = GeometryPolicy((100, 100), "pad", scale=(0.5, 0.5))
    for index in range(5):
        matrix = draw_geometry(sample_rng(0, 0, index), (100, 100), policy).matrix
        np.testing.assert_allclose(matrix, [[0.5, 0, 25], [0, 0.5, 25]])
    policy = GeometryPolicy((100, 100), "pad", scale=(1.5, 1.5))
    # 100 x 50 becomes 150 x 75: along x any of 51 places, along y centred (12 above, 13 below).
    offsets = np.array([draw_geometry(sample_rng(0, 0, index), (50, 100), policy).matrix[:, 2] for index in range(600)])
    assert set(offsets[:, 0]) == {-x for x in range(51)}
    assert set(offsets[:, 1]) == {12}


def test_a_zoom_leaves_the_window_of_the_shorter_side_and_cuts_or_pads_what_is_in_it() -> None:
    # 100 x 160 becomes 50 x 80, whatever the zoom.
    for index in range(5):
        policy = GeometryPolicy((50, 90), "short_side", scale=(0.5, 0.5))
        warp = draw_geometry(sample_rng(0, 0, index), (100, 160), policy)
        assert warp.size_hw == (50, 80)
        np.testing.assert_allclose(warp.matrix, [[0.25, 0, 20], [0, 0.25, 12]])
    policy = GeometryPolicy((50, 90), "short_side", scale=(1.1, 1.1))
    warps = [draw_geometry(sample_rng(0, 0, index), (100, 160), policy) for index in range(400)]
    assert {warp.size_hw for warp in warps} == {(50, 80)}
    # 55 x 88: one of 6 places down and 9 across.
    assert {tuple(warp.matrix[:, 2].round(9).tolist()) for warp in warps} == {
        (-x, -y) for x in range(9) for y in range(6)
    }


def test_zoom_is_log_uniform() -> None:
    policy = GeometryPolicy((64, 64), scale=(0.5, 2.0), rotate=10, flip=0.5)
    linear = [draw_geometry(sample_rng(1, 0, i), (9000, 12000), policy).matrix[:, :2] for i in range(2000)]
    logs = np.log([np.sqrt(abs(np.linalg.det(part))) for part in linear])
    assert stats.kstest(logs, stats.uniform(np.log(0.5), np.log(4)).cdf).pvalue > 1e-3


def test_angles_shears_and_mirrors_follow_their_ranges() -> None:
    policy = GeometryPolicy((64, 64), rotate=20)
    linear = np.array([draw_geometry(sample_rng(2, 0, i), (80, 80), policy).matrix[:, :2] for i in range(2000)])
    angles = np.rad2deg(np.arctan2(linear[:, 0, 1], linear[:, 0, 0]))
    assert stats.kstest(angles, stats.uniform(-20, 40).cdf).pvalue > 1e-3
    policy = GeometryPolicy((64, 64), shear=15, flip=0.25, flip_vertical=0.75)
    linear = np.array([draw_geometry(sample_rng(2, 0, i), (80, 80), policy).matrix[:, :2] for i in range(2000)])
    shears = np.rad2deg(np.arctan(linear[:, 0, 1]))
    assert stats.kstest(shears, stats.uniform(-15, 30).cdf).pvalue > 1e-3
    assert np.mean(linear[:, 0, 0] < 0) == pytest.approx(0.25, abs=0.04)
    assert np.mean(linear[:, 1, 1] < 0) == pytest.approx(0.75, abs=0.04)


def test_changing_one_setting_leaves_the_other_draws() -> None:
    plain = draw_geometry(sample_rng(0, 0, 3), (80, 100), GeometryPolicy((64, 64), scale=(0.5, 2.0)))
    mirrored = draw_geometry(sample_rng(0, 0, 3), (80, 100), GeometryPolicy((64, 64), scale=(0.5, 2.0), flip=1.0))
    np.testing.assert_array_equal(mirrored.matrix[0, :2], -plain.matrix[0, :2])
    np.testing.assert_array_equal(mirrored.matrix[1], plain.matrix[1])


def test_a_quarter_turn_is_numpys_rot90_to_the_pixel(given_draws: Any, photo: NDArray[np.uint8]) -> None:
    square = np.ascontiguousarray(photo[:150, :150])
    for draw, quarter_turns in ((1.0, 1), (0.0, -1)):
        draws = [0.5, draw, *MIDDLE[2:]]
        warp = draw_geometry(given_draws(draws), (150, 150), GeometryPolicy((150, 150), rotate=90))
        np.testing.assert_array_equal(warp_image(square, warp), np.rot90(square, quarter_turns))
        np.testing.assert_array_equal(warp_mask(square[:, :, 0].copy(), warp), np.rot90(square[:, :, 0], quarter_turns))


def test_mirrors_are_numpys_to_the_pixel(photo: NDArray[np.uint8]) -> None:
    rng = sample_rng(0, 0, 0)
    warp = draw_geometry(rng, (180, 240), GeometryPolicy((180, 240), flip=1.0))
    np.testing.assert_array_equal(warp_image(photo, warp), np.fliplr(photo))
    warp = draw_geometry(rng, (180, 240), GeometryPolicy((180, 240), flip_vertical=1.0))
    np.testing.assert_array_equal(warp_image(photo, warp), np.flipud(photo))


def test_shear_leans_rows_about_the_centre(given_draws: Any) -> None:
    draws = [0.5, 0.5, 1.0, *MIDDLE[3:]]
    warp = draw_geometry(given_draws(draws), (10, 20), GeometryPolicy((10, 20), shear=45))
    # x' = x + (y - 5), y' = y.
    np.testing.assert_allclose(warp.matrix, [[1, 1, -5], [0, 1, 0]], atol=1e-12)


def test_scale_shear_turn_mirror_and_window_are_applied_in_this_order(given_draws: Any) -> None:
    policy = GeometryPolicy((30, 40), scale=(2.0, 2.0), rotate=40, shear=20, flip=1.0)
    warp = draw_geometry(given_draws([0.5, 0.75, 0.75, 0.5, 0.5, 0.5, 0.25]), (20, 30), policy)
    turn, lean = np.deg2rad(20), np.tan(np.deg2rad(10))

    def move(*offset: float) -> NDArray[np.float64]:
        return np.array([[1, 0, offset[0]], [0, 1, offset[1]], [0, 0, 1]])

    cos, sin = np.cos(turn), np.sin(turn)
    steps = [
        np.diag([2.0, 2.0, 1.0]),  # 60 x 40
        move(-30, -20),
        np.array([[1, lean, 0], [0, 1, 0], [0, 0, 1]]),
        np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]),
        np.diag([-1.0, 1.0, 1.0]),
        move(30, 20),
        move(-5, -5),  # a quarter of the 21 places along x, the middle of the 11 along y
    ]
    expected = np.eye(3)
    for step in steps:
        expected = step @ expected
    np.testing.assert_allclose(warp.matrix, expected[:2], atol=1e-9)


Range = tuple[float, float]


def drawn_parts(image_hw: tuple[int, int], area: Range, ratio: Range, count: int) -> list[Part]:
    return [draw_part(sample_rng(0, 0, index), image_hw, area, ratio) for index in range(count)]


def test_a_part_has_a_uniform_area_and_a_log_uniform_ratio_where_the_picture_is_large_enough() -> None:
    # A square holds every ratio from 3/4 to 4/3 of up to three quarters of its area.
    side = 20_000
    parts = drawn_parts((side, side), (0.08, 0.75), (3 / 4, 4 / 3), 4000)
    height, width = np.array([part.size_hw for part in parts], dtype=float).T
    area, ratio = height * width / side**2, np.log(width / height)
    assert stats.kstest(area, stats.uniform(0.08, 0.67).cdf).pvalue > 1e-3
    assert stats.kstest(ratio, stats.uniform(np.log(3 / 4), np.log(16 / 9)).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(area, ratio)[0, 1]) < 0.05


def test_a_part_is_distributed_as_torchvisions_where_that_draws_once() -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms")
    picture = torch.empty(1, 9000, 12000).expand(3, -1, -1)
    torch.manual_seed(0)
    area, ratio = (0.08, 0.5), (3 / 4, 4 / 3)
    theirs = np.array([transforms.RandomResizedCrop.get_params(picture, area, ratio) for _ in range(3000)])
    parts = drawn_parts((9000, 12000), area, ratio, 3000)
    ours = np.array([(part.top, part.left, *part.size_hw) for part in parts])
    for column in range(4):
        assert stats.ks_2samp(theirs[:, column], ours[:, column]).pvalue > 1e-3


def test_every_place_of_a_part_is_equally_likely() -> None:
    # Half of 4 x 6 at ratio 4/3 is 3 x 4: two places down, three across.
    places = Counter((part.top, part.left) for part in drawn_parts((4, 6), (0.5, 0.5), (4 / 3, 4 / 3), 3000))
    assert set(places) == {(top, left) for top in range(2) for left in range(3)}
    assert stats.chisquare(list(places.values())).pvalue > 1e-3


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 1000), (7, 3), (480, 640), (3001, 997)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (5.0, 9.0), (0.01, 100.0)])
def test_the_whole_area_is_the_whole_picture_whatever_the_ratios(image_hw: tuple[int, int], ratio: Range) -> None:
    for part in drawn_parts(image_hw, (1.0, 1.0), ratio, 20):
        assert part == Part(0, 0, image_hw)


def test_what_does_not_fit_narrows_the_area_before_it_leaves_the_ratios() -> None:
    # In 300 x 900 the largest part of ratio 4/3 is 300 x 400: 4/9 of the area.
    parts = drawn_parts((300, 900), (0.2, 1.0), (3 / 4, 4 / 3), 2000)
    height, width = np.array([part.size_hw for part in parts], dtype=float).T
    assert stats.kstest(height * width / 270_000, stats.uniform(0.2, 4 / 9 - 0.2).cdf).pvalue > 1e-3
    assert (width / height).min() >= 3 / 4 - 0.01
    assert (width / height).max() <= 4 / 3 + 0.01
    assert height.max() <= 300
    # At 1/3 of the area (90,000 pixels) a part of ratio below 1 would be higher than the picture.
    ratios = [
        part.size_hw[1] / part.size_hw[0] for part in drawn_parts((300, 900), (1 / 3, 1 / 3), (3 / 4, 4 / 3), 2000)
    ]
    assert stats.kstest(np.log(ratios), stats.uniform(0, np.log(4 / 3)).cdf).statistic < 0.05


def test_the_least_area_is_kept_with_the_nearest_ratio_that_fits() -> None:
    for image_hw, expected in (((300, 900), (300, 450)), ((900, 300), (450, 300))):
        parts = drawn_parts(image_hw, (0.5, 0.9), (3 / 4, 4 / 3), 300)
        assert {part.size_hw for part in parts} == {expected}
        assert len({(part.top, part.left) for part in parts}) > 100


def test_parts_lie_in_the_picture_however_small_it_is() -> None:
    sides = np.random.default_rng(0).integers(1, 12, (300, 2)).tolist()
    for index, (height, width) in enumerate(sides):
        part = draw_part(sample_rng(0, 0, index), (height, width), (0.001, 1.0), (0.1, 10.0))
        assert 1 <= part.size_hw[0] <= height - part.top
        assert 1 <= part.size_hw[1] <= width - part.left
        assert min(part.top, part.left) >= 0


def part_of(warp: Warp) -> NDArray[np.float64]:
    """(left, top), (right, bottom) of what an upright warp shows."""
    corners = np.array([[0, 0], warp.size_hw[::-1]])
    return (corners - warp.matrix[:, 2]) / np.diag(warp.matrix)


def test_a_stretched_part_fills_the_window_and_lies_on_whole_pixels_of_the_picture() -> None:
    policy = GeometryPolicy((32, 48), "stretch", crop_area=(0.1, 0.5))
    places = []
    for index in range(500):
        warp = draw_geometry(sample_rng(0, 0, index), (300, 400), policy)
        assert warp.size_hw == (32, 48)
        shown = part_of(warp)
        np.testing.assert_allclose(shown, shown.round(), atol=1e-9)
        assert (shown >= -1e-9).all()
        assert (shown <= np.array([400, 300]) + 1e-9).all()
        assert 0.09 < np.prod(shown[1] - shown[0]) / 120_000 < 0.51
        places.append(shown[0] / (np.array([400, 300]) - (shown[1] - shown[0])))
    for along in np.array(places).T:
        assert stats.kstest(along, "uniform").pvalue > 1e-3


def test_a_stretched_part_has_the_pixels_of_the_part_cut_out_and_resized(photo: NDArray[np.uint8]) -> None:
    policy = GeometryPolicy((90, 120), "stretch", crop_area=(0.05, 0.1))  # enlarged: nothing mixes but neighbours
    for index in range(5):
        warp = draw_geometry(sample_rng(0, 0, index), (180, 240), policy)
        (left, top), (right, bottom) = part_of(warp).round().astype(int).tolist()
        cut = Image.fromarray(photo[top:bottom, left:right])
        expected = np.asarray(cut.resize((120, 90), Image.Resampling.BILINEAR)).astype(int)
        # At the border of the part ours also sees what lies beyond it.
        np.testing.assert_allclose(warp_image(photo, warp)[4:-4, 4:-4], expected[4:-4, 4:-4], atol=3)


def test_the_shorter_side_of_a_part_is_resized_as_that_of_a_picture() -> None:
    policy = GeometryPolicy((60, 70), "short_side", crop_area=(0.2, 0.8), crop_ratio=(0.5, 2.0))
    sizes = set()
    for index in range(100):
        warp = draw_geometry(sample_rng(0, 0, index), (300, 400), policy)
        (left, top), (right, bottom) = part_of(warp).round().astype(int).tolist()
        assert warp.size_hw == place_whole((bottom - top, right - left), (60, 70), "short_side")[1].input_hw
        sizes.add(warp.size_hw)
    assert len(sizes) > 20


def test_beside_a_fitted_part_its_surroundings_are_seen_and_filling_only_beyond_the_picture() -> None:
    policy = GeometryPolicy((60, 60), "pad", crop_area=(0.25, 0.25), crop_ratio=(4.0, 4.0))
    mask = np.zeros((300, 400), dtype=np.uint8)
    for index in range(20):
        # A part of 346 x 87 becomes 60 x 15; above and below it there is room for the rest of the picture.
        warp = draw_geometry(sample_rng(0, 0, index), (300, 400), policy)
        rows = (warp_mask(mask, warp)[:, 30] == 0).sum()
        assert rows > 30
        top, bottom = part_of(warp)[:, 1]
        assert rows == pytest.approx((min(bottom, 300) - max(top, 0)) * 60 / 346, abs=1.5)


def test_a_part_leaves_every_other_draw_of_the_picture() -> None:
    varied = {"scale": (0.5, 2.0), "rotate": 20.0, "flip": 0.5}
    for index in range(10):
        plain, cut = sample_rng(0, 0, index), sample_rng(0, 0, index)
        whole = draw_geometry(plain, (80, 80), GeometryPolicy((64, 64), "stretch", **varied))
        part = draw_geometry(cut, (80, 80), GeometryPolicy((64, 64), "stretch", crop_area=(0.3, 0.5),
                                                           crop_ratio=(1.0, 1.0), **varied))  # fmt: skip
        # A square part of a square: the same angle and mirror image, larger.
        size = np.sqrt(np.linalg.det(part.matrix[:, :2]) / np.linalg.det(whole.matrix[:, :2]))
        np.testing.assert_allclose(part.matrix[:, :2], whole.matrix[:, :2] * size, rtol=0.03, atol=0.01)
        np.testing.assert_array_equal(plain.random(9), cut.random(9))


@pytest.mark.parametrize("image_hw", [(180, 240), (240, 180), (101, 203), (97, 97)])
def test_center_crop_is_the_protocol_of_torchvision(image_hw: tuple[int, int], photo: NDArray[np.uint8]) -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.v2")
    picture = np.resize(photo, (*image_hw, 3))
    published = transforms.Compose([transforms.Resize(75, antialias=True), transforms.CenterCrop((60, 50))])
    # A ramp tells any shift: one pixel is 2.5 grey levels or more.
    ramp = np.zeros_like(picture)
    ramp[:, :, 0] = np.linspace(0, 250, image_hw[1])
    ramp[:, :, 1] = np.linspace(0, 250, image_hw[0])[:, None]
    expected = published(torch.from_numpy(ramp).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    warped = warp_image(ramp, center_crop(image_hw, 75, (60, 50)))
    assert np.abs(warped.astype(int) - expected).max() <= 1


def test_a_point_is_drawn_by_class_first_and_then_evenly_among_its_pixels() -> None:
    classes = np.zeros((4, 5), np.uint8)
    classes[0, :3] = 1
    classes[3, 4] = 2
    classes[1] = 255
    interest = np.array([0.0, 1.0, 3.0, 9.0])  # class 3 is not there
    points = Counter(draw_point(sample_rng(0, 0, index), classes, interest) for index in range(4000))
    assert set(points) == {(0.5, 0.5), (1.5, 0.5), (2.5, 0.5), (4.5, 3.5)}
    found = [points[x + 0.5, 0.5] for x in range(3)] + [points[4.5, 3.5]]
    assert stats.chisquare(found, [4000 / 12] * 3 + [3000]).pvalue > 0.001


def test_no_point_where_no_class_of_interest_is() -> None:
    rng = sample_rng(0, 0, 0)
    assert draw_point(rng, np.array([[0, 255]], np.uint8), np.array([0.0, 1.0])) is None
    other = sample_rng(0, 0, 0)
    draw_point(other, np.array([[0, 1]], np.uint8), np.array([0.0, 1.0]))
    assert rng.random() == other.random()


@pytest.mark.parametrize(
    ("point_xy", "offset_xy"),
    [
        ((50.0, 40.0), (-42.0, -34.0)),  # to the middle of 16 x 12
        ((1.0, 79.0), (0.0, -68.0)),  # no further than the picture's left and lower border
        ((99.0, 2.0), (-84.0, 0.0)),
    ],
)
def test_the_window_is_moved_to_a_point_but_not_off_the_picture(
    point_xy: tuple[float, float], offset_xy: tuple[float, float]
) -> None:
    start = Warp(np.array([[1.0, 0, -7], [0, 1, -3]]), (12, 16))
    moved = move_window(start, (80, 100), point_xy, (0.5, 0.5))
    np.testing.assert_array_equal(moved.matrix, [[1, 0, offset_xy[0]], [0, 1, offset_xy[1]]])
    assert moved.size_hw == start.size_hw


def test_a_window_larger_than_the_picture_keeps_it_inside() -> None:
    start = Warp(np.array([[0.5, 0, 3], [0, 0.5, 3]]), (60, 60))
    # At 0.5 the picture is 40 x 20; its point (0, 0) is wanted at (54, 6), but from 20 on it would stick out.
    moved = move_window(start, (40, 80), (0.0, 0.0), (0.9, 0.1))
    np.testing.assert_array_equal(moved.matrix, [[0.5, 0, 20], [0, 0.5, 6]])


def test_a_moved_window_keeps_rotation_and_mirror() -> None:
    policy = GeometryPolicy((20, 30), scale=(0.8, 1.6), rotate=25, flip=1)
    for index in range(50):
        drawn = draw_geometry(sample_rng(1, 0, index), (90, 120), policy)
        moved = move_window(drawn, (90, 120), (60.0, 45.0), (0.3, 0.6))
        np.testing.assert_array_equal(moved.matrix[:, :2], drawn.matrix[:, :2])
        # The picture's middle is far enough from its border: it comes to within half a pixel of the place.
        np.testing.assert_allclose(moved.matrix @ (60, 45, 1), (9, 12), atol=0.5 + 1e-9)


def test_halved_pictures_are_half_as_large_in_a_window_of_whole_strides() -> None:
    policy = GeometryPolicy((360, 480), scale=(0.5, 2.0), rotate=10)
    small = halved(policy)
    # 180 -> 192 = 6 x 32; 240 -> 256 = 8 x 32.
    assert small == GeometryPolicy((192, 256), scale=(0.25, 1.0), rotate=10)
    for index in range(20):
        full, half = (draw_geometry(sample_rng(0, 0, index), (360, 480), one) for one in (policy, small))
        # To whole pixels of the resized picture.
        np.testing.assert_allclose(half.matrix[:, :2] * 2, full.matrix[:, :2], atol=2 / 90)
    assert halved(GeometryPolicy((512, 512), fit="pad", scale=(0.5, 2.0))) == GeometryPolicy(
        (256, 256), fit="pad", scale=(0.5, 2.0)
    )
