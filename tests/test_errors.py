from __future__ import annotations

import pickle

from pixbox.errors import ConfigError, DataError, Fault, PixboxError, did_you_mean
from pixbox.labels import UnknownLabelError, UnknownValue


def test_fault_reads_where_what_and_indented_hint() -> None:
    assert str(Fault("a.png", "is broken", "Save it again.\nOr leave it out.")) == (
        "a.png: is broken\n  Save it again.\n  Or leave it out."
    )
    assert str(Fault("", "is broken")) == "is broken"


def test_error_of_several_faults_shows_one_below_the_other() -> None:
    error = ConfigError([Fault("c.yaml:1", "x: wrong"), Fault("c.yaml:2", "y: wrong", "Mend it.")])
    assert str(error) == "c.yaml:1: x: wrong\nc.yaml:2: y: wrong\n  Mend it."


def test_error_of_one_sentence_is_one_fault() -> None:
    error = DataError("no such file", where="a.png", hint="Look elsewhere.")
    assert error.faults == (Fault("a.png", "no such file", "Look elsewhere."),)
    assert isinstance(error, PixboxError)


def test_errors_cross_process_borders_whole() -> None:
    error = DataError([Fault("a", "b", "c"), Fault("", "d")])
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.faults, str(copy)) == (DataError, error.faults, str(error))
    unknown = UnknownLabelError([Fault("", "value 7")], [UnknownValue(7, 3, 0, 1)])
    copied = pickle.loads(pickle.dumps(unknown))
    assert (type(copied), copied.faults, copied.unknown) == (UnknownLabelError, unknown.faults, unknown.unknown)


def test_near_name_is_suggested_and_far_ones_are_listed() -> None:
    assert did_you_mean("encodr", ["encoder", "weights"]) == 'Did you mean "encoder"?'
    assert did_you_mean("zzz", ["encoder", "weights"]) == "Known: encoder, weights."
    many = did_you_mean("zzz", [f"name{i}" for i in range(100)])
    assert many.endswith(", name39, ...")
