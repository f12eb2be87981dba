"""RetinaNet: what it promises on any encoder and size, and against torchvision's with the same weights."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection import retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from networks.reference import alive, outspoken
from pixbox.boxes import grid, match_anchors, octave_anchors, select_detections, torchvision_anchors
from pixbox.errors import ModelError
from pixbox.losses import Assignment, DetectionLoss
from pixbox.networks.network import Network, parameter_counts
from pixbox.networks.retinanet import DetectionNetwork, build_retinanet
from pixbox.networks.weights import load_weights

CLASSES = 2
SMALL = "mobilenetv3_small_050"
TINY = partial(build_retinanet, num_classes=CLASSES, shapes=3, levels=4, channels=16, depth=1)
# Rounds sizes up; needs padding, floors without; needs padding, refuses other sizes.
ENCODERS = [SMALL, "convnext_atto", "hrnet_w18_small"]


def pictures(batch: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)


@pytest.fixture(scope="module", params=ENCODERS)
def network(request: pytest.FixtureRequest) -> DetectionNetwork:
    torch.manual_seed(0)
    return TINY(request.param)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 96), (65, 47), (257, 100)])
def test_every_anchor_gets_an_answer_at_every_size(network: DetectionNetwork, height: int, width: int) -> None:
    anchors = octave_anchors([(28, 28), (20, 40), (40, 20)], levels=4)
    network.eval()
    with torch.no_grad():
        logits, offsets = network(pictures(2, height, width))
    count = len(grid(anchors, (height, width)))
    assert logits.shape == (2, count, CLASSES)
    assert offsets.shape == (2, count, 4)
    assert logits.dtype == offsets.dtype == torch.float32
    assert logits.isfinite().all()
    assert offsets.isfinite().all()


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("extra_from", ["p5", "c5"])
def test_every_parameter_of_every_level_is_trained(levels: int, extra_from: str) -> None:
    network = TINY(SMALL, levels=levels, extra_from=extra_from)
    logits, offsets = network(pictures(2, 65, 100))
    assert logits.shape[1] == len(grid(octave_anchors([(9, 9)] * 3, levels), (65, 100)))
    (logits.square().sum() + offsets.square().sum()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_sizes_of_a_power_of_two_plus_one_are_not_padded() -> None:
    network = TINY("resnet18")
    assert network.stride == 1
    seen: list[Tensor] = []
    network.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        for side in (257, 641):
            logits, _ = network(pictures(1, side, 65))
            cells = [(side - 1) // 8 + 1, (side - 1) // 16 + 1, (side - 1) // 32 + 1, (side - 1) // 64 + 1]
            assert logits.shape[1] == 3 * sum(a * b for a, b in zip(cells, (9, 5, 3, 2), strict=True))
    assert [tuple(x.shape[-2:]) for x in seen] == [(257, 65), (641, 65)]


def test_an_answer_belongs_to_the_anchor_at_its_place() -> None:
    # One convolution that looks at its own cell only, so what one bright pixel of a level does shows where it is.
    torch.manual_seed(0)
    network = TINY(SMALL, depth=0).eval()
    levels = [torch.zeros(1, 16, *size) for size in ((6, 8), (3, 4), (2, 2), (1, 1))]
    levels[1][0, :, 2, 1] = 1.0
    head = network.body.box_head
    with torch.no_grad():
        head.output.weight.zero_()
        head.output.weight[:, :, 1, 1] = torch.arange(12.0)[:, None]  # shape by shape, offset by offset
        answers = head(levels)
    place = 3 * (6 * 8 + 2 * 4 + 1)
    assert answers[0].any(dim=1).nonzero()[:, 0].tolist() == [place, place + 1, place + 2]
    assert (answers[0, place : place + 3] / 16).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_an_untrained_network_gives_every_class_its_prior() -> None:
    torch.manual_seed(0)
    network = build_retinanet("resnet18", CLASSES, 3, levels=4).eval()
    with torch.no_grad():
        logits, offsets = network(pictures(1, 96, 96))
    torch.testing.assert_close(logits.sigmoid().mean(), torch.tensor(0.01), atol=1e-3, rtol=0)
    assert offsets.abs().mean() < 0.1


def test_a_network_moved_to_channels_last_gives_the_same_answers(network: DetectionNetwork) -> None:
    network.eval()
    images = pictures(2, 70, 90)
    with torch.no_grad():
        wanted = network(images)
        network.to(memory_format=torch.channels_last)
        found = network(images.to(memory_format=torch.channels_last))
        network.to(memory_format=torch.contiguous_format)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_one_picture_in_training_mode_serves_every_encoder(network: DetectionNetwork) -> None:
    network.train()
    logits, offsets = network(pictures(1, 20, 30))
    (logits.sum() + offsets.sum()).backward()
    assert logits.isfinite().all()
    network.zero_grad()


def test_encoder_and_decoder_share_out_all_parameters(network: DetectionNetwork) -> None:
    encoder = {id(p) for p in network.encoder_parameters()}
    decoder = {id(p) for p in network.decoder_parameters()}
    assert not encoder & decoder
    assert encoder | decoder == {id(p) for p in network.parameters()}
    counts = parameter_counts(network)
    assert counts.encoder == sum(p.numel() for p in network.body.encoder.parameters())
    assert counts.total == counts.trainable == counts.encoder + counts.decoder


def test_parameters_of_pyramid_and_heads_are_counted_by_hand() -> None:
    network = build_retinanet("resnet18", 5, 9)
    lateral = (128 + 256 + 512) * 256 + 3 * 256
    three_by_three = 256 * 256 * 9 + 256
    heads = 8 * three_by_three + 256 * 9 * 9 * (5 + 4) + 9 * (5 + 4)
    assert parameter_counts(network).decoder == lateral + 3 * three_by_three + 2 * three_by_three + heads


@pytest.mark.parametrize("freeze", ["freeze_bn", "freeze_encoder"])
def test_frozen_parts_stay_as_they_are_in_training(freeze: str) -> None:
    network = TINY(SMALL, **{freeze: True}).eval().train()
    before = {key: value.clone() for key, value in network.encoder.state_dict().items()}
    logits, offsets = network(pictures(2, 64, 64))
    (logits.square().sum() + offsets.square().sum()).backward()
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1).step()
    after = network.encoder.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    norms = [name for name, m in network.encoder.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(key.rpartition(".")[0] in norms for key in moved)
    assert bool(moved) == (freeze == "freeze_bn")


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv3_small_050", "resnetv2_50"])
def test_group_norm_takes_the_place_of_every_batch_norm(encoder: str) -> None:
    # Timm's kind of BatchNorm also holds the activation: without it the picture would be another.
    torch.manual_seed(0)
    ours = TINY(encoder, encoder_norm="group")
    theirs = timm.create_model(encoder, pretrained=False, features_only=True)
    acts = [sum(1 for m in net.modules() if isinstance(m, (nn.ReLU, nn.Hardswish))) for net in (ours.encoder, theirs)]
    assert acts[0] == acts[1] > 0
    assert not any(isinstance(m, nn.BatchNorm2d) for m in ours.modules())
    count = sum(isinstance(m, nn.BatchNorm2d) for m in theirs.modules())
    assert sum(isinstance(m, nn.GroupNorm) for m in ours.encoder.modules()) == count
    assert ours.pretrained_name is None
    assert not ours.has_frozen_statistics()
    # No picture sees another.
    ours.eval()
    images = pictures(2, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.train()(images)[0][1:], ours.eval()(images[1:])[0], rtol=1e-4, atol=1e-5)


def test_blocks_that_begin_as_identities_still_do_with_group_norm() -> None:
    encoder = TINY("resnet18", encoder_norm="group").encoder
    last = [m.bn2 for m in encoder.modules() if hasattr(m, "bn2")]
    assert len(last) == 8
    assert all(isinstance(norm, nn.GroupNorm) and not norm.weight.any() for norm in last)


@pytest.mark.parametrize(
    ("encoder", "complaint"),
    [
        ("resnet19", 'timm has no model "resnet19" Did you mean'),
        ("vit_tiny_patch16_224", r"strides \[16, 16, 16\]|strides \[16"),
        ("maxvit_tiny_rw_224", "does not fit"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(encoder: str, complaint: str) -> None:
    with pytest.raises(ModelError) as caught:
        TINY(encoder)
    assert re.search(complaint, " ".join(str(caught.value).split()))


def test_weights_of_an_encoder_fill_the_encoder(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    network: Network = TINY("resnet18")
    report = load_weights(network, str(tmp_path / "resnet18.pth"))
    assert report.encoder_loaded == report.encoder_total > 60


# -- torchvision -------------------------------------------------------------------------------------------

SIZE_HW = (256, 320)
BUILDERS = {"v1": retinanet_resnet50_fpn, "v2": retinanet_resnet50_fpn_v2}
OPTIONS = {"v1": {"norm": "none", "extra_from": "p5"}, "v2": {"norm": "group", "extra_from": "c5"}}


@pytest.fixture(scope="module", params=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def reference(version: str) -> TorchvisionRetinaNet:
    torch.manual_seed(0)
    model = BUILDERS[version](
        weights=None, weights_backbone=None, num_classes=7, min_size=SIZE_HW[0], max_size=SIZE_HW[1]
    )
    # In double precision, so that what differs in the order of additions swaps no two detections.
    return alive(model).double()


def ours_from(state: dict[str, Tensor], version: str, folder: Path) -> DetectionNetwork:
    network = build_retinanet("resnet50", 7, 9, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), **OPTIONS[version])
    torch.save({"model": state, "epoch": 3}, folder / "retinanet.pth")
    report = load_weights(network, str(folder / "retinanet.pth"))
    assert report.missing == ()
    assert {item.key for item in report.skipped} == set()
    return network.double().eval()


@pytest.fixture(scope="module")
def ours(reference: TorchvisionRetinaNet, version: str, tmp_path_factory: pytest.TempPathFactory) -> DetectionNetwork:
    return ours_from(reference.state_dict(), version, tmp_path_factory.mktemp(version))


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return torch.randint(0, 256, (3, *SIZE_HW), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def answers_of(model: TorchvisionRetinaNet, picture: Tensor) -> dict[str, Tensor]:
    images, _ = model.transform([picture.double() / 255])
    assert images.tensors.shape[-2:] == SIZE_HW
    answers: dict[str, Tensor] = model.head(list(model.backbone(images.tensors).values()))
    return answers


@pytest.fixture(scope="module")
def found(ours: DetectionNetwork, picture: Tensor) -> tuple[Tensor, Tensor]:
    """Our logits and offsets."""
    with torch.no_grad():
        logits, offsets = ours(picture[None])
    return logits, offsets


@pytest.fixture(scope="module")
def wanted(reference: TorchvisionRetinaNet, picture: Tensor) -> dict[str, Tensor]:
    """Torchvision's."""
    return answers_of(reference, picture)


