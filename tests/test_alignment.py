"""Word alignments: which words pieces belong to, and where their attention lies, against plain references."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s_cli.config import TokenizerConfig
from s2s_cli.data.tokenizer import Tokenizer, Vocabulary, train_vocabulary
from s2s_cli.data.words import Words, joined, words_of
from s2s_cli.translate.alignment import align, pharaoh
from s2s_cli.translate.documents import Sentences
from s2s_cli.translate.entry import Entry, Translation
from s2s_cli.translate.lines import BLANKS


@pytest.fixture(scope="module")
def vocabularies(tokenizer: Tokenizer) -> dict[str, Vocabulary]:
    draw = random.Random(3)
    lines = ["".join(draw.choice("abcdeinorstu   ") for _ in range(40)) for _ in range(200)]
    return {
        "plain": tokenizer.target,
        "bytes": train_vocabulary(lines, TokenizerConfig(vocab_size=320, byte_fallback=True), "shared"),
        "characters": train_vocabulary(lines, TokenizerConfig(type="char", vocab_size=30), "shared"),
        "identity": train_vocabulary(lines, TokenizerConfig(vocab_size=60, normalization="identity"), "shared"),
    }


def by_boundaries(pieces: tuple[str, ...]) -> Words:
    """Plain: a word begins with each ▁; the last piece is the end of sentence."""
    words, word = [], -1
    for piece in pieces[:-1]:
        word += piece.startswith("▁")
        words.append((word,))
    return (*words, ())


@pytest.mark.parametrize("kind", ["plain", "bytes", "characters", "identity"])
def test_words_of_pieces_begin_with_their_boundaries(kind: str, vocabularies: dict[str, Vocabulary]) -> None:
    vocabulary, draw = vocabularies[kind], random.Random(1)
    for _ in range(200):
        text = " ".join(
            "".join(draw.choice("abcdeinorstu한é") for _ in range(draw.randint(1, 5)))
            for _ in range(draw.randint(1, 8))
        )
        row = vocabulary.encode([text])[0]
        assert vocabulary.words(text, row) == by_boundaries(vocabulary.names(row))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  ab  c ", [0, 0, 0, 1, 1]),
        ("ab\u3000c", [0, 0, 0, 1, 1]),
        ("a\u200bb c", [0, 0, 0, 0, 1, 1]),  # normalization parts the word: as given it is one
        ("½ a", [0, 0, 1, 1]),  # three characters, that the vocabulary lacks, of one
        ("a. \u00a0 b", [0, 0, 0, 1, 1]),
    ],
)
def test_words_are_those_of_the_text_as_it_was_given(
    text: str, words: list[int], vocabularies: dict[str, Vocabulary]
) -> None:
    vocabulary = vocabularies["plain"]
    row = vocabulary.encode([text])[0]
    assert vocabulary.words(text, row) == (*((word,) for word in words), ())


def test_a_piece_of_several_words_belongs_to_each() -> None:
    assert words_of("ab cd ef", [(0, 2), (1, 7), (8, 8)]) == ((0,), (0, 1, 2), (2,))
    assert words_of("", [(0, 0)]) == ((),)
    assert words_of("  a", [(0, 0), (2, 3)]) == ((0,), (0,))


@given(
    text=st.text(max_size=30), kind=st.sampled_from(["plain", "bytes", "characters", "identity"]), cut=st.integers(0)
)
def test_any_text_has_words_for_its_pieces(text: str, kind: str, cut: int, vocabularies: dict[str, Vocabulary]) -> None:
    vocabulary = vocabularies[kind]
    row = vocabulary.encode([text])[0]
    row = row[: cut % (len(row) + 1)]
    words = vocabulary.words(text, row)
    assert len(words) == len(vocabulary.names(row))
    assert {word for held in words for word in held} <= set(range(len(text.split())))
    if text.strip():
        assert all(words[:-1])


@given(data=st.data(), kind=st.sampled_from(["plain", "bytes", "characters", "identity"]))
def test_pieces_that_are_said_stand_in_their_words(
    data: st.DataObject, kind: str, vocabularies: dict[str, Vocabulary]
) -> None:
    vocabulary = vocabularies[kind]
    ids = data.draw(st.lists(st.integers(1, len(vocabulary) - 1).filter(lambda i: i not in (2, 3)), max_size=12))
    text, spans = vocabulary.spoken(ids)
    words = vocabulary.decode(ids).translate(BLANKS).split()
    for (start, end), held in zip(spans, words_of(text.translate(BLANKS), spans), strict=True):
        said = text[start:end].split()
        assert all(part in words[word] for part, word in zip(said, held, strict=False))
        assert len(held) == (max(1, len(said)) if words else 0)


def plainly(weights: list[list[float]], source: Words, target: Words) -> list[tuple[int, int]]:
    """Plain: sums over the pieces of each pair of words."""
    links = []
    for word in sorted({word for held in target for word in held}):
        sums = dict.fromkeys(range(1 + max((one for held in source for one in held), default=-1)), 0.0)
        for row, said in zip(weights, target, strict=True):
            for weight, looked in zip(row, source, strict=True):
                for one in looked:
                    sums[one] += (word in said) * weight / len(looked) / max(1, len(said))
        if sums:
            links.append((max(sums, key=lambda one: (sums[one], -one)), word))
    return links


def test_alignments_are_the_plain_ones() -> None:
    draw = random.Random(5)
    for _ in range(300):
        sides = []
        for _ in range(2):
            word, words = 0, []
            for _ in range(draw.randint(0, 9)):
                word += draw.random() < 0.6
                words.append((word, word + 1) if draw.random() < 0.15 else (word,))
            sides.append((*words, ()))
        weights_TS = torch.rand(len(sides[1]), len(sides[0])).softmax(1)
        found = align(Translation("", 0.0, attention=weights_TS, source_words=sides[0], target_words=sides[1]))
        assert found == plainly(weights_TS.tolist(), *sides)


def test_a_blank_translation_has_no_links() -> None:
    assert align(Translation("", 0.0)) == []
    assert pharaoh([]) == ""
    assert pharaoh([(3, 0), (1, 1)]) == "3-0 1-1"


@given(texts=st.lists(st.text(st.sampled_from("ab한 \u3000"), max_size=6), max_size=6))
def test_texts_behind_one_another_have_the_words_of_the_whole(texts: list[str]) -> None:
    def letters(text: str) -> Words:
        return words_of(text, [(at, at + 1) for at in range(len(text)) if not text[at].isspace()])

    assert joined((text, letters(text)) for text in texts) == letters("".join(texts))


def test_links_of_sentences_are_those_of_their_line() -> None:
    swapped, one = ((0,), (1,), ()), ((0,), ())
    found = [
        [Translation("x y.", 0.0, attention=torch.eye(3)[[1, 0, 2]], source_words=swapped, target_words=swapped)],
        [Translation("z", 0.0, attention=torch.eye(2), source_words=one, target_words=one)],
    ]
    (line,) = Sentences((Entry("a b."), Entry("c")), ("- ", "  ", "")).join(found)
    assert line.text == "- x y.  z"
    assert align(line) == [(2, 1), (1, 2), (3, 3)]
