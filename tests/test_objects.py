"""JSON objects go through untouched: what is read of them, what is written, and what is refused."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s_cli.translate.objects import read_object, write_object

TEXTS = st.text(st.characters() | st.sampled_from('\u2028\u2029\x85\ud800"\\/\t'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=6)


def written(value: dict[str, Any], ascii_alone: bool = True) -> str:
    return json.dumps(value, ensure_ascii=ascii_alone)


@given(OBJECTS, OBJECTS, st.booleans(), st.sampled_from([(", ", ": "), (",", ":"), (" ,\t", " : "), (",\r", ":\r")]))
def test_an_object_is_the_same_but_for_what_is_added(
    value: dict[str, Any], added: dict[str, Any], ascii_alone: bool, separators: tuple[str, str]
) -> None:
    text = f" {json.dumps(value, ensure_ascii=ascii_alone, separators=separators)} "
    members = read_object(text)
    assert list(members) == list(value)
    assert [json.loads(f"{{{member.text}}}") for member in members.values()] == [{k: v} for k, v in value.items()]
    line = write_object(members, added)
    assert len(line.splitlines()) == 1
    line.encode("utf-8")
    found = json.loads(line)
    assert list(found.items()) == [*((k, v) for k, v in value.items() if k not in added), *added.items()]


@pytest.mark.parametrize(
    "number",
    [
        "1.0",
        "1",
        "-0",
        "-0.0",
        "1e5",
        "1E+05",
        "0.10",
        "1e999",
        "9" * 30,
        "1" * 10_000,
        "0.1000000000000000055511151231",
    ],
)
def test_numbers_stay_as_they_are_written(number: str) -> None:
    line = write_object(read_object(f'{{"n":{number}, "l": [{number}]}}'), {"translation": "x"})
    assert line == f'{{"n":{number}, "l": [{number}], "translation": "x"}}'


def test_what_is_written_can_be_read_by_people() -> None:
    assert write_object({}, {"translation": "Ä 日本 \u2028"}) == '{"translation": "Ä 日本 \\u2028"}'


@given(OBJECTS, st.data())
def test_what_python_reads_as_an_object_is_read_and_nothing_else(value: dict[str, Any], data: st.DataObject) -> None:
    text = written(value)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(text)))
        kept = data.draw(st.integers(at, min(len(text), at + 2)))
        text = (
            text[:at] + data.draw(st.text('{}[]:,"\\ 01eE.-+ntruefals' + string.whitespace, max_size=2)) + text[kept:]
        )
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    if isinstance(expected, dict):
        assert list(read_object(text)) == list(expected)
    else:
        with pytest.raises(ValueError, match=r"."):
            read_object(text)


def test_depth_is_refused_and_not_suffered() -> None:
    for deep in ("[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            read_object(f'{{"source": "a", "deep": {deep}}}')


def test_of_two_fields_of_one_name_the_last_stands() -> None:
    assert write_object(read_object('{"a": 1, "b": 2, "a": 3}'), {"c": 4}) == '{"a": 3, "b": 2, "c": 4}'
