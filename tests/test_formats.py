"""Formats: as many items out as in whatever they hold, and what goes through beside the translations."""

from __future__ import annotations

import errno
import gzip
import io
import json
import math
import os
import random
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_objects import VALUES
from test_translate import BROKEN, BYTES, HOSTILE

from s2s_cli.config import DecodingConfig
from s2s_cli.errors import UserError
from s2s_cli.files import replaced_when_done
from s2s_cli.packing import open_unpacked, packed_where_named, packing
from s2s_cli.translate.entry import MAX_LINE_BYTES, Entry, Notices, Translation
from s2s_cli.translate.formats import FORMATS, Prefixed, choose_format, format_of
from s2s_cli.translate.insight import FIELDS
from s2s_cli.translate.lines import LAST_WINDOW
from s2s_cli.translate.streams import translate_lines


class Echo:
    """Stands for a translator: says what it was given, in capitals, or that with numbers behind it."""

    def __init__(self, n_best: int = 1) -> None:
        self.config = DecodingConfig(n_best=n_best)
        self.notices = Notices()
        self.tokenizer = SimpleNamespace(source=SimpleNamespace(config=SimpleNamespace(kind="text")))
        self.asked: list[Entry] = []

    def translate(self, entries: Sequence[Entry]) -> list[list[Translation]]:
        self.asked += entries
        self.notices.add(sources=len(entries), cut=sum(entry.cut for entry in entries))
        ranks = [f"{rank or ''}" for rank in range(self.config.n_best)]
        return [[Translation(str(one.source).upper() + rank, -1 - len(rank)) for rank in ranks] for one in entries]


def through(tmp_path: Path, data: bytes, name: str, echo: Echo | None = None, **options: Any) -> list[str]:
    """The lines that a format makes of some input."""
    echo, output = echo or Echo(), io.BytesIO()
    (tmp_path / "input").write_bytes(data)
    with open(tmp_path / "input", "rb") as file:
        translate_lines(echo, file, output, choose_format(echo.config, "text", name=name, **options))
    text = output.getvalue().decode("utf-8")
    assert len(text.splitlines()) == text.count("\n"), "to no reader are there more lines"
    return text.split("\n")[:-1]


