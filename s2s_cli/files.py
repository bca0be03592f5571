"""Files that are whole or absent: written aside, synced, then renamed into place."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from s2s_cli.errors import RunFailed, S2SError, UserError

CONTAINER_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says what a container may use: control groups of version 2, and of 1."""
DISK_FAULTS = frozenset({errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG})
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)  # for a pipe's writer; and no links


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def json_sha256(content: object) -> str:
    """The same of what is JSON, in whatever order its keys stand."""
    return sha256(json.dumps(content, sort_keys=True).encode())


def file_sha256(path: Path) -> str:
    """The same of a file's content, which is never held whole.

    Raises:
        OSError: where it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_regular(path: Path, most: int | None = None) -> bytes:
    """A file's content, where it comes from a stranger: no link, device or pipe is opened in its place.

    Args:
        path: where.
        most: bytes; more are refused before they are read. Default: what this machine's memory holds.

    Raises:
        OSError: where it is missing, no regular file, or larger.
    """
    with _open_regular(path) as (file, size):
        if size > (memory() if most is None else most):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read()


def read_beginning(path: Path, most: int) -> tuple[bytes, int]:
    """The first bytes of such a file, no more than `most`, and its size.

    Raises:
        OSError: where it is missing, or no regular file.
    """
    with _open_regular(path) as (file, size):
        return file.read(most), size


@contextmanager
def _open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file to read, and its size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_WAITING)
    except ValueError as error:  # a name that no system allows
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "this is no regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            yield file, about.st_size
    finally:
        os.close(descriptor)


def memory() -> int:
    """Bytes of memory there are: the machine's, or those that a container is given; no limit where none is told."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        found = sys.maxsize
    for path in CONTAINER_MEMORY:
        with suppress(OSError, ValueError):  # not there, or `max`
            found = min(found, int(path.read_text(encoding="ascii")))
    return found


def matching(path: Path) -> list[Path]:
    """The files that a name stands for: itself; or, where no file is called so and the name (not its folder) holds
    `*`, `?` or `[...]`, those that it matches, by name."""
    if is_file(path) or glob.escape(path.name) == path.name:
        return [path]
    names = glob.glob(path.name, root_dir=path.parent)  # noqa: PTH207  (Path.glob gives hidden files too)
    return [path.with_name(name) for name in sorted(names)]


def names_files(path: Path) -> bool:
    """Whether there is a file that a name stands for."""
    return any(is_file(file) for file in matching(path))


def write_synced(path: Path, data: bytes) -> None:
    """Writes a new file and waits until it is on the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk (where the system can say so)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its name when all of it is on the disk: until then the old one stands there."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Puts `data` at `path`: whoever looks there sees the old content or the new, never a part."""
    with _whole(path) as file:
        file.write(data)


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder that can be seen; a name that no system allows is not."""
    return os.path.exists(path)  # noqa: PTH110  (of such a name Path raises)


def is_file(path: Path) -> bool:
    """The same of a file."""
    return os.path.isfile(path)  # noqa: PTH113


def check_destinations(paths: Mapping[str, Path | None], inputs: Iterable[tuple[str, Path | None]] = ()) -> None:
    """Refuses, before any work, files that could not be written after it, or that it reads.

    Args:
        paths: by the option that asks for them; None where it was not given.
        inputs: options and the files that they name, which are read.

    Raises:
        UserError: where one is a folder, or lies in none that can be written to, or two are the same, or one is read;
            where one is `-`.
    """
    seen: dict[Path, str] = {}
    read = [(option, path) for option, path in inputs if path is not None]
    for files, stream in ((read, "/dev/stdin"), (paths.items(), "/dev/stdout")):
        for option, path in files:
            if path == Path("-") and not is_there(path):
                raise UserError(f"{option} -: no file is called so; leave {option} out, or name {stream}")
    for option, path in paths.items():
        if path is None:
            continue
        try:
            place, in_place = destination(path)
            writable = not place.is_dir() and os.access(place if in_place else place.parent, os.W_OK)
        except (OSError, ValueError):  # a name that no system allows
            writable, place, in_place = False, path, False
        if not writable:
            raise UserError(f"{option} {path}: cannot be written: a folder, or in none that can be written to")
        if place in seen:
            raise UserError(f"{seen[place]} and {option}: both would write {path}")
        for other, source in read:
            if not in_place and _is_same(place, source):
                raise UserError(
                    f"{other} and {option}: {path} is read, and would be overwritten: choose another {option}"
                )
        seen[place] = option


def _is_same(place: Path, other: Path) -> bool:
    """Whether two names are those of one file, through links and whatever else; one that is not there is no other's."""
    try:
        return place.samefile(other)
    except (OSError, ValueError):
        return False


def cannot_make(error: OSError, doing: str, advice: str = "") -> S2SError:
    """As `disk_error` where the disk is at fault; else the user's to mend, with advice."""
    if error.errno in DISK_FAULTS:
        return disk_error(error, doing)
    return UserError(f"{doing}: {error.strerror}{advice}")


@contextmanager
def disk_explained(doing: str) -> Iterator[None]:
    """Inside, what the disk refuses is told as `disk_error` does."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, doing) from None


def disk_error(error: OSError, doing: str) -> S2SError:
    """The one line that tells of an I/O error."""
    what = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
    where = f" ({error.filename})" if error.filename else ""
    return RunFailed(f"{doing}: {what}{where}; what was saved before is untouched")


def write_result(path: Path, content: bytes) -> None:
    """A file that the user asked for.

    Raises:
        UserError: where its folder is missing, or it may not be written.
        RunFailed: where the disk refuses.
    """
    with disk_explained(f"cannot write {path}"), replaced_when_done(path, sys.stdout) as file:
        file.write(content)


@contextmanager
def replaced_when_done(path: Path | None, default: IO[str]) -> Iterator[BinaryIO]:
    """A file to write bytes to, which takes its name only when all went well; or the bytes under a text stream.

    A link stays one, and its target is replaced; a device or a pipe cannot be replaced, and is written to.
    """
    if path is None:
        yield default.buffer  # type: ignore[attr-defined]
        return
    real, in_place = destination(path)
    try:
        with open(real, "wb") if in_place else _whole(real) as file:
            yield file
    except OSError as error:
        if error.filename is None:  # in writing: whoever writes tells what became of it
            raise
        raise cannot_make(error, f"{path}: cannot write it") from None


def destination(path: Path) -> tuple[Path, bool]:
    """Where a result goes, and whether it is written there in place, as into a device or a pipe; links are followed."""
    in_place = path.exists() and not path.is_file()
    return (path, True) if in_place else (Path(os.path.realpath(path)), False)
