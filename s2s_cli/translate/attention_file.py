"""Where attention looked, written to a file translation by translation; none of it is held in memory.

.jsonl, .jsonl.gz   an object a line: {"source": [pieces], "target": [pieces], "weights": [[of a piece]]}
.npz                for the n-th, from 0: weights_n (target pieces, source pieces) in fp32, source_n and target_n
"""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from s2s_cli.errors import UserError
from s2s_cli.files import replaced_when_done
from s2s_cli.translate.entry import Translation

Watch = Callable[[Translation], None]
"""Is shown every translation that is given, in order."""
_DIGITS = 4


@contextmanager
def _json_lines(file: BinaryIO) -> Iterator[Watch]:
    def write(translation: Translation) -> None:
        weights = [[round(weight, _DIGITS) for weight in row] for row in _weights(translation).tolist()]
        found = {"source": translation.source_pieces, "target": translation.target_pieces, "weights": weights}
        file.write(json.dumps(found, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")

    yield write


@contextmanager
def _packed_json_lines(file: BinaryIO) -> Iterator[Watch]:
    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed, _json_lines(packed) as write:  # type: ignore[arg-type]
        yield write


@contextmanager
def _arrays(file: BinaryIO) -> Iterator[Watch]:
    numbers = count()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, array: np.ndarray) -> None:
            about = zipfile.ZipInfo(f"{name}.npy")  # of 1980: the same content makes the same file
            about.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(about, "w") as entry:
                np.lib.format.write_array(entry, array)

        def write(translation: Translation) -> None:
            number = next(numbers)
            add(f"weights_{number}", _weights(translation).numpy())
            add(f"source_{number}", np.array(translation.source_pieces, dtype=np.str_))
            add(f"target_{number}", np.array(translation.target_pieces, dtype=np.str_))

        yield write


WRITERS: dict[str, Callable[[BinaryIO], AbstractContextManager[Watch]]] = {
    ".jsonl": _json_lines,
    ".jsonl.gz": _packed_json_lines,
    ".npz": _arrays,
}


def _weights(translation: Translation) -> torch.Tensor:
    return torch.zeros(0, 0) if translation.attention is None else translation.attention


@contextmanager
def attention_file(path: Path) -> Iterator[Watch]:
    """Writes the attention of what it is shown; the file takes its name when all went well.

    Raises:
        UserError: where the ending names no format, or the file cannot be written.
    """
    for ending, writer in WRITERS.items():
        if path.name.endswith(ending):
            with replaced_when_done(path, sys.stdout) as file, writer(file) as watch:
                yield watch
            return
    raise UserError(f"--attention {path}: ends in none of {', '.join(WRITERS)}")
