"""Optimizers, learning rate schedules, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from s2s_cli.checkpoint import load_weights, weights
from s2s_cli.config import TrainingConfig

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], TrainingConfig, bool], torch.optim.Optimizer]] = {
    "adam": lambda parameters, config, fused: torch.optim.Adam(
        parameters, config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=fused
    ),
    "adamw": lambda parameters, config, fused: torch.optim.AdamW(
        parameters, config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=fused
    ),
    "sgd": lambda parameters, config, fused: torch.optim.SGD(
        parameters, config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
    ),
}


def build_optimizer(model: nn.Module, config: TrainingConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer that the config names, fused where the device can."""
    return OPTIMIZERS[config.optimizer](list(model.parameters()), config, device.type in ("cpu", "cuda"))


def _share(step: int, config: TrainingConfig, horizon: int) -> float:
    """How far the decay has come, from 0 at the end of the warm-up to 1 at the horizon."""
    return min(1.0, max(0, step - config.warmup_steps) / max(1, horizon - config.warmup_steps))


# Each gives the factor on `learning_rate` at a step (from 1) after the warm-up, for a horizon in steps.
SCHEDULES: dict[str, Callable[[int, TrainingConfig, int], float]] = {
    "constant": lambda step, config, horizon: 1.0,
    "plateau": lambda step, config, horizon: 1.0,  # its factor is in the trainer's state, since it follows the scores
    "inverse-sqrt": lambda step, config, horizon: math.sqrt(config.warmup_steps / max(step, config.warmup_steps)),
    "linear": lambda step, config, horizon: 1 - (1 - config.final_rate) * _share(step, config, horizon),
    "cosine": lambda step, config, horizon: (
        config.final_rate + (1 - config.final_rate) * (1 + math.cos(math.pi * _share(step, config, horizon))) / 2
    ),
}


def decay_end(config: TrainingConfig, horizon: int) -> int | None:
    """The step at which the learning rate is zero, and remains so; None where it never is."""
    if config.schedule not in ("linear", "cosine") or config.final_rate:
        return None
    return max(horizon, config.warmup_steps)


def idle_updates(config: TrainingConfig, step: int, horizon: int) -> Iterator[str]:
    """What the length of a run leaves without effect, in words.

    Args:
        config: the training section.
        step: updates made so far.
        horizon: the steps that the schedule spans.
    """
    end = decay_end(config, horizon)
    if end is not None and (config.max_steps or step + 1) > end:
        yield (
            f"training.schedule {config.schedule} ends at step {end:,}, and updates from there on change nothing: "
            "raise schedule_steps or final_rate in a new run, which training.init_from starts from these weights"
        )
    if config.max_steps and config.max_steps < config.warmup_steps:
        yield (
            f"training.warmup_steps {config.warmup_steps:,}: the run ends at {config.max_steps:,}, before the rate has "
            "risen to learning_rate: lower it"
        )
    if config.schedule == "plateau" and config.patience and config.patience <= config.plateau_patience:
        yield (
            f"training.patience {config.patience} ends the run before the rate is lowered: raise it above "
            f"plateau_patience ({config.plateau_patience})"
        )


def learning_rate(step: int, config: TrainingConfig, horizon: int) -> float:
    """The learning rate of an update (from 1): a pure function, so that resuming and plotting need nothing else."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    return config.learning_rate * SCHEDULES[config.schedule](step, config, horizon)


class WeightAverage:
    """An exponential moving average of a model's weights (Polyak and Juditsky 1992), young at first.

    The decay grows as (1 + t) / (10 + t) up to its value, so that early averages are not held back by the start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.clone() for name, tensor in weights(model).items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after an update (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = weights(model)
        torch._foreach_lerp_(list(self.tensors.values()), [current[name] for name in self.tensors], 1 - decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from a saved average."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])


@contextmanager
def borrowed_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the model has other weights; afterwards its own, bit for bit."""
    own = {name: tensor.clone() for name, tensor in weights(model).items()}
    load_weights(model, tensors, "average")
    try:
        yield
    finally:
        load_weights(model, own, "own weights")


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: `NAME.KEY`, NAME the parameter's."""
    return {
        f"{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` gave."""
    for name, parameter in model.named_parameters():
        prefix = f"{name}."
        optimizer.state[parameter] = {
            key.removeprefix(prefix): value.to(parameter.device).clone()  # torch keeps the step there too when fused
            for key, value in tensors.items()
            if key.startswith(prefix) and "." not in key.removeprefix(prefix)
        }
