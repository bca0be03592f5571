"""Loss and scores on the validation set, by the decoder that `s2s translate` uses."""

from __future__ import annotations

import math

import torch

from s2s_cli.config import DecodingConfig
from s2s_cli.data.batches import make_batch, plan_batches
from s2s_cli.evaluate import compute_scores
from s2s_cli.signals import StopRequest
from s2s_cli.train.parts import Parts
from s2s_cli.translate import Translator

Sample = tuple[str, str, str]
"""Source, reference, translation."""


def validate(parts: Parts, stop: StopRequest) -> tuple[dict[str, float], list[Sample]]:
    """Loss, perplexity and the configured metrics of the model as it is, and a few translations to look at.

    Raises:
        Stopped: between batches, after a signal.
    """
    training = parts.config.training
    beam = training.validation_beam or parts.config.decoding.beam
    changes = {"beam": beam, "n_best": 1, "device": str(parts.device)}
    decoding = DecodingConfig.model_validate({**parts.config.decoding.model_dump(), **changes})
    assert parts.valid.texts is not None
    sources, references = parts.valid.texts
    loss = validation_loss(parts, stop)
    translator = Translator(parts.model, parts.tokenizer, decoding, parts.device, between_batches=stop.check)
    hypotheses = [best.text for best, *_ in translator.translate(sources)]
    found = compute_scores(hypotheses, references, parts.config.evaluation)
    scores = {"loss": loss, "perplexity": math.exp(min(loss, 700)), **{k: v.value for k, v in found.items()}}
    shown = [i * len(sources) // max(1, training.samples) for i in range(min(training.samples, len(sources)))]
    return scores, [(sources[i], references[i], hypotheses[i]) for i in shown]


def validation_loss(parts: Parts, stop: StopRequest) -> float:
    """Mean negative log-likelihood of a validation piece, in nats, without label smoothing."""
    corpus, budget = parts.valid, parts.config.training.batch_tokens
    every = torch.arange(len(corpus))
    lengths = corpus.source.lengths(every) + 1, corpus.target.lengths(every) + 1
    total, tokens = 0.0, 0
    was_training = parts.model.training
    parts.model.eval()
    try:
        with torch.inference_mode():
            for rows in plan_batches(every, *lengths, budget):
                stop.check()
                sources = [corpus.source[row].tolist() for row in rows.tolist()]
                targets = [corpus.target[row].tolist() for row in rows.tolist()]
                batch = make_batch(sources, targets, parts.tokenizer).to(parts.device)
                total += float(parts.model.losses(batch).nll)
                tokens += batch.tokens
    finally:
        parts.model.train(was_training)
    return total / tokens
