"""Random changes of colour, blur and noise of training pictures. Labels stay as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ColorPolicy:
    """How far colours may be changed. The defaults change nothing.

    Attributes:
        brightness: largest change of brightness, share of the full range (0-1).
        contrast: largest change of contrast, factor 1-c to 1+c.
        saturation: largest change of saturation, factor 1-s to 1+s.
        hue: largest turn of hue either way, share of the colour circle (0-0.5).
        blur: largest sigma of a Gaussian blur, pixels.
        noise: largest standard deviation of Gaussian noise, grey levels of 255.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class ColorPlan:
    """What is done to one picture. The defaults do nothing.

    Attributes:
        brightness: added to every channel, share of the full range.
        contrast: factor about mid-grey (127.5).
        saturation: factor of the distance from grey of the same luma.
        hue: turn of the colour circle, share of it.
        blur_sigma: of the Gaussian blur, pixels.
        noise_std: standard deviation of the noise, grey levels of 255.
        noise_seed: which noise, 0..2^63-1.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    blur_sigma: float = 0.0
    noise_std: float = 0.0
    noise_seed: int = 0


def draw_color(rng: np.random.Generator, policy: ColorPolicy) -> ColorPlan:
    """Draw what is done to one picture, each setting uniformly from its range.

    The number of draws does not depend on the policy: changing one setting leaves the others' draws as they were.
    """
    brightness_at, contrast_at, saturation_at, hue_at = (2 * rng.random(4) - 1).tolist()
    blur_at, noise_at = rng.random(2).tolist()
    return ColorPlan(
        brightness=policy.brightness * brightness_at,
        contrast=1 + policy.contrast * contrast_at,
        saturation=1 + policy.saturation * saturation_at,
        hue=policy.hue * hue_at,
        blur_sigma=policy.blur * blur_at,
        noise_std=policy.noise * noise_at,
        noise_seed=int(rng.integers(2**63)),
    )


def apply_color(image: NDArray[np.uint8], plan: ColorPlan) -> NDArray[np.uint8]:
    """Colours (one linear map), then blur, then noise; a pure function of picture and plan.

    Takes and returns (H, W, 3) uint8 RGB, saturating at 0 and 255. ``image`` is not changed; where there is
    nothing to do it is returned itself.
    """
    if (plan.brightness, plan.contrast, plan.saturation, plan.hue) != (0.0, 1.0, 1.0, 0.0):
        image = cv2.transform(image, color_matrix(plan))
    # Below this sigma the blur moves no pixel by half a grey level.
    if plan.blur_sigma >= 0.25:
        # Up to 2.5 sigma: beyond lies 1 % of the weight, and a third of the time.
        taps = 2 * math.ceil(2.5 * plan.blur_sigma) + 1
        image = cv2.GaussianBlur(image, (taps, taps), plan.blur_sigma)
    if plan.noise_std > 0:
        image = cv2.add(image, _noise(image.shape, plan.noise_std, plan.noise_seed), dtype=cv2.CV_8U)
    return image


# Rows: luma Y, and the two colour axes I and Q; grey has I = Q = 0.
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_RGB_TO_YIQ[1:] -= _RGB_TO_YIQ[1:].mean(axis=1, keepdims=True)  # the published digits leave grey a trace of colour
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


def color_matrix(plan: ColorPlan) -> NDArray[np.float64]:
    """(3, 4) matrix of the plan's linear part: RGB (0-255) and 1 -> RGB.

    Saturation and hue scale and turn the colour plane (I, Q) of the YIQ space, which keeps luma and grey; contrast
    and brightness then act on all channels alike. Being linear, all four are one multiplication, and nothing is
    clipped in between.

    Source: YIQ: FCC 47 CFR 73.682 (NTSC); colour changes as matrices: Haeberli 1993, Matrix Operations for Image
    Processing.
    """
    angle = 2 * math.pi * plan.hue
    cos, sin = plan.saturation * math.cos(angle), plan.saturation * math.sin(angle)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix = plan.contrast * (_YIQ_TO_RGB @ turn @ _RGB_TO_YIQ)
    shift = 127.5 * (1 - plan.contrast) + 255 * plan.brightness
    return np.column_stack([matrix, np.full(3, shift)])


@cache
def _normal_steps() -> NDArray[np.float64]:
    """256 equally likely values with mean 0 and variance 1: the normal distribution in one byte."""
    normal = NormalDist()
    steps = np.array([normal.inv_cdf((i + 0.5) / 256) for i in range(256)])
    steps /= steps.std()
    return steps


def _noise(shape: tuple[int, ...], std: float, seed: int) -> NDArray[np.int8] | NDArray[np.int16]:
    # Random bytes through a table: eight times faster than drawing normal floats for every value.
    steps = np.rint(std * _normal_steps())
    table = steps.astype(np.int8 if steps[-1] <= 127 else np.int16)
    count = math.prod(shape)
    words = np.random.SFC64(seed).random_raw(-(-count // 8))
    drawn: NDArray[np.int8] | NDArray[np.int16] = cv2.LUT(words.view(np.uint8)[:count].reshape(shape), table)
    return drawn
