"""IoU against hand arithmetic and torchvision."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from pixbox.boxes import pairwise_iou


def random_boxes(count: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=source) * 100
    return torch.cat((low, low + 1 + torch.rand(count, 2, generator=source) * 60), dim=1)


def test_two_squares_that_share_a_quarter() -> None:
    # 4x4 squares, 2 pixels apart in x and y: 4 shared of 16 + 16 - 4.
    found = pairwise_iou(torch.tensor([[0, 0, 4, 4]]), torch.tensor([[2, 2, 6, 6], [4, 0, 8, 4], [0, 0, 4, 4]]))
    torch.testing.assert_close(found, torch.tensor([[4 / 28, 0.0, 1.0]]))


def test_equals_torchvision() -> None:
    a, b = random_boxes(40, seed=0), random_boxes(70, seed=1)
    torch.testing.assert_close(pairwise_iou(a, b), box_iou(a, b))
    torch.testing.assert_close(pairwise_iou(a.double(), b), box_iou(a.double(), b.double()))


@pytest.mark.parametrize("empty", [[5, 5, 5, 5], [5, 0, 5, 9], [0, 5, 9, 5], [8, 2, 1, 7], [8, 7, 1, 2]])
def test_a_box_without_area_has_iou_0_with_all_and_itself(empty: list[int]) -> None:
    boxes = torch.tensor([empty, [0, 0, 10, 10]], dtype=torch.float32)
    assert pairwise_iou(boxes, boxes).tolist() == [[0, 0], [0, 1]]


def test_the_gradient_of_an_empty_box_is_a_number() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [0, 0, 10, 10]], requires_grad=True)
    pairwise_iou(boxes, boxes).sum().backward()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_boxes_give_an_empty_table(n: int, m: int) -> None:
    assert pairwise_iou(torch.zeros(n, 4), torch.zeros(m, 4)).shape == (n, m)


def test_boxes_of_half_precision_do_not_overflow() -> None:
    # 512 x 512 is more than the 65,504 a float16 can hold.
    boxes = torch.tensor([[0, 0, 512, 512], [0, 0, 512, 256]], dtype=torch.float16)
    torch.testing.assert_close(pairwise_iou(boxes, boxes), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
