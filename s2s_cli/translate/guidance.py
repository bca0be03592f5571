"""From what is asked of a translation to what search obeys."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from s2s_cli.config import DecodingConfig
from s2s_cli.data.spelling import is_unspaced
from s2s_cli.data.tokenizer import Tokenizer, Vocabulary
from s2s_cli.errors import UserError
from s2s_cli.search.constraints import Forced, Phrase
from s2s_cli.search.flight import Guidance
from s2s_cli.search.rules import Control, Exactly, MinimumLength, NoRepeatedNgrams, RepetitionPenalty
from s2s_cli.search.wording import Forbidden, Prefix
from s2s_cli.translate.entry import Entry
from s2s_cli.translate.lines import REPAIRS
from s2s_cli.translate.wishes import Wishes, is_tag

EXTRA_LENGTH = {"text": 10, "features": 100}
"""Pieces, by kind of source."""
MOST_FORCED = 500  # pieces
MOST_PREPARED = 1000
"""Sets of forbidden phrases that are held: to prepare one looks through the whole vocabulary."""


class Guide:
    """Makes the guidance of each source.

    Args:
        tokenizer: of the model.
        config: how to decode.
        wishes: what is asked of all.
    """

    def __init__(self, tokenizer: Tokenizer, config: DecodingConfig, wishes: Wishes = Wishes()) -> None:
        self._tokenizer, self._config, self._wishes = tokenizer, config, wishes
        self._forbidden: dict[tuple[str, ...], Forbidden] = {}
        self._everywhere: tuple[Control, ...] = ()
        if config.no_repeat_ngram:
            self._everywhere += (NoRepeatedNgrams(config.no_repeat_ngram),)
        if config.repetition_penalty != 1:
            self._everywhere += (RepetitionPenalty(config.repetition_penalty),)

    def is_of(self, config: DecodingConfig, wishes: Wishes) -> bool:
        """Whether it is made from these."""
        return self._config is config and self._wishes is wishes

    def guidance(self, entry: Entry, row: Any) -> Guidance:
        """What is asked of the translation of an entry.

        Args:
            entry: what was given.
            row: its source, as the tokenizer encodes it.

        Raises:
            UserError: where it contradicts itself.
        """
        config, eos = self._config, self._tokenizer.target.specials.eos
        if entry.target is not None:
            return Guidance((Exactly((*entry.target, eos)),))
        least = max(config.min_length, math.ceil(round(config.min_length_ratio * len(row), 6)))
        least = min(least, config.max_length - 1)
        long_enough = (MinimumLength(eos, least),) if least else ()
        controls = (*self._asked(entry, row), *long_enough, *self._everywhere)
        return Guidance(controls, self._seed(row) if config.search == "sampling" else 0)

    def limit(self, row: Any, guidance: Guidance) -> int:
        """Most pieces of a translation, the end included: what the config says, or what the guidance needs."""
        extra = EXTRA_LENGTH[self._tokenizer.source.config.kind]
        limit = min(self._config.max_length, int(self._config.max_length_ratio * len(row)) + extra)
        asked = sum(control.least for control in guidance.controls)
        return 1 + max(limit - 1, asked, *(control.shortest for control in guidance.controls))

    def _asked(self, entry: Entry, row: Any) -> list[Control]:
        """The controls of an entry's own wishes and of those for all: an earlier one goes before a later one."""
        wishes, found = self._wishes, list[Control]()
        of_all = wishes.keep, wishes.terms, wishes.force, wishes.forbid
        if not any((entry.prefix, entry.force, entry.forbid, *of_all)):
            return found
        begin = entry.prefix.translate(REPAIRS)
        source = str(entry.source) if wishes.need_text else ""
        read = self._read(source, row)
        kept, called = wishes.kept(source, read), wishes.called(source, read)
        forced = dict.fromkeys(_words((*entry.force, *wishes.force, *called), "forced"))
        avoid = self._avoid(_words((*entry.forbid, *wishes.forbid), "forbidden"))
        if avoid:
            self._check(avoid, begin, (*forced, *kept))
        prefix = self._prefix(begin) if begin.strip() else None
        if prefix:
            found.append(prefix)
        if avoid:
            found.append(avoid)
        phrases = [
            *(self._phrase(text, firm=False) for text in forced),
            *(self._phrase(text, firm=True, ordered=is_tag(text)) for text in kept),
        ]
        if phrases:
            target = self._tokenizer.target
            # Where texts stand for pieces, no piece may belong to two of them.
            replaced = any(phrase.replaced for phrase in phrases) or bool(prefix and prefix.replaced)
            found.append(Forced(phrases, target.spelling, target.specials.eos, avoid, prefix if replaced else None))
        if (pieces := sum(control.least for control in found)) > MOST_FORCED:
            raise UserError(
                f"the prefix and the forced words are {pieces:,} pieces, and {MOST_FORCED} are allowed: force fewer"
            )
        return found

    def _read(self, source: str, row: Any) -> int:
        """How many characters of a source its pieces are of: all, unless it was cut."""
        vocabulary = self._tokenizer.source
        if len(row) < self._config.max_source_length or not isinstance(vocabulary, Vocabulary):
            return len(source)
        spans = vocabulary.spans(source)[: len(row)]
        return spans[-1][1] if spans else 0

    def _avoid(self, phrases: tuple[str, ...]) -> Forbidden | None:
        if not phrases:
            return None
        found = self._forbidden.get(phrases)
        if found is None:
            if len(self._forbidden) >= MOST_PREPARED:
                self._forbidden.clear()
            found = self._forbidden[phrases] = Forbidden(phrases, self._tokenizer.target.spelling)
        return found

    @staticmethod
    def _check(avoid: Forbidden, begin: str, forced: tuple[str, ...]) -> None:
        """Refuses what cannot be had together."""
        for text in forced:
            if (phrase := avoid.found(text)) is not None:
                raise UserError(f"{text!r} is forced (or kept), but {phrase!r} in it is forbidden: drop one of them")
        if (phrase := avoid.found(begin)) is not None:
            raise UserError(f"the prefix {begin!r} holds {phrase!r}, which is forbidden: drop one of them")

    def _prefix(self, text: str) -> Prefix:
        """The last word by its characters, those before it in the tokenizer's own pieces."""
        at = text.rfind(" ")
        if at == 0:  # the space is asked for, too
            return self._begun(text, "")
        head, rest = text[: max(at, 0)], text[at + 1 :]
        found = self._begun(head, f" {rest}")
        return found if found.spells else self._begun(text, "")

    def _begun(self, head: str, rest: str) -> Prefix:
        target = self._tokenizer.target
        ids = target.encode([head])[0] if head else []
        ids = ids or ([target.specials.unk] if head else [])
        said = target.spelling.text(ids) == head
        return Prefix(ids, rest.encode(), "" if said else head, target.spelling)

    def _phrase(self, text: str, *, firm: bool, ordered: bool = False) -> Phrase:
        """Its pieces as in the midst of a sentence."""
        target = self._tokenizer.target
        spelling = target.spelling
        ids = target.encode([text])[0] or [target.specials.unk]
        if is_unspaced(text[0]) and spelling.texts[ids[0]][:1] == b" ":
            ids = spelling.segmented(text.encode()) or ids
        firm = firm or target.specials.unk in ids
        return Phrase(tuple(ids), text, replaced=spelling.text(ids) != text, firm=firm, ordered=ordered)

    def _seed(self, row: Any) -> int:
        """Follows from the source and the config's seed: equal sources draw equally, wherever they stand."""
        content = self._tokenizer.source.pad([row]).source.numpy().tobytes()
        return int.from_bytes(hashlib.blake2b(content, digest_size=7, salt=b"%d" % self._config.seed).digest())


def _words(phrases: tuple[str, ...], what: str) -> tuple[str, ...]:
    """Phrases with single spaces.

    Raises:
        UserError: where one is blank.
    """
    found = tuple(" ".join(phrase.translate(REPAIRS).split()) for phrase in phrases)
    if "" in found:
        raise UserError(f"a {what} word or phrase is blank: give at least one character, or leave it out")
    return tuple(dict.fromkeys(found))
