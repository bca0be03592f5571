"""Replayed steps give what the steps themselves give; where none can be recorded, nothing is missed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from s2s_cli import capture
from s2s_cli.capture import CapturedModel
from s2s_cli.config import DecoderConfig, DecodingConfig, EncoderConfig, ModelConfig
from s2s_cli.data.batches import pad_rows
from s2s_cli.model.attention import ATTENTIONS
from s2s_cli.model.interface import Step
from s2s_cli.model.seq2seq import SearchModel, Seq2Seq
from s2s_cli.search.flight import Hypothesis, Sources
from s2s_cli.search.loop import Model, decode

SENTENCES = [[5, 9, 4, 3], [7, 3], [10, 6, 8, 5, 4, 3], [9, 5, 3], [4, 3], [6, 6, 6, 3], [8, 3], [5, 4, 9, 3]] * 3
CONFIGS = [DecodingConfig(beam=1), DecodingConfig(beam=3, n_best=2)]


class StandIn:
    """A recorder for a processor: what it replays stands in the same tensors each time, as a graph's results do."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, step: Callable[[], Step]) -> tuple[Callable[[], None], Step]:
        self.recorded += 1
        first = step()
        own = Step(first.logits_BQV.clone(), first.weights_BQS.clone(), first.state.map(Tensor.clone))
        for tensor in (own.logits_BQV, own.weights_BQS, *own.state.tensors):
            tensor.fill_(math.nan if tensor.is_floating_point() else 99)  # to record is not yet to compute

        def replay() -> None:
            self.replayed += 1
            found = step()
            own.logits_BQV.copy_(found.logits_BQV)
            own.weights_BQS.copy_(found.weights_BQS)
            for mine, new in zip(own.state.tensors, found.state.tensors, strict=True):
                mine.copy_(new)

        return replay, own


COVERED = {"attention": "bahdanau", "coverage": "gru", "attention_span": "local-m"}


@pytest.fixture(params=[*({"attention": name} for name in sorted(ATTENTIONS)), COVERED], ids=str)
def model(request: pytest.FixtureRequest, make_model: Callable[..., Seq2Seq]) -> Seq2Seq:
    config = ModelConfig(
        encoder=EncoderConfig(cell="gru", hidden_size=4),
        decoder=DecoderConfig(cell="lstm", layers=2, hidden_size=8),
        embedding_size=6,
        **request.param,
    )
    model = make_model(config)
    model.output.bias.data[3] = -2  # few end before their limit, so that shapes come again
    return model


def search(
    model: Model, config: DecodingConfig, device: str = "cpu", sentences: list[list[int]] = SENTENCES
) -> list[list[Hypothesis]]:
    """Five sentences at a time, each with a limit of its own, so that shapes change as sentences come and go."""
    batches = []
    for start in range(0, len(sentences), 5):
        padded = pad_rows(sentences[start : start + 5], 0)
        limits = torch.tensor([4 + start % 7 + row for row in range(len(padded[0]))])
        batches.append(Sources(*(tensor.to(device) for tensor in (*padded, limits))))
    return decode(model, batches, config, bos=2, eos=3, suppress=[0, 2], keep_attention=True)


def check_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for group, wanted in zip(found, expected, strict=True):
        assert [item.ids for item in group] == [item.ids for item in wanted]
        for item, other in zip(group, wanted, strict=True):
            assert item.log_probability == pytest.approx(other.log_probability, abs=1e-5)
            assert item.attention is not None and other.attention is not None
            torch.testing.assert_close(item.attention, other.attention)


@pytest.mark.parametrize("config", CONFIGS)
def test_replayed_steps_find_the_same(model: Seq2Seq, config: DecodingConfig) -> None:
    plain, record = SearchModel(model, torch.float32), StandIn()
    captured = CapturedModel(plain, record)
    expected = search(plain, config)
    for _ in range(2):
        check_same(search(captured, config), expected)
    assert 1 < record.recorded < record.replayed


def test_no_more_graphs_are_kept_than_there_is_room_for(model: Seq2Seq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "GRAPHS", 2)
    captured = CapturedModel(SearchModel(model, torch.float32), StandIn())
    check_same(search(captured, CONFIGS[1]), search(captured.model, CONFIGS[1]))
    assert len(captured._recorded) == 2


def test_threads_do_not_write_over_each_others_inputs(make_model: Callable[..., Seq2Seq]) -> None:
    plain, record = SearchModel(make_model(ModelConfig()), torch.float32), StandIn()

    def slow(step: Callable[[], Step]) -> tuple[Callable[[], None], Step]:
        replay, own = record(step)
        return lambda: (time.sleep(0.001), replay())[1], own  # time for another thread to come in between

    captured = CapturedModel(plain, slow)
    texts = [SENTENCES[start:] + SENTENCES[:start] for start in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda text: search(captured, CONFIGS[1], sentences=text), texts))
    assert record.replayed
    for found, text in zip(together, texts, strict=True):
        check_same(found, search(plain, CONFIGS[1], sentences=text))


def test_what_cannot_be_recorded_is_computed(model: Seq2Seq) -> None:
    attempts = []

    def record(step: Callable[[], Step]) -> tuple[Callable[[], None], Step]:
        attempts.append(step)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    plain = SearchModel(model, torch.float32)
    check_same(search(CapturedModel(plain, record), CONFIGS[0]), search(plain, CONFIGS[0]))
    assert len(attempts) == 1, "no second try"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graphs_of_cuda_find_the_same(model: Seq2Seq, config: DecodingConfig, dtype: torch.dtype) -> None:
    plain = SearchModel(model.cuda(), dtype)
    captured = CapturedModel(plain)
    expected = search(plain, config, "cuda")
    for _ in range(2):
        check_same(search(captured, config, "cuda"), expected)
    assert captured._recorded, "nothing could be recorded"
