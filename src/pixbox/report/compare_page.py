"""The page of a comparison of two runs, section by section. Everything that a user named is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pixbox.report.html import percent, write_page

if TYPE_CHECKING:
    # They need torch, which a page does not.
    from pixbox.comparison import Comparison, PictureChange
    from pixbox.metrics import Difference

_MOST_PICTURES = 24
_NAMES = {
    "miou": "mIoU",
    "pixel_accuracy": "Pixel accuracy",
    "mean_accuracy": "Mean accuracy",
    "frequency_weighted_iou": "Frequency-weighted IoU",
    "map": "mAP",
    "map_50": "AP50",
    "map_75": "AP75",
    "mar_100": "Recall with 100 boxes",
    "accuracy": "Accuracy",
    "top5_accuracy": "Top-5 accuracy",
    "class_iou": "IoU",
    "class_ap_50": "AP50",
    "class_accuracy": "Accuracy",
}
_ICONS = {
    "var(--right)": "M10 14.5v-9M6 9.5l4-4 4 4",
    "var(--wrong)": "M10 5.5v9M6 10.5l4 4 4-4",
    "var(--muted)": "M6 8h8M6 12h8",
}
# A line at zero, in the middle of the bar's track.
_TRACK = "background:linear-gradient(var(--muted),var(--muted)) center/1px 100% no-repeat var(--soft)"


def write_comparison_page(comparison: Comparison, path: Path) -> Path:
    """Write a comparison as one HTML file, whole or not at all, and return its path.

    The page needs no network and no other file.

    Raises:
        OSError: the file cannot be written.
    """
    title = f"{_name(comparison.b)} against {_name(comparison.a)}"
    write_page(
        path,
        title,
        [_header(comparison, title), _figures(comparison), _classes(comparison), _pictures(comparison), _reading()],
    )
    return path


def _name(run: str) -> str:
    return Path(run).name or run


def _header(comparison: Comparison, title: str) -> str:
    facts = {"A": comparison.a, "B": comparison.b, "Compared": comparison.counted}
    shown = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    task = f"{comparison.task.capitalize()}, two runs compared on {comparison.split}"
    return (
        f'<header><p class="eyebrow">{escape(task)}</p><h1>{escape(title)}</h1><dl class="facts">{shown}</dl>'
        f"{_verdict(comparison)}</header>"
    )


def _verdict(comparison: Comparison) -> str:
    found = comparison.figures[comparison.chief]
    name = _NAMES[comparison.chief]
    if found.is_clear:
        winner = "B" if (found.difference or 0) > 0 else "A"
        words = f"{winner} is better, by more than noise"
    else:
        words = "The two cannot be told apart on these pictures"
    numbers = f"{name} {percent(found.a)} (A) and {percent(found.b)} (B)"
    if found.interval is not None and found.difference is not None:
        numbers += (
            f", a difference of {_points(found.difference)} points; {comparison.level:.0%} interval "
            f"{_points(found.interval.low)} to {_points(found.interval.high)}."
        )
    else:
        numbers += "; there are too few pictures for an interval."
    color = _color(found)
    return (
        f'<div class="verdict" style="--kind:{color}"><svg viewBox="0 0 20 20" aria-hidden="true">'
        f'<circle cx="10" cy="10" r="9"/><path d="{_ICONS[color]}"/></svg>'
        f'<div><p class="words">{words}</p><p>{escape(numbers)}</p></div></div>'
    )


def _figures(comparison: Comparison) -> str:
    rows = [(_NAMES[name], found) for name, found in comparison.figures.items()]
    return f'<section class="card"><h2>Figures</h2>{_table("Figure", rows)}</section>'


def _classes(comparison: Comparison) -> str:
    changed = comparison.changed_classes
    moved = {name for name, _ in changed}
    rows = changed + [(name, found) for name, found in comparison.classes.items() if name not in moved]
    by_chance = len(rows) * (1 - comparison.level)
    note = f"{_NAMES[comparison.class_figure]} of each class, those that changed most first."
    if by_chance >= 0.5:
        note += f" By chance alone about {by_chance:.0f} of {len(rows)} would look clearly changed."
    return (
        f'<section class="card"><h2>Classes</h2><p class="note">{note}</p>'
        f'<div class="scroll tall">{_table("Class", rows)}</div></section>'
    )


def _table(what: str, rows: Sequence[tuple[str, Difference]]) -> str:
    ends = [
        abs(value)
        for _, found in rows
        if found.difference is not None
        for value in (found.difference, *((found.interval.low, found.interval.high) if found.interval else ()))
    ]
    widest = max(ends, default=0) or 1.0
    body = "".join(_row(name, found, widest) for name, found in rows)
    return (
        f'<table class="classes"><thead><tr><th scope="col">{what}</th><th scope="col">B − A, points</th>'
        f'<th scope="col" class="number">A</th><th scope="col" class="number">B</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _row(name: str, found: Difference, widest: float) -> str:
    shown = f'<span>{escape(name)}<br><span class="note" style="color:{_color(found)}">{found.words}</span></span>'
    head = f'<th scope="row"><span class="name">{shown}</span></th>'
    figures = f'<td class="number">{percent(found.a)}</td><td class="number">{percent(found.b)}</td>'
    if found.difference is None:
        return f'<tr class="absent">{head}<td>–</td>{figures}</tr>'
    return f'<tr>{head}<td class="score">{_bar(found, found.difference, widest)}</td>{figures}</tr>'


def _bar(found: Difference, difference: float, widest: float) -> str:
    """A bar from zero in the middle to the difference, its interval as a thin line, and both in numbers."""
    start, end = sorted((50.0, _place(difference, widest)))
    place = f"margin-left:{start:.1f}%;width:{end - start:.1f}%"
    bar = f'<span class="bar" style="{place};background:{_color(found)}"></span>'
    numbers = ""
    if found.interval:
        low, high = _place(found.interval.low, widest), _place(found.interval.high, widest)
        bar += f'<span class="whisker" style="left:{low:.1f}%;width:{high - low:.1f}%"></span>'
        numbers = f"<small>{_points(found.interval.low)} to {_points(found.interval.high)}</small>"
    return (
        f'<span class="measure"><span class="track" style="{_TRACK}">{bar}</span>'
        f'<span class="value" style="min-width:8em">{_points(difference)}{numbers}</span></span>'
    )


def _place(value: float, widest: float) -> float:
    """Percent of the track, which goes from -``widest`` to ``widest``."""
    return 50 + 50 * value / widest


def _color(found: Difference) -> str:
    if not found.is_clear:
        return "var(--muted)"
    return "var(--right)" if (found.difference or 0) > 0 else "var(--wrong)"


def _pictures(comparison: Comparison) -> str:
    name = _NAMES[comparison.chief]
    cards = _changed("B does better", name, comparison.better) + _changed("B does worse", name, comparison.worse)
    return f'<div class="pair">{cards}</div>' if cards else ""


def _changed(title: str, figure: str, changes: Sequence[PictureChange]) -> str:
    if not changes:
        return ""
    rows = "".join(
        f'<tr><th scope="row"><span class="name"><span>{escape(change.id)}</span></span></th>'
        f'<td class="number">{percent(change.a)}</td><td class="number">{percent(change.b)}</td>'
        f'<td class="number">{_points(change.difference)}</td></tr>'
        for change in changes[:_MOST_PICTURES]
    )
    shown = f", the {_MOST_PICTURES} largest changes" if len(changes) > _MOST_PICTURES else ""
    note = f"{figure} of each picture alone, {len(changes):,} picture{'' if len(changes) == 1 else 's'}{shown}."
    return (
        f'<section class="card"><h2>Pictures that {title}</h2><p class="note">{note}</p><div class="scroll tall">'
        '<table class="classes"><thead><tr><th scope="col">Picture</th><th scope="col" class="number">A</th>'
        '<th scope="col" class="number">B</th><th scope="col" class="number">B − A</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _reading() -> str:
    return (
        '<section class="card"><h2>How to read this</h2><p class="note">Pictures are drawn with replacement, as many '
        "as there are, again and again, and both runs are scored on each draw. The thin lines hold 95% of the "
        "differences. Where such an interval lies on one side of zero, another choice of pictures of this kind would "
        "hardly have turned the order round. It says nothing of other kinds of pictures, nor of what another seed of "
        "the training would give, and frames of one video or near duplicates make it too narrow.</p></section>"
    )


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "−")
