from __future__ import annotations

import colorsys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy import ndimage, stats

from pixbox.augment import ColorPlan, ColorPolicy, apply_color, draw_color, sample_rng
from pixbox.augment.color import color_matrix


def rgb(*pixel: int) -> NDArray[np.uint8]:
    return np.array([[pixel]], dtype=np.uint8)


def test_with_everything_off_the_picture_itself_comes_back(photo: NDArray[np.uint8]) -> None:
    assert apply_color(photo, draw_color(sample_rng(0, 0, 0), ColorPolicy())) is photo


def test_the_picture_given_is_not_changed(photo: NDArray[np.uint8]) -> None:
    before = photo.copy()
    photo.flags.writeable = False
    apply_color(photo, ColorPlan(0.1, 1.1, 0.9, 0.02, 1.0, 5.0, 3))
    np.testing.assert_array_equal(photo, before)


def test_brightness_is_a_share_of_the_full_range_and_saturates() -> None:
    # 0.2 * 255 = 51
    np.testing.assert_array_equal(apply_color(rgb(0, 100, 240), ColorPlan(brightness=0.2)), rgb(51, 151, 255))
    np.testing.assert_array_equal(apply_color(rgb(0, 100, 240), ColorPlan(brightness=-0.2)), rgb(0, 49, 189))


def test_contrast_is_a_factor_about_mid_grey() -> None:
    # 127.5 + 1.5 * (v - 127.5); halves may round either way.
    out = apply_color(rgb(57, 127, 247), ColorPlan(contrast=1.5)).astype(float)
    assert np.abs(out - [[[21.75, 126.75, 255]]]).max() <= 0.76


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_saturation_is_pillows_color_enhancement(factor: float, photo: NDArray[np.uint8]) -> None:
    expected = np.asarray(ImageEnhance.Color(Image.fromarray(photo)).enhance(factor))
    # Pillow rounds luma to whole grey levels first.
    assert np.abs(apply_color(photo, ColorPlan(saturation=factor)).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("hue", [0.03, -0.1, 0.5])
def test_hue_turns_the_colour_plane_of_yiq(hue: float) -> None:
    colors = np.random.default_rng(0).random((50, 3))
    turned = colors @ color_matrix(ColorPlan(hue=hue))[:, :3].T
    for before, after in zip(colors, turned, strict=True):
        y, i, q = colorsys.rgb_to_yiq(*before)
        # colorsys clips to 0-1 on the way back only, so its forward transform is linear.
        y2, i2, q2 = colorsys.rgb_to_yiq(*after)
        expected = complex(i, q) * np.exp(2j * np.pi * hue)
        assert y2 == pytest.approx(y, abs=0.01)
        assert complex(i2, q2) == pytest.approx(expected, abs=0.012)


def test_hue_leaves_grey_and_a_full_turn_leaves_all() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    for hue in (0.05, 0.25, -0.5):
        assert np.abs(apply_color(greys, ColorPlan(hue=hue, saturation=1.5)).astype(int) - greys).max() <= 1
    np.testing.assert_allclose(color_matrix(ColorPlan(hue=1.0)), np.eye(3, 4), atol=1e-9)


def test_a_third_of_a_turn_leads_from_primary_to_primary() -> None:
    turned = apply_color(rgb(200, 60, 60), ColorPlan(hue=1 / 3))[0, 0] / 255
    hue = colorsys.rgb_to_hsv(*turned)[0]
    assert min(abs(hue - 1 / 3), abs(hue - 2 / 3)) < 0.1


def test_all_linear_changes_together_are_their_product_without_clipping_in_between() -> None:
    plan = ColorPlan(brightness=-0.4, contrast=1.8, saturation=0.5, hue=0.1)
    # Alone, the contrast would clip 250 to 255; brightness then brings it back into range.
    pixel = np.array([250.0, 240.0, 245.0])
    colored = color_matrix(ColorPlan(saturation=0.5, hue=0.1))[:, :3] @ pixel
    expected = 127.5 + 1.8 * (colored - 127.5) - 0.4 * 255
    assert np.abs(apply_color(rgb(250, 240, 245), plan)[0, 0] - expected).max() <= 1.5


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.0, 1.5, 3.0])
def test_blur_is_a_gaussian(sigma: float, photo: NDArray[np.uint8]) -> None:
    expected = ndimage.gaussian_filter(photo.astype(float), (sigma, sigma, 0), mode="mirror")
    error = apply_color(photo, ColorPlan(blur_sigma=sigma)) - expected
    assert np.sqrt((error**2).mean()) < 0.8
    assert np.sqrt((error**2).mean()) < 0.15 * np.sqrt(((photo - expected) ** 2).mean()) + 0.35


