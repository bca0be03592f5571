"""Search against slow, obvious searches over a toy model: exhaustive, greedy, and a beam in plain Python."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from s2s_cli.config import DecoderConfig, DecodingConfig, EncoderConfig, ModelConfig
from s2s_cli.data.batches import Batch, pad_rows
from s2s_cli.errors import RunFailed
from s2s_cli.model.attention import ATTENTIONS
from s2s_cli.model.interface import AttentionState, DecoderState, Memory, Step
from s2s_cli.model.seq2seq import Seq2Seq
from s2s_cli.search import loop
from s2s_cli.search.flight import Hypothesis, Sources
from s2s_cli.search.loop import decode
from s2s_cli.search.ranking import gnmt

BOS, EOS = 0, 1
WIDTH = 6
LOOKS = 4  # source positions that the toy's attention weights are for
Ids = tuple[int, ...]
Scored = tuple[float, float, Ids]  # score, log-probability, pieces without the end


class Toy:
    """A random recurrent model of few pieces. Sources are one number each: the seed of what a sentence sounds like."""

    def __init__(self, seed: int, size: int, sharpness: float = 2.0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.size, self.sharpness, self.steps = size, sharpness, 0
        self.sentences, self.pieces = draw(50, WIDTH), draw(size, WIDTH)
        self.recurrent, self.output, self.look = draw(WIDTH, WIDTH), draw(size, WIDTH), draw(WIDTH, LOOKS)

    def _next(self, h: Tensor, tokens: Tensor, sentence: Tensor) -> Tensor:
        return torch.tanh(h @ self.recurrent.t() + self.pieces[tokens] + sentence)

    def encode(self, src_BS: Tensor, src_len_B: Tensor) -> tuple[Memory, DecoderState]:
        values_BC = self.sentences[src_BS[:, 0]]
        memory = Memory(
            values_BC[:, None], values_BC[:, None], torch.ones(len(src_BS), LOOKS, dtype=torch.bool), values_BC
        )
        rows = torch.zeros(len(src_BS), WIDTH, dtype=torch.float64)
        return memory, DecoderState(((rows,),), torch.zeros(len(src_BS), 0), AttentionState())

    def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step:
        self.steps += 1
        sentences, queries = tokens_BQ.shape
        h_NH = state.cells[0][0]
        assert len(h_NH) == sentences * queries
        assert len(memory.last_BC) == sentences
        h_NH = self._next(h_NH, tokens_BQ.flatten(), memory.last_BC.repeat_interleave(queries, dim=0))
        h_BQH = h_NH.view(sentences, queries, WIDTH)
        logits_BQV = (self.sharpness * h_BQH @ self.output.t()).float()
        return Step(
            logits_BQV, torch.softmax(h_BQH @ self.look, -1), DecoderState(((h_NH,),), state.feed_NR, AttentionState())
        )

    def after(self, sentence: int, prefix: Sequence[int]) -> tuple[list[float], list[float]]:
        """Logits for what follows a prefix, and the attention weights: from the start each time."""
        h = torch.zeros(WIDTH, dtype=torch.float64)
        for token in (BOS, *prefix):
            h = self._next(h, torch.tensor(token), self.sentences[sentence])
        return (self.sharpness * self.output @ h).tolist(), torch.softmax(h @ self.look, -1).tolist()

    def log_probabilities(self, sentence: int, prefix: Sequence[int]) -> list[float]:
        logits, _ = self.after(sentence, prefix)
        highest = max(logits)
        total = highest + math.log(sum(math.exp(value - highest) for value in logits))
        return [value - total for value in logits]


def run(
    model: Toy, sentences: Sequence[int], limits: Sequence[int], config: DecodingConfig, **options: object
) -> list[list[Hypothesis]]:
    at_once = options.pop("at_once", len(sentences))
    assert isinstance(at_once, int)
    every = torch.tensor(sentences)[:, None], torch.full((len(sentences),), LOOKS), torch.tensor(limits)
    batches = (Sources(*parts) for parts in zip(*(tensor.split(at_once) for tensor in every), strict=True))
    return decode(model, batches, config, bos=BOS, eos=EOS, **options)


def penalized(log_probability: float, length: int, alpha: float) -> float:
    """Wu et al. 2016, equation 14."""
    return log_probability / ((5 + length) ** alpha / (5 + 1) ** alpha)


def every_translation(model: Toy, sentence: int, limit: int, alpha: float) -> list[Scored]:
    """All that can be said within the limit, best first."""
    found = []
    text = [piece for piece in range(model.size) if piece != EOS]
    for length in range(limit):
        for ids in itertools.product(text, repeat=length):
            total = sum(model.log_probabilities(sentence, ids[:i])[piece] for i, piece in enumerate((*ids, EOS)))
            found.append((penalized(total, length + 1, alpha), total, ids))
    return sorted(found, reverse=True)


def slow_greedy(model: Toy, sentence: int, limit: int, suppress: Sequence[int] = ()) -> tuple[Ids, float]:
    """Argmax after argmax."""
    ids: list[int] = []
    total = 0.0
    while True:
        log_probabilities = model.log_probabilities(sentence, ids)
        allowed = [EOS] if len(ids) + 1 >= limit else [v for v in range(model.size) if v not in suppress]
        best = max(allowed, key=lambda piece: log_probabilities[piece])
        total += log_probabilities[best]
        if best == EOS:
            return tuple(ids), total
        ids.append(best)


def slow_beam(
    model: Toy, sentence: int, limit: int, config: DecodingConfig, suppress: Sequence[int] = ()
) -> list[Scored]:
    """Beam search by its rules, with lists.

    Of all extensions the 2K best are looked at. Those of them that end and rank among the first K are finished; the K
    best of those that do not end live on. The search is over when the best that lives is no better than the worst of
    the n best that are finished: "early", at its length now; "exact", at the length that flatters it most. "full" is
    as exact until K have ended, and as early from then on.
    """
    living: list[tuple[float, Ids]] = [(0.0, ())]
    finished: list[Scored] = []
    ended = 0
    for length in range(1, limit + 1):
        extensions = []
        for total, ids in living:
            log_probabilities = model.log_probabilities(sentence, ids)
            for piece in [EOS] if length == limit else [v for v in range(model.size) if v not in suppress]:
                extensions.append((total + log_probabilities[piece], (*ids, piece)))
        extensions = sorted(extensions, reverse=True)[: 2 * config.beam]
        for total, ids in extensions[: config.beam]:
            if ids[-1] == EOS:
                finished.append((penalized(total, length, config.length_penalty), total, ids[:-1]))
                ended += 1
        finished = sorted(finished, reverse=True)[: config.n_best]
        living = [(total, ids) for total, ids in extensions if ids[-1] != EOS][: config.beam]
        if not living:
            break
        enough = config.stopping == "full" and ended >= config.beam
        reach = length if config.stopping == "early" or enough else limit
        full = len(finished) == config.n_best
        if full and penalized(living[0][0], reach, config.length_penalty) <= finished[-1][0]:
            break
    return finished


@pytest.mark.parametrize("beam", [2, 3, 5])
def test_a_sure_model_is_not_ended_by_short_hypotheses(beam: int) -> None:
    """Where the greedy path is all but certain, hypotheses that end early must not fill the beam before it ends."""
    for seed in range(40):
        model = Toy(seed, size=7, sharpness=12.0)
        (greedy,), (found,) = (run(model, [seed], [12], DecodingConfig(beam=width)) for width in (1, beam))
        assert found[0].score >= greedy[0].score - 1e-4


def assert_same(found: list[Hypothesis], expected: list[Scored]) -> None:
    assert [hypothesis.ids for hypothesis in found] == [ids for _, _, ids in expected]
    for hypothesis, (score, total, _) in zip(found, expected, strict=True):
        assert hypothesis.score == pytest.approx(score, abs=1e-4)
        assert hypothesis.log_probability == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_exact_beam_finds_the_best_of_everything(seed: int, alpha: float) -> None:
    model, limits = Toy(seed, size=4), [4, 2, 3, 1]
    widest = 3**3 * 4
    config = DecodingConfig(beam=widest, n_best=20, length_penalty=alpha, stopping="exact")
    found = run(model, [0, 1, 2, 3], limits, config)
    for sentence, limit in enumerate(limits):
        assert_same(found[sentence], every_translation(model, sentence, limit, alpha)[:20])


@pytest.mark.parametrize("seed", range(40))
def test_a_beam_equals_the_slow_beam(seed: int) -> None:
    draw = random.Random(seed)
    beam = draw.choice([2, 3, 5, 5, 5, 8])
    config = DecodingConfig(
        beam=beam,
        n_best=draw.choice([1, 1, 2, beam]),
        length_penalty=draw.choice([0.0, 0.6, 1.0, 1.4]),
        stopping=draw.choice(["early", "full", "exact"]),
    )
    model = Toy(seed, size=draw.randint(3, 14), sharpness=draw.choice([0.5, 1.0, 2.0]))
    sentences = [draw.randrange(50) for _ in range(draw.randint(1, 7))]
    limits = [draw.randint(2, 9) for _ in sentences]
    suppress = draw.choice([[], [BOS], [BOS, 2]])
    found = run(model, sentences, limits, config, suppress=suppress)
    for sentence, limit, hypotheses in zip(sentences, limits, found, strict=True):
        assert_same(hypotheses, slow_beam(model, sentence, limit, config, suppress))


@pytest.mark.parametrize("seed", range(12))
def test_an_early_beam_equals_the_slow_beam_whatever_the_limits(seed: int) -> None:
    draw = random.Random(seed)
    model, config = Toy(seed, size=9, sharpness=1.0), DecodingConfig(beam=5, n_best=seed % 5 + 1, stopping="early")
    sentences = [draw.randrange(50) for _ in range(6)]
    limits = [draw.randint(1, 12) for _ in sentences]
    found = run(model, sentences, limits, config)
    for sentence, limit, hypotheses in zip(sentences, limits, found, strict=True):
        assert_same(hypotheses, slow_beam(model, sentence, limit, config))


@pytest.mark.parametrize("seed", range(10))
def test_greedy_equals_an_argmax_loop(seed: int) -> None:
    draw = random.Random(seed)
    model, sentences = Toy(seed, size=draw.randint(2, 12), sharpness=1.0), list(range(9))
    limits = [draw.randint(1, 10) for _ in sentences]
    suppress = [BOS] if seed % 2 and model.size > 2 else []
    config = DecodingConfig(beam=1, length_penalty=0.7)
    for hypotheses, sentence, limit in zip(
        run(model, sentences, limits, config, suppress=suppress), sentences, limits, strict=True
    ):
        ids, total = slow_greedy(model, sentence, limit, suppress)
        assert_same(hypotheses, [(penalized(total, len(ids) + 1, 0.7), total, ids)])


def ragged(seed: int) -> tuple[Toy, list[int], list[int]]:
    """Sentences that end at very different steps."""
    draw = random.Random(seed)
    sentences = [draw.randrange(50) for _ in range(12)]
    return Toy(seed, size=10, sharpness=1.5), sentences, [draw.randint(1, 14) for _ in sentences]


def assert_alike(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert [hypothesis.ids for hypothesis in mine] == [hypothesis.ids for hypothesis in theirs]
        for one, other in zip(mine, theirs, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            if other.attention is not None:
                torch.testing.assert_close(one.attention, other.attention)


SEVERAL = [
    pytest.param(DecodingConfig(beam=1), id="greedy"),
    pytest.param(DecodingConfig(beam=5), id="beam"),
    pytest.param(DecodingConfig(beam=4, n_best=4, length_penalty=0.4), id="n-best"),
    pytest.param(DecodingConfig(beam=5, n_best=2, stopping="exact"), id="exact"),
    pytest.param(DecodingConfig(beam=5, n_best=2, stopping="early"), id="early"),
]


@pytest.mark.parametrize("config", SEVERAL)
@pytest.mark.parametrize("seed", range(4))
def test_a_sentence_alone_equals_itself_in_a_batch(config: DecodingConfig, seed: int) -> None:
    model, sentences, limits = ragged(seed)
    together = run(model, sentences, limits, config, keep_attention=True)
    alone = [
        run(model, [sentence], [limit], config, keep_attention=True)[0]
        for sentence, limit in zip(sentences, limits, strict=True)
    ]
    assert_alike(together, alone)


@pytest.mark.parametrize("config", SEVERAL)
@pytest.mark.parametrize("share", [0.0001, 0.5, 1.0])
def test_when_finished_sentences_leave_the_batch_does_not_matter(
    config: DecodingConfig, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sentences, limits = ragged(5)
    expected = run(model, sentences, limits, config, keep_attention=True)
    monkeypatch.setattr(loop, "FREE_SHARE", share)
    assert_alike(run(model, sentences, limits, config, keep_attention=True), expected)


@pytest.mark.parametrize("config", SEVERAL)
@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
@pytest.mark.parametrize("share", [0.0001, 0.5, 1.0])
def test_how_many_are_searched_at_once_does_not_matter(
    config: DecodingConfig, at_once: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sentences, limits = ragged(8)
    expected = run(model, sentences, limits, config, keep_attention=True)
    monkeypatch.setattr(loop, "FREE_SHARE", share)
    assert_alike(run(model, sentences, limits, config, keep_attention=True, at_once=at_once), expected)


def test_rows_that_become_free_are_taken_by_the_next_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sentences, limits = ragged(6)
    rows: list[int] = []
    step = model.step
    monkeypatch.setattr(model, "step", lambda tokens, *rest: (rows.append(len(tokens)), step(tokens, *rest))[1])
    lengths = [len(group[0].ids) + 1 for group in run(model, sentences, limits, DecodingConfig(beam=1), at_once=2)]
    assert max(rows) == 2
    assert sum(lengths) <= sum(rows) < sum(lengths) + max(lengths)


@pytest.mark.parametrize("config", SEVERAL)
def test_sources_of_any_width_are_searched_together(real: Seq2Seq, config: DecodingConfig, batch: Batch) -> None:
    specials, limits = real.target, torch.tensor([6, 3, 9, 5])
    together = [Sources(batch.src_BS, batch.src_len_B, limits)]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        alone = [
            Sources(batch.src_BS[i : i + 1, : batch.src_len_B[i]], batch.src_len_B[i : i + 1], limits[i : i + 1])
            for i in order
        ]
        marks = {"bos": specials.bos, "eos": specials.eos}
        expected = decode(real, together, config, keep_attention=True, **marks)
        assert_alike(decode(real, alone, config, keep_attention=True, **marks), [expected[i] for i in order])


def test_finished_sentences_are_no_longer_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sentences, limits = ragged(6)
    rows: list[int] = []
    step = model.step
    monkeypatch.setattr(model, "step", lambda tokens, *rest: (rows.append(len(tokens)), step(tokens, *rest))[1])
    monkeypatch.setattr(loop, "FREE_SHARE", 0.0001)
    lengths = [len(group[0].ids) + 1 for group in run(model, sentences, limits, DecodingConfig(beam=1))]
    assert rows == [sum(length > at for length in lengths) for at in range(max(lengths))]


@pytest.mark.parametrize("config", SEVERAL)
def test_limits_are_respected_and_suppressed_pieces_never_appear(config: DecodingConfig) -> None:
    suppress, reached = [BOS, 4, 7], 0
    for seed in range(6):
        model, sentences, limits = ragged(seed)
        for limit, group in zip(limits, run(model, sentences, limits, config, suppress=suppress), strict=True):
            assert 1 <= len(group) <= config.n_best
            for hypothesis in group:
                assert len(hypothesis.ids) + 1 <= limit
                reached += len(hypothesis.ids) + 1 == limit
                assert not {*suppress, EOS} & {*hypothesis.ids}
            scores = [hypothesis.score for hypothesis in group]
            assert scores == sorted(scores, reverse=True)
            assert len({hypothesis.ids for hypothesis in group}) == len(group)
    assert reached


@pytest.mark.parametrize("config", SEVERAL)
def test_scores_are_of_the_unfiltered_model(config: DecodingConfig) -> None:
    """Forbidding pieces must not make the others more probable."""
    model, sentences, limits = ragged(2)
    for sentence, group in zip(sentences, run(model, sentences, limits, config, suppress=[BOS, 3]), strict=True):
        for hypothesis in group:
            pieces = (*hypothesis.ids, EOS)
            total = sum(model.log_probabilities(sentence, pieces[:i])[piece] for i, piece in enumerate(pieces))
            assert hypothesis.log_probability == pytest.approx(total, abs=1e-4)
            score = penalized(total, len(pieces), config.length_penalty)
            assert hypothesis.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("config", SEVERAL)
def test_kept_attention_is_that_of_each_step(config: DecodingConfig) -> None:
    model, sentences, limits = ragged(3)
    for sentence, group in zip(sentences, run(model, sentences, limits, config, keep_attention=True), strict=True):
        for hypothesis in group:
            expected = [model.after(sentence, hypothesis.ids[:length])[1] for length in range(len(hypothesis.ids) + 1)]
            assert hypothesis.attention is not None
            torch.testing.assert_close(hypothesis.attention, torch.tensor(expected, dtype=torch.float64))


def test_attention_is_kept_only_where_it_was_asked_for() -> None:
    model, sentences, limits = ragged(3)
    assert all(group[0].attention is None for group in run(model, sentences, limits, DecodingConfig(beam=2)))


def test_a_beam_wider_than_all_there_is_gives_what_there_is() -> None:
    model = Toy(1, size=3)
    (found,) = run(model, [0], [2], DecodingConfig(beam=50, n_best=50, stopping="exact"))
    assert_same(found, every_translation(model, 0, 2, 1.0))
    assert len(found) == 3


def test_an_end_that_ranks_below_the_beam_is_not_taken() -> None:
    """The rule that slow_beam spells out, on logits made by hand: the end is third of all, the beam two wide."""

    class Fixed(Toy):
        def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step:
            step = super().step(tokens_BQ, state, memory)
            return step._replace(logits_BQV=torch.tensor([-50.0, 1.0, 3.0, 2.0]).expand_as(step.logits_BQV).clone())

    config = DecodingConfig(beam=2, length_penalty=0.0)
    (found,) = run(Fixed(0, size=4), [0], [3], config)
    assert len(found[0].ids) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("beam", [1, 3])
def test_a_model_that_gives_no_numbers_does_not_go_on_for_ever(bad: float, beam: int) -> None:
    class TooLong(Exception):
        pass

    class Broken(Toy):
        def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step:
            step = super().step(tokens_BQ, state, memory)
            if self.steps > 20:
                raise TooLong
            step.logits_BQV[0, :, 2] = bad
            return step

    try:
        found = run(Broken(0, size=4), [0, 1], [8, 8], DecodingConfig(beam=beam))
    except TooLong:
        pytest.fail("decoding goes on beyond every sentence's limit")
    except RunFailed as error:
        assert "no numbers" in str(error)  # a refusal does as well
    else:
        assert found[1][0].score > -math.inf


@pytest.mark.parametrize(
    ("length", "alpha", "expected"),
    [(1, 0.0, 1), (1, 1.0, 1), (7, 1.0, 2), (13, 2.0, 9), (19, 0.5, 2), (49, 0.0, 1)],
)
def test_the_length_penalty_is_that_of_wu_et_al(length: int, alpha: float, expected: float) -> None:
    assert gnmt(length, alpha) == pytest.approx(expected)


WITH_STATE = [
    {"attention": "bahdanau", "coverage": "gru"},
    {"attention": "luong-concat", "coverage": "fertility"},
    {"attention": "luong-general", "attention_span": "local-m", "attention_window": 1},
    {"attention": "luong-concat", "coverage": "fertility", "lexical": True},
]


@pytest.fixture(params=[*({"attention": name} for name in sorted(ATTENTIONS)), *WITH_STATE], ids=str)
def real(request: pytest.FixtureRequest, make_model: Callable[..., Seq2Seq]) -> Iterator[Seq2Seq]:
    settings = dict(request.param)
    lexical = settings.pop("lexical", False)
    config = ModelConfig(
        encoder=EncoderConfig(cell="gru", hidden_size=4),
        decoder=DecoderConfig(cell="lstm", layers=2, hidden_size=8, lexical=lexical),
        embedding_size=6,
        dropout=0.4,
        **settings,
    )
    model = make_model(config)
    with torch.no_grad():
        model.output.weight.mul_(4)
    yield model


@pytest.mark.parametrize("config", SEVERAL)
def test_the_log_probability_is_that_of_teacher_forcing(real: Seq2Seq, config: DecodingConfig, batch: Batch) -> None:
    specials = real.target
    limits = torch.tensor([6, 3, 9, 5])
    sources = [Sources(batch.src_BS, batch.src_len_B, limits)]
    found = decode(real, sources, config, bos=specials.bos, eos=specials.eos, keep_attention=True)
    for row, group in enumerate(found):
        for hypothesis in group:
            source = batch.src_BS[row : row + 1, : batch.src_len_B[row]]
            tgt_in_BT, length_B = pad_rows([[specials.bos, *hypothesis.ids]], specials.pad)
            tgt_out_BT, _ = pad_rows([[*hypothesis.ids, specials.eos]], specials.pad)
            pair = Batch(source, batch.src_len_B[row : row + 1], tgt_in_BT, tgt_out_BT, length_B)
            with torch.inference_mode():
                nll = real.losses(pair).nll_N.sum().item()
                _, weights_BTS = real(pair)
            assert hypothesis.log_probability == pytest.approx(-nll, abs=1e-4)
            torch.testing.assert_close(hypothesis.attention[:, : source.shape[1]], weights_BTS[0], atol=1e-5, rtol=1e-5)
            assert (hypothesis.attention[:, source.shape[1] :] == 0).all()


@pytest.mark.parametrize("config", SEVERAL)
def test_what_attention_carries_follows_sentences_that_come_and_go(real: Seq2Seq, config: DecodingConfig) -> None:
    """Rows are given to other sentences, wider and narrower ones, in the midst of search."""
    draw = random.Random(5)
    sentences = [[*(draw.randrange(4, 11) for _ in range(draw.randint(1, 9))), 3] for _ in range(12)]
    limits = [draw.randint(3, 12) for _ in sentences]

    def search(size: int) -> list[list[Hypothesis]]:
        batches = []
        for start in range(0, len(sentences), size):
            padded = pad_rows(sentences[start : start + size], 0)
            batches.append(Sources(*padded, torch.tensor(limits[start : start + size])))
        return decode(real, batches, config, bos=2, eos=3, suppress=[0, 2])

    for group, alone in zip(search(3), search(1), strict=True):
        assert [item.ids for item in group] == [item.ids for item in alone]
        for item, other in zip(group, alone, strict=True):
            assert item.score == pytest.approx(other.score, abs=1e-5)
