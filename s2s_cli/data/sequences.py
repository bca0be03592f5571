"""Many sequences in flat arrays, held in memory or mapped from files; and some of them padded to one tensor.

Shapes: B batch, S source length, F width of a feature vector.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol, overload

import torch
from torch import Tensor


class Block(NamedTuple):
    """Some sequences packed one behind the other, as they are stored."""

    items: bytes
    lengths: list[int]
    """Items of each."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], typecode: str = "i") -> Block:
        """Packs rows of ids ("i") or bytes ("B")."""
        return cls(array(typecode, itertools.chain.from_iterable(rows)).tobytes(), [len(row) for row in rows])

    def part(self, typecode: str = "i") -> Part:
        """The same in memory, for `Sequences`."""
        dtype = DTYPES[typecode]
        empty = torch.zeros(0, dtype=dtype)  # frombuffer refuses an empty buffer
        items = torch.frombuffer(bytearray(self.items), dtype=dtype) if self.items else empty
        return Part(items, torch.tensor([0, *self.lengths]).cumsum(0))


class Part(NamedTuple):
    """Sequences in two flat arrays."""

    items: Tensor
    """Piece ids (int32), or the bytes of texts."""
    offsets: Tensor
    """int64, one more than there are sequences."""


class Sequences:
    """Sequences in some parts, counted through."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._firsts = [0, *itertools.accumulate(len(part.offsets) - 1 for part in self.parts)]

    @classmethod
    def joined(cls, several: Iterable[Sequences]) -> Sequences:
        """Those of some, one behind the other; nothing is copied."""
        return cls([part for sequences in several for part in sequences.parts])

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, index: int) -> Tensor:
        number = bisect_right(self._firsts, index) - 1
        items, offsets = self.parts[number]
        row = index - self._firsts[number]
        return items[int(offsets[row]) : int(offsets[row + 1])]

    @property
    def total(self) -> int:
        """Items of all sequences."""
        return sum(len(part.items) for part in self.parts)

    def rows(self, indices: Sequence[int]) -> list[list[int]]:
        """Some of them."""
        return [self[index].tolist() for index in indices]

    def lengths(self, rows: Tensor) -> Tensor:
        """Items of each of some sequences."""
        ordered, place = rows.sort()
        borders = torch.searchsorted(ordered, torch.tensor(self._firsts)).tolist()
        found = torch.empty_like(rows)
        for part, first, start, end in zip(self.parts, self._firsts, borders, borders[1:], strict=False):
            own = ordered[start:end] - first
            found[place[start:end]] = part.offsets[own + 1] - part.offsets[own]
        return found

    def add_to(self, digest: Digest) -> None:
        """Every item, their order and their borders, in however many parts they lie."""
        for part in self.parts:
            digest.update(part.items.numpy().data)
        end = 0
        for number, part in enumerate(self.parts):
            offsets = part.offsets[1:] + end if number else part.offsets
            digest.update(offsets.numpy().data)
            end += len(part.items)


class PaddedSources(NamedTuple):
    """Sources as one tensor, padded at the end: piece ids or feature vectors."""

    src_BS: Tensor | None
    src_BSF: Tensor | None
    src_len_B: Tensor

    @property
    def source(self) -> Tensor:
        """Piece ids (B, S), or feature vectors (B, S, F)."""
        return whichever(self.src_BS, self.src_BSF)

    def to(self, device: torch.device) -> PaddedSources:
        """The same on a device."""
        tensors = {name: tensor.to(device) for name, tensor in self._asdict().items() if tensor is not None}
        return self._replace(**tensors)


def whichever(src_BS: Tensor | None, src_BSF: Tensor | None) -> Tensor:
    """The one of the two that is there."""
    source = src_BSF if src_BS is None else src_BS
    assert source is not None, "sources are piece ids or feature vectors"
    return source


def pad_rows(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows of ids as one padded int64 tensor (rows, longest) and their lengths."""
    lengths = [len(row) for row in rows]
    width = max(lengths)
    padded = torch.tensor([[*row, *([pad] * (width - len(row)))] for row in rows], dtype=torch.int64)
    return padded, torch.tensor(lengths)


DTYPES = {"i": torch.int32, "B": torch.uint8}
"""Of items, by their typecode in `array`."""


class SequencesWriter:
    """Writes sequences into two files, so that no more than those just given are ever held."""

    def __init__(self, items: BinaryIO, offsets: BinaryIO) -> None:
        """Args:
        items, offsets: files open for writing.
        """
        self._items, self._offsets, self._end = items, offsets, 0
        offsets.write(array("q", [0]))

    def write(self, block: Block) -> None:
        """Adds some at the end."""
        self._items.write(block.items)
        ends = torch.tensor([self._end, *block.lengths]).cumsum(0)
        self._offsets.write(ends[1:].numpy().data)
        self._end = int(ends[-1])


class Lines(Sequence[str]):
    """Lines that lie as bytes in `Sequences`."""

    def __init__(self, utf8: Sequences) -> None:
        self.utf8 = utf8

    def __len__(self) -> int:
        return len(self.utf8)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        return self.utf8[index].numpy().tobytes().decode()


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, data: Any, /) -> None: ...


class Digestible(Protocol):
    """Sequences that can be hashed."""

    def add_to(self, digest: Digest) -> None: ...


def digest(*sides: Digestible) -> str:
    """SHA-256 over sequences."""
    found = hashlib.sha256()
    for side in sides:
        side.add_to(found)
    return found.hexdigest()
