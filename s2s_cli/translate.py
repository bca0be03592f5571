"""Text or feature vectors in, text out. Validation, `s2s translate` and `s2s evaluate` go through one `Translator`."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor

from s2s_cli.capture import CapturedModel
from s2s_cli.checkpoint import load_model
from s2s_cli.config import DecodingConfig
from s2s_cli.config_file import change
from s2s_cli.data.corpus import Source
from s2s_cli.data.features import FORMATS, open_features
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.device import (
    choose_device,
    choose_precision,
    explain_memory,
    keep_freed_memory,
    share_threads,
)
from s2s_cli.errors import UserError
from s2s_cli.files import open_binary
from s2s_cli.flight import Hypothesis, Sources
from s2s_cli.model.ensemble import Ensemble
from s2s_cli.model.seq2seq import SearchModel, Seq2Seq
from s2s_cli.run import RunDirectory
from s2s_cli.search import Model, decode

FIRST_WINDOW, LAST_WINDOW = 64, 1024  # lines translated together: few at first, so that output comes early
PAUSE_SECONDS = 0.02
WINDOW_BYTES = 1 << 22  # the same for long lines
MAX_LINE_BYTES = 1_000_000
READ_BYTES = 1 << 16
EXTRA_LENGTH = 10
TABLE_BYTES = 1 << 28
MOST_WORKERS, WORKER_SENTENCES = 4, 16

# To Unicode these too end a line or are no text: one input line must stay one line, here and for whoever reads on.
_REPAIRS = dict.fromkeys(map(ord, "\0\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), " ") | {ord("\ufeff"): ""}


@dataclass(frozen=True)
class Translation:
    """One of the translations of a line or an item."""

    text: str
    score: float
    """Log-probability in nats over the length penalty; 0 for a blank line."""
    length: int = 0
    """Target pieces, the end of sentence included; 0 for a blank line."""
    source_pieces: tuple[str, ...] = ()
    target_pieces: tuple[str, ...] = ()
    attention: Tensor | None = None
    """Weights (target pieces, source pieces), both with the end of sentence, where they were asked for."""


@dataclass
class Notices:
    """Counts of what was done to the input."""

    lines: int = 0
    repaired: int = 0
    cut: int = 0
    ended: int = 0

    def messages(self, config: DecodingConfig) -> list[str]:
        """Warnings for the user; none where nothing happened."""
        found = []
        if self.repaired:
            found.append(
                f"{self.repaired:,} of {self.lines:,} lines held broken UTF-8, carriage returns, BOMs or control "
                "characters: repaired"
            )
        if self.cut:
            found.append(
                f"{self.cut:,} of {self.lines:,} sources were longer than {config.max_source_length:,} pieces or "
                f"vectors (decoding.max_source_length) or {MAX_LINE_BYTES:,} bytes: only their beginning was translated"
            )
        if self.ended:
            found.append(
                f"the translations of {self.ended:,} of {self.lines:,} lines were ended at {config.max_length:,} "
                "pieces (decoding.max_length)"
            )
        return found


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
    _shortened: set[str] = field(default_factory=set, init=False, repr=False)
    _ready: SearchModel | Ensemble | None = field(default=None, init=False, repr=False)
    _captured: CapturedModel | None = field(default=None, init=False, repr=False)
    between_batches: Callable[[], None] = lambda: None
    """Called between batches, by each worker; may raise to stop."""
    others: tuple[Seq2Seq, ...] = ()
    """What makes an ensemble with the model."""
    _has_table: bool = field(default=False, init=False, repr=False)

    @classmethod
    def load(cls, run: RunDirectory, checkpoint: Path, *others: tuple[RunDirectory, Path], **changes: object) -> Self:
        """The translator of a run, or of an ensemble.

        Args:
            run, checkpoint: from `find_model`; the run says how to decode.
            others: what makes an ensemble with it.
            changes: keys of the run's decoding section to change; None leaves one as it is.

        Raises:
            UserError: where a run is damaged, the vocabularies differ, or a change is not allowed.
        """
        config, tokenizer, model = load_model(run, checkpoint)
        given = {name: value for name, value in changes.items() if value is not None}
        decoding = change(config.decoding, given, "decoding")
        device = choose_device(decoding.device)
        if device.type == "cpu":
            keep_freed_memory()
        members = tuple(_member(other, at, run, tokenizer).to(device) for other, at in others)
        return cls(model.to(device), tokenizer, decoding, device, others=members)

    def translate(self, sources: Sequence[Source]) -> list[list[Translation]]:
        """The `n_best` translations of each line or item, best first; those of a blank one are blank."""
        unique = list(dict.fromkeys(sources))
        rows = self.tokenizer.source.encode(unique)
        longest = self.config.max_source_length
        cut = {one for one, row in zip(unique, rows, strict=True) if len(row) > longest or one in self._shortened}
        self._shortened.clear()
        self.notices.cut += sum(one in cut for one in sources)
        rows = [row[:longest] for row in rows]
        found: dict[Source, list[Translation]] = {
            one: [Translation("", 0.0)] * self.config.n_best for one, row in zip(unique, rows, strict=True) if not row
        }
        ended: set[Source] = set()
        model = self._made_ready(self.config.beam * sum(map(len, rows)))
        order = sorted((i for i, row in enumerate(rows) if row), key=lambda i: -len(rows[i]))
        for i, hypotheses in zip(order, self._decode(model, [rows[i] for i in order]), strict=True):
            found[unique[i]] = [self._translation(rows[i], hypothesis) for hypothesis in hypotheses]
            if len(hypotheses[0].ids) + 1 >= self.config.max_length:
                ended.add(unique[i])
        self.notices.ended += sum(one in ended for one in sources)
        return [found[one] for one in sources]

    def _made_ready(self, steps: int) -> Model:
        """The model to search with, and its table of inputs, if small, once enough steps lie ahead to pay for it."""
        with self._memory_explained(), torch.inference_mode():
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
                self._captured = CapturedModel(self._ready)
            return self._captured or self._ready

    def _decode(self, model: Model, sources: Sequence[Any]) -> list[list[Hypothesis]]:
        """Decodes rows of sources, none empty: where there are many, by workers that share them."""
        target, config = self.tokenizer.target.specials, self.config
        forbidden = {target.pad, target.bos, *([] if config.allow_unknown else [target.unk])} - {target.eos}

        stop = Event()

        def check() -> None:
            if stop.is_set():
                raise CancelledError

        def work(share: Sequence[Any]) -> list[list[Hypothesis]]:
            return decode(
                model,
                self._batches(share),
                config,
                bos=target.bos,
                eos=target.eos,
                suppress=sorted(forbidden),
                keep_attention=self.keep_attention,
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

    def _batches(self, sources: Sequence[Any]) -> Iterator[Sources]:
        config = self.config
        for start in range(0, len(sources), config.batch_size):
            self.between_batches()
            batch = sources[start : start + config.batch_size]
            limits = [min(config.max_length, int(config.max_length_ratio * len(row)) + EXTRA_LENGTH) for row in batch]
            src = self.tokenizer.source.pad(batch).to(self.device)
            yield Sources(src.src_BS, src.src_len_B, torch.tensor(limits, device=self.device), src.src_BSF)

    @contextmanager
    def _memory_explained(self) -> Iterator[None]:
        """A clear end where memory runs out."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            raise explain_memory(error, "lower decoding.batch_size or decoding.beam") or error from None

    def _translation(self, source: Any, hypothesis: Hypothesis) -> Translation:
        text = self.tokenizer.target.decode(hypothesis.ids).translate(_REPAIRS).replace("\n", " ")
        length = len(hypothesis.ids) + 1
        if hypothesis.attention is None:
            return Translation(text, hypothesis.score, length)
        source_pieces = self.tokenizer.source.names(source)
        target_pieces = self.tokenizer.target.names(hypothesis.ids)
        attention = hypothesis.attention[:, : len(source_pieces)].float().cpu()
        return Translation(text, hypothesis.score, length, source_pieces, target_pieces, attention)

    def translate_file(self, path: Path | None, output: BinaryIO) -> None:
        """Translates what the model reads: the lines of a file, or of standard input where none is named, or the items
        of a file of feature vectors.

        Raises:
            UserError: where the file cannot be read, or is of another kind.
        """
        source = self.tokenizer.source.config
        if source.kind == "features":
            if path is None:
                raise UserError(
                    "this model reads feature vectors, which standard input cannot hold: name a file with --input "
                    f"({' or '.join(FORMATS)})"
                )
            items = open_features([path], source.size)
            self._give(output, (items[start : start + LAST_WINDOW] for start in range(0, len(items), LAST_WINDOW)))
            return
        if path is not None and path.suffix in FORMATS:
            raise UserError(f"{path}: feature vectors, but this model reads lines of text (its source.kind is text)")
        with open_binary(path, sys.stdin) as lines:
            self.stream(lines, output)

    def stream(self, source: BinaryIO, output: BinaryIO) -> None:
        """Translates lines as they come: N lines in, N lines out, in order, whatever bytes they hold."""
        self._give(output, ([self._repair(line) for line in window] for window in read_windows(source)))

    def _give(self, output: BinaryIO, windows: Iterable[Sequence[Source]]) -> None:
        """Translates windows of sources, and writes a line for each.

        With `n_best` over one, each source gives that many lines `index ||| text ||| score`, the index from 0.
        """
        for sources in windows:
            for index, translations in enumerate(self.translate(sources), self.notices.lines):
                for rank in range(self.config.n_best):
                    # A search may find fewer than were asked for; the count of lines must not depend on it.
                    item = translations[min(rank, len(translations) - 1)]
                    text = item.text if self.config.n_best == 1 else f"{index} ||| {item.text} ||| {item.score:.4f}"
                    output.write(f"{text}\n".encode())
            self.notices.lines += len(sources)
            output.flush()

    def _repair(self, line: bytes) -> str:
        """A line as text; broken bytes and characters that are no text become replacements, and are counted."""
        shortened = False
        if len(line) > MAX_LINE_BYTES:
            line = line[:MAX_LINE_BYTES]
            while len(line) > MAX_LINE_BYTES - 4 and line[-1] & 0xC0 == 0x80:  # the cut may have hit a character
                line = line[:-1]
            line = line[:-1] if line[-1] >= 0xC0 else line
            shortened = True
        text = line.removesuffix(b"\r").decode("utf-8", errors="replace")
        repaired = text.translate(_REPAIRS)
        self.notices.repaired += repaired.encode() != line
        if shortened:
            self._shortened.add(repaired)
        return repaired


