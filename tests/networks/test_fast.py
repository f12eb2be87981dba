from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from pixbox.networks.fast import Fast, FastEncoder, PyramidOfAverages, ResidualBlock

CHANNELS = (8, 12, 16, 20)


def test_features_come_at_strides_2_to_32_finest_first() -> None:
    encoder = FastEncoder(CHANNELS, depths=(1, 0, 2, 1), fine_channels=4)
    shapes = [tuple(feature.shape[1:]) for feature in encoder(torch.zeros(2, 3, 64, 96))]
    assert shapes == [(4, 32, 48), (8, 16, 24), (12, 8, 12), (16, 4, 6), (20, 2, 3)]
    assert [sum(isinstance(m, ResidualBlock) for m in stage.modules()) for stage in encoder.stages] == [1, 0, 2, 1]


def test_a_residual_block_begins_as_the_identity_of_what_is_not_negative() -> None:
    x = torch.rand(2, 6, 5, 7)
    torch.testing.assert_close(ResidualBlock(6)(x), x)


def test_the_pyramid_joins_a_feature_with_its_averages_as_adaptive_pooling_gives_them() -> None:
    pyramid = PyramidOfAverages(6, 8).eval()
    x = torch.randn(1, 6, 9, 11)
    joined = [x]
    for bins, branch in zip((1, 2, 4), pyramid.branches, strict=True):
        projection = branch[1]  # type: ignore[index]
        pooled = functional.relu(projection(functional.adaptive_avg_pool2d(x, bins)))
        joined.append(functional.interpolate(pooled, (9, 11), mode="bilinear", align_corners=False))
    torch.testing.assert_close(pyramid(x), pyramid.join(torch.cat(joined, dim=1)))


def test_parameters_are_as_many_as_the_convolutions_of_the_description_have() -> None:
    def convolution(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + 2 * outputs  # BatchNorm: a scale and an offset a channel

    encoder = convolution(3, 4, 3) + sum(
        convolution(a, b, 3) + 2 * convolution(b, b, 3) for a, b in zip((4, *CHANNELS), CHANNELS, strict=False)
    )
    context = 3 * (20 * 8 + 8) + convolution(20 + 3 * 8, 16, 1)
    way_up = convolution(16, 16, 1) + convolution(12, 8, 1) + convolution(8, 8, 1)
    way_up += convolution(16, 8, 3) + 2 * convolution(8, 8, 3)
    fine = 8 * 16 + 16 + convolution(4, 4, 1) + convolution(4, 4, 3) + 4 * 5 + 5
    network = Fast(5, CHANNELS, (1, 1, 1, 1), decoder_channels=8, fine_channels=4)
    assert sum(p.numel() for p in network.parameters()) == encoder + context + way_up + fine


def test_a_change_of_one_pixel_reaches_the_logits_at_full_detail() -> None:
    torch.manual_seed(0)
    network = Fast(3, CHANNELS, (1, 1, 1, 1), decoder_channels=8, fine_channels=4).eval()
    nn.init.zeros_(network.to_fine.weight)  # only the stem's own feature is left
    picture = torch.zeros(1, 3, 64, 64)
    dotted = picture.clone()
    dotted[..., 32, 32] = 5.0
    with torch.no_grad():
        changed = (network(dotted) - network(picture)).abs().amax(dim=(0, 1)) > 1e-6
    rows = changed.any(dim=1).nonzero().flatten()
    # Stem (3x3 at stride 2), one 3x3 convolution at stride 2, bilinear doubling: 3 + 2 cells of 2 pixels, and 1 beside.
    assert changed.any()
    assert int(rows.max() - rows.min()) < 12
