import numpy as np
import pytest

from pixbox.drawing import draw_confusion, error_map, overlay, side_by_side
from pixbox.labels import IGNORE, LabelClass, LabelMap

LABELS = LabelMap(
    classes=(
        LabelClass(name="ground", values=(0,), colors=((0, 0, 0),)),
        LabelClass(name="road", values=(1,), colors=((200, 100, 40),)),
    )
)


def test_overlay_is_the_weighted_mean_of_picture_and_class_colour():
    image = np.full((1, 2, 3), 100, dtype=np.uint8)
    blended = overlay(image, np.array([[0, 1]], dtype=np.uint8), LABELS, opacity=0.25)
    assert blended.dtype == np.uint8
    assert blended.tolist() == [[[75, 75, 75], [125, 100, 85]]]


@pytest.mark.parametrize(("opacity", "expected"), [(0.0, [9, 90, 210]), (1.0, [200, 100, 40])])
def test_overlay_reaches_both_ends(opacity, expected):
    image = np.array([[[9, 90, 210]]], dtype=np.uint8)
    assert overlay(image, np.ones((1, 1), np.uint8), LABELS, opacity).tolist() == [[expected]]


def test_overlay_shows_the_picture_where_pixels_are_ignored_and_leaves_its_arguments_alone():
    image = np.array([[[9, 90, 210], [9, 90, 210]]], dtype=np.uint8)
    classes = np.array([[IGNORE, 1]], dtype=np.uint8)
    blended = overlay(image, classes, LABELS, opacity=1.0)
    assert blended[0, 0].tolist() == [9, 90, 210]
    assert image.tolist() == [[[9, 90, 210]] * 2]
    assert classes.tolist() == [[IGNORE, 1]]


def test_error_map_tells_right_wrong_and_ignored_apart():
    truth = np.array([[0, 0, IGNORE, IGNORE]], dtype=np.uint8)
    prediction = np.array([[0, 1, 0, IGNORE]], dtype=np.uint8)
    grey, red, black, black_too = error_map(truth, prediction)[0].astype(int).tolist()
    assert max(grey) - min(grey) < 20
    assert min(grey) > 200
    assert red[0] > 200
    assert max(red[1:]) < 80
    assert max(black) < 40
    assert black == black_too


def test_pictures_side_by_side_keep_their_pixels_and_are_parted_by_white():
    left, right = np.full((2, 3, 3), 10, np.uint8), np.full((2, 1, 3), 20, np.uint8)
    row = side_by_side([left, right])[0, :, 0].tolist()
    assert row == [10] * 3 + [255] * 4 + [20]


def test_pictures_of_other_sizes_are_refused():
    image, classes = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="differ in size"):
        overlay(image, classes, LABELS)
    with pytest.raises(ValueError, match="differ in size"):
        error_map(classes, classes.T)
    with pytest.raises(ValueError, match="one height"):
        side_by_side([image, image[:1]])
    with pytest.raises(ValueError, match="one height"):
        side_by_side([])


def test_a_confusion_matrix_is_drawn_by_its_shares():
    drawn = draw_confusion(np.array([[50, 50, 0], [0, 7, 0], [0, 0, 0]]), ["cat", "dog", "bird"])
    side = 40
    # A corner of each cell, clear of the number in its middle.
    cells = drawn[-3 * side :: side, -3 * side :: side][:3, :3].astype(int)
    cat, cat_as_dog, dog, nothing, absent = cells[0, 0], cells[0, 1], cells[1, 1], cells[0, 2], cells[2, 1]
    assert cat[1] > cat[0], "right is green"
    assert dog[0] < cat[0], "more of it is darker"
    assert cat_as_dog[0] > cat_as_dog[1], "wrong is red"
    assert (nothing == 255).all()
    assert absent[0] == absent[1] == absent[2] < 255, "a class without truth is grey"


def test_a_confusion_matrix_of_many_classes_stays_a_picture_of_a_screen():
    drawn = draw_confusion(
        np.eye(100, dtype=np.int64), [f"a class with a very long name, number {i}" for i in range(100)]
    )
    assert drawn.shape[0] == drawn.shape[1] < 1700
