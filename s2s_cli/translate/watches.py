"""Who is shown each translation beside the one who reads it: files of attention, pictures of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from s2s_cli.translate.attention_file import Watch, attention_file
from s2s_cli.translate.translator import Translator


@contextmanager
def watching(
    translator: Translator, *, alignments: bool, attention: Path | None, show_attention: bool
) -> Iterator[list[Watch]]:
    """Inside, those who were asked for are there; the translator gives attention where any of them needs it.

    Args:
        translator: of the translations.
        alignments: whether they will be told.
        attention: a file for the weights.
        show_attention: draw them on standard error.

    Raises:
        UserError: where the model has no attention, or the file cannot be written.
    """
    needing = {"--alignments": alignments, "--attention": attention is not None, "--show-attention": show_attention}
    for option in (option for option, given in needing.items() if given):
        translator.look(option)
    with ExitStack() as stack:
        watches = [stack.enter_context(attention_file(attention))] if attention else []
        if show_attention:
            from s2s_cli.translate.heat_map import draw  # rich takes a while to load

            watches.append(draw())
        yield watches
