"""The page of an audit: the verdict, what to mend, and what the data hold. Everything that a user named is escaped."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixbox.auditing.result import AnchorSummary, Audit, Guess, Preview, SplitSummary
from pixbox.data.findings import CODES, Finding, Findings
from pixbox.labels import LabelMap
from pixbox.report.charts import Bar, Spread, bar_chart, scatter_chart, shape_drawings, spread_chart
from pixbox.report.html import (
    class_attribute,
    in_millions,
    legend,
    measure,
    percent,
    photo_uri,
    prose,
    swatch,
    tile,
    write_page,
)
from pixbox.tasks.detection import anchors_of

_SHOWN_FINDINGS = 50
# Longer groups of warnings start closed, so that they do not bury the rest of the page.
_OPEN_WARNINGS = 10
_SHOWN_SIZES = 10
_LEGEND_CLASSES = 24
_UNSURE = 0.8
_PREVIEW_SIDE, _PREVIEW_QUALITY = 320, 80
_SPLIT_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}
_WEIGHTINGS = {"median_frequency": "Median frequency", "enet": "ENet", "inverse": "Inverse"}
_ICONS = {"error": "M6.5 6.5l7 7M13.5 6.5l-7 7", "warning": "M10 5v6.5M10 14.4v.6", "clean": "M5.5 10.5l3 3 6-7"}


def write_audit_page(audit: Audit, path: Path) -> Path:
    """Write an audit as one HTML file, whole or not at all, and return its path.

    The page needs no network and no other file.

    Raises:
        OSError: the file cannot be written.
    """
    sections = {
        "Worked out": _worked_out(audit),
        "Findings": _findings(audit),
        "Classes": _classes(audit),
        "Pictures": _pictures(audit),
        "Anchors": _anchors(audit, audit.anchors) if audit.anchors else "",
        "Contact sheet": _contact_sheet(audit),
    }
    written = {title: content for title, content in sections.items() if content}
    cards = [f'<section class="card" id="{_anchor(title)}">{content}</section>' for title, content in written.items()]
    write_page(path, f"Audit of {_name(audit)}", [_header(audit, list(written)), *cards])
    return path


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _name(audit: Audit) -> str:
    return Path(audit.source).name or audit.source


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _header(audit: Audit, titles: Sequence[str]) -> str:
    data = audit.experiment.data
    facts = {"Source": audit.source, "Task": audit.experiment.task, "Format": data.format, "Data": data.root}
    shown = "".join(f"<div><dt>{name}</dt><dd>{_path(value)}</dd></div>" for name, value in facts.items())
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in titles)
    return (
        f'<header><p class="eyebrow">Audit</p><h1>{escape(_name(audit))}</h1><dl class="facts">{shown}</dl>'
        f'{_verdict(audit)}<dl class="tiles many">{_tiles(audit)}</dl>'
        f"{f'<nav>{links}</nav>' if len(titles) > 1 else ''}</header>"
    )


def _verdict(audit: Audit) -> str:
    errors, warnings, notes = (audit.findings.count(severity) for severity in ("error", "warning", "note"))
    rest = " and ".join(_counted(n, noun) for n, noun in ((warnings, "warning"), (notes, "note")) if n)
    if errors:
        kind = "error"
        words = f"{_counted(errors, 'error')}{_in_files(audit.findings)}: training will refuse to start"
        advice = "Mend what is listed below, or leave files out with `data.exclude`."
        advice += f" {rest} beside them would not keep it from starting." if rest else ""
    elif warnings:
        kind, words = "warning", f"No errors, {_counted(warnings, 'warning')}"
        advice = "Training can start. The warnings tell what the model will not learn, or learn wrong."
    else:
        kind, words = "clean", "Clean"
        advice = f"Nothing stands in the way of training{f'; {rest} below' if rest else ''}."
    sign = (
        f'<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="9"/><path d="{_ICONS[kind]}"/></svg>'
    )
    seconds = f"{audit.seconds:,.0f} s" if audit.seconds >= 10 else f"{audit.seconds:.1f} s"
    return (
        f'<div class="verdict is-{kind}">{sign}<div><p class="words">{words}</p>'
        f"<p>{prose(advice)} The audit took {seconds}.</p></div></div>"
    )


def _in_files(findings: Findings) -> str:
    """`` in 2 files``, as far as the errors name files; at least so many, where not all errors were kept."""
    errors = findings.errors()
    # A line or an object may follow: "train.txt:14", "0007.xml: object 3".
    files = {re.sub(r":\d+$|: .*$", "", finding.file) for finding in errors if finding.file}
    if not files:
        return ""
    return f" in {'at least ' if findings.count('error') > len(errors) else ''}{_counted(len(files), 'file')}"


def _tiles(audit: Audit) -> str:
    errors, warnings = audit.findings.count("error"), audit.findings.count("warning")
    tiles = [tile(f"{_SPLIT_NAMES[split.name]} pictures", f"{split.images:,}") for split in audit.splits]
    if audit.labels:
        tiles.append(tile("Classes", f"{len(audit.labels)}"))
    tiles += [
        tile("Errors", f"{errors:,}", "is-error" if errors else ""),
        tile("Warnings", f"{warnings:,}", "is-warning" if warnings else ""),
    ]
    if audit.labels and audit.experiment.task != "classification":
        amount = sum(int(_amounts(audit, split).sum()) for split in audit.splits)
        tiles.append(tile(*in_millions(f"Labelled {_unit(audit)}", amount)))
    return "".join(tiles)


def _unit(audit: Audit) -> str:
    """What the labels of the task are counted in."""
    return {"segmentation": "pixels", "detection": "boxes", "classification": "pictures"}[audit.experiment.task]


def _amounts(audit: Audit, split: SplitSummary) -> NDArray[np.int64]:
    """(N,) what the split has of each class, in that unit."""
    return {"pixels": split.pixels, "boxes": split.objects, "pictures": split.images_with_class}[_unit(audit)]


def _worked_out(audit: Audit) -> str:
    if not audit.guesses and not audit.decisions:
        return ""
    guesses = "".join(_guess(guess) for guess in audit.guesses)
    decisions = "".join(f"<li>{prose(decision)}</li>" for decision in audit.decisions)
    content = "<h2>What was worked out</h2>"
    if guesses:
        content += (
            '<p class="note">A folder does not say what its files mean. This is what they look like, and how sure that '
            f'is.</p><ul class="guesses">{guesses}</ul>'
        )
    if decisions:
        content += f'<h3>What was decided, so that training can start</h3><ul class="decisions">{decisions}</ul>'
    return content


def _guess(guess: Guess) -> str:
    unsure = "" if guess.confidence >= _UNSURE else '<span class="badge is-warning">Unsure</span>'
    return (
        f'<li><p class="about">{escape(guess.about)}</p><div><p class="value">{prose(guess.value)} {unsure}</p>'
        f'<p class="note">{prose(guess.reason)}</p></div>{measure(guess.confidence, f"{guess.confidence:.0%}")}</li>'
    )


def _findings(audit: Audit) -> str:
    groups = [
        _group(code, list(found), audit.findings.counts[code], audit.experiment.data.root)
        for code, found in itertools.groupby(audit.findings, key=lambda finding: finding.code)
    ]
    if not groups:
        return ""
    note = f"Errors first. Paths are relative to {_path(audit.experiment.data.root)}."
    return f'<h2>Findings</h2><p class="note">{note}</p>{"".join(groups)}'


def _group(code: str, found: Sequence[Finding], count: int, root: str) -> str:
    """One kind of finding: how grave, how many, what to do, and the files."""
    kind = CODES[code]
    hints = {finding.hint for finding in found if finding.hint}
    # One piece of advice stands at the head; different ones stand with their files.
    common = f'<span class="hint">{prose(next(iter(hints)))}</span>' if len(hints) == 1 else ""
    rows = [_row(finding, root, with_hint=len(hints) > 1) for finding in found]
    tables = _table(rows[:_SHOWN_FINDINGS])
    if rows[_SHOWN_FINDINGS:]:
        hidden = f"Show {len(rows) - _SHOWN_FINDINGS:,} more"
        tables += f"<details><summary>{hidden}</summary>{_table(rows[_SHOWN_FINDINGS:])}</details>"
    if count > len(found):
        tables += f'<p class="note more">and {count - len(found):,} more of this kind, which are only counted</p>'
    is_open = " open" if kind.severity == "error" or count <= _OPEN_WARNINGS else ""
    return (
        f'<details class="finding is-{kind.severity}"{is_open}><summary><span class="head">'
        f'<span class="badge is-{kind.severity}">{kind.severity.capitalize()}</span>'
        f'<span class="title">{escape(kind.title[:1].upper() + kind.title[1:])}</span>'
        f'<span class="count">{count:,}</span></span>'
        f'{common}</summary><div class="files">{tables}</div></details>'
    )


def _table(rows: Sequence[str]) -> str:
    head = '<thead><tr><th scope="col">File</th><th scope="col">What was found</th></tr></thead>'
    return f'<table class="found">{head}<tbody>{"".join(rows)}</tbody></table>'


def _row(finding: Finding, root: str, *, with_hint: bool) -> str:
    file = finding.file.removeprefix(root.rstrip("/") + "/")
    where = _path(file) if file else '<span class="tag">the whole set</span>'
    split = f' <span class="tag">{escape(finding.split)}</span>' if finding.split else ""
    hint = f'<p class="note">{prose(finding.hint)}</p>' if with_hint and finding.hint else ""
    return f"<tr><td>{where}{split}</td><td>{prose(finding.message)}{hint}</td></tr>"


def _path(path: str) -> str:
    """A path that may be broken into lines after its slashes."""
    return escape(path).replace("/", "/<wbr>")


def _classes(audit: Audit) -> str:
    if audit.labels is None or not audit.splits:
        return ""
    train, unit = audit.splits[0], _unit(audit)
    boxes = '<th scope="col" class="number">Boxes</th>' if unit == "boxes" else ""
    weights = [_WEIGHTINGS.get(name, name) for name in audit.class_weights]
    groups = f'<td colspan="{3 if boxes else 2}"></td>'
    groups += f'<th colspan="{len(audit.splits)}" scope="colgroup">Pictures with it</th>'
    if weights:
        groups += f'<th colspan="{len(weights)}" scope="colgroup">Suggested class weights</th>'
    head = f'<th scope="col">Class</th><th scope="col">Share of training {unit}</th>{boxes}' + "".join(
        f'<th scope="col" class="number">{escape(name)}</th>'
        for name in [*(_SPLIT_NAMES[split.name] for split in audit.splits), *weights]
    )
    rows = "".join(_class_row(audit, audit.labels, index) for index in range(len(audit.labels)))
    return (
        f'<h2>Classes</h2><p class="note">{_about_classes(audit, train, bool(weights))}</p>'
        '<div class="scroll tall"><table class="classes wide">'
        f'<thead><tr class="groups">{groups}</tr><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _about_classes(audit: Audit, train: SplitSummary, weighted: bool) -> str:
    text = "The longest bar is the most frequent class."
    if train.ignored_pixels:
        share = train.ignored_pixels / (int(train.pixels.sum()) + train.ignored_pixels)
        text += f" {escape(_share(share))} of the training pixels count in neither loss nor metric."
    if weighted:
        names = ", ".join(f"<code>{escape(name)}</code>" for name in audit.class_weights)
        text += f" To use weights, set <code>loss.class_weights</code>: {names}."
    return text


def _class_row(audit: Audit, labels: LabelMap, index: int) -> str:
    amounts = _amounts(audit, audit.splits[0])
    amount = int(amounts[index])
    somewhere = any(_amounts(audit, split)[index] for split in audit.splits)
    if amount:
        share = measure(amount / int(amounts.max()), _share(amount / int(amounts.sum())))
    else:
        share = "not in training" if somewhere else "never occurs"
    numbers = [f"{amount:,}"] if _unit(audit) == "boxes" else []
    numbers += [f"{split.images_with_class[index]:,}" for split in audit.splits]
    numbers += [_weight(weights[index]) for weights in audit.class_weights.values()]
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    name = f'<span class="name">{swatch(labels.colors[index])}<span>{escape(labels.names[index])}</span></span>'
    return (
        f"<tr{class_attribute('' if somewhere else 'absent')}>"
        f'<th scope="row">{name}</th><td class="share">{share}</td>{cells}</tr>'
    )


def _share(share: float) -> str:
    """A share above 0 as percent, with as many places as it needs."""
    if share < 0.0001:
        return "<0.01%"
    return f"{share:.2%}" if share < 0.01 else f"{share:.1%}"


def _weight(weight: float) -> str:
    if not np.isfinite(weight):
        return "–"
    return f"{weight:,.0f}" if weight >= 100 else f"{weight:.3g}"


def _pictures(audit: Audit) -> str:
    sizes: Counter[tuple[int, int]] = Counter()
    for split in audit.splits:
        sizes.update({(width, height): count for (height, width), count in split.sizes.items()})
    charts = []
    if len(sizes) > 1:
        charts.append(_size_bars(sizes))
    if len(sizes) > _SHOWN_SIZES:
        charts.append(scatter_chart("Width and height", "width, pixels", "height, pixels", sizes))
    if audit.mean and audit.std:
        spreads = [
            Spread(name, mean, std, name)
            for name, mean, std in zip(("red", "green", "blue"), audit.mean, audit.std, strict=True)
        ]
        charts.append(spread_chart("Mean ± standard deviation in training", spreads))
    if not charts and not sizes:
        return ""
    return f'<h2>Pictures</h2><p class="note">{_about_sizes(sizes)}</p><div class="charts">{"".join(charts)}</div>'


def _about_sizes(sizes: Counter[tuple[int, int]]) -> str:
    if not sizes:
        return ""
    if len(sizes) == 1:
        ((width, height),) = sizes
        return f"One size, width × height: {width} × {height} pixels."
    widths, heights = zip(*sizes, strict=True)
    return (
        f"{len(sizes):,} sizes; widths from {min(widths):,} to {max(widths):,} pixels, heights from {min(heights):,} "
        f"to {max(heights):,}."
    )


def _size_bars(sizes: Counter[tuple[int, int]]) -> str:
    top = sizes.most_common(_SHOWN_SIZES)
    bars = [Bar(f"{width} × {height}", count, f"{count:,}") for (width, height), count in top]
    if len(sizes) > len(top):
        rest = sizes.total() - sum(count for _, count in top)
        bars.append(Bar("other sizes", rest, f"{rest:,}"))
    return bar_chart("Most frequent sizes, width × height", bars)


def _anchors(audit: Audit, summary: AnchorSummary) -> str:
    detection = audit.experiment.detection
    configured = anchors_of(detection).shapes[0]
    longest = max(side for shape in (*configured, *summary.suggested) for side in shape)
    named = detection.anchors if isinstance(detection.anchors, str) else "given"
    shapes = ", ".join(f"[{width:.4g}, {height:.4g}]" for width, height in summary.suggested)
    better = summary.suggested_recall - summary.recall >= 0.001
    advice = (
        "To use the suggested ones, copy this into the configuration"
        if better
        else "The configured ones do as well; the suggested ones, as they would be written"
    )
    yaml = f"detection:\n  anchors: [{shapes}]\n  levels: {summary.levels}\n"
    return (
        f'<h2>Anchors</h2><p class="note">Of {summary.boxes:,} training boxes at the size that the network sees, the '
        f"share that an anchor overlaps with an IoU of at least {detection.positive_iou:g}. Only those boxes can be "
        "learned well. The shapes are those of the first level, in pixels, drawn to one scale; they double from level "
        "to level.</p>"
        f'<div class="pair"><div><h3>Configured ({named})</h3>{measure(summary.recall, percent(summary.recall))}'
        f"{shape_drawings(configured, longest)}</div>"
        f"<div><h3>Suggested</h3>{measure(summary.suggested_recall, percent(summary.suggested_recall))}"
        f"{shape_drawings(summary.suggested, longest)}</div></div>"
        f"<h3>{advice}</h3><pre>{escape(yaml)}</pre>"
    )


def _contact_sheet(audit: Audit) -> str:
    if not audit.previews:
        return ""
    ratio = float(np.median([preview.image.shape[1] / preview.image.shape[0] for preview in audit.previews]))
    groups = "".join(
        f'<h3>{_SPLIT_NAMES[split]}</h3><div class="sheet" style="--ratio:{min(max(ratio, 0.5), 2):.3f}">'
        f"{''.join(_preview(preview) for preview in previews)}</div>"
        for split, previews in itertools.groupby(audit.previews, key=lambda preview: preview.split)
    )
    return (
        f'<h2>Contact sheet</h2><p class="note">Some pictures with their labels laid over them. Do the labels fit?</p>'
        f"{_legend(audit)}{groups}"
    )


def _legend(audit: Audit) -> str:
    """The colours of the classes that occur, unless they are too many to be told apart."""
    if audit.labels is None:
        return ""
    seen = np.flatnonzero(sum(_amounts(audit, split) for split in audit.splits))
    if len(seen) > _LEGEND_CLASSES:
        return ""
    return legend((audit.labels.colors[index], audit.labels.names[index]) for index in seen)


def _preview(preview: Preview) -> str:
    height, width = preview.image.shape[:2]
    return (
        f'<figure><img src="{photo_uri(preview.image, _PREVIEW_SIDE, _PREVIEW_QUALITY)}" width="{width}" '
        f'height="{height}" alt="{escape(preview.id)} with its labels" loading="lazy">'
        f"<figcaption>{_path(preview.id)}</figcaption></figure>"
    )
