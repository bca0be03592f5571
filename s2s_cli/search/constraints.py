"""Words and phrases that must stand in a translation: lexically constrained search (Post and Vilar 2018).

Shapes: Q hypotheses of a sentence, M candidates, V vocabulary.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from s2s_cli.data.spelling import Spelling, Surface, first, is_word, last
from s2s_cli.search.flight import Sentence
from s2s_cli.search.rules import Control
from s2s_cli.search.wording import LONGEST_CHARACTER, Forbidden, Prefix

MOST_BETWEEN = 50  # pieces tried where something must stand between two phrases


@dataclass(frozen=True)
class Phrase:
    """What must stand in the translation."""

    pieces: tuple[int, ...]
    """What the model says for it."""
    text: str
    replaced: bool = False
    """Whether the pieces say something else, and the text is put in their place."""
    firm: bool = False
    """Whether it can no longer become part of a longer word, once it was said."""
    ordered: bool = False
    """Whether it counts only after those before it that are ordered too. None of them may hold another's pieces."""


class ForcedState(NamedTuple):
    """How far a hypothesis is."""

    met: frozenset[int] = frozenset()
    """The phrases that it has."""
    ended: frozenset[int] = frozenset()
    """Those that it has unless the next piece makes their last word longer."""
    path: tuple[int, ...] = ()
    """Its last pieces, as far as a phrase that it lacks begins with them."""
    tails: tuple[bytes, ...] = (b"",)
    """The end of the text before each of them, and after all."""
    skipped: int = 0
    """How far it is in the prefix that does not count."""


