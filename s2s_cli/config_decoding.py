"""The section of the configuration that says how to translate."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from s2s_cli.config_section import Beam, Positive, Precision, Rate, Section

SearchName = Literal["beam", "diverse", "sampling"]
NormalizationName = Literal["average", "gnmt", "none"]
EnsembleName = Literal["probabilities", "log-probabilities"]


class DecodingConfig(Section):
    """How to translate."""

    search: SearchName = "beam"
    """beam; diverse (groups of beams that avoid each other's pieces: Vijayakumar et al. 2018); or sampling."""
    beam: Beam = 5
    """Hypotheses kept for a sentence; 1 is greedy search."""
    n_best: Positive = 1
    """Translations given for a sentence."""
    batch_size: Positive = 64
    """Sentences decoded at once, by each worker (one a core, at most four); it does not change the output."""
    length_penalty: Annotated[float, Field(ge=0, le=5)] = 1.0
    """The exponent alpha of the length penalty; 0 is off."""
    normalization: NormalizationName = "gnmt"
    """A translation's log-probability is divided by ((5 + length) / 6) ** alpha (gnmt: Wu et al. 2016, equation 14), by
    length ** alpha (average), or by nothing (none)."""
    coverage_penalty: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Weight beta of what a translation loses where its attention left out parts of the source (gnmt: Wu et al. 2016,
    equation 14); 0 is off."""
    stopping: Literal["early", "full", "exact"] = "full"
    """When a beam ends: early, once nothing better is in sight at this length; full, once as many hypotheses have ended
    as the beam holds and none that lives is better so far; exact, once nothing better is possible. Early is the
    fastest, and prefers short translations."""
    beam_groups: Annotated[int, Field(ge=2, le=1000)] | None = None
    """diverse: groups that the beam is divided into; default: groups of one."""
    diversity: Annotated[float, Field(ge=0, le=100)] = 0.5
    """diverse: what a piece loses (in nats) for each time that a group before has just chosen it."""
    samples: Annotated[int, Field(ge=1, le=1000)] | None = None
    """sampling: translations drawn for a sentence, of which the n_best are given; default: n_best, or 32 with mbr if
    that is more."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    """sampling: divides the logits; below 1 the probable becomes more so."""
    top_k: Positive | None = None
    """sampling: draw among this many of the most probable pieces (Fan et al. 2018)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """sampling: draw among the fewest pieces that have this probability together (Holtzman et al. 2020)."""
    min_p: Rate = 0.0
    """sampling: draw among pieces with at least this share of the best one's probability (Nguyen et al. 2024). Where
    several limits are given, all hold, each of the distribution at this temperature."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """sampling: what is drawn follows from this and from the source alone."""
    mbr: bool = False
    """Rank the translations found (all samples, or the beam) by their mean chrF against the others: minimum Bayes risk
    (Kumar and Byrne 2004; Eikema and Aziz 2020). Each is given once, however often it was drawn."""
    repetition_penalty: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Multiplies the log-probabilities of pieces that stand in the translation already (Keskar et al. 2019)."""
    no_repeat_ngram: Annotated[int, Field(ge=1, le=1000)] | None = None
    """No so many pieces in a row stand twice in a translation (Paulus et al. 2018)."""
    min_length: Annotated[int, Field(ge=0, le=10**6)] = 0
    """Least pieces of a translation, the end of sentence not counted..."""
    min_length_ratio: Annotated[float, Field(ge=0, le=100)] = 0.0
    """... and at least this many times the source's, as far as max_length lets."""
    max_length: Positive = 1000
    """Most pieces of a translation, the end of sentence counted..."""
    max_length_ratio: Annotated[float, Field(gt=0)] = 2.0
    """... and at most this many times the source's, plus ten, or a hundred where it is feature vectors."""
    max_source_length: Positive = 1000
    """Sources of more pieces or feature vectors are cut here, with a warning."""
    allow_unknown: bool = False
    """Let the unknown piece stand in a translation."""
    ensemble: EnsembleName = "probabilities"
    """What several models, given by several --model, are averaged by."""
    precision: Precision = "fp32"
    """Of the decoder's large products; fp32 gives the same translations on every machine, but for ties."""
    device: str = "auto"
    """As training.device."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if told := self._useless([key for key in _LOOKED_AT_BY if getattr(self, key) != _default(key)]):
            raise ValueError(told)
        key = "samples" if self.search == "sampling" else "beam"
        if self.n_best > self.hypotheses:
            raise ValueError(
                f"n_best ({self.n_best}) is more than {key} ({self.hypotheses}): raise {key}, or lower n_best"
            )
        if self.mbr and self.hypotheses < 2:
            raise ValueError(f"mbr chooses among several translations: raise {key}, now {self.hypotheses}")
        if self.hypotheses % self.groups:
            nearest = max(1, round(self.beam / self.groups)) * self.groups
            raise ValueError(
                f"beam ({self.beam}) must be a multiple of beam_groups ({self.groups}): set beam to {nearest}"
            )
        self._check_lengths()
        return self

    def _check_lengths(self) -> None:
        if self.min_length and self.min_length >= self.max_length:
            raise ValueError(
                f"min_length ({self.min_length}) leaves no room for the end of sentence in max_length "
                f"({self.max_length}): lower min_length, or raise max_length"
            )
        if self.min_length_ratio > self.max_length_ratio:
            raise ValueError(
                f"min_length_ratio ({self.min_length_ratio}) is more than max_length_ratio ({self.max_length_ratio}): "
                "lower the one, or raise the other"
            )

    def without_use(self, keys: Collection[str]) -> str:
        if "beam" in keys and self.search == "diverse" and self.groups == 1:
            return f"search diverse needs several groups, and beam is {self.beam}: raise beam, or set search to beam"
        if "length_penalty" in keys and self.normalization == "none":
            return "length_penalty has no use with normalization none: leave it out, or set normalization to gnmt"
        return self._useless(keys)

    def _useless(self, keys: Collection[str]) -> str:
        """Which of some keys this search does not look at, in words; empty where it does."""
        for key, searches in _LOOKED_AT_BY.items():
            if key in keys and self.search not in searches:
                others = " or ".join(searches)
                return f"{key} has no use with search {self.search}: leave it out, or set search to {others}"
        return ""

    @property
    def hypotheses(self) -> int:
        """What the search keeps of a sentence at each step."""
        if self.search != "sampling":
            return self.beam
        return self.samples or (max(self.n_best, MBR_SAMPLES) if self.mbr else self.n_best)

    @property
    def groups(self) -> int:
        """Groups of hypotheses that do not compete with each other."""
        if self.search == "sampling":
            return self.hypotheses
        return (self.beam_groups or self.beam) if self.search == "diverse" else 1

    def room_for(self, n_best: int) -> dict[str, int]:
        """What to raise, and to what, so that the search keeps so many hypotheses; nothing where it does."""
        if self.search == "sampling":
            return {"samples": n_best} if self.samples and n_best > self.samples else {}
        groups = self.beam_groups or 1
        return {"beam": -(-n_best // groups) * groups} if n_best > self.beam else {}

    def for_search(self, search: object) -> Self:
        """The same, to be changed to another search, or to None: without what has no use there, n_best and mbr."""
        if search in (None, self.search):
            return self
        own = [key for key, searches in _LOOKED_AT_BY.items() if search not in searches]
        if search == "diverse" and self.beam == 1:  # one group avoids nothing
            own.append("beam")
        return self.model_copy(update={key: _default(key) for key in (*own, "search", "n_best", "mbr")})


MBR_SAMPLES = 32  # enough for a gain, and few enough to wait for

# Which searches look at a key; all look at the others.
_BEAMS, _DIVERSE, _SAMPLING = ("beam", "diverse"), ("diverse",), ("sampling",)
_LOOKED_AT_BY = {
    "beam": _BEAMS,
    "stopping": _BEAMS,
    "beam_groups": _DIVERSE,
    "diversity": _DIVERSE,
    "samples": _SAMPLING,
    "temperature": _SAMPLING,
    "top_k": _SAMPLING,
    "top_p": _SAMPLING,
    "min_p": _SAMPLING,
    "seed": _SAMPLING,
}


def _default(key: str) -> Any:
    return DecodingConfig.model_fields[key].default
