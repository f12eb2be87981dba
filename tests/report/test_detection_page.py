"""Pages of two invented pictures whose scores are worked out by hand.

Of five true boxes that count, three are found at score 0.6 or more, where two others are wrong:
precision, recall and F1 are 3 / 5. All boxes that are right are exact, so AP is the same at every IoU.
"""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from html_page import Page
from pixbox.config import Experiment
from pixbox.labels import LabelMap
from pixbox.metrics import CalibrationBin, DetectionMetrics, DetectionScores, OperatingPoint, PrecisionRecall
from pixbox.report import Advice, DetectionExample, DetectionReport, write_detection_report
from pixbox.sample import Boxes

CAT, DOG = 0, 1
TRUTHS = (
    [(10, 10, 50, 50, CAT), (60, 10, 100, 50, DOG), (110, 10, 150, 50, CAT), (150, 60, 190, 90, DOG)],
    [(20, 0, 120, 50, CAT), (0, 60, 30, 90, DOG)],
)
DIFFICULT = ([False, False, False, True], [False, False])
FOUND = (
    [
        (10, 10, 50, 50, CAT, 0.9),  # right
        (60, 10, 100, 50, CAT, 0.8),  # a dog
        (10, 60, 50, 90, DOG, 0.7),  # nothing
        (150, 60, 190, 90, DOG, 0.85),  # difficult
        (60, 60, 80, 80, CAT, 0.05),  # nothing, but below the threshold
    ],
    [(20, 0, 120, 50, CAT, 0.6), (0, 60, 30, 90, DOG, 0.75)],
)


def boxes_of(index):
    rows = np.array(TRUTHS[index], np.float64)
    difficult = np.array(DIFFICULT[index])
    return Boxes(rows[:, :4].astype(np.float32), rows[:, 4].astype(np.int64), difficult, np.zeros_like(difficult))


def found_of(index):
    rows = np.array(FOUND[index], np.float64)
    return rows[:, :4], rows[:, 4].astype(np.int64), rows[:, 5]


@pytest.fixture
def make_report():
    """A function (classes, **changed fields) -> DetectionReport."""

    def make(names=("cat", "dog", "bird"), **changes):
        scores = DetectionScores(len(names))
        for index in range(2):
            scores.update(index, *map(torch.from_numpy, found_of(index)), boxes_of(index))
        image = np.full((100, 200, 3), (200, 90, 40), np.uint8)
        examples = [
            DetectionExample(
                f"yard/{index}", image, boxes_of(index), *found_of(index), scores.picture_errors(index, 0.6)
            )
            for index in range(2)
        ]
        labels = LabelMap.model_validate({"classes": list(names)})
        data = {"root": "data/yard", "labels": labels}
        fields = {
            "title": "yard",
            "split": "val",
            "experiment": Experiment.model_validate({"name": "yard", "task": "detection", "data": data}),
            "labels": labels,
            "metrics": scores.compute(names),
            "curves": scores.curves(names),
            "operating_point": scores.best_threshold(),
            "history": [{"epoch": 1.0, "train_loss": 2.0, "val_loss": 1.5, "map": 0.25, "map_50": 0.5, "lr_all": 0.01}],
            "examples": examples,
            "facts": {"parameters": "1,234,567"},
        }
        return DetectionReport(**(fields | changes))

    return make


def page_of(report, folder):
    return Page(write_detection_report(report, folder).read_text(encoding="utf-8"))


def places_of(page, kind):
    """(left, top, width, height) in percent of the boxes of one kind that lie on pictures."""
    styles = [box["style"] for box in page.with_class("box") if kind in box["class"].split() and "style" in box]
    return [tuple(float(number) for number in re.findall(r":([\d.]+)%", style)) for style in styles]


def nothing_found(report):
    """The same page of a detector that is silent."""
    names = report.labels.names
    scores = DetectionScores(len(names))
    for index in range(2):
        scores.update(index, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), boxes_of(index))
    return replace(
        report,
        metrics=scores.compute(names),
        curves=scores.curves(names),
        operating_point=scores.best_threshold(),
        examples=[replace(item, errors=scores.picture_errors(i, 0.5)) for i, item in enumerate(report.examples)],
    )


