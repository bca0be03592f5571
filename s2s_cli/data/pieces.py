"""What a SentencePiece model file says of its pieces, as its Python package does not tell all of it.

The file is a protocol buffer (`ModelProto` in sentencepiece_model.proto), of which a few fields are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from s2s_cli.errors import UserError

UNKNOWN_PENALTY = 10.0
"""By which an unknown character scores below the worst piece."""


class Kind(IntEnum):
    """Models (`TrainerSpec.ModelType`)."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


class Type(IntEnum):
    """Pieces (`SentencePiece.Type`)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One piece."""

    text: str
    score: float
    """unigram: log-probability. bpe: the higher, the earlier merged."""
    type: Type


class Pieces:
    """All pieces of a model, by id."""

    def __init__(self, kind: Kind, pieces: Sequence[Piece]) -> None:
        self.kind = kind
        self.all = pieces
        self.unknown = next(iter(self.of(Type.UNKNOWN).values()))
        worst = min((piece.score for piece in pieces if piece.type is Type.NORMAL), default=0.0)
        self.scores = [piece.score if piece.type is Type.NORMAL else worst - UNKNOWN_PENALTY for piece in pieces]
        """Of the pieces that are text; of what stands for unknown characters, what SentencePiece gives to those."""
        self._bytes = self.of(Type.BYTE)

    def of(self, wanted: Type) -> dict[str, int]:
        """Ids by text of the pieces of a type."""
        return {piece.text: number for number, piece in enumerate(self.all) if piece.type is wanted}

    def spelled(self, character: str) -> list[int]:
        """What stands for a character that no piece is for: its bytes, where the model has them."""
        return [self._bytes[f"<0x{byte:02X}>"] for byte in character.encode()] if self._bytes else [self.unknown]


def read_pieces(data: bytes) -> Pieces:
    """The pieces of a model file that SentencePiece itself has read without complaint.

    Raises:
        UserError: where it holds what this reader does not know.
    """
    try:
        return _read(data)
    except (KeyError, ValueError, StopIteration):
        raise UserError("tokenizer.sampling: this SentencePiece model is of an unknown kind; set alpha to 0") from None


def _read(data: bytes) -> Pieces:
    kind, pieces = Kind.UNIGRAM, list[Piece]()
    for field, value in _fields(data):
        if field == 1:
            inner = dict(_fields(value))
            (score,) = struct.unpack("<f", inner.get(2, bytes(4)))
            pieces.append(Piece(inner.get(1, b"").decode(), score, Type(inner.get(3, Type.NORMAL))))
        elif field == 2:
            kind = Kind(dict(_fields(value)).get(3, kind))
    return Pieces(kind, pieces)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: a number, and an integer or bytes (https://protobuf.dev/programming-guides/encoding)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        field, wire = divmod(varint(), 8)
        if wire == 0:
            yield field, varint()
            continue
        size = {1: 8, 5: 4}[wire] if wire != 2 else varint()
        yield field, message[at : at + size]
        at += size
