"""The command line: parse, call one function, render, exit code. No logic; heavy imports wait until they are needed."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from typing import NoReturn

from s2s_cli.cli import (  # noqa: F401  # each registers itself
    average,
    config,
    evaluate,
    info,
    plot,
    score,
    train,
    translate,
)
from s2s_cli.cli.app import ReaderGone, app, say
from s2s_cli.errors import INTERNAL_ERROR, S2SError, Stopped, UserError
from s2s_cli.files import DISK_FAULTS, disk_error


def main() -> NoReturn:
    """Runs the command; ends the process with the exit codes that `errors.py` lists."""
    from s2s_cli.signals import raise_on_signal

    raise_on_signal()
    _replace_closed_streams()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(_guarded())


_closed: set[str] = set()


def _replace_closed_streams() -> None:
    """Where a stream is closed, the next file to be opened would get its number. Input is then empty; what is written
    to standard output fails, as it must."""
    for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
            _closed.add(name)


def _discard_output() -> None:
    """What could not be written is tried again when the interpreter ends, and would change the exit code."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _guarded() -> int:
    try:
        try:
            app(prog_name="s2s")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else UserError.exit_code
        sys.stdout.flush()
        return code
    except S2SError as error:
        if not error.quiet:
            say(f"s2s: {error}" if isinstance(error, Stopped) else f"s2s: error: {error}")
        return error.exit_code
    except (ReaderGone, BrokenPipeError):
        _discard_output()
        return 128 + 13
    except OSError as error:
        _discard_output()
        if error.errno in DISK_FAULTS or (error.errno == errno.EBADF and "stdout" in _closed):
            told = disk_error(error, "cannot write the output")
            say(f"s2s: error: {told}")
            return told.exit_code
        traceback.print_exc()
        return INTERNAL_ERROR
    except Exception:
        traceback.print_exc()
        return INTERNAL_ERROR
