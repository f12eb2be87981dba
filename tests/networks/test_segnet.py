from __future__ import annotations

import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

from pixbox.networks.segnet import PoolingResNetEncoder, PoolingVGGEncoder, SegNet, pool, unpool


def randomise_norms(module: nn.Module) -> None:
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)


def test_unpooling_puts_values_where_the_maxima_were() -> None:
    x = torch.tensor([[1.0, 5.0, 0.0, 2.0], [3.0, 4.0, 9.0, 1.0]]).view(1, 1, 2, 4)
    values, (indices, size_hw) = pool(x)
    assert values.flatten().tolist() == [5.0, 9.0]
    restored = unpool(torch.tensor([10.0, 20.0]).view(1, 1, 1, 2), indices, size_hw)
    assert restored.view(2, 4).tolist() == [[0.0, 10.0, 0.0, 0.0], [0.0, 0.0, 20.0, 0.0]]


def test_unpooling_equals_the_framework_also_at_odd_sizes() -> None:
    x = torch.randn(2, 3, 7, 9)
    values, (indices, size_hw) = pool(x)
    y = torch.randn_like(values, requires_grad=True)
    expected = functional.max_unpool2d(y, indices, 2, output_size=x.shape)
    found = unpool(y, indices, size_hw)
    assert torch.equal(found, expected)
    pull = torch.randn_like(x)
    assert torch.equal(torch.autograd.grad(found, y, pull)[0], torch.autograd.grad(expected, y, pull)[0])


def test_vgg_network_has_13_convolutions_each_way() -> None:
    with torch.device("meta"):
        network = SegNet("vgg16", num_classes=12)
    down = [m.out_channels for m in network.encoder.modules() if isinstance(m, nn.Conv2d)]
    up = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)][13:]
    assert down == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    # The mirror image, as each convolution's input: the last one gives the classes.
    assert up == [512] * 5 + [256] * 3 + [128] * 2 + [64] * 2 + [12]
    # 14,714,688 is VGG-16's published count without its classifier; two more for each of 4,224 normalised channels.
    assert sum(p.numel() for p in network.encoder.parameters()) == 14_714_688 + 2 * 4224


def test_vgg_encoder_computes_what_timm_computes_with_the_same_weights() -> None:
    theirs = timm.create_model("vgg16_bn", features_only=True, pretrained=False).eval()
    randomise_norms(theirs)
    ours = PoolingVGGEncoder().eval()
    ours.load_state_dict({name.replace("features_", "features."): value for name, value in theirs.state_dict().items()})
    x = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        deepest, pooled = ours(x)
        features = theirs(x)
    torch.testing.assert_close(deepest, features[-1])
    for feature, (indices, size_hw) in zip(features, pooled, strict=False):
        assert tuple(feature.shape[-2:]) == size_hw
        assert torch.equal(indices, functional.max_pool2d(feature, 2, return_indices=True)[1])


def test_resnet_encoder_keeps_the_names_and_shapes_of_torchvision() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.resnet50().state_dict()
        ours = PoolingResNetEncoder().state_dict()
    expected = {name: value.shape for name, value in theirs.items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in ours.items()} == expected


def test_resnet_encoder_pools_instead_of_striding() -> None:
    theirs = timm.create_model("resnet50", pretrained=False).eval()
    randomise_norms(theirs)
    ours = PoolingResNetEncoder().eval()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    assert all(m.stride == (1, 1) for m in ours.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        stem = functional.relu(ours.bn1(ours.conv1(x)))
        torch.testing.assert_close(stem[:, :, ::2, ::2], theirs.act1(theirs.bn1(theirs.conv1(x))))
        deepest, pooled = ours(x)
    assert deepest.shape == (1, 2048, 2, 2)
    assert [size_hw for _, size_hw in pooled] == [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]
    assert [indices.shape[1] for indices, _ in pooled] == [64, 64, 256, 512, 1024]


def test_network_takes_odd_sizes_without_any_padding() -> None:
    network = SegNet("vgg16", 2).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 45, 67)).shape == (1, 2, 45, 67)
