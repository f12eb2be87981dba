"""Small networks, one of every kind, built once for each test module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pixbox.config import ModelConfig
from pixbox.networks.build import build_network
from pixbox.networks.network import SegmentationNetwork

CLASSES = 3
SMALL = "mobilenetv3_small_050"
STEPS = [16, 16, 8, 8, 8]
ATROUS = {"decoder_channels": 16}

SMALL_MODELS: dict[str, dict[str, Any]] = {
    "unet": {"encoder": "resnet10t", "options": {"decoder_channels": STEPS}},
    "unet_classic": {"options": {"base_channels": 4}},
    "fast": {
        "options": {"channels": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "decoder_channels": 8, "fine_channels": 8}
    },
    "segnet": {"encoder": "vgg16"},
    "segnet_resnet50": {"architecture": "segnet", "encoder": "resnet50"},
    "pspnet": {"encoder": SMALL},
    "unetplusplus": {"encoder": SMALL, "options": {"decoder_channels": STEPS}},
    "manet": {"encoder": SMALL, "options": {"decoder_channels": STEPS, "decoder_pab_channels": 8}},
    "linknet": {"encoder": SMALL},
    "fpn": {"encoder": SMALL, "options": {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32}},
    "pan": {"encoder": SMALL, "options": {"decoder_channels": 8}},
    "deeplabv3": {"encoder": SMALL, "options": ATROUS},
    "deeplabv3plus": {"encoder": SMALL, "options": ATROUS},
    "upernet": {"encoder": SMALL, "options": {"decoder_channels": 16}},
    "segformer": {"encoder": "pvt_v2_b0", "options": {"decoder_segmentation_channels": 16}},
    "dpt": {
        "encoder": "vit_tiny_patch16_224",
        "options": {"decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8},
    },
}


def small_config(name: str, **changes: Any) -> ModelConfig:
    return ModelConfig(**{"architecture": name, **SMALL_MODELS[name], **changes})


@pytest.fixture(autouse=True)
def _few_threads_and_one_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module", params=SMALL_MODELS)
def network(request: pytest.FixtureRequest) -> SegmentationNetwork:
    """Every architecture in turn."""
    torch.manual_seed(0)
    return build_network(small_config(request.param), CLASSES)


@pytest.fixture(scope="session")
def build_small() -> Callable[..., SegmentationNetwork]:
    """``build_small("unet", freeze_bn=True)``."""
    return lambda name, **changes: build_network(small_config(name, **changes), CLASSES)
