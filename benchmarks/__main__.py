"""Times pixbox beside the libraries that do the same. Without a topic, all topics in turn.

Examples:

    python -m benchmarks --list
    python -m benchmarks augment --camvid ../data/camvid --ccp ../data/ccp
    python -m benchmarks --json > speed.json
    python -m benchmarks --readme
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.measure import add_options, describe_in_words, describe_machine, load_average, measure, say, set_threads

TOPICS = (
    "augment", "label_map", "metrics", "train_step", "train_end_to_end", "fast", "predict", "sliding",
    "retinanet_train", "retinanet_predict", "average_precision", "startup",
)  # fmt: skip
BY_HAND = ("memory", "pretraining", "scaling")
"""Scripts with options of their own."""
ROUNDS = 7
"""Of a topic that names no other number."""
_FOLDER = Path(__file__).parent
_README = _FOLDER / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("topic", nargs="?", choices=TOPICS, help="one of --list; default: all")
    parser.add_argument("--list", action="store_true", help="name the topics and end")
    parser.add_argument("--readme", action="store_true", help="also write the tables into benchmarks/README.md")
    add_options(parser)
    options = parser.parse_args()
    if options.list:
        print(_listing())
        return
    if options.readme and options.quick:
        parser.error("--quick figures mean nothing; --readme does not write them down")
    results = [_run(options.topic, options)] if options.topic else [_run_apart(topic) for topic in TOPICS]
    if options.json:
        print(json.dumps(results[0] if options.topic else results, indent=2))
    else:
        print("\n".join(f"## {result['topic']}\n\n{result['markdown']}" for result in results))
    if options.readme:
        text = _README.read_text(encoding="utf-8")
        for result in results:
            text = with_table(text, result["topic"], result["markdown"])
        _README.write_text(text, encoding="utf-8")


def with_table(text: str, topic: str, table: str) -> str:
    """A document with what stands between ``<!-- topic -->`` and ``<!-- /topic -->`` replaced.

    Raises:
        ValueError: there is no such place.
    """
    begin, end = f"<!-- {topic} -->\n", f"<!-- /{topic} -->"
    if begin not in text or end not in text:
        raise ValueError(f"no place for the tables of {topic}: {begin.strip()} and {end} are not there")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"


def _run(topic: str, options: argparse.Namespace) -> dict[str, Any]:
    module = import_module(f"benchmarks.{topic}")
    threads = options.threads or module.THREADS
    rounds = options.rounds or getattr(module, "ROUNDS", ROUNDS)
    set_threads(threads)
    before = load_average()
    measured = []
    for comparison in module.comparisons(options):
        say(f"{topic}: {comparison.title}")
        measured.append(measure(comparison, 1, 0.0) if options.quick else measure(comparison, rounds))
    machine, after = describe_machine(threads), load_average()
    tables = [result.to_markdown() for result in measured]
    if options.quick:
        tables.insert(0, "Tiny inputs and one round: these figures mean nothing.\n")
    return {
        "topic": topic,
        "machine": machine,
        "load_before": before,
        "load_after": after,
        "quick": options.quick,
        "comparisons": [result.to_plain() for result in measured],
        "markdown": "\n".join([*tables, describe_in_words(machine, before, after)]),
    }


def _run_apart(topic: str) -> dict[str, Any]:
    """In a process of its own, with the options of this one: no topic finds the memory that another left."""
    given = [argument for argument in sys.argv[1:] if argument not in ("--json", "--readme")]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", topic, "--json", *given], stdout=subprocess.PIPE, check=True
    )
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def _listing() -> str:
    lines = [f"{topic:20}{_first_line(topic)}" for topic in TOPICS]
    lines += ["", "Run by hand, with options of their own (python -m benchmarks.NAME --help):"]
    return "\n".join(lines + [f"{name:20}{_first_line(name)}" for name in BY_HAND])


def _first_line(name: str) -> str:
    """Of a script's description, without importing what it compares."""
    text = ast.get_docstring(ast.parse((_FOLDER / f"{name}.py").read_text(encoding="utf-8")))
    assert text is not None
    return text.splitlines()[0]


if __name__ == "__main__":
    main()
