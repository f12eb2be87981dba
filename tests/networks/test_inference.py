"""What is made ready for inference answers as the network that was trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from pixbox.config import ModelConfig
from pixbox.networks.build import build_classifier, build_detector, build_network
from pixbox.networks.inference import _PackedConvolution, computes_bf16, fold_batch_norms, for_inference, layout_bytes
from pixbox.networks.layers import LenientBatchNorm2d
from pixbox.networks.network import Network, SegmentationNetwork
from pixbox.networks.segnet import SegNet

CPU = torch.device("cpu")
BF16 = pytest.mark.skipif(not computes_bf16(CPU), reason="this processor does not compute bf16")
OTHERS: dict[str, Callable[[], Network]] = {
    "retinanet, BatchNorm": lambda: detector("resnet18", encoder_norm="batch"),
    "retinanet, norm with activation": lambda: detector("efficientnet_b0", encoder_norm="batch"),
    "retinanet, GroupNorm": lambda: detector("resnet18", encoder_norm="group"),
    "classifier, BatchNorm before convolutions": lambda: classifier("densenet121"),
    "classifier, branches": lambda: classifier("repvgg_a0"),
    "classifier, LayerNorm": lambda: classifier("convnext_atto"),
}


def detector(encoder: str, **options: Any) -> Network:
    return build_detector(ModelConfig(architecture="retinanet", encoder=encoder, options=options), 3, 3, 4)


def classifier(encoder: str) -> Network:
    return build_classifier(ModelConfig(architecture="classifier", encoder=encoder), 3)


def with_statistics(network: Network) -> Network:
    """As if it had been trained: no BatchNorm leaves what it gets as it is."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, least, most in (
                (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5),
                (module.weight, 0.5, 1.5), (module.bias, -0.2, 0.2),
            ):  # fmt: skip
                assert values is not None
                nn.init.uniform_(values, least, most)
    return network.eval()


def pictures(height: int = 97, width: int = 133) -> Tensor:
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)


@torch.inference_mode()
def answers(network: nn.Module, images: Tensor) -> list[Tensor]:
    return [value.float() for value in tree_leaves(network(images))]


def assert_same_answers(found: nn.Module, wanted: nn.Module, images: Tensor) -> None:
    # Of two nearly equal values SegNet may take the other, and put what follows at another place.
    least = 0.7 if any(isinstance(module, SegNet) for module in wanted.modules()) else 1.0
    for ours, theirs in zip(answers(found, images), answers(wanted, images), strict=True):
        assert ours.shape == theirs.shape
        same = (ours - theirs).abs() <= 1e-3 * theirs.abs().max()
        assert float(same.float().mean()) >= least