def test_a_blur_too_small_to_show_is_left_out() -> None:
    dot = np.zeros((9, 9, 3), dtype=np.uint8)
    dot[4, 4] = 255
    shown = np.rint(ndimage.gaussian_filter(dot.astype(float), (0.24, 0.24, 0)))
    np.testing.assert_array_equal(shown, dot)
    assert apply_color(dot, ColorPlan(blur_sigma=0.24)) is dot
    assert apply_color(dot, ColorPlan(blur_sigma=0.3))[4, 4, 0] < 255


@pytest.mark.parametrize("std", [0.5, 5.0, 30.0, 60.0])
def test_noise_is_gaussian_with_its_standard_deviation(std: float) -> None:
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    noise = apply_color(grey, ColorPlan(noise_std=std, noise_seed=1)).astype(float) - 128
    assert abs(noise.mean()) < 0.02 * std + 0.01
    # Whole grey levels add a variance of 1/12; 60 levels already meet the ends of the range.
    expected = (
        np.sqrt(std**2 + 1 / 12)
        if std < 40
        else np.clip(np.random.default_rng(0).normal(0, 60, 10**6), -128, 127).std()
    )
    assert noise.std() == pytest.approx(expected, rel=0.03, abs=0.05)
    if std == 30.0:
        assert (
            stats.kstest(
                noise.ravel() + np.random.default_rng(0).uniform(-0.5, 0.5, noise.size), "norm", args=(0, 30)
            ).statistic
            < 0.01
        )
    channels = noise.reshape(-1, 3)
    assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(channels[:-1, 0], channels[1:, 0])[0, 1]) < 0.03


def test_noise_is_a_pure_function_of_the_plan(photo: NDArray[np.uint8]) -> None:
    first = apply_color(photo, ColorPlan(noise_std=8.0, noise_seed=5))
    np.testing.assert_array_equal(first, apply_color(photo, ColorPlan(noise_std=8.0, noise_seed=5)))
    other = apply_color(photo, ColorPlan(noise_std=8.0, noise_seed=6))
    assert (first != other).mean() > 0.8


def test_noise_fits_pictures_whose_size_is_no_multiple_of_eight() -> None:
    assert apply_color(np.zeros((3, 5, 3), np.uint8), ColorPlan(noise_std=8.0)).shape == (3, 5, 3)


def test_draws_are_uniform_within_the_policy() -> None:
    policy = ColorPolicy(brightness=0.2, contrast=0.3, saturation=0.4, hue=0.05, blur=1.5, noise=10)
    plans = [draw_color(sample_rng(0, 0, index), policy) for index in range(1500)]
    ranges = {"brightness": (-0.2, 0.4), "contrast": (0.7, 0.6), "saturation": (0.6, 0.8), "hue": (-0.05, 0.1),
              "blur_sigma": (0, 1.5), "noise_std": (0, 10)}  # fmt: skip
    for name, (start, extent) in ranges.items():
        values = [getattr(plan, name) for plan in plans]
        assert stats.kstest(values, stats.uniform(start, extent).cdf).pvalue > 1e-3, name
    assert len({plan.noise_seed for plan in plans}) == len(plans)


def test_changing_one_setting_leaves_the_other_draws() -> None:
    both = draw_color(sample_rng(0, 0, 4), ColorPolicy(brightness=0.2, noise=3))
    noise_only = draw_color(sample_rng(0, 0, 4), ColorPolicy(noise=3))
    assert (both.noise_std, both.noise_seed) == (noise_only.noise_std, noise_only.noise_seed)
