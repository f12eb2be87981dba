from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pixbox.networks.network import ParameterCounts, SegmentationNetwork, parameter_counts


class Echo(nn.Module):
    """Returns what the body sees."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.decoder = nn.Conv2d(4, 2, 1)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x


def test_pixels_are_normalised_by_mean_and_deviation() -> None:
    network = SegmentationNetwork(Echo(), stride=1, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    image = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    # (1 - .5) / .5, (0 - .25) / .25, (.2 - 0) / 1
    torch.testing.assert_close(network(image).flatten(), torch.tensor([1.0, -1.0, 0.2]))


def test_imagenet_statistics_are_the_default() -> None:
    network = SegmentationNetwork(Echo(), stride=1)
    white = torch.full((1, 3, 1, 1), 255.0)
    # (1 - .485) / .229, (1 - .456) / .224, (1 - .406) / .225
    torch.testing.assert_close(network(white).flatten(), torch.tensor([2.2489083, 2.4285715, 2.64]))


def test_body_sees_multiples_of_the_stride_and_never_less_than_the_least_size() -> None:
    body = Echo()
    network = SegmentationNetwork(body, stride=8, least_size=24)
    for height, width in ((1, 24), (25, 32), (33, 100)):
        assert network(torch.zeros(1, 3, height, width)).shape == (1, 3, height, width)
    assert [tuple(x.shape[-2:]) for x in body.seen] == [(24, 24), (32, 32), (40, 104)]


def test_least_size_is_two_strides_unless_given() -> None:
    body = Echo()
    SegmentationNetwork(body, stride=16)(torch.zeros(1, 3, 2, 2))
    assert body.seen[0].shape[-2:] == (32, 32)


def test_normalisation_travels_with_the_state() -> None:
    source = SegmentationNetwork(Echo(), stride=1, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    target = SegmentationNetwork(Echo(), stride=1, mean=(0, 0, 0), std=(1, 1, 1))
    target.load_state_dict(source.state_dict())
    torch.testing.assert_close(target.mean.flatten(), torch.tensor([25.5, 51.0, 76.5]))


def test_parameters_are_counted_by_hand() -> None:
    # encoder: 3 * 4 + 4 of the convolution, 4 + 4 of the norm; decoder: 4 * 2 + 2.
    assert parameter_counts(SegmentationNetwork(Echo(), stride=1)) == ParameterCounts(34, 34, 24, 10)
    assert parameter_counts(SegmentationNetwork(Echo(), stride=1, freeze_encoder=True)).trainable == 10
    assert parameter_counts(SegmentationNetwork(Echo(), stride=1, freeze_bn=True)).trainable == 26


@pytest.mark.parametrize("name", ["unet", "unet_classic", "segnet", "deeplabv3"])
def test_frozen_batch_norm_stays_as_it_is_in_training(
    name: str, build_small: Callable[..., SegmentationNetwork]
) -> None:
    network = build_small(name, freeze_bn=True).eval().train()
    before = {key: value.clone() for key, value in network.encoder.state_dict().items()}
    network.forward_training(torch.randint(0, 256, (2, 3, 40, 40)))[0].sum().backward()
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1).step()
    after = network.encoder.state_dict()
    norms = [prefix for prefix, module in network.encoder.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for prefix in norms:
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(before[f"{prefix}.{tensor}"], after[f"{prefix}.{tensor}"])
    convolutions = [f"{prefix}.weight" for prefix, m in network.encoder.named_modules() if isinstance(m, nn.Conv2d)]
    assert any(not torch.equal(before[key], after[key]) for key in convolutions)


@pytest.mark.parametrize("name", ["unet", "segnet_resnet50", "dpt"])
def test_frozen_encoder_stays_as_it_is_in_training(name: str, build_small: Callable[..., SegmentationNetwork]) -> None:
    network = build_small(name, freeze_encoder=True).eval().train()
    before = {key: value.clone() for key, value in network.encoder.state_dict().items()}
    network.forward_training(torch.randint(0, 256, (2, 3, 40, 40)))[0].sum().backward()
    assert all(p.grad is None for p in network.encoder_parameters())
    assert all(p.grad is not None for p in network.decoder_parameters())
    assert all(torch.equal(before[key], value) for key, value in network.encoder.state_dict().items())
    assert not any(module.training for module in network.encoder.modules())
