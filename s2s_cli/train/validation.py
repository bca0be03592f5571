"""Loss and scores on the validation set, by the decoder that `s2s translate` uses."""

from __future__ import annotations

import torch

from s2s_cli.config import DecodingConfig
from s2s_cli.data.shares import divide
from s2s_cli.evaluate import compute_scores
from s2s_cli.forced import losses, perplexity
from s2s_cli.signals import StopRequest
from s2s_cli.train.parts import Parts
from s2s_cli.translate.translator import Translator

Sample = tuple[str, str, str]
"""Source, reference, translation."""


def validate(parts: Parts, stop: StopRequest) -> tuple[dict[str, float], list[Sample]]:
    """Loss, perplexity and the configured metrics of the model as it is, and a few translations to look at.

    Each worker takes its share of the sentences; the scores are the first one's.

    Raises:
        Stopped: between batches, after a signal.
    """
    workers, training = parts.workers, parts.config.training
    changes: dict[str, object] = {"n_best": 1, "device": str(parts.device)}
    decoding = parts.config.decoding
    if training.validation_beam:
        decoding = decoding.for_search("beam")
        changes |= {"beam": training.validation_beam, "mbr": False}
    decoding = DecodingConfig.model_validate({**decoding.model_dump(), **changes})
    assert parts.valid.texts is not None
    sources, references = parts.valid.texts
    lengths = parts.tokenizer.source.positions(parts.valid.source.lengths(torch.arange(len(parts.valid))))
    own = divide(lengths, workers.size)[workers.rank].tolist()
    with workers.together():
        rows = parts.valid.source.rows(own), parts.valid.target.rows(own)
        found = losses(parts.model, parts.tokenizer, *rows, training.batch_tokens, stop.check)
        translator = Translator(parts.model, parts.tokenizer, decoding, parts.device, between_batches=stop.check)
        translations = [best.text for best, *_ in translator.translate([sources[row] for row in own])]
    pieces_N = torch.cat([torch.empty(0), *found])
    sums = workers.gather(float(pieces_N.sum(dtype=torch.float64)), len(pieces_N))
    loss = sum(nll for nll, _ in sums) / sum(pieces for _, pieces in sums)
    hypotheses = [text for share in workers.gather_json(translations) for text in share]
    scores = {"loss": loss, "perplexity": perplexity(loss)}
    if workers.first:
        scores |= {
            name: score.value
            for name, score in compute_scores(hypotheses, [references], parts.config.evaluation).items()
        }
    shown = [i * len(sources) // max(1, training.samples) for i in range(min(training.samples, len(sources)))]
    return workers.of_first(scores), [(str(sources[i]), references[i], hypotheses[i]) for i in shown]
