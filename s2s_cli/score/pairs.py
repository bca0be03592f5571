"""Translations that are given: how probable a model finds each. Pairs in, a line for each out, as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from s2s_cli.config import DecodingConfig, ParallelText, SourceConfig
from s2s_cli.data.corpus import Source, read_lines, read_pairs
from s2s_cli.data.features import FEATURE_FILES
from s2s_cli.data.tokenizer import Vocabulary
from s2s_cli.errors import UserError
from s2s_cli.forced import perplexity
from s2s_cli.translate.attention_file import Watch
from s2s_cli.translate.entry import Entry, Translation
from s2s_cli.translate.formats import format_of, read_written
from s2s_cli.translate.insight import SEPARATOR, Insight
from s2s_cli.translate.lines import LAST_WINDOW, REPAIRS, SURROGATES
from s2s_cli.translate.translator import Translator

_KEPT = (
    *("batch_size", "length_penalty", "normalization", "coverage_penalty"),
    *("max_source_length", "ensemble", "precision", "device"),
)
_NO_LIMIT = 2**31

FORMATS: dict[str, Callable[[Insight, Translation], str]] = {
    "text": lambda insight, translation: SEPARATOR.join(insight.parts(translation)),
    "jsonl": lambda insight, translation: json.dumps(insight.fields(translation), ensure_ascii=False),
}


@dataclass(frozen=True)
class Total:
    """Of all pairs."""

    pairs: int = 0
    pieces: int = 0
    """Of the targets, with their ends of sentence."""
    log_probability: float = 0.0
    """In nats."""

    def plus(self, found: Sequence[Translation]) -> Total:
        """With some more."""
        return Total(
            self.pairs + len(found),
            self.pieces + sum(one.length for one in found),
            self.log_probability + sum(one.log_probability for one in found),
        )

    def as_json(self) -> dict[str, Any]:
        """With the loss in nats and the perplexity of a piece."""
        loss = (0.0 - self.log_probability) / max(1, self.pieces)  # a bare minus would make -0 of 0
        return {**vars(self), "loss": loss, "perplexity": perplexity(loss)}

    def __str__(self) -> str:
        found = self.as_json()
        return (
            f"{self.pairs:,} pairs, {self.pieces:,} pieces: log-probability {self.log_probability:.4f}, "
            f"loss {found['loss']:.4f} nats a piece, perplexity {found['perplexity']:.4f}"
        )


def for_scoring(translator: Translator) -> Translator:
    """The same models; of how to decode, only what counts where nothing is searched."""
    kept = {key: getattr(translator.config, key) for key in _KEPT}
    return replace(translator, config=DecodingConfig(beam=1, max_length=_NO_LIMIT, **kept))


def score_pairs(
    translator: Translator,
    source: Path | None,
    target: Path,
    output: BinaryIO,
    render: Callable[[Translation], str],
    watches: Sequence[Watch] = (),
) -> Total:
    """Scores pair after pair.

    Args:
        translator: as `for_scoring` makes it.
        source: lines or feature vectors; None where the target's JSON Lines hold them.
        target: a translation a line; or JSON Lines, as `s2s translate` writes them.
        output: for a line for each pair.
        render: makes the line.
        watches: are shown each pair.

    Raises:
        UserError: where a file cannot be read, the sides are misaligned, or a line is damaged.
    """
    pairs, total = _read(source, target, translator.tokenizer.source.config), Total()
    while window := list(islice(pairs, LAST_WINDOW)):
        entries = _entries(window, translator.tokenizer.target)
        found = [best for best, *_ in translator.translate(entries)]
        for translation in found:
            output.write(f"{render(translation)}\n".encode(errors="backslashreplace"))
            for watch in watches:
                watch(translation)
        total = total.plus(found)
        translator.notices.add(lines=len(entries))
        output.flush()
    return total


class _Pair(NamedTuple):
    where: str
    """File and line, for errors."""
    source: Source
    text: str
    pieces: Sequence[str] | None
    """Of the translation, where they are given."""


def _read(source: Path | None, target: Path, config: SourceConfig) -> Iterator[_Pair]:
    kind = format_of(target)
    in_json = kind == "jsonl"
    if config.kind == "text" and source is not None and source.suffix in FEATURE_FILES:
        raise UserError(f"{source}: feature vectors, but this model reads lines of text (its source.kind is text)")
    if source is None and (config.kind == "features" or not in_json):
        raise UserError("--source is missing: only JSON Lines of text (--target FILE.jsonl) hold their sources")
    sides = read_pairs(ParallelText(source=source, target=target), config) if source else _alone(target)
    for number, (given, line) in enumerate(sides, 1):
        where = f"{target}:{number}"
        found = read_written(kind, where, line)
        if in_json:
            yield _of_json(where, given, found if line.strip() else None)
        else:
            yield _Pair(where, given, found["translation"], None)


def _alone(path: Path) -> Iterator[tuple[None, str]]:
    return ((None, line) for line in read_lines(path))


def _of_json(where: str, source: Source | None, found: dict[str, Any] | None) -> _Pair:
    if found is None:  # where `s2s translate` was given nothing, it gives nothing
        return _Pair(where, "" if source is None else source, "", ())
    try:
        source = found["source"] if source is None else source
        best = found["translations"][0] if "translations" in found else found
        tokens = best.get("tokens")
        pieces = None if tokens is None else [token["piece"] for token in tokens]
    except (LookupError, TypeError, AttributeError):
        source, pieces = None, None
    if source is None or not all(isinstance(piece, str) for piece in pieces or ()):
        raise UserError(
            f"{where}: no object as `s2s translate` writes them: without --source it needs its source, and its "
            "`tokens` each a piece; or give plain text in a file that does not end in .jsonl"
        )
    source = source.translate(SURROGATES) if isinstance(source, str) else source
    return _Pair(where, source, found["translation"], pieces)


def _entries(pairs: Sequence[_Pair], target: Vocabulary) -> list[Entry]:
    """What to score: the pieces that are given, else those of the text."""
    (end,) = target.names(())
    entries = []
    for pair, ids in zip(pairs, target.encode([pair.text for pair in pairs]), strict=True):
        if pair.pieces is not None:
            try:
                ids = target.ids(pair.pieces[:-1] if pair.pieces[-1:] == [end] else pair.pieces)
            except KeyError as error:
                raise UserError(
                    f"{pair.where}: its tokens are not this model's (which has no piece {error}): leave out `tokens`, "
                    "and the text is tokenized anew"
                ) from None
            if target.specials.eos in ids:
                raise UserError(f"{pair.where}: its tokens go on after {end}: give those of one translation")
            if not spells(target, ids, pair.text):
                raise UserError(
                    f"{pair.where}: its tokens do not spell its translation, as if they were another one's: leave out "
                    "`tokens`, and the text is tokenized anew"
                )
        source = pair.source
        if isinstance(source, str):  # as it is read to be translated
            source = source.replace("\r\n", "\n").translate(REPAIRS).replace("\n", " ")
        entries.append(Entry(source, target=tuple(ids)))
    return entries


def spells(target: Vocabulary, ids: Sequence[int], text: str) -> bool:
    """Whether pieces are those of a text, white space aside: as it is, or as the vocabulary normalizes it; an unknown
    piece may stand for anything."""
    parts: list[list[int]] = [[]]
    for piece in ids:
        if piece == target.specials.unk:
            parts.append([])
        else:
            parts[-1].append(piece)
    said = [_bare(target.decode(part)) for part in parts]
    return any(_holds(said, _bare(form)) for form in (text, target.decode(*target.encode([text]))))


def _holds(parts: Sequence[str], text: str) -> bool:
    """Whether a text is made of these parts in their order, with anything between them."""
    first, *inner = parts
    if not inner:
        return text == first
    last, at = inner.pop(), len(first)
    end = len(text) - len(last)
    if at > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for part in inner:
        at = text.find(part, at, end) + len(part)
        if at < len(part):
            return False
    return True


def _bare(text: str) -> str:
    return "".join(text.translate(REPAIRS).split())
