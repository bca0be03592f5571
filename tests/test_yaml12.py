"""The reader of configs: YAML 1.2 scalars, refusals that name a line, and no way to make it crash or hang."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s_cli.errors import UserError
from s2s_cli.yaml12 import MAX_CHARACTERS, MAX_DEPTH, parse


def value_of(scalar: str) -> Any:
    return parse(f"key: {scalar}\n", "c.yaml")[0]["key"]


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, "c.yaml")
    return str(caught.value)


def test_a_refusal_tells_the_way_out() -> None:
    assert refusal("a: {b: ${HOME}/c, d: e}").endswith('quote what holds a variable: "${NAME}/train.en"')
    assert "quote" not in refusal("a: {b: {c}")
    assert "write the value in each place" in refusal("a: &b 1\nc: *b")


@pytest.mark.parametrize(
    ("scalar", "wanted"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2.5e+2", -250.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("+.INF", math.inf),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("null", None),
        ("Null", None),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_have_the_types_of_the_core_schema(scalar: str, wanted: Any) -> None:
    value = value_of(scalar)
    assert value == wanted
    assert type(value) is type(wanted)


@pytest.mark.parametrize("scalar", [".nan", ".NaN", ".NAN"])
def test_not_a_number_is_a_float(scalar: str) -> None:
    assert math.isnan(value_of(scalar))


@pytest.mark.parametrize(
    "scalar",
    # What YAML 1.1 takes for booleans, octal, binary, grouped and sexagesimal numbers, dates and merge keys.
    [
        "no",
        "yes",
        "on",
        "Off",
        "y",
        "N",
        "0b11",
        "1_000",
        "12:30",
        "2020-01-01",
        "<<",
        "=",
        "tRUE",
        "nULL",
        "0o8",
        "0x",
    ],
)
def test_what_only_yaml_1_1_gives_a_type_is_a_string(scalar: str) -> None:
    assert value_of(scalar) == scalar


@pytest.mark.parametrize("scalar", ["1e-3", "12", "true", "null", ".inf", "~"])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_quoted_scalars_are_strings(scalar: str, quote: str) -> None:
    assert value_of(f"{quote}{scalar}{quote}") == scalar


def test_keys_are_strings_whatever_they_look_like() -> None:
    assert parse("1: a\ntrue: b\n~: c\nno: d\n", "c.yaml")[0] == {"1": "a", "true": "b", "~": "c", "no": "d"}


def test_nothing_is_none() -> None:
    assert parse("", "c.yaml") == (None, {})
    assert parse("# a comment\n", "c.yaml")[0] is None


def test_lines_of_all_key_paths() -> None:
    text = "# head\na: 1\nb:\n  c:\n    - x\n    - d: 2\n\n  e: [3,\n    4]\n"
    value, lines = parse(text, "c.yaml")
    assert value == {"a": 1, "b": {"c": ["x", {"d": 2}], "e": [3, 4]}}
    wanted = {("a",): 2, ("b",): 3, ("b", "c"): 4, ("b", "c", 0): 5, ("b", "c", 1): 6, ("b", "c", 1, "d"): 6}
    wanted |= {("b", "e"): 8, ("b", "e", 0): 8, ("b", "e", 1): 9}
    assert {path: lines[path] for path in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a'"),
        ("a:\n  b: 1\n  'b': 2\n", 3, "'b'"),
        ("a: {b: 1, b: 2}\n", 1, "'b'"),
        ("a: 1\nb: *other\n", 2, "alias"),
        ("a: 1\nb: &name 2\n", 2, "anchor"),
        ("a: 1\nb: &name {c: 1}\n", 2, "anchor"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "tag"),
        ("a: 1\nb: !!python/object/apply:os.system [x]\n", 2, "tag"),
        ("a: 1\nb: !!python/object:object {}\n", 2, "tag"),
        ("a: 1\nb: !local x\n", 2, "tag"),
        ("a: 1\nb: !!str 5\n", 2, "tag"),
        ("a: 1\nb: !!map {c: 1}\n", 2, "tag"),
        ("a: 1\nb: !!set {x}\n", 2, "tag"),
        ("a: 1\nb: !!binary eA==\n", 2, "tag"),
        ("a: 1\n? [b]\n: 2\n", 2, "key"),
        ("a: 1\n---\nb: 2\n", 2, "document"),
        ("a: 1\nb: 'open\n", 3, "end of stream"),
        ("a: 1\n\tb: 2\n", 2, "'\\t'"),
        ("a: 1\nb: c: d\n", 2, "mapping"),
        (f"a: 1\nb: {'9' * 10_000}\n", 2, "long"),
    ],
)
def test_what_is_refused_names_the_line(text: str, line: int, word: str) -> None:
    message = refusal(text)
    assert message.startswith(f"c.yaml:{line}: ")
    assert word in message


@pytest.mark.parametrize("scalar", ["!!bool banana", "!!null something", "!!int abc", "!!float abc", "!!int 5.5"])
def test_a_tag_cannot_force_a_type_that_the_text_has_not(scalar: str) -> None:
    assert refusal(f"a: 1\nkey: {scalar}\n").startswith("c.yaml:2: ")


def test_tags_on_keys_are_refused() -> None:
    assert refusal("a: 1\n!!python/object:os.system b: 2\n").startswith("c.yaml:2: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[" * 10_000, 1),
        ("[" * 10_000 + "]" * 10_000, 1),
        ("{a: " * 10_000, 1),
        ("- " * 10_000 + "x", 1),
        ("? " * 5_000 + "x", 1),
        ("\n".join(" " * depth + "k:" for depth in range(300)), MAX_DEPTH),
    ],
)
def test_deep_nesting_is_refused_at_once(text: str, line: int) -> None:
    began = time.process_time()
    assert refusal(text).startswith(f"c.yaml:{line}: nested deeper than {MAX_DEPTH}")
    assert time.process_time() - began < 5


def test_nesting_up_to_the_limit_is_read() -> None:
    value, _ = parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, "c.yaml")
    for _ in range(MAX_DEPTH - 1):
        assert len(value) == 1
        value = value[0]
    assert value == []


@pytest.mark.parametrize("key", [r'"\ud800"', r'"\0"', r'"a\tb"', r'"\e[31m"', "k" * 201])
def test_a_key_that_cannot_be_shown_is_refused(key: str) -> None:
    told = refusal(f"a:\n  ? {key}\n  : 1\n")
    assert "no key is" in told
    assert ":2:" in told
    assert told.isprintable()
    assert len(told) < 300


def test_text_that_is_too_large_is_refused_before_it_is_read() -> None:
    began = time.process_time()
    assert "larger" in refusal("a: 1\n" * MAX_CHARACTERS)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("12", 12),
        ("1e-3", 0.001),
        ("no", "no"),
        ("null", None),
        ("", None),
        ("true", True),
        ("a: b", "a: b"),
        ("#", "#"),
    ],
)
def test_the_type_of_a_variable_is_read_after_filling(
    monkeypatch: pytest.MonkeyPatch, setting: str, wanted: Any
) -> None:
    monkeypatch.setenv("S2S_TEST_VARIABLE", setting)
    value = value_of("${S2S_TEST_VARIABLE}")
    assert value == wanted
    assert type(value) is type(wanted)
    assert value_of('"${S2S_TEST_VARIABLE}"') == setting


def test_variables_fill_parts_of_scalars_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2S_TEST_A", "one")
    monkeypatch.setenv("S2S_TEST_B", "${S2S_TEST_A}")
    assert value_of("${S2S_TEST_A}/x-${S2S_TEST_A}.txt") == "one/x-one.txt"
    assert value_of("${S2S_TEST_B}") == "${S2S_TEST_A}"
    assert value_of("$S2S_TEST_A") == "$S2S_TEST_A"


def test_a_variable_never_becomes_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2S_TEST_A", "[1, 2]\nother: 3")
    assert parse("key: ${S2S_TEST_A}\n", "c.yaml")[0] == {"key": "[1, 2]\nother: 3"}


def test_a_variable_that_is_not_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("S2S_TEST_A", raising=False)
    message = refusal("a: 1\nb: x/${S2S_TEST_A}\n")
    assert message.startswith("c.yaml:2: ")
    assert "S2S_TEST_A" in message


class PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


# Without digits, a string that PyYAML (YAML 1.1) writes plain is a string in YAML 1.2 too.
words = st.text(st.characters(exclude_categories=("Cs", "Nd")), max_size=20).filter(lambda word: "${" not in word)
leaves = st.none() | st.booleans() | st.integers(-(10**200), 10**200) | st.floats(allow_nan=False) | words
keys = st.text(st.characters(exclude_categories=("C", "Zl", "Zp", "Nd")), max_size=20).filter(
    lambda key: "${" not in key
)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


@settings(max_examples=100)
@given(value=trees, flow=st.booleans())
def test_what_pyyaml_writes_reads_back_equal(value: Any, flow: bool) -> None:
    text = yaml.dump(value, Dumper=PlainDumper, default_flow_style=flow)
    assert parse(text, "c.yaml")[0] == value


CONFIG = """\
# a comment
data:
  train: [{source: train.en, target: "train.de"}]
  valid: {source: "${S2S_TEST_A}", target: 'val.de'}