def objects(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_tsv_translates_the_first_column_and_keeps_the_others(tmp_path: Path) -> None:
    data = b"ab\tX 1\t\ty\nno tab\n\n\tonly\nab\r\n"
    assert through(tmp_path, data, "tsv") == ["ab\tX 1\t\ty\tAB", "no tab\tNO TAB", "\t", "\tonly\t", "ab\tAB"]
    assert through(tmp_path, b"ab\tx\ncd\n", "tsv", Echo(2)) == [
        *("ab\tx\tAB\t-1.0000", "ab\tx\tAB1\t-2.0000"),
        *("cd\tCD\t-1.0000", "cd\tCD1\t-2.0000"),
    ]


def test_a_translation_makes_no_column_more(tmp_path: Path) -> None:
    echo = Echo()
    echo.translate = lambda entries: [[Translation("a\tb", 0.0)]] * len(entries)
    assert through(tmp_path, b"x\n", "tsv", echo) == ["x\ta b"]


def test_json_lines_keep_their_fields_in_order(tmp_path: Path) -> None:
    rows = [
        '{"id": 12345678901234567890123, "source": "ab", "w": 1.0, "é": "\\u00e9", "z":[1e999,-0.0]}',
        '  {"source":"Ä"}\r',
        "",
        '{"translation": "old", "source": "cd", "other": null}',
    ]
    assert through(tmp_path, "\n".join(rows).encode(), "jsonl") == [
        '{"id": 12345678901234567890123, "source": "ab", "w": 1.0, "é": "\\u00e9", "z":[1e999,-0.0], '
        '"translation": "AB"}',
        '{"source":"Ä", "translation": "Ä"}',
        "",
        '{"source": "cd", "other": null, "translation": "CD"}',
    ]
    assert objects(through(tmp_path, b'{"source": 1, "t": "ab"}', "jsonl", field="t"))[0]["translation"] == "AB"


OLD = {
    "score": -9.0,
    "utility": 1.0,
    "log_probability": -9.0,
    "pieces": 9,
    "perplexity": 9.0,
    "tokens": [{"piece": "x", "score": -9.0}],
    "alignment": [[0, 0]],
}


@pytest.mark.parametrize("n_best", [1, 2])
def test_nothing_of_an_earlier_run_stays_beside_a_new_translation(tmp_path: Path, n_best: int) -> None:
    assert set(OLD) == set(FIELDS), "these are all"
    rows = [
        {"source": "ab", "id": 1, "translation": "x", **OLD},
        {"source": "ab", "id": 1, "translation": "x", "translations": [{"text": "x", **OLD}]},
        {"source": "ab", "id": 1, "error": "line 1: no field"},
    ]
    data = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    for found in objects(through(tmp_path, data, "jsonl", Echo(n_best))):
        assert found.pop("translation") == "AB"
        assert len(found.pop("translations", [])) == (n_best if n_best > 1 else 0)
        assert found == {"source": "ab", "id": 1}
    (damaged,) = objects(through(tmp_path, json.dumps({"source": 1, "translation": "x", **OLD}).encode(), "jsonl"))
    assert damaged == {"source": 1, "error": 'line 1: the field "source" must be a string'}


def test_figures_beside_a_source_that_has_no_translation_are_somebody_elses(tmp_path: Path) -> None:
    (found,) = objects(through(tmp_path, json.dumps({"source": "ab", **OLD}).encode(), "jsonl"))
    assert found == {"source": "ab", **OLD, "translation": "AB"}


def test_json_lines_hold_several_translations(tmp_path: Path) -> None:
    (found,) = objects(through(tmp_path, b'{"source": "ab"}', "jsonl", Echo(2)))
    assert found == {
        "source": "ab",
        "translation": "AB",
        "translations": [{"text": "AB", "score": -1.0}, {"text": "AB1", "score": -2.0}],
    }


DAMAGED = {
    "no object": (b"plain text", "Expecting '{' at character 1"),
    "a list": (b'["source"]', "Expecting '{' at character 1"),
    "torn": (b'{"source": "ab', "Unterminated string starting at at character 12"),
    "two": (b'{"source": "ab"}{}', "Extra data at character 17"),
    "no source": (b'{"text": "ab"}', 'no field "source"'),
    "a number": (b'{"source": 1}', 'the field "source" must be a string'),
    "null": (b'{"source": null}', 'the field "source" must be a string'),
    "control": (b'{"source": "a\tb"}', "Invalid control character at at character 14"),
    "deep": (b'{"source": "a", "deep": ' + b"[" * 50_000, "nested too deeply"),
    "force": (b'{"source": "a", "force": [1]}', 'the field "force" must be a string or a list of strings'),
}


def test_a_damaged_line_loses_no_other(tmp_path: Path) -> None:
    data = b"".join(b'%b\n{"source": "ab"}\n' % line for line, _ in DAMAGED.values())
    echo = Echo()
    found = objects(through(tmp_path, data, "jsonl", echo))
    assert found[1::2] == [{"source": "ab", "translation": "AB"}] * len(DAMAGED)
    for number, (item, (_, words)) in enumerate(zip(found[::2], DAMAGED.values(), strict=True)):
        assert item.pop("error") == f"line {2 * number + 1}: {words}"
        assert "translation" not in item
    assert found[8] == {"text": "ab"}, "what could be read stands there"
    assert echo.notices.damaged == len(DAMAGED)
    assert echo.notices.lines == 2 * len(DAMAGED)
    with pytest.raises(UserError, match=f"{len(DAMAGED)} of {2 * len(DAMAGED)} lines could not be translated"):
        echo.notices.refuse_damaged()
    Notices(lines=3).refuse_damaged()


@pytest.mark.parametrize("n_best", [1, 2])
def test_a_row_of_a_megabyte_loses_no_column_silently(tmp_path: Path, n_best: int) -> None:
    most = b"ab\t" + b"x" * (MAX_LINE_BYTES - 3)
    data = b"ab\tx\n" + most + b"\nab\t" + most + b"\ny" + most + b"\n"
    echo = Echo(n_best)
    first, whole, long, source_too = through(tmp_path, data, "tsv", echo)[::n_best]
    assert first.split("\t")[:3] == ["ab", "x", "AB"]
    assert whole.startswith(f"{most.decode()}\tAB"), "it is still read"
    assert long == "\terror: line 3: longer than 1,000,000 bytes"
    assert source_too == "\terror: line 4: longer than 1,000,000 bytes"
    assert (echo.notices.damaged, echo.notices.lines, echo.notices.cut) == (2, 4, 0)


def test_an_object_of_a_megabyte_is_answered(tmp_path: Path) -> None:
    data = b'{"source": "ab"}\n{"source": "' + b"x" * MAX_LINE_BYTES + b'"}\n{"source": "ab"}\n'
    first, long, last = objects(through(tmp_path, data, "jsonl"))
    assert first == last == {"source": "ab", "translation": "AB"}
    assert long == {"error": "line 2: longer than 1,000,000 bytes"}


@pytest.mark.parametrize("n_best", [1, 2])
@pytest.mark.parametrize("name", FORMATS)
def test_hostile_lines_in_every_format(name: str, n_best: int, tmp_path: Path) -> None:
    lines = through(tmp_path, b"\n".join(HOSTILE.values()), name, Echo(n_best))
    assert len(lines) == len(HOSTILE) * (1 if name == "jsonl" else n_best)
    wrapped = [json.dumps({"source": line.decode("utf-8", "replace"), "n": 1}) for line in HOSTILE.values()]
    echo = Echo(n_best)
    found = objects(through(tmp_path, "\n".join(wrapped).encode(), "jsonl", echo))
    assert [item["source"] for item in found] == [line.decode("utf-8", "replace") for line in HOSTILE.values()]
    assert all("translation" in item for item in found)
    plain = Echo(n_best)
    through(tmp_path, b"\n".join(HOSTILE.values()), "text", plain)
    same = [one.source == other.source for one, other in zip(echo.asked, plain.asked, strict=True)]
    assert [name for name, equal in zip(HOSTILE, same, strict=True) if not equal] == ["CRLF", "CR alone"]
    assert echo.notices.repaired == len(BROKEN) - len({"bad UTF-8", "torn UTF-8", "overlong UTF-8", "surrogate"})


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(), st.dictionaries(st.text(), VALUES, max_size=3)), max_size=5))
def test_objects_come_back(tmp_path: Path, rows: list[tuple[str, dict[str, Any]]]) -> None:
    given = [{**fields, "source": source} for source, fields in rows]
    given = [{name: value for name, value in one.items() if name not in ("prefix", "force", "forbid")} for one in given]
    echo = Echo()
    found = objects(through(tmp_path, "".join(f"{json.dumps(one)}\n" for one in given).encode(), "jsonl", echo))
    for one, other, asked in zip(given, found, echo.asked, strict=True):
        assert other.pop("translation") == str(asked.source).upper()
        assert list(other.items()) == [(name, value) for name, value in one.items() if name != "translation"]
        assert not {"\n", "\r", "\u2028"} & set(str(asked.source))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=BYTES, name=st.sampled_from(sorted(FORMATS)))
