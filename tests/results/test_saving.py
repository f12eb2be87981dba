from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from pixbox.config import Task
from pixbox.errors import ConfigError
from pixbox.results.saving import EXTRAS, check_extras, extra_file, extras_of, needs_probabilities

DOCS = Path(__file__).parents[2] / "docs"


def test_every_extra_belongs_to_tasks_that_there_are_and_no_two_share_a_file() -> None:
    assert {task for extra in EXTRAS.values() for task in extra.tasks} == set(get_args(Task))
    assert len({extra.ending for extra in EXTRAS.values()}) == len(EXTRAS)


def test_what_cannot_be_saved_is_refused_with_what_can_be() -> None:
    check_extras(["overlay", "colors"], "segmentation")
    check_extras(["classes", "colors"])
    with pytest.raises(ConfigError, match=r'--save: "polygon" cannot be saved\. Did you mean "polygons"'):
        check_extras(["polygon"])
    with pytest.raises(ConfigError) as caught:
        check_extras(["overlay", "colors", "areas"], "detection")
    (fault,) = caught.value.faults
    assert fault.what == "a result of detection has no `colors`, `areas`"
    assert fault.hint == "It has `overlay`, `side_by_side`, `geojson`."


def test_probabilities_are_needed_for_what_is_made_of_them() -> None:
    assert {name for name in EXTRAS if needs_probabilities([name])} == {"probabilities", "confidence", "entropy"}
    assert not needs_probabilities([])
    assert needs_probabilities(["overlay", "entropy"])


def test_extras_lie_beside_the_file_of_their_picture() -> None:
    assert extra_file(Path("a/x.jpg.png"), "overlay") == Path("a/x.jpg_overlay.png")
    assert extra_file(Path("a/x.json"), "geojson") == Path("a/x.geojson")


@pytest.mark.parametrize("page", ["outputs.md", "outputs.zh-CN.md"])
def test_the_page_lists_every_extra_with_its_file_and_tasks(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(?:<stem>)?([^`]+)` \| ([^|]+) \|", (DOCS / page).read_text("utf-8"), re.M)
    letters = {"S": "segmentation", "D": "detection", "C": "classification"}
    listed = {name: (ending, {letters[letter] for letter in tasks.split()}) for name, ending, tasks in rows}
    assert listed == {name: (extra.ending, set(extra.tasks)) for name, extra in EXTRAS.items()}


@pytest.mark.parametrize("task", get_args(Task))
def test_every_task_can_save_an_overlay(task: str) -> None:
    assert "overlay" in extras_of(task)


def test_asking_what_can_be_saved_waits_for_no_drawing() -> None:
    code = "import sys; from pixbox.results import EXTRAS; print({'numpy', 'cv2', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
