"""The training corpus on disk: tokenized once, then mapped, so that it needs no memory.

    0-00000.json   0-00000.source.ids   0-00000.source.ids.offsets   0-00000.target.ids   0-00000.target.ids.offsets

and so on for each shard: a million pairs of a text at most. Where the words themselves are wanted, there are
`source.text`, `source.text.offsets` and the target's too. Feature vectors stay in their own files: of them `source.ids`
holds the numbers of those kept. The arrays are in the machine's own byte order. A shard's manifest (`.json`) is written
last; it holds the SHA-256 of each array, of the text files and of the tokenizer: where one of them is another, the
shard is made anew, and where making was ended, what is whole is kept.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from s2s_cli.config import DataConfig, ParallelText
from s2s_cli.data.corpus import Chunk, Corpus, Stored, Tokenized, Tokenizing, chunks, read_pairs, shards
from s2s_cli.data.sequences import DTYPES, Part, Sequences, SequencesWriter
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.files import file_sha256, json_sha256, read_regular, write_atomically
from s2s_cli.processes import share

FORMAT = 2
MOST_MANIFEST_BYTES = 1 << 24
SHARD_PAIRS = 2**20
MOST_PROCESSES = 16  # about as many as one process can read text for
ALONE = 32  # chunks tokenized before other processes are asked: these take a second or two to start
_OURS = re.compile(r"corpus\.json|(\d+-\d{5}\.)?(source|target)\.(ids|text)(\.offsets)?|\d+-\d{5}\.json")


def open_corpus(
    folder: Path,
    texts: Sequence[ParallelText],
    tokenizer: Tokenizer,
    filters: DataConfig,
    *,
    keep_text: bool = False,
    begin: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> Corpus:
    """The corpus in `folder`; what of it is missing, damaged or of other text is made there first.

    Args:
        folder: is made where it is missing.
        texts, tokenizer, filters, keep_text: as for `read_corpus`.
        begin: called before text is tokenized.
        check: called now and then meanwhile; may raise to stop.

    Raises:
        UserError: where the text is missing, misaligned, not UTF-8, or nothing is left of it.
        OSError: where the disk refuses.
    """
    tokenizing = Tokenizing(tokenizer, filters, keep_text)
    stores = [_Store(folder, str(number), text, tokenizing) for number, text in enumerate(texts)]
    for store in stores:
        store.load()
    if not all(store.complete for store in stores):
        begin()
        folder.mkdir(parents=True, exist_ok=True)
        _make(stores, tokenizing, check)
    _remove_others(folder, {name for store in stores for name in store.files})
    return tokenizing.corpus(texts, [store.stored() for store in stores])


@dataclass(frozen=True)
class _Shard:
    """A shard that is whole."""

    name: str
    lines: int
    """Pairs of text, before the filters; fewer than SHARD_PAIRS in the last shard of a text."""
    columns: dict[str, Sequences]
    dropped: Counter[str]


class _Store:
    """The shards of one text."""

    def __init__(self, folder: Path, name: str, text: ParallelText, tokenizing: Tokenizing) -> None:
        self.name = name
        self.shards: dict[int, _Shard] = {}
        """Those that are whole, by number."""
        self._folder, self._text, self._tokenizing = folder, text, tokenizing
        filters = tokenizing.filters
        self._key: dict[str, Any] = {
            "format": FORMAT,
            "byteorder": sys.byteorder,
            "tokenizer": tokenizing.tokenizer.fingerprint,
            "max_length": filters and filters.max_length,
            "max_ratio": filters and filters.max_ratio,
            "keep_text": tokenizing.keep_text,
            "most_pairs": SHARD_PAIRS,
            "text": [[_hash(path) for path in shard.files] for shard in shards(text)],
        }

    @property
    def complete(self) -> bool:
        """Whether all shards are whole."""
        last = len(self.shards) - 1
        return last in self.shards and self.shards[last].lines < SHARD_PAIRS

    @property
    def files(self) -> Iterator[str]:
        """The names of its files."""
        for shard in self.shards.values():
            yield f"{shard.name}.json"
            yield from self._arrays(shard.name)

    def _arrays(self, name: str) -> list[str]:
        """The files of the arrays of a shard."""
        return [f"{name}.{column}{end}" for column in self._tokenizing.columns for end in ("", ".offsets")]

    def load(self) -> None:
        """Looks for shards that are whole."""
        numbers = [int(path.stem.partition("-")[2]) for path in self._folder.glob(f"{self.name}-?????.json")]
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            found = zip(numbers, threads.map(self._load, numbers), strict=True)
            self.shards = {number: shard for number, shard in found if shard is not None}

    def _load(self, number: int) -> _Shard | None:
        path = self._folder / f"{self.name}-{number:05}.json"
        try:
            content = json.loads(read_regular(path, MOST_MANIFEST_BYTES))
            if content.pop("sha256") != json_sha256(content) or content["key"] != self._key:
                return None
            whole = content["files"] == self._hashes(path.stem)
            return self._map(path.stem, content) if whole else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, RecursionError):
            return None

    def _hashes(self, name: str) -> dict[str, str]:
        """SHA-256 of the arrays of a shard, by the names of their files."""
        return {file: file_sha256(self._folder / file) for file in self._arrays(name)}

    def _map(self, name: str, content: dict[str, Any]) -> _Shard:
        """A shard, mapped: nothing is read until it is looked at.

        Raises:
            OSError, ValueError, LookupError, TypeError, RuntimeError: where it cannot be one of this text.
        """

        def sequences(column: str, dtype: torch.dtype) -> Sequences:
            path = self._folder / f"{name}.{column}"
            part = Part(_array(path, dtype), _array(path.with_name(f"{path.name}.offsets"), torch.int64))
            if len(part.items) != part.offsets[-1]:
                raise ValueError(f"{path}: not of the size that its offsets tell")
            return Sequences([part])

        columns = {column: sequences(column, DTYPES[code]) for column, code in self._tokenizing.columns.items()}
        dropped = Counter(content["dropped"])
        if any(len(column) + dropped.total() != content["lines"] for column in columns.values()):
            raise ValueError(f"{name}: not of the size that its manifest tells")
        return _Shard(name, content["lines"], columns, dropped)

    def missing(self) -> Iterator[Chunk]:
        """The text of the shards that are not whole."""
        pairs, at, whole = read_pairs(self._text, self._tokenizing.tokenizer.source.config), 0, dict(self.shards)
        for number in itertools.count():
            if number in whole:
                if whole[number].lines < SHARD_PAIRS:
                    return
                continue
            first = number * SHARD_PAIRS
            for _ in itertools.islice(pairs, first - at):
                pass
            lines = 0
            for chunk in chunks(itertools.islice(pairs, SHARD_PAIRS), f"{self.name}-{number:05}", first):
                lines += len(chunk.pairs)
                yield chunk
            at = first + lines
            if lines < SHARD_PAIRS:
                return

    def write(self, name: str, found: Iterator[Tokenized], check: Callable[[], None]) -> None:
        """Makes a shard; `check` is called now and then, and may raise to stop."""
        manifest = self._folder / f"{name}.json"
        manifest.unlink(missing_ok=True)  # from here until it is written again, nothing is here
        lines, dropped = 0, Counter[str]()
        with contextlib.ExitStack() as files:

            def create(file: str) -> BinaryIO:
                path = self._folder / file
                path.unlink(missing_ok=True)  # a file that is still mapped must not change
                return files.enter_context(open(path, "wb"))

            writers = {
                column: SequencesWriter(create(f"{name}.{column}"), create(f"{name}.{column}.offsets"))
                for column, typecode in self._tokenizing.columns.items()
            }
            for tokenized in found:
                check()
                for column, writer in writers.items():
                    writer.write(tokenized.columns[column])
                lines += tokenized.lines
                dropped += tokenized.dropped
        content = {"key": self._key, "lines": lines, "dropped": dropped, "files": self._hashes(name)}
        write_atomically(manifest, json.dumps({**content, "sha256": json_sha256(content)}, indent=1).encode())
        self.shards[int(name.partition("-")[2])] = self._map(name, content)

    def stored(self) -> Stored:
        """All shards, one behind the other."""
        every = [self.shards[number] for number in sorted(self.shards)]
        columns = {name: Sequences.joined(shard.columns[name] for shard in every) for name in self._tokenizing.columns}
        return Stored(columns, sum((shard.dropped for shard in every), Counter[str]()))


def _make(stores: Sequence[_Store], tokenizing: Tokenizing, check: Callable[[], None]) -> None:
    """Makes the shards that are not whole; by a process for each of PyTorch's threads where there is much to do."""
    by_name = {store.name: store for store in stores}
    text = itertools.chain.from_iterable(store.missing() for store in stores)

    def tokenized() -> Generator[Tokenized, None, None]:
        yield from map(tokenizing, itertools.islice(text, ALONE))
        processes, tokenizer = min(torch.get_num_threads(), MOST_PROCESSES), tokenizing.tokenizer
        if processes == 1:
            yield from map(tokenizing, text)
            return
        like = partial(Tokenizing.like, tokenizer.files, tokenizer.source.config)
        make = partial(like, tokenizing.filters, tokenizing.keep_text)
        yield from share(make, processes, text, remedy="set OMP_NUM_THREADS to less")

    with contextlib.closing(tokenized()) as found:
        for name, parts in itertools.groupby(found, key=lambda each: each.shard):
            by_name[name.partition("-")[0]].write(name, parts, check)


def _remove_others(folder: Path, names: set[str]) -> None:
    """Removes files of shards that are not among these, and those of the first format."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in names:
            path.unlink()


def _array(path: Path, dtype: torch.dtype) -> Tensor:
    size = path.stat().st_size // dtype.itemsize
    return torch.from_file(str(path), shared=False, size=size, dtype=dtype) if size else torch.zeros(0, dtype=dtype)


def _hash(path: Path) -> str:
    """Empty for a file that cannot be read, which is told by whoever reads it."""
    try:
        return file_sha256(path)
    except OSError:
        return ""
