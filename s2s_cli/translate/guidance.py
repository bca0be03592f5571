"""From what is asked of a translation to what search obeys."""

from __future__ import annotations

import hashlib
from typing import Any

from s2s_cli.config import DecodingConfig
from s2s_cli.data.batches import given
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.search.flight import Guidance
from s2s_cli.search.rules import Control, Exactly, MinimumLength, NoRepeatedNgrams, RepetitionPenalty
from s2s_cli.translate.entry import Entry

EXTRA_LENGTH = 10


class Guide:
    """Makes the guidance of each source.

    Args:
        tokenizer: of the model.
        config: how to decode.
    """

    def __init__(self, tokenizer: Tokenizer, config: DecodingConfig) -> None:
        self._tokenizer, self._config = tokenizer, config
        self._everywhere: tuple[Control, ...] = ()
        if config.no_repeat_ngram:
            self._everywhere += (NoRepeatedNgrams(config.no_repeat_ngram),)
        if config.repetition_penalty != 1:
            self._everywhere += (RepetitionPenalty(config.repetition_penalty),)

    def guidance(self, entry: Entry, row: Any) -> Guidance:
        """What is asked of the translation of an entry.

        Args:
            entry: what was given.
            row: its source, as the tokenizer encodes it.
        """
        config, eos = self._config, self._tokenizer.target.specials.eos
        if entry.target is not None:
            return Guidance((Exactly((*entry.target, eos)),))
        controls = self._everywhere
        least = max(config.min_length, int(config.min_length_ratio * len(row)))
        if least:
            controls = (MinimumLength(eos, least + 1), *controls)
        return Guidance(controls, self._seed(row) if config.search == "sampling" else 0)

    def limit(self, row: Any, guidance: Guidance) -> int:
        """Most pieces of a translation, the end included: what the config says, or what the guidance needs."""
        limit = min(self._config.max_length, int(self._config.max_length_ratio * len(row)) + EXTRA_LENGTH)
        return max(limit, sum(control.least for control in guidance.controls) + 1)

    def _seed(self, row: Any) -> int:
        """Follows from the source and the config's seed: equal sources draw equally, wherever they stand."""
        sources = self._tokenizer.source.pad([row])
        content = given(sources.src_BS, sources.src_BSF).numpy().tobytes()
        return int.from_bytes(hashlib.blake2b(content, digest_size=7, salt=b"%d" % self._config.seed).digest())
