"""The states of random generators, as a checkpoint keeps them."""

from __future__ import annotations

import base64

import torch


def random_states(device: torch.device) -> dict[str, str]:
    """The states of torch's generators, in base64."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return {name: base64.b64encode(bytes(state.tolist())).decode() for name, state in states.items()}


def restore_random_states(states: dict[str, str], device: torch.device) -> None:
    """Puts back what `random_states` gave."""
    tensors = {name: torch.tensor(list(base64.b64decode(state)), dtype=torch.uint8) for name, state in states.items()}
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
    if device.type == "mps" and "mps" in tensors:
        torch.mps.set_rng_state(tensors["mps"])
