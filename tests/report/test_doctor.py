"""What the doctor says of invented runs: each rule where it must speak, and where it must not."""

from pathlib import Path

import numpy as np
import pytest

from pixbox.config import Experiment
from pixbox.metrics import PictureErrors
from pixbox.report import BoxErrors, count_box_errors, diagnose
from pixbox.report.doctor import RULES
from pixbox.sample import Boxes

DOCS = Path(__file__).parents[2] / "docs"
EPOCHS = np.arange(1, 31)
NAMES = ("road", "building", "tree", "sky")
# Row: true class. All four are frequent, and nine of ten pixels are right.
GOOD = np.full((4, 4), 3_000) + np.diag([90_000 - 3_000] * 4)


def experiment(task="segmentation", **sections):
    data = {"root": "data/town", **sections.pop("data", {})}
    training = {"epochs": 30, **sections.pop("training", {})}
    return Experiment.model_validate({"name": "town", "task": task, "data": data, "training": training, **sections})


def history(score="miou", **columns):
    """Rows of metrics.csv: a training that goes well, but for the columns that are given."""
    noise = np.random.default_rng(0).normal(0, 0.02, (2, len(EPOCHS)))
    well = {
        "epoch": EPOCHS,
        "train_loss": 1.6 * np.exp(-EPOCHS / 6) + 0.30 + noise[0],
        "val_loss": 1.5 * np.exp(-EPOCHS / 6) + 0.38 + noise[1],
        score: 0.72 * (1 - np.exp(-EPOCHS / 5)),
    }
    columns = well | columns
    rows = [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{name: None if value == -1 else value for name, value in row.items()} for row in rows]


def segmentation(confusion=GOOD, images=50, names=NAMES):
    """metrics.json of a confusion matrix, as far as the doctor reads it."""
    matrix = np.asarray(confusion)
    right = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - right
    iou = {name: float(r / u) if u else None for name, r, u in zip(names, right, union, strict=True)}
    return {"class_iou": iou, "images": images, "ece": 0.02}


def classification(accuracy, top5, names=12, images=600):
    return {
        "accuracy": accuracy,
        "top5_accuracy": top5,
        "class_accuracy": {f"class {i}": accuracy for i in range(names)},
        "images": images,
    }


def detection(ap=(0.8, 0.7), images=40, boxes=300):
    return {"class_ap_50": dict(zip(("cell", "platelet"), ap, strict=True)), "images": images, "boxes": boxes}


def box_errors(missed=0.1, false=20, small_missed=None, total=300):
    """Boxes of 10 and 60 pixels, a third of them small; ``missed`` of all, or of the large ones."""
    small = np.arange(total) < total // 3
    rank = np.where(small, np.arange(total), np.arange(total) - total // 3) / np.where(small, total // 3, total * 2 / 3)
    lost = rank < np.where(small, missed if small_missed is None else small_missed, missed)
    classes = np.arange(total) % 2
    found = {(c, c): int((~lost & (classes == c)).sum()) for c in (0, 1)}
    return BoxErrors(classes, np.where(small, 10.0, 60.0), lost, found, false)


def titles(advice):
    return [item.title for item in advice]


def said(rows=(), metrics=None, confusion=GOOD, task="segmentation", **known):
    """The one advice that is given."""
    (item,) = diagnose(task, rows, segmentation(confusion) if metrics is None else metrics, confusion, **known)
    return item


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.title)
@pytest.mark.parametrize("page", ["doctor.md", "doctor.zh-CN.md"])
def test_every_rule_stands_in_the_table(page, rule):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.startswith(f"| {rule.title} |")]) == 1


def test_a_healthy_run_is_given_no_advice():
    assert diagnose("segmentation", history(), segmentation(), GOOD, experiment()) == []
    well = history("map_50")
    assert diagnose("detection", well, detection(), None, experiment("detection"), box_errors()) == []
    well = history("accuracy")
    many = np.diag([50] * 12)
    assert diagnose("classification", well, classification(0.9, 0.99), many, experiment("classification")) == []


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_illness(seed):
    rng = np.random.default_rng(seed)
    rows = history(
        train_loss=1.6 * np.exp(-EPOCHS / 6) + 0.3 + rng.normal(0, 0.04, 30),
        val_loss=1.5 * np.exp(-EPOCHS / 6) + 0.4 + rng.normal(0, 0.04, 30),
        miou=0.72 * (1 - np.exp(-EPOCHS / 5)) + rng.normal(0, 0.008, 30),
    )
    advice = diagnose("segmentation", rows, segmentation(), GOOD, experiment())
    # The last of a noisy course may by chance be its best; that is a note.
    assert [item for item in advice if item.severity != "note"] == []


