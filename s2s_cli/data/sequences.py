"""Many sequences in two flat arrays, held in memory or mapped from files."""

from __future__ import annotations

import hashlib
import io
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, overload

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

    def lists(self) -> list[list[int]]:
        """All of them; for small sets."""
        return [self[index].tolist() for index in range(len(self))]

    def lengths(self, rows: Tensor) -> Tensor:
        """Items of each of some sequences."""
        return self.offsets[rows + 1] - self.offsets[rows]


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


def digest(*sides: Sequences) -> str:
    """SHA-256 over sequences: every item, their order and their borders."""
    found = hashlib.sha256()
    for side in sides:
        for tensor in (side.items, side.offsets):
            found.update(tensor.numpy().data)
    return found.hexdigest()
