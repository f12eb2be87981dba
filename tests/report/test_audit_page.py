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
from pixbox.auditing.result import AnchorSummary, Audit, Guess, Preview, SplitSummary
from pixbox.config import DetectionConfig, Experiment
from pixbox.data.findings import KEPT_PER_CODE, Findings
from pixbox.labels import LabelMap
from pixbox.report import write_audit_page

ROOT = "/data/streets"
EVIL = 'it\'s "<script>alert(1)</script>" & 街道/道路.png'
LONG = "/".join(["a folder with a rather long name"] * 8) + "/" + "x" * 90 + ".png"


def found(*entries):
    """Findings of (code, file, message, hint) each; the files lie in the data root."""
    findings = Findings()
    for code, file, message, *hint in entries:
        findings.add(code, f"{ROOT}/{file}" if file else "", message, *hint)
    return findings


def many_findings():
    mend = "Add it to labels.yaml, list it under `ignore`, or set `unknown: ignore`."
    value = "value 21 at row 3, column 88 (1,204 pixels); the label map has values 0-18"
    entries = [("unknown-value", f"masks/{i:04}.png", value, mend) for i in range(KEPT_PER_CODE + 234)]
    entries += [
        ("unreadable-file", name, "is no picture: it starts with <html>", "Copy it again.") for name in (EVIL, LONG)
    ]
    entries += [("bad-line", f"train.txt:{n}", "has 3 parts, not 2") for n in (14, 15)]
    entries += [
        ("unknown-class", "a.xml", 'the class "carr" is not known', 'Did you mean "car"?'),
        ("unknown-class", "b.xml", 'the class "buss" is not known', 'Did you mean "bus"?'),
    ]
    entries += [("near-duplicate-image", f"images/{i}.jpg", f"is nearly images/{i + 1}.jpg") for i in range(120)]
    entries += [
        ("class-missing", "", "moped never occurs", "Leave it out of the label map."),
        ("no-validation", "", "none"),
    ]
    return found(*entries)


def picture(seed, size_hw=(180, 320)):
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(noise, size_hw[::-1], interpolation=cv2.INTER_CUBIC)


def split(name, counts, *, objects=None, images=60, sizes=None, ignored=0):
    counts, none = np.asarray(counts, np.int64), np.zeros(len(counts), np.int64)
    pixels, boxes = (none, counts) if objects else (counts, none)
    with_class = np.minimum(counts, images)
    return SplitSummary(name, images, sizes or {(360, 480): images}, pixels, ignored, with_class, boxes)


