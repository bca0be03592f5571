"""Attention against its equations, written for one query of one sentence, without padding."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from s2s_cli.config import DOT, DecoderConfig, EncoderConfig, ModelConfig
from s2s_cli.model import attention as module
from s2s_cli.model.attention import ATTENTIONS, Attention
from s2s_cli.model.coverage import COVERAGES
from s2s_cli.model.interface import Attended, AttentionState, Encoded, Memory

SCORED = sorted(ATTENTIONS.keys() - {"none"})
LENGTHS = [4, 1, 9, 3]
QUERIES, HEADS = 5, 2
Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def times(matrix: list[Vector], vector: Vector) -> Vector:
    return [dot(row, vector) for row in matrix]


def reference_score(name: str, weights: dict[str, list], query: Vector, state: Vector, position: int) -> float:
    """Luong et al. 2015, section 3.1; Bahdanau et al. 2015, A.1.2, whose Ua h_j has the bias here."""
    if name == "luong-location":
        rows = weights["positions.weight"]
        return dot(rows[position], query) if position < len(rows) else -math.inf
    if name in ("luong-dot", "luong-scaled-dot"):
        return dot(query, state) / (math.sqrt(len(query)) if name == "luong-scaled-dot" else 1)
    if name == "luong-general":
        return dot(query, times(weights["key_projection.weight"], state))
    from_query = times(weights["query_projection.weight"], query)
    from_key = times(weights["key_projection.weight"], state)
    hidden = zip(from_query, from_key, weights["key_projection.bias"], strict=True)
    v = weights["scorer.weight"][0]
    if name == "bahdanau-normed":
        v = [weights["gain"][0] * x / math.sqrt(dot(v, v)) for x in v]
    return dot(v, [math.tanh(q + k + b) for q, k, b in hidden])


def softmax(scores: Vector) -> Vector:
    exponentials = [math.exp(score) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def mix(shares: Vector, states: list[Vector]) -> Vector:
    return [dot(shares, list(column)) for column in zip(*states, strict=True)]


Factors = list[float | None]  # on each state's weight after the softmax; None: it is not looked at


def shares_of(scores: Vector, factors: Factors) -> Vector:
    inside = [at for at, factor in enumerate(factors) if factor is not None]
    shares = [0.0] * len(scores)
    for at, share in zip(inside, softmax([scores[at] for at in inside]), strict=True):
        shares[at] = share * factors[at]
    return shares


def reference(
    name: str, weights: dict[str, list], query: Vector, states: list[Vector], factors: Factors
) -> tuple[Vector, Vector]:
    """Context and weights of one query."""
    if name.startswith("multi-head"):
        return reference_heads(name, weights, query, states, factors)
    scores = [reference_score(name, weights, query, state, at) for at, state in enumerate(states)]
    shares = shares_of(scores, factors)
    return mix(shares, states), shares


def reference_heads(
    name: str, weights: dict[str, list], query: Vector, states: list[Vector], factors: Factors
) -> tuple[Vector, Vector]:
    """Vaswani et al. 2017, section 3.2.2; the additive score of Chen et al. 2018, section 4."""
    q = times(weights["query_projection.weight"], query)
    keys, values = ([times(weights[f"{part}_projection.weight"], s) for s in states] for part in ("key", "value"))
    width, contexts, shown = len(q) // HEADS, [], [0.0] * len(states)
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        if name == "multi-head":
            scores = [dot(q[part], key[part]) / math.sqrt(width) for key in keys]
        else:
            v = weights["scorer"][head]
            scores = [dot(v, [math.tanh(a + b) for a, b in zip(q[part], key[part], strict=True)]) for key in keys]
        shares = shares_of(scores, factors)
        contexts += mix(shares, [value[part] for value in values])
        shown = [before + share / HEADS for before, share in zip(shown, shares, strict=True)]
    return times(weights["context_projection.weight"], contexts), shown


@pytest.fixture
def build(shake: Callable[[nn.Module], None]) -> Callable[..., Attention]:
    def build(name: str, **settings: object) -> Attention:
        config = ModelConfig(
            encoder=EncoderConfig(hidden_size=3, bidirectional=True),
            decoder=DecoderConfig(hidden_size=6 if name in DOT else 5),
            **{"attention": name, "attention_size": 4, "attention_heads": HEADS, "attention_positions": 5, **settings},
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


def look(attention: Attention, query_BQH: Tensor, encoded: Encoded) -> Attended:
    """What successive queries of each sentence find."""
    return attention.attend(query_BQH, attention.memorize(encoded), attention.initial_state(encoded))


@pytest.mark.parametrize("name", SCORED)
def test_context_and_weights_follow_the_equations(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name)
    query_BQH = queries_for(attention)
    found = look(attention, query_BQH, encoded)
    values = {key: tensor.tolist() for key, tensor in attention.state_dict().items()}
    for sentence, length in enumerate(LENGTHS):
        states = encoded.states_BSC[sentence, :length].tolist()
        for query in range(QUERIES):
            context, shares = reference(name, values, query_BQH[sentence, query].tolist(), states, [1.0] * length)
            assert found.context_BQC[sentence, query].tolist() == pytest.approx(context, abs=1e-12)
            assert found.weights_BQS[sentence, query, :length].tolist() == pytest.approx(shares, abs=1e-12)


def test_a_new_normed_scorer_scores_as_bahdanaus_does(encoded: Encoded) -> None:
    torch.manual_seed(1)
    plain = ATTENTIONS["bahdanau"](ModelConfig(attention="bahdanau"))
    normed = ATTENTIONS["bahdanau-normed"](ModelConfig(attention="bahdanau-normed"))
    assert normed.gain.item() == pytest.approx(normed.scorer.weight.norm().item())
    gain = {"gain": plain.scorer.weight.detach().norm().view(1)}
    normed.load_state_dict({**plain.state_dict(), **gain})
    query_BQH, keys_BSA = torch.randn(2, 3, 512), torch.randn(2, 4, 512)
    torch.testing.assert_close(normed.score(query_BQH, keys_BSA), plain.score(query_BQH, keys_BSA))


def reference_window(span: str, weights: dict[str, list], query: Vector, step: int, length: int, reach: int) -> Factors:
    """Luong et al. 2015, section 3.2, positions counted from one: the Gaussian's factor, None outside the window."""
    if span == "local-m":
        center = float(min(step, length))
    else:
        hidden = [math.tanh(x) for x in times(weights["span.position.weight"], query)]
        center = length / (1 + math.exp(-dot(weights["span.scorer.weight"][0], hidden)))
    factors: Factors = []
    for position in range(1, length + 1):
        gauss = math.exp(-((position - center) ** 2) / (2 * (reach / 2) ** 2)) if span == "local-p" else 1.0
        factors.append(gauss if abs(position - center) <= reach else None)
    return factors