def test_page_is_one_file_that_needs_nothing_else(make_report, tmp_path):
    path = write_detection_report(make_report(), tmp_path / "val")
    assert path == tmp_path / "val" / "report.html"
    assert list(path.parent.iterdir()) == [path]
    source = path.read_text(encoding="utf-8")
    assert source.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:|url\(|@import|<script|<link", source)
    assert [image["src"][:23] for image in Page(source).all("img")] == ["data:image/jpeg;base64,"] * 2


def test_headline_figures_are_the_metrics_in_percent(make_report, tmp_path):
    text = page_of(make_report(), tmp_path).text
    # Of COCO's 101 recalls, cats have 34 at precision 1 and 33 at 2/3, dogs 51 at 1.
    cat, dog = (34 + 33 * 2 / 3) / 101, 51 / 101
    assert f"mAP, mean over IoU 0.50 to 0.95{50 * (cat + dog):.1f}%" in text
    assert f"AP50, at IoU 0.50{50 * (cat + dog):.1f}%" in text
    assert f"AP75, at IoU 0.75{50 * (cat + dog):.1f}%" in text
    # Two of three cats, one of two dogs.
    assert "Recall with 100 boxes58.3%" in text
    assert f"VOC AP50, area{50 * ((1 + 2 / 3) / 3 + 1 / 2):.1f}%" in text
    # Cats have 4 of eleven points at 1 and 3 at 2/3, dogs 6 at 1.
    assert f"VOC AP50, 11 points{50 * (4 + 3 * 2 / 3 + 6) / 11:.1f}%" in text
    assert "Pictures2True boxes5" in text


def test_class_table_shows_the_averages_and_boxes_of_every_class(make_report, tmp_path):
    rows = page_of(make_report(), tmp_path).rows
    assert ["cat", "55.4%", "55.4%", "55.6%", "54.5%", "3"] in rows
    assert ["dog", "50.5%", "50.5%", "50.0%", "54.5%", "2"] in rows
    assert ["bird", "not present"] in rows


def test_intervals_advice_and_calibration_are_shown(make_report, tmp_path):
    report = make_report(
        intervals={"map": (0.4, 0.6), "class_ap_50/dog": (0.3, 0.7)},
        calibration=[CalibrationBin(0.5, 1.0, 5, 0.8, 0.6)],
        advice=[Advice("Many objects are missed", "Of 5.", "Try `data.size: [640, 640]`.", "warning")],
    )
    page = page_of(report, tmp_path)
    assert "40.0–60.0%AP50" in page.text
    assert ["dog", "50.5%30.0–70.0%", "50.5%", "50.0%", "54.5%", "2"] in page.rows
    assert "5 detections, 60.0% right" in page.text
    assert "Many objects are missedOf 5." in page.text


def test_the_score_threshold_to_set_is_said_in_words(make_report, tmp_path):
    text = page_of(make_report(), tmp_path).text
    assert "Set score threshold 0.6: precision 60.0%, recall 60.0%, F1 60.0%" in text
    assert "Boxes with a score of 0.6 or more find 60.0% of the objects, and 60.0% of these boxes are right." in text


def test_a_threshold_is_rounded_down_so_that_its_own_box_is_kept(make_report, tmp_path):
    point = OperatingPoint(0.42399, 0.5, 0.5, 0.5)
    text = page_of(make_report(operating_point=point), tmp_path).text
    assert "Set score threshold 0.423:" in text
    assert "0.424" not in text


def test_curves_carry_their_points_and_the_operating_point(make_report, tmp_path):
    page = page_of(make_report(history=[]), tmp_path)
    assert len(page.with_class("curve")) == 2
    assert "cat at score 0.9: precision 100.0%, recall 33.3%" in page.text
    # At the threshold of 0.6 three cats are called, two of them rightly; both dogs score higher.
    assert "cat at score 0.6: precision 66.7%, recall 66.7%" in page.text
    assert "dog at score 0.7: precision 50.0%, recall 50.0%" in page.text
    assert len(page.with_class("dot")) == 2
    assert "all classes at score 0.6: precision 60.0%, recall 60.0%" in page.text


def test_of_many_classes_those_with_the_most_boxes_have_a_curve(make_report, tmp_path):
    names = [f"class {i:02}" for i in range(14)]
    curve = PrecisionRecall(np.array([0.9, 0.4]), np.array([1.0, 0.5]), np.array([0.5, 0.5]))
    silent = PrecisionRecall(np.empty(0), np.empty(0), np.empty(0))
    scores = dict.fromkeys(names, 0.5)
    boxes = {name: 100 - i for i, name in enumerate(names)}
    report = make_report(
        labels=LabelMap.model_validate({"classes": names}),
        metrics=DetectionMetrics(
            0.5, 0.5, 0.5, scores, scores, 0.5, 0.5, scores, 0.5, scores, 9, sum(boxes.values()), boxes
        ),
        curves={name: silent if name == "class 00" else curve for name in names},
        history=[],
        examples=[],
    )
    page = page_of(report, tmp_path)
    assert len(page.with_class("curve")) == 10
    legend = page.text[page.text.index("Precision over recall") :]
    assert [name for name in names if f"{name} at score" in legend] == names[1:11]
    assert "the 10 classes with the most boxes" in page.text
    assert len([row for row in page.rows if row[0] in names]) == 14


def test_boxes_lie_where_they_are_and_tell_right_from_wrong(make_report, tmp_path):
    report = make_report()
    page = page_of(replace(report, examples=report.examples[:1]), tmp_path)
    # Of a picture 200 pixels wide and 100 high.
    assert places_of(page, "right") == [(5, 10, 20, 40)]
    assert places_of(page, "confused") == [(30, 10, 20, 40)]
    assert places_of(page, "false") == [(5, 60, 20, 30)]
    assert places_of(page, "missed") == [(55, 10, 20, 40)]
    assert places_of(page, "difficult") == [(75, 60, 20, 30)]
    titles = [box["title"] for box in page.with_class("box") if "title" in box]
    assert sorted(titles) == [
        "confused C1: cat 0.80, is dog",
        "difficult: dog",
        "false F1: dog 0.70",
        "missed M1: cat",
        "right: cat 0.90",
    ]


def test_caption_counts_and_the_list_names_every_error(make_report, tmp_path):
    page = page_of(make_report(), tmp_path)
    assert "1 right · 1 missed · 1 false · 1 confused" in page.text
    assert "2 right · 0 missed · 0 false · 0 confused" in page.text
    assert "C1cat 0.80, is dogF1dog 0.70M1cat" in page.text
    assert page.text.count("Errors one by one") == 1


def test_long_lists_of_errors_are_closed(make_report, tmp_path):
    report = make_report()
    example = report.examples[0]
    many = replace(example.errors, false=np.repeat(example.errors.false, 20))
    page = page_of(replace(report, examples=[replace(example, errors=many), example]), tmp_path)
    assert ["open" in attributes for attributes in page.all("details")[:2]] == [False, True]
    assert "F20dog 0.70" in page.text


def test_each_kind_of_box_has_a_key_that_can_hide_it(make_report, tmp_path):
    path = write_detection_report(make_report(), tmp_path)
    source = path.read_text(encoding="utf-8")
    boxes = Page(source).all("input")
    assert [box["class"] for box in boxes] == [
        f"show-{kind}" for kind in ("right", "missed", "false", "confused", "difficult")
    ]
    for box in boxes:
        assert f".marked:has(.{box['class']}:not(:checked)) .photo .{box['class'].removeprefix('show-')}" in source


def test_key_of_difficult_boxes_is_left_out_where_there_are_none(make_report, tmp_path):
    report = make_report()
    page = page_of(replace(report, examples=report.examples[1:]), tmp_path)
    assert [box["class"] for box in page.all("input")] == ["show-right", "show-missed", "show-false", "show-confused"]


def test_sign_of_a_box_at_the_upper_edge_stands_inside(make_report, tmp_path):
    report = make_report()
    page = page_of(replace(report, examples=report.examples[1:]), tmp_path)
    inside = {box["title"]: "inside" in box["class"].split() for box in page.with_class("box") if "title" in box}
    assert inside == {"right: cat 0.60": True, "right: dog 0.75": False}


def test_large_pictures_are_made_smaller(make_report, tmp_path):
    report = make_report()
    large = replace(report.examples[0], image=np.full((1000, 2000, 3), (200, 90, 40), np.uint8))
    (image,) = page_of(replace(report, examples=[large]), tmp_path).all("img")
    shown = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
    assert shown.size == (960, 480)


def test_names_that_look_like_markup_are_shown_and_not_obeyed(make_report, tmp_path):
    evil = '<script>alert("1")</script>'
    report = make_report((evil, "a & b", "'c'"), title=evil, split=evil, facts={evil: evil})
    report = replace(report, examples=[replace(report.examples[0], id=f'"><img src=x>{evil}')])
    page = page_of(report, tmp_path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert len(page.all("img")) == 1
    assert page.text.count(evil) >= 9
    assert "a & b" in page.text


def test_page_of_a_detector_that_finds_nothing_says_so(make_report, tmp_path):
    page = page_of(nothing_found(make_report(history=[])), tmp_path)
    assert "It finds none of the objects, at whatever score." in page.text
    assert ["cat", "0.0%", "0.0%", "0.0%", "0.0%", "3"] in page.rows
    assert page.with_class("curve") == page.with_class("advice") == []
    assert "0 right · 3 missed · 0 false · 0 confused" in page.text
    assert not re.search(r"\bnan\b", page.text.lower())
    # No class is better than the others.
    assert "Best class" not in page.text


def test_page_works_without_truth_history_pictures_and_facts(make_report, tmp_path):
    names = ("cat", "dog", "bird")
    empty = DetectionScores(3)
    report = make_report(
        names,
        metrics=empty.compute(names),
        curves=empty.curves(names),
        operating_point=None,
        history=[],
        examples=[],
        facts={},
    )
    page = page_of(report, tmp_path)
    assert page.text.count("not present") == 3
    assert page.all("svg") == page.all("img") == []
    assert "mAP, mean over IoU 0.50 to 0.95–" in page.text
    assert "none of the objects" not in page.text


def test_training_curves_and_settings_are_those_of_a_detector(make_report, tmp_path):
    page = page_of(make_report(), tmp_path)
    for words in ("mAP: 25% at 1", "AP50: 50% at 1", "validation: 1.5 at 1", "all: 0.01 at 1"):
        assert words in page.text
    for words in ("Lossfocal (α 0.25, γ 2) + smooth_l1", "Anchorspaper, 5 levels", "parameters1,234,567"):
        assert words in page.text