@pytest.fixture
def make_audit():
    """A function (class names, task, **changed fields) -> Audit of a data set with two splits."""

    def make(names=("road", "car", "moped"), task="segmentation", **changes):
        labels = LabelMap.model_validate({"classes": list(names)}) if names else None
        counts = [max(0, 7_500 >> (i // 2)) if i < len(names) - 1 else 0 for i in range(len(names))]
        data = {"root": ROOT, "train": "train.txt", "val": "val.txt"}
        boxes = task == "detection"
        fields = {
            "source": "recipes/streets.yaml",
            "experiment": Experiment.model_validate({"name": "streets", "task": task, "data": data}),
            "labels": labels,
            "guesses": (),
            "decisions": (),
            "findings": Findings(),
            "splits": (split("train", counts, objects=boxes), split("val", counts, objects=boxes, images=20)),
            "mean": (0.41, 0.42, 0.43),
            "std": (0.30, 0.29, 0.28),
            "class_weights": {},
            "anchors": None,
            "previews": (),
            "seconds": 12.34,
        }
        return Audit(**(fields | changes))

    return make


def page_of(audit, folder):
    return Page(write_audit_page(audit, folder / "audit.html").read_text(encoding="utf-8"))


def test_page_is_one_file_that_needs_nothing_else(make_audit, tmp_path):
    previews = tuple(Preview(f"images/{i}", "train", picture(i)) for i in range(3))
    path = write_audit_page(make_audit(findings=many_findings(), previews=previews), tmp_path / "new" / "audit.html")
    assert path == tmp_path / "new" / "audit.html"
    assert list(path.parent.iterdir()) == [path]
    source = path.read_text(encoding="utf-8")
    assert source.startswith("<!DOCTYPE html>")
    assert not re.search(r"http|url\(|@import|<script|<link", source)
    page = Page(source)
    assert [image["src"][:23] for image in page.all("img")] == ["data:image/jpeg;base64,"] * 3
    assert all(link["href"].startswith("#") for link in page.all("a"))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.all("a")} == ids


@pytest.mark.parametrize(
    ("entries", "kind", "words"),
    [
        ([], "clean", "Clean"),
        ([("no-validation", "", "none")], "clean", "Clean"),
        ([("alpha", f"{i}.png", "alpha") for i in range(4)], "warning", "No errors, 4 warnings"),
        ([("cmyk", "a.jpg", "CMYK")], "warning", "No errors, 1 warning"),
        (
            [("empty-file", "a.png", "0 bytes"), ("bad-line", "l.txt:3", "bad"), ("bad-line", "l.txt:7", "bad")],
            "error",
            "3 errors in 2 files: training will refuse to start",
        ),
        (
            [("invalid-box", "a.xml: object 3", "NaN"), ("invalid-box", "a.xml: object 4", "NaN")],
            "error",
            "2 errors in 1 file: training will refuse to start",
        ),
        ([("nothing-to-learn", "", "nothing")], "error", "1 error: training will refuse to start"),
    ],
)
def test_verdict_is_said_in_words(make_audit, tmp_path, entries, kind, words):
    page = page_of(make_audit(findings=found(*entries)), tmp_path)
    (verdict,) = page.with_class("verdict")
    assert verdict["class"] == f"verdict is-{kind}"
    assert words in page.text


def test_header_names_source_task_format_and_figures(make_audit, tmp_path):
    text = page_of(make_audit(findings=many_findings()), tmp_path).text
    for words in ("recipes/streets.yaml", "Tasksegmentation", "Formatlist", ROOT):
        assert words in text
    for words in ("Training pictures60", "Validation pictures20", "Classes3", "Errors1,240", "Warnings121"):
        assert words in text
    # Two splits of 7,500 pixels of each of two classes.
    assert "Labelled pixels30,000" in text


def test_large_numbers_of_pixels_are_said_in_millions(make_audit, tmp_path):
    splits = (split("train", [60_000_000, 3_400_000, 0]),)
    assert "Labelled pixels, millions63.4" in page_of(make_audit(splits=splits), tmp_path).text


def test_findings_stand_by_kind_with_severity_count_and_advice(make_audit, tmp_path):
    page = page_of(make_audit(findings=many_findings()), tmp_path)
    severities = [attributes["class"].split()[1] for attributes in page.with_class("finding")]
    assert severities == ["is-error"] * 4 + ["is-warning"] * 2 + ["is-note"]
    assert "ErrorMask values or colours that the label map does not have1,234" in page.text
    assert "WarningPictures that are nearly the same120" in page.text
    # One piece of advice for all files of a kind is said once, different ones with each file.
    assert page.text.count("or set unknown: ignore.") == 1
    assert ["a.xml", 'the class "carr" is not knownDid you mean "car"?'] in page.rows
    assert ["the whole set", "moped never occurs"] in page.rows
    assert ["train.txt:14", "has 3 parts, not 2"] in page.rows


def test_long_kinds_are_folded_and_what_was_dropped_is_said(make_audit, tmp_path):
    page = page_of(make_audit(findings=many_findings()), tmp_path)
    assert sum(row[0].startswith("masks/") for row in page.rows) == KEPT_PER_CODE
    assert "Show 950 more" in page.text
    assert "and 234 more of this kind" in page.text
    assert "Show 70 more" in page.text
    assert page.text.count("more of this kind") == 1
    # 1,000 masks that were kept, two files that cannot be read, one list, two annotations.
    assert "1,240 errors in at least 1,005 files" in page.text


def test_errors_are_open_and_long_warnings_are_closed(make_audit, tmp_path):
    page = page_of(make_audit(findings=many_findings()), tmp_path)
    opened = ["open" in attributes for attributes in page.with_class("finding")]
    assert opened == [True] * 4 + [True, False, True]


def test_split_of_a_finding_is_shown(make_audit, tmp_path):
    findings = Findings()
    findings.extend(found(("alpha", "a.png", "has alpha")), split="val")
    assert ["a.png val", "has alpha"] in page_of(make_audit(findings=findings), tmp_path).rows


def test_names_that_look_like_markup_are_shown_and_not_obeyed(make_audit, tmp_path):
    guess = Guess("masks", EVIL, 0.5, EVIL)
    audit = make_audit(
        (EVIL, "a & b"),
        source=f"/data/{EVIL}",
        guesses=(guess,),
        decisions=(EVIL,),
        findings=found(("alpha", EVIL, EVIL, EVIL), ("alpha", LONG, EVIL, "other")),
        previews=(Preview(f'"><img src=x>{EVIL}', "train", picture(0)),),
    )
    page = page_of(audit, tmp_path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert len(page.all("img")) == 1
    assert page.text.count(EVIL) >= 9
    assert LONG in page.text


def test_file_names_that_are_no_text_do_not_stop_the_page(make_audit, tmp_path):
    audit = make_audit(findings=found(("alpha", b"caf\xe9.png".decode("utf-8", "surrogateescape"), "has alpha")))
    assert ["caf?.png", "has alpha"] in page_of(audit, tmp_path).rows


def test_what_was_worked_out_of_a_folder_is_shown_with_its_confidence(make_audit, tmp_path):
    guesses = (
        Guess("layout", "pictures and masks in two folders", 0.98, "120 of 120 stems agree"),
        Guess("masks", "RGB colours, saved with loss", 0.55, "9 colours cover 99.2% of the pixels"),
    )
    decisions = ("Value 7 (2 of 120 masks) is under `ignore`.",)
    page = page_of(make_audit(guesses=guesses, decisions=decisions), tmp_path)
    assert "pictures and masks in two folders 120 of 120 stems agree98%" in page.text
    assert "RGB colours, saved with loss Unsure9 colours cover 99.2% of the pixels55%" in page.text
    assert "Value 7 (2 of 120 masks) is under ignore." in page.text
    assert "style" in page.with_class("bar")[0]
    assert [bar["style"] for bar in page.with_class("bar")[:2]] == ["width:98.0%", "width:55.0%"]
    assert "worked out" not in page_of(make_audit(), tmp_path).text.lower()


def test_classes_show_share_pictures_and_weights(make_audit, tmp_path):
    splits = (
        split("train", [6_000, 3_990, 10, 0, 0], images=60, ignored=2_500),
        split("val", [100, 0, 0, 5, 0], images=20),
    )
    weights = {"median_frequency": (0.5, 1.0, 200.4, np.nan, np.nan), "enet": (1.4, 2.03, 50.2, np.nan, np.nan)}
    audit = make_audit(("road", "car", "dog", "tram", "moped"), splits=splits, class_weights=weights)
    page = page_of(audit, tmp_path)
    # Shares: 6,000, 3,990 and 10 of 10,000 pixels. A class cannot be in more pictures than there are.
    assert ["road", "60.0%", "60", "20", "0.5", "1.4"] in page.rows
    assert ["car", "39.9%", "60", "0", "1", "2.03"] in page.rows
    assert ["dog", "0.10%", "10", "0", "200", "50.2"] in page.rows
    assert ["tram", "not in training", "0", "5", "–", "–"] in page.rows
    assert ["moped", "never occurs", "0", "0", "–", "–"] in page.rows
    assert [bar["style"] for bar in page.with_class("bar")][:3] == ["width:100.0%", "width:66.5%", "width:0.2%"]
    assert len(page.with_class("absent")) == 1
    assert "nan" not in page.text.lower()
    # 2,500 of 12,500.
    assert "20.0% of the training pixels count in neither" in page.text


def test_boxes_are_counted_where_the_labels_are_boxes(make_audit, tmp_path):
    splits = (
        split("train", [2_237, 155, 0], objects=True, images=205),
        split("val", [1_113, 0, 0], objects=True, images=87),
    )
    page = page_of(make_audit(("RBC", "WBC", "other"), "detection", splits=splits), tmp_path)
    assert "Labelled boxes3,505" in page.text
    # 2,237 and 155 of 2,392.
    assert ["RBC", "93.5%", "2,237", "205", "87"] in page.rows
    assert ["WBC", "6.5%", "155", "155", "0"] in page.rows


def test_pictures_are_counted_where_the_labels_are_categories(make_audit, tmp_path):
    none = np.zeros(2, np.int64)
    splits = (SplitSummary("train", 40, {(32, 32): 40}, none, 0, np.array([30, 10]), none),)
    page = page_of(make_audit(("cat", "dog"), "classification", splits=splits), tmp_path)
    assert ["cat", "75.0%", "30"] in page.rows
    assert "Labelled" not in page.text


def test_one_size_is_said_and_several_are_drawn(make_audit, tmp_path):
    one = page_of(make_audit(mean=None, std=None), tmp_path)
    assert "480 × 360 pixels" in one.text
    assert one.all("figure") == []
    sizes = {(800 + i, 550): 150 - i for i in range(150)}
    many = page_of(make_audit(splits=(split("train", [5, 5, 0], sizes=sizes),)), tmp_path)
    assert "150 sizes; widths from 550 to 550 pixels, heights from 800 to 949." in many.text
    # The ten most frequent sizes hold 150 + ... + 141 of 150 * 151 / 2 pictures.
    assert "550 × 800150550 × 801149" in many.text
    assert f"other sizes{150 * 151 // 2 - sum(range(141, 151)):,}" in many.text
    assert len(many.all("figure")) == 3


def test_mean_and_standard_deviation_are_shown(make_audit, tmp_path):
    text = page_of(make_audit(), tmp_path).text
    for words in ("red 0.410 ± 0.300", "green 0.420 ± 0.290", "blue 0.430 ± 0.280"):
        assert words in text


def test_suggested_anchors_can_be_copied_into_a_configuration(make_audit, tmp_path):
    shapes = ((13.25, 14.5), (30.123456, 29.0), (55.0, 12.0))
    audit = make_audit(task="detection", anchors=AnchorSummary(2392, 0.81234, shapes, 0.96, 4))
    page = page_of(audit, tmp_path)
    assert "81.2%" in page.text
    assert "96.0%" in page.text
    (copied,) = re.findall(r"detection:\n.*?levels: \d+\n", page.text, re.DOTALL)
    read = DetectionConfig.model_validate(yaml.safe_load(copied)["detection"])
    assert read.levels == 4
    np.testing.assert_allclose(read.anchors, shapes, rtol=1e-3)


def test_configured_anchors_that_do_as_well_are_praised(make_audit, tmp_path):
    equal = AnchorSummary(2392, 0.9612, ((30.0, 30.0),), 0.9615, 4)
    text = page_of(make_audit(task="detection", anchors=equal), tmp_path).text
    assert "The configured ones do as well" in text
    assert "To use the suggested ones" not in text


def test_anchor_shapes_are_drawn_to_one_scale(make_audit, tmp_path):
    shapes = ((10.0, 20.0), (40.0, 40.0))
    anchors = AnchorSummary(10, 0.5, shapes, 0.9, 4)
    audit = make_audit(task="detection", anchors=anchors, mean=None, std=None)
    drawn = [(float(rect["width"]), float(rect["height"])) for rect in page_of(audit, tmp_path).all("rect")]
    # The paper's nine come first; the largest of all is 32 * 2^(2/3) * 2^(1/2) = 71.8 pixels long.
    assert len(drawn) == 9 + 2
    scale = max(max(drawn)) / (32 * 2 ** (2 / 3) * 2**0.5)
    np.testing.assert_allclose(drawn[-2:], np.array(shapes) * scale, atol=0.06)


def test_contact_sheet_shows_the_pictures_of_each_split(make_audit, tmp_path):
    previews = (Preview("a/1", "train", picture(1)), Preview("b/2", "val", picture(2, (320, 200))))
    page = page_of(make_audit(previews=previews), tmp_path)
    shown = page.all("img")
    assert [(image["alt"], image["loading"]) for image in shown] == [
        ("a/1 with its labels", "lazy"),
        ("b/2 with its labels", "lazy"),
    ]
    for image, preview in zip(shown, previews, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))), dtype=int)
        assert pixels.shape == preview.image.shape
        assert np.abs(pixels - preview.image).mean() < 6
    assert page.text.index("Traininga/1") < page.text.index("Validationb/2")


