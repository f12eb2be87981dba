import base64
import io
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from html_page import Page
from pixbox.drawing import CORRECT, IGNORED, WRONG
from pixbox.labels import IGNORE
from pixbox.metrics import CalibrationBin
from pixbox.report import Advice, write_report

NAMES = ("road", "building", "tree", "sky")


def page_of(report, folder):
    return Page(write_report(report, folder).read_text(encoding="utf-8"))


def pixels_of(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_report_is_one_file_that_needs_nothing_else(make_report, tmp_path):
    path = write_report(make_report(NAMES), tmp_path / "val")
    assert path == tmp_path / "val" / "report.html"
    assert list(path.parent.iterdir()) == [path]
    source = path.read_text(encoding="utf-8")
    assert source.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:|url\(|@import|<script|<link", source)
    sources = [
        attributes[key] for _, attributes in Page(source).elements for key in ("src", "href") if key in attributes
    ]
    assert len(sources) == 8
    assert all(re.match(r"data:image/(jpeg|png);base64,", source) for source in sources)


def test_headline_figures_are_the_metrics_in_percent(make_report, tmp_path):
    report = make_report(NAMES)
    page = page_of(report, tmp_path)
    for name in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        assert f"{100 * report.metrics[name]:.1f}%" in page.text
    assert f"{report.metrics['pixels']:,}" in page.text


def test_class_table_shows_iou_accuracy_and_area_of_every_class(make_report, tmp_path):
    report = make_report(NAMES)
    rows = {row[0]: row[1:] for row in page_of(report, tmp_path).rows if len(row) == 4}
    truth = np.stack([item.truth for item in report.examples])
    for index, name in enumerate(NAMES[:-1]):
        area = (truth == index).sum() / (truth != IGNORE).sum()
        iou, accuracy = report.metrics["class_iou"][name], report.metrics["class_accuracy"][name]
        assert rows[name] == [f"{100 * iou:.1f}%", f"{100 * accuracy:.1f}%", f"{100 * area:.1f}%"]


def test_a_class_that_occurs_nowhere_is_shown_as_not_present(make_report, tmp_path):
    page = page_of(make_report(NAMES), tmp_path)
    assert ["sky", "not present"] in page.rows
    assert len(page.with_class("none")) == len(NAMES)


def test_a_class_that_is_only_predicted_has_an_iou_but_no_accuracy(make_report, tmp_path):
    report = make_report(NAMES)
    confusion = report.confusion.copy()
    confusion[0, 3] = 5
    metrics = report.metrics | {"class_iou": report.metrics["class_iou"] | {"sky": 0.0}}
    page = page_of(replace(report, confusion=confusion, metrics=metrics), tmp_path)
    assert ["sky", "0.0%", "–", "0.0%"] in page.rows


def test_confusion_cells_carry_counts_and_shares_of_the_row(make_report, tmp_path):
    confusion = np.array([[75, 25, 0], [3, 997, 0], [0, 0, 0]])
    page = page_of(make_report(("road", "tree", "sky"), confusion=confusion), tmp_path)
    titles = [cell["title"] for cell in page.all("td") if "title" in cell]
    assert titles == [
        "road predicted as road: 75 of 100 pixels (75.00%)",
        "road predicted as tree: 25 of 100 pixels (25.00%)",
        "tree predicted as road: 3 of 1,000 pixels (0.30%)",
        "tree predicted as tree: 997 of 1,000 pixels (99.70%)",
    ]
    assert ["road", "75", "25", "0"] in page.rows
    assert ["tree", "0.3", "100", "0"] in page.rows
    assert "road taken for tree25.0% of it" in page.text
    assert page.text.index("road taken for tree") < page.text.index("tree taken for road")


def test_names_that_look_like_markup_are_shown_and_not_obeyed(make_report, tmp_path):
    evil = '<script>alert("1")</script>'
    report = make_report((evil, "a & b", "'c'"), title=evil, split=evil, facts={evil: evil})
    report = replace(report, examples=[replace(report.examples[0], id=f'"><img src=x>{evil}')])
    page = page_of(report, tmp_path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert len(page.all("img")) == 4
    assert page.text.count(evil) >= 8
    assert "a & b" in page.text


def test_embedded_pictures_are_the_pictures_truths_and_errors(make_report, tmp_path):
    report = make_report(NAMES, pictures=1)
    photo, truth, prediction, errors = (pixels_of(image["src"]) for image in page_of(report, tmp_path).all("img"))
    example, colors = report.examples[0], report.labels.colors
    assert photo.shape == example.image.shape
    labelled = example.truth != IGNORE
    assert (truth[labelled] == colors[example.truth[labelled]]).all()
    assert (truth[~labelled] == IGNORED).all()
    assert (prediction == colors[example.prediction]).all()
    assert (errors[labelled & (example.truth == example.prediction)] == CORRECT).all()
    assert (errors[labelled & (example.truth != example.prediction)] == WRONG).all()
    assert (errors[~labelled] == IGNORED).all()


def test_large_pictures_are_made_smaller_without_mixing_their_classes(make_report, tmp_path):
    report = make_report(NAMES, pictures=1)
    small = report.examples[0]
    large = replace(
        small,
        image=np.full((1000, 1400, 3), (200, 90, 40), np.uint8),
        truth=np.tile(np.array([0, 2], np.uint8), (1000, 700)),
        prediction=np.full((1000, 1400), 1, np.uint8),
    )
    photo, truth, _, errors = (
        pixels_of(image["src"]) for image in page_of(replace(report, examples=[large]), tmp_path).all("img")
    )
    assert photo.shape == truth.shape == errors.shape == (457, 640, 3)
    assert np.abs(photo.astype(int) - (200, 90, 40)).max() <= 4
    assert {*map(tuple, np.unique(truth.reshape(-1, 3), axis=0))} <= {tuple(report.labels.colors[i]) for i in (0, 2)}


def test_legend_names_only_what_the_pictures_show(make_report, tmp_path):
    page = page_of(make_report(NAMES, history=[]), tmp_path)
    legend = page.text[page.text.index("most to learn.") :]
    assert legend.startswith("most to learn.roadbuildingtreecorrectwrongignored")


def test_learning_rates_that_run_alike_are_one_line(make_report, tmp_path):
    def row(step, encoder, decoder):
        rates = {
            "lr_encoder": encoder,
            "lr_encoder_no_decay": encoder,
            "lr_decoder": decoder,
            "lr_decoder_no_decay": decoder,
        }
        return {"epoch": step, "step": step, **rates}

    page = page_of(make_report(NAMES, history=[row(1, 0.01, 0.01), row(2, 0.005, 0.005)]), tmp_path)
    assert "encoder and decoder: 0.005 at 2" in page.text
    assert "no_decay" not in page.text
    page = page_of(make_report(NAMES, history=[row(1, 0.001, 0.01), row(2, 0.0005, 0.005)]), tmp_path)
    for words in ("encoder: 0.0005 at 2", "decoder: 0.005 at 2"):
        assert words in page.text


def test_curves_leave_out_what_was_not_measured(make_report, tmp_path):
    report = make_report(NAMES)
    page = page_of(report, tmp_path)
    for words in ("training: 0.75 at 2", "validation: 0.875 at 3", "mIoU: 75% at 3", "all: 0.005 at 2"):
        assert words in page.text
    assert "validation: 1.5 at 2" not in page.text
    without = [{key: row[key] for key in ("epoch", "step", "train_loss")} for row in report.history]
    page = page_of(replace(report, history=without), tmp_path)
    assert len(page.all("svg")) == 1
    assert "Learning rate" not in page.text


def test_report_works_without_history_pictures_and_facts(make_report, tmp_path):
    page = page_of(make_report(NAMES, pictures=0, history=[], facts={}), tmp_path)
    assert page.all("svg") == page.all("img") == []
    assert "Training size" in page.text


def test_report_works_where_nothing_is_labelled(make_report, tmp_path):
    report = make_report(NAMES)
    nothing = dict.fromkeys(NAMES)
    metrics = dict.fromkeys(report.metrics) | {
        "class_iou": nothing,
        "class_accuracy": nothing,
        "images": 2,
        "pixels": 0,
    }
    examples = [replace(report.examples[0], miou=None)]
    page = page_of(replace(report, metrics=metrics, confusion=np.zeros((4, 4), np.int64), examples=examples), tmp_path)
    assert page.text.count("not present") == 4
    assert "mIoU –" in page.text
    assert "nan" not in page.text.lower()


@pytest.mark.parametrize("count", [1, 60, 150])
def test_report_works_with_any_number_of_classes(make_report, tmp_path, count):
    report = make_report([f"class {i}" for i in range(count)]) if count > 1 else make_report(("a", "b"))
    path = write_report(report, tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.with_class("classes")) == 1
    assert len(page.with_class("swatch")) >= len(report.labels)
    assert path.stat().st_size < 3_000_000


def test_whole_configuration_is_in_the_page_and_reads_back(make_report, tmp_path):
    report = make_report(NAMES)
    text = page_of(report, tmp_path).text
    written = text[text.index("name: streets") :]
    assert yaml.safe_load(written) == yaml.safe_load(report.experiment.to_yaml())


def test_settings_name_the_augmentation_that_is_switched_on(make_report, tmp_path):
    report = make_report(NAMES)
    augment = report.experiment.data.augment.model_copy(update={"scale": (0.5, 2.0), "flip": 0.5})
    data = report.experiment.data.model_copy(update={"augment": augment})
    page = page_of(replace(report, experiment=report.experiment.model_copy(update={"data": data})), tmp_path)
    assert "scale 0.5–2, flip 0.5" in page.text


def test_a_new_report_replaces_the_former_one(make_report, tmp_path):
    write_report(make_report(NAMES, title="first"), tmp_path)
    assert "second" in page_of(make_report(NAMES, title="second"), tmp_path).text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_doctor_speaks_before_the_figures_and_says_what_to_try(make_report, tmp_path):
    advice = [
        Advice("Over-fitting", "Since <epoch> 12 it rises.", "Try `training.patience: 10`.", "warning"),
        Advice("The training ended early", "12 of 30.", "Go on.", "note"),
    ]
    page = page_of(make_report(NAMES, advice=advice), tmp_path)
    assert "WarningOver-fittingSince <epoch> 12 it rises.Try training.patience: 10." in page.text
    assert page.text.index("What the figures say") < page.text.index("Area: its share")
    assert len(page.with_class("is-warning")) == 2
    assert ("code", {}) in page.elements


def test_page_without_advice_intervals_calibration_and_boundaries_does_not_mention_them(make_report, tmp_path):
    text = page_of(make_report(NAMES), tmp_path).text
    for words in ("What the figures say", "95%", "Calibration", "Boundaries"):
        assert words not in text[: text.index("The whole configuration")]


def test_intervals_stand_at_the_headline_and_at_the_bars(make_report, tmp_path):
    intervals = {"miou": (0.251, 0.349), "class_iou/road": (0.4, 0.65)}
    report = make_report(NAMES, intervals=intervals)
    page = page_of(report, tmp_path)
    assert f"{100 * report.metrics['miou']:.1f}%25.1–34.9%Pixel accuracy" in page.text
    (whisker,) = page.with_class("whisker")
    assert whisker["style"] == "left:40.0%;width:25.0%"
    assert {"class": "measure", "title": "95% interval: 40.0–65.0%"} in page.all("span")
    assert f"{100 * report.metrics['class_iou']['road']:.1f}%40.0–65.0%" in next(
        row for row in page.rows if row[0] == "road"
    )
    assert "these pictures were scored and not others" in page.text


def test_calibration_shows_bars_and_the_expected_error(make_report, tmp_path):
    bins = [
        CalibrationBin(0.0, 0.5, 0, None, None),
        CalibrationBin(0.5, 0.75, 100, 0.6, 0.7),
        CalibrationBin(0.75, 1.0, 300, 0.9, 0.8),
    ]
    page = page_of(make_report(NAMES, calibration=bins, history=[]), tmp_path)
    # Both bins are 10 points off.
    assert "Expected calibration error: 10.0%" in page.text
    assert "Confidence 75% to 100%: 300 pixels, 80.0% right, mean confidence 90.0%" in page.text
    assert "Confidence 0%" not in page.text
    low, high = (bar for bar in page.all("rect") if bar["class"] == "bar")
    assert float(high["height"]) / float(low["height"]) == pytest.approx(8 / 7, rel=0.01)
    assert float(low["opacity"]) < float(high["opacity"]) == 1


def test_boundaries_have_their_figures_by_class(make_report, tmp_path):
    boundary = {"boundary_iou": 0.41, "boundary_f1": 0.62}
    boundary |= {f"class_boundary_iou/{name}": 0.4 for name in NAMES[:3]} | {"class_boundary_iou/sky": None}
    boundary |= {f"class_boundary_f1/{name}": 0.6 for name in NAMES[:3]} | {"class_boundary_f1/sky": None}
    page = page_of(make_report(NAMES, boundary=boundary), tmp_path)
    assert "Boundary IoU, mean over the classes41.0%Boundary F-score, mean over the classes62.0%" in page.text
    assert ["tree", "40.0%", "60.0%"] in page.rows
    assert page.rows.count(["sky", "not present"]) == 2


@pytest.mark.parametrize(("count", "kind"), [(2, "large"), (12, "large"), (20, "small"), (59, "small vast")])
def test_a_matrix_of_many_classes_has_small_cells_and_a_row_of_its_own(make_report, tmp_path, count, kind):
    page = page_of(make_report([f"class {i}" for i in range(count)]), tmp_path)
    assert page.with_class("matrix")[0]["class"] == f"matrix {kind}"


def test_24_pictures_of_a_photographic_kind_stay_below_8_megabytes(make_report, tmp_path):
    rng = np.random.default_rng(0)
    small = make_report(NAMES, pictures=1).examples[0]
    texture = cv2.GaussianBlur(rng.integers(0, 256, (960, 1280, 3)).astype(np.uint8), (0, 0), 1.5)
    patches = np.kron(rng.integers(0, 3, (60, 80)), np.ones((16, 16), int)).astype(np.uint8)
    example = replace(small, image=texture, truth=patches, prediction=np.roll(patches, 5))
    path = write_report(make_report(NAMES, examples=[example] * 24), tmp_path)
    assert path.stat().st_size < 8_000_000