@pytest.mark.parametrize("reach", [1, 2, 3])
@pytest.mark.parametrize("span", ["local-m", "local-p"])
@pytest.mark.parametrize("name", ["luong-general", "luong-dot", "bahdanau", "multi-head", "multi-head-additive"])
def test_a_local_span_looks_at_its_window_alone(
    name: str, span: str, reach: int, build: Callable, encoded: Encoded
) -> None:
    attention = build(name, attention_span=span, attention_window=reach)
    query_BQH = queries_for(attention)
    found = look(attention, query_BQH, encoded)
    values = {key: tensor.tolist() for key, tensor in attention.state_dict().items()}
    left_out = 0
    for sentence, length in enumerate(LENGTHS):
        states = encoded.states_BSC[sentence, :length].tolist()
        for step in range(QUERIES):
            query = query_BQH[sentence, step].tolist()
            factors = reference_window(span, values, query, step + 1, length, reach)
            context, shares = reference(name, values, query, states, factors)
            outside = [at for at in range(max(LENGTHS)) if at >= length or factors[at] is None]
            left_out += len(outside) - (max(LENGTHS) - length)
            assert found.weights_BQS[sentence, step, :length].tolist() == pytest.approx(shares, abs=1e-12)
            assert (found.weights_BQS[sentence, step, outside] == 0).all()
            assert found.context_BQC[sentence, step].tolist() == pytest.approx(context, abs=1e-12)
    assert left_out > 5


def reference_covered(kind: str, weights: dict[str, list], kept: list[Vector], states: list[Vector]) -> list[Vector]:
    """What enters the score: See et al. 2017, equation 10; Tu et al. 2016, section 3.1."""
    if kind != "fertility":
        return kept
    rows = weights["coverage.fertility.weight"][0]
    return [[c[0] * (1 + math.exp(-dot(rows, state))) / 2] for c, state in zip(kept, states, strict=True)]


