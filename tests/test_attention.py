"""Attention against its equations, written for one query of one sentence, without padding."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from s2s_cli.config import DecoderConfig, EncoderConfig, ModelConfig
from s2s_cli.model import attention as module
from s2s_cli.model.attention import ATTENTIONS, Attention
from s2s_cli.model.interface import Encoded, Memory

SCORED = sorted(ATTENTIONS.keys() - {"none"})
LENGTHS = [4, 1, 7, 3]
QUERIES = 5
Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def times(matrix: list[Vector], vector: Vector) -> Vector:
    return [dot(row, vector) for row in matrix]


def reference_score(name: str, weights: dict[str, list], query: Vector, state: Vector) -> float:
    """Luong et al. 2015, equation 8; Bahdanau et al. 2015, A.1.2, whose Ua h_j has the bias here."""
    if name == "luong-dot":
        return dot(query, state)
    if name == "luong-general":
        return dot(query, times(weights["key_projection.weight"], state))
    from_query = times(weights["query_projection.weight"], query)
    from_key = times(weights["key_projection.weight"], state)
    hidden = zip(from_query, from_key, weights["key_projection.bias"], strict=True)
    return dot(weights["scorer.weight"][0], [math.tanh(q + k + b) for q, k, b in hidden])


def reference(name: str, weights: dict[str, list], query: Vector, states: list[Vector]) -> tuple[Vector, Vector]:
    """Context and weights of one query."""
    exponentials = [math.exp(reference_score(name, weights, query, state)) for state in states]
    shares = [value / sum(exponentials) for value in exponentials]
    return [dot(shares, list(column)) for column in zip(*states, strict=True)], shares


@pytest.fixture
def build(shake: Callable[[nn.Module], None]) -> Callable[[str], Attention]:
    def build(name: str) -> Attention:
        config = ModelConfig(
            encoder=EncoderConfig(hidden_size=3, bidirectional=True),
            decoder=DecoderConfig(hidden_size=6 if name == "luong-dot" else 5),
            attention=name,
            attention_size=4,
        )
        attention = ATTENTIONS[name](config)
        shake(attention)
        return attention.double()

    return build


@pytest.fixture
def encoded() -> Encoded:
    """Encoder states of four sentences; what stands in the padding is large, so that a leak shows."""
    mask_BS = torch.arange(max(LENGTHS))[None, :] < torch.tensor(LENGTHS)[:, None]
    states_BSC = torch.randn(len(LENGTHS), max(LENGTHS), 6, dtype=torch.float64)
    states_BSC[~mask_BS] = 1e3
    return Encoded(states_BSC, mask_BS, torch.randn(len(LENGTHS), 6, dtype=torch.float64), ())


def queries_for(attention: Attention) -> Tensor:
    return torch.randn(len(LENGTHS), QUERIES, attention.query_size, dtype=torch.float64)


@pytest.mark.parametrize("name", SCORED)
def test_context_and_weights_follow_the_equations(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name)
    query_BQH = queries_for(attention)
    found = attention.attend(query_BQH, attention.memorize(encoded), ())
    values = {key: tensor.tolist() for key, tensor in attention.state_dict().items()}
    for sentence, length in enumerate(LENGTHS):
        states = encoded.states_BSC[sentence, :length].tolist()
        for query in range(QUERIES):
            context, shares = reference(name, values, query_BQH[sentence, query].tolist(), states)
            assert found.context_BQC[sentence, query].tolist() == pytest.approx(context, abs=1e-5)
            assert found.weights_BQS[sentence, query, :length].tolist() == pytest.approx(shares, abs=1e-6)


@pytest.mark.parametrize("name", SCORED)
def test_weights_sum_to_one_and_are_exactly_zero_on_padding(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name)
    weights_BQS = attention.attend(queries_for(attention), attention.memorize(encoded), ()).weights_BQS
    torch.testing.assert_close(weights_BQS.sum(-1), torch.ones(len(LENGTHS), QUERIES, dtype=torch.float64))
    padding = ~encoded.mask_BS[:, None, :].expand_as(weights_BQS)
    assert padding.any()
    assert (weights_BQS[padding] == 0).all()
    assert (weights_BQS[~padding] > 0).all()


@pytest.mark.parametrize("name", SCORED)
def test_what_stands_in_the_padding_does_not_matter(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name)
    query_BQH = queries_for(attention)
    before = attention.attend(query_BQH, attention.memorize(encoded), ())
    states_BSC = encoded.states_BSC.masked_fill(~encoded.mask_BS[:, :, None], -7.0)
    changed = Encoded(states_BSC, encoded.mask_BS, encoded.last_BC, ())
    after = attention.attend(query_BQH, attention.memorize(changed), ())
    torch.testing.assert_close(after.context_BQC, before.context_BQC)
    torch.testing.assert_close(after.weights_BQS, before.weights_BQS)


@pytest.mark.parametrize("name", SCORED)
def test_large_scores_do_not_overflow(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name).float()
    small = Encoded(encoded.states_BSC.float(), encoded.mask_BS, encoded.last_BC.float(), ())
    found = attention.attend(1e4 * queries_for(attention).float(), attention.memorize(small), ())
    assert torch.isfinite(found.context_BQC).all()
    torch.testing.assert_close(found.weights_BQS.sum(-1), torch.ones(len(LENGTHS), QUERIES))


def test_none_gives_the_last_encoder_state_and_zero_weights(build: Callable, encoded: Encoded) -> None:
    attention = build("none")
    found = attention.attend(queries_for(attention), attention.memorize(encoded), ())
    for query in range(QUERIES):
        assert torch.equal(found.context_BQC[:, query], encoded.last_BC)
    assert torch.equal(found.weights_BQS, torch.zeros(len(LENGTHS), QUERIES, max(LENGTHS), dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(ATTENTIONS))
def test_all_queries_at_once_equal_one_at_a_time(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name)
    query_BQH, memory, state = queries_for(attention), attention.memorize(encoded), attention.initial_state(4)
    together = attention.attend(query_BQH, memory, state)
    for query in range(QUERIES):
        alone = attention.attend(query_BQH[:, query : query + 1], memory, state)
        torch.testing.assert_close(alone.context_BQC, together.context_BQC[:, query : query + 1])
        torch.testing.assert_close(alone.weights_BQS, together.weights_BQS[:, query : query + 1])
        state = alone.state


@pytest.mark.parametrize("name", ["luong-concat", "bahdanau"])
@pytest.mark.parametrize("queries_at_once", [0, 1, 2, 3, QUERIES])
def test_additive_scores_in_slices_equal_unsliced(
    name: str, queries_at_once: int, build: Callable, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = build(name)
    query_BQH, memory = queries_for(attention), attention.memorize(encoded)
    whole = attention.score(query_BQH, memory.keys_BSA)
    widest = [0]
    tanh = torch.tanh

    def watched(tensor: Tensor) -> Tensor:
        widest.append(tensor.shape[1])
        return tanh(tensor)

    monkeypatch.setattr(module, "ADDITIVE_LIMIT", queries_at_once * memory.keys_BSA.numel() + 1)
    monkeypatch.setattr(torch, "tanh", watched)
    sliced = attention.score(query_BQH, memory.keys_BSA)
    assert max(widest) == max(1, queries_at_once)
    torch.testing.assert_close(sliced, whole)


@pytest.mark.parametrize("name", SCORED)
def test_the_source_is_projected_once_a_sentence(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name)
    memory = attention.memorize(encoded)
    query_BQH = queries_for(attention)
    before = attention.attend(query_BQH, memory, ()).weights_BQS
    for key, parameter in attention.named_parameters():
        if key.startswith("key_projection"):
            parameter.data.zero_()
    assert torch.equal(attention.attend(query_BQH, memory, ()).weights_BQS, before)


def test_memory_select_gives_the_memory_of_those_sentences(build: Callable, encoded: Encoded) -> None:
    attention = build("luong-general")
    memory: Memory = attention.memorize(encoded)
    query_BQH, rows = queries_for(attention), torch.tensor([2, 0])
    chosen = attention.attend(query_BQH[rows], memory.select(rows), ())
    together = attention.attend(query_BQH, memory, ())
    torch.testing.assert_close(chosen.context_BQC, together.context_BQC[rows])
    torch.testing.assert_close(chosen.weights_BQS, together.weights_BQS[rows])


def test_only_bahdanau_looks_before_the_cell() -> None:
    assert {name for name, kind in ATTENTIONS.items() if kind.before_cell} == {"bahdanau"}
