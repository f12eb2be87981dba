import cv2
import numpy as np
import pytest
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import jaccard_score

from pixbox.demonstration.scenes import draw_scene

GREYS = (0, 76, 150, 255)
UNSEEN = 5000


@pytest.fixture(scope="module")
def seen():
    return [draw_scene(0, index) for index in range(20)]


@pytest.fixture(scope="module")
def unseen():
    return [draw_scene(0, UNSEEN + index) for index in range(8)]


def test_a_scene_is_a_pure_function_of_seed_and_index(seen):
    again = draw_scene(0, 7)
    for name in ("image", "mask", "buildings_xyxy", "slivers"):
        np.testing.assert_array_equal(getattr(seen[7], name), getattr(again, name))
    assert (draw_scene(1, 7).image != again.image).any()
    assert (seen[8].image != again.image).any()


@pytest.mark.parametrize("size_hw", [(256, 256), (96, 160), (33, 47)])
def test_picture_and_mask_have_the_asked_size_and_types(size_hw):
    scene = draw_scene(4, 2, size_hw)
    image, mask = scene.image, scene.mask
    assert image.shape == (*size_hw, 3)
    assert mask.shape == size_hw
    assert image.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) <= set(GREYS)


def test_every_class_covers_a_good_part_of_the_ground(seen):
    masks = np.stack([scene.mask for scene in seen])
    shares = [(masks == grey).mean() for grey in GREYS]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0.1
    assert all((mask == 255).any() for mask in masks)


def test_edges_of_the_mask_lie_on_edges_of_the_picture(seen):
    """Moved by two pixels in any direction, a mask fits its picture less well."""
    for scene in seen[:6]:
        mask = scene.mask
        grey = cv2.GaussianBlur(scene.image.astype(np.float32).mean(axis=2), (0, 0), 1)
        slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        border = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
        fit = {(dy, dx): slope[np.roll(border, (dy, dx), (0, 1))].mean() for dy in (-2, 0, 2) for dx in (-2, 0, 2)}
        assert max(fit, key=fit.get) == (0, 0)


def _pixels(scenes, count):
    rng = np.random.default_rng(0)
    chosen = [(scene.image.reshape(-1, 3), scene.mask.ravel(), rng.choice(scene.mask.size, count)) for scene in scenes]
    colors = np.concatenate([image[places] for image, _, places in chosen])
    return colors.astype(np.float64), np.concatenate([mask[places] for _, mask, places in chosen])


@pytest.mark.parametrize(
    "classifier",
    [
        RandomForestClassifier(30, min_samples_leaf=5, random_state=0),
        RandomForestClassifier(30, min_samples_leaf=5, class_weight="balanced", random_state=0),
        QuadraticDiscriminantAnalysis(),
    ],
    ids=["forest", "balanced_forest", "quadratic"],
)
def test_the_colour_of_a_pixel_alone_does_not_tell_its_class(classifier, seen, unseen):
    classifier.fit(*_pixels(seen, 1000))
    colors, truth = _pixels(unseen, 4000)
    scores = jaccard_score(truth, classifier.predict(colors), labels=GREYS, average=None)
    assert scores.mean() < 0.6


def _visible_parts(mask):
    """Box (x1, y1, x2, y2) and pixels of each connected part of the class building."""
    _, _, parts, _ = cv2.connectedComponentsWithStats((mask == 76).astype(np.uint8), connectivity=8)
    return [((x, y, x + width, y + height), area) for x, y, width, height, area in parts[1:].tolist()]


def _lies_in(inner, outer):
    return all(inner[:2] >= outer[:2]) and all(inner[2:] <= outer[2:])


def test_every_visible_part_of_a_building_lies_in_a_box(seen):
    for scene in seen:
        for part, _ in _visible_parts(scene.mask):
            assert any(_lies_in(np.array(part), box) for box in scene.buildings_xyxy)
        # Roofs keep their distance: each connected part is of one building, so there are no fewer parts than boxes.
        assert len(_visible_parts(scene.mask)) >= len(scene.buildings_xyxy)


def test_a_building_that_no_crown_touches_has_the_box_of_its_pixels(seen):
    """Where the mask has vegetation nowhere near, the roof is what is seen of it."""
    checked = 0
    for scene in seen:
        near_green = cv2.dilate((scene.mask == 150).astype(np.uint8), np.ones((3, 3), np.uint8))
        boxes = scene.buildings_xyxy.tolist()
        for part, _ in _visible_parts(scene.mask):
            x1, y1, x2, y2 = part
            if not near_green[y1:y2, x1:x2].any():
                assert list(part) in boxes
                checked += 1
    assert checked > 20


def test_a_crown_over_a_roof_makes_its_box_no_smaller_and_no_two_of_it(seen):
    larger = 0
    for scene in seen:
        boxes = scene.buildings_xyxy
        assert len(np.unique(boxes, axis=0)) == len(boxes)
        for box in boxes:
            x1, y1, x2, y2 = box
            assert (scene.mask[y1:y2, x1:x2] == 76).any()
            parts = [np.array(part) for part, _ in _visible_parts(scene.mask) if _lies_in(np.array(part), box)]
            assert parts
            corners = np.concatenate([np.min(parts, axis=0)[:2], np.max(parts, axis=0)[2:]])
            larger += bool((corners != box).any())
    assert larger > 5


def test_slivers_are_what_the_border_leaves_less_than_ten_pixels_of(seen):
    for scene in seen:
        boxes = scene.buildings_xyxy
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
        np.testing.assert_array_equal(scene.slivers, sides < 10)
        cut = (boxes[:, :2] == 0).any(axis=1) | (boxes[:, 2:] == 256).any(axis=1)
        assert cut[scene.slivers].all()
    assert any(scene.slivers.any() for scene in seen)
    assert not all(scene.slivers.all() for scene in seen)


def test_a_picture_without_buildings_has_no_boxes():
    scenes = [draw_scene(4, index, (33, 47)) for index in range(20)]
    bare = [scene for scene in scenes if not (scene.mask == 76).any()]
    assert bare
    assert all(scene.buildings_xyxy.shape == (0, 4) and scene.slivers.shape == (0,) for scene in bare)
