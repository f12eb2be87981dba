"""Offsets against hand arithmetic and torchvision's coder."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from pixbox.boxes import decode_boxes, encode_boxes

CODER = BoxCoder((1.0, 1.0, 1.0, 1.0))


def random_boxes(count: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=source) * 300
    return torch.cat((low, low + 4 + torch.rand(count, 2, generator=source) * 200), dim=1)


def test_a_box_worked_by_hand() -> None:
    # Anchor 10 x 20 around (15, 30); box 20 x 20 around (20, 25): 5 / 10, -5 / 20, ln 2, ln 1.
    offsets = encode_boxes(torch.tensor([10.0, 15, 30, 35]), torch.tensor([10.0, 20, 20, 40]))
    torch.testing.assert_close(offsets, torch.tensor([0.5, -0.25, math.log(2), 0.0]))


def test_an_anchor_on_its_box_needs_no_offset() -> None:
    boxes = random_boxes(20, seed=0)
    assert torch.equal(encode_boxes(boxes, boxes), torch.zeros(20, 4))


def test_decoding_undoes_encoding() -> None:
    boxes, anchors = random_boxes(50, seed=1).double(), random_boxes(50, seed=2).double()
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes)


def test_equals_torchvisions_coder() -> None:
    boxes, anchors = random_boxes(50, seed=3), random_boxes(50, seed=4)
    torch.testing.assert_close(encode_boxes(boxes, anchors), CODER.encode_single(boxes, anchors))
    offsets = 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(decode_boxes(offsets, anchors), CODER.decode_single(offsets, anchors))


def test_one_row_of_anchors_serves_a_batch() -> None:
    anchors = random_boxes(6, seed=6)
    offsets = torch.randn(3, 6, 4)
    decoded = decode_boxes(offsets, anchors)
    assert decoded.shape == (3, 6, 4)
    torch.testing.assert_close(decoded[2], decode_boxes(offsets[2], anchors))
    torch.testing.assert_close(encode_boxes(decoded, anchors), offsets, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("answer", [5.0, 100.0, math.inf])
def test_a_box_grows_to_at_most_62_and_a_half_times_its_anchor(answer: float) -> None:
    offsets = torch.tensor([0.0, 0.0, answer, answer], requires_grad=True)
    box = decode_boxes(offsets, torch.tensor([0.0, 0, 16, 32]))
    torch.testing.assert_close(box, torch.tensor([8 - 500.0, 16 - 1000, 8 + 500, 16 + 1000]))
    box.square().sum().backward()
    assert offsets.grad is not None
    assert offsets.grad[2:].tolist() == [0, 0]


def test_half_precision_answers_are_decoded_in_float32() -> None:
    # Next to 1000 the steps of bfloat16 are 4 pixels.
    anchors = torch.tensor([[1001.0, 1001, 1017, 1017]])
    decoded = decode_boxes(torch.zeros(1, 4, dtype=torch.bfloat16), anchors)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, anchors)


def test_no_boxes_have_no_offsets() -> None:
    assert encode_boxes(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert decode_boxes(torch.zeros(2, 0, 4), torch.zeros(0, 4)).shape == (2, 0, 4)
