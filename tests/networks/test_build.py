from __future__ import annotations

import socket
from typing import Any, get_args

import pytest
import torch

from pixbox.config import Architecture, ModelConfig
from pixbox.errors import ConfigError, ModelError
from pixbox.networks.build import ARCHITECTURES, Option, build_classifier, build_network
from pixbox.networks.encoders import encoder_facts


def build(architecture: str = "unet", encoder: str | None = "resnet10t", **options: Any) -> Any:
    return build_network(ModelConfig(architecture=architecture, encoder=encoder, options=options), 2)


def test_table_and_configuration_name_the_same_architectures() -> None:
    assert set(ARCHITECTURES) == set(get_args(Architecture))
    assert all(name == info.name for name, info in ARCHITECTURES.items())


def test_default_encoders_exist_and_defaults_pass_their_own_checks() -> None:
    for info in ARCHITECTURES.values():
        if info.default_encoder is not None:
            encoder_facts(info.default_encoder)
        for option in info.options.values():
            assert option.default is None or option.fault(option.default) == ""
            assert option.meaning.endswith(".")


@pytest.mark.parametrize("architecture", ["unet", "fpn"])
def test_building_never_opens_a_connection(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert build_network(
        ModelConfig(architecture=architecture, encoder="mobilenetv3_small_050", weights="imagenet"), 2
    ).training


def test_misspelt_encoder_gets_the_near_name() -> None:
    with pytest.raises(ModelError, match=r'no model "resnet43"(.|\n)*resnet34'):
        build(encoder="resnet43")


def test_encoder_that_timm_would_fetch_from_the_hub_is_refused() -> None:
    with pytest.raises(ModelError, match="no model"):
        build(encoder="hf-hub:timm/resnet10t.c3_in1k")


def test_tag_of_weights_is_accepted_and_a_wrong_one_named() -> None:
    assert build(encoder="resnet10t.c3_in1k").pretrained_name == "resnet10t.c3_in1k"
    with pytest.raises(ModelError, match="c3_in1k"):
        build(encoder="resnet10t.c4_in1k")


@pytest.mark.parametrize("architecture", ["pspnet", "pan", "deeplabv3", "deeplabv3plus"])
def test_encoder_that_cannot_be_dilated_is_refused(architecture: str) -> None:
    with pytest.raises(ModelError, match=r"takes no output_stride(.|\n)*default: resnet"):
        build(architecture, "pvt_v2_b0")


@pytest.mark.parametrize(
    ("architecture", "encoder"), [("dpt", "resnet10t"), ("fpn", "vit_tiny_patch16_224"), ("segnet", "resnet18")]
)
def test_encoder_of_the_wrong_kind_is_refused(architecture: str, encoder: str) -> None:
    with pytest.raises(ModelError, match=f"{encoder}(.|\n)*{architecture} takes"):
        build(architecture, encoder)


def test_encoder_that_fails_on_pictures_of_any_size_is_refused_when_built() -> None:
    with pytest.raises(ModelError, match="inception_v4"):
        build("unet", "inception_v4")


@pytest.mark.parametrize("architecture", ["unet_classic", "fast"])
def test_a_network_with_an_encoder_of_its_own_takes_no_other(architecture: str) -> None:
    with pytest.raises(ConfigError, match="encoder of its own"):
        build(architecture, "resnet34")


def test_a_probability_is_at_most_one() -> None:
    model = ModelConfig(architecture="classifier", encoder="resnet10t", options={"dropout": 2})
    with pytest.raises(ConfigError, match=r"dropout: must be a number, at least 0 and at most 1 \(found 2\)"):
        build_classifier(model, 3)


def test_all_wrong_options_are_told_at_once_with_near_names() -> None:
    with pytest.raises(ConfigError) as caught:
        build(decoder_chanels=[1], upsample="cubic", mean=[0.5])
    text = str(caught.value)
    assert len(caught.value.faults) == 3
    assert 'model.options.decoder_chanels: unet has no such option. Did you mean "decoder_channels"?' in text
    assert "model.options.upsample: must be nearest or bilinear (found 'cubic')" in text
    assert "model.options.mean: must be a list of 3 numbers, each at least 0 (found [0.5])" in text


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [
        (Option("integer", 1, "."), [1, 64], [0, True, 1.0, "1", [1], None]),
        (Option("number", 0.5, ".", least=0), [0, 0.5], [-0.1, False, "x", [0.5]]),
        (Option("integers", [1], "."), [[1], (2, 3)], [[], [0], [1.5], [True], 4, "12"]),
        (Option("numbers", None, ".", least=0, length=3), [[0, 0.5, 1]], [[0.5], [0.5] * 4]),
        (Option("integer", 8, ".", (8, 16)), [8, 16], [32, "8", True]),
        (Option("text", "a", ".", ("a", "b")), ["b"], ["c", 1, ["a"]]),
    ],
)
def test_options_accept_their_type_only(option: Option, good: list[Any], bad: list[Any]) -> None:
    assert [option.fault(value) for value in good] == [""] * len(good)
    assert all(option.fault(value) for value in bad)


def test_options_reach_the_network() -> None:
    network = build_network(ModelConfig(architecture="unet_classic", options={"base_channels": 8, "norm": "group"}), 2)
    assert network.body.head.in_channels == 8  # type: ignore[union-attr]
    network = build(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25])
    torch.testing.assert_close(network.mean.flatten(), torch.full((3,), 127.5))
    torch.testing.assert_close(network.std.flatten(), torch.full((3,), 63.75))


def test_normalisation_follows_the_encoder() -> None:
    # timm's ViT was trained with mean and deviation 0.5.
    network = build("dpt", "vit_tiny_patch16_224", decoder_fusion_channels=8)
    torch.testing.assert_close(network.mean.flatten(), torch.full((3,), 127.5))
    torch.testing.assert_close(build().mean.flatten(), torch.tensor([0.485, 0.456, 0.406]) * 255)