def test_nothing_is_said_where_nothing_is_known():
    assert diagnose("segmentation", [], {}) == []
    assert diagnose("detection", [], {}) == []
    assert diagnose("classification", [], {}) == []


def test_three_epochs_and_three_pictures_are_too_few_to_judge():
    rows = history(train_loss=np.linspace(1, 3, 30), val_loss=np.linspace(1, 3, 30), miou=np.full(30, 0.01))[:3]
    collapsed = np.zeros((4, 4), int)
    collapsed[:, 0] = 100_000
    short = experiment(training={"epochs": 3})
    assert diagnose("segmentation", rows, segmentation(collapsed, images=3), collapsed, short) == []


def test_a_loss_that_is_no_number_is_an_error():
    lost = np.where(EPOCHS > 20, np.nan, 1.0)
    item = diagnose("segmentation", history(train_loss=lost), segmentation(), GOOD, experiment())[0]
    assert (item.title, item.severity) == ("The loss is no number", "error")
    assert "10 of 30 rows" in item.words
    assert "epoch 21" in item.words
    assert "`optimizer.lr: 0.0001` (now 0.001)" in item.remedy
    assert "`training.clip_norm: 1`" in item.remedy


def test_a_validation_loss_that_is_missing_was_no_number():
    item = said(history(val_loss=np.where(EPOCHS == 7, -1, 0.4)), experiment=experiment())
    assert item.title == "The loss is no number"
    assert "1 of 30 rows" in item.words


def test_a_run_without_validation_has_lost_no_loss():
    rows = [{"epoch": row["epoch"], "train_loss": row["train_loss"]} for row in history()]
    assert diagnose("segmentation", rows, segmentation(), GOOD, experiment()) == []


def test_a_loss_that_jumps_up_means_a_learning_rate_too_high():
    losses = 1.6 * np.exp(-EPOCHS / 6) + 0.3
    losses[9] *= 4
    clipped = experiment(training={"clip_norm": 1})
    item = said(history(train_loss=losses), experiment=clipped)
    assert item.title == "The learning rate is too high"
    assert "once, at epoch 10" in item.words
    assert "`optimizer.lr: 0.00033` (now 0.001)" in item.remedy
    assert "clip_norm" not in item.remedy


def test_one_small_jump_of_the_loss_is_nothing_two_are():
    losses = 1.6 * np.exp(-EPOCHS / 6) + 0.3
    losses[9] *= 1.8
    assert diagnose("segmentation", history(train_loss=losses), segmentation(), GOOD, experiment()) == []
    losses[14] *= 1.8
    assert "2 times" in said(history(train_loss=losses), experiment=experiment()).words


def test_a_loss_that_hardly_moves_means_a_learning_rate_too_low():
    still = history(train_loss=1.40 - EPOCHS / 1000, val_loss=1.41 - EPOCHS / 1000, miou=0.11 + EPOCHS / 3000)
    item = said(still, experiment=experiment())
    assert item.title == "The learning rate is too low"
    assert "from 1.4 to 1.37" in item.words
    assert "`optimizer.lr: 0.01` (now 0.001)" in item.remedy


def test_a_model_that_was_good_from_the_start_may_stay_so():
    fine_tuned = history(train_loss=0.2 - EPOCHS / 10_000, val_loss=0.22 + 0 * EPOCHS, miou=0.8 + 0 * EPOCHS)
    assert diagnose("segmentation", fine_tuned, segmentation(), GOOD, experiment()) == []


def test_over_fitting_is_a_validation_loss_that_rises_while_that_of_training_falls():
    rises = np.where(EPOCHS <= 12, 1.5 * np.exp(-EPOCHS / 6) + 0.4, 0.60 + (EPOCHS - 12) / 40)
    falls = 1.6 * np.exp(-EPOCHS / 6) + 0.05
    worse = np.where(EPOCHS <= 12, EPOCHS / 20, 0.6 - (EPOCHS - 12) / 300)
    item = said(history(train_loss=falls, val_loss=rises, miou=worse), experiment=experiment())
    assert item.title == "Over-fitting"
    assert "Since epoch 12" in item.words
    assert "The best mIoU, 60.0%, was at epoch 12 of 30." in item.words
    assert "`model.weights: imagenet`" in item.remedy


def test_a_validation_loss_that_rises_alone_is_no_over_fitting_while_the_score_improves():
    rises = np.where(EPOCHS <= 12, 1.5 * np.exp(-EPOCHS / 6) + 0.4, 0.60 + (EPOCHS - 12) / 40)
    falls = 1.6 * np.exp(-EPOCHS / 6) + 0.05
    rows = history(train_loss=falls, val_loss=rises)
    assert "Over-fitting" not in titles(diagnose("segmentation", rows, segmentation(), GOOD, experiment()))


