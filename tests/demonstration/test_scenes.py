import cv2
import numpy as np
import pytest
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import jaccard_score

from pixbox.config import read_labels
from pixbox.demonstration.scenes import draw_scene, write_scenes
from pixbox.errors import DataError
from pixbox.labels import RawMask

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
    assert all((a == b).all() for a, b in zip(seen[7], again, strict=True))
    assert (draw_scene(1, 7)[0] != again[0]).any()
    assert (seen[8][0] != again[0]).any()


@pytest.mark.parametrize("size_hw", [(256, 256), (96, 160), (33, 47)])
def test_picture_and_mask_have_the_asked_size_and_types(size_hw):
    image, mask = draw_scene(4, 2, size_hw)
    assert image.shape == (*size_hw, 3)
    assert mask.shape == size_hw
    assert image.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) <= set(GREYS)


def test_every_class_covers_a_good_part_of_the_ground(seen):
    masks = np.stack([mask for _, mask in seen])
    shares = [(masks == grey).mean() for grey in GREYS]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0.1
    assert all((mask == 255).any() for mask in masks)


def test_edges_of_the_mask_lie_on_edges_of_the_picture(seen):
    """Moved by two pixels in any direction, a mask fits its picture less well."""
    for image, mask in seen[:6]:
        grey = cv2.GaussianBlur(image.astype(np.float32).mean(axis=2), (0, 0), 1)
        slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        border = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
        fit = {(dy, dx): slope[np.roll(border, (dy, dx), (0, 1))].mean() for dy in (-2, 0, 2) for dx in (-2, 0, 2)}
        assert max(fit, key=fit.get) == (0, 0)


def _pixels(scenes, count):
    rng = np.random.default_rng(0)
    chosen = [(image.reshape(-1, 3), mask.ravel(), rng.choice(mask.size, count)) for image, mask in scenes]
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


def test_written_scenes_are_the_drawn_ones_and_their_label_map_reads_them(tmp_path):
    write_scenes(tmp_path, seed=5, train=2, val=1, test=1)
    labels = read_labels(tmp_path / "labels.yaml")
    assert labels.names == ("background", "building", "vegetation", "road")
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        lines = (tmp_path / f"{split}.txt").read_text().splitlines()
        assert len(lines) == count
        for line in lines:
            image, mask = line.split(";")
            pixels = cv2.imread(str(tmp_path / mask), cv2.IMREAD_UNCHANGED)
            assert cv2.imread(str(tmp_path / image)).shape == (256, 256, 3)
            assert (np.array(GREYS)[labels.encode(RawMask(pixels))] == pixels).all()
    image = cv2.cvtColor(cv2.imread(str(tmp_path / "images/train_001.png")), cv2.COLOR_BGR2RGB)
    assert (image == draw_scene(5, 1)[0]).all()


def test_splits_share_no_scene_and_do_not_depend_on_each_others_size(tmp_path):
    write_scenes(tmp_path / "a", seed=5, train=1, val=1, test=1)
    write_scenes(tmp_path / "b", seed=5, train=2, val=1, test=1)
    files = sorted(path.name for path in (tmp_path / "a/images").iterdir())
    contents = [(tmp_path / "a/images" / name).read_bytes() for name in files]
    assert contents == [(tmp_path / "b/images" / name).read_bytes() for name in files]
    assert len(set(contents)) == 3


def _times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}


def test_a_complete_set_is_left_as_it_is(tmp_path):
    write_scenes(tmp_path, seed=5, train=1, val=1, test=0)
    before = _times(tmp_path)
    write_scenes(tmp_path, seed=5, train=1, val=1, test=0)
    assert _times(tmp_path) == before


@pytest.mark.parametrize("lost", ["labels.yaml", "images/val_000.png", "masks/train_000.png", "train.txt"])
def test_an_interrupted_or_damaged_set_is_drawn_again(tmp_path, lost):
    write_scenes(tmp_path, seed=5, train=1, val=1, test=0)
    content = (tmp_path / lost).read_bytes()
    (tmp_path / lost).unlink()
    write_scenes(tmp_path, seed=5, train=1, val=1, test=0)
    assert (tmp_path / lost).read_bytes() == content


def test_other_parameters_draw_a_new_set(tmp_path):
    write_scenes(tmp_path, seed=5, train=1, val=0, test=0)
    before = (tmp_path / "images/train_000.png").read_bytes()
    write_scenes(tmp_path, seed=6, train=1, val=0, test=0)
    assert (tmp_path / "images/train_000.png").read_bytes() != before


def test_a_folder_with_other_data_is_not_touched(tmp_path):
    (tmp_path / "labels.yaml").write_text("classes: [cat, dog]\n")
    with pytest.raises(DataError, match="Choose another folder"):
        write_scenes(tmp_path, seed=0, train=1, val=1, test=1)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.yaml"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        write_scenes(tmp_path / "file", seed=0, train=1, val=0, test=0)
