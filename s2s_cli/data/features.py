"""Feature vectors as sources: image regions, audio frames. Their files are mapped: no more is read than is used.

    .npy           an array (items, positions, F)
    .safetensors   `features` (items, positions, F), and `lengths` (items) where only the first positions count;
                   or `features` (all positions, F), item after item, and `lengths`

Shapes: B batch, S positions of an item, P positions of all items, F width of a vector.
"""

from __future__ import annotations

import tokenize
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s2s_cli.config import SamplingConfig, SourceConfig
from s2s_cli.data.sequences import Digest, PaddedSources, Sequences
from s2s_cli.data.words import Words
from s2s_cli.errors import UserError
from s2s_cli.files import file_sha256

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    OverflowError,
    MemoryError,
    RecursionError,
    RuntimeError,
    tokenize.TokenError,
    SafetensorError,
)


class FeatureFile:
    """A mapped file of items.

    Raises:
        UserError: where it cannot be read, or is not laid out as the head of this module says.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Args:
        path: names the format by its ending.
        size: the width that the vectors must have; default: any.
        """
        self.path = path
        if path.suffix not in FEATURE_FILES:
            raise UserError(f"{path}: feature vectors are read from files that end in {' or '.join(FEATURE_FILES)}")
        try:
            if path.exists() and not path.is_file():
                raise UserError(f"{path}: no regular file: features are mapped, which a pipe or a folder cannot be")
            vectors, lengths = FEATURE_FILES[path.suffix](path)
        except _UNREADABLE as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
            raise UserError(f"{path}: cannot read it: {reason}") from None
        if vectors.dtype not in FLOATS or not vectors.is_contiguous():
            raise UserError(f"{path}: features must be of fp16, bf16, fp32 or fp64, in C order")
        self.lengths, self.starts = self._layout(vectors, lengths)
        self.vectors_PF = vectors.flatten(0, -2)
        self.size = vectors.shape[-1]
        if size is not None and self.size != size:
            raise UserError(f"{path}: its vectors are {self.size} wide, those of this model {size} (source.size)")

    def __reduce__(self) -> tuple[Callable[..., FeatureFile], tuple[Path, int]]:
        """To another process goes its name alone, to be mapped there once."""
        return _mapped, (self.path, self.size)

    def _layout(self, vectors: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Length and first position of each item."""
        shape = vectors.shape
        if not (len(shape) == 3 or (len(shape) == 2 and lengths is not None)) or not shape[-1]:
            raise UserError(
                f"{self.path}: features of shape {tuple(shape)}: they must be (items, positions, width), or in a "
                ".safetensors file (positions, width) beside lengths"
            )
        found = torch.full((shape[0],), shape[1]) if lengths is None else lengths.to(torch.int64)
        most = shape[1] if len(shape) == 3 else shape[0]
        fits = found.dim() == 1 and bool(((found >= 0) & (found <= most)).all())
        if not fits or (len(found) != shape[0] if len(shape) == 3 else int(found.sum()) != shape[0]):
            raise UserError(f"{self.path}: lengths do not fit features of shape {tuple(shape)}")
        return found, torch.arange(len(found)) * most if len(shape) == 3 else found.cumsum(0) - found

    @cached_property
    def sha256(self) -> str:
        """Of the file's content."""
        return file_sha256(self.path)


@cache
def _mapped(path: Path, size: int) -> FeatureFile:
    return FeatureFile(path, size)


def _open_npy(path: Path) -> tuple[Tensor, None]:
    """Maps privately: of what may only be read, PyTorch would warn."""
    return torch.from_numpy(np.lib.format.open_memmap(path, mode="c")), None


def _open_safetensors(path: Path) -> tuple[Tensor, Tensor | None]:
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        if "features" not in names:
            raise ValueError(f"it has no tensor `features` (but {', '.join(sorted(names)) or 'none at all'})")
        lengths = file.get_tensor("lengths") if "lengths" in names else None
        if lengths is not None and (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool):
            raise ValueError(f"`lengths` must be whole numbers, not {lengths.dtype}")
        return file.get_tensor("features"), lengths


FEATURE_FILES: dict[str, Callable[[Path], tuple[Tensor, Tensor | None]]] = {
    ".npy": _open_npy,
    ".safetensors": _open_safetensors,
}


@dataclass(frozen=True)
class Vectors:
    """One item, or its beginning; it stays in its file until `read`."""

    file: FeatureFile
    number: int
    """In the file, from 0."""
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, beginning: slice) -> Vectors:
        """Its first positions, `[:most]`."""
        start, stop, _ = beginning.indices(self.length)
        assert not start, "only a beginning"
        return replace(self, length=stop)

    def __str__(self) -> str:
        return f"item {self.number}: {self.length} x {self.file.size}"

    @property
    def fingerprint(self) -> str:
        """The hash of its file, and which of its items this is."""
        return f"{self.file.sha256} {self.number} {self.length}"

    def read(self) -> Tensor:
        """The vectors in fp32, (S, F).

        Raises:
            UserError: where one is not finite.
        """
        start = int(self.file.starts[self.number])
        vectors_SF = self.file.vectors_PF[start : start + self.length].float()
        if not bool(torch.isfinite(vectors_SF).all()):
            raise UserError(f"{self.file.path}: item {self.number} (from 0) holds a value that is not finite in fp32")
        return vectors_SF