def test_any_bytes_give_as_many_items(tmp_path: Path, data: bytes, name: str) -> None:
    expected = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    assert len(through(tmp_path, data, name)) == expected


def test_halves_of_characters_do_not_stop_a_line(tmp_path: Path) -> None:
    echo = Echo()
    (found,) = objects(through(tmp_path, b'{"source": "a\\ud800b", "\\udc00": 1}', "jsonl", echo))
    assert found == {"source": "a\ud800b", "\udc00": 1, "translation": "A\ufffdB"}


def test_line_feeds_within_an_object_are_white_space(tmp_path: Path) -> None:
    (found,) = objects(through(tmp_path, b'{"source": "a\\nb"}', "jsonl"))
    assert found["translation"] == "A B"


def test_indices_and_line_numbers_go_on_over_windows(tmp_path: Path) -> None:
    count = 3 * LAST_WINDOW
    lines = through(tmp_path, b"a\n" * count, "text", Echo(2))
    assert [int(line.split(" ")[0]) for line in lines[::2]] == list(range(count))
    bad = objects(through(tmp_path, b"a\n" * count, "jsonl"))
    assert [one["error"].split(":")[0] for one in bad] == [f"line {number + 1}" for number in range(count)]


def test_what_else_is_shown_stands_beside_each_translation(tmp_path: Path) -> None:
    class Length:
        def fields(self, translation: Translation) -> dict[str, Any]:
            return {"characters": len(translation.text)}

        def parts(self, translation: Translation) -> Sequence[str]:
            return [str(len(translation.text)), "0-0"]

        def suffix(self, translation: Translation) -> str:
            return f" ||| {len(translation.text)}"

    assert through(tmp_path, b"ab\n", "text", shown=Length()) == ["AB ||| 2"]
    assert through(tmp_path, b"ab\n", "text", Echo(2), shown=Length())[1] == "0 ||| AB1 ||| -2.0000 ||| 3"
    assert through(tmp_path, b"ab\tx\n", "tsv", shown=Length()) == ["ab\tx\tAB\t2\t0-0"]
    several = through(tmp_path, b"ab\tx\n", "tsv", Echo(2), shown=Length())
    assert several == ["ab\tx\tAB\t-1.0000\t2\t0-0", "ab\tx\tAB1\t-2.0000\t3\t0-0"]
    (found,) = objects(through(tmp_path, b'{"source": "ab"}', "jsonl", shown=Length()))
    assert found == {"source": "ab", "translation": "AB", "characters": 2}
    (found,) = objects(through(tmp_path, b'{"source": "ab"}', "jsonl", Echo(2), shown=Length()))
    assert [one["characters"] for one in found["translations"]] == [2, 3]


