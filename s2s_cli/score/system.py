"""What is scored: a model, a file of translations, or an earlier evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import sentencepiece
import torch
from torch import Tensor

from s2s_cli import __version__
from s2s_cli.checkpoint import Checkpoint, identity
from s2s_cli.config import SourceConfig
from s2s_cli.config_file import change_decoding
from s2s_cli.data.corpus import TEXT, Source, read_lines
from s2s_cli.data.features import Vectors
from s2s_cli.data.tokenizer import fingerprint
from s2s_cli.device import choose_precision
from s2s_cli.dispatch import Dispatcher
from s2s_cli.distributed import own_device
from s2s_cli.errors import UserError, printable
from s2s_cli.evaluate import Score, mean_interval
from s2s_cli.forced import attention_maps, losses, mean_loss, perplexity
from s2s_cli.run import find_model, read_metrics
from s2s_cli.score.cache import Kept, TranslationCache
from s2s_cli.score.testset import TestSet, digest
from s2s_cli.translate.code import translating_code
from s2s_cli.translate.entry import Notices
from s2s_cli.translate.formats import format_of, read_written
from s2s_cli.translate.translator import Translator

MOST_JSON_BYTES = 1 << 30


@dataclass(frozen=True)
class AttentionMap:
    """Where a model looked while it wrote a translation."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    weights_TS: Tensor
    """A row for each target piece."""


class System(Protocol):
    """Something that has translations of a test set."""

    @property
    def name(self) -> str:
        """What to call it."""

    def translations(self, test: TestSet) -> tuple[str, ...]:
        """One line for each of the test set's.

        Raises:
            UserError: where it has none, or not as many.
        """

    def about(self) -> dict[str, Any]:
        """Where the translations come from."""


class TranslationFile:
    """A file of translations, whatever made it."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path

    def translations(self, test: TestSet) -> tuple[str, ...]:
        kind, lines = format_of(self.path), enumerate(read_lines(self.path), 1)
        found = tuple(read_written(kind, f"{self.path}:{number}", line)["translation"] for number, line in lines)
        if len(found) != len(test.references[0]):
            raise UserError(
                f"misaligned: {self.path} has {len(found):,} lines, test set {test.name} {len(test.references[0]):,}"
            )
        return found

    def about(self) -> dict[str, Any]:
        return {"hypothesis": str(self.path)}


class EarlierEvaluation:
    """What `s2s evaluate --json` wrote before."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.name, self.path = path.name, path
        try:
            self._found = [dict(item) for item in content["evaluations"] if not item["baseline"]]
            for item in self._found:
                if not isinstance(item["references_sha256"], str) or not isinstance(item["scores"], dict):
                    raise TypeError
                if not isinstance(item["translations"], list):
                    raise TypeError
                digest(item["translations"])  # fails where one is no text
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{path}: no evaluation: a baseline is what `s2s evaluate --json FILE` wrote, a run, or translations"
            ) from None

    def _of(self, test: TestSet) -> dict[str, Any]:
        found = [item for item in self._found if item["references_sha256"] == test.fingerprint]
        if not found:
            raise UserError(
                f"{self.path}: cannot be compared: it was scored on other references than those of {test.name}; "
                "evaluate the baseline on this test set"
            )
        if test.sources is not None:  # test sets of several sources may share references
            found = [item for item in found if item.get("sources_sha256") in (None, test.sources_fingerprint)]
        if not found:
            raise UserError(f"{self.path}: cannot be compared: it translated another source than that of {test.name}")
        found = [item for item in found if item.get("test_set") == test.name] or found
        if len(found) > 1:
            raise UserError(
                f"{self.path}: holds {len(found)} systems on {test.name}: a baseline is one, evaluate it alone"
            )
        return found[0]

    def translations(self, test: TestSet) -> tuple[str, ...]:
        item = self._of(test)
        if len(item["translations"]) != len(test.references[0]):
            raise UserError(f"{self.path}: damaged: it does not have a translation for each line of {test.name}")
        return tuple(item["translations"])

    def check(self, test: TestSet, scores: Mapping[str, Score]) -> None:
        """Refuses scores of another kind.

        Raises:
            UserError: where a signature differs.
        """
        for metric, score in scores.items():
            earlier = self._of(test)["scores"].get(metric)
            signature = earlier.get("signature") if isinstance(earlier, dict) else None
            if signature is not None and signature != score.signature:
                raise UserError(
                    f"{self.path}: cannot be compared: its {metric} is {str(signature)[:200]!r}, this one "
                    f"{score.signature}; evaluate the baseline again in the same way"
                )

    def about(self) -> dict[str, Any]:
        return {"evaluation": str(self.path)}


