"""An audit as text for a terminal."""

from __future__ import annotations

from itertools import groupby

from pixbox.auditing.result import Audit, SplitSummary
from pixbox.config import Task
from pixbox.data.annotation import size_text
from pixbox.data.findings import CODES, Finding

_SHOWN_FILES = 5
_SHOWN_CLASSES = 40
_SHOWN_SIZES = 3


def in_words(audit: Audit) -> str:
    """What was worked out, what the data hold, what is wrong (errors last, nearest to the prompt), and a verdict."""
    parts = [_inferred(audit), _data(audit), _classes(audit), _anchors(audit), _findings(audit), verdict(audit)]
    return "\n\n".join(part for part in parts if part)


def verdict(audit: Audit) -> str:
    """One sentence: may training start, and how much was found."""
    counts = {severity: audit.findings.count(severity) for severity in ("error", "warning", "note")}
    found = ", ".join(_many(n, severity) for severity, n in counts.items() if n)
    if not found:
        return "Clean: nothing to mend."
    if not counts["error"]:
        return f"{found}: training can start."
    if audit.findings.counts["nothing-to-learn"]:
        return f"{found}: as it is, no picture can be trained on. `--fix OUT` mends what can be mended in a copy."
    if audit.guesses:
        recipe = "A recipe (`--write-recipe FILE`) leaves out what cannot be used"
        return f"{found}. {recipe}; `--fix OUT` writes a cleaned copy."
    return f"{found}: training would refuse to start. `--fix OUT` writes a cleaned copy."


def _inferred(audit: Audit) -> str:
    lines = [f"Worked out from {audit.source}:"] if audit.guesses else []
    for guess in audit.guesses:
        lines.append(f"  {guess.about + ':':13} {guess.value} ({guess.confidence:.0%} sure)")
        lines.append(f"  {'':13} {guess.reason}")
    lines += [f"  decided:      {decision}" for decision in audit.decisions]
    return "\n".join(lines)


def _data(audit: Audit) -> str:
    data = audit.experiment.data
    lines = [f"{audit.experiment.task}, format {data.format}, {data.root}"]
    for split in audit.splits:
        sizes = sorted(split.sizes.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{size_text(size)} ({count})" for size, count in sizes[:_SHOWN_SIZES])
        others = len(sizes) - _SHOWN_SIZES
        more = f" and {_many(others, 'more size')}" if others > 0 else ""
        lines.append(f"  {split.name:6} {_many(split.images, 'picture')}{': ' if shown else ''}{shown}{more}")
    if audit.mean is not None and audit.std is not None:
        mean, std = (" ".join(f"{value:.3f}" for value in values) for values in (audit.mean, audit.std))
        lines.append(f"  mean   {mean}   std {std} (red, green, blue of the training pictures, 0 to 1)")
    return "\n".join(lines)


def _classes(audit: Audit) -> str:
    if audit.labels is None or not audit.splits:
        return ""
    names = audit.labels.names
    width = min(24, max(len(name) for name in names))
    task = audit.experiment.task
    head = f"  {'class':{width}}"
    for split in audit.splits:
        head += "".join(f"  {title:>14}" for title in _columns(split, task))
    weights = audit.class_weights.get("median_frequency")
    lines = [head + ("  median-frequency weight" if weights else "")]
    for index, name in enumerate(names[:_SHOWN_CLASSES]):
        line = f"  {name[:width]:{width}}"
        for split in audit.splits:
            line += "".join(f"  {amount:>14}" for amount in _amounts(split, task, index))
        lines.append(line + (f"  {weights[index]:.4f}" if weights and weights[index] == weights[index] else ""))
    if len(names) > _SHOWN_CLASSES:
        lines.append(f"  and {len(names) - _SHOWN_CLASSES} more classes (--html, --json)")
    ignored = sum(split.ignored_pixels for split in audit.splits)
    total = ignored + sum(int(split.pixels.sum()) for split in audit.splits)
    if ignored:
        lines.append(f"  {'ignored':{width}}  {ignored / total:14.2%}")
    return "\n".join(lines)


def _columns(split: SplitSummary, task: Task) -> list[str]:
    amount = {"segmentation": ["pixels"], "detection": ["objects"], "classification": []}[task]
    return [f"{split.name} {what}" for what in (*amount, "pictures")]


def _amounts(split: SplitSummary, task: Task, index: int) -> list[str]:
    """What a split holds of a class, under its ``_columns``."""
    pictures = f"{int(split.images_with_class[index]):,}"
    if task == "segmentation":
        return [f"{split.pixels[index] / max(1, split.pixels.sum()):.2%}", pictures]
    return [f"{int(split.objects[index]):,}", pictures] if task == "detection" else [pictures]


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _anchors(audit: Audit) -> str:
    anchors = audit.anchors
    if anchors is None:
        return ""
    text = f"Anchors reach {anchors.recall:.1%} of {anchors.boxes:,} training boxes"
    if anchors.suggested_recall <= anchors.recall:
        return f"{text}; k-means finds none that reach more."
    shapes = ", ".join(f"[{width:.1f}, {height:.1f}]" for width, height in anchors.suggested)
    return (
        f"{text}; {anchors.suggested_recall:.1%} with\n  detection: {{anchors: [{shapes}], levels: {anchors.levels}}}"
    )


def _findings(audit: Audit) -> str:
    groups = [(code, list(found)) for code, found in groupby(audit.findings, key=lambda finding: finding.code)]
    return "\n\n".join(_group(code, found, audit.findings.counts[code]) for code, found in reversed(groups))


def _group(code: str, findings: list[Finding], count: int) -> str:
    lines = [f"{CODES[code].severity.upper()}: {CODES[code].title} ({count:,}) [{code}]"]
    shown = findings[:_SHOWN_FILES]
    lines += [f"  {finding.file}: {finding.message}" if finding.file else f"  {finding.message}" for finding in shown]
    if count > _SHOWN_FILES:
        lines.append(
            f"  and {count - _SHOWN_FILES:,} more (--json lists {'them' if count == len(findings) else 'most'})"
        )
    for hint in dict.fromkeys(finding.hint for finding in shown if finding.hint):
        lines += [f"  > {line}" for line in hint.splitlines()]
    return "\n".join(lines)