training:
  max_steps: 4000
  learning_rate: 1e-3
  betas:
    - 0.9
    - 0.98
text: |
  a block
  of two lines
"""
NOISE = [*"[]{}:,-?&*!|>'\"%@`#~$ \t\n\r\0\\", "\n- ", ": ", "${", "!!", "---\n", "...", "0x", "1e9999", "é", "\ud800"]
NOISE += ["\x85", "\u2028", "\ufeff", "\\U00110000", "9" * 400, "!!int x", "%YAML 1.1\n", "? ", "<<: "]


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.randint(0, 12))
        piece = rng.choice(
            ["", rng.choice(NOISE), rng.choice(NOISE) * 3, text[start:end] * 2, chr(rng.randrange(0x3000))]
        )
        text = text[:start] + piece + text[end:]
    return text


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | int | float)


def test_broken_text_gives_a_value_or_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2S_TEST_A", "val.en")
    rng = random.Random(20)
    read = refused = 0
    for _ in range(300):
        text = mutated(CONFIG, rng)
        began = time.process_time()
        try:
            value, lines = parse(text, "c.yaml")
        except UserError as error:
            refused += 1
            assert str(error).startswith("c.yaml"), text
        else:
            read += 1
            assert is_plain(value), text
            assert all(1 <= line <= len(text) + 1 for line in lines.values()), text
        assert time.process_time() - began < 1, text
    assert read > 50
    assert refused > 50