def reference_gru(weights: dict[str, list], old: Vector, share: float, state: Vector, query: Vector) -> Vector:
    """Cho et al. 2014 as in `recurrent.py`, of the weight, the encoder state and the query."""
    parts = {part: weights[f"coverage.{part}.weight"] for part in ("from_state", "from_query", "from_weight", "recur")}
    rows = zip(
        times(parts["from_state"], state),
        weights["coverage.from_state.bias"],
        times(parts["from_query"], query),
        times(parts["from_weight"], [share]),
        strict=True,
    )
    from_input = [sum(row) for row in rows]
    biases = weights["coverage.recur.bias"]
    from_old = [a + b for a, b in zip(times(parts["recur"], old), biases, strict=True)]
    size, new = len(old), []
    for k in range(size):
        r, z = (1 / (1 + math.exp(-from_input[g * size + k] - from_old[g * size + k])) for g in (0, 1))
        n = math.tanh(from_input[2 * size + k] + r * from_old[2 * size + k])
        new.append((1 - z) * n + z * old[k])
    return new


@pytest.mark.parametrize("kind", sorted(COVERAGES.keys() - {"none"}))
@pytest.mark.parametrize("name", ["luong-concat", "bahdanau"])
def test_coverage_follows_the_equations(name: str, kind: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name, coverage=kind, coverage_size=3)
    query_BQH = queries_for(attention)
    found = look(attention, query_BQH, encoded)
    values = {key: tensor.tolist() for key, tensor in attention.state_dict().items()}
    for sentence, length in enumerate(LENGTHS):
        states = encoded.states_BSC[sentence, :length].tolist()
        kept: list[Vector] = [[0.0] * attention.coverage.size for _ in states]
        for step in range(QUERIES):
            query = query_BQH[sentence, step].tolist()
            from_query = times(values["query_projection.weight"], query)
            scores = []
            for state, covered in zip(states, reference_covered(kind, values, kept, states), strict=True):
                from_key = times(values["key_projection.weight"], state)
                from_covered = times(values["coverage_projection.weight"], covered)
                hidden = zip(from_query, from_key, values["key_projection.bias"], from_covered, strict=True)
                scores.append(dot(values["scorer.weight"][0], [math.tanh(sum(row)) for row in hidden]))
            shares = softmax(scores)
            assert found.weights_BQS[sentence, step, :length].tolist() == pytest.approx(shares, abs=1e-12)
            kept = [
                reference_gru(values, old, share, state, query) if kind == "gru" else [old[0] + share]
                for old, share, state in zip(kept, shares, states, strict=True)
            ]
        for at in range(length):
            assert found.state.columns[0][sentence, at].tolist() == pytest.approx(kept[at], abs=1e-12)


@pytest.mark.parametrize("name", SCORED)
def test_weights_sum_to_one_and_are_exactly_zero_on_padding(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name)
    weights_BQS = look(attention, queries_for(attention), encoded).weights_BQS
    torch.testing.assert_close(weights_BQS.sum(-1), torch.ones(len(LENGTHS), QUERIES, dtype=torch.float64))
    padding = ~encoded.mask_BS[:, None, :].expand_as(weights_BQS)
    assert padding.any()
    assert (weights_BQS[padding] == 0).all()
    within_reach = ~padding
    if name == "luong-location":
        within_reach[:, :, 5:] = False
    assert (weights_BQS[within_reach] > 0).all()


@pytest.mark.parametrize("name", SCORED)
def test_what_stands_in_the_padding_does_not_matter(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name)
    query_BQH = queries_for(attention)
    before = look(attention, query_BQH, encoded)
    states_BSC = encoded.states_BSC.masked_fill(~encoded.mask_BS[:, :, None], -7.0)
    changed = Encoded(states_BSC, encoded.mask_BS, encoded.last_BC, ())
    after = look(attention, query_BQH, changed)
    torch.testing.assert_close(after.context_BQC, before.context_BQC)
    torch.testing.assert_close(after.weights_BQS, before.weights_BQS)


