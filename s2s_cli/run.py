"""The run directory: its layout, its version, its pointers, its lock, and how a model is found.

    config.yaml   tokenizer/   corpus/   checkpoints/step-00001200/   best   last   metrics.jsonl   train.log   lock

Only training needs `corpus/`, the tokenized text, and makes it anew where it is missing.

The first line of `config.yaml` holds the format version and a SHA-256 of the rest and of the version of s2s that wrote
it, so that damage shows.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2s_cli import __version__
from s2s_cli.config import Config
from s2s_cli.config_file import dump_config, parse_config
from s2s_cli.errors import UserError
from s2s_cli.files import cannot_make, is_there, read_regular, sha256, write_atomically
from s2s_cli.locks import is_locked, locked

if TYPE_CHECKING:  # what only looks at runs needs no torch
    from s2s_cli.data.tokenizer import Tokenizer

FORMAT = 1
MOST_CONFIG_BYTES, MOST_TOKENIZER_BYTES, MOST_POINTER_BYTES = 1 << 24, 1 << 28, 1 << 13
MOST_METRICS_BYTES = 1 << 30
RUNS = Path("runs")
ENVIRONMENT = "S2S_MODEL"

_HEADER = re.compile(r"# s2s run, format (\d{1,9}), written by s2s (\S{1,40}), sha256 ([0-9a-f]{64})\n")
_ASIDE = re.compile(
    r"\.(config\.yaml|best|last|metrics\.jsonl|corpus\.json|\d+-\d{5}\.json|(shared|source|target)\.model)\.\d+\.tmp"
)
_CHECKPOINT = re.compile(r"(step|average)-\d{8,}")


def is_checkpoint(path: Path) -> bool:
    """Whether a folder's name is one that this program gives to checkpoints."""
    return bool(_CHECKPOINT.fullmatch(path.name))


