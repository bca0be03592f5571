"""One measurement of a finished run, in a process of its own: `python -m benchmarks.claims.worker KIND RUN` with a
request on standard input (JSON); the figures go to standard output (JSON)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import decoding, training
from benchmarks.corpus import Text
from benchmarks.measure import Figures
from s2s_cli.cli.app import say
from s2s_cli.data.corpus import read_corpus
from s2s_cli.model.seq2seq import count_parameters
from s2s_cli.run import read_metrics
from s2s_cli.score.system import AttentionMap, ModelSystem
from s2s_cli.score.testset import from_run

STOPS = frozenset(".,?!")


def translate(system: ModelSystem, request: dict[str, Any]) -> Figures:
    """The test set translated, and where the model looks in sentences that change their order."""
    test = from_run(system.run, system.config, None)
    began = time.perf_counter()
    lines = system.translations(test)
    taken = time.perf_counter() - began
    last = read_metrics(system.run.metrics_path)[-1]
    found: Figures = {
        "parameters": count_parameters(system.translator.model),
        "updates": last["step"],
        "pieces": last["tokens"],
        "training_seconds": round(last["seconds"], 1),
        "decoding_seconds": round(taken, 1),
        "translations": lines,
    }
    if request["ordered"] and system.config.model.attention != "none":
        found |= look(system, request["ordered"], request["shown"])
    return found


def look(system: ModelSystem, ordered: Sequence[Sequence[Any]], shown: Sequence[str]) -> Figures:
    """For each ordered clause, whether the last word of its reference is written while its verb is looked at most; and
    the map of one sentence, word by word."""
    sources, targets, verbs = zip(*ordered, strict=True)
    maps = [by_word(found) for found in system.attention([*sources, shown[0]], [*targets, shown[1]])]
    hits = [int(found.weights_TS[last_word(found)].argmax()) == verb for found, verb in zip(maps, verbs, strict=False)]
    weights = [[round(weight, 4) for weight in row] for row in maps[-1].weights_TS.tolist()]
    return {"verbs_found": hits, "map": {"source": maps[-1].source, "target": maps[-1].target, "weights": weights}}


def by_word(found: AttentionMap) -> AttentionMap:
    """The same for words: a source word has the sum of its pieces' weights, a target word the mean of its pieces'."""
    sources, targets = (_words(pieces) for pieces in (found.source, found.target))
    rows = [found.weights_TS[place].mean(0) for _, place in targets]
    weights_TS = torch.stack([torch.stack([row[place].sum() for _, place in sources]) for row in rows])
    return AttentionMap(tuple(word for word, _ in sources), tuple(word for word, _ in targets), weights_TS)


def last_word(found: AttentionMap) -> int:
    """The row of the last target word, stops and the end of sentence left out."""
    return max(row for row, word in enumerate(found.target[:-1]) if word not in STOPS)


def _words(pieces: Sequence[str]) -> list[tuple[str, Tensor]]:
    """Words with the places of their pieces; stops, and the end of sentence, are words too."""
    words: list[tuple[str, list[int]]] = []
    for place, piece in enumerate(pieces):
        if not words or piece.startswith("▁") or piece in STOPS or place == len(pieces) - 1:
            words.append(("", []))
        words[-1][1].append(place)
        words[-1] = (words[-1][0] + piece.removeprefix("▁"), words[-1][1])
    return [(word, torch.tensor(places)) for word, places in words]


def speed(system: ModelSystem, request: dict[str, Any]) -> Figures:
    """Target pieces a second in training, sentences a second in decoding the test set, on one thread."""
    config, test = system.config, from_run(system.run, system.config, None)
    tokenizer = system.translator.tokenizer
    sides = {"train": config.data.train[0], "valid": config.data.valid}
    corpus = read_corpus(config.data.train, tokenizer)
    text = Text(
        test.name,
        sides,
        config.tokenizer,
        tokenizer,
        corpus,
        [str(line) for line in test.texts],
        list(test.references[0]),
    )
    settings = config.training
    trained = training.measure(text, config.model, settings.batch_tokens, request["updates"], settings.precision)
    decoded = decoding.measure(
        text, system.run.path, config.decoding.beam, request["batch"], config.decoding.precision, 1
    )
    return {
        "training_pieces_per_second": trained["tokens_per_second"],
        "decoding_sentences_per_second": decoded["sentences_per_second"],
    }


KINDS: dict[str, Callable[[ModelSystem, dict[str, Any]], Figures]] = {"translate": translate, "speed": speed}


def main(kind: str, run: str) -> None:
    """Measures and prints."""
    request = json.load(sys.stdin)
    print(json.dumps(KINDS[kind](ModelSystem(Path(run), None, say), request), ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
