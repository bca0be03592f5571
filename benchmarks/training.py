"""Target pieces a second of training updates, for each cell and attention, beside what arithmetic allows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.corpus import Text
from benchmarks.measure import Figures, matrix_rate
from s2s_cli.config import ModelConfig, TrainingConfig
from s2s_cli.data.batches import Batch, Sampler
from s2s_cli.device import autocast, choose_precision, keep_freed_memory, keep_programs
from s2s_cli.model.attention import ATTENTIONS
from s2s_cli.model.recurrent import CELLS
from s2s_cli.model.seq2seq import Seq2Seq, build_model
from s2s_cli.train.optim import build_optimizer

SIZES: dict[str, Any] = {
    "encoder": {"layers": 1, "hidden_size": 256, "bidirectional": True},
    "decoder": {"layers": 1, "hidden_size": 512},
    "embedding_size": 256,
    "dropout": 0.3,
}


PLAIN = ("none", "bahdanau", "luong-dot", "luong-general", "luong-concat")
OTHERS: list[tuple[str, str, bool, dict[str, object]]] = [
    ("lstm", "luong-general", False, {"attention_span": "local-m"}),
    ("lstm", "luong-general", False, {"attention_span": "local-p"}),
    ("lstm", "bahdanau", True, {"coverage": "sum"}),
    ("lstm", "bahdanau", True, {"coverage": "gru"}),
    ("gru", "luong-concat", True, {"decoder.conditional": True}),
    ("lstm", "luong-general", False, {"encoder.layer_norm": True, "decoder.layer_norm": True}),
    ("lstm", "luong-general", False, {"recurrent_dropout": 0.1}),
]
# Weights that are used once for each source token.
OF_THE_SOURCE = ("key_projection", "value_projection", "coverage.fertility", "coverage.from_state")


def variants() -> list[tuple[str, ModelConfig]]:
    """Every cell with every plain attention, fed back and not; the two that the peers are compared with; the others."""
    found = [
        (f"lstm, {attention}, fed, readout 512", model("lstm", attention, feeding=True, readout_size=512))
        for attention in ("bahdanau", "luong-general")
    ]
    for cell in CELLS:
        for attention in PLAIN if cell != "lstm" else ATTENTIONS:
            for feeding in (True, False):
                if feeding or not ATTENTIONS[attention].before_cell:
                    name = f"{cell}, {attention}{', fed' if feeding else ''}"
                    found.append((name, model(cell, attention, feeding=feeding, tie_embeddings="all")))
    for cell, attention, feeding, changes in OTHERS:
        words = (f"{key.rpartition('.')[2]} {value}" for key, value in changes.items())
        name = ", ".join((cell, attention, *(("fed",) if feeding else ()), *words))
        found.append((name, model(cell, attention, feeding=feeding, tie_embeddings="all", **changes)))
    return found


def model(cell: str, attention: str, *, feeding: bool, **changes: object) -> ModelConfig:
    """The sizes that the peers are measured with.

    Args:
        cell, attention, feeding: of both sides.
        changes: of the model section, or of a part of it: `encoder.layer_norm`.
    """
    encoder = {**SIZES["encoder"], "cell": cell, **_of("encoder.", changes)}
    decoder = {**SIZES["decoder"], "cell": cell, "input_feeding": feeding, **_of("decoder.", changes)}
    changes = {key: value for key, value in changes.items() if "." not in key}
    return ModelConfig.model_validate(
        {**SIZES, "encoder": encoder, "decoder": decoder, "attention": attention, **changes}
    )


def _of(prefix: str, changes: Mapping[str, object]) -> dict[str, object]:
    return {key.removeprefix(prefix): value for key, value in changes.items() if key.startswith(prefix)}


def operations(network: Seq2Seq, batches: list[Batch]) -> float:
    """Floating-point operations for a target piece, forward and backward, of the weights' products alone.

    A weight of the encoder and of the keys is used once for each source token, any other once for each target token.
    """
    per_source = per_target = 0
    for name, weight in network.named_parameters():
        if weight.dim() < 2 or "embedding" in name or "initial_state" in name:
            continue
        if name.startswith("encoder.") or any(part in name for part in OF_THE_SOURCE):
            per_source += weight.numel()
        else:
            per_target += weight.numel()
    if network.output.weight is network.target_embedding.weight:
        per_target += network.output.weight.numel()
    ratio = sum(int(b.src_len_B.sum()) for b in batches) / sum(b.tokens for b in batches)
    return 3 * 2 * (per_source * ratio + per_target)


def measure(text: Text, config: ModelConfig, batch_tokens: int, updates: int, precision_name: str = "auto") -> Figures:
    """The rate of complete updates: batch, forward, backward, clipping, Adam.

    Args:
        text: the corpus and its tokenizer.
        config: the model.
        batch_tokens: the budget of a batch.
        updates: how many are timed; a third as many before them are not.
        precision_name: fp32, bf16 or auto.
    """
    keep_freed_memory()
    keep_programs()
    torch.manual_seed(1)
    device = torch.device("cpu")
    precision = choose_precision(precision_name, device)
    network = build_model(config, text.tokenizer)
    optimizer = build_optimizer(network, TrainingConfig(max_steps=1), device)
    sampler = Sampler(text.train, text.tokenizer, batch_tokens, 1)
    seen: list[Batch] = []

    def update() -> None:
        seen.append(sampler.next())
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            losses = network.losses(seen[-1], 0.1)
        (losses.smoothed / seen[-1].tokens).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    for _ in range(math.ceil(updates / 3)):
        update()
    seen.clear()
    limit_before = matrix_rate(precision, repeats=3)
    began = time.perf_counter()
    for _ in range(updates):
        update()
    taken = time.perf_counter() - began
    peak = (limit_before + matrix_rate(precision, repeats=3)) / 2
    rate = sum(batch.tokens for batch in seen) / taken
    needed = operations(network, seen)
    limit = peak / needed
    return {
        "tokens_per_second": round(rate),
        "mflop_per_token": round(needed / 1e6, 1),
        "limit": round(limit),
        "share_of_limit": round(rate / limit, 2),
        "precision": "bf16" if precision == torch.bfloat16 else "fp32",
    }