@pytest.mark.parametrize(
    ("name", "value", "asked"), [("prefix", "b", "b"), ("force", "b", ("b",)), ("forbid", ["b"], ("b",))]
)
def test_fields_ask_something_of_the_translation(name: str, value: object, asked: object, tmp_path: Path) -> None:
    form, notices = choose_format(DecodingConfig(), "text", name="jsonl"), Notices()
    path = tmp_path / "input"
    path.write_text(json.dumps({"source": "a", name: value}) + "\n" + json.dumps({"source": "a", name: None}))
    with open(path, "rb") as file:
        entries = [
            entry for window in form.windows(file, notices) for item in window for entry in item.document.entries
        ]
    assert entries == [Entry("a", **{name: asked}), Entry("a")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rows.jsonl", "jsonl"),
        ("rows.jsonl.gz", "jsonl"),
        ("a.b/rows.JSONL.zst", "jsonl"),
        ("rows.tsv", "tsv"),
        ("rows.tsv.gz", "tsv"),
        ("rows.txt", "text"),
        ("rows.json", "text"),
        ("jsonl", "text"),
        (".jsonl", "text"),
        ("rows.jsonl.bak", "text"),
        ("rows.gz", "text"),
        ("rows", "text"),
    ],
)
def test_the_ending_of_a_name_tells_the_format(name: str, expected: str) -> None:
    path, config = Path(name), DecodingConfig()
    assert format_of(path) == expected
    assert type(choose_format(config, "text", path=path)) is FORMATS[expected]
    assert type(choose_format(config, "text", path=path, name="text")) is FORMATS["text"], "what is asked for counts"
    assert type(choose_format(config, "features", path=path)) is FORMATS["text"]


