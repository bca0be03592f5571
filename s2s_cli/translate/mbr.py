"""Minimum Bayes risk: of the translations that were found, the one that agrees most with the others.

Shapes: N different texts, F features that texts have or have not, I pairs of a text and what it has, J those of a block
of features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from s2s_cli.translate.entry import Translation

ORDER, BETA = 6, 2  # sacreBLEU's chrF2
BLOCK = 4096  # features that are compared at once


def by_utility(translations: Sequence[Translation]) -> list[Translation]:
    """Different texts by their expected utility, the highest first (Eikema and Aziz 2020, equation 5).

    A text that was found several times counts as often where others are compared with it. Ties stay in order.
    """
    count = Counter(translation.text for translation in translations)
    first: dict[str, Translation] = {}
    for translation in translations:
        first.setdefault(translation.text, translation)
    weight_N = torch.tensor([count[text] for text in first], dtype=torch.float64)
    utility_NN = chrf(list(first))
    others = max(1, len(translations) - 1)  # a translation is not its own reference
    utility_N = ((utility_NN @ weight_N - utility_NN.diagonal()) / others).round(decimals=9)  # rounding makes no ranks
    ranked = zip(utility_N.tolist(), first.values(), strict=True)
    return [replace(one, utility=value) for value, one in sorted(ranked, key=lambda pair: -pair[0])]


def chrf(texts: Sequence[str]) -> Tensor:
    """Sentence chrF (Popović 2015) of each text, as a hypothesis, against each, as the reference: 0 to 100, (N, N)."""
    packed = ["".join(text.split()) for text in texts]
    precision_NN, recall_NN, orders_NN = (torch.zeros(len(texts), len(texts), dtype=torch.float64) for _ in range(3))
    for n in range(1, ORDER + 1):
        size_N = torch.tensor([max(0, len(text) - n + 1) for text in packed], dtype=torch.float64)
        matches_NN = _matches(packed, n)
        both_NN = (size_N[:, None] > 0) & (size_N > 0)
        precision_NN += torch.where(both_NN, matches_NN / size_N[:, None], 0)
        recall_NN += torch.where(both_NN, matches_NN / size_N, 0)
        orders_NN += both_NN
    precision_NN, recall_NN = precision_NN / orders_NN, recall_NN / orders_NN
    score_NN = (1 + BETA**2) * precision_NN * recall_NN / (BETA**2 * precision_NN + recall_NN)
    return 100 * score_NN.nan_to_num(0)


def _matches(texts: Sequence[str], n: int) -> Tensor:
    """How many character n-grams each two texts share, each as often as it stands in both: (N, N).

    The k-th occurrence of an n-gram is a feature, so that a product of matrices counts what two texts share.
    """
    numbers: dict[tuple[str, int], int] = {}
    rows, columns = [], []
    for row, text in enumerate(texts):
        seen = Counter[str]()
        for start in range(len(text) - n + 1):
            gram = text[start : start + n]
            seen[gram] += 1
            rows.append(row)
            columns.append(numbers.setdefault((gram, seen[gram]), len(numbers)))
    column_I, order_I = torch.tensor(columns, dtype=torch.int64).sort()
    row_I = torch.tensor(rows, dtype=torch.int64)[order_I]
    matches_NN = torch.zeros(len(texts), len(texts), dtype=torch.float64)
    sizes = torch.bincount(column_I // BLOCK).tolist()
    for block, (row_J, column_J) in enumerate(
        zip(torch.split(row_I, sizes), torch.split(column_I, sizes), strict=True)
    ):
        has_NF = torch.zeros(len(texts), BLOCK)
        has_NF[row_J, column_J - block * BLOCK] = 1
        matches_NN += has_NF @ has_NF.t()
    return matches_NN
