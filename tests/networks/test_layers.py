from __future__ import annotations

import pytest
import torch
from torch import nn

from pixbox.networks.layers import BinAverage, LenientBatchNorm2d, accept_single_values, norm_layer


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size_hw", [(6, 6), (7, 13), (1, 1), (4, 5), (60, 45)])
def test_bin_average_equals_adaptive_pooling(bins: int, size_hw: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size_hw, dtype=torch.float64, requires_grad=True)
    expected = nn.AdaptiveAvgPool2d(bins)(x)
    found = BinAverage(bins)(x)
    torch.testing.assert_close(found, expected)
    pull = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(found, x, pull)[0], torch.autograd.grad(expected, x, pull)[0])


def test_exported_bin_average_is_right_at_sizes_it_was_not_traced_with() -> None:
    free = {0: None, 1: None, 2: torch.export.Dim("height", min=1), 3: torch.export.Dim("width", min=1)}
    program = torch.export.export(BinAverage(6), (torch.zeros(1, 2, 12, 18),), dynamic_shapes=(free,))
    x = torch.randn(1, 2, 25, 7)
    torch.testing.assert_close(program.module()(x), nn.AdaptiveAvgPool2d(6)(x))


def test_lenient_norm_equals_batch_norm_where_that_has_a_variance() -> None:
    strict, lenient = nn.BatchNorm2d(4), LenientBatchNorm2d(4)
    for shape in ((2, 4, 1, 1), (1, 4, 1, 2)):
        x = torch.randn(shape)
        torch.testing.assert_close(lenient(x), strict(x))
        torch.testing.assert_close(lenient.running_var, strict.running_var)


def test_single_value_is_normalised_by_the_running_statistics_and_does_not_change_them() -> None:
    norm = nn.Sequential(nn.BatchNorm2d(1, eps=0))
    accept_single_values(norm)
    norm[0].running_mean.fill_(3.0)
    norm[0].running_var.fill_(4.0)
    assert norm(torch.full((1, 1, 1, 1), 7.0)).item() == 2.0  # (7 - 3) / sqrt(4)
    assert (norm[0].running_mean.item(), norm[0].running_var.item()) == (3.0, 4.0)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (1024, 32), (24, 8), (4, 4)])
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    layer = norm_layer("group", channels)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == groups
