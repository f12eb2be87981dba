from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixbox.documents import override, parse_value, read_document, to_yaml
from pixbox.errors import ConfigError, Fault


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str | bytes, name: str = "c.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def fault_of(path: Path) -> Fault:
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    assert len(caught.value.faults) == 1
    return caught.value.faults[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E3", 1000.0), ("1.5e3", 1500.0), (".5", 0.5), ("5.", 5.0), ("-2.5e+1", -25.0),
        ("0", 0), ("-7", -7), ("+7", 7), ("1_000", 1000), ("007", 7), ("0x1F", 31),
        ("true", True), ("False", False),
        ("no", "no"), ("off", "off"), ("on", "on"), ("yes", "yes"), ("y", "y"), ("NO", "NO"),
        ("null", None), ("~", None), ("", None),
        ("12:30:00", "12:30:00"), ("2024-01-31", "2024-01-31"), ("1.2.3", "1.2.3"), ("e3", "e3"), ("-", None),
        ("'1e-3'", "1e-3"), ('"true"', "true"), ("'null'", "null"), ("max miou", "max miou"),
        ("[1, no, 1e-3]", [1, "no", 0.001]), ("{a: off, b: [~]}", {"a": "off", "b": [None]}),
    ],
)  # fmt: skip
def test_values_follow_yaml_1_2(text: str, value: Any) -> None:
    if text == "-":  # A bare dash is a list of nothing.
        value = [None]
    read = parse_value(text, "--set x")
    assert read == value
    assert type(read) is type(value)


def test_block_text_stays_text(write: Any) -> None:
    assert read_document(write("a: |\n  1e-3\nb: >\n  true\n")).value == {"a": "1e-3\n", "b": "true\n"}


