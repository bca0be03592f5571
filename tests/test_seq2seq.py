"""The encoder-decoder: one step against a whole target, batches against sentences, and the losses against torch's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import toy
from torch import Tensor, nn

from s2s_cli.config import BAHDANAU, DecoderConfig, EncoderConfig, ModelConfig
from s2s_cli.data.batches import Batch
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.model import seq2seq as module
from s2s_cli.model.attention import ATTENTIONS
from s2s_cli.model.decoder import INITIAL_STATES
from s2s_cli.model.interface import DecoderState, Encoded, Memory
from s2s_cli.model.recurrent import CELLS, Layer
from s2s_cli.model.seq2seq import SearchModel, Seq2Seq, build_model, count_parameters

HIDDEN = 6  # of the decoder, and of an encoder state, so that every combination is allowed


def small(
    cell: str = "lstm",
    attention: str = "luong-general",
    feeding: bool = True,
    initial_state: str = "bridge",
    layers: int = 2,
    bidirectional: bool | str = True,
    conditional: bool = False,
    attend_after: str = "last",
    lexical: bool = False,
    residual: bool = False,
    layer_norm: bool = False,
    **model: object,
) -> ModelConfig:
    shared = {"cell": cell, "layers": layers, "residual": residual, "layer_norm": layer_norm}
    width = HIDDEN // (2 if bidirectional is True else 1)
    encoder = EncoderConfig(**shared, hidden_size=width, bidirectional=bidirectional)
    decoder = DecoderConfig(
        **shared,
        hidden_size=HIDDEN,
        input_feeding=feeding,
        initial_state=initial_state,
        conditional=conditional,
        attend_after=attend_after,
        lexical=lexical,
    )
    settings = {"embedding_size": 5, "readout_size": 7, "dropout": 0.3, "attention_heads": 2, **model}
    return ModelConfig(encoder=encoder, decoder=decoder, attention=attention, **settings)


COMBINATIONS = [
    pytest.param(small(cell, attention, feeding, initial), id=f"{cell}-{attention}-{feeding}-{initial}")
    for (cell, initial), attention, feeding in itertools.product(
        itertools.product(sorted(CELLS), sorted(INITIAL_STATES)), sorted(ATTENTIONS), (True, False)
    )
    if feeding or attention not in BAHDANAU
]
SHAPES = [
    pytest.param(small(cell, attention, feeding, "last", layers, bidirectional), id=f"{cell}-{attention}-{layers}")
    for cell, (attention, feeding), layers, bidirectional in [
        ("lstm", ("none", False), 1, False),
        ("lstm", ("luong-general", True), 1, True),
        ("gru", ("bahdanau", True), 1, False),
        ("rnn", ("luong-dot", False), 3, False),
        ("gru", ("luong-concat", True), 3, True),
    ]
]
VARIANTS = [
    pytest.param(small(**settings), id="-".join(map(str, settings.values())))
    for settings in (
        {"attention": "luong-general", "attention_span": "local-m", "attention_window": 1},
        {"attention": "luong-dot", "attention_span": "local-m", "attention_window": 1, "feeding": False},
        {"attention": "bahdanau", "attention_span": "local-p", "attention_window": 2},
        {"attention": "multi-head", "attention_span": "local-p", "attention_window": 2, "attention_heads": 3},
        {"attention": "multi-head-additive", "attention_heads": 2, "feeding": False},
        {"attention": "luong-location", "attention_positions": 3},
        {"attention": "bahdanau", "coverage": "sum"},
        {"attention": "luong-concat", "coverage": "fertility", "feeding": False},
        {"attention": "bahdanau-normed", "coverage": "gru", "coverage_size": 4},
        {"attention": "luong-concat", "coverage": "gru", "attention_span": "local-m", "feeding": False},
        {"cell": "gru", "attention": "bahdanau", "conditional": True},
        {"cell": "lstm", "attention": "luong-general", "conditional": True, "layers": 1},
        {"cell": "rnn", "attention": "none", "conditional": True, "residual": True},
        {"attend_after": "first", "feeding": False},
        {"attend_after": "first", "cell": "gru", "attention": "multi-head", "layers": 3, "residual": True},
        {"attend_after": "first", "cell": "rnn", "attention": "luong-concat", "coverage": "gru", "layer_norm": True},
        {"attend_after": "first", "attention": "none", "feeding": False, "bidirectional": False},
        {"lexical": True},
        {"lexical": True, "feeding": False, "attend_after": "first"},
        {"lexical": True, "attention": "bahdanau", "coverage": "fertility"},
        {"lexical": True, "attention": "multi-head", "attention_span": "local-p", "conditional": True},
        {"layers": 3, "residual": True, "feeding": False},
        {"layers": 3, "residual": True, "bidirectional": "bottom", "cell": "gru"},
        {"layers": 2, "bidirectional": "bottom", "feeding": False},
        {"layer_norm": True, "cell": "lstm"},
        {"layer_norm": True, "cell": "gru", "feeding": False, "initial_state": "last"},
        {"layer_norm": True, "cell": "rnn", "conditional": True, "residual": True},
        {"recurrent_dropout": 0.3, "variational_dropout": True},
    )
]


SOME = [*COMBINATIONS[::7], *SHAPES, *VARIANTS]  # 7 has no factor in common with the product's sides
EVERY = [*COMBINATIONS, *SHAPES, *VARIANTS]


def steps(model: Seq2Seq, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (B, T, V) and weights (B, T, S), one step after the other."""
    memory, state = model.encode(batch.src_BS, batch.src_len_B)
    logits, weights = [], []
    for tokens_B in batch.tgt_in_BT.unbind(1):
        step = model.step(tokens_B[:, None], state, memory)
        logits.append(step.logits_BQV)
        weights.append(step.weights_BQS)
        state = step.state
    return torch.cat(logits, dim=1), torch.cat(weights, dim=1)


