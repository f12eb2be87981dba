"""What every network promises, whatever its architecture."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pixbox.networks.network import SegmentationNetwork, parameter_counts

CLASSES = 3


def pictures(batch: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(65, 47), (1, 1), (33, 96)])
def test_logits_have_the_size_of_the_picture(network: SegmentationNetwork, height: int, width: int) -> None:
    network.eval()
    with torch.no_grad():
        logits = network(pictures(2, height, width))
    assert logits.shape == (2, CLASSES, height, width)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_one_odd_picture_trains_every_parameter(network: SegmentationNetwork) -> None:
    network.train()
    network.zero_grad()
    main, auxiliary = network.forward_training(pictures(1, 65, 47))
    loss = functional.cross_entropy(main, torch.randint(0, CLASSES, (1, 65, 47)))
    if auxiliary is not None:
        assert auxiliary.shape == main.shape
        loss = loss + functional.cross_entropy(auxiliary, torch.randint(0, CLASSES, (1, 65, 47)))
    loss.backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def test_evaluation_is_deterministic_and_leaves_the_network_as_it_was(network: SegmentationNetwork) -> None:
    network.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = pictures(1, 40, 70)
    with torch.no_grad():
        first, second = network(images), network(images)
    assert torch.equal(first, second)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_uint8_and_float_pictures_give_the_same_logits(network: SegmentationNetwork) -> None:
    network.eval()
    images = pictures(1, 50, 64)
    with torch.no_grad():
        assert torch.equal(network(images), network(images.float()))


def test_padding_is_mean_colour_at_the_right_and_bottom(network: SegmentationNetwork) -> None:
    network.eval()
    side = network.least_size
    images = pictures(1, side - 5, side - 3)
    normalised = (images.float() - network.mean) / network.std
    padded = torch.zeros(1, 3, side, side)
    padded[:, :, : side - 5, : side - 3] = normalised
    with torch.no_grad():
        expected = network.body(padded)[:, :, : side - 5, : side - 3]
        torch.testing.assert_close(network(images), expected, rtol=0, atol=0)


def test_a_picture_that_fits_is_not_padded(network: SegmentationNetwork) -> None:
    network.eval()
    side = network.least_size
    images = pictures(1, side, side + network.stride)
    with torch.no_grad():
        expected = network.body((images.float() - network.mean) / network.std)
        torch.testing.assert_close(network(images), expected, rtol=0, atol=0)


def test_encoder_and_decoder_share_out_all_parameters(network: SegmentationNetwork) -> None:
    encoder = {id(p) for p in network.encoder_parameters()}
    decoder = {id(p) for p in network.decoder_parameters()}
    assert encoder
    assert decoder
    assert not encoder & decoder
    assert encoder | decoder == {id(p) for p in network.parameters()}
    counts = parameter_counts(network)
    assert counts.total == counts.trainable == sum(p.numel() for p in network.parameters())
    assert counts.encoder == sum(p.numel() for p in network.body.encoder.parameters())  # type: ignore[union-attr]


def test_no_batch_norm_refuses_a_batch_of_one(network: SegmentationNetwork) -> None:
    strict = [name for name, module in network.named_modules() if type(module) is nn.BatchNorm2d]
    assert strict == []
