from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from pixbox.config import ModelConfig
from pixbox.errors import ModelError
from pixbox.networks.build import build_classifier, build_detector, build_network
from pixbox.networks.classifier import ClassificationNetwork
from pixbox.networks.network import Network, SegmentationNetwork
from pixbox.networks.retinanet import DetectionNetwork
from pixbox.networks.weights import load_weights

Build = Callable[..., SegmentationNetwork]


def filled(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state of a network, every number replaced by one that tells where it came from."""
    return {
        name: torch.full_like(tensor, float(number % 97) if tensor.is_floating_point() else number)
        for number, (name, tensor) in enumerate(model.state_dict().items())
    }


def save(content: Any, path: Path) -> str:
    torch.save(content, path)
    return str(path)


def encoder_state(network: Network) -> dict[str, Tensor]:
    return {
        name.removeprefix("body.encoder.model."): t for name, t in network.state_dict().items() if "encoder" in name
    }


@pytest.fixture(scope="module")
def unet() -> SegmentationNetwork:
    return build_network(ModelConfig(architecture="unet", encoder="resnet10t"), 3)


def test_none_changes_nothing_and_says_so(unet: SegmentationNetwork) -> None:
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    report = load_weights(unet, "none")
    assert report.loaded == ()
    assert "keep their initial values" in report.summary()
    assert all(torch.equal(before[name], tensor) for name, tensor in unet.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "network.", "task.network.", "task.network.module."])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
def test_prefixes_and_containers_do_not_matter(
    prefix: str, container: str | None, unet: SegmentationNetwork, tmp_path: Path
) -> None:
    state = filled(unet)
    content: dict[str, Any] = {prefix + name: tensor for name, tensor in state.items()}
    if container:
        content = {container: content, "epoch": 3, "pixbox": {"format": 1}}
    report = load_weights(unet, save(content, tmp_path / "weights.ckpt"))
    assert report.skipped == report.missing == ()
    assert all(torch.equal(state[name], tensor) for name, tensor in unet.state_dict().items())


def test_classifier_of_other_classes_is_left_out(unet: SegmentationNetwork, tmp_path: Path) -> None:
    other = build_network(ModelConfig(architecture="unet", encoder="resnet10t"), 7)
    state = filled(other)
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    report = load_weights(unet, save({"state_dict": state}, tmp_path / "other.pt"))
    assert report.missing == ("body.head.weight", "body.head.bias")
    assert [(item.key, item.reason) for item in report.skipped] == [
        ("body.head.weight", "shape 7x16x3x3 instead of 3x16x3x3"),
        ("body.head.bias", "shape 7 instead of 3"),
    ]
    for name, tensor in unet.state_dict().items():
        assert torch.equal(tensor, before[name] if name in report.missing else state[name])
    assert report.summary().endswith(
        "The source has other classes: only what tells them apart starts anew (body.head.weight, body.head.bias)."
    )
    lines = report.table().splitlines()
    assert sum(line.endswith("  loaded") for line in lines) == len(report.loaded)
    assert any(line.startswith("body.head.bias") and line.endswith("initial value") for line in lines)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
@pytest.mark.parametrize("architecture", ["unet", "fpn"])
def test_file_of_an_encoder_alone_goes_into_the_encoder(architecture: str, prefix: str, tmp_path: Path) -> None:
    network = build_network(ModelConfig(architecture=architecture, encoder="resnet18"), 2)
    state = filled(torchvision.models.resnet18())
    path = save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "resnet18.pth")
    report = load_weights(network, path)
    assert {item.key for item in report.skipped} == {f"{prefix}fc.weight", f"{prefix}fc.bias"}
    assert report.encoder_loaded == report.encoder_total > 60
    assert not any(".encoder." in name for name in report.missing)
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder_state(network).items())


def test_flattened_names_of_timm_features_are_matched(tmp_path: Path) -> None:
    network = build_network(ModelConfig(architecture="unet", encoder="convnext_atto"), 2)
    state = filled(timm.create_model("convnext_atto", pretrained=False))
    report = load_weights(network, save(state, tmp_path / "convnext.pth"))
    assert report.encoder_loaded == report.encoder_total
    assert torch.equal(
        network.state_dict()["body.encoder.model.stages_0.blocks.0.conv_dw.weight"],
        state["stages.0.blocks.0.conv_dw.weight"],
    )


@pytest.mark.parametrize(("encoder", "reference"), [("vgg16", "vgg16_bn"), ("resnet50", "resnet50")])
def test_segnet_takes_torchvision_files(encoder: str, reference: str, build_small: Build, tmp_path: Path) -> None:
    with torch.device("meta"):
        names = torchvision.models.get_model(reference).state_dict()
    state = {n: torch.zeros(t.shape, dtype=t.dtype) for n, t in names.items() if "classifier" not in n}
    network = build_small("segnet" if encoder == "vgg16" else "segnet_resnet50")
    report = load_weights(network, save(state, tmp_path / "weights.pth"))
    assert report.encoder_loaded == report.encoder_total
    assert {item.key for item in report.skipped} <= {"fc.weight", "fc.bias"}
    assert not any(tensor.any() for tensor in network.encoder.state_dict().values())


def test_weights_of_another_architecture_give_their_encoder(build_small: Build, tmp_path: Path) -> None:
    source, target = build_small("manet"), build_small("linknet")
    state = {f"task.network.{name}": tensor for name, tensor in filled(source).items()}
    report = load_weights(target, save({"state_dict": state}, tmp_path / "manet.ckpt"))
    assert report.encoder_loaded == report.encoder_total
    assert all(torch.equal(t, state[f"task.network.body.encoder.model.{n}"]) for n, t in encoder_state(target).items())


def test_run_folder_means_its_best_checkpoint(unet: SegmentationNetwork, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no checkpoints/best\.ckpt"):
        load_weights(unet, str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    state = {f"network.{name}": tensor for name, tensor in filled(unet).items()}
    save({"state_dict": state}, tmp_path / "checkpoints" / "best.ckpt")
    report = load_weights(unet, str(tmp_path))
    assert report.missing == ()
    assert report.source.endswith("best.ckpt")


def test_safetensors_are_read(unet: SegmentationNetwork, tmp_path: Path) -> None:
    state = filled(unet)
    save_file(state, tmp_path / "weights.safetensors")
    assert load_weights(unet, str(tmp_path / "weights.safetensors")).missing == ()


class Harmful:
    """Pickle would call print; anything else could stand here."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code from a weights file was run",)