def test_under_fitting_is_a_poor_model_whose_training_loss_stands():
    stands = 0.8 * np.exp(-EPOCHS / 3) + 0.9
    rows = history(train_loss=stands, val_loss=stands + 0.03, miou=0.35 * (1 - np.exp(-EPOCHS / 3)))
    item = said(rows, experiment=experiment(model={"weights": "imagenet"}))
    assert item.title == "Under-fitting"
    assert "imagenet" not in item.remedy


def test_a_score_that_rises_to_the_end_wants_more_epochs():
    item = said(history(miou=EPOCHS / 50), experiment=experiment())
    assert item.title == "The score still improves at the end"
    # Epochs 1 to 22 are in the first three quarters.
    assert "rose by 16.0 points, to 60.0%" in item.words
    assert "`training.epochs: 60` (now 30)" in item.remedy


def test_a_run_that_was_stopped_is_to_be_resumed_first():
    item = said(history(miou=EPOCHS / 50)[:12], experiment=experiment())
    assert item.title == "The training ended early"
    assert "12 of 30 epochs" in item.words
    assert "--resume" in item.remedy


@pytest.mark.parametrize("training", [{"patience": 5}, {"max_steps": 500}])
def test_a_run_that_was_to_end_sooner_has_not_ended_early(training):
    rows = history(miou=0.7 + 0 * EPOCHS)[:12]
    assert diagnose("segmentation", rows, segmentation(), GOOD, experiment(training=training)) == []


def test_a_training_of_so_many_steps_is_made_longer_by_steps():
    by_steps = experiment(training={"max_steps": 500})
    assert "`training.max_steps: 1000` (now 500)" in said(history(miou=EPOCHS / 50), experiment=by_steps).remedy


def test_one_class_for_everything_is_an_error_and_hides_that_others_are_dead():
    collapsed = np.zeros((4, 4), int)
    collapsed[:, 2] = 100_000
    item = said(confusion=collapsed)
    assert (item.title, item.severity) == ("One class is predicted almost everywhere", "error")
    assert "100.0% of the pixels are called tree, which is 25.0% of the truth" in item.words


def test_a_class_that_is_nearly_all_of_the_truth_may_be_nearly_all_of_the_predictions():
    mostly_road = np.diag([970_000, 10_000, 10_000, 10_000])
    assert diagnose("segmentation", [], segmentation(mostly_road), mostly_road) == []


def test_a_class_that_is_never_predicted_is_named_with_its_share():
    dead = GOOD.copy()
    dead[:, 3] = 0
    dead[3] = [5_000, 0, 0, 0]
    item = said(confusion=dead)
    assert item.title == "Classes that are never predicted"
    assert f"sky (5,000 pixels, {5_000 / dead.sum():.2%})" in item.words
    assert "`loss.class_weights: median_frequency`" in item.remedy


def test_a_class_of_a_few_pixels_is_not_judged():
    dead = GOOD.copy()
    dead[:, 3] = 0
    dead[3] = [40, 0, 0, 0]
    assert diagnose("segmentation", [], segmentation(dead), dead) == []


def test_a_rare_class_that_does_badly_wants_class_weights():
    rare = np.diag([300_000, 300_000, 300_000, 2_000])
    rare[3, 0] = rare[0, 3] = 3_000
    item = said(confusion=rare)
    assert item.title == "Rare classes do badly"
    # 2,000 of 8,000 pixels in either; 5,000 of 911,000.
    assert "sky (25.0%, 0.55% of the pixels)" in item.words
    weighted = experiment(loss={"class_weights": "enet"})
    assert "class_weights" not in said(confusion=rare, experiment=weighted).remedy


def test_a_rare_class_that_does_well_is_not_mentioned():
    rare = np.diag([300_000, 300_000, 300_000, 5_000])
    assert diagnose("segmentation", [], segmentation(rare), rare) == []


def test_two_classes_that_are_taken_for_each_other_are_named_with_counts():
    mixed = GOOD.copy()
    mixed[0, 1], mixed[1, 0] = 40_000, 30_000
    item = said(confusion=mixed)
    assert item.title == "Classes are confused with each other"
    assert "road is called building in 29% (40,000 pixels), building road in 24% (30,000)" in item.words


def test_one_class_lost_to_another_is_no_mutual_confusion():
    mixed = GOOD.copy()
    mixed[0, 1] = 60_000
    assert diagnose("segmentation", [], segmentation(mixed), mixed) == []


def test_a_dense_matrix_and_counted_pairs_say_the_same():
    mixed = GOOD.copy()
    mixed[0, 1], mixed[1, 0] = 40_000, 30_000
    pairs = {(a, b): int(mixed[a, b]) for a in range(4) for b in range(4)}
    assert diagnose("segmentation", [], segmentation(mixed), pairs) == [said(confusion=mixed)]