class ModelSystem:
    """A trained model. Its weights are read only where something must be computed."""

    def __init__(
        self,
        path: Path | None,
        cache: TranslationCache | None,
        say: Callable[[str], None],
        decoding: Mapping[str, Any] | None = None,
        *,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        """Args:
        path: as `find_model` takes it.
        cache: of translations; None translates anew.
        say: tells the user.
        decoding: settings in place of the run's.
        dispatcher: divides translating among workers; default: this process does it.
        """
        self.run, self.checkpoint = find_model(path)
        self.name = printable(self.run.path.resolve().name)
        self.config = self.run.read_config()
        self._given = {**(decoding or {}), "n_best": 1}
        self.decoding = change_decoding(self.config.decoding, self._given)
        self._cache, self._say = cache, say
        self._dispatcher = dispatcher or Dispatcher()

    @cached_property
    def translator(self) -> Translator:
        """The loaded model."""
        own_device(self.decoding.device)
        translator = Translator.load(self.checkpoint, **self._given)
        translator.between_batches = self._dispatcher.still_there
        return translator

    def sources(self, test: TestSet) -> tuple[Source, ...]:
        """The sources of a test set.

        Raises:
            UserError: where there are none, or of another kind than the model reads.
        """
        for source in test.texts[:1]:
            self.check(source, test.name)
        return test.texts

    def check(self, source: Source, name: str) -> None:
        """Refuses a source of another kind than the model reads.

        Args:
            source: the source.
            name: where it is from, for the message.

        Raises:
            UserError: where it is of another kind.
        """
        given = SourceConfig(kind="features", size=source.file.size) if isinstance(source, Vectors) else TEXT
        if given != self.config.source:
            wanted = _in_words(self.config.source)
            raise UserError(f"{self.name} reads {wanted}, the source of {name} is {_in_words(given)}")

    def translations(self, test: TestSet) -> tuple[str, ...]:
        """From the cache, or shared by all workers, which must all call it; only the first one is given any.

        Raises:
            UserError: where the workers see different files; as `sources`.
        """
        workers = self._dispatcher.workers
        with workers.together():
            sources, key = self.sources(test), self._key(test)
        files = {name: value for name, value in key.items() if name != "computed"}  # workers may differ in that
        workers.check_alike(files, f"{self.name} on {test.name}")
        kept = self._cache.get(key, len(sources)) if self._cache and workers.first else None
        if workers.of_first(kept is not None):
            self._say(
                f"{self.name} on {test.name}: translations taken from the cache, since model, decoding and source "
                "are the same (--no-cache translates again)"
            )
            found = kept or Kept((), {})
        else:
            found = self._translate(sources)
            if self._cache and workers.first:
                self._cache.put(key, found)
        for message in Notices(**found.notices).messages(self.decoding):
            self._say(f"warning: {self.name} on {test.name}: {message}")
        return found.translations

    def _translate(self, sources: Sequence[Source]) -> Kept:
        size = max(1, math.ceil(len(sources) / self._dispatcher.pieces))

        def piece(number: int) -> tuple[list[str], dict[str, int]] | None:
            part = sources[number * size : (number + 1) * size]
            if not part:
                return None
            texts = [best.text for best, *_ in self.translator.translate(part)]
            return texts, self.translator.notices.take()

        translations = list[str]()
        with self._dispatcher.workers.together(patient=True), closing(self._dispatcher.results(piece)) as found:
            for texts, counts in found:
                translations += texts
                self.translator.notices.add(**counts)
        return Kept(tuple(translations), self.translator.notices.take())

    def _key(self, test: TestSet) -> dict[str, Any]:
        """All that a translation depends on; the batch is not among it."""
        tokenizer = fingerprint(self.run.read_tokenizer_files())
        return {
            "s2s": translating_code(),
            "model": Checkpoint(self.checkpoint, self.config, tokenizer).model_sha256(),
            "config": identity(self.config),
            "tokenizer": tokenizer,
            "decoding": self.decoding.model_dump(mode="json", exclude={"batch_size"}),
            "computed": self._computed(),
            "sources": test.sources_fingerprint,
        }

    def _computed(self) -> dict[str, str]:
        """By what: other versions, and other kinds of processors, may translate otherwise."""
        device = own_device(self.decoding.device)
        precision = choose_precision(self.decoding.precision, device)
        versions = {"torch": torch.__version__, "sentencepiece": sentencepiece.__version__}
        return {**versions, "device": device.type, "precision": str(precision)}

    def likelihood(self, test: TestSet) -> dict[str, Score]:
        """Loss and perplexity of the first references, in nats and for a piece of this model's vocabulary."""
        tokenizer = self.translator.tokenizer
        rows = tokenizer.source.encode(self.sources(test)), tokenizer.target.encode(test.references[0])
        found = losses(self.translator.model, tokenizer, *rows, self.config.training.batch_tokens)
        loss = mean_loss(found)
        interval = mean_interval([float(nll_T.sum()) for nll_T in found], [len(nll_T) for nll_T in found])
        unit = f"nrefs:1|per:piece|tokenizer:{tokenizer.fingerprint[:12]}|s2s:{__version__}"
        return {
            "loss": Score(loss, f"{unit}|nats", *interval),
            "perplexity": Score(perplexity(loss), unit, *map(perplexity, interval)),
        }

    def attention(self, sources: Sequence[Source], translations: Sequence[str]) -> list[AttentionMap]:
        """Where the model looks while it writes given translations, piece by piece; nothing without attention."""
        if self.translator.model.is_blind:
            return []
        tokenizer, longest = self.translator.tokenizer, self.decoding.max_source_length
        read = [row[:longest] for row in tokenizer.source.encode(sources)]
        written = [ids[:longest] for ids in tokenizer.target.encode(translations)]
        maps = attention_maps(self.translator.model, tokenizer, read, written, self.config.training.batch_tokens)
        return [
            AttentionMap(tokenizer.source.names(row), tokenizer.target.names(ids), weights_TS)
            for row, ids, weights_TS in zip(read, written, maps, strict=True)
        ]

    def learning_curve(self) -> list[dict[str, Any]]:
        """The lines of the run's `metrics.jsonl`; none where it was not kept."""
        return read_metrics(self.run.metrics_path)

    def about(self) -> dict[str, Any]:
        return {"model": str(self.checkpoint), "decoding": self.decoding.model_dump(mode="json")}


def _in_words(source: SourceConfig) -> str:
    return "text" if source.kind == "text" else f"feature vectors of width {source.size}"


def find_baseline(path: Path, model: Callable[[Path], ModelSystem]) -> System:
    """The baseline that a path names: a run, an earlier evaluation in JSON, or a file of translations.

    Raises:
        UserError: where it is none of these.
    """
    try:
        if path.is_dir():
            return model(path)
        if path.exists() and not path.is_file():
            raise UserError(f"--baseline {path}: neither a file nor a run")
        with open(path, "rb") as file:
            start = file.read(1 << 12).lstrip()
            is_json = start.startswith(b"{") and b'"scores"' in start
    except (OSError, ValueError) as error:
        raise UserError(f"--baseline {path}: cannot read it: {getattr(error, 'strerror', error)}") from None
    if not is_json:
        return TranslationFile(path.name, path)
    if path.stat().st_size > MOST_JSON_BYTES:
        raise UserError(f"--baseline {path}: too large for an evaluation")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UserError(f"--baseline {path}: damaged: it is no JSON") from None
    return EarlierEvaluation(path, content)
