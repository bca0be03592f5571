"""Files and pipes through a translator: N lines in, N lines out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from s2s_cli.data.features import FORMATS, open_features
from s2s_cli.errors import UserError
from s2s_cli.files import open_binary
from s2s_cli.translate.attention_file import Watch
from s2s_cli.translate.entry import Entry
from s2s_cli.translate.insight import Insight
from s2s_cli.translate.lines import LAST_WINDOW, read_windows, repair
from s2s_cli.translate.translator import Translator


def translate_file(
    translator: Translator,
    path: Path | None,
    output: BinaryIO,
    insight: Insight = Insight(),
    watches: Sequence[Watch] = (),
) -> None:
    """Translates what the model reads: the lines of a file, or of standard input where none is named, or the items
    of a file of feature vectors.

    Args:
        translator, path: from what to what.
        output: for the lines.
        insight: what stands behind the text.
        watches: are shown the translation of every line that is written.

    Raises:
        UserError: where the file cannot be read, or is of another kind.
    """
    source = translator.tokenizer.source.config
    if source.kind == "features":
        if path is None:
            raise UserError(
                "this model reads feature vectors, which standard input cannot hold: name a file with --input "
                f"({' or '.join(FORMATS)})"
            )
        items = open_features([path], source.size)
        windows = (items[start : start + LAST_WINDOW] for start in range(0, len(items), LAST_WINDOW))
        _give(translator, output, ([Entry(item) for item in window] for window in windows), insight, watches)
        return
    if path is not None and path.suffix in FORMATS:
        raise UserError(f"{path}: feature vectors, but this model reads lines of text (its source.kind is text)")
    with open_binary(path, sys.stdin) as lines:
        translate_lines(translator, lines, output, insight, watches)


def translate_lines(
    translator: Translator,
    source: BinaryIO,
    output: BinaryIO,
    insight: Insight = Insight(),
    watches: Sequence[Watch] = (),
) -> None:
    """Translates lines as they come: N lines in, N lines out, in order, whatever bytes they hold."""

    def entries(window: Sequence[bytes]) -> list[Entry]:
        repaired = [repair(line) for line in window]
        translator.notices.add(repaired=sum(changed for _, changed in repaired))
        return [entry for entry, _ in repaired]

    _give(translator, output, (entries(window) for window in read_windows(source)), insight, watches)


def _give(
    translator: Translator,
    output: BinaryIO,
    windows: Iterable[Sequence[Entry]],
    insight: Insight,
    watches: Sequence[Watch],
) -> None:
    """Translates windows of entries, and writes a line for each.

    With `n_best` over one, each gives that many lines `index ||| text ||| score`, the index from 0.
    """
    n_best, done = translator.config.n_best, 0
    for entries in windows:
        for index, translations in enumerate(translator.translate(entries), done):
            for rank in range(n_best):
                # A search may find fewer than were asked for; the count of lines must not depend on it.
                item = translations[min(rank, len(translations) - 1)]
                text = item.text if n_best == 1 else f"{index} ||| {item.text} ||| {item.score:.4f}"
                output.write(f"{text}{insight.suffix(item)}\n".encode())
                for watch in watches:
                    watch(item)
        done += len(entries)
        translator.notices.add(lines=len(entries))
        output.flush()