def test_torchvisions_weights_give_its_answers(found: tuple[Tensor, Tensor], wanted: dict[str, Tensor]) -> None:
    logits, offsets = found
    assert wanted["cls_logits"].std() > 0.3
    assert wanted["bbox_regression"].std() > 0.01
    torch.testing.assert_close(logits, wanted["cls_logits"], rtol=0, atol=1e-4)
    torch.testing.assert_close(offsets, wanted["bbox_regression"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_torchvisions_weights_find_its_boxes(
    reference: TorchvisionRetinaNet, found: tuple[Tensor, Tensor], picture: Tensor
) -> None:
    [theirs] = reference([picture.double() / 255])
    anchors = torchvision_anchors()
    [selected] = select_detections(
        *found,
        grid(anchors, SIZE_HW),
        pictures_xyxy=torch.tensor([0.0, 0, SIZE_HW[1], SIZE_HW[0]]),
        level_lengths=anchors.level_lengths(SIZE_HW),
    )
    assert len(selected.scores) == len(theirs["scores"]) > 50
    assert torch.equal(selected.classes, theirs["labels"])
    torch.testing.assert_close(selected.scores, theirs["scores"].float(), rtol=0, atol=1e-4)
    torch.testing.assert_close(selected.boxes_xyxy, theirs["boxes"].float(), rtol=0, atol=1e-3)


@torch.no_grad()
def test_torchvisions_weights_have_its_losses(
    reference: TorchvisionRetinaNet,
    found: tuple[Tensor, Tensor],
    wanted: dict[str, Tensor],
    version: str,
) -> None:
    boxes = torch.tensor([[20.0, 30, 90, 110], [150, 40, 310, 250], [5, 200, 40, 220], [100, 100, 104, 103]])
    classes = torch.tensor([1, 6, 3, 2])
    anchors = grid(torchvision_anchors(), SIZE_HW)
    theirs = reference.compute_loss([{"boxes": boxes.double(), "labels": classes}], wanted, [anchors.double()])
    matches = match_anchors(
        boxes[None], torch.ones(1, 4, dtype=torch.bool), anchors, positive_iou=0.5, negative_iou=0.4
    )
    loss = DetectionLoss(box_loss="l1" if version == "v1" else "giou")
    sums = loss.sums(*found, Assignment(matches, boxes[None], classes[None], anchors))
    torch.testing.assert_close(
        sums / loss.weights(matches),
        torch.stack((theirs["classification"], theirs["bbox_regression"])),
        rtol=1e-5,
        atol=1e-5,
    )


def test_torchvisions_background_class_is_left_out_where_there_is_none(reference: TorchvisionRetinaNet) -> None:
    state = TINY(SMALL, num_classes=6).own_names(reference.state_dict())
    theirs = reference.head.classification_head.cls_logits
    assert torch.equal(state["body.class_head.output.weight"].view(9, 6, -1), theirs.weight.view(9, 7, -1)[:, 1:])
    assert torch.equal(state["body.class_head.output.bias"].view(9, 6), theirs.bias.view(9, 7)[:, 1:])


def test_a_class_head_for_other_classes_is_left_out(
    reference: TorchvisionRetinaNet, version: str, tmp_path: Path
) -> None:
    network = build_retinanet("resnet50", 3, 9, **OPTIONS[version])
    torch.save(reference.state_dict(), tmp_path / "retinanet.pth")
    report = load_weights(network, str(tmp_path / "retinanet.pth"))
    assert report.missing == ("body.class_head.output.weight", "body.class_head.output.bias")


def test_the_80_classes_of_coco_are_found_among_torchvisions_91() -> None:
    with torch.device("meta"):
        model = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None)
    state = {name: torch.zeros(tensor.shape) for name, tensor in model.state_dict().items()}
    state["head.classification_head.cls_logits.bias"] = torch.arange(91.0).repeat(9)
    network = build_retinanet("resnet18", 80, 9)
    kept = network.own_names(state)["body.class_head.output.bias"].view(9, 80)
    assert (kept == kept[0]).all()
    # COCO's categories 12, 26, 29, ... were never annotated; 1 is person, 13 stop sign, 90 toothbrush.
    assert kept[0].tolist() == [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


@torch.no_grad()
def test_the_layout_and_the_frozen_statistics_of_the_published_first_version_are_understood(
    picture: Tensor, tmp_path: Path
) -> None:
    # The published file has other names, and BatchNorm layers without the small number below the root.
    torch.manual_seed(0)
    backbone = torchvision.models.resnet50(norm_layer=FrozenBatchNorm2d)
    pyramid = _resnet_fpn_extractor(backbone, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    model = TorchvisionRetinaNet(pyramid, num_classes=7, min_size=SIZE_HW[0], max_size=SIZE_HW[1]).eval()
    overwrite_eps(model, 0.0)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(2e-5).mul_(torch.linspace(0.5, 1.5, len(buffer)))
        if name.endswith("weight"):
            buffer.fill_(0.002)
    outspoken(model, torch.Generator().manual_seed(1)).double()
    old = {}
    for name, tensor in model.state_dict().items():
        name = re.sub(r"\.conv\.(\d)\.0\.", lambda m: f".conv.{2 * int(m[1])}.", name)
        old[re.sub(r"_blocks\.(\d)\.0\.", r"_blocks.\1.", name)] = tensor
    assert "head.regression_head.conv.6.bias" in old
    assert "backbone.fpn.layer_blocks.2.weight" in old
    model.load_state_dict(dict(old))  # torchvision reads this layout too
    wanted = answers_of(model, picture)
    network = ours_from(old, "v1", tmp_path)
    logits, offsets = network(picture[None])
    assert wanted["cls_logits"].std() > 0.3
    torch.testing.assert_close(logits, wanted["cls_logits"], rtol=0, atol=1e-4)
    torch.testing.assert_close(offsets, wanted["bbox_regression"], rtol=0, atol=1e-4)
