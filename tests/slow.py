"""Searches over a toy model as slow as they are plain: lists of hypotheses, each step of each computed anew."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from test_search import BOS, EOS, LOOKS, Ids, Scored, Toy

from s2s_cli.config import DecodingConfig
from s2s_cli.search.flight import Guidance, Hypothesis, Sources
from s2s_cli.search.loop import decode
from s2s_cli.search.rules import Control, MinimumLength, NoRepeatedNgrams, RepetitionPenalty


def controls(config: DecodingConfig) -> tuple[Control, ...]:
    """What the config asks for, as the translator hands it to the search."""
    found: list[Control] = []
    if config.min_length:
        found.append(MinimumLength(EOS, config.min_length))
    if config.no_repeat_ngram:
        found.append(NoRepeatedNgrams(config.no_repeat_ngram))
    if config.repetition_penalty != 1:
        found.append(RepetitionPenalty(config.repetition_penalty))
    return tuple(found)


def search(
    model: Toy,
    sentences: Sequence[int],
    limits: Sequence[int],
    config: DecodingConfig,
    *,
    at_once: int | None = None,
    seeds: Sequence[int] | None = None,
    suppress: Sequence[int] = (),
    keep_attention: bool = False,
) -> list[list[Hypothesis]]:
    """The search itself, with the controls that the config asks for."""
    size, rules = at_once or len(sentences), controls(config)
    guidance = [Guidance(rules, seed) for seed in seeds or sentences]
    batches = []
    for start in range(0, len(sentences), size):
        part = slice(start, start + size)
        src_BS = torch.tensor(sentences[part])[:, None]
        lengths_B = torch.full((len(src_BS),), LOOKS)
        batches.append(Sources(src_BS, lengths_B, torch.tensor(limits[part]), guidance=guidance[part]))
    return decode(model, batches, config, bos=BOS, eos=EOS, suppress=suppress, keep_attention=keep_attention)


def allowed(
    model: Toy, sentence: int, ids: Ids, limit: int, config: DecodingConfig, suppress: Sequence[int] = ()
) -> dict[int, float]:
    """What may follow, and how probable the search takes it to be; a rule that would leave nothing does not count."""
    scores = model.log_probabilities(sentence, ids)
    pieces = [EOS] if len(ids) + 1 >= limit else [piece for piece in range(model.size) if piece not in suppress]
    if len(ids) < config.min_length:
        pieces = [piece for piece in pieces if piece != EOS] or pieces
    if n := config.no_repeat_ngram:
        before = [ids[start : start + n] for start in range(len(ids) - n + 1)]
        pieces = [piece for piece in pieces if (*ids, piece)[-n:] not in before] or pieces
    return {piece: scores[piece] * (config.repetition_penalty if piece in ids else 1) for piece in pieces}


def normalized(total: float, length: int, config: DecodingConfig) -> float:
    penalties = {"gnmt": (5 + length) / 6, "average": length, "none": 1}
    return total / penalties[config.normalization] ** config.length_penalty


def final_score(model: Toy, sentence: int, ids: Ids, total: float, config: DecodingConfig) -> float:
    """Wu et al. 2016, equation 14."""
    score = normalized(total, len(ids) + 1, config)
    if config.coverage_penalty:
        steps = [model.after(sentence, ids[:length])[1] for length in range(len(ids) + 1)]
        coverage = sum(math.log(min(sum(step[place] for step in steps), 1.0)) for place in range(LOOKS))
        score += config.coverage_penalty * coverage
    return score


def slow_search(
    model: Toy, sentence: int, limit: int, config: DecodingConfig, suppress: Sequence[int] = ()
) -> list[Scored]:
    """A beam, or beams in groups one after the other: score, what the search summed up, and pieces, the best first.

    A group looks at its 2W best extensions. Those of them that end and rank among the first W are finished, the W best
    of those that do not end live on. It is over when the best that lives is no better than the worst of as many
    finished ones as it collects.
    """
    groups, width = config.groups, config.beam // config.groups
    collects = width if config.mbr else min(width, config.n_best)
    living: list[list[tuple[float, Ids]]] = [[(0.0, ())] for _ in range(groups)]
    finished: list[list[Scored]] = [[] for _ in range(groups)]
    ended = [0] * groups
    for length in range(1, limit + 1):
        chosen = Counter[int]()
        for group in range(groups):
            extensions = []
            for total, ids in living[group]:
                for piece, said in allowed(model, sentence, ids, limit, config, suppress).items():
                    liked = total + said - (config.diversity * chosen[piece] if groups > 1 else 0)
                    extensions.append((liked, total + said, (*ids, piece)))
            extensions = sorted(extensions, reverse=True)[: 2 * width]
            for _, total, ids in extensions[:width]:
                chosen[EOS] += ids[-1] == EOS
                if ids[-1] == EOS:
                    score = final_score(model, sentence, ids[:-1], total, config)
                    finished[group].append((score, total, ids[:-1]))
                    ended[group] += 1
            finished[group] = sorted(finished[group], reverse=True)[:collects]
            living[group] = [(total, ids) for _, total, ids in extensions if ids[-1] != EOS][:width]
            chosen.update(ids[-1] for _, ids in living[group])
        for group in range(groups):
            full = config.stopping == "full" and ended[group] >= width
            reach = length if config.stopping == "early" or full else limit
            if living[group] and len(finished[group]) == collects:
                best = max(total for total, _ in living[group])
                if normalized(best, reach, config) <= finished[group][-1][0]:
                    living[group] = []
    found = sorted((item for group in finished for item in group), reverse=True)
    return list({ids: (score, total, ids) for score, total, ids in found[::-1]}.values())[::-1]


def teacher_forced(model: Toy, sentence: int, ids: Ids) -> list[float]:
    """The model's log-probability of each piece and of the end."""
    pieces = (*ids, EOS)
    return [model.log_probabilities(sentence, pieces[:place])[piece] for place, piece in enumerate(pieces)]