def is_leftover(path: Path) -> bool:
    """Whether a name is that of a folder which a save was writing when it was killed."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


class RunDirectory:
    """Paths and small files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.yaml"
        self.tokenizer_path = path / "tokenizer"
        self.corpus_path = path / "corpus"
        self.checkpoints_path = path / "checkpoints"
        self.metrics_path = path / "metrics.jsonl"
        self.log_path = path / "train.log"

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return is_there(self.config_path)

    def create(self) -> None:
        """Makes the folders, and removes files that were being written when a trainer was killed.

        Raises:
            UserError: where something else already stands there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: this is a file; choose another folder with --run")
        try:
            self.tokenizer_path.mkdir(parents=True, exist_ok=True)
            self.checkpoints_path.mkdir(exist_ok=True)
            for folder in (self.path, self.tokenizer_path, self.corpus_path):
                for path in folder.glob(".*.tmp"):
                    if _ASIDE.fullmatch(path.name) and path.is_file():
                        path.unlink()
        except OSError as error:
            raise cannot_make(error, f"{self.path}: cannot make the run directory") from None

    def write_config(self, config: Config) -> None:
        """Writes the resolved config."""
        body = dump_config(config)
        header = f"# s2s run, format {FORMAT}, written by s2s {__version__}, sha256 {_seal(__version__, body)}\n"
        write_atomically(self.config_path, (header + body).encode())

    def read_config(self) -> Config:
        """The resolved config.

        Raises:
            UserError: where there is none, it is damaged, or it is of another format version.
        """
        _, body = self._read_sealed()
        return parse_config(body, str(self.config_path), self.path)

    def written_by(self) -> str:
        """The version of s2s that wrote the config.

        Raises:
            UserError: as for `read_config`.
        """
        version, _ = self._read_sealed()
        return version

    def _read_sealed(self) -> tuple[str, str]:
        """Who wrote the config, and its text, found whole."""
        try:
            text = read_regular(self.config_path, MOST_CONFIG_BYTES).decode("utf-8")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{self.path}: no run is here ({error.strerror}: config.yaml)") from None
        except OSError as error:
            raise UserError(f"{self.config_path}: cannot read it: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UserError(f"{self.config_path}: damaged (not UTF-8)") from None
        header = _HEADER.match(text)
        if header is None:
            raise UserError(f"{self.config_path}: this is not the config of a run, or its first line is damaged")
        if int(header[1]) != FORMAT:
            raise UserError(
                f"{self.path}: a run of format {header[1]}, written by s2s {header[2]}; this s2s {__version__} reads "
                f"format {FORMAT}: use s2s {header[2]}"
            )
        body = text[header.end() :]
        if header[3] not in (_seal(header[2], body), sha256(body.encode())):  # at first the version was left out
            raise UserError(f"{self.config_path}: damaged or edited: it does not match the hash in its first line")
        return header[2], body

    def write_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Saves the tokenizer's model files."""
        for name, data in tokenizer.files.items():
            write_atomically(self.tokenizer_path / name, data)

    def remove_tokenizer(self) -> None:
        """Forgets the tokenizer, so that another is made."""
        for name in self.read_tokenizer_files():
            (self.tokenizer_path / name).unlink()

    def read_tokenizer_files(self) -> dict[str, bytes]:
        """The tokenizer's model files as they stand; empty where there are none yet.

        Raises:
            UserError: where one cannot be read.
        """
        found = {}
        for name in ("shared.model", "source.model", "target.model"):
            path = self.tokenizer_path / name
            try:
                found[name] = read_regular(path, MOST_TOKENIZER_BYTES)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UserError(f"{path}: cannot read it: {error.strerror}") from None
        return found

    def pointer(self, name: str) -> Path | None:
        """The checkpoint that `best` or `last` names, if any.

        Raises:
            UserError: where the pointer holds no checkpoint's name, or that checkpoint is gone.
        """
        try:
            target = read_regular(self.path / name, MOST_POINTER_BYTES).decode("utf-8", "replace").rstrip(" \r\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{self.path / name}: cannot read it: {error.strerror}; {self._offer(name)}") from None
        if not _CHECKPOINT.fullmatch(target):
            raise UserError(f"{self.path / name}: damaged: it names no checkpoint; {self._offer(name)}")
        checkpoint = self.checkpoints_path / target
        with contextlib.suppress(OSError):  # who reads may not be allowed to write
            self.restore(checkpoint)
        if not checkpoint.is_dir() or checkpoint.is_symlink():
            raise UserError(f"{self.path / name}: names {target}, which is not there; {self._offer(name)}")
        return checkpoint

    def point(self, name: str, checkpoint: Path) -> None:
        """Moves a pointer."""
        write_atomically(self.path / name, f"{checkpoint.name}\n".encode())

    def checkpoints(self) -> list[Path]:
        """The checkpoints of training steps, oldest first."""
        return sorted(path for path in self.checkpoints_path.glob("step-*") if is_checkpoint(path))

    def replace(self, checkpoint: Path, new: Path) -> Path | None:
        """Puts a folder in a checkpoint's place; one that is there from an earlier try at the same step is moved aside,
        from where `restore` brings it back after a crash.

        Returns:
            What was moved aside, if anything.

        Raises:
            OSError: where the disk refuses.
        """
        for last in (False, True):
            replaced = self._set_aside(checkpoint)  # a rename cannot replace a folder
            try:
                new.rename(checkpoint)
            except OSError as error:
                if last or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                break  # else a reader has just brought it back
        return replaced

    def _set_aside(self, checkpoint: Path) -> Path | None:
        if not checkpoint.exists():
            return None
        aside = self._aside(checkpoint)
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
        return aside

    def restore(self, checkpoint: Path) -> None:
        """Brings back what was set aside, where its replacement never came."""
        aside = self._aside(checkpoint)
        if aside.is_dir() and not checkpoint.exists():
            aside.rename(checkpoint)

    def _aside(self, checkpoint: Path) -> Path:
        return checkpoint.with_name(f".{checkpoint.name}.old.tmp")

    def _offer(self, name: str) -> str:
        present = [path.name for path in self.checkpoints()]
        return f"checkpoints here: {', '.join(present)} (write one of them into {name})" if present else "none is here"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for one trainer; the system lets go of it when the process ends, however it ends.

        Raises:
            UserError: where another process holds it; names that process.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self.path / "lock", "training", "choose another folder with --run"))
            except OSError as error:
                raise cannot_make(error, f"{self.path}: cannot be a run directory", "; choose another --run") from None
            yield

    def is_being_trained(self) -> bool:
        """Whether a trainer holds the run now."""
        return is_locked(self.path / "lock")


