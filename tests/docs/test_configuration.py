"""The page of settings is made from the schema; this keeps the two from drifting apart."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def page() -> str:
    """The page as the script makes it now."""
    rendered: str = runpy.run_path(str(DOCS / "make_configuration.py"))["render"]()
    return rendered


def test_the_committed_page_is_what_the_schema_says_now(page: str) -> None:
    committed = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert committed == page, "run: python docs/make_configuration.py"


@pytest.mark.parametrize(
    "row",
    [
        "| `name` | text | required | Name of the run folder below `runs/`",
        "| `data.val_fraction` | number ≥ 0 < 1 | `0.0` |",
        "| `data.size` | [integer ≥ 1, integer ≥ 1] | `[512, 512]` |",
        "| `training.evaluate_every` | integer ≥ 1 or text | `1` |",
        "| `optimizer.name` | `adam`, `adamw`, `sgd`, `rmsprop` | `adamw` |",
        "| `mask_suffix` | text | not set |",
        "| `first_stage` | mapping | not set |",
    ],
    ids=lambda row: row.split("`")[1],
)
def test_a_row_tells_key_type_default_and_meaning(page: str, row: str) -> None:
    assert row in page