def _member(run: RunDirectory, checkpoint: Path, first: RunDirectory, tokenizer: Tokenizer) -> Seq2Seq:
    """A further member of an ensemble.

    Raises:
        UserError: where its vocabularies are not the first one's.
    """
    _, other, model = load_model(run, checkpoint)
    if other.fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"--model {run.path}: its tokenizer is not that of {first.path}, and an ensemble needs one for all: train "
            f"it with tokenizer.model (or source_model and target_model) from {first.path / 'tokenizer'}"
        )
    return model


def read_windows(source: BinaryIO) -> Iterator[list[bytes]]:
    """Lines in windows that grow, given out as soon as the input pauses; a line ends with LF and nothing else.

    Of a line longer than MAX_LINE_BYTES, one byte more than that is kept, so that memory is bounded.
    """
    descriptor = source.fileno()
    size = FIRST_WINDOW
    lines: list[bytes] = []
    rest = b""
    while chunk := os.read(descriptor, READ_BYTES):
        first, *others = chunk.split(b"\n")
        rest = (rest + first)[: MAX_LINE_BYTES + 1]
        if others:
            lines.append(rest)
            lines.extend(others[:-1])
            rest = others[-1]
        while lines and (len(lines) >= size or sum(map(len, lines)) >= WINDOW_BYTES or _pauses(descriptor)):
            yield lines[:size]
            del lines[:size]
            size = min(2 * size, LAST_WINDOW)
    if rest:
        lines.append(rest)
    for start in range(0, len(lines), LAST_WINDOW):
        yield lines[start : start + LAST_WINDOW]


def _pauses(descriptor: int) -> bool:
    try:
        ready, _, _ = select.select([descriptor], [], [], PAUSE_SECONDS)
    except (OSError, ValueError):  # not every system can wait for every kind of file
        return False
    return not ready
