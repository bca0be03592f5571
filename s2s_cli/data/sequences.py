"""Many sequences in two flat arrays, held in memory or mapped from files; and some of them padded to one tensor.

Shapes: B batch, S source length, F width of a feature vector.
"""

from __future__ import annotations

import hashlib
import io
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Protocol, overload

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """`items` (int32 piece ids, or the bytes of texts) and `offsets` (int64, one more than there are sequences)."""

    items: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Tensor:
        return self.items[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def rows(self, indices: Sequence[int]) -> list[list[int]]:
        """Some of them."""
        return [self[index].tolist() for index in indices]

    def lengths(self, rows: Tensor) -> Tensor:
        """Items of each of some sequences."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def add_to(self, digest: Digest) -> None:
        """Every item, their order and their borders."""
        for tensor in (self.items, self.offsets):
            digest.update(tensor.numpy().data)


class PaddedSources(NamedTuple):
    """Sources as one tensor, padded at the end: piece ids or feature vectors."""

    src_BS: Tensor | None
    src_BSF: Tensor | None
    src_len_B: Tensor

    def to(self, device: torch.device) -> PaddedSources:
        """The same on a device."""
        there = {name: tensor.to(device) for name, tensor in self._asdict().items() if tensor is not None}
        return self._replace(**there)


def pad_rows(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows of ids as one padded int64 tensor (rows, longest) and their lengths."""
    lengths = [len(row) for row in rows]
    width = max(lengths)
    padded = torch.tensor([[*row, *([pad] * (width - len(row)))] for row in rows], dtype=torch.int64)
    return padded, torch.tensor(lengths)


class SequencesWriter:
    """Writes sequences one at a time into two files, so that no more than one is ever held."""

    def __init__(self, items: BinaryIO, offsets: BinaryIO, typecode: str = "i") -> None:
        """Args:
        items, offsets: files open for writing.
        typecode: of an item, as in `array`: "i" for ids, "B" for bytes.
        """
        self._items, self._offsets, self._typecode, self._end = items, offsets, typecode, 0
        self.count = 0
        offsets.write(array("q", [0]))

    def append(self, sequence: Iterable[int]) -> None:
        """Adds a sequence at the end."""
        items = array(self._typecode, sequence)
        self._items.write(items)
        self._end += len(items)
        self.count += 1
        self._offsets.write(array("q", [self._end]))


class SequencesBuilder(SequencesWriter):
    """The same in memory."""

    def __init__(self) -> None:
        self._buffers = io.BytesIO(), io.BytesIO()
        super().__init__(*self._buffers)

    def build(self) -> Sequences:
        """The sequences; none can be added after this."""
        items, offsets = (buffer.getbuffer() for buffer in self._buffers)
        empty = torch.zeros(0, dtype=torch.int32)  # frombuffer refuses an empty buffer
        ids = torch.frombuffer(items, dtype=torch.int32) if items.nbytes else empty
        return Sequences(ids, torch.frombuffer(offsets, dtype=torch.int64))


class Sentences(Sequence[str]):
    """Sentences that lie as bytes in `Sequences`."""

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
