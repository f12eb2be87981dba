import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from html_page import Page
from pixbox.config import Experiment
from pixbox.labels import LabelMap
from pixbox.metrics import CalibrationBin, ClassificationScores
from pixbox.report import Advice, ClassificationExample, ClassificationReport, write_classification_report

# Row: true class. Eight of ten cats and 39 of 40 dogs are found.
COUNTS = np.array([[8, 2, 0], [1, 39, 0], [0, 0, 0]])


@pytest.fixture
def make_report():
    """A function (classes, confusion, **changed fields) -> ClassificationReport."""

    def make(names=("cat", "dog", "bird"), confusion=COUNTS, **changes):
        scores = ClassificationScores(len(names))
        true, called = (index.repeat(confusion.ravel()) for index in np.indices(confusion.shape).reshape(2, -1))
        scores.update(torch.eye(len(names))[called], torch.from_numpy(true))
        labels = LabelMap.model_validate({"classes": list(names)})
        data = {"root": "data/pets", "format": "imagefolder"}
        experiment = {"name": "pets", "task": "classification", "data": data, "loss": {"label_smoothing": 0.1}}
        image = np.full((60, 80, 3), (200, 90, 40), np.uint8)
        fields = {
            "title": "pets",
            "split": "val",
            "experiment": Experiment.model_validate(experiment),
            "labels": labels,
            "metrics": scores.compute(names),
            "confusion": scores.pictures,
            "history": [{"epoch": 1.0, "train_loss": 2.0, "accuracy": 0.5, "top5_accuracy": 0.75, "lr": 0.1}],
            "examples": [
                ClassificationExample("val/cat/7", image, 0, 1, 0.934, 0.021),
                ClassificationExample("val/dog/3", image, 1, 0, 0.61, 0.3),
            ],
            "facts": {"parameters": "1,234,567"},
        }
        return ClassificationReport(**(fields | changes))

    return make


def page_of(report, folder):
    return Page(write_classification_report(report, folder).read_text(encoding="utf-8"))