@pytest.mark.parametrize(
    ("kind", "n_best", "options", "words"),
    [
        ("text", 1, {"name": "json"}, "did you mean 'jsonl'"),
        ("text", 1, {"field": "x"}, "add --format jsonl"),
        ("text", 1, {"name": "jsonl", "field": "translation"}, "another name"),
        ("text", 1, {"name": "jsonl", "field": "tokens"}, "another name"),
        ("text", 1, {"language": "de"}, "add --split"),
        ("text", 2, {"split": True}, "--n-best 1"),
        ("features", 1, {"split": True}, "feature vectors"),
        ("features", 1, {"name": "tsv"}, "take text or jsonl"),
        ("features", 1, {"name": "jsonl", "field": "x"}, "leave it out"),
    ],
)
def test_contradictions_are_refused(kind: str, n_best: int, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as told:
        choose_format(DecodingConfig(n_best=n_best), kind, **options)
    assert "\n" not in str(told.value)


# --- packed


def packed(path: Path, pieces: Sequence[bytes]) -> bytes:
    with replaced_when_done(path, None) as file, packed_where_named(path, file) as target:
        for piece in pieces:
            target.write(piece)
            target.flush()
    return path.read_bytes()


def unpacked(path: Path) -> bytes:
    with open_unpacked(path) as file:
        return file.read()


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_packed_output_depends_on_the_content_alone(tmp_path: Path, ending: str) -> None:
    draw = random.Random(1)
    data = bytes(draw.choice(b"abc \n") for _ in range(300_000))
    whole = packed(tmp_path / f"a{ending}", [data])
    cuts = sorted(draw.randrange(len(data)) for _ in range(200))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert packed(tmp_path / f"b{ending}", pieces) == whole
    assert unpacked(tmp_path / f"a{ending}") == data
    assert len(whole) < 0.5 * len(data)
    packed(tmp_path / f"none{ending}", [])
    assert unpacked(tmp_path / f"none{ending}") == b""
    (tmp_path / f"c{ending}").write_bytes(b"".join(map(packing(tmp_path / f"c{ending}"), pieces)))
    assert unpacked(tmp_path / f"c{ending}") == data
    assert packed(tmp_path / "plain", [data]) == data


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_disk_that_refuses_the_end_of_packed_output_is_told_once(tmp_path: Path, ending: str) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    full = False
    with (
        pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
        packed_where_named(tmp_path / f"a{ending}", Full()) as file,
    ):
        file.write(b"some text")
        full = True
    file.close()


def test_without_its_package_zstandard_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UserError, match=r"zstandard: pip install"):
        packing(tmp_path / "a.zst")
    with (
        pytest.raises(UserError, match=r"zstandard: pip install"),
        packed_where_named(tmp_path / "a.zst", io.BytesIO()),
    ):
        pytest.fail("it is missing")


PACKERS = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor(write_checksum=True).compress}


@pytest.mark.parametrize("name", ["rows", "rows.txt", "rows.GZ", "rows.ZST", "rows.gz", "rows.zst"])
@pytest.mark.parametrize("ending", PACKERS)
def test_packed_files_are_known_by_their_content(tmp_path: Path, ending: str, name: str) -> None:
    pack, output = PACKERS[ending], io.BytesIO()
    (tmp_path / name).write_bytes(pack(b"ab\ncd\n") + pack(b"ef"))
    with open_unpacked(tmp_path / name) as file:
        translate_lines(Echo(), file, output)
    assert output.getvalue() == b"AB\nCD\nEF\n"


@pytest.mark.parametrize("ending", PACKERS)
def test_a_packed_stream_is_refused_with_what_to_do(tmp_path: Path, ending: str) -> None:
    output = io.BytesIO()
    reading, writing = os.pipe()
    packed = PACKERS[ending](b"ab\n")
    for piece in (packed[:1], packed[1:]):  # however it comes
        os.write(writing, piece)
    os.close(writing)
    with os.fdopen(reading, "rb") as file, pytest.raises(UserError, match="unpack it before") as told:
        translate_lines(Echo(), file, output)
    assert "\n" not in str(told.value)
    assert output.getvalue() == b""


def test_text_that_begins_as_a_packer_does_is_text(tmp_path: Path) -> None:
    for text in (b"(\n", b"(", b"\x1f\n", b"\x28\xb5/\n", "(µ\n".encode()):
        assert len(through(tmp_path, text, "text")) == 1
        with open_unpacked(tmp_path / "input") as file:
            assert file.read() == text


def test_a_pipe_with_a_name_is_read_as_it_comes(tmp_path: Path) -> None:
    path, output = tmp_path / "pipe", io.BytesIO()
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"ab\ncd\n",))
    writer.start()
    with open_unpacked(path) as file:
        translate_lines(Echo(), file, output)
    writer.join()
    assert output.getvalue() == b"AB\nCD\n"