@pytest.mark.parametrize("name", SCORED)
def test_large_scores_do_not_overflow(name: str, build: Callable, encoded: Encoded) -> None:
    attention = build(name).float()
    small = Encoded(encoded.states_BSC.float(), encoded.mask_BS, encoded.last_BC.float(), ())
    found = look(attention, 1e4 * queries_for(attention).float(), small)
    assert torch.isfinite(found.context_BQC).all()
    torch.testing.assert_close(found.weights_BQS.sum(-1), torch.ones(len(LENGTHS), QUERIES))


def test_none_gives_the_last_encoder_state_and_zero_weights(build: Callable, encoded: Encoded) -> None:
    attention = build("none")
    found = look(attention, queries_for(attention), encoded)
    for query in range(QUERIES):
        assert torch.equal(found.context_BQC[:, query], encoded.last_BC)
    assert torch.equal(found.weights_BQS, torch.zeros(len(LENGTHS), QUERIES, max(LENGTHS), dtype=torch.float64))


VARIANTS = [
    *({"name": name} for name in sorted(ATTENTIONS)),
    *(
        {"name": name, "attention_span": span, "attention_window": 2}
        for name in ("luong-general", "multi-head")
        for span in ("local-m", "local-p")
    ),
    *({"name": "luong-concat", "coverage": kind} for kind in sorted(COVERAGES)),
    {"name": "bahdanau", "coverage": "sum", "attention_span": "local-m", "attention_window": 2},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_all_queries_at_once_equal_one_at_a_time(
    settings: dict[str, object], build: Callable, encoded: Encoded
) -> None:
    attention = build(**settings)
    query_BQH, memory, state = queries_for(attention), attention.memorize(encoded), attention.initial_state(encoded)
    together = attention.attend(query_BQH, memory, state)
    for query in range(QUERIES):
        alone = attention.attend(query_BQH[:, query : query + 1], memory, state)
        torch.testing.assert_close(alone.context_BQC, together.context_BQC[:, query : query + 1])
        torch.testing.assert_close(alone.weights_BQS, together.weights_BQS[:, query : query + 1])
        state = alone.state
    for mine, theirs in zip(
        (*state.rows, *state.columns), (*together.state.rows, *together.state.columns), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_hypotheses_each_have_a_state_of_their_own(
    settings: dict[str, object], build: Callable, encoded: Encoded
) -> None:
    attention = build(**settings)
    memory, state = attention.memorize(encoded), attention.initial_state(encoded)
    rows = torch.arange(len(LENGTHS)).repeat_interleave(QUERIES)
    shared = AttentionState(*(tuple(tensor[rows] for tensor in part) for part in state))
    alone = [state] * QUERIES
    for _ in range(3):
        query_BQH = queries_for(attention)
        found = attention.attend(query_BQH, memory, shared)
        shared = found.state
        for query in range(QUERIES):
            single = attention.attend(query_BQH[:, query : query + 1], memory, alone[query])
            torch.testing.assert_close(single.weights_BQS[:, 0], found.weights_BQS[:, query])
            torch.testing.assert_close(single.context_BQC[:, 0], found.context_BQC[:, query])
            alone[query] = single.state


@pytest.mark.parametrize("name", ["luong-concat", "bahdanau", "bahdanau-normed", "multi-head-additive"])
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
        widest.append(tensor.shape[-3])  # (..., Q, S, A)
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
    state = attention.initial_state(encoded)
    before = attention.attend(query_BQH, memory, state).weights_BQS
    for key, parameter in attention.named_parameters():
        if key.startswith(("key_projection", "value_projection")):
            parameter.data.zero_()
    assert torch.equal(attention.attend(query_BQH, memory, state).weights_BQS, before)


def test_memory_select_gives_the_memory_of_those_sentences(build: Callable, encoded: Encoded) -> None:
    attention = build("luong-general")
    memory: Memory = attention.memorize(encoded)
    query_BQH, rows = queries_for(attention), torch.tensor([2, 0])
    chosen = attention.attend(query_BQH[rows], memory.select(rows), attention.initial_state(encoded))
    together = look(attention, query_BQH, encoded)
    torch.testing.assert_close(chosen.context_BQC, together.context_BQC[rows])
    torch.testing.assert_close(chosen.weights_BQS, together.weights_BQS[rows])


def test_only_bahdanau_looks_before_the_cell() -> None:
    assert {name for name, kind in ATTENTIONS.items() if kind.before_cell} == {"bahdanau", "bahdanau-normed"}