def test_page_is_one_file_that_needs_nothing_else(make_report, tmp_path):
    path = write_classification_report(make_report(), tmp_path / "val")
    assert path == tmp_path / "val" / "report.html"
    assert list(path.parent.iterdir()) == [path]
    source = path.read_text(encoding="utf-8")
    assert source.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:|url\(|@import|<script|<link", source)
    assert [image["src"][:23] for image in Page(source).all("img")] == ["data:image/jpeg;base64,"] * 2


def test_headline_figures_are_the_metrics_in_percent(make_report, tmp_path):
    text = page_of(make_report(), tmp_path).text
    # 47 of 50; with three classes the truth is always among the first five.
    assert "Accuracy94.0%Top-5 accuracy100.0%Pictures50" in text
    assert "Best class: dog (accuracy 97.5%); weakest: cat (80.0%)." in text


def test_class_table_shows_accuracy_true_and_called_pictures(make_report, tmp_path):
    rows = page_of(make_report(), tmp_path).rows
    assert ["cat", "80.0%", "10", "9"] in rows
    assert ["dog", "97.5%", "40", "41"] in rows
    assert ["bird", "not present"] in rows


def test_intervals_advice_and_calibration_are_shown(make_report, tmp_path):
    report = make_report(
        intervals={"accuracy": (0.87, 0.99), "class_accuracy/cat": (0.55, 0.95)},
        calibration=[CalibrationBin(0.5, 1.0, 50, 0.97, 0.94)],
        advice=[Advice("Over-fitting", "It rises.", "More pictures.", "warning")],
    )
    page = page_of(report, tmp_path)
    assert "Accuracy94.0%87.0–99.0%" in page.text
    assert ["cat", "80.0%55.0–95.0%", "10", "9"] in page.rows
    assert "Expected calibration error: 3.0%" in page.text
    assert "Over-fittingIt rises.More pictures." in page.text


def test_confusions_are_counted_in_pictures(make_report, tmp_path):
    page = page_of(make_report(), tmp_path)
    titles = [cell["title"] for cell in page.all("td") if "title" in cell]
    assert titles == [
        "cat predicted as cat: 8 of 10 pictures (80.00%)",
        "cat predicted as dog: 2 of 10 pictures (20.00%)",
        "dog predicted as cat: 1 of 40 pictures (2.50%)",
        "dog predicted as dog: 39 of 40 pictures (97.50%)",
    ]
    assert ["cat", "80", "20", "0"] in page.rows
    assert "hatched has no true picture." in page.text
    assert page.text.index("cat taken for dog20.0% of it") < page.text.index("dog taken for cat2.5% of it")


def test_captions_say_what_a_picture_is_and_what_it_was_called(make_report, tmp_path):
    text = page_of(make_report(), tmp_path).text
    assert "is cat, called dog (93%)cat was given 2%val/cat/7" in text
    assert "is dog, called cat (61%)dog was given 30%val/dog/3" in text
    assert text.index("val/cat/7") < text.index("val/dog/3")


def test_large_pictures_are_made_smaller(make_report, tmp_path):
    report = make_report()
    large = replace(report.examples[0], image=np.full((1000, 2000, 3), (200, 90, 40), np.uint8))
    (image,) = page_of(replace(report, examples=[large]), tmp_path).all("img")
    shown = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
    assert shown.size == (480, 240)


def test_names_that_look_like_markup_are_shown_and_not_obeyed(make_report, tmp_path):
    evil = '<script>alert("1")</script>'
    report = make_report((evil, "a & b", "'c'"), title=evil, split=evil, facts={evil: evil})
    report = replace(report, examples=[replace(report.examples[0], id=f'"><img src=x>{evil}')])
    page = page_of(report, tmp_path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert len(page.all("img")) == 1
    assert page.text.count(evil) >= 9
    assert "a & b" in page.text


def test_page_works_without_truth_history_pictures_and_facts(make_report, tmp_path):
    page = page_of(make_report(confusion=np.zeros((3, 3), np.int64), history=[], examples=[], facts={}), tmp_path)
    assert page.text.count("not present") == 3
    assert page.all("svg") == page.all("img") == []
    assert "Accuracy–Top-5 accuracy–Pictures0" in page.text
    assert "nan" not in page.text.lower()


@pytest.mark.parametrize("count", [2, 60, 100])
def test_page_works_with_any_number_of_classes(make_report, tmp_path, count):
    names = [f"class {i}" for i in range(count)]
    path = write_classification_report(make_report(names, np.eye(count, dtype=np.int64)), tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.with_class("hit")) == count
    assert "confused most are shown" not in page.text
    assert path.stat().st_size < 1_000_000


def thousand(classes: int = 1000) -> np.ndarray:
    """Ten pictures of each class, all found but for some of the classes 500 to 599."""
    confusion = 10 * np.eye(classes, dtype=np.int64)
    for truth in range(500, 600):
        confusion[truth, truth] -= 3
        confusion[truth, truth + 1 if truth < 599 else 500] += 2
        confusion[truth, 7] += 1
    return confusion


def test_of_a_thousand_classes_the_most_confused_are_shown(make_report, tmp_path):
    names = [f"class {i}" for i in range(1000)]
    path = write_classification_report(make_report(names, thousand()), tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert "Of 1,000 classes, the 100 that are confused most are shown." in page.text
    titles = [cell["title"] for cell in page.all("td") if "title" in cell]
    # Class 7, which a hundred pictures were taken for, drives out the last of the hundred that are all alike.
    assert "class 7 predicted as class 7: 10 of 10 pictures (100.00%)" in titles
    assert "class 500 predicted as class 7: 1 of 10 pictures (10.00%)" in titles
    assert not [title for title in titles if title.startswith(("class 8 ", "class 599 "))]
    # What went to a class that is not shown is not lost: a row adds up.
    assert "class 598 predicted as all other classes: 2 of 10 pictures (20.00%)" in titles
    assert path.stat().st_size < 2_000_000


def test_a_long_table_begins_with_the_weakest_classes(make_report, tmp_path):
    names = [f"class {i}" for i in range(1000)]
    confusion = thousand()
    confusion[321] = 0
    rows = page_of(make_report(names, confusion), tmp_path).rows
    table = [row for row in rows if row[1:2] in (["70.0%"], ["100.0%"], ["not present"])]
    assert len(table) == 1000
    assert [row[:2] for row in (table[0], table[100], table[-1])] == [
        ["class 500", "70.0%"], ["class 0", "100.0%"], ["class 321", "not present"],
    ]  # fmt: skip


def test_of_tens_of_thousands_of_classes_the_page_shows_the_weakest(make_report, tmp_path):
    report = make_report([f"class {i}" for i in range(1000)])
    names = [f"class {i}" for i in range(20_000)]
    scores = ClassificationScores(len(names))
    scores.pictures.update({(index, index): 1 for index in range(19_999)} | {(19_999, 3): 1})
    labels = LabelMap.model_validate({"classes": names})
    report = replace(report, labels=labels, metrics=scores.compute(names), confusion=scores.pictures)
    path = write_classification_report(replace(report, examples=[]), tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert "The weakest classes come first. Of 20,000 classes, 2,000 are shown" in page.text
    assert "class 19999 taken for class 3100.0% of it" in page.text
    assert path.stat().st_size < 3_000_000


def test_training_curves_and_settings_are_those_of_a_classifier(make_report, tmp_path):
    report = make_report()
    text = page_of(report, tmp_path).text
    for words in ("accuracy: 50% at 1", "top-5 accuracy: 75% at 1", "training: 2 at 1", "lr: 0.1 at 1"):
        assert words in text
    assert "Losscross_entropy, label smoothing 0.1" in text
    assert "Anchors" not in text
    assert yaml.safe_load(text[text.index("name: pets") :]) == yaml.safe_load(report.experiment.to_yaml())
