"""Text or feature vectors in, text out. Validation, `s2s translate` and `s2s evaluate` go through one `Translator`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple, Self

import torch

from s2s_cli.capture import CapturedModel
from s2s_cli.checkpoint import load_model
from s2s_cli.config import DecodingConfig
from s2s_cli.config_file import change_decoding
from s2s_cli.data.corpus import Source
from s2s_cli.data.spelling import Surface, source_words
from s2s_cli.data.tokenizer import Tokenizer, Vocabulary
from s2s_cli.data.words import words_of
from s2s_cli.device import (
    choose_device,
    choose_precision,
    explain_memory,
    keep_freed_memory,
    share_threads,
)
from s2s_cli.errors import UserError
from s2s_cli.model.ensemble import Ensemble
from s2s_cli.model.seq2seq import SearchModel, Seq2Seq
from s2s_cli.run import RunDirectory, find_model
from s2s_cli.search.flight import Guidance, Hypothesis, Sources
from s2s_cli.search.loop import Model, decode
from s2s_cli.search.wording import Forbidden
from s2s_cli.translate.entry import Entry, Notices, Refused, Translation
from s2s_cli.translate.guidance import Guide
from s2s_cli.translate.lines import BLANKS, REPAIRS
from s2s_cli.translate.mbr import by_utility
from s2s_cli.translate.wishes import Wishes

TABLE_BYTES = 1 << 28
MOST_WORKERS, WORKER_SENTENCES = 4, 16


class _Asked(NamedTuple):
    """A source, as the tokenizer encodes it, and what is asked of its translation."""

    row: Any
    guidance: Guidance
    limit: int
    """Most pieces of the translation, the end of sentence included."""


@dataclass
class Translator:
    """A model, or several that choose together, their tokenizer and how to decode.

    Outputs do not depend on the batch: every sentence has a length limit of its own, and padding touches nothing.
    """

    model: Seq2Seq
    tokenizer: Tokenizer
    config: DecodingConfig
    device: torch.device
    keep_attention: bool = False
    notices: Notices = field(default_factory=Notices)
    _ready: SearchModel | Ensemble | None = field(default=None, init=False, repr=False)
    _captured: CapturedModel | None = field(default=None, init=False, repr=False)
    between_batches: Callable[[], None] = lambda: None
    """Called between batches, by each worker; may raise to stop."""
    others: tuple[Seq2Seq, ...] = ()
    """What makes an ensemble with the model."""
    wishes: Wishes = field(default_factory=Wishes)
    """What is asked of all translations; see `wish`."""
    _guide: Guide | None = field(default=None, init=False, repr=False)
    _has_table: bool = field(default=False, init=False, repr=False)
    _making: Lock = field(default_factory=Lock, init=False, repr=False)

    @classmethod
    def load(cls, path: Path | str | None = None, *others: Path | str, **changes: object) -> Self:
        """The translator of a run, or of an ensemble.

        Args:
            path: a run directory or one of its checkpoints; default: as for `find_model`. The run says how to decode.
            others: what makes an ensemble with it.
            changes: keys of the run's decoding section to change.

        Raises:
            UserError: where there is no such run, one is damaged, the vocabularies differ, or a change is not allowed,
                or has no use.
        """
        run, checkpoint = find_model(None if path is None else Path(path))
        config, tokenizer, model = load_model(run, checkpoint)
        decoding = change_decoding(config.decoding, changes)
        if "ensemble" in changes and not others:
            raise UserError("ensemble has no use with one model: leave it out, or name several models")
        device = choose_device(decoding.device)
        if device.type == "cpu":
            keep_freed_memory()
        members = tuple(_member(Path(other), run, tokenizer).to(device) for other in others)
        if decoding.coverage_penalty and any(member.is_blind for member in (model, *members)):
            raise UserError(
                "coverage_penalty asks what attention left out, and a model with attention none has no attention: set "
                "it to 0"
            )
        return cls(model.to(device), tokenizer, decoding, device, others=members)

    def wish(self, wishes: Wishes) -> None:
        """Asks something of all translations.

        Raises:
            UserError: where the model cannot do it, or the wishes contradict each other.
        """
        if wishes.need_text and self.tokenizer.source.config.kind == "features":
            raise UserError(
                "--terminology, --keep, --keep-pattern and --copy-unknown need a source of text, but this model reads "
                "feature vectors: leave them out"
            )
        if wishes.copy_unknown and any(member.is_blind for member in (self.model, *self.others)):
            raise UserError("--copy-unknown needs attention to find the word: this model's attention is none")
        everything = replace(wishes, force=(*wishes.force, *(term.target for term in wishes.terms)), terms=(), keep=())
        for text in everything.force or ("",):  # each alone: all together they may be too many
            Guide(self.tokenizer, self.config, replace(everything, force=(text,) if text else ())).guidance(
                Entry(""), []
            )
        Guide(self.tokenizer, self.config, replace(wishes, terms=(), keep=())).guidance(Entry(""), [])
        self.wishes = wishes

    def look(self, asked_by: str) -> None:
        """From now on attention comes with translations.

        Args:
            asked_by: the option, for the error.

        Raises:
            UserError: where no model has any.
        """
        if all(member.is_blind for member in (self.model, *self.others)):
            raise UserError(
                f"{asked_by}: this model has no attention (its model.attention is none): train one that has"
            )
        self.keep_attention = True

    def translate(self, sources: Sequence[Source | Entry]) -> list[list[Translation]]:
        """The `n_best` translations of each line or item, best first; those of a blank one are blank.

        Where an entry has its translation already, that is scored.

        Several threads may call it at once.

        Raises:
            Refused: where what is asked of some entries contradicts itself.
            TypeError: where one line is given in place of several.
        """
        if isinstance(sources, str | bytes):
            raise TypeError("translate takes a list of lines: give [line], or call translate_one(line)")
        entries = [source if isinstance(source, Entry) else Entry(source) for source in sources]
        numbers: dict[Entry, int] = {}
        numbered = [numbers.setdefault(entry, len(numbers)) for entry in entries]  # equal ones are translated once
        unique, longest = list(numbers), self.config.max_source_length
        rows = self.tokenizer.source.encode([entry.source for entry in unique])
        times, noticed = Counter(numbered), Counter(sources=len(entries))
        cut = (entry.cut or len(row) > longest for entry, row in zip(unique, rows, strict=True))
        noticed["cut"] = sum(times[number] for number, is_cut in enumerate(cut) if is_cut)
        guide = self._guide
        if guide is None or not guide.is_of(self.config, self.wishes):
            guide = self._guide = Guide(self.tokenizer, self.config, self.wishes)
        asked, refused = dict[int, _Asked](), dict[int, str]()
        for number, (entry, row) in enumerate(zip(unique, (row[:longest] for row in rows), strict=True)):
            if row or entry.target:
                try:
                    guidance = guide.guidance(entry, row)
                    asked[number] = _Asked(row, guidance, guide.limit(row, guidance))
                except UserError as error:
                    refused[number] = str(error)
        if refused:
            raise Refused({place: refused[number] for place, number in enumerate(numbered) if number in refused})
        found = [self.blank] * len(unique)
        model = self._made_ready(self.config.hypotheses * sum(len(one.row) for one in asked.values()))
        order = sorted(asked, key=lambda number: -len(asked[number].row))
        for number, hypotheses in zip(order, self._decode(model, [asked[number] for number in order]), strict=True):
            best = [self._translation(unique[number], asked[number], hypothesis) for hypothesis in hypotheses]
            if self.config.mbr:
                best = by_utility(best)
            found[number] = best[: self.config.n_best]
            if best[0].length >= self.config.max_length:
                noticed["ended"] += times[number]
            elif unique[number].target is None and best[0].length >= asked[number].limit:
                noticed["ended_by_ratio"] += times[number]
        self.notices.add(**noticed)
        return [found[number] for number in numbered]

    @property
    def blank(self) -> list[Translation]:
        """The translations of a blank line."""
        return [Translation("", 0.0, utility=0.0 if self.config.mbr else None)] * self.config.n_best

    def translate_one(self, source: Source | Entry) -> Translation:
        """The best translation of one line or item."""
        ((best, *_),) = self.translate([source])
        return best

    def _made_ready(self, steps: int) -> Model:
        """The model to search with, and its table of inputs, if small, once enough steps lie ahead to pay for it."""
        with self._making, self._memory_explained(), torch.inference_mode():
            members = (self.model, *self.others)
            if self._ready is None:
                precision = choose_precision(self.config.precision, self.device)
                ready = [SearchModel(member, precision) for member in members]
                self._ready = Ensemble(ready, self.config.ensemble) if self.others else ready[0]
            size = max(member.decoder.gates for member in members) * len(self.tokenizer.target)
            if not self._has_table and steps >= len(self.tokenizer.target) and 4 * size <= TABLE_BYTES:
                self._ready.make_table()
                self._has_table = True
                self._captured = None  # its graphs look nothing up
            if self.device.type == "cuda" and self._captured is None:
                self._captured = CapturedModel(self._ready, device=self.device)
            return self._captured or self._ready

    def _decode(self, model: Model, sources: Sequence[_Asked]) -> list[list[Hypothesis]]:
        """Decodes sources, none empty: where there are many, by workers that share them."""
        target, config = self.tokenizer.target.specials, self.config
        unknown = config.allow_unknown or self.wishes.copy_unknown
        forbidden = {target.pad, target.bos, *([] if unknown else [target.unk])} - {target.eos}

        stop = Event()

        def check() -> None:
            if stop.is_set():
                raise CancelledError

        def work(share: Sequence[_Asked]) -> list[list[Hypothesis]]:
            return decode(
                model,
                self._batches(share),
                config,
                bos=target.bos,
                eos=target.eos,
                suppress=sorted(forbidden),
                keep_attention=self.keep_attention or self.wishes.copy_unknown,
                check=check,
            )

        found: list[list[Hypothesis]] = [[] for _ in sources]
        workers = self._workers(len(sources))
        with self._memory_explained():
            shares = share_threads(work, [sources[first::workers] for first in range(workers)], stop)
            for first, share in enumerate(shares):
                found[first::workers] = share
        return found

    def _workers(self, sentences: int) -> int:
        """Threads of the interpreter among which sentences are shared; at most four, since it runs one at a time."""
        if self.device.type != "cpu":
            return 1
        return max(1, min(MOST_WORKERS, torch.get_num_threads(), sentences // WORKER_SENTENCES))

    def _batches(self, sources: Sequence[_Asked]) -> Iterator[Sources]:
        config = self.config
        for start in range(0, len(sources), config.batch_size):
            self.between_batches()
            batch = sources[start : start + config.batch_size]
            limit_B = torch.tensor([asked.limit for asked in batch], device=self.device)
            src = self.tokenizer.source.pad([asked.row for asked in batch]).to(self.device)
            yield Sources(src.source, src.src_len_B, limit_B, [asked.guidance for asked in batch])

    @contextmanager
    def _memory_explained(self) -> Iterator[None]:
        """A clear end where memory runs out."""
        key = "samples" if self.config.search == "sampling" else "beam"
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            raise explain_memory(error, f"lower decoding.batch_size or decoding.{key}") or error from None

    def _translation(self, entry: Entry, asked: _Asked, hypothesis: Hypothesis) -> Translation:
        target = self.tokenizer.target
        surfaces = [found for control in asked.guidance.controls for found in control.surfaces(hypothesis.ids)]
        if self.wishes.copy_unknown:
            for copied in self._copied(str(entry.source), asked.row, hypothesis, surfaces):
                said = target.spelling.text(hypothesis.ids, [*surfaces, copied])
                if not any(isinstance(one, Forbidden) and one.found(said) for one in asked.guidance.controls):
                    surfaces.append(copied)
        text = target.spelling.text(hypothesis.ids, surfaces) if surfaces else target.decode(hypothesis.ids)
        text = text.translate(REPAIRS).replace("\n", " ")
        found = Translation(
            text, hypothesis.score, hypothesis.ids, hypothesis.token_scores, target_pieces=target.names(hypothesis.ids)
        )
        if hypothesis.attention is None or not self.keep_attention:
            return found
        source_pieces = self.tokenizer.source.names(asked.row)
        spoken, spans = target.spelling.spoken(hypothesis.ids, surfaces) if surfaces else target.spoken(hypothesis.ids)
        return replace(
            found,
            source_pieces=source_pieces,
            attention=hypothesis.attention[:, : len(source_pieces)].float().cpu(),
            source_words=self.tokenizer.source.words(entry.source, asked.row),
            target_words=(*words_of(spoken.translate(BLANKS), spans), ()),
        )

    def _copied(
        self, source: str, row: Sequence[int], hypothesis: Hypothesis, surfaces: Sequence[Surface]
    ) -> list[Surface]:
        """For each unknown piece that has no surface the source word that its attention looks at most (Luong et al.
        2015b; Jean et al. 2015)."""
        unknown = self.tokenizer.target.specials.unk
        said = [at for at, piece in enumerate(hypothesis.ids) if piece == unknown]
        said = [at for at in said if not any(surface.begin <= at < surface.end for surface in surfaces)]
        if not said or hypothesis.attention is None or not isinstance(self.tokenizer.source, Vocabulary):
            return []
        words = source_words(source, self.tokenizer.source.spans(source)[: len(row)])
        looked = hypothesis.attention[:, : len(words)].argmax(1).tolist()
        return [Surface(at, at + 1, words[looked[at]]) for at in said if words[looked[at]]]


def _member(path: Path, first: RunDirectory, tokenizer: Tokenizer) -> Seq2Seq:
    """A further member of an ensemble.

    Raises:
        UserError: where its vocabularies are not the first one's.
    """
    run, checkpoint = find_model(path)
    _, other, model = load_model(run, checkpoint)
    if other.fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"--model {run.path}: its tokenizer is not that of {first.path}, and an ensemble needs one for all: train "
            f"it with tokenizer.model (or source_model and target_model) from {first.path / 'tokenizer'}"
        )
    return model