def test_duplicate_key_is_refused_with_both_lines(write: Any) -> None:
    path = write("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
    assert fault_of(path) == Fault(f"{path}:5", '"c" is written twice', f"First at {path}:3.")


def test_equal_keys_in_different_sections_are_fine(write: Any) -> None:
    assert read_document(write("a: {c: 1}\nb: {c: 2}\n")).value == {"a": {"c": 1}, "b": {"c": 2}}


def test_json_reads_as_python_reads_it_even_with_tabs(write: Any) -> None:
    value = {"a": [1, 2.5, True, None, 'no\t\u00e9 "q"'], "b": {"c": "x: y # z", "d": {}}, "e": []}
    for text in (json.dumps(value, indent="\t"), json.dumps(value), "\n\t" + json.dumps(value, indent=2)):
        assert read_document(write(text, "c.json")).value == json.loads(text)


def test_tab_in_yaml_text_is_kept_and_tab_as_indent_is_refused(write: Any) -> None:
    assert read_document(write('a: "x\ty"\n')).value == {"a": "x\ty"}
    fault = fault_of(path := write("a:\n\tb: 1\n"))
    assert fault.where == f"{path}:2"
    assert "not valid YAML" in fault.what


def test_byte_order_mark_and_windows_line_ends_are_fine(write: Any) -> None:
    path = write(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: off\r\n")
    document = read_document(path)
    assert document.value == {"a": 1, "b": {"c": "off"}}
    assert document.where(("b", "c")) == f"{path}:3"


def test_anchor_gives_each_alias_its_own_values(write: Any) -> None:
    document = read_document(write("a: &x {c: [1]}\nb: *x\n"))
    assert document.value == {"a": {"c": [1]}, "b": {"c": [1]}}
    document.value["a"]["c"].append(2)
    assert document.value["b"] == {"c": [1]}


def test_anchor_that_contains_itself_is_refused(write: Any) -> None:
    fault = fault_of(path := write("a: 1\nb: &x\n  c: *x\n"))
    assert (fault.where, fault.what) == (f"{path}:2", "an anchor contains itself")
    with pytest.raises(ConfigError):
        read_document(write("&x [*x]"))


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null"])
def test_empty_file_is_a_fault(write: Any, text: str) -> None:
    assert fault_of(write(text)).what == "the file is empty"


@pytest.mark.parametrize("text", ["- a\n- b\n", "[1, 2]", "just text", "5"])
def test_file_without_mapping_is_a_fault(write: Any, text: str) -> None:
    assert fault_of(write(text)).what == "the file must hold a mapping of settings"


def test_file_that_is_not_utf_8_is_a_fault(write: Any) -> None:
    assert "UTF-8" in fault_of(write("a: é".encode("latin-1"))).what
    assert "UTF-8" in fault_of(write("a: x".encode("utf-16"))).what


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: [1, 2\nc: 3\n", 3), ("a: 1\n b: 2\n", 2), ("a: 'x\n", 2), ("a: *nothing\n", 1), ("a: @x\n", 1)],
)
def test_syntax_error_names_its_line(write: Any, text: str, line: int) -> None:
    fault = fault_of(path := write(text))
    assert fault.where == f"{path}:{line}"
    assert fault.what.startswith("not valid YAML: ")


def test_control_characters_second_documents_and_tags_are_faults(write: Any) -> None:
    assert "not valid YAML" in fault_of(write("a: \x00\n")).what
    assert "not valid YAML" in fault_of(write("a: 1\n---\nb: 2\n")).what
    fault = fault_of(path := write("a: 1\nb: !include other.yaml\n"))
    assert fault.where == f"{path}:2"
    assert '"!include"' in fault.what
    assert "is not known" in fault_of(write("a: !!python/name:os.system x\n")).what


def test_key_that_is_not_text_is_a_fault(write: Any) -> None:
    assert "a key must be plain text" in fault_of(write("? [a, b]\n: 1\n")).what


def test_missing_file_and_folder_are_faults(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "no.yaml") == Fault(str(tmp_path / "no.yaml"), "no such file")
    assert "folder" in fault_of(tmp_path).what


def test_every_value_knows_its_line(write: Any) -> None:
    path = write("a:\n  b:\n    - 1\n    - c: 2\n")
    document = read_document(path)
    assert document.where(("a", "b", 1, "c")) == f"{path}:4"
    assert document.where(("a", "b", 0)) == f"{path}:3"
    assert document.where(("a", "missing")) == f"{path}:1"  # its nearest written ancestor
    assert document.folder == path.parent


def test_override_sets_creates_and_replaces_without_touching_the_original(write: Any) -> None:
    path = write("a: {b: 1, c: 2}\nd: 3\n")
    document = read_document(path)
    new = override(document, {"a.b": 10, "x.y.z": "deep", "d": {"e": 4}})
    assert new.value == {"a": {"b": 10, "c": 2}, "x": {"y": {"z": "deep"}}, "d": {"e": 4}}
    assert document.value == {"a": {"b": 1, "c": 2}, "d": 3}
    assert new.where(("a", "b")) == "--set a.b=10"
    assert new.where(("a", "c")) == f"{path}:1"
    assert new.where(("x", "y", "z")) == "--set x.y.z=deep"
    assert document.where(("a", "b")) == f"{path}:1"


def test_replaced_mapping_forgets_its_old_lines(write: Any) -> None:
    document = read_document(write("a:\n  b: 1\n  c: {d: 2}\n"))
    new = override(document, {"a": {"b": 5, "c": {"d": 6}}})
    assert new.where(("a", "b")).startswith("--set a=")
    assert new.where(("a", "c", "d")).startswith("--set a=")


def test_later_override_wins_and_paths_become_text(write: Any) -> None:
    document = read_document(write("a: {b: 1}\n"))
    new = override(document, {"a": {"b": 2, "c": Path("x")}, "a.b": 3})
    assert new.value == {"a": {"b": 3, "c": "x"}}


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b"])
def test_override_with_an_empty_key_is_refused(write: Any, key: str) -> None:
    with pytest.raises(ConfigError, match="the key is empty"):
        override(read_document(write("a: {b: 1}\n")), {key: 1})


def test_override_never_replaces_a_list_by_a_mapping(write: Any) -> None:
    with pytest.raises(ConfigError, match=r'--set a\.0\.b=1: "a" is a list'):
        override(read_document(write("a: [{b: 0}]\n")), {"a.0.b": 1})


def test_written_yaml_reads_back_equal_here_and_in_other_readers(write: Any) -> None:
    texts = ["1e3", "1.5e-3", "007", "089", "off", "no", "null", "~", "", "true", "0x1F", "1_000", " x ", "é中", "a: b",
             "#808080", "- x", "12:30", "line\nline", "tab\there", "'q'", '"', "{", "*a", "!t", "%", "@"]  # fmt: skip
    value = {
        "texts": texts,
        **{f"k{i}": text for i, text in enumerate(texts)},
        "keys": dict.fromkeys(texts, 1),
        "numbers": [1, -1, 0.1, 1e-5, 1e20, 123456789.125, -0.0, True, None],
        "deep": {"a": [{"b": []}, {}]},
    }
    text = to_yaml(value)
    read = read_document(write(text)).value
    assert read == value
    assert [type(item) for item in read["numbers"]] == [type(item) for item in value["numbers"]]
    assert math.copysign(1, read["numbers"][6]) == -1
    assert yaml.safe_load(text)["texts"] == texts
