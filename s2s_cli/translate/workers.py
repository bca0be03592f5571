"""Processes that share the windows of one input: each has the model and one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from s2s_cli.errors import UserError
from s2s_cli.processes import cores, share
from s2s_cli.translate.attention_file import Watch
from s2s_cli.translate.formats import Format
from s2s_cli.translate.streams import Answer, Window, Work, alone, answer
from s2s_cli.translate.translator import Translator
from s2s_cli.translate.wishes import Wishes

Load = Callable[[], Translator]
"""Makes the translator, in any process: what it holds must be such that can be sent there."""


def count_workers(asked: str, device: torch.device) -> int:
    """What --workers means.

    Raises:
        UserError: where it is no number, or the device is one that processes cannot share.
    """
    if asked == "auto":
        return cores() if device.type == "cpu" else 1
    if not asked.isdecimal() or not 0 < int(asked) <= 10_000:
        raise UserError(f"--workers {asked}: give a number from 1, or auto (one a core)")
    if int(asked) > 1 and device.type != "cpu":
        raise UserError(
            f"--workers {asked}: workers share the cores of a processor, but this model runs on {device.type}, which "
            "one process fills: leave --workers out, or give --device cpu"
        )
    return int(asked)


def shared(translator: Translator, load: Load, form: Format, workers: int, watches: Sequence[Watch] = ()) -> Work:
    """The windows shared by some processes; by this one alone where one is enough.

    Raises:
        UserError: where watches would have to see what others do.
    """
    if workers == 1:
        return alone(translator, form, watches)
    if watches:
        raise UserError("--attention and --show-attention see what this process does: leave them out, or --workers")
    make = partial(_answering, load, translator.wishes, translator.keep_attention, form)
    return partial(share, make, workers, remedy="lower --workers or --batch-size")


def _answering(load: Load, wishes: Wishes, keep_attention: bool, form: Format) -> Callable[[Window], Answer]:
    """What answers windows, by another translator like the first."""
    translator = load()
    translator.wishes, translator.keep_attention = wishes, keep_attention
    return partial(answer, translator, form)
