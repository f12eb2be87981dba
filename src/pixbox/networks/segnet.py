"""SegNet: what was pooled away returns to the very pixel it came from."""

from __future__ import annotations

import timm
from torch import Tensor, nn
from torch.nn import functional

from pixbox.networks.layers import conv_norm_relu

POOLINGS = 5
STRIDE = 2**POOLINGS
PRETRAINED_NAMES = {"vgg16": "vgg16_bn", "resnet50": "resnet50"}
_VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class SegNet(nn.Module):
    """Encoder, and a mirrored decoder that unpools with the encoder's max-pooling indices.

    The encoder returns its coarsest feature and the indices of its poolings. The decoder undoes the poolings in
    reverse: values go to the places of the maxima, zeros elsewhere, and convolutions fill the gaps. There are no
    other connections between the two. Input: any size from 32 pixels (odd rows and columns at the end of a
    stage are not pooled and come back as zeros).

    ``vgg16``: the 13 convolutions of VGG-16 with BatchNorm, and 13 in the decoder, of which the last gives the
    logits. ``resnet50``: see ``PoolingResNetEncoder``; each residual stage is mirrored by one bottleneck of
    convolutions (1x1, 3x3, 1x1), the stem by two 3x3 convolutions.

    Args:
        encoder: a key of ``PRETRAINED_NAMES``, ``vgg16`` or ``resnet50``.
        num_classes: channels of the logits.

    Source: Badrinarayanan et al. 2017, SegNet, section 3 (initialisation: He et al. 2015).
    """

    def __init__(self, encoder: str, num_classes: int) -> None:
        super().__init__()
        self.encoder: PoolingVGGEncoder | PoolingResNetEncoder
        if encoder == "vgg16":
            self.encoder = PoolingVGGEncoder()
            self.deepest: nn.Module = nn.Identity()
            stages, last_channels = _vgg_decoder_stages()
        else:
            self.encoder = PoolingResNetEncoder()
            self.deepest = _bottleneck(2048, 1024)
            stages, last_channels = _resnet_decoder_stages()
        self.decoder = nn.ModuleList(stages)
        self.head = nn.Conv2d(last_channels, num_classes, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x, pooled = self.encoder(x)
        x = self.deepest(x)
        for convolutions, (indices, size_hw) in zip(self.decoder, reversed(pooled), strict=True):
            x = convolutions(unpool(x, indices, size_hw))
        logits: Tensor = self.head(x)
        return logits


Pooled = tuple[Tensor, tuple[int, int]]
"""Indices of a 2x2 max pooling (B, C, h, w) and the height and width before it."""


def pool(x: Tensor) -> tuple[Tensor, Pooled]:
    """2x2 max pooling of (B, C, H, W): values (B, C, H // 2, W // 2), and where each came from."""
    values, indices = functional.max_pool2d(x, 2, return_indices=True)
    return values, (indices, (x.shape[2], x.shape[3]))


def unpool(x: Tensor, indices: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Put each value of (B, C, h, w) at its index in a plane (H, W) of zeros: (B, C, H, W).

    Equal to ``torch.nn.functional.max_unpool2d``, which has no deterministic CUDA form and no ONNX operator.
    Indices of one plane must differ, as they do for windows that do not overlap.
    """
    height, width = size_hw
    flat = x.new_zeros(x.shape[0], x.shape[1], height * width)
    return flat.scatter(2, indices.flatten(2), x.flatten(2)).view(x.shape[0], x.shape[1], height, width)


class PoolingVGGEncoder(nn.Module):
    """The convolutions of VGG-16 with BatchNorm: (B, 3, H, W) -> (B, 512, H // 32, W // 32) and five poolings.

    Layers are numbered as in torchvision's and timm's ``vgg16_bn`` (``features.0`` to ``features.43``), whose
    weights it takes. Source: Simonyan and Zisserman 2015, table 1, configuration D.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage in _VGG16_STAGES:
            for outputs in stage:
                convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
                layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2, return_indices=True))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Pooled]]:
        poolings: list[Pooled] = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                x, pooled = pool(x)
                poolings.append(pooled)
            else:
                x = layer(x)
        return x, poolings


class PoolingResNetEncoder(nn.Module):
    """ResNet-50 that pools wherever the original strides: (B, 3, H, W) -> (B, 2048, H // 32, W // 32).

    A ResNet halves its resolution five times: by strides in the stem and in the first blocks of three stages,
    and by one 3x3 max pooling. Strides leave no indices to unpool with, and the windows of the 3x3 pooling
    overlap, so that two outputs may claim one pixel. Here every halving is a 2x2 max pooling: two after the
    stem (its convolution at stride 1), and one before each of stages 2 to 4 (their blocks at stride 1). All
    parameters keep their names and shapes, so the ImageNet weights of timm and torchvision fit; the features
    they give are near the original's (maxima instead of every second value), and training adapts them.
    """

    def __init__(self) -> None:
        super().__init__()
        resnet = timm.create_model("resnet50", pretrained=False, num_classes=0)
        resnet.conv1.stride = (1, 1)
        for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
            stage[0].conv2.stride = (1, 1)
            stage[0].downsample[0].stride = (1, 1)
        self.conv1, self.bn1, self.act1 = resnet.conv1, resnet.bn1, resnet.act1
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4

    def forward(self, x: Tensor) -> tuple[Tensor, list[Pooled]]:
        x, first = pool(self.act1(self.bn1(self.conv1(x))))
        x, second = pool(x)
        poolings = [first, second]
        x = self.layer1(x)
        for stage in (self.layer2, self.layer3, self.layer4):
            x, pooled = pool(x)
            poolings.append(pooled)
            x = stage(x)
        return x, poolings


def _vgg_decoder_stages() -> tuple[list[nn.Module], int]:
    """The stages' convolutions in reverse; a stage's last one goes down to the channels of the next."""
    stages: list[nn.Module] = []
    for number in reversed(range(POOLINGS)):
        channels = [*_VGG16_STAGES[number]]
        following = _VGG16_STAGES[number - 1][-1] if number else None
        # At full size the last of the 13 convolutions is the classifier.
        outputs = [*channels[1:], following] if following is not None else channels[1:]
        stages.append(nn.Sequential(*(conv_norm_relu(channels[-1], width) for width in outputs)))
    return stages, _VGG16_STAGES[0][0]


def _resnet_decoder_stages() -> tuple[list[nn.Module], int]:
    bottlenecks: list[nn.Module] = [_bottleneck(1024, 512), _bottleneck(512, 256), _bottleneck(256, 64)]
    return [*bottlenecks, conv_norm_relu(64, 64), conv_norm_relu(64, 64)], 64


def _bottleneck(inputs: int, outputs: int) -> nn.Sequential:
    inner = inputs // 4
    return nn.Sequential(
        conv_norm_relu(inputs, inner, kernel=1),
        conv_norm_relu(inner, inner),
        conv_norm_relu(inner, outputs, kernel=1),
    )
