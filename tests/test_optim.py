"""Schedules against their formulas, the weights' average against its own, and optimizers that are saved and go on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import get_args

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from s2s_cli.checkpoint import weights
from s2s_cli.config import DecoderConfig, EncoderConfig, ModelConfig, OptimizerName, ScheduleName, TrainingConfig
from s2s_cli.data.batches import Batch
from s2s_cli.model.seq2seq import Seq2Seq
from s2s_cli.train.optim import (
    OPTIMIZERS,
    SCHEDULES,
    WeightAverage,
    borrowed_weights,
    build_optimizer,
    learning_rate,
    load_optimizer,
    optimizer_tensors,
)

CPU = torch.device("cpu")
HORIZON = 100


def settings(schedule: str = "constant", warmup: int = 0, final: float = 0.0, **others: object) -> TrainingConfig:
    changes = {"schedule": schedule, "warmup_steps": warmup, "final_rate": final, "max_steps": HORIZON, **others}
    return TrainingConfig.model_validate({"learning_rate": 2e-3, **changes})


def plain_rate(schedule: str, step: int, warmup: int, final: float, peak: float = 2e-3) -> float:
    """The learning rate as the documentation has it, case by case."""
    if step <= warmup:
        return peak * step / warmup
    if schedule in ("constant", "plateau"):
        return peak
    if schedule == "inverse-sqrt":
        return peak * warmup**0.5 / step**0.5
    done = (step - warmup) / (HORIZON - warmup)
    if done >= 1:
        return peak * final
    if schedule == "linear":
        return peak + done * (peak * final - peak)
    return peak * final + (peak - peak * final) * (math.cos(done * math.pi) / 2 + 0.5)


@pytest.mark.parametrize(
    ("schedule", "warmup"),
    [(name, warmup) for name in sorted(SCHEDULES) for warmup in (0, 1, 10) if warmup or name != "inverse-sqrt"],
)
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_each_schedule_follows_its_formula(schedule: str, warmup: int, final: float) -> None:
    config = settings(schedule, warmup, final)
    for step in (1, 2, 5, 9, 10, 11, 12, 37, 55, 99, 100, 101, 5000):
        assert learning_rate(step, config, HORIZON) == pytest.approx(
            plain_rate(schedule, step, warmup, final), abs=1e-12
        )


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_schedules_have_no_jump_at_the_end_of_the_warmup(schedule: str) -> None:
    config = settings(schedule, warmup=1000)
    before, at, after = (learning_rate(step, config, 100_000) for step in (999, 1000, 1001))
    assert at == config.learning_rate
    assert before < at
    assert after == pytest.approx(at, rel=2e-3)


@given(
    schedule=st.sampled_from(sorted(SCHEDULES)),
    warmup=st.integers(1, 60),
    horizon=st.integers(1, 200),
    final=st.floats(0, 1),
)
def test_rates_rise_to_the_peak_then_never_rise_again(schedule: str, warmup: int, horizon: int, final: float) -> None:
    config = settings(schedule, warmup, final)
    rates = [learning_rate(step, config, horizon) for step in range(1, 300)]
    assert all(0 <= rate <= config.learning_rate * (1 + 1e-12) for rate in rates)
    assert rates[: warmup - 1] == sorted(rates[: warmup - 1])
    falling = rates[warmup - 1 :]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(falling))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("horizon", [1, 10, 100])
def test_horizon_ends_at_the_final_rate_and_stays(schedule: str, horizon: int) -> None:
    config = settings(schedule, warmup=10, final=0.25)
    for step in (max(11, horizon), horizon + 11, 10 * horizon + 11):
        assert learning_rate(step, config, horizon) == pytest.approx(config.learning_rate / 4)


def test_config_and_code_name_the_same_choices() -> None:
    assert set(get_args(ScheduleName)) == SCHEDULES.keys()
    assert set(get_args(OptimizerName)) == OPTIMIZERS.keys()


# --- the average


@pytest.fixture
def model(make_model: Callable[..., Seq2Seq]) -> Seq2Seq:
    config = ModelConfig(
        encoder=EncoderConfig(cell="gru", hidden_size=3),
        decoder=DecoderConfig(cell="gru", hidden_size=6),
        embedding_size=4,
        tie_embeddings="target",
        dropout=0.0,
    )
    return make_model(config)


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in weights(module).items()}


@pytest.mark.parametrize("decay", [0.9, 0.05])
def test_the_average_follows_its_formula(decay: float, model: Seq2Seq) -> None:
    average = WeightAverage(model, decay)
    plain = {name: tensor.double() for name, tensor in copies(model).items()}
    for step in range(1, 130):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        average.update(model, step)
        share = min(decay, (1 + step) / (10 + step))
        plain = {name: share * plain[name] + (1 - share) * tensor for name, tensor in weights(model).items()}
    assert average.tensors.keys() == weights(model).keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(average.tensors[name], tensor.float(), rtol=1e-4, atol=1e-5)


def test_inside_applied_the_model_is_the_average_and_afterwards_itself_bit_for_bit(model: Seq2Seq) -> None:
    average = WeightAverage(model, 0.99)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1).add_(1e-7)
    own, mean = copies(model), {name: tensor.clone() for name, tensor in average.tensors.items()}
    parameters = [id(parameter) for parameter in model.parameters()]
    with borrowed_weights(model, average.tensors):
        assert all(torch.equal(tensor, mean[name]) for name, tensor in weights(model).items())
    assert all(torch.equal(tensor, own[name]) for name, tensor in weights(model).items())
    with pytest.raises(KeyError), borrowed_weights(model, average.tensors):
        raise KeyError("in the middle")
    assert all(torch.equal(tensor, own[name]) for name, tensor in weights(model).items())
    assert all(torch.equal(tensor, mean[name]) for name, tensor in average.tensors.items())
    assert [id(parameter) for parameter in model.parameters()] == parameters
    assert model.output.weight is model.target_embedding.weight


def test_an_average_goes_on_from_where_it_was_saved(model: Seq2Seq) -> None:
    first = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.output.bias.add_(1)
    first.update(model, 1)
    saved = {name: tensor.clone() for name, tensor in first.tensors.items()}
    second = WeightAverage(model, 0.9)
    second.load(saved)
    for average in (first, second):
        average.update(model, 2)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in saved)


def test_the_average_does_not_follow_the_weights_by_itself(model: Seq2Seq) -> None:
    average = WeightAverage(model, 0.9)
    before = average.tensors["output.bias"].clone()
    with torch.no_grad():
        model.output.bias.add_(1)
    assert torch.equal(average.tensors["output.bias"], before)


# --- optimizers

CHOICES = [
    pytest.param({"optimizer": "adam"}, id="adam"),
    pytest.param({"optimizer": "adam", "weight_decay": 0.01}, id="adam-decay"),
    pytest.param({"optimizer": "adamw", "weight_decay": 0.05}, id="adamw"),
    pytest.param({"optimizer": "sgd", "learning_rate": 0.1}, id="sgd"),
    pytest.param({"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9}, id="sgd-momentum"),
]


def update(model: Seq2Seq, optimizer: torch.optim.Optimizer, batch: Batch, times: int) -> None:
    for _ in range(times):
        optimizer.zero_grad()
        model.losses(batch, 0.1).smoothed.backward()
        optimizer.step()


@pytest.mark.parametrize("choice", CHOICES)
def test_a_loaded_optimizer_makes_the_very_same_updates(
    choice: dict[str, object], model: Seq2Seq, make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    config = settings(**choice)
    optimizer = build_optimizer(model, config, CPU)
    update(model, optimizer, batch, 3)
    saved_weights = copies(model)
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, model).items()}
    update(model, optimizer, batch, 3)
    other = Seq2Seq(_config_of(model), 11, 13, model.source, model.target).eval()
    with torch.no_grad():
        for name, tensor in weights(other).items():
            tensor.copy_(saved_weights[name])
    loaded = build_optimizer(other, config, CPU)
    load_optimizer(loaded, other, safetensors.torch.load(safetensors.torch.save(saved)))
    again = optimizer_tensors(loaded, other)
    assert again.keys() == saved.keys()
    assert all(torch.equal(again[name], saved[name]) and again[name].dtype == saved[name].dtype for name in saved)
    update(other, loaded, batch, 3)
    for name, tensor in weights(model).items():
        assert torch.equal(weights(other)[name], tensor), name
        assert not torch.equal(saved_weights[name], tensor), name


def _config_of(model: Seq2Seq) -> ModelConfig:
    return ModelConfig(
        encoder=EncoderConfig(cell="gru", hidden_size=3),
        decoder=DecoderConfig(cell="gru", hidden_size=6),
        embedding_size=model.output.in_features,
        tie_embeddings="target",
        dropout=0.0,
    )


@pytest.mark.parametrize(
    ("name", "keys"), [("adam", {"step", "exp_avg", "exp_avg_sq"}), ("adamw", {"step", "exp_avg", "exp_avg_sq"})]
)
def test_tensors_are_named_by_their_parameters(name: str, keys: set[str], model: Seq2Seq, batch: Batch) -> None:
    optimizer = build_optimizer(model, settings(optimizer=name), CPU)
    assert optimizer_tensors(optimizer, model) == {}
    update(model, optimizer, batch, 1)
    expected = {f"{parameter}.{key}" for parameter in weights(model) for key in keys}
    assert optimizer_tensors(optimizer, model).keys() == expected


def test_what_was_loaded_is_a_copy(model: Seq2Seq, batch: Batch) -> None:
    optimizer = build_optimizer(model, settings(), CPU)
    update(model, optimizer, batch, 1)
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, model).items()}
    kept = {name: tensor.clone() for name, tensor in saved.items()}
    load_optimizer(optimizer, model, saved)
    update(model, optimizer, batch, 1)
    assert all(torch.equal(saved[name], kept[name]) for name in saved)


@pytest.mark.parametrize("choice", CHOICES)
def test_updates_follow_the_papers(choice: dict[str, object]) -> None:
    """Three updates of one weight: Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2."""
    config = settings(**choice)
    module = nn.Linear(1, 1, bias=False)
    x = float(module.weight.detach())
    optimizer = build_optimizer(module, config, CPU)
    gradients, rate, decay = [0.7, -0.2, 0.4], config.learning_rate, config.weight_decay
    m = v = 0.0
    for step, given_gradient in enumerate(gradients, 1):
        module.weight.grad = torch.tensor([[given_gradient]])
        optimizer.step()
        gradient = given_gradient if config.optimizer == "adamw" else given_gradient + decay * x
        if config.optimizer == "sgd":
            m = gradient if step == 1 else config.momentum * m + gradient
            x -= rate * m
            continue
        if config.optimizer == "adamw":
            x -= rate * decay * x
        m = config.betas[0] * m + (1 - config.betas[0]) * gradient
        v = config.betas[1] * v + (1 - config.betas[1]) * gradient**2
        x -= rate * (m / (1 - config.betas[0] ** step)) / (math.sqrt(v / (1 - config.betas[1] ** step)) + 1e-8)
    assert float(module.weight.detach()) == pytest.approx(x, rel=1e-5)