class FeatureSequences(Sequence[Vectors]):
    """Items of some files, counted through; all of them, or those that `kept` numbers."""

    def __init__(self, files: Sequence[FeatureFile], kept: Tensor | None = None) -> None:
        """Args:
        files: one after the other.
        kept: numbers of items, int32.

        Raises:
            IndexError: where there is no such item.
        """
        self.files = tuple(files)
        lengths = torch.cat([torch.zeros(0, dtype=torch.int64), *(file.lengths for file in files)])
        self._kept = torch.arange(len(lengths), dtype=torch.int32) if kept is None else kept
        self._lengths = lengths[self._kept.long()]
        self._firsts = [0]
        for file in files:
            self._firsts.append(self._firsts[-1] + len(file.lengths))

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Vectors: ...
    @overload
    def __getitem__(self, index: slice) -> list[Vectors]: ...
    def __getitem__(self, index: int | slice) -> Vectors | list[Vectors]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        number, length = int(self._kept[index]), int(self._lengths[index])
        file = bisect_right(self._firsts, number) - 1
        return Vectors(self.files[file], number - self._firsts[file], length)

    def rows(self, indices: Sequence[int]) -> list[Vectors]:
        """Some of the items."""
        return [self[index] for index in indices]

    def lengths(self, rows: Tensor) -> Tensor:
        """Positions of each of some items."""
        return self._lengths[rows]

    def add_to(self, digest: Digest) -> None:
        """The files' content, and which items these are."""
        for file in self.files:
            digest.update(file.sha256.encode())
        digest.update(self._kept.numpy().data)


def open_features(paths: Sequence[Path], size: int | None) -> FeatureSequences:
    """All items of some files.

    Raises:
        UserError: as for `FeatureFile`.
    """
    return FeatureSequences([FeatureFile(path, size) for path in paths])


class FeatureSource:
    """A tokenizer's source side where there is nothing to tokenize: does for items what a vocabulary does for lines."""

    specials = None

    def __init__(self, config: SourceConfig) -> None:
        assert config.size is not None, "the config's own check"
        self.config, self.size = config, config.size

    def __len__(self) -> int:
        return self.size

    def encode(self, sources: Sequence[Vectors]) -> list[Vectors]:
        """The items themselves."""
        return list(sources)

    def sample(self, sources: Sequence[Vectors], sampling: SamplingConfig, seed: int) -> list[Vectors]:
        """The items themselves."""
        return list(sources)

    def positions(self, lengths: Tensor) -> Tensor:
        """Positions in a batch: no end of sentence is added, and an empty item counts as one vector of zeros."""
        return lengths.clamp(min=1)

    def pad(self, rows: Sequence[Vectors]) -> PaddedSources:
        """Reads items, and pads with zeros."""
        lengths_B = self.positions(torch.tensor([len(row) for row in rows]))
        vectors = [row.read() if len(row) else torch.zeros(1, self.size) for row in rows]
        return PaddedSources(None, pad_sequence(vectors, batch_first=True), lengths_B)

    def names(self, row: Vectors) -> tuple[str, ...]:
        """What to call its positions: numbers, from 0."""
        return tuple(map(str, range(max(1, len(row)))))

    def words(self, source: Vectors, row: Vectors) -> Words:
        """Each vector stands for itself."""
        return tuple((number,) for number in range(max(1, len(row))))

    def stored(self, number: int, row: Any) -> Sequence[int]:
        """What a corpus stores of the n-th source of a text: n."""
        return (number,)

    def restored(self, stored: Sequence[Sequences], paths: Sequence[Sequence[Path]]) -> FeatureSequences:
        """The sources of which that was stored."""
        files, kept, first = list[FeatureFile](), list[Tensor](), 0
        for text, text_paths in zip(stored, paths, strict=True):
            kept += [part.items + first for part in text.parts]
            own = [FeatureFile(path, self.size) for path in text_paths]
            first += sum(len(file.lengths) for file in own)
            files += own
        return FeatureSequences(files, torch.cat(kept))
