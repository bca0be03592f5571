"""The training corpus on disk: tokenized once, then mapped, so that it needs no memory.

    corpus.json   source.ids   source.ids.offsets   target.ids   target.ids.offsets

and, where the words themselves are wanted, `source.text`, `source.text.offsets` and the target's. Feature vectors stay
in their own files: of them `source.ids` holds the numbers of those kept. The arrays are in the machine's own byte
order. `corpus.json` holds the SHA-256 of the text files, of the tokenizer and of the arrays: where one of them is
another, the corpus is made anew.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from s2s_cli.config import DataConfig, ParallelText
from s2s_cli.data.corpus import Corpus, check_not_empty, source_files, tokenized_pairs
from s2s_cli.data.features import FeatureSequences
from s2s_cli.data.sequences import Sentences, Sequences, SequencesWriter, digest
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.files import file_sha256, read_regular, sha256, write_atomically

FORMAT = 1
MANIFEST = "corpus.json"
MOST_MANIFEST_BYTES = 1 << 24
SIDES = ("source", "target")


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
    """The corpus in `folder`, made there first where it is missing, damaged or of other text.

    Args:
        folder: is made where it is missing.
        texts, tokenizer, filters, keep_text: as for `read_corpus`.
        begin: called before the text is tokenized.
        check: called now and then meanwhile; may raise to stop.

    Raises:
        UserError: where the text is missing, misaligned, not UTF-8, or nothing is left of it.
        OSError: where the disk refuses.
    """
    key = {
        "format": FORMAT,
        "byteorder": sys.byteorder,
        "tokenizer": tokenizer.fingerprint,
        "max_length": filters.max_length,
        "max_ratio": filters.max_ratio,
        "keep_text": keep_text,
    }
    corpus = _load(folder, key, texts, tokenizer)
    if corpus is None:
        begin()
        corpus = _make(folder, key, texts, tokenizer, filters, check)
    return corpus


def _make(
    folder: Path,
    key: dict[str, Any],
    texts: Sequence[ParallelText],
    tokenizer: Tokenizer,
    filters: DataConfig,
    check: Callable[[], None],
) -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    hashes = _hashes(texts)
    (folder / MANIFEST).unlink(missing_ok=True)  # from here until it is written again, nothing is here
    dropped: dict[str, int] = {}
    with contextlib.ExitStack() as files:

        def writer(name: str, typecode: str) -> SequencesWriter:
            def create(path: Path) -> BinaryIO:
                path.unlink(missing_ok=True)  # a file that is still mapped must not change
                return files.enter_context(open(path, "wb"))

            return SequencesWriter(create(folder / name), create(folder / f"{name}.offsets"), typecode)

        pieces = [writer(f"{side}.ids", "i") for side in SIDES]
        of_text = _sides_of_text(tokenizer) if key["keep_text"] else ()
        words = {SIDES.index(side): writer(f"{side}.text", "B") for side in of_text}
        for pair, ids in tokenized_pairs(texts, tokenizer, filters, dropped=dropped, check=check):
            for side_writer, row in zip(pieces, ids, strict=True):
                side_writer.append(row)
            for column, text_writer in words.items():
                text_writer.append(pair[column].encode())
    content = {**key, "pairs": pieces[0].count, "dropped": dropped, "texts": hashes}
    corpus = _map(folder, content, texts, tokenizer)
    check_not_empty(corpus, texts)
    content["arrays"] = _digest(corpus)
    content["sha256"] = _seal(content)
    write_atomically(folder / MANIFEST, json.dumps(content, indent=1).encode())
    return corpus


def _load(folder: Path, key: dict[str, Any], texts: Sequence[ParallelText], tokenizer: Tokenizer) -> Corpus | None:
    """The corpus, where it is here, undamaged, and was made of this text by these rules."""
    try:
        content = json.loads(read_regular(folder / MANIFEST, MOST_MANIFEST_BYTES))
        if content.pop("sha256") != _seal(content):
            return None
        same = all(content[name] == value for name, value in key.items()) and content["texts"] == _hashes(texts)
        corpus = _map(folder, content, texts, tokenizer) if same else None
        return corpus if corpus is not None and content["arrays"] == _digest(corpus) else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, RecursionError):
        return None


def _map(folder: Path, content: dict[str, Any], texts: Sequence[ParallelText], tokenizer: Tokenizer) -> Corpus:
    """The corpus, mapped: nothing is read until it is looked at.

    Raises:
        OSError, ValueError, LookupError, RuntimeError: where a file is missing or cannot be of this corpus.
        UserError: where a file of features cannot be read.
    """

    def sequences(name: str, dtype: torch.dtype) -> Sequences:
        offsets = _array(folder / f"{name}.offsets", torch.int64)
        items = _array(folder / name, dtype)
        if len(offsets) != content["pairs"] + 1 or len(items) != offsets[-1]:
            raise ValueError(f"{folder / name}: not of the size that {MANIFEST} tells")
        return Sequences(items, offsets)

    files = chain.from_iterable(text.files for text in texts)
    known = dict(zip(files, chain.from_iterable(content["texts"]), strict=True))
    paths, stored = source_files(texts), sequences("source.ids", torch.int32)
    source = tokenizer.source.restored(stored, paths, [known[path] for path in paths])
    target = sequences("target.ids", torch.int32)
    if not content["keep_text"]:
        return Corpus(source, target, None, content["dropped"])
    words = [Sentences(sequences(f"{side}.text", torch.uint8)) for side in _sides_of_text(tokenizer)]
    first = source if isinstance(source, FeatureSequences) else words[0]
    return Corpus(source, target, (first, words[-1]), content["dropped"])


def _sides_of_text(tokenizer: Tokenizer) -> tuple[str, ...]:
    return SIDES if tokenizer.source.config.kind == "text" else SIDES[1:]


def _array(path: Path, dtype: torch.dtype) -> Tensor:
    size = path.stat().st_size // dtype.itemsize
    return torch.from_file(str(path), shared=False, size=size, dtype=dtype) if size else torch.zeros(0, dtype=dtype)


def _digest(corpus: Corpus) -> list[str]:
    words = [side.utf8 for side in corpus.texts or () if isinstance(side, Sentences)]
    return [corpus.fingerprint, digest(*words)]


def _seal(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode())


def _hashes(texts: Sequence[ParallelText]) -> list[list[str]]:
    """Of each text the SHA-256 of its file or files."""
    return [[_hash(path) for path in text.files] for text in texts]


def _hash(path: Path) -> str:
    """Empty for a file that cannot be read, which is told by whoever reads it."""
    try:
        return file_sha256(path)
    except OSError:
        return ""