def batch_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_every_architecture_answers_the_same_without_its_batch_norms(network: SegmentationNetwork) -> None:
    # In float64, where no two values are nearly equal.
    whole = with_statistics(copy.deepcopy(network)).double()
    folded = fold_batch_norms(whole)
    images = pictures()
    for ours, theirs in zip(answers(folded, images), answers(whole, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    # PSPNet's second head has one and is not asked.
    assert batch_norms(folded) <= 1 < batch_norms(whole) or batch_norms(whole) <= 1


@pytest.mark.parametrize("kind", OTHERS)
def test_the_other_networks_answer_the_same_without_their_batch_norms(kind: str) -> None:
    whole = with_statistics(OTHERS[kind]())
    folded = fold_batch_norms(whole)
    assert_same_answers(folded, whole, pictures())
    # What stands before a convolution, and not behind one, must stay.
    stays = {"classifier, BatchNorm before convolutions": 62, "classifier, branches": 17}
    assert batch_norms(folded) == stays.get(kind, 0)


def test_every_architecture_answers_the_same_in_its_fast_form(network: SegmentationNetwork) -> None:
    whole = with_statistics(copy.deepcopy(network))
    assert_same_answers(for_inference(whole, "32"), whole, pictures())


@pytest.mark.parametrize("precision", ["32", pytest.param("bf16", marks=BF16)])
@pytest.mark.parametrize("kind", ["retinanet, BatchNorm", "retinanet, GroupNorm"])
def test_answers_do_not_depend_on_the_sizes_met_before(kind: str, precision: str) -> None:
    whole = with_statistics(OTHERS[kind]())
    fast = for_inference(whole, precision)
    sizes = [pictures(97, 133), pictures(64, 80), pictures(130, 70)]
    first = [answers(fast, images) for images in sizes]
    # Some sizes again and again, so that weights are laid out for them, then others.
    for index in (0, 0, 1, 1, 0, 2, 2, 1, 1, 0, 0):
        for again, once in zip(answers(fast, sizes[index]), first[index], strict=True):
            assert torch.equal(again, once)
    if not torch.backends.mkldnn.is_available():
        return
    # Weights lie as the last size wants them, except in heads, which meet every level of a picture.
    packed = [module for module in fast.modules() if isinstance(module, _PackedConvolution)]
    kept = [module for module in packed if module._laid_out[1] is not None]
    assert len(kept) > 20
    assert 8 <= len(packed) - len(kept) <= 10
    assert layout_bytes(fast) == sum(module._weight.nbytes for module in kept)


@BF16
def test_bf16_weights_are_as_near_to_float32_as_autocast(network: SegmentationNetwork) -> None:
    whole, images = with_statistics(copy.deepcopy(network)), pictures()
    (wanted,) = answers(whole, images)
    (found,) = answers(for_inference(whole, "bf16"), images)
    with torch.autocast("cpu", torch.bfloat16):
        (by_autocast,) = answers(whole, images)
    assert (found - wanted).norm() <= 1.5 * (by_autocast - wanted).norm()


@pytest.mark.parametrize("precision", ["32", pytest.param("bf16", marks=BF16)])
def test_it_can_be_made_ready_within_a_validation(
    build_small: Callable[..., SegmentationNetwork], precision: str
) -> None:
    network, images = with_statistics(build_small("unet")), pictures()
    (before,) = answers(for_inference(network, precision), images)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        (within,) = answers(for_inference(network, precision), images)
    assert torch.equal(before, within)


@pytest.mark.parametrize("precision", ["32", pytest.param("bf16", marks=BF16)])
def test_the_precision_is_its_own_also_in_an_autocast_region(
    build_small: Callable[..., SegmentationNetwork], precision: str
) -> None:
    fast, images = for_inference(build_small("unet"), precision), pictures()
    (alone,) = answers(fast, images)
    with torch.autocast("cpu", torch.bfloat16):
        (within,) = answers(fast, images)
    assert torch.equal(alone, within)


def test_the_network_itself_stays_as_it_was(build_small: Callable[..., SegmentationNetwork]) -> None:
    network = build_small("unet").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for_inference(network, "bf16")
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert batch_norms(network) > 0


class Body(nn.Module):
    """Two convolutions, a BatchNorm, and a way through them. (B, 3, H, W) -> (B, 3, H, W)."""

    def __init__(self, way: Callable[[Body, Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.other_norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


class Standardised(nn.Conv2d):
    """Makes its weights anew in each call, so that nothing can be put into them."""

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return functional.conv2d(x, weight, self.bias, padding=1)


def seen_twice(body: Body, x: Tensor) -> Tensor:
    found = body.encoder(x)
    return body.norm(found) + found


def two_norms(body: Body, x: Tensor) -> Tensor:
    return body.norm(body.encoder(x)) + body.other_norm(body.encoder(x))


def two_convolutions(body: Body, x: Tensor) -> Tensor:
    return body.norm(body.encoder(x)) + body.norm(body.second(x))


def something_between(body: Body, x: Tensor) -> Tensor:
    return body.norm(body.encoder(x).relu_())


def written_over(body: Body, x: Tensor) -> Tensor:
    found = body.encoder(x)
    view = found[:, :1]
    view += 1
    return body.norm(found)


def kept_as_answer(body: Body, x: Tensor) -> Tensor:
    found = body.encoder(x)
    body.norm(found)
    return found


def by_size(body: Body, x: Tensor) -> Tensor:
    found = body.encoder(x)
    return body.norm(found) if x.shape[2] == x.shape[3] - 1 or x.shape[2] <= 2 else found


@pytest.mark.parametrize(
    "way",
    [seen_twice, two_norms, two_convolutions, something_between, written_over, kept_as_answer, by_size],
)
def test_a_batch_norm_stays_where_something_else_sees_the_convolution(way: Callable[[Body, Tensor], Tensor]) -> None:
    whole = with_statistics(SegmentationNetwork(Body(way), stride=1))
    folded = fold_batch_norms(whole)
    assert batch_norms(folded) == 2
    assert_same_answers(folded, whole, pictures(33, 40))
    assert_same_answers(for_inference(whole, "32"), whole, pictures(33, 40))


def test_a_convolution_with_weights_of_its_own_making_keeps_its_batch_norm() -> None:
    body = Body(lambda body, x: body.norm(body.encoder(x)))
    body.encoder = Standardised(3, 3, 3, padding=1)
    whole = with_statistics(SegmentationNetwork(body, stride=1))
    folded = fold_batch_norms(whole)
    assert isinstance(folded.body.norm, LenientBatchNorm2d)
    assert_same_answers(for_inference(whole, "32"), whole, pictures(33, 40))


def test_an_activation_that_others_use_too_stays() -> None:
    def shared(body: Body, x: Tensor) -> Tensor:
        return body.relu(body.second(body.relu(body.norm(body.encoder(x))))) - body.relu(x.clone())

    whole = with_statistics(SegmentationNetwork(Body(shared), stride=1))
    assert_same_answers(for_inference(whole, "32"), whole, pictures(33, 40))


@BF16
def test_a_network_that_mixes_precisions_itself_is_cast_operation_by_operation() -> None:
    def mixed(body: Body, x: Tensor) -> Tensor:
        return body.second(body.encoder(x).float())

    whole = SegmentationNetwork(Body(mixed), stride=1).eval()
    images = pictures(33, 40)
    (found,) = answers(for_inference(whole, "bf16"), images)
    (wanted,) = answers(whole, images)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05 * float(wanted.abs().max()))


def test_one_network_of_the_table_needs_no_batch_norm() -> None:
    network = build_network(ModelConfig(architecture="unet", encoder="convnext_atto"), 3)
    assert batch_norms(fold_batch_norms(network.eval())) == 0
