"""Packed files, by gzip and Zstandard: known by name or content, unpacked as they are read, and written."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeGuard, cast

from s2s_cli.errors import UserError

_PACKED_BYTES = 512  # unpacked at once: of Zstandard four may become 131,072


class Packer(NamedTuple):
    """A way to pack."""

    name: str
    tool: str
    """Its command."""
    magic: bytes
    """How all that it packs begins; no UTF-8 begins so."""
    unpack: Callable[[io.BufferedReader, Path], BinaryIO]
    """What unpacks a file, whose path is given too."""
    pack: Callable[[BinaryIO, Path], BinaryIO]
    """What packs into a file, whose path is given too and which stays open: the same bytes for the same content,
    however it is flushed. What it made twice, one after the other, is packed content too."""


class _Torn(ValueError):
    """What is packed is damaged."""


def _zstandard_package(path: Path) -> Any:
    try:
        import zstandard
    except ImportError:
        raise UserError(f"{path}: .zst needs the package zstandard: pip install 's2s-cli[zstd]'") from None
    return zstandard


class _Zstandard(io.RawIOBase):
    """Unpacks the frames of a file, one after the other. The package's own reader takes a torn frame for the end."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        zstandard = _zstandard_package(path)
        self._decompressor, self._error = zstandard.ZstdDecompressor(), zstandard.ZstdError
        self._frame, self._ready = self._decompressor.decompressobj(), b""
        self._file, self._path = file, path

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._frame.unused_data or self._file.read(_PACKED_BYTES)
            if not packed:
                if self._frame.eof:
                    return 0
                raise EOFError("it ends in the midst of a Zstandard frame")
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
            try:
                self._ready = self._frame.decompress(packed)
            except self._error as error:
                if "too much memory" in str(error):  # it asks for a window of its own size
                    raise UserError(
                        f"{self._path}: packed with a window of more than 128 MB: pack it anew, by zstd --long=27"
                    ) from None
                raise _Torn(str(error)) from None
        given = self._ready[: len(buffer)]
        buffer[: len(given)] = given
        self._ready = self._ready[len(given) :]
        return len(given)

    def close(self) -> None:
        self._file.close()
        super().close()


class _ZstandardPacked(io.RawIOBase):
    """Packs one frame."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._frame = _zstandard_package(path).ZstdCompressor(write_checksum=True).compressobj()
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(self._frame.compress(data))
        return len(data)

    def close(self) -> None:
        try:
            if not self.closed:
                self._file.write(self._frame.flush())
        finally:
            super().close()


class _GzipPacked(gzip.GzipFile):
    """Packs one member: no time, no name, and nothing that tells when it came."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__("", "wb", fileobj=file, mtime=0)

    def flush(self, zlib_mode: int = zlib.Z_SYNC_FLUSH) -> None:
        pass


def _gzip(file: io.BufferedReader, path: Path) -> BinaryIO:
    if not file.peek(1):
        raise EOFError("it is empty")  # which the library takes for whole
    return cast(BinaryIO, gzip.GzipFile(path, "rb", fileobj=file))


def _zstandard(file: io.BufferedReader, path: Path) -> BinaryIO:
    return io.BufferedReader(_Zstandard(file, path))


def _into_gzip(file: BinaryIO, path: Path) -> BinaryIO:
    return cast(BinaryIO, _GzipPacked(file))


def _into_zstandard(file: BinaryIO, path: Path) -> BinaryIO:
    return cast(BinaryIO, _ZstandardPacked(file, path))


PACKERS = {
    ".gz": Packer("gzip", "gzip", b"\x1f\x8b", _gzip, _into_gzip),
    ".zst": Packer("Zstandard", "zstd", b"\x28\xb5\x2f\xfd", _zstandard, _into_zstandard),
}
"""By the ending of a file's name."""


def packed_by(beginning: bytes) -> Packer | None:
    """What packed some content, known by its first bytes; None where it is not packed."""
    return next((packer for packer in PACKERS.values() if beginning.startswith(packer.magic)), None)


def refuse_packed(beginning: bytes) -> None:
    """Refuses a stream that is packed, by the first bytes of it.

    Raises:
        UserError: saying how to unpack it.
    """
    if packer := packed_by(beginning):
        raise UserError(
            f"the input is packed by {packer.name}: unpack it before ({packer.tool} -dc FILE | s2s translate ...), or "
            "name the file with --input"
        )


def is_unpacking(source: BinaryIO) -> TypeGuard[gzip.GzipFile | io.BufferedReader]:
    """Whether bytes are unpacked as they are read, so that the descriptor gives others."""
    return isinstance(source, gzip.GzipFile) or isinstance(getattr(source, "raw", None), _Zstandard)


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """A file to read bytes from, unpacked where its content or its name says that it is packed.

    Raises:
        UserError: where it cannot be opened, or Zstandard's package is missing; and, in reading, where packed content
            is damaged.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115  (closed below; only the opening is guarded)
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from None
    with file:
        packer = packed_by(_beginning(file)) or PACKERS.get(path.suffix.lower())
        if packer is None:
            yield file
            return
        try:
            with packer.unpack(file, path) as unpacked:
                yield unpacked
        except (gzip.BadGzipFile, EOFError, zlib.error, _Torn) as error:
            raise UserError(f"{path}: damaged, or no {packer.name} file ({error}): make it anew") from None


def _beginning(file: BinaryIO) -> bytes:
    """The first bytes of a file, which are still to be read; of a pipe none."""
    try:
        return os.pread(file.fileno(), 4, 0)
    except OSError:
        return b""


def packing(path: Path) -> Callable[[bytes], bytes]:
    """What makes of content what is written to a file of this name; results, one after the other, are a file too.

    Raises:
        UserError: where Zstandard's package is missing.
    """
    packer = PACKERS.get(path.suffix.lower())
    if packer is None:
        return bytes

    def packed(data: bytes) -> bytes:
        found = io.BytesIO()
        with packer.pack(found, path) as file:
            file.write(data)
        return found.getvalue()

    packed(b"")  # a missing package is told before anything is translated
    return packed


@contextmanager
def packed_where_named(path: Path | None, file: BinaryIO) -> Iterator[BinaryIO]:
    """What packs into a file whose name asks for it; else the file itself.

    Raises:
        UserError: where Zstandard's package is missing.
    """
    if path is None or path.suffix.lower() not in PACKERS:
        yield file
        return
    with PACKERS[path.suffix.lower()].pack(file, path) as packed:
        yield packed