def test_a_truth_among_the_first_five_that_is_seldom_the_first_is_said():
    item = said(metrics=classification(0.5, 0.93), confusion=None, task="classification")
    assert item.title == "The true class is among the first five, but not the first"
    assert "in 93.0%, but is the first in 50.0%" in item.words


def test_of_six_classes_five_are_nearly_all():
    assert diagnose("classification", [], classification(0.5, 0.93, names=6)) == []


def test_a_detector_that_finds_nothing_is_told_so():
    item = said(metrics=detection((0.0, 0.0)), confusion=None, task="detection", boxes=box_errors(1.0, false=0))
    assert (item.title, item.severity) == ("Nothing is found", "error")
    assert "None of the 300 true boxes" in item.words


def test_a_class_whose_boxes_are_never_found_is_named():
    item = said(metrics=detection((0.8, 0.0)), confusion=None, task="detection")
    assert item.title == "Classes that are never found"
    assert item.words.endswith(": platelet.")


def test_missed_boxes_outweigh_false_ones():
    item = said(metrics=detection(), confusion=None, task="detection", boxes=box_errors(0.6, false=10))
    assert item.title == "Many objects are missed"
    assert "Of 300 true boxes 60%" in item.words
    assert "8% of the detections are false" in item.words


def test_false_boxes_outweigh_missed_ones():
    item = said(metrics=detection(), confusion=None, task="detection", boxes=box_errors(0.1, false=270))
    assert item.title == "Many detections are false"
    assert "270 detections, 50%" in item.words


def test_small_objects_that_are_missed_want_larger_pictures():
    errors = box_errors(0.1, small_missed=0.7)
    larger = experiment("detection", data={"size": [320, 416]})
    item = said(metrics=detection(), confusion=None, task="detection", boxes=errors, experiment=larger)
    assert item.title == "Small objects are missed"
    assert "up to 10 pixels, 70% are missed; of the others 10%" in item.words
    assert "`data.size: [640, 832]` (now [320, 416])" in item.remedy


def test_confidence_that_is_far_from_the_truth_is_a_note():
    item = said(metrics=segmentation() | {"ece": 0.18})
    assert (item.title, item.severity) == ("Confidence is not to be trusted", "note")
    assert "18.0 points" in item.words


@pytest.mark.parametrize(("images", "spoken"), [(60, []), (600, ["Confidence is not to be trusted"])])
def test_the_confidences_of_a_few_pictures_say_nothing(images, spoken):
    metrics = classification(0.9, 0.99, images=images) | {"ece": 0.18}
    assert titles(diagnose("classification", [], metrics)) == spoken


def test_boxes_of_two_classes_that_are_taken_for_each_other_are_named():
    errors = box_errors(0.1)
    mixed = BoxErrors(
        errors.classes, errors.sides, errors.missed, {(0, 0): 90, (0, 1): 45, (1, 0): 30, (1, 1): 105}, 20
    )
    item = said(metrics=detection(), confusion=None, task="detection", boxes=mixed)
    # Of 150 boxes each.
    assert "cell is called platelet in 30% (45 boxes), platelet cell in 20% (30)" in item.words


def test_the_gravest_comes_first():
    collapsed = np.zeros((4, 4), int)
    collapsed[:, 2] = 100_000
    rows = history(miou=EPOCHS / 50)
    assert [item.severity for item in diagnose("segmentation", rows, segmentation(collapsed), collapsed)] == [
        "error",
        "note",
    ]


def test_long_lists_of_classes_are_cut():
    names = tuple(f"class {i}" for i in range(20))
    dead = np.diag([10_000] * 20)
    dead[10:, 0] = dead[10:].sum(axis=1)
    dead[:, 10:] = 0
    item = said(metrics=segmentation(dead, names=names), confusion=dead)
    assert item.words.endswith("; and 6 more.")


def test_box_errors_are_added_up_over_pictures_without_the_difficult():
    truth = Boxes(
        np.array([[0, 0, 10, 10], [0, 0, 40, 10], [5, 5, 9, 9]], np.float32),
        np.array([0, 1, 1]),
        np.array([False, False, True]),
        np.zeros(3, bool),
    )
    none = np.empty(0, np.int64)
    errors = PictureErrors(np.array([[1, 0]]), np.empty((0, 2), np.int64), np.array([0]), none, np.array([1]))
    confused = PictureErrors(np.empty((0, 2), np.int64), np.array([[0, 1]]), none, none, np.array([0]))
    total = count_box_errors([(truth, np.array([1, 0]), errors), (truth, np.array([0]), confused)])
    assert total.classes.tolist() == [0, 1, 0, 1]
    assert total.sides.tolist() == [10, 20, 10, 20]
    assert total.missed.tolist() == [False, True, True, False]
    assert total.found == {(0, 0): 1, (1, 0): 1}
    assert total.false == 1