def test_page_with_every_preview_and_a_thousand_findings_stays_small(make_audit, tmp_path):
    previews = tuple(Preview(f"images/{i:04}", "train", picture(i, (320, 320))) for i in range(48))
    path = write_audit_page(make_audit(findings=many_findings(), previews=previews), tmp_path / "audit.html")
    assert path.stat().st_size < 3_000_000


@pytest.mark.parametrize("count", [1, 60, 254])
def test_page_works_with_any_number_of_classes(make_audit, tmp_path, count):
    page = page_of(make_audit([f"class {i}" for i in range(count)]), tmp_path)
    assert sum(row[0].startswith("class ") for row in page.rows) == count


def test_page_works_where_no_label_map_could_be_had(make_audit, tmp_path):
    nothing = replace(
        make_audit(()), splits=(split("train", [], images=5),), findings=found(("structure", "", "no labels"))
    )
    page = page_of(nothing, tmp_path)
    assert "1 error: training will refuse to start" in page.text
    assert "classes" not in {attributes.get("id") for _, attributes in page.elements}
    empty = replace(nothing, splits=(), mean=None, std=None, source=".")
    assert "Audit of ." in page_of(empty, tmp_path).text


def test_a_new_page_replaces_the_former_one(make_audit, tmp_path):
    page_of(make_audit(source="first.yaml"), tmp_path)
    assert "second.yaml" in page_of(make_audit(source="second.yaml"), tmp_path).text
    assert [path.name for path in tmp_path.iterdir()] == ["audit.html"]
