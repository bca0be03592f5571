"""Workers, on one machine or several, that share the windows of one file which each of them reads."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from s2s_cli.dispatch import Dispatcher
from s2s_cli.errors import UserError
from s2s_cli.translate.bulk import can_go_on
from s2s_cli.translate.formats import Format
from s2s_cli.translate.streams import Answer, Window, Work, answer
from s2s_cli.translate.translator import Translator


def refuse_alone(
    source: Path | None, output: Path | None, others: Iterable[Path], *, looks: bool, processes: str, fresh: bool
) -> None:
    """Refuses what only one worker can do.

    Args:
        source, output, others: files, as for `can_go_on`.
        looks: whether attention is to be seen.
        processes: of --workers.
        fresh: whether what was begun is to be forgotten.

    Raises:
        UserError: saying what to do.
    """
    if not can_go_on(source, output, others):
        raise UserError(
            "several workers translate a file to a file, not streams, which no two can share: name regular files on a "
            "shared disk with --input and --output (and --prefix and --terminology), or start one worker"
        )
    if looks:
        raise UserError("--attention and --show-attention see what one worker does: leave them out, or start one")
    if processes != "1":
        raise UserError(
            f"--workers {processes}: the workers that were started together share the work already: leave it out, and "
            "have torchrun start as many as there are cores (--nproc-per-node)"
        )
    if fresh:
        raise UserError(
            f"--fresh: torchrun may start this again, which would begin anew each time: remove {output}.part"
        )


def divided(dispatcher: Dispatcher, translator: Translator, form: Format) -> Work:
    """The windows divided among the workers: the first one has the answers, the others give it theirs.

    All see the same windows, as long as they read the same regular file from the same line on.
    """
    translator.between_batches = dispatcher.still_there

    def work(windows: Iterator[Window]) -> Generator[Answer, None, None]:
        numbered = enumerate(windows)

        def piece(number: int) -> dict[str, Any] | None:
            window = next((window for at, window in numbered if at == number), None)
            if window is None:
                return None
            found = answer(translator, form, window)
            return {**found._asdict(), "output": found.output.decode()}

        for found in dispatcher.results(piece):
            yield Answer(**{**found, "output": found["output"].encode()})

    return work
