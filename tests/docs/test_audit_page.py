"""The page about the audit lists every kind of finding, with its severity."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixbox.data.findings import CODES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["audit.md", "audit.zh-CN.md"])
def test_every_code_stands_in_the_table(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    assert {row[1].strip(" `") for row in rows} == set(CODES)


def test_the_english_table_says_what_the_program_says() -> None:
    text = (DOCS / "audit.md").read_text(encoding="utf-8")
    for code, kind in CODES.items():
        assert f"| `{code}` | {kind.severity} | {kind.title} |" in text
