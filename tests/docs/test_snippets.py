"""What the documents show can be used: configurations and label maps validate, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pixbox.config import Experiment
from pixbox.documents import Document, parse_value, validate
from pixbox.labels import LabelMap

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def snippets(first_line: str) -> list[Any]:
    """YAML blocks whose first line (comments aside) starts so, each under the name of its page."""
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
        if re.sub(r"^(#.*)?\n", "", block, flags=re.MULTILINE).startswith(first_line)
    ]


@pytest.mark.parametrize("block", snippets("name:"))
def test_a_configuration_in_the_documents_is_valid(block: str) -> None:
    validate(Experiment, Document(parse_value(block, "")))


@pytest.mark.parametrize("block", snippets("classes:"))
def test_a_label_map_in_the_documents_is_valid(block: str) -> None:
    validate(LabelMap, Document(parse_value(block, "")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\[[^\]]*\]\(([^)]+)\)", text)]
    missing = [t for t in targets if t and "://" not in t and not (page.parent / t).exists()]
    assert missing == []
