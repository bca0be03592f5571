"""Documents divided into sentences: the layout stays, whatever it is, and what is translated is a sentence."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import pytest
import torch
import toy
from hypothesis import example, given
from hypothesis import strategies as st
from test_formats import Echo, through
from test_translate import HOSTILE

from s2s_cli.errors import UserError
from s2s_cli.translate import documents
from s2s_cli.translate.documents import Sentences, Splitter, whole
from s2s_cli.translate.entry import Entry, Translation

pytest.importorskip("sentencex")

ENGLISH = Splitter("en")


def divided(text: str, splitter: Splitter = ENGLISH) -> tuple[list[str], tuple[str, ...]]:
    document = splitter(Entry(text))
    assert isinstance(document, Sentences)
    return [str(entry.source) for entry in document.entries], document.gaps


def same(text: str, splitter: Splitter = ENGLISH) -> str:
    """The text, each sentence translated by itself."""
    document = splitter(Entry(text))
    (translation,) = document.join([[Translation(str(entry.source), -1.0)] for entry in document.entries])
    return translation.text


@pytest.mark.parametrize(
    ("text", "sentences", "gaps"),
    [
        ("A man sleeps.", ["A man sleeps."], ("", "")),
        ("A man sleeps. A dog runs.", ["A man sleeps.", "A dog runs."], ("", " ", "")),
        ("  A man.  \t Two dogs!\u00a0Yes? ", ["A man.", "Two dogs!", "Yes?"], ("  ", "  \t ", "\u00a0", " ")),
        ("- A man sleeps. A dog runs.", ["A man sleeps.", "A dog runs."], ("- ", " ", "")),
        ("\t1. First thing. Second.", ["First thing.", "Second."], ("\t1. ", " ", "")),
        ("> > ## Head", ["Head"], ("> > ## ", "")),
        ("(a) One. b) Two", ["One.", "b) Two"], ("(a) ", " ", "")),
        ("One.\n\n  * Two. Three.\n", ["One.", "Two.", "Three."], ("", "\n\n  * ", " ", "\n")),
        ("", [], ("",)),
        (" \t\u3000", [], (" \t\u3000",)),
        ("Mr. Smith is 3.5 m tall.", ["Mr. Smith is 3.5 m tall."], ("", "")),
        ("你好。我很好！", ["你好。", "我很好！"], ("", "", "")),
        ("-5 degrees", ["-5 degrees"], ("", "")),
    ],
)
def test_sentences_and_what_stands_between(text: str, sentences: list[str], gaps: tuple[str, ...]) -> None:
    assert divided(text) == (sentences, gaps)


def test_the_utility_of_a_text_is_the_mean_of_its_sentences() -> None:
    document = ENGLISH(Entry("A man sleeps. A dog runs."))
    (whole_text,) = document.join([[Translation("a", -1.0, utility=50.0)], [Translation("b", -2.0, utility=40.0)]])
    assert whole_text.ranked_by == {"score": -3.0, "utility": 45.0}
    (unranked,) = document.join([[Translation("a", -1.0)], [Translation("b", -2.0)]])
    assert unranked.ranked_by == {"score": -3.0}


def test_a_language_has_its_own_abbreviations() -> None:
    text = "Er kam am 3. Mai. Gut."
    assert divided(text, Splitter("de"))[0] == divided(text, Splitter("DE_at"))[0] == ["Er kam am 3. Mai.", "Gut."]
    for bad in ("", "deutsch", "d", "de;", "12", "de\n"):
        with pytest.raises(UserError, match="two or three letters"):
            Splitter(bad)


MARKS = st.sampled_from(
    [*" .!?…\n\t-*•>#1aB\"'“”‘’()[]。！？、\u00a0\u3000\u200b", "Mr. ", "U.S. ", "http://a.b", "1. ", "...", "نعم؟ "]
)


@given(st.lists(MARKS | st.characters(exclude_categories=["Cs"]), max_size=40).map("".join))
@example("1שלום(「1‘？\\！مرحبا؟、!́!3.Be.g. :b–U.S. \xa0.[」مرحبا؟.../")
@example(")]…’\u3000?>)U.S. “[…3 4).!!! \u200d.A\u3000.]」•(*。")
def test_the_layout_is_restored(text: str) -> None:
    assert same(text) == text
    sentences, gaps = divided(text)
    assert all(sentence.strip() == sentence != "" and "\n" not in sentence for sentence in sentences)
    assert len(gaps) == len(sentences) + 1


def test_hostile_lines_keep_their_layout(tmp_path: Path) -> None:
    data = b"\n".join(HOSTILE.values())
    for name in ("text", "tsv"):
        plain, split = Echo(), Echo()
        expected = through(tmp_path, data, name, plain)
        found = through(tmp_path, data, name, split, split=True)
        assert [line.upper() for line in found] == [line.upper() for line in expected]
    rows = "".join(f"{json.dumps({'source': line.decode('utf-8', 'replace')})}\n" for line in HOSTILE.values())
    assert len(through(tmp_path, rows.encode(), "jsonl", split=True)) == len(HOSTILE)


def test_a_line_of_one_sentence_is_asked_for_as_it_is(tmp_path: Path) -> None:
    lines = ["a man", "A man sleeps.", "He is 3.5 m tall, says Mr. Smith", "x" * 10_000, "12", "!?"]
    plain, split = Echo(), Echo()
    data = "\n".join(lines).encode()
    assert through(tmp_path, data, "text", plain) == through(tmp_path, data, "text", split, split=True)
    assert plain.asked == split.asked == [Entry(line) for line in lines]


def test_documents_within_json(tmp_path: Path) -> None:
    text = "Title\n\n- One. Two.\n"
    (line,) = through(tmp_path, json.dumps({"source": text}).encode(), "jsonl", split=True)
    assert json.loads(line) == {"source": text, "translation": text.upper()}


def test_a_document_of_windows_is_divided_into_the_same_lines(tmp_path: Path) -> None:
    text = "Title\r\n\r\n- One. Two.\r\n  Three\r\n"
    (line,) = through(tmp_path, json.dumps({"source": text}).encode(), "jsonl", split=True)
    assert json.loads(line) == {"source": text, "translation": text.upper().replace("\r\n", "\n")}
    (line,) = through(tmp_path, json.dumps({"source": "One.\r\nTwo."}).encode(), "jsonl")
    assert json.loads(line)["translation"] == "ONE. TWO."


def test_a_sentence_goes_on_over_no_line(tmp_path: Path) -> None:
    text = "A man sleeps on\na bench."
    assert divided(text) == (["A man sleeps on", "a bench."], ("", "\n", ""))


def test_all_sentences_are_asked_the_same_but_only_the_first_has_the_prefix() -> None:
    divided = ENGLISH(Entry("A man. A dog. A cat.", force=("x",), prefix="y")).entries
    assert [(entry.force, entry.prefix) for entry in divided] == [(("x",), "y"), (("x",), ""), (("x",), "")]


def test_only_the_last_sentence_of_a_line_too_long_is_cut(tmp_path: Path) -> None:
    echo = Echo()
    through(tmp_path, b"A man. " * 200_000, "text", echo, split=True)
    assert echo.notices.cut == 1
    assert echo.notices.lines == 1
    assert echo.notices.sources == len(echo.asked) > 100_000
    assert echo.notices.messages(echo.config)[0].startswith(f"1 of {len(echo.asked):,} sources")


def test_between_scripts_without_spaces_and_with_them_a_space_is_put() -> None:
    document = ENGLISH(Entry("你好。我很好。"))
    (translation,) = document.join([[Translation("Hello.", 0.0)], [Translation("I am well.", 0.0)]])
    assert translation.text == "Hello. I am well."
    (translation,) = document.join([[Translation("안녕하세요.", 0.0)], [Translation("잘 지내요.", 0.0)]])
    assert translation.text == "안녕하세요. 잘 지내요.", "Hangul is as wide as Chinese, and has spaces"
    (translation,) = document.join([[Translation("こんにちは。", 0.0)], [Translation("元気です。", 0.0)]])
    assert translation.text == "こんにちは。元気です。"
    (translation,) = document.join([[Translation("สวัสดี", 0.0)], [Translation("สบายดี", 0.0)]])
    assert translation.text == "สวัสดี สบายดี", "Thai parts sentences, if not words"


def test_blocks_change_no_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(3)
    words = ["A man sleeps", "Mr. Smith runs", "it was 3.5 m", "so", "“Yes”", "in the U.S. there"]
    text = "".join(f"{draw.choice(words)}{draw.choice(['. ', '! ', ', ', ' '])}" for _ in range(600))
    expected = divided(text)
    assert len(expected[0]) > 100
    for size in (400, 1000, 3000):
        monkeypatch.setattr(documents, "BLOCK", size)
        assert divided(text) == expected
    long = "word " * 2000
    monkeypatch.setattr(documents, "BLOCK", 100)
    assert divided(f"One. {long}end. Two.")[0] == ["One.", f"{long}end.", "Two."]


def test_a_megabyte_takes_no_time() -> None:
    for unit in ("“ x", "A man sleeps. ", "(", "Mr. ", "- ", "1. ", " "):
        began = time.monotonic()
        text = (unit * 1_000_000)[:1_000_000]
        assert same(text) == text
        assert time.monotonic() - began < 20, unit


def test_what_is_known_of_the_sentences_is_joined() -> None:
    parts = [
        Translation("a b.", -1.0, (4, 5), (-0.5, -0.25, -0.25), ("x", "</s>"), ("a", "b", "</s>"), torch.ones(3, 2)),
        Translation("c.", -0.5, (6,), (-0.25, -0.25), ("y", "z", "</s>"), ("c", "</s>"), torch.ones(2, 3)),
    ]
    (found,) = ENGLISH(Entry("One two. Three.")).join([[part] for part in parts])
    assert (found.text, found.score, found.ids, found.length) == ("a b. c.", -1.5, (4, 5, 6), 5)
    assert found.attention is not None
    assert found.attention.shape == (len(found.target_pieces), len(found.source_pieces)) == (5, 5)
    assert found.attention[:3, 2:].sum() == found.attention[3:, :2].sum() == 0


def test_a_whole_text_is_one_entry() -> None:
    assert whole(Entry("One. Two.\nThree.")).entries == (Entry("One. Two. Three."),)


def test_without_the_library_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(UserError, match=r"pip install 's2s-cli\[split\]'"):
        Splitter("en")


def test_the_real_command_divides_and_joins(tmp_path: Path) -> None:
    path = toy.write_config(tmp_path)
    assert toy.s2s("train", "--config", path, cwd=tmp_path).returncode == 0
    lines = ["Copy a b!", "Reverse c d?", "copy a"]
    plain = toy.s2s("translate", cwd=tmp_path, stdin="\n".join(lines).encode())
    first, second, third = plain.stdout.decode().split("\n")[:3]
    given = f"  - {lines[0]}  {lines[1]} \n\n{lines[2]}\n".encode()
    for size in (1, 8):
        done = toy.s2s("translate", "--split", "--batch-size", size, cwd=tmp_path, stdin=given)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.decode() == f"  - {first}  {second} \n\n{third}\n"
    rows = f"{json.dumps({'source': given.decode()})}\n".encode()
    done = toy.s2s("translate", "--split", "--format", "jsonl", "--language", "de", cwd=tmp_path, stdin=rows)
    assert json.loads(done.stdout)["translation"] == f"  - {first}  {second} \n\n{third}\n"