class Forced(Control):
    """Every phrase is said, whatever the beam prefers: where the room left is what they need, only pieces that bring
    them on may be said.

    Args:
        phrases: each stands in the text as often as it stands here.
        spelling: of the vocabulary.
        eos: the piece that ends a sentence.
        avoid: what must not arise where a phrase meets its neighbours.
        prefix: whose pieces are no part of any phrase.
    """

    def __init__(
        self,
        phrases: Sequence[Phrase],
        spelling: Spelling,
        eos: int,
        avoid: Forbidden | None = None,
        prefix: Prefix | None = None,
    ) -> None:
        self.phrases, self._spelling, self._eos, self._avoid, self._prefix = (
            tuple(phrases),
            spelling,
            eos,
            avoid,
            prefix,
        )
        self.goals = sum(len(phrase.pieces) for phrase in phrases)
        self._first = [first(spelling.texts[phrase.pieces[0]]) for phrase in phrases]
        # A lone byte may make the word before it longer, and so take back what ended with it.
        self._continuing = [bool(spelling.continuing[phrase.pieces[0]]) for phrase in phrases]
        self._anywhere = avoid is None and not any(self._continuing)
        self.least = self.goals + (0 if self._anywhere else len(phrases))
        # Only where the text is that of the pieces may one piece serve two phrases.
        self._shares = not any(phrase.replaced for phrase in phrases)
        self._ordered = [number for number, phrase in enumerate(phrases) if phrase.ordered]
        self._reach = avoid.reach if avoid else LONGEST_CHARACTER

    def start(self) -> ForcedState:
        return ForcedState()

    def after(self, state: ForcedState, piece: int) -> ForcedState:
        tail = (state.tails[-1] + self._spelling.texts[piece])[-self._reach :]
        if self._prefix and not self._counts(state):
            return ForcedState(tails=(tail,), skipped=self._prefix.after(state.skipped, piece))
        met = state.met if self._goes_on(state, piece) else state.met | state.ended
        ended: frozenset[int] = frozenset()
        path, tails = (*state.path, piece), (*state.tails, tail)
        for at in range(len(path)):
            number = self._next(met | ended, path[at:], tails[at], whole=True)
            if number is not None:
                ended |= {number}
                if not self._shares:
                    return self._settled(met, ended, (), (tail,), state.skipped)
        for at in range(len(path)):
            if self._next(met | ended, path[at:], tails[at], whole=False) is not None:
                return self._settled(met, ended, path[at:], tails[at:], state.skipped)
        return self._settled(met, ended, (), (tail,), state.skipped)

    def wanted(self, state: ForcedState, room: int) -> list[int]:
        if not self._counts(state) or room < 2:
            return []
        found: dict[int, None] = {}
        open_ = self._open(state)
        for at in range(len(state.path) + 1):
            said = state.path[at:]
            for number in open_:
                pieces = self.phrases[number].pieces
                more = len(pieces) > len(said) and pieces[: len(said)] == said
                if more and self._begins(state.tails[at], number):
                    found[pieces[len(said)]] = None
            if self._bound(state):  # what has begun with the unknown piece must be said whole
                break
        return list(found)

    def only(self, state: ForcedState, room: int) -> list[int] | None:
        lacking = self._lacking(state)
        if not lacking or not self._counts(state):
            return None
        wanted = self.wanted(state, room)
        if self._bound(state):
            return wanted
        if room - 1 > self._pieces(lacking) + (0 if self._anywhere else len(lacking)):
            return None
        return self._affordable(state, room) or self._between(state, room) or wanted or None

    def change(self, scores_V: Tensor, state: ForcedState, room: int) -> None:
        lacking = self._lacking(state)
        if lacking:
            scores_V[self._eos] = -math.inf
        if state.ended:
            firm = any(self.phrases[number].firm for number in state.ended)
            slack = 0 if self._anywhere else len(self.phrases)
            if firm or room - 1 <= self._pieces(lacking) + self._pieces(state.ended) + slack:
                kept = [] if firm else self._affordable(state, room)
                kept_K = scores_V[kept].clone()
                scores_V[self._spelling.continuing.to(scores_V.device)] = -math.inf
                scores_V[kept] = kept_K

    def reached(self, state: ForcedState) -> int:
        return self.goals - self._pieces(self._lacking(state)) + len(state.path)

    def surfaces(self, ids: Sequence[int]) -> list[Surface]:
        found: dict[int, Surface] = {}
        state = self.start()
        for end, piece in enumerate((*ids, self._eos), 1):
            before, state = state, self.after(state, piece)
            for number in before.ended - state.met - state.ended:
                found.pop(number, None)
            for number in (state.met | state.ended) - before.met - before.ended:
                phrase = self.phrases[number]
                found[number] = Surface(end - len(phrase.pieces), end, phrase.text)
        return [surface for number, surface in found.items() if self.phrases[number].replaced]

    def _counts(self, state: ForcedState) -> bool:
        return self._prefix is None or state.skipped == self._prefix.end

    def _settled(
        self,
        met: frozenset[int],
        ended: frozenset[int],
        path: tuple[int, ...],
        tails: tuple[bytes, ...],
        skipped: int,
    ) -> ForcedState:
        """What ends with no letter or digit is met at once."""
        sure = frozenset(number for number in ended if not is_word(self.phrases[number].text[-1]))
        return ForcedState(met | sure, ended - sure, path, tails, skipped)

    def _goes_on(self, state: ForcedState, piece: int) -> bool:
        """Whether a piece makes the word longer with which a phrase ended."""
        return bool(state.ended) and bool(self._spelling.continuing[piece])

    def _lacking(self, state: ForcedState) -> list[int]:
        return [number for number in range(len(self.phrases)) if number not in state.met and number not in state.ended]

    def _open(self, state: ForcedState) -> list[int]:
        """Those that are lacking and, where they are ordered, next."""
        lacking = self._lacking(state)
        if not self._ordered:
            return lacking
        turn = self._turn(state.met | state.ended)
        return [number for number in lacking if number == turn or not self.phrases[number].ordered]

    def _turn(self, has: frozenset[int]) -> int | None:
        """The first of the ordered phrases that is lacking."""
        return next((number for number in self._ordered if number not in has), None)

    def _pieces(self, numbers: Sequence[int] | frozenset[int]) -> int:
        return sum(len(self.phrases[number].pieces) for number in numbers)

    def _next(self, has: frozenset[int], said: tuple[int, ...], before: bytes, *, whole: bool) -> int | None:
        """The first open phrase that consists of what was said, or begins with it and is longer."""
        for number, phrase in enumerate(self.phrases):
            fits = phrase.pieces == said if whole else len(phrase.pieces) > len(said)
            if not fits or number in has or phrase.pieces[: len(said)] != said:
                continue
            if (not phrase.ordered or number == self._turn(has)) and self._begins(before, number):
                return number
        return None

    def _begins(self, before: bytes, number: int) -> bool:
        """Whether a phrase may come after the end of a text: as a word, and with nothing arising that is forbidden."""
        if self._anywhere:
            return True
        if before and self._continuing[number] and is_word(last(before)):
            return False
        return self._avoid is None or self._avoid.allows(before, self._said(number))

    def _said(self, number: int) -> str:
        text = self.phrases[number].text
        return text if is_word(self._first[number] or " ") or self._first[number] == text[0] else f" {text}"

    def _bound(self, state: ForcedState) -> bool:
        return self._spelling.unknown in state.path

    def _need(self, state: ForcedState) -> int:
        """The pieces that it takes to say what is lacking, something between two phrases included where it may have
        to be."""
        lacking = self._lacking(state)
        whole = self._pieces(lacking)
        pieces = whole - len(state.path)
        if state.ended and state.path:  # to go on may take back what has just ended
            pieces = min(whole, pieces + self._pieces(state.ended)) if not self._goes_apart(state) else pieces
        if self._anywhere or not lacking:
            return pieces
        ready = pieces < whole or any(self._begins(state.tails[-1], number) for number in self._open(state))
        return pieces + len(lacking) - ready

    def _goes_apart(self, state: ForcedState) -> bool:
        """Whether the path can go on with a piece that does not continue a word."""
        said = len(state.path)
        begun = (self.phrases[number].pieces for number in self._open(state))
        return any(
            len(pieces) > said and pieces[:said] == state.path and not self._spelling.continuing[pieces[said]]
            for pieces in begun
        )

    def _affordable(self, state: ForcedState, room: int) -> list[int]:
        """Of the pieces that bring it nearer to its goals those after which all can still be said."""
        return [piece for piece in self.wanted(state, room) if self._need(self.after(state, piece)) < room - 1]

    def _between(self, state: ForcedState, room: int) -> list[int]:
        """Pieces after which a phrase can begin."""
        found: list[int] = []
        for piece in self._spelling.ordinary:
            if self._need(self.after(state, piece)) < room - 1 and (
                self._avoid is None
                or self._avoid.allows(state.tails[-1], self._spelling.texts[piece].decode(errors="replace"))
            ):
                found.append(piece)
            if len(found) == MOST_BETWEEN:
                break
        return found


