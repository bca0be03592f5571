"""Batches: the budget, every pair once an epoch, an order that a seed decides, and the layout of ids."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from typing import Literal

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2s_cli.config import SamplingConfig, TokenizerConfig
from s2s_cli.data import batches as module
from s2s_cli.data.batches import Batch, Sampler, make_batch, pad_rows, plan_batches
from s2s_cli.data.corpus import Corpus
from s2s_cli.data.sequences import Block, Sequences
from s2s_cli.data.tokenizer import Tokenizer, train_vocabulary

BUDGET = 120


def sentences(syllables: str, count: int, shortest: int) -> list[str]:
    rng = random.Random(8)
    words = ["".join(rng.choices(syllables.split(), k=rng.randint(1, 3))) for _ in range(40)]
    return [" ".join(rng.choices(words, k=rng.randint(shortest, 7))) for _ in range(count)]


SOURCES = sorted(set(sentences("ba ke li mo nu", 150, 1)))  # each once, so that it can be recognized
TARGETS = sentences("ra sho tin gu", len(SOURCES), 0)


@pytest.fixture(scope="module")
def pieces() -> Tokenizer:
    """Sides of different vocabularies and kinds, so that a mixed-up side shows."""
    source = train_vocabulary(SOURCES, TokenizerConfig(vocab_size=40), "source")
    return Tokenizer(source, train_vocabulary(TARGETS, TokenizerConfig(type="bpe", vocab_size=30), "target"))


def in_memory(pieces: Tokenizer, texts: tuple[list[str], list[str]]) -> Corpus:
    sides = (one.encode(side) for one, side in zip((pieces.source, pieces.target), texts, strict=True))
    source, target = (Sequences([Block.of(rows).part()]) for rows in sides)
    return Corpus(source, target, texts)


@pytest.fixture(scope="module")
def corpus(pieces: Tokenizer) -> Corpus:
    """All the pairs."""
    return in_memory(pieces, (SOURCES, TARGETS))


def sampler_of(
    corpus: Corpus, pieces: Tokenizer, seed: int = 1, sampling: SamplingConfig | None = None, passes: int = 1
) -> Sampler:
    return Sampler(corpus, pieces, BUDGET, seed, sampling, passes)


def next_epoch(sampler: Sampler) -> list[Batch]:
    epoch, batches = sampler.epoch, []
    while sampler.epoch == epoch:
        batches.append(sampler.next())
    return batches


def pairs_in(batch: Batch, pieces: Tokenizer) -> list[tuple[str, str]]:
    """The text of each pair: source and target output end with the end piece, which is cut off."""
    sources, targets = rows_of(batch)
    return [
        (pieces.source.decode(source[:-1]), pieces.target.decode(target[:-1]))
        for source, target in zip(sources, targets, strict=True)
    ]


def rows_of(batch: Batch) -> tuple[list[list[int]], list[list[int]]]:
    """Sources and target outputs, without padding."""
    sides = (batch.source, batch.src_len_B), (batch.tgt_out_BT, batch.tgt_len_B)
    first, second = ([row[:n] for row, n in zip(ids.tolist(), n_B.tolist(), strict=True)] for ids, n_B in sides)
    return first, second


def per_pass(rows: list[list[int]], passes: int) -> list[list[list[int]]]:
    size = len(rows) // passes
    return [rows[i * size : (i + 1) * size] for i in range(passes)]


def equal(a: Batch, b: Batch) -> bool:
    there = {name: tensor for name, tensor in vars(a).items() if tensor is not None}
    return all(torch.equal(tensor, vars(b)[name]) for name, tensor in there.items())


def all_equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(map(equal, first, second))


# Plans


tokens = st.integers(1, 6) | st.integers(1, 40)
lengths = st.lists(st.tuples(tokens, tokens), max_size=60)


@settings(max_examples=100)
@given(pairs=lengths, budget=st.integers(1, 150), seed=st.integers(0, 1000))
@example(pairs=[(40, 1), (1, 2), (1, 2)], budget=41, seed=0)  # one wide pair must not narrow the batches after it
def test_a_plan_holds_every_pair_once_and_keeps_to_the_budget(
    pairs: list[tuple[int, int]], budget: int, seed: int
) -> None:
    src_len, tgt_len = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    plan = [rows.tolist() for rows in plan_batches(order, src_len[order], tgt_len[order], budget)]
    assert sorted(row for rows in plan for row in rows) == list(range(len(pairs)))
    for rows in plan:
        widest = max(max(pairs[row]) for row in rows)
        assert len(rows) == 1 or len(rows) * widest <= budget
    for rows, (first, *_) in itertools.pairwise(plan):  # none could have taken one more
        assert (len(rows) + 1) * max(max(pairs[row]) for row in (*rows, first)) > budget


def test_a_pair_over_the_budget_makes_a_batch_of_its_own() -> None:
    pairs = torch.tensor([[3, 3], [50, 4], [3, 4], [4, 50], [4, 4]])
    plan = plan_batches(torch.arange(5), pairs[:, 0], pairs[:, 1], 20)
    alone = {tuple(rows.tolist()) for rows in plan if len(rows) == 1}
    assert {(1,), (3,)} <= alone
    assert sorted(torch.cat(plan).tolist()) == [0, 1, 2, 3, 4]


def test_a_plan_gathers_pairs_of_like_lengths() -> None:
    rng = random.Random(9)
    pairs = [(n, max(1, n + rng.randint(-3, 3))) for n in (rng.randint(1, 50) for _ in range(2000))]
    src_len, tgt_len = torch.tensor(pairs).unbind(1)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(1))

    def padding(plan: list[Tensor]) -> float:
        held = sum(len(rows) * int(lens[rows].max()) for rows in plan for lens in (src_len, tgt_len))
        return 1 - int((src_len + tgt_len).sum()) / held

    in_any_order = [order[start : start + 20] for start in range(0, len(order), 20)]
    assert padding(plan_batches(order, src_len[order], tgt_len[order], 1000)) < 0.1 < padding(in_any_order)


def test_the_order_decides_which_equal_lengths_meet() -> None:
    same = torch.full((40,), 5)
    plans = []
    for seed in (1, 1, 2):
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        plans.append({frozenset(rows.tolist()) for rows in plan_batches(order, same, same, 20)})
    assert plans[0] == plans[1] != plans[2]
    assert {len(rows) for rows in plans[0]} == {4}


# The sampler


@pytest.mark.parametrize("sampling", [None, SamplingConfig(alpha=0.2)], ids=["plain", "sampled"])
def test_every_pair_comes_once_in_every_epoch(
    corpus: Corpus, pieces: Tokenizer, sampling: SamplingConfig | None
) -> None:
    wanted = Counter(zip(SOURCES, TARGETS, strict=True))
    sampler = sampler_of(corpus, pieces, sampling=sampling)
    for epoch in range(2):
        assert sampler.epoch == epoch
        batches = next_epoch(sampler)
        assert Counter(pair for batch in batches for pair in pairs_in(batch, pieces)) == wanted


def test_batches_keep_to_the_budget(corpus: Corpus, pieces: Tokenizer) -> None:
    for batch in next_epoch(sampler_of(corpus, pieces)):
        held = max(batch.src_BS.numel(), batch.tgt_out_BT.numel())
        assert held <= BUDGET or len(batch.src_BS) == 1
        assert batch.tokens == int((batch.tgt_out_BT != pieces.target.specials.pad).sum())


def test_the_seed_and_the_epoch_decide_the_order(corpus: Corpus, pieces: Tokenizer) -> None:
    first, again, other = (sampler_of(corpus, pieces, seed) for seed in (1, 1, 2))
    epochs = [next_epoch(first) for _ in range(2)]
    assert all_equal(epochs[0], next_epoch(again))
    assert all_equal(epochs[1], next_epoch(again))
    assert not all_equal(epochs[0], epochs[1])
    assert not all_equal(epochs[0], next_epoch(other))

    def made_of(batches: list[Batch]) -> set[frozenset[tuple[str, str]]]:
        return {frozenset(pairs_in(batch, pieces)) for batch in batches}

    assert made_of(epochs[0]) != made_of(epochs[1])  # other batches, not only in another order


def test_an_epoch_does_not_go_from_short_to_long(corpus: Corpus, pieces: Tokenizer) -> None:
    widths = [batch.tgt_out_BT.shape[1] for batch in next_epoch(sampler_of(corpus, pieces))]
    assert widths != sorted(widths)
    assert widths != sorted(widths, reverse=True)


@pytest.mark.parametrize("sampling", [None, SamplingConfig(alpha=0.2)], ids=["plain", "sampled"])
@pytest.mark.parametrize("drawn", [0, 7, 30])
def test_a_restored_sampler_goes_on_with_the_very_next_batch(
    corpus: Corpus, pieces: Tokenizer, sampling: SamplingConfig | None, drawn: int
) -> None:
    sampler = sampler_of(corpus, pieces, sampling=sampling)
    for _ in range(drawn):
        sampler.next()
    state = dict(sampler.state)
    following = [sampler.next() for _ in range(20)]
    assert sampler.epoch > state["epoch"]

    restored = sampler_of(corpus, pieces, sampling=sampling)
    restored.next()
    restored.restore(state)
    assert restored.state == state
    assert all_equal([restored.next() for _ in following], following)
    assert restored.state == sampler.state


def test_an_epoch_of_several_pools_gives_each_pair_once_and_can_be_restored_anywhere(
    corpus: Corpus, pieces: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = sorted(pair for batch in next_epoch(sampler_of(corpus, pieces)) for pair in pairs_in(batch, pieces))
    monkeypatch.setattr(module, "POOL_PAIRS", 40)
    sampler = sampler_of(corpus, pieces)
    states, shares, epochs = [], [], []
    while sampler.epoch < 2:
        states.append(dict(sampler.state))
        shares.append(sampler.progress)
        epochs.append(sampler.next())
    assert max(state["pool"] for state in states) == (len(corpus) - 1) // 40 > 2
    second = next(i for i, state in enumerate(states) if state["epoch"] == 1)
    assert shares[0] == shares[second] == 0
    assert shares[:second] == sorted(set(shares[:second]))
    assert shares[second - 1] < 1
    for part in (epochs[:second], epochs[second:]):
        assert sorted(pair for batch in part for pair in pairs_in(batch, pieces)) == everything
    assert not all_equal(epochs[:second], epochs[second:])
    for number in range(0, len(states), 3):
        restored = sampler_of(corpus, pieces)
        restored.restore(states[number])
        assert all_equal([restored.next() for _ in epochs[number:]], epochs[number:])


def test_a_corpus_of_one_pool_is_planned_as_before_there_were_pools(corpus: Corpus, pieces: Tokenizer) -> None:
    generator = torch.Generator().manual_seed(3 * 1_000_003)
    order = torch.randperm(len(corpus), generator=generator)
    lengths = corpus.source.lengths(order) + 1, corpus.target.lengths(order) + 1
    plan = plan_batches(order, *lengths, BUDGET)
    wanted = [plan[i] for i in torch.randperm(len(plan), generator=generator).tolist()]
    batches = next_epoch(sampler_of(corpus, pieces, seed=3))
    assert [batch.src_len_B.tolist() for batch in batches] == [
        (corpus.source.lengths(rows) + 1).tolist() for rows in wanted
    ]


def test_the_state_is_a_copy_of_numbers(corpus: Corpus, pieces: Tokenizer) -> None:
    sampler = sampler_of(corpus, pieces)
    state = sampler.state
    sampler.next()
    assert state == {"epoch": 0, "pool": 0, "index": 0} != sampler.state


def test_progress_goes_from_0_to_1_in_each_epoch(corpus: Corpus, pieces: Tokenizer) -> None:
    sampler = sampler_of(corpus, pieces)
    batches = len(next_epoch(sampler_of(corpus, pieces)))
    for index in range(batches):
        assert sampler.progress == pytest.approx(index / batches)
        sampler.next()
    assert (sampler.epoch, sampler.progress) == (1, 0)


def test_sampled_segmentations_differ_between_epochs_and_sides_keep_their_text(
    corpus: Corpus, pieces: Tokenizer
) -> None:
    def by_text(batches: list[Batch]) -> dict[str, list[int]]:
        return {
            text: row
            for batch in batches
            for (text, _), row in zip(pairs_in(batch, pieces), rows_of(batch)[0], strict=True)
        }

    sampler = sampler_of(corpus, pieces, sampling=SamplingConfig(alpha=0.2))
    first, second = by_text(next_epoch(sampler)), by_text(next_epoch(sampler))
    plain = by_text(next_epoch(sampler_of(corpus, pieces)))
    assert set(first) == set(second) == set(plain)
    assert first != second
    assert plain not in (first, second)


@pytest.mark.parametrize("sides", ["both", "source", "target"])
@pytest.mark.parametrize("passes", [1, 2])
def test_the_last_pass_reads_what_is_drawn_of_the_sources_and_all_write_the_same_targets(
    corpus: Corpus, pieces: Tokenizer, sides: Literal["both", "source", "target"], passes: int
) -> None:
    drawn = set()
    sampler = sampler_of(corpus, pieces, sampling=SamplingConfig(alpha=0.1, sides=sides), passes=passes)
    for usual, batch in zip(next_epoch(sampler_of(corpus, pieces)), next_epoch(sampler), strict=True):
        assert pairs_in(batch, pieces) == pairs_in(usual, pieces) * passes
        sources, targets = (per_pass(side, passes) for side in rows_of(batch))
        usual_sources, usual_targets = rows_of(usual)
        assert sources[:-1] == [usual_sources] * (passes - 1)
        assert targets == [targets[0]] * passes
        drawn |= {"source"} if sources[-1] != usual_sources else set()
        drawn |= {"target"} if targets[0] != usual_targets else set()
    assert drawn == ({"source", "target"} if sides == "both" else {sides})


def test_every_batch_draws_anew(pieces: Tokenizer) -> None:
    texts = [max(SOURCES, key=len)] * 12, [max(TARGETS, key=len)] * 12
    same = in_memory(pieces, texts)
    sampler = Sampler(same, pieces, 1, 1, SamplingConfig(alpha=0.1))
    batches = [batch for _ in range(2) for batch in next_epoch(sampler)]
    assert len(batches) == 24
    for side in ("src_BS", "tgt_out_BT"):
        assert len({tuple(vars(batch)[side][0].tolist()) for batch in batches}) > 15


def test_sampling_with_alpha_0_is_off(corpus: Corpus, pieces: Tokenizer) -> None:
    off = next_epoch(sampler_of(corpus, pieces, sampling=SamplingConfig(alpha=0)))
    assert all_equal(off, next_epoch(sampler_of(corpus, pieces)))


# The layout


def test_padded_rows_are_the_rows_and_then_padding() -> None:
    padded, lengths_of = pad_rows([[5, 6, 7], [], [8]], 9)
    assert padded.tolist() == [[5, 6, 7], [9, 9, 9], [8, 9, 9]]
    assert lengths_of.tolist() == [3, 0, 1]
    assert padded.dtype == torch.int64


def test_a_batch_is_laid_out_as_a_plain_loop_would(pieces: Tokenizer) -> None:
    rng = random.Random(10)
    sources = [[rng.randint(4, 30) for _ in range(rng.randint(0, 7))] for _ in range(12)]
    targets = [[rng.randint(4, 9) for _ in range(rng.randint(0, 9))] for _ in range(12)]
    batch = make_batch(sources, targets, pieces)
    src, tgt = pieces.source.specials, pieces.target.specials
    assert batch.src_BS.shape == (12, 1 + max(map(len, sources)))
    assert batch.tgt_in_BT.shape == batch.tgt_out_BT.shape == (12, 1 + max(map(len, targets)))
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        assert batch.src_len_B[row] == len(source) + 1
        assert batch.tgt_len_B[row] == len(target) + 1
        for column, piece in enumerate(batch.src_BS[row].tolist()):
            wanted = source[column] if column < len(source) else src.eos if column == len(source) else src.pad
            assert piece == wanted
        for column in range(batch.tgt_in_BT.shape[1]):
            read, wanted = int(batch.tgt_in_BT[row, column]), int(batch.tgt_out_BT[row, column])
            end = len(target)
            assert read == (tgt.bos if column == 0 else target[column - 1] if column <= end else tgt.pad)
            assert wanted == (target[column] if column < end else tgt.eos if column == end else tgt.pad)
    assert batch.tokens == sum(len(target) + 1 for target in targets)


def test_a_batch_is_frozen_and_moves_whole(pieces: Tokenizer) -> None:
    batch = make_batch([[5]], [[6, 7]], pieces)
    with pytest.raises(AttributeError):
        batch.src_BS = batch.tgt_in_BT  # type: ignore[misc]
    assert batch.to(torch.device("cpu")) is batch
    moved = vars(batch.to(torch.device("meta"))).values()
    assert [tensor.device.type for tensor in moved if tensor is not None] == ["meta"] * 5
    assert equal(replace(batch), batch)


@pytest.mark.parametrize("sampling", [None, SamplingConfig(alpha=0.2)], ids=["plain", "sampled"])
@pytest.mark.parametrize(("batches", "workers"), [(1, 2), (2, 2), (4, 3), (6, 4), (1, 50)])
def test_the_shares_of_an_update_are_together_what_one_worker_does(
    corpus: Corpus, pieces: Tokenizer, sampling: SamplingConfig | None, batches: int, workers: int
) -> None:
    """Through four epochs; each worker's share has the tokens of all, and a position that does not differ."""
    alone, *others = (sampler_of(corpus, pieces, sampling=sampling) for _ in range(workers + 1))
    spread = []
    while alone.epoch < 4:
        whole = alone.share(batches)
        shares = [sampler.share(batches, worker, workers) for worker, sampler in enumerate(others)]
        assert {sampler.state == alone.state for sampler in others} == {True}
        assert {share.tokens for share in shares} == {whole.tokens} == {sum(batch.tokens for batch in whole.batches)}
        assert len({len(share.batches) for share in shares}) == 1
        each = [sum(batch.tokens for batch in share.batches) for share in shares]
        assert sum(each) == whole.tokens
        costs = [sum(b.source.numel() + b.tgt_out_BT.numel() for b in share.batches) for share in shares]
        spread.append(max(costs) * workers / sum(costs))
        given = [
            pair for share in shares for batch in share.batches if batch.tokens for pair in pairs_in(batch, pieces)
        ]
        assert sorted(given) == sorted(pair for batch in whole.batches for pair in pairs_in(batch, pieces))
    assert workers == 50 or sorted(spread)[len(spread) // 2] < 1.3


def test_a_worker_without_pairs_has_a_source_and_no_target_pieces(corpus: Corpus, pieces: Tokenizer) -> None:
    alone, other = sampler_of(corpus, pieces), sampler_of(corpus, pieces)
    (whole,) = alone.share(1).batches
    ((empty,), tokens) = other.share(1, 0, 1000)
    assert tokens == whole.tokens
    assert empty.tokens == 0
    assert empty.src_len_B.tolist() == whole.src_len_B[:1].tolist()
