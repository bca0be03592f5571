"""Which words of a translation stand for which of the source, as attention tells.

Shapes: T target pieces, S source pieces, both with the end of sentence; W source words, V target words.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s2s_cli.data.words import Words
from s2s_cli.translate.entry import Translation

Links = list[tuple[int, int]]
"""Pairs of a source word and a target word, both counted from 0."""


def align(translation: Translation) -> Links:
    """Each target word, in order, with the source word that its pieces look at most; the end of sentence is left out.

    Of feature vectors each is a word. A blank translation has no links.
    """
    if translation.attention is None:
        return []
    weights_TS = translation.attention.double()
    source_SW, target_TV = (_shares(words) for words in (translation.source_words, translation.target_words))
    weights_VW = target_TV.T @ weights_TS @ source_SW
    if not weights_VW.numel():
        return []
    best_V = weights_VW.argmax(1).tolist()
    return [(best_V[word], word) for word in range(len(best_V)) if bool(target_TV[:, word].any())]


def _shares(words: Words) -> Tensor:
    """What of each piece belongs to each word, (pieces, words): what lies in several is shared among them equally."""
    share = torch.zeros(len(words), 1 + max((word for held in words for word in held), default=-1), dtype=torch.float64)
    for piece, held in enumerate(words):
        share[piece, list(held)] = 1 / max(1, len(held))
    return share


def pharaoh(links: Links) -> str:
    """Links as text: `0-0 1-2`, source word first."""
    return " ".join(f"{source}-{target}" for source, target in links)