def spread(extensions_QV: Tensor, scores_Q: Tensor, sentence: Sentence, best: Sequence[Tensor]) -> list[Tensor]:
    """The candidates of a sentence with goals: dynamic beam allocation (Post and Vilar 2018, section 3).

    Beside the best extensions of all, the best of each hypothesis and those that bring it nearer to its goals are
    looked at. Each goes into the bank of those that have reached as much, and the banks are dealt out in turn, the
    nearest to the goal first.

    Args:
        extensions_QV: log-probabilities of the extensions.
        scores_Q: of the hypotheses so far.
        sentence: with the states of its controls.
        best: the best extensions of all: scores, tokens, parents, (M) each.

    Returns:
        As `best`.
    """
    controls = sentence.guidance.controls
    totals_QV = extensions_QV + scores_Q[:, None]
    found = dict.fromkeys(zip(*(values_M.tolist() for values_M in (best[2], best[1])), strict=True))
    for parent, (piece, score) in enumerate(zip(totals_QV.argmax(1).tolist(), scores_Q.tolist(), strict=True)):
        if score > -math.inf:
            found[parent, piece] = None
            for control, state in zip(controls, sentence.states[parent], strict=True):
                found |= dict.fromkeys((parent, wanted) for wanted in control.wanted(state, 2))
    parents, tokens = (torch.tensor(part, device=totals_QV.device) for part in zip(*found, strict=True))
    scores = totals_QV[parents, tokens]
    banks: dict[int, list[int]] = defaultdict(list)
    order_C = scores.sort(descending=True, stable=True).indices.tolist()
    values, pairs = scores.tolist(), list(found)
    for at in order_C:
        if values[at] > -math.inf:
            banks[_reached(sentence, *pairs[at])].append(at)
    places = ((place, -bank, at) for bank, members in banks.items() for place, at in enumerate(members))
    count = len(best[0])
    chosen = torch.tensor([at for _, _, at in sorted(places)][:count], device=scores.device, dtype=torch.int64)
    missing = count - len(chosen)
    return [
        pad(values_C[chosen], (0, missing), value=filler)
        for values_C, filler in ((scores, -math.inf), (tokens, 0), (parents, 0))
    ]


def _reached(sentence: Sentence, parent: int, token: int) -> int:
    """What an extension has reached of the goals."""
    pairs = zip(sentence.guidance.controls, sentence.states[parent], strict=True)
    return sum(control.reached(control.after(state, token)) for control, state in pairs if control.goals)
