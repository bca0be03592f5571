"""Loss and scores on the validation set, by the decoder that `s2s translate` uses."""

from __future__ import annotations

from s2s_cli.config import DecodingConfig
from s2s_cli.evaluate import compute_scores, perplexity
from s2s_cli.forced import losses, mean_loss
from s2s_cli.signals import StopRequest
from s2s_cli.train.parts import Parts
from s2s_cli.translate.translator import Translator

Sample = tuple[str, str, str]
"""Source, reference, translation."""


def validate(parts: Parts, stop: StopRequest) -> tuple[dict[str, float], list[Sample]]:
    """Loss, perplexity and the configured metrics of the model as it is, and a few translations to look at.

    Raises:
        Stopped: between batches, after a signal.
    """
    training = parts.config.training
    changes: dict[str, object] = {"n_best": 1, "device": str(parts.device)}
    decoding = parts.config.decoding
    if training.validation_beam:
        decoding = decoding.for_search("beam")
        changes |= {"beam": training.validation_beam, "mbr": False}
    decoding = DecodingConfig.model_validate({**decoding.model_dump(), **changes})
    assert parts.valid.texts is not None
    sources, references = parts.valid.texts
    every = range(len(parts.valid))
    rows = parts.valid.source.rows(every), parts.valid.target.rows(every)
    loss = mean_loss(losses(parts.model, parts.tokenizer, *rows, training.batch_tokens, stop.check))
    translator = Translator(parts.model, parts.tokenizer, decoding, parts.device, between_batches=stop.check)
    hypotheses = [best.text for best, *_ in translator.translate(sources)]
    found = compute_scores(hypotheses, [references], parts.config.evaluation)
    scores = {"loss": loss, "perplexity": perplexity(loss), **{k: v.value for k, v in found.items()}}
    shown = [i * len(sources) // max(1, training.samples) for i in range(min(training.samples, len(sources)))]
    return scores, [(str(sources[i]), references[i], hypotheses[i]) for i in shown]
