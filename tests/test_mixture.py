"""Mixed texts: how much an epoch takes of each, beside plain references, and that it goes on exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st

from s2s_cli.config import DataConfig, ParallelText, TokenizerConfig
from s2s_cli.data import batches
from s2s_cli.data.batches import Sampler
from s2s_cli.data.corpus import Corpus, read_corpus, train_tokenizer
from s2s_cli.data.mixture import Mixture, tempered
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.errors import UserError

texts = st.lists(st.tuples(st.integers(1, 60), st.floats(0.01, 100)), min_size=1, max_size=5)


def mixture_of(drawn: list[tuple[int, float]]) -> Mixture:
    sizes, weights = zip(*drawn, strict=True)
    return Mixture(sizes, weights)


def by_text(mixture: Mixture, epoch: int) -> list[list[int]]:
    """The pairs that an epoch takes, numbered within each text."""
    rows, found, first = mixture.rows(7, epoch).tolist(), [], 0
    for size in mixture.sizes:
        found.append([row - first for row in rows if first <= row < first + size])
        first += size
    assert sum(map(len, found)) == len(rows)
    return found


# Shares


@given(drawn=texts)
def test_an_epoch_is_as_long_as_the_corpus_and_divided_by_weight(drawn: list[tuple[int, float]]) -> None:
    mixture, total = mixture_of(drawn), sum(size for size, _ in drawn)
    assert sum(mixture.quotas) == total
    for quota, weight in zip(mixture.quotas, mixture.weights, strict=True):
        assert abs(quota - total * weight / sum(mixture.weights)) < 1 + 1e-9


def test_the_largest_remainders_are_rounded_up() -> None:
    """Shares of 2.5, 3.25 and 4.25; and a remainder of none."""
    assert Mixture((8, 1, 1), (2.5, 3.25, 4.25)).quotas == (3, 3, 4)
    assert Mixture((3, 4, 5), (1, 1, 2)).quotas == (3, 3, 6)


@pytest.mark.parametrize(
    ("temperature", "shares"),
    [
        (1, (0.9, 0.09, 0.01)),
        (2, (0.7034, 0.2224, 0.0741)),
        (5, (0.4908, 0.3097, 0.1995)),
        (1000, (0.3341, 0.3333, 0.3326)),
    ],
)
def test_a_temperature_draws_in_proportion_to_a_root_of_the_sizes(
    temperature: float, shares: tuple[float, ...]
) -> None:
    sizes = (90_000, 9_000, 1_000)
    quotas = Mixture(sizes, tempered(sizes, temperature)).quotas
    assert [quota / 100_000 for quota in quotas] == pytest.approx(shares, abs=1e-4)


def test_at_temperature_1_every_pair_comes_once() -> None:
    sizes = (7, 1, 23)
    assert Mixture(sizes, tempered(sizes, 1)).rows(1, 3).sort().values.tolist() == list(range(31))


# Which pairs


@given(drawn=texts)
def test_all_pairs_of_a_text_come_before_any_comes_again_across_epochs(drawn: list[tuple[int, float]]) -> None:
    mixture = mixture_of(drawn)
    streams: list[list[int]] = [[] for _ in drawn]
    for epoch in range(4):
        for stream, taken, quota in zip(streams, by_text(mixture, epoch), mixture.quotas, strict=True):
            assert len(taken) == quota
            stream += taken
    for stream, size in zip(streams, mixture.sizes, strict=True):
        for start in range(0, len(stream), size):
            once = stream[start : start + size]
            assert len(set(once)) == len(once)
            assert set(once) <= set(range(size))


def test_every_pass_texts_and_seeds_have_orders_of_their_own() -> None:
    mixture = Mixture((50, 50), (1.0, 1.0))
    orders = [tuple(order) for epoch in range(3) for order in by_text(mixture, epoch)]
    orders += [tuple(mixture.rows(8, 0)[:50].tolist())]
    assert len(set(orders)) == 7
    assert torch.equal(mixture.rows(7, 2), mixture.rows(7, 2))


# In the corpus, the sampler and the command


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    return path


def rules(paths: list[Path], **changes: object) -> DataConfig:
    return DataConfig.model_validate(
        {"train": [{"tsv": path} for path in paths], "valid": {"tsv": paths[0]}, **changes}
    )


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = write(tmp_path_factory.mktemp("text") / "all.tsv", toy.pairs(200, 1))
    return train_tokenizer([ParallelText(tsv=path)], TokenizerConfig(type="word", vocab_size=100))


def corpus_of(folder: Path, pieces: Tokenizer, border: int, **changes: object) -> Corpus:
    pairs = toy.pairs(60, 2)
    data = rules(
        [write(folder / "a.tsv", pairs[:border]), write(folder / "b.tsv", [*pairs[border:], ("", "a")])], **changes
    )
    return read_corpus(data.train, pieces, data)


@pytest.mark.parametrize("pool", [2**20, 25])
def test_the_sampler_gives_what_the_mixture_takes_and_can_be_restored_anywhere(
    tmp_path: Path, pieces: Tokenizer, monkeypatch: pytest.MonkeyPatch, pool: int
) -> None:
    monkeypatch.setattr(batches, "POOL_PAIRS", pool)
    corpus = corpus_of(tmp_path, pieces, 50, temperature=5)
    assert corpus.mixture is not None
    assert corpus.mixture.sizes == (50, 10)
    sources = [tuple(row) for row in corpus.source.rows(range(60))]
    sampler, states, given = Sampler(corpus, pieces, 64, 3), [], []
    while sampler.epoch < 3:
        states.append(sampler.state)
        batch = sampler.next()
        given.append(
            [tuple(row[: n - 1]) for row, n in zip(batch.source.tolist(), batch.src_len_B.tolist(), strict=True)]
        )
    for epoch in range(3):
        found = Counter(
            row for state, rows in zip(states, given, strict=True) if state["epoch"] == epoch for row in rows
        )
        assert found == Counter(sources[row] for row in corpus.mixture.rows(3, epoch).tolist())
    for at in range(0, len(states), 3):
        sampler.restore(states[at])
        assert [sampler.next().src_len_B.tolist() for _ in given[at:]] == [
            [len(r) + 1 for r in rows] for rows in given[at:]
        ]


def test_what_decides_the_order_is_in_the_fingerprint(tmp_path: Path, pieces: Tokenizer) -> None:
    plain = corpus_of(tmp_path, pieces, 50)
    assert plain.mixture is None
    prints = [corpus_of(tmp_path, pieces, 50, temperature=t).fingerprint for t in (1, 2, 5)]
    prints += [corpus_of(tmp_path, pieces, 49, temperature=1).fingerprint, plain.fingerprint]
    assert len(set(prints)) == 5
    assert corpus_of(tmp_path, pieces, 30).fingerprint == plain.fingerprint  # unmixed, the border changes nothing
    assert replace(plain, mixture=Mixture((50, 10), (1.0, 1.0))).fingerprint != plain.fingerprint


def test_a_text_of_which_nothing_is_left_cannot_be_mixed(tmp_path: Path, pieces: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"b\.tsv: no sentence pairs are left of it"):
        corpus_of(tmp_path, pieces, 60, temperature=2)


def test_the_command_tells_what_an_epoch_takes(tmp_path: Path) -> None:
    for name, count in (("many", 400), ("few", 40)):
        write(tmp_path / f"{name}.tsv", toy.pairs(count, 5))
    mixed = [{"tsv": "many.tsv", "weight": 3}, {"tsv": "f*.tsv", "weight": 1}]
    path = toy.write_config(tmp_path, data__train=mixed, training__max_steps=2)
    done = toy.s2s("train", "--config", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert b"an epoch takes so many pairs: 330 of the 400 of many.tsv, 110 of the 40 of f*.tsv" in done.stderr
