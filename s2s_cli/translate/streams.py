"""Files and pipes through a translator: N lines in, N lines out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain, islice, product
from pathlib import Path
from typing import BinaryIO

from s2s_cli.data.features import FORMATS as FEATURE_FILES
from s2s_cli.data.features import FeatureSequences, open_features
from s2s_cli.errors import UserError
from s2s_cli.files import open_binary
from s2s_cli.translate.attention_file import Watch
from s2s_cli.translate.entry import Refused
from s2s_cli.translate.formats import Format, Item, choose_format
from s2s_cli.translate.translator import Translator


def translate_file(
    translator: Translator,
    path: Path | None,
    output: BinaryIO,
    form: Format | None = None,
    watches: Sequence[Watch] = (),
) -> None:
    """Translates what the model reads: the lines of a file, or of standard input where none is named, or the items
    of a file of feature vectors.

    Raises:
        UserError: where the file cannot be read, or is of another kind.
    """
    source = translator.tokenizer.source.config
    if source.kind == "features":
        if path is None:
            raise UserError(
                "this model reads feature vectors, which standard input cannot hold: name a file with --input "
                f"({' or '.join(FEATURE_FILES)})"
            )
        translate_lines(translator, open_features([path], source.size), output, form, watches)
        return
    if path is not None and path.suffix in FEATURE_FILES:
        raise UserError(f"{path}: feature vectors, but this model reads lines of text (its source.kind is text)")
    with open_binary(path, sys.stdin) as lines:
        translate_lines(translator, lines, output, form, watches)


def translate_lines(
    translator: Translator,
    source: BinaryIO | FeatureSequences,
    output: BinaryIO,
    form: Format | None = None,
    watches: Sequence[Watch] = (),
) -> None:
    """Translates lines as they come, whatever bytes they hold, or items: N in, N out, in order.

    Args:
        translator: says how to decode too.
        source: lines with a descriptor, or items.
        output: each window of lines is written and flushed when it is done.
        form: of both; default: lines of text.
        watches: are shown each translation that is written.

    Raises:
        UserError: where what is asked of a line contradicts itself.
    """
    form = form or choose_format(translator.config, translator.tokenizer.source.config.kind)
    done = 0
    for window in form.windows(source, translator.notices):
        translate_window(translator, window, done, output, form, watches)
        done += len(window)


def translate_window(
    translator: Translator, window: Sequence[Item], first: int, output: BinaryIO, form: Format, watches: Sequence[Watch]
) -> None:
    """As `translate_lines`, of items that were read, the first of which has that index."""
    asked = [form.entries(item) for item in window]
    try:
        found = iter(translator.translate(list(chain.from_iterable(asked))))
    except Refused as error:
        lines = [first + at for at, entries in enumerate(asked, 1) for _ in entries]
        raise UserError(f"line {lines[error.place]}: {error}") from None
    for index, (item, entries) in enumerate(zip(window, asked, strict=True), first):
        translations = list(islice(found, len(entries)))
        output.write(form.render(index, item, translations).encode())
        for watch, best in product(watches, form.best(item, translations) if watches else ()):
            watch(best)
    translator.notices.add(lines=len(window))
    output.flush()