def test_code_in_a_file_is_never_run(
    unet: SegmentationNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save({"state_dict": filled(unet), "extra": Harmful()}, tmp_path / "harmful.pt")
    with pytest.raises(ModelError, match="cannot be read"):
        load_weights(unet, path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["garbage.pt", "garbage.safetensors", "empty.ckpt"])
def test_garbage_is_refused_with_the_file_named(name: str, unet: SegmentationNetwork, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"GIF89a not weights at all" * 10)
    with pytest.raises(ModelError, match=rf"{name}: weights: the file cannot be read"):
        load_weights(unet, str(tmp_path / name))


def test_file_without_tensors_is_refused(unet: SegmentationNetwork, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tensors by name"):
        load_weights(unet, save({"state_dict": {"epoch": 3}}, tmp_path / "none.pt"))


def test_missing_file_is_refused(unet: SegmentationNetwork, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or run folder"):
        load_weights(unet, str(tmp_path / "absent.pt"))


def test_weights_of_another_network_are_refused_and_nothing_changes(
    unet: SegmentationNetwork, build_small: Build, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    path = save(filled(build_small("unet_classic")), tmp_path / "classic.pt")
    with pytest.raises(ModelError, match="belong to another network; 0% of the encoder"):
        load_weights(unet, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in unet.state_dict().items())


def classifier(norm: str) -> ClassificationNetwork:
    options = {"encoder_norm": norm}
    return build_classifier(ModelConfig(architecture="classifier", encoder="resnet10t", options=options), 2)


def detector(norm: str, shapes: int = 2) -> DetectionNetwork:
    options = {"channels": 16, "depth": 1, "encoder_norm": norm}
    return build_detector(ModelConfig(architecture="retinanet", encoder="resnet10t", options=options), 3, shapes, 2)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_run_on_classes_fills_the_encoder_of_a_detector(norm: str, tmp_path: Path) -> None:
    state = {f"task.network.{name}": tensor for name, tensor in filled(classifier(norm)).items()}
    network = detector(norm)
    report = load_weights(network, save({"state_dict": state}, tmp_path / "run.ckpt"))
    assert report.encoder_loaded == report.encoder_total
    assert all(torch.equal(t, state[f"task.network.body.encoder.model.{n}"]) for n, t in encoder_state(network).items())
    assert "other classes" not in report.summary()


def test_other_anchors_are_not_taken_for_other_classes(tmp_path: Path) -> None:
    state = {f"task.network.{name}": tensor for name, tensor in filled(detector("group", shapes=3)).items()}
    summary = load_weights(detector("group"), save({"state_dict": state}, tmp_path / "run.ckpt")).summary()
    assert "other classes" not in summary
    assert "4 keep their initial values (body.class_head.output.weight" in summary


@pytest.mark.parametrize(("theirs", "ours"), [("batch", "group"), ("group", "batch")])
def test_batch_norm_is_not_taken_for_group_norm_nor_the_other_way_round(theirs: str, ours: str, tmp_path: Path) -> None:
    network = detector(ours)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path = save(filled(classifier(theirs)), tmp_path / "run.ckpt")
    with pytest.raises(ModelError) as caught:
        load_weights(network, path)
    names = {"batch": "BatchNorm", "group": "GroupNorm"}
    assert f"source's encoder is normalised by {names[theirs]}, this network's by {names[ours]}" in str(caught.value)
    assert f"to `{theirs}`" in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("container", ["torchvision", "timm"])
def test_a_file_of_an_encoder_with_batch_norm_is_refused_where_group_norm_is(container: str, tmp_path: Path) -> None:
    network = build_detector(
        ModelConfig(architecture="retinanet", encoder="resnet18", options={"channels": 16, "encoder_norm": "group"}),
        3,
        2,
        2,
    )
    model = torchvision.models.resnet18() if container == "torchvision" else timm.create_model("resnet18")
    with pytest.raises(ModelError, match="by BatchNorm, this network's by GroupNorm"):
        load_weights(network, save(model.state_dict(), tmp_path / "resnet18.pth"))


def test_frozen_norms_need_trained_weights(build_small: Build) -> None:
    for flag in ("freeze_bn", "freeze_encoder"):
        with pytest.raises(ModelError, match="need trained weights"):
            load_weights(build_small("unet", **{flag: True}), "none")
    # A vision transformer has no BatchNorm, so nothing is frozen at its random start by that flag.
    load_weights(build_small("dpt", freeze_bn=True), "none")


def test_architecture_without_imagenet_weights_says_so(build_small: Build) -> None:
    with pytest.raises(ModelError, match="no ImageNet weights"):
        load_weights(build_small("unet_classic"), "imagenet")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_imagenet_without_a_network_is_an_immediate_error_with_the_way_out(
    unet: SegmentationNetwork, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Port 9 of this machine: nobody listens there.
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    began = time.monotonic()
    with pytest.raises(ModelError) as caught:
        load_weights(unet, "imagenet")
    assert time.monotonic() - began < 10
    text = str(caught.value)
    assert "timm/resnet10t.c3_in1k" in text
    assert "http://127.0.0.1:9 does not answer" in text
    assert "--set model.weights=FILE" in text
    assert "--set model.weights=none" in text
    assert str(empty_cache) in text


def test_offline_mode_of_the_hub_is_respected_without_a_probe(
    unet: SegmentationNetwork, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del empty_cache
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("pixbox.networks.weights._answers", lambda _: pytest.fail("the network was asked"))
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        load_weights(unet, "imagenet")


def put_into_cache(cache: Path) -> Path:
    """Where the hub keeps the weights of resnet10t."""
    repository = cache / "models--timm--resnet10t.c3_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    return repository / "snapshots" / "abc" / "model.safetensors"


@pytest.mark.parametrize("architecture", ["unet", "deeplabv3"])
def test_cached_imagenet_weights_need_no_network(
    architecture: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixbox.networks.weights._answers", lambda _: pytest.fail("the network was asked"))
    state = filled(timm.create_model("resnet10t", pretrained=False))
    save_file(state, put_into_cache(empty_cache))
    network = build_network(ModelConfig(architecture=architecture, encoder="resnet10t", weights="imagenet"), 2)
    report = load_weights(network, "imagenet")
    assert report.encoder_loaded == report.encoder_total
    assert {item.key for item in report.skipped} == {"fc.weight", "fc.bias"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder_state(network).items())
    assert "resnet10t" in report.summary()


def test_damaged_file_in_the_cache_is_named(unet: SegmentationNetwork, empty_cache: Path) -> None:
    put_into_cache(empty_cache).write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"model\.safetensors(.|\n)*delete the file"):
        load_weights(unet, "imagenet")