def test_a_prefix_for_each_line_of_a_packed_file(tmp_path: Path) -> None:
    (tmp_path / "begun").write_text("A\nC\n", encoding="utf-8")
    form = Prefixed(choose_format(DecodingConfig(), "text"), tmp_path / "begun")
    for ending, pack in PACKERS.items():
        (tmp_path / f"in{ending}").write_bytes(pack(b"ab\ncd\n"))
        with open_unpacked(tmp_path / f"in{ending}") as file:
            items = [item for window in form.windows(file, Notices()) for item in window]
        assert [entry.prefix for item in items for entry in item.document.entries] == ["A", "C"]


@pytest.mark.parametrize(("ending", "name"), [(".gz", "gzip"), (".zst", "Zstandard")])
@pytest.mark.parametrize("damage", ["torn", "flipped", "plain", "header alone", "nothing", "garbage behind"])
def test_damaged_packing_is_told(damage: str, ending: str, name: str, tmp_path: Path) -> None:
    whole = PACKERS[ending](os.urandom(100_000) + b"ab\n" * 100)
    data = {
        "torn": whole[:-9],
        "flipped": whole[:5_000] + bytes([whole[5_000] ^ 1]) + whole[5_001:],
        "plain": b"ab\n",
        "header alone": whole[: 2 if ending == ".gz" else 4],
        "nothing": b"",
        "garbage behind": whole + b"x",
    }[damage]
    (tmp_path / f"in{ending}").write_bytes(data)
    with (
        pytest.raises(UserError, match=rf"in\{ending}: damaged, or no {name} file"),
        open_unpacked(tmp_path / f"in{ending}") as file,
    ):
        translate_lines(Echo(), file, io.BytesIO())