def _seal(version: str, body: str) -> str:
    """The hash of a run's config and of who wrote it."""
    return sha256(f"{version}\n{body}".encode())


def record_latest(run: RunDirectory) -> None:
    """Makes this run the default model in the working directory.

    Raises:
        OSError: where nothing can be written there.
    """
    runs, path = RUNS.resolve(), run.path.resolve()
    name = path.relative_to(runs) if path.is_relative_to(runs) else path
    RUNS.mkdir(exist_ok=True)
    write_atomically(RUNS / "latest", f"{name}\n".encode())


def latest_run() -> Path | None:
    """The run that was trained last in the working directory, if one is named there."""
    try:
        return RUNS / read_regular(RUNS / "latest", MOST_POINTER_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def is_latest(run: RunDirectory) -> bool:
    """Whether a run is the one that was trained last in the working directory."""
    latest = latest_run()
    try:
        return latest is not None and latest.samefile(run.path)
    except (OSError, ValueError):  # it is gone, or the file is damaged
        return False


def find_model(path: Path | None) -> tuple[RunDirectory, Path]:
    """The run and the checkpoint to use.

    Args:
        path: a run directory or one of its checkpoints; default: $S2S_MODEL, else the run that was trained last.

    Raises:
        UserError: where none is found; says how to make one.
    """
    run, checkpoint = find_run(path)
    if checkpoint is None:
        raise UserError(f"{run.path}: this run has no checkpoint yet; let `s2s train` reach its first validation")
    return run, checkpoint


def find_run(path: Path | None) -> tuple[RunDirectory, Path | None]:
    """As `find_model`, but a run may have no checkpoint yet."""
    how = "train one with `s2s train --config FILE`, or name one with --model DIR or the variable S2S_MODEL"
    if path is None and os.environ.get(ENVIRONMENT):
        path = Path(os.environ[ENVIRONMENT])
    if path is None:
        path = latest_run()
        if path is None:
            raise UserError(f"no model: no run was trained in {RUNS.resolve()}; {how}")
    if not os.path.isdir(path):  # noqa: PTH112  (of a name that no system allows Path raises)
        near = f" (there is {RUNS / path})" if os.path.isdir(RUNS / path) else ""  # noqa: PTH112
        raise UserError(f"{path}: no such run directory{near}; {how}")
    run = RunDirectory(path)
    for place in (path.absolute(), path.resolve()):  # either the run's folder of checkpoints or the path may be a link
        around = RunDirectory(place.parent.parent)
        if is_checkpoint(place) and place.parent == around.checkpoints_path and around.exists and not run.exists:
            return around, place
    if not run.exists:
        raise UserError(f"{path}: no run is here (it has no config.yaml); {how}")
    return run, run.pointer("best") or run.pointer("last")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, those left out that a crash tore; none where there is no such file.

    Raises:
        UserError: where it cannot be read.
    """
    found = []
    try:
        text = read_regular(path, MOST_METRICS_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot_make(error, f"{path}: cannot read it") from None
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and figure(row["step"]) is not None:
            found.append(row)
    return found


def figure(value: object) -> float | None:
    """A finite number of a `metrics.jsonl`, where it is one: anybody may have written the file."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]
    except OverflowError:
        return None


def figures(value: object) -> dict[str, float]:
    """The same of what holds figures by name; empty where it does not."""
    if not isinstance(value, dict):
        return {}
    return {str(name): number for name, given in value.items() if (number := figure(given)) is not None}
