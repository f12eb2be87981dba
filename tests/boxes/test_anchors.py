"""Anchors against hand arithmetic, the figures of their papers and torchvision."""

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import retinanet_resnet50_fpn

from pixbox.boxes import Anchors, compact_anchors, grid, octave_anchors, paper_anchors, torchvision_anchors


@pytest.fixture(scope="module")
def retinanet_generator() -> AnchorGenerator:
    generator: AnchorGenerator = retinanet_resnet50_fpn(weights=None, weights_backbone=None).anchor_generator
    return generator


def torchvision_grid(generator: AnchorGenerator, size_hw: tuple[int, int], strides: tuple[int, ...]) -> Tensor:
    features = [torch.zeros(1, 1, math.ceil(size_hw[0] / s), math.ceil(size_hw[1] / s)) for s in strides]
    [boxes] = generator(ImageList(torch.zeros(1, 3, *size_hw), [size_hw]), features)
    return boxes


def test_two_by_two_cells_are_laid_out_by_row_column_and_shape() -> None:
    anchors = Anchors(strides=(8,), shapes=(((4, 2), (8, 16)),))
    # Cell centres at 4 and 12.
    assert grid(anchors, (16, 16)).tolist() == [
        [2, 3, 6, 5], [0, -4, 8, 12],  [10, 3, 14, 5], [8, -4, 16, 12],
        [2, 11, 6, 13], [0, 4, 8, 20],  [10, 11, 14, 13], [8, 4, 16, 20],
    ]  # fmt: skip


def test_levels_follow_each_other_and_a_cell_that_is_begun_counts() -> None:
    anchors = Anchors(strides=(8, 16), shapes=(((2, 2),), ((6, 6),)))
    boxes = grid(anchors, (9, 17))  # 2 x 3 cells, then 1 x 2
    assert boxes.shape == (2 * 3 + 1 * 2, 4)
    assert boxes.dtype == torch.float32
    assert boxes[6:].tolist() == [[5, 5, 11, 11], [21, 5, 27, 11]]


def test_lengths_of_the_levels_are_cells_times_shapes() -> None:
    # 257 pixels begin 33, 17, 9 and 5 cells, 100 pixels 13, 7, 4 and 2; three shapes at each.
    assert compact_anchors().level_lengths((257, 100)) == [33 * 13 * 3, 17 * 7 * 3, 9 * 4 * 3, 5 * 2 * 3]
    assert sum(compact_anchors().level_lengths((257, 100))) == len(grid(compact_anchors(), (257, 100)))


def test_anchors_of_a_mirrored_picture_are_the_mirrored_anchors() -> None:
    boxes = grid(compact_anchors(), (64, 128))
    mirrored = torch.stack((128 - boxes[:, 2], boxes[:, 1], 128 - boxes[:, 0], boxes[:, 3]), dim=1)
    assert {tuple(row) for row in mirrored.round(decimals=2).tolist()} == {
        tuple(row) for row in boxes.round(decimals=2).tolist()
    }


def test_the_papers_anchors_have_its_levels_areas_and_ratios() -> None:
    anchors = paper_anchors()
    assert anchors.strides == (8, 16, 32, 64, 128)
    # "areas of 32^2 to 512^2 on pyramid levels P3 to P7", each also times 2^(1/3) and 2^(2/3) in size.
    for base, shapes in zip((32, 64, 128, 256, 512), anchors.shapes, strict=True):
        found = sorted((round(math.sqrt(w * h), 6), round(h / w, 6)) for w, h in shapes)
        assert found == [
            (round(base * 2 ** (third / 3), 6), ratio) for third in range(3) for ratio in (0.5, 1.0, 2.0)
        ]  # fmt: skip


def test_compact_anchors_are_three_shapes_that_double_over_four_levels() -> None:
    anchors = compact_anchors()
    assert anchors.strides == (8, 16, 32, 64)
    assert anchors.shapes[0] == ((28, 28), (19.8, 39.6), (39.6, 19.8))
    assert anchors.shapes[3] == ((224, 224), (158.4, 316.8), (316.8, 158.4))


def test_corner_anchors_equal_those_of_torchvisions_generator() -> None:
    # Even sizes, so that the generator's rounding of half sides changes nothing.
    anchors = Anchors(strides=(16, 32), shapes=(((32, 32), (64, 64)), ((96, 96), (128, 128))), offset=0.0)
    generator = AnchorGenerator(sizes=((32, 64), (96, 128)), aspect_ratios=((1.0,), (1.0,)))
    assert torch.equal(grid(anchors, (96, 160)), torchvision_grid(generator, (96, 160), (16, 32)))


@pytest.mark.parametrize("size_hw", [(256, 384), (800, 1216), (257, 513), (100, 61), (1, 1)])
def test_torchvision_anchors_equal_those_of_its_retinanet_at_any_size(
    retinanet_generator: AnchorGenerator, size_hw: tuple[int, int]
) -> None:
    anchors = torchvision_anchors()
    assert torch.equal(grid(anchors, size_hw), torchvision_grid(retinanet_generator, size_hw, anchors.strides))


def test_the_grid_of_one_size_is_computed_once() -> None:
    assert grid(compact_anchors(), (64, 64)) is grid(compact_anchors(), torch.Size((64, 64)))


def test_a_grid_first_asked_for_in_inference_mode_can_be_trained_with() -> None:
    anchors = octave_anchors([(11, 13)], levels=2)
    with torch.inference_mode():
        grid(anchors, (32, 32))
    weight = torch.ones(4, requires_grad=True)
    (grid(anchors, (32, 32)) * weight).sum().backward()
    assert weight.grad is not None


def test_a_grid_first_asked_for_while_exporting_is_a_true_tensor_later() -> None:
    anchors = octave_anchors([(17, 19)], levels=2)

    class Shift(nn.Module):
        def forward(self, picture: Tensor) -> Tensor:
            return grid(anchors, (picture.shape[0], picture.shape[1])) + picture.sum()

    picture = torch.ones(24, 40)
    exported = torch.export.export(Shift(), (picture,), strict=False).module()
    boxes = grid(anchors, (24, 40))
    assert type(boxes) is Tensor
    torch.testing.assert_close(exported(picture), boxes + 24 * 40)


@pytest.mark.parametrize(
    ("strides", "shapes", "complaint"),
    [
        ((), (), "0 strides"),
        ((8, 16), (((4, 4),),), "2 strides for 1 level"),
        ((8, 16), (((4, 4),), ((4, 4), (5, 5))), r"equally many anchor shapes, at least one, not \[1, 2\]"),
        ((8,), ((),), "at least one"),
        ((16, 8), (((4, 4),), ((4, 4),)), "grow from level to level"),
        ((0,), (((4, 4),),), "grow from level to level"),
        ((8,), (((4, 0),),), "positive width and height"),
        ((8,), (((4, math.nan),),), "positive width and height"),
    ],
)
def test_levels_that_do_not_agree_are_refused(
    strides: tuple[int, ...], shapes: tuple[tuple[tuple[float, float], ...], ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Anchors(strides=strides, shapes=shapes)


def test_an_offset_outside_the_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        Anchors(strides=(8,), shapes=(((4, 4),),), offset=1.5)


def test_an_input_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="0x32 pixels"):
        grid(compact_anchors(), (0, 32))