def single(batch: Batch, row: int) -> Batch:
    """One pair of a batch, without padding."""
    source, target = int(batch.src_len_B[row]), int(batch.tgt_len_B[row])
    rows = slice(row, row + 1)
    return Batch(
        batch.src_BS[rows, :source],
        batch.src_len_B[rows],
        batch.tgt_in_BT[rows, :target],
        batch.tgt_out_BT[rows, :target],
        batch.tgt_len_B[rows],
    )


def plain_losses(model: Seq2Seq, batch: Batch, smoothing: float) -> tuple[Tensor, Tensor]:
    """Sentence by sentence, without padding, by torch's own cross-entropy."""
    smoothed, nll = torch.zeros(()), torch.zeros(())
    for row in range(len(batch.src_BS)):
        alone = single(batch, row)
        readout_BTR, _ = model(alone)
        logits_TV = readout_BTR[0] @ model.output.weight.t() + model.output.bias
        targets_T = alone.tgt_out_BT[0]
        smoothed = smoothed + F.cross_entropy(logits_TV, targets_T, label_smoothing=smoothing, reduction="sum")
        nll = nll + F.cross_entropy(logits_TV, targets_T, reduction="sum")
    return smoothed, nll


@pytest.mark.parametrize("config", EVERY)
def test_steps_equal_a_whole_target(config: ModelConfig, make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    model = make_model(config)
    readout_BTR, weights_BTS = model(batch)
    step_logits_BTV, step_weights_BTS = steps(model, batch)
    torch.testing.assert_close(step_logits_BTV, model.output(readout_BTR), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(step_weights_BTS, weights_BTS, atol=1e-5, rtol=1e-5)


CELL_MODULES = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def normed_cell(
    layer: Layer, weight_ih: Tensor
) -> Callable[[Tensor, Tensor | tuple[Tensor, ...]], Tensor | tuple[Tensor, ...]]:
    """Ba et al. 2016, equations 20 to 22, each gate by itself as in Chen et al. 2018, section 4.1."""
    weights = dict(layer.rnn.named_parameters())

    def norm(x: Tensor, of: nn.Module) -> Tensor:
        gates = [(gate - gate.mean()) / (gate.var(correction=0) + 1e-5).sqrt() for gate in x.split(HIDDEN, dim=1)]
        return torch.cat(gates, dim=1) * of.gain + of.bias

    def step(x: Tensor, state: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        h, *rest = state if isinstance(state, tuple) else (state,)
        mine = norm(x @ weight_ih.t(), layer.input_norm).split(HIDDEN, dim=1)
        own = norm(h @ weights["weight_hh_l0"].t(), layer.recur_norm).split(HIDDEN, dim=1)
        if len(mine) == 1:
            return torch.tanh(mine[0] + own[0])
        if len(mine) == 3:
            r, z = (torch.sigmoid(mine[gate] + own[gate]) for gate in (0, 1))
            return (1 - z) * torch.tanh(mine[2] + r * own[2]) + z * h
        i, f, o = (torch.sigmoid(mine[gate] + own[gate]) for gate in (0, 1, 3))
        c = f * rest[0] + i * torch.tanh(mine[2] + own[2])
        return o * torch.tanh(norm(c, layer.cell_norm)), c

    return step


def plain_decoder(
    model: Seq2Seq,
    config: ModelConfig,
    x_TE: Tensor,
    encoded: Encoded,
    source_1SE: Tensor,
    keep: Sequence[Tensor] = (),
) -> Tensor:
    """Readouts (T, R) of one sentence, from what the papers say and torch's own cells; attention has its own tests.

    Luong et al. 2015, sections 3 and 3.3: h_t from [x_t; r_(t-1)], its context c_t, r_t = tanh(Wc[c_t; h_t]).
    Bahdanau et al. 2015, A.2.2: c_t from s_(t-1), s_t from [x_t; c_t].
    Sennrich et al. 2017, section 2.1: s'_t from x_t and s_(t-1), c_t from s'_t, s_t from c_t and s'_t.
    Wu et al. 2016, section 3: c_t from the first layer's h_t, and [h_t; c_t] is what layers above it read.
    Wu et al. 2016, equation 6: what goes up is a layer's output plus its input.
    Gal and Ghahramani 2016, equation 7: what a layer hears of its last h is multiplied by `keep`, one for each layer.
    Nguyen and Chiang 2018, section 4: r_t + tanh(Wl tanh(f)), f the embedded source weighted as attention does.
    """
    decoder, own = model.decoder, config.decoder

    def cell_of(layer: Layer, fed: Tensor | None = None) -> Callable:
        weights = {name.removesuffix("_l0"): tensor for name, tensor in layer.rnn.named_parameters()}
        if fed is not None:
            weights["weight_ih"] = torch.cat((weights["weight_ih"], fed), dim=1)
        if own.layer_norm:
            return normed_cell(layer, weights["weight_ih"])
        gates, inputs = weights["weight_ih"].shape
        cell = CELL_MODULES[own.cell](inputs, HIDDEN)
        assert gates == len(cell.weight_ih)
        cell.load_state_dict(weights)
        return cell

    first = decoder.fed.weight if decoder.fed else None
    cells = [cell_of(layer, None if number else first) for number, layer in enumerate(decoder.layers)]
    second = cell_of(decoder.second) if own.conditional else None
    memory = decoder.attention.memorize(encoded)
    states = [state if len(state) == 2 else state[0] for state in decoder.initial_state(encoded)]
    kept, looked = [decoder.attention.initial_state(encoded)], [torch.empty(0)]

    def context(h: Tensor) -> Tensor:
        context_BQC, weights_BQS, kept[0] = decoder.attention.attend(h[:, None], memory, kept[0])
        looked[0] = (weights_BQS[0, 0, :, None] * source_1SE[0]).sum(0, keepdim=True)
        return context_BQC[:, 0]

    def output(state: Tensor | tuple[Tensor, ...]) -> Tensor:
        return state[0] if isinstance(state, tuple) else state

    def heard(number: int) -> Tensor | tuple[Tensor, ...]:
        state = states[number]
        if not keep:
            return state
        return (state[0] * keep[number], state[1]) if isinstance(state, tuple) else state * keep[number]

    fed, readouts = torch.zeros(1, config.readout), []
    for x_E in x_TE:
        inputs = [x_E[None]]
        before = config.attention in BAHDANAU and not own.conditional
        early = own.attend_after == "first"
        if before:
            c = context(output(states[-1]))
            inputs.append(c)
        elif own.input_feeding and not own.conditional:
            inputs.append(fed)
        below = torch.cat(inputs, dim=1)
        for number, cell in enumerate(cells):
            states[number] = cell(torch.cat((below, c), dim=1) if early and number else below, heard(number))
            if second and number == 0:
                c = context(output(states[0]))
                states[0] = second(c, states[0])
            below = output(states[number]) + (below if own.residual and number else 0)
            if early and number == 0:
                c = context(below)
        if not (before or own.conditional or early):
            c = context(below)
        fed = torch.tanh(torch.cat((c, below), dim=1) @ decoder.combine.weight.t())
        if own.lexical:
            fed = fed + torch.tanh(torch.tanh(looked[0]) @ decoder.lexical.weight.t())
        readouts.append(fed)
    return torch.cat(readouts)


@pytest.mark.parametrize("config", SOME)
def test_the_decoder_follows_its_equations(config: ModelConfig, make_model: Callable[..., Seq2Seq]) -> None:
    model = make_model(config)
    x_TE, source_1SE = torch.randn(5, config.embedding_size), torch.randn(1, 4, config.embedding_size)
    encoded = model.encoder(source_1SE, torch.tensor([4]))
    memory, state = model.decoder.memorize(encoded, source_1SE), model.decoder.start(encoded)
    found = model.decoder(x_TE[None], state, memory)
    expected = plain_decoder(model, config, x_TE, encoded, source_1SE)
    torch.testing.assert_close(found.readout_BTR[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])  # a GRU keeps its undropped state too: see its layer's own test
@pytest.mark.parametrize("shape", [{}, {"feeding": False}, {"conditional": True}, {"attention": "bahdanau"}])
def test_recurrent_dropout_of_the_decoder_is_one_mask_a_layer_and_sequence(
    cell: str, shape: dict[str, Any], make_model: Callable[..., Seq2Seq]
) -> None:
    config = small(cell, **shape, recurrent_dropout=0.5, dropout=0)
    model = make_model(config).train()
    x_TE, source_1SE = torch.randn(5, config.embedding_size), torch.randn(1, 4, config.embedding_size)
    encoded = model.encoder(source_1SE, torch.tensor([4]))
    memory, state = model.decoder.memorize(encoded, source_1SE), model.decoder.start(encoded)
    torch.manual_seed(5)
    found = model.decoder(x_TE[None], state, memory)
    torch.manual_seed(5)
    drops = [layer.recurrent_dropout.over_steps(torch.ones(1, HIDDEN)) for layer in model.decoder.layers]
    keep = [drop(torch.ones(1, HIDDEN)) for drop in drops]
    assert 0 < sum(int((one == 0).sum()) for one in keep) < 2 * HIDDEN
    expected = plain_decoder(model, config, x_TE, encoded, source_1SE, keep)
    torch.testing.assert_close(found.readout_BTR[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("initial_state", ["bridge", "mean"])
def test_encoder_dropout_is_of_what_attention_sees_alone(
    initial_state: str, make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    config = small(initial_state=initial_state, encoder_dropout=0.5, dropout=0, embedding_dropout=0)
    model = make_model(config)
    memory, state = model.encode(batch.src_BS, batch.src_len_B)
    dropped, same = model.train().encode(batch.src_BS, batch.src_len_B)
    gone = dropped.values_BSC[memory.mask_BS] == 0
    assert 0.3 < float(gone.float().mean()) < 0.7
    torch.testing.assert_close(dropped.last_BC, memory.last_BC)
    torch.testing.assert_close(same.cells, state.cells)


@pytest.mark.parametrize("config", SOME)
def test_a_padded_batch_equals_single_sentences(
    config: ModelConfig, make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    model = make_model(config)
    readout_BTR, weights_BTS = model(batch)
    for row in range(len(batch.src_BS)):
        alone = single(batch, row)
        target, source = alone.tgt_in_BT.shape[1], alone.src_BS.shape[1]
        alone_readout, alone_weights = model(alone)
        torch.testing.assert_close(readout_BTR[row, :target], alone_readout[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(weights_BTS[row, :target, :source], alone_weights[0], atol=1e-5, rtol=1e-5)
        assert (weights_BTS[row, :, source:] == 0).all()


@pytest.mark.parametrize("config", SOME)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_and_gradients_equal_plain_cross_entropy(
    config: ModelConfig, smoothing: float, make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    model = make_model(config)
    names, parameters = zip(*model.named_parameters(), strict=True)
    losses = model.losses(batch, smoothing)
    expected, nll = plain_losses(model, batch, smoothing)
    torch.testing.assert_close(losses.smoothed, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses.nll_N.sum(), nll, rtol=1e-5, atol=1e-5)
    assert not losses.nll_N.requires_grad
    found = torch.autograd.grad(losses.smoothed, parameters, allow_unused=True)
    wanted = torch.autograd.grad(expected, parameters, allow_unused=True)
    for name, mine, theirs in zip(names, found, wanted, strict=True):
        mine, theirs = (0 if g is None else g for g in (mine, theirs))
        torch.testing.assert_close(
            torch.as_tensor(mine), torch.as_tensor(theirs), rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_r_drop_compares_two_copies_of_each_pair(make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    """Without dropout both passes are the same; with it they differ, and that costs."""
    model = make_model(ModelConfig(dropout=0.5))
    twice = Batch(**{name: torch.cat([x, x]) for name, x in vars(batch).items() if x is not None})
    plain, found = model.eval().losses(batch, 0.1, 2.0), model.losses(twice, 0.1, 2.0, 5.0)
    torch.testing.assert_close(found.smoothed, plain.smoothed)
    torch.testing.assert_close(found.nll_N, plain.nll_N)
    little, much = (torch.manual_seed(1) and model.train().losses(twice, 0.1, 2.0, weight) for weight in (1e-9, 5.0))
    torch.testing.assert_close(little.nll_N, much.nll_N)
    assert much.smoothed.item() > little.smoothed.item() + 1


@pytest.mark.parametrize("config", SOME)
def test_sources_without_target_pieces_give_gradients_of_zero(
    config: ModelConfig, make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    """What a worker has that no pair is left for."""
    model = make_model(config).train()
    losses = model.losses(replace(batch, tgt_len_B=torch.zeros_like(batch.tgt_len_B)), 0.1, 1.0)
    losses.smoothed.backward()
    assert len(losses.nll_N) == 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@pytest.mark.parametrize("config", SOME)
def test_every_weight_is_trained(config: ModelConfig, make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    model = make_model(config).train()
    model.losses(batch, 0.1).smoothed.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("config", SOME)
def test_hypotheses_of_a_sentence_equal_separate_runs(
    config: ModelConfig, make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    model, queries = make_model(config), 3
    sentences = len(batch.src_BS)
    memory, state = model.encode(batch.src_BS, batch.src_len_B)
    first = model.step(torch.full((sentences, 1), 2), state, memory)
    second_BQ = torch.tensor([[4, 5, 6], [7, 7, 8], [9, 4, 12], [5, 10, 11]])
    third_BQ = torch.tensor([[6, 6, 4], [8, 9, 5], [10, 7, 7], [4, 11, 6]])
    rows = torch.arange(sentences).repeat_interleave(queries)
    second = model.step(second_BQ, first.state.select(rows), memory)
    # The hypotheses of each sentence change places, and one of them is taken twice, as in search.
    parents_BQ = torch.tensor([[2, 0, 0], [1, 1, 2], [0, 1, 2], [2, 1, 0]])
    chosen = (torch.arange(sentences)[:, None] * queries + parents_BQ).flatten()
    third = model.step(third_BQ, second.state.select(chosen), memory)
    for query in range(queries):
        alone = model.step(second_BQ[:, query, None], first.state, memory)
        torch.testing.assert_close(alone.logits_BQV[:, 0], second.logits_BQV[:, query], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.weights_BQS[:, 0], second.weights_BQS[:, query], atol=1e-5, rtol=1e-5)
        parents = second_BQ.gather(1, parents_BQ[:, query, None])
        before = model.step(parents, first.state, memory)
        alone = model.step(third_BQ[:, query, None], before.state, memory)
        torch.testing.assert_close(alone.logits_BQV[:, 0], third.logits_BQV[:, query], atol=1e-5, rtol=1e-5)


def test_the_memory_is_one_row_a_sentence_however_many_hypotheses(
    make_model: Callable[..., Seq2Seq], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(small())
    memory, state = model.encode(batch.src_BS, batch.src_len_B)
    addresses = [tensor.data_ptr() for tensor in memory.tensors]
    state = state.select(torch.arange(4).repeat_interleave(3))
    seen: list[Memory] = []
    attend = model.decoder.attention.attend
    monkeypatch.setattr(
        model.decoder.attention, "attend", lambda query, at, kept: (seen.append(at), attend(query, at, kept))[1]
    )
    step = model.step(torch.full((4, 3), 5), state, memory)
    assert step.logits_BQV.shape == (4, 3, 13)
    assert [[tensor.data_ptr() for tensor in used.tensors] for used in seen] == [addresses]


def test_a_state_select_takes_rows_in_order_and_leaves_the_old_one_alone(
    make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    model = make_model(small("lstm"))
    memory, state = model.encode(batch.src_BS, batch.src_len_B)
    state = model.step(torch.full((4, 1), 5), state, memory).state
    before = [part.clone() for cell in state.cells for part in cell]
    rows = torch.tensor([3, 0, 0])
    chosen: DecoderState = state.select(rows)
    for part, old in zip((part for cell in chosen.cells for part in cell), before, strict=True):
        assert torch.equal(part, old[rows])
    assert torch.equal(chosen.feed_NR, state.feed_NR[rows])
    model.step(torch.full((4, 1), 6), state, memory)
    assert all(torch.equal(a, b) for a, b in zip((p for cell in state.cells for p in cell), before, strict=True))


@pytest.mark.parametrize("initial_state", ["bridge", "mean", "zeros"])
def test_both_sides_may_differ_in_cell_layers_and_size(
    initial_state: str, make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    config = ModelConfig(
        encoder=EncoderConfig(cell="gru", layers=2, hidden_size=4),
        decoder=DecoderConfig(cell="lstm", layers=1, hidden_size=5, initial_state=initial_state),
        embedding_size=3,
    )
    model = make_model(config)
    readout_BTR, weights_BTS = model(batch)
    step_logits_BTV, step_weights_BTS = steps(model, batch)
    torch.testing.assert_close(step_logits_BTV, model.output(readout_BTR), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(step_weights_BTS, weights_BTS, atol=1e-5, rtol=1e-5)


def test_the_initial_states_are_what_their_names_say(make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    for name in INITIAL_STATES:
        model = make_model(small("lstm", initial_state=name))
        kept: list[Encoded] = []
        model.encoder.register_forward_hook(lambda _, inputs, output, kept=kept: kept.append(output))
        _, state = model.encode(batch.src_BS, batch.src_len_B)
        (encoded,) = kept
        parts = torch.stack([part for cell in state.cells for part in cell], dim=1)
        if name == "zeros":
            expected = torch.zeros_like(parts)
        elif name == "last":
            expected = torch.stack([part for cell in encoded.finals for part in cell], dim=1)
        else:
            bridge = model.decoder.initial_state.projection
            means = [encoded.states_BSC[row, :length].mean(0) for row, length in enumerate(batch.src_len_B.tolist())]
            summary = encoded.last_BC if name == "bridge" else torch.stack(means)
            expected = torch.tanh(summary @ bridge.weight.t() + bridge.bias).view(4, -1, HIDDEN)
        torch.testing.assert_close(parts, expected)


@pytest.mark.parametrize(
    ("tie", "shared"),
    [
        ("none", set()),
        ("target", {"target_embedding.weight", "output.weight"}),
        ("all", {"source_embedding.weight", "target_embedding.weight", "output.weight"}),
    ],
)
def test_tied_embeddings_are_one_parameter_listed_once(
    tie: str, shared: set[str], make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    model = make_model(small(tie_embeddings=tie, readout_size=5), 13, 13)
    tables = ("source_embedding", "target_embedding", "output")
    listed = {name: p for name, p in model.named_parameters() if name.startswith(tables)}
    every = {name: p for name, p in model.named_parameters(remove_duplicate=False) if name.startswith(tables)}
    assert len({id(every[name]) for name in shared}) == (1 if shared else 0)
    assert len(every) - len(listed) == max(0, len(shared) - 1)
    assert count_parameters(model) == sum({id(p): p.numel() for p in model.parameters()}.values())
    model.losses(batch).smoothed.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert all(torch.equal(every[name], every[min(shared)]) for name in shared)


def test_three_way_tying_gets_the_gradient_of_all_three_uses(make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    tied = make_model(small(tie_embeddings="all", readout_size=5), 13, 13)
    free = make_model(small(tie_embeddings="none", readout_size=5), 13, 13)
    free.load_state_dict(tied.state_dict())
    for model in (tied, free):
        model.losses(batch, 0.1).smoothed.backward()
    parts = [free.source_embedding.weight.grad, free.target_embedding.weight.grad, free.output.weight.grad]
    torch.testing.assert_close(tied.output.weight.grad, sum(parts), rtol=1e-4, atol=1e-5)


def watch_embeddings(model: Seq2Seq, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Tensor]]:
    """The pieces that are looked up in each embedding."""
    seen: dict[str, list[Tensor]] = {"source": [], "target": []}
    look_up = nn.functional.embedding

    def watched(tokens: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        seen["source" if weight is model.source_embedding.weight else "target"].append(tokens.clone())
        return look_up(tokens, weight, *rest)

    monkeypatch.setattr(nn.functional, "embedding", watched)
    return seen


def test_coverage_loss_is_what_the_paper_says(make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    model = make_model(small("gru", "bahdanau", coverage="sum"))
    plain, found = model.losses(batch, 0.1), model.losses(batch, 0.1, coverage=2.0)
    expected = 0.0
    for row in range(len(batch.src_BS)):
        _, weights_1TS = model(single(batch, row))
        covered = [0.0] * weights_1TS.shape[2]
        for weights in weights_1TS[0].tolist():
            expected += sum(min(a, c) for a, c in zip(weights, covered, strict=True))
            covered = [a + c for a, c in zip(weights, covered, strict=True)]
    assert expected > 0
    assert (found.smoothed - plain.smoothed).item() == pytest.approx(2.0 * expected, rel=1e-4)
    assert torch.equal(found.nll_N, plain.nll_N)
    found.smoothed.backward()
    assert model.decoder.attention.coverage_projection.weight.grad.any()


def test_variational_dropout_has_one_mask_for_all_positions(make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    """Of equal tokens at all positions and cells that forget, all that differs between positions is dropout."""
    for feeding in (True, False):
        for shared in (True, False):
            model = make_model(small("rnn", "luong-dot", feeding, layers=2, variational_dropout=shared, dropout=0.5))
            for name, weight in model.named_parameters():
                if "weight_hh" in name or "fed" in name:
                    weight.data.zero_()
            same = replace(
                batch, src_BS=torch.full_like(batch.src_BS, 5), tgt_in_BT=torch.full_like(batch.tgt_in_BT, 5)
            )
            readout_BTR, _ = model.train()(same)
            spread = (readout_BTR[2:3, 1:] - readout_BTR[2:3, :1]).abs().max().item()
            assert (spread < 1e-5) == shared, (feeding, shared, spread)


@pytest.mark.parametrize("feeding", [True, False])
def test_each_dropout_is_of_what_its_key_says(
    feeding: bool, make_model: Callable[..., Seq2Seq], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the shares of zeros in what is read: by the layers, and by the output."""

    def zeros(**rates: float) -> dict[str, float]:
        model, found = make_model(small("lstm", "luong-dot", feeding, **rates)).train(), {}

        def watch(name: str, reader: nn.Module) -> None:
            def share(_: nn.Module, read: tuple[Tensor, ...]) -> None:
                found.setdefault(name, []).append((read[0] == 0).float().mean().item())

            reader.register_forward_pre_hook(share)

        def output(readout_NR: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
            found.setdefault("output", []).append((readout_NR == 0).float().mean().item())
            return cross_entropy(readout_NR, *rest)

        monkeypatch.setattr(module, "linear_cross_entropy", output)
        watch("first of the encoder", model.encoder.layers[0][0])
        watch("second of the encoder", model.encoder.layers[1][1])
        second = model.decoder.layers[1]
        watch("second of the decoder", second.input if feeding else second)
        for row in [*range(len(batch.src_BS))] * 20:
            model.losses(single(batch, row))
        return {name: sum(shares) / len(shares) for name, shares in found.items()}

    cross_entropy, half = module.linear_cross_entropy, pytest.approx(0.5, abs=0.15)
    states = zeros(dropout=0.5, embedding_dropout=0.0)
    assert states.pop("first of the encoder") == 0
    assert set(states) == {"second of the encoder", "second of the decoder", "output"}
    assert all(share == half for share in states.values()), states
    embeddings = zeros(dropout=0.0, embedding_dropout=0.5)
    assert embeddings.pop("first of the encoder") == half
    assert not any(embeddings.values())


@pytest.mark.parametrize("shared", [True, False])
def test_variational_dropout_is_of_the_readout_and_of_the_encoders_states_too(
    shared: bool, make_model: Callable[..., Seq2Seq]
) -> None:
    model = make_model(small(variational_dropout=shared, dropout=0.5, encoder_dropout=0.5)).train()
    for dropout in (model.dropout, model.encoder_dropout):
        kept_BTR = dropout(torch.ones(4, 6, 9)) != 0
        assert 0 < kept_BTR.float().mean() < 1
        assert torch.equal(kept_BTR, kept_BTR[:, :1].expand_as(kept_BTR)) == shared


def test_word_dropout_happens_in_training_alone_and_spares_bos_and_eos(
    make_model: Callable[..., Seq2Seq], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(small(word_dropout=0.5))
    seen = watch_embeddings(model, monkeypatch)
    model(batch)
    assert torch.equal(seen["source"][0], batch.src_BS)
    assert torch.equal(seen["target"][0], batch.tgt_in_BT)
    model.train()
    for _ in range(60):
        model(batch)
    unk, bos, eos = model.source.unk, model.source.bos, model.source.eos
    for given, found in ((batch.src_BS, seen["source"][1:]), (batch.tgt_in_BT, seen["target"][1:])):
        all_runs = torch.stack(found)
        special = (given == bos) | (given == eos)
        assert special.any()
        assert (all_runs[:, special] == given[special]).all()
        changed = all_runs != given
        assert (all_runs[changed] == unk).all()
        text = ~special & (given != model.source.pad)
        share = float((all_runs[:, text] == unk).float().mean())
        assert share == pytest.approx(0.5, abs=0.1)


def test_word_dropout_never_touches_what_is_to_be_predicted(make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    model = make_model(small(word_dropout=0.9, dropout=0.0)).train()
    before = batch.tgt_out_BT.clone()
    model.losses(batch)
    assert torch.equal(batch.tgt_out_BT, before)


def test_evaluation_mode_is_deterministic_and_training_mode_drops(
    make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    model = make_model(small(dropout=0.4))
    assert torch.equal(model(batch)[0], model(batch)[0])
    model.train()
    assert not torch.equal(model(batch)[0], model(batch)[0])


BF16 = {"dtype": torch.bfloat16}
BF16_TOLERANCE = 0.02  # bf16 keeps 8 bits: 0.4 % a rounding


@toy.needs_bf16
@pytest.mark.parametrize("config", SOME)
def test_bf16_is_close_to_fp32(config: ModelConfig, make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    model = make_model(config)
    exact = model.losses(batch, 0.1)
    exact.smoothed.backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    with torch.autocast("cpu", **BF16):
        rough = model.losses(batch, 0.1)
    rough.smoothed.backward()
    rough_gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert rough.smoothed.dtype == rough.nll_N.dtype == torch.float32
    assert rough.smoothed.item() == pytest.approx(exact.smoothed.item(), rel=BF16_TOLERANCE)
    assert rough.nll_N.sum().item() == pytest.approx(exact.nll_N.sum().item(), rel=BF16_TOLERANCE)
    assert float((rough_gradients - gradients).norm() / gradients.norm()) < 5 * BF16_TOLERANCE


@toy.needs_bf16
@pytest.mark.parametrize("config", EVERY)
def test_bf16_steps_are_close_to_fp32(config: ModelConfig, make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    model = make_model(config)
    with torch.inference_mode():
        logits_BTV, weights_BTS = steps(model, batch)
        with torch.autocast("cpu", **BF16):
            rough_logits_BTV, rough_weights_BTS = steps(model, batch)
    scale = float(logits_BTV.abs().max())
    assert float((rough_logits_BTV.float() - logits_BTV).abs().max()) < 2 * BF16_TOLERANCE * scale
    assert float((rough_weights_BTS.float() - weights_BTS).abs().max()) < 2 * BF16_TOLERANCE


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", SOME)
def test_a_model_made_ready_for_search_gives_what_the_model_gives(
    config: ModelConfig, dtype: torch.dtype, table: bool, make_model: Callable[..., Seq2Seq]
) -> None:
    model = make_model(config).train()
    ready = SearchModel(model, dtype)
    model.eval()
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.1}
    source = torch.tensor([[5, 7, 3], [6, 3, 0]]), torch.tensor([3, 2])
    with torch.inference_mode():
        if table:
            ready.make_table()
        (memory, state), (ready_memory, after) = model.encode(*source), ready.encode(*source)
        for _ in range(3):
            tokens_BQ = torch.randint(len(model.output.bias), (2, 1))
            plain, found = model.step(tokens_BQ, state, memory), ready.step(tokens_BQ, after, ready_memory)
            torch.testing.assert_close(found.logits_BQV, plain.logits_BQV, **tolerance)
            assert dtype == torch.float32 or not torch.equal(found.logits_BQV, plain.logits_BQV)
            state, after = plain.state, found.state


def test_a_model_made_ready_for_search_shares_its_weights_and_leaves_the_model_as_it_was(
    make_model: Callable[..., Seq2Seq],
) -> None:
    model = make_model(small()).train()
    ready = SearchModel(model, torch.bfloat16)
    theirs = dict(model.named_parameters())
    assert all(theirs[name] is weight for name, weight in ready.model.named_parameters())
    assert model.training and not ready.model.training
    assert model.output.opened is None and ready.model.output.opened is not None


def test_build_model_fits_the_tokenizer(tokenizer: Tokenizer) -> None:
    config = small()
    model = build_model(config, tokenizer)
    assert model.source_embedding.num_embeddings == model.output.out_features == len(tokenizer.source)
    assert (model.source, model.target) == (tokenizer.source.specials, tokenizer.target.specials)
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_model(config, tokenizer).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["output.weight"], states[2]["output.weight"])


def test_targets_do_not_see_their_future(make_model: Callable[..., Seq2Seq], batch: Batch) -> None:
    model = make_model(small(feeding=False))
    changed = batch.tgt_in_BT.clone()
    changed[:, 3:] = 6
    before, _ = model(batch)
    after, _ = model(replace(batch, tgt_in_BT=changed))
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:])
