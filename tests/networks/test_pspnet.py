from __future__ import annotations

import pytest
import torch
from torch import nn

from pixbox.networks.encoders import encoder_facts
from pixbox.networks.layers import BinAverage
from pixbox.networks.network import SegmentationNetwork
from pixbox.networks.pspnet import PSPNet


def test_default_pyramid_and_heads_have_the_paper_widths() -> None:
    with torch.device("meta"):
        network = PSPNet(encoder_facts("resnet50"), 21)
    assert [m.bins for m in network.modules() if isinstance(m, BinAverage)] == [1, 2, 3, 6]
    reductions = [m for m in network.pyramid.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size) for m in reductions] == [(2048, 512, (1, 1))] * 4
    main = [m for m in network.head if isinstance(m, nn.Conv2d)]
    auxiliary = [m for m in network.auxiliary_head if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in main] == [(4096, 512), (512, 21)]
    # The paper attaches it to conv4 (res4b22), which has 1024 channels.
    assert [(m.in_channels, m.out_channels) for m in auxiliary] == [(1024, 256), (256, 21)]


def test_encoder_runs_at_stride_8() -> None:
    network = PSPNet(encoder_facts("resnet10t"), 2)
    assert [tuple(f.shape[-2:]) for f in network.encoder(torch.zeros(2, 3, 48, 80))[-2:]] == [(6, 10), (6, 10)]


def test_auxiliary_head_speaks_only_in_training() -> None:
    network = SegmentationNetwork(PSPNet(encoder_facts("mobilenetv3_small_050"), 2), stride=8)
    images = torch.randint(0, 256, (1, 3, 30, 20))
    main, auxiliary = network.eval().forward_training(images)
    assert auxiliary is not None
    torch.testing.assert_close(main, network(images))
    for parameter in network.body.auxiliary_head.parameters():  # type: ignore[union-attr]
        nn.init.constant_(parameter, 7.0)
    torch.testing.assert_close(network(images), main)


@pytest.mark.parametrize("size_hw", [(8, 8), (47, 81)])
def test_constant_feature_stays_constant_through_the_pyramid(size_hw: tuple[int, int]) -> None:
    network = PSPNet(encoder_facts("mobilenetv3_small_050"), 2)
    for level in network.pyramid:
        averaged = level[0](torch.full((1, 4, *size_hw), 2.5))  # type: ignore[index]
        torch.testing.assert_close(averaged, torch.full_like(averaged, 2.5))
