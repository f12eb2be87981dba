from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from pixbox.errors import ModelError
from pixbox.networks.encoders import encoder_facts
from pixbox.networks.unet import ClassicUNet, UNet


def test_classic_network_has_the_published_number_of_parameters() -> None:
    def double(inputs: int, outputs: int) -> int:
        # Two 3x3 convolutions without bias, each with a scale and an offset per channel.
        return 9 * inputs * outputs + 9 * outputs * outputs + 2 * 2 * outputs

    down = double(3, 64) + double(64, 128) + double(128, 256) + double(256, 512) + double(512, 1024)
    up = sum(2 * c * c * 4 + c + double(2 * c, c) for c in (512, 256, 128, 64))
    expected = down + up + 64 * 2 + 2
    assert expected == 31_037_698  # the figure of the widely used PyTorch U-Net with transposed convolutions
    with torch.device("meta"):
        network = ClassicUNet(num_classes=2)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_classic_network_has_18_convolutions_in_pairs_with_the_paper_channels() -> None:
    with torch.device("meta"):
        network = ClassicUNet(num_classes=2, norm="group")
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    channels = [m.out_channels for m in convolutions]
    down = [c for c in (64, 128, 256, 512, 1024) for _ in range(2)]
    assert channels == down + [c for c in (512, 256, 128, 64) for _ in range(2)]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def test_timm_unet_computes_what_the_reference_library_computes() -> None:
    channels = (32, 24, 16, 8, 8)
    ours = UNet(encoder_facts("resnet10t"), 4, channels).eval()
    reference = smp.Unet("tu-resnet10t", encoder_weights=None, decoder_channels=channels, classes=4).eval()
    for norm in (m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    values, names = list(ours.state_dict().values()), list(reference.state_dict())
    reference.load_state_dict(dict(zip(names, values, strict=True)))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), reference(x))


@pytest.mark.parametrize("name", ["convnext_atto", "swin_tiny_patch4_window7_224", "vgg11_bn"])
def test_encoders_of_every_layout_fit(name: str) -> None:
    # First feature at stride 4; the same, channels last; first feature at stride 1.
    network = UNet(encoder_facts(name), 2, (8, 8, 8, 8, 8), upsample="bilinear").eval()
    features: list[tuple[int, ...]] = []
    network.encoder.register_forward_hook(lambda _m, _i, output: features.extend(tuple(f.shape[1:]) for f in output))
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 2, 64, 96)
    strides, channels = network.encoder.strides, network.encoder.channels
    assert features == [(c, 64 // s, 96 // s) for c, s in zip(channels, strides, strict=True)]


def test_encoder_without_a_pyramid_is_refused() -> None:
    with pytest.raises(ModelError, match=r"strides \[16, 16, 16\]"):
        UNet(encoder_facts("vit_tiny_patch16_224"), 2)


def test_wrong_number_of_decoder_channels_is_refused() -> None:
    with pytest.raises(ModelError, match=r"decoder_channels has 2 values.* 5 are needed"):
        UNet(encoder_facts("resnet10t"), 2, (16, 8))