@pytest.mark.parametrize("ending", PACKERS)
def test_a_bomb_needs_no_memory(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"bomb{ending}"
    with (gzip if ending == ".gz" else zstandard).open(path, "wb") as file:
        for _ in range(200):
            file.write(bytes(1_000_000))
    echo, output = Echo(), io.BytesIO()
    with open_unpacked(path) as file:
        tracemalloc.start()
        translate_lines(echo, file, output)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 60_000_000
    assert echo.notices.cut == echo.notices.lines == 1
    assert len(output.getvalue()) <= MAX_LINE_BYTES + 1


# --- the real command


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    path = toy.write_config(folder, training__max_steps=60, training__validate_every=60)
    done = toy.s2s("train", "--config", path, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return folder


SOURCES = [*(source for source, _ in toy.pairs(12, seed=9)), "", "copy unknown", "copy a ||| b"]


@pytest.mark.parametrize(("beam", "size"), [(1, 1), (3, 4)])
def test_every_format_gives_the_same_translations(beam: int, size: int, trained: Path) -> None:
    options = ["--beam", beam, "--batch-size", size]
    plain = toy.s2s("translate", *options, cwd=trained, stdin="\n".join(SOURCES).encode())
    expected = plain.stdout.decode().split("\n")[:-1]
    assert len(expected) == len(SOURCES)
    rows = "".join(f"{source}\t{number}\n" for number, source in enumerate(SOURCES))
    done = toy.s2s("translate", *options, "--format", "tsv", cwd=trained, stdin=rows.encode())
    assert done.stdout.decode().split("\n")[:-1] == [
        f"{source}\t{number}\t{text}" for number, (source, text) in enumerate(zip(SOURCES, expected, strict=True))
    ]
    rows = "".join(f"{json.dumps({'id': number, 'source': source})}\n" for number, source in enumerate(SOURCES))
    done = toy.s2s("translate", *options, "--format", "jsonl", cwd=trained, stdin=rows.encode())
    assert done.returncode == 0, done.stderr.decode()
    assert [item["translation"] for item in objects(done.stdout.decode().splitlines())] == expected
    several = toy.s2s("translate", *options[2:], "--n-best", 2, "--format", "jsonl", cwd=trained, stdin=rows.encode())
    best = [one["translations"] for one in objects(several.stdout.decode().splitlines())]
    assert all(len(two) == 2 and two[0]["score"] >= two[1]["score"] for two in best)
    assert all(math.isfinite(one["score"]) for two in best for one in two)


def test_files_named_for_their_format_need_no_option(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "copy a"}\n', encoding="utf-8")
    (tmp_path / "rows.tsv.gz").write_bytes(gzip.compress(b"copy a\tx\n"))
    done = toy.s2s("translate", "--input", tmp_path / "rows.jsonl", "--field", "text", cwd=trained)
    assert (done.returncode, list(*objects(done.stdout.decode().splitlines()))) == (0, ["text", "translation"])
    done = toy.s2s("translate", "--input", tmp_path / "rows.tsv.gz", "--output", tmp_path / "out", cwd=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "out").read_text("utf-8").startswith("copy a\tx\t")
    plain = toy.s2s("translate", "--input", tmp_path / "rows.jsonl", "--format", "text", cwd=trained)
    assert plain.returncode == 0
    assert b'"translation"' not in plain.stdout


def test_a_damaged_line_ends_in_exit_2_when_all_else_is_done(trained: Path, tmp_path: Path) -> None:
    data = b'{"source": "copy a"}\n{"source": \n{"source": "copy b"}\n'
    output = tmp_path / "out.jsonl"
    done = toy.s2s("translate", "--format", "jsonl", "--output", output, cwd=trained, stdin=data)
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1
    assert b"1 of 3 lines could not be translated" in done.stderr
    first, bad, last = objects(output.read_text("utf-8").splitlines())
    assert "translation" in first
    assert "translation" in last
    assert bad["error"].startswith("line 2: ")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_packed_files_are_read_and_written(trained: Path, tmp_path: Path, ending: str) -> None:
    pack, (source, one, other, none) = PACKERS[ending], (f"{name}{ending}" for name in ("in", "a", "b", "none"))
    data = "".join(f"{source}\n" for source in SOURCES).encode()
    (tmp_path / source).write_bytes(pack(data[:50]) + pack(data[50:]))
    plain = toy.s2s("translate", cwd=trained, stdin=data)
    done = toy.s2s("translate", "--input", tmp_path / source, "--output", tmp_path / one, cwd=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert unpacked(tmp_path / one) == plain.stdout
    again = toy.s2s("translate", "--output", tmp_path / other, cwd=trained, stdin=data)
    assert again.returncode == 0
    assert (tmp_path / other).read_bytes() == (tmp_path / one).read_bytes() != plain.stdout
    (tmp_path / source).write_bytes(pack(data)[:-4])
    done = toy.s2s("translate", "--input", tmp_path / source, "--output", tmp_path / none, cwd=trained)
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {source, one, other}


def test_the_command_reads_packed_files_and_refuses_packed_streams(trained: Path, tmp_path: Path) -> None:
    data = "".join(f"{source}\n" for source in SOURCES).encode()
    plain = toy.s2s("translate", cwd=trained, stdin=data)
    (tmp_path / "in.zst").write_bytes(PACKERS[".zst"](data))
    (tmp_path / "in.GZ").write_bytes(PACKERS[".gz"](data))
    for name in ("in.zst", "in.GZ"):
        done = toy.s2s("translate", "--input", tmp_path / name, "--output", tmp_path / "out.GZ", cwd=trained)
        assert done.returncode == 0, done.stderr.decode()
        assert gzip.decompress((tmp_path / "out.GZ").read_bytes()) == plain.stdout
    for ending, pack in PACKERS.items():
        done = toy.s2s("translate", cwd=trained, stdin=pack(data))
        assert (done.returncode, done.stdout) == (2, b""), ending
        assert b"-dc" in done.stderr and done.stderr.count(b"\n") == 1


def test_mistakes_get_one_clear_line(trained: Path, tmp_path: Path) -> None:
    for options, words in (
        (["--format", "xml"], b"known: text, tsv, jsonl"),
        (["--split", "--n-best", "2"], b"--n-best 1"),
    ):
        done = toy.s2s("translate", *options, "--output", tmp_path / "out", cwd=trained, stdin=b"copy a\n")
        assert done.returncode == 2, options
        assert words in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert not (tmp_path / "out").exists()
