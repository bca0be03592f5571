"""Files and pipes through a translator: N lines in, N lines out."""

from __future__ import annotations

import sys
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from s2s_cli.data.features import FORMATS as FEATURE_FILES
from s2s_cli.data.features import FeatureSequences, open_features
from s2s_cli.errors import UserError
from s2s_cli.files import open_binary
from s2s_cli.translate.formats import Format, choose_format
from s2s_cli.translate.translator import Translator


def translate_file(translator: Translator, path: Path | None, output: BinaryIO, form: Format | None = None) -> None:
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
        translate_lines(translator, open_features([path], source.size), output, form)
        return
    if path is not None and path.suffix in FEATURE_FILES:
        raise UserError(f"{path}: feature vectors, but this model reads lines of text (its source.kind is text)")
    with open_binary(path, sys.stdin) as lines:
        translate_lines(translator, lines, output, form)


def translate_lines(
    translator: Translator, source: BinaryIO | FeatureSequences, output: BinaryIO, form: Format | None = None
) -> None:
    """Translates lines as they come, whatever bytes they hold, or items: N in, N out, in order.

    Args:
        translator: says how to decode too.
        source: lines with a descriptor, or items.
        output: each window of lines is written and flushed when it is done.
        form: of both; default: lines of text.
    """
    form = form or choose_format(translator.config, translator.tokenizer.source.config.kind)
    done = 0
    for window in form.windows(source, translator.notices):
        asked = [form.entries(item) for item in window]
        found = iter(translator.translate(list(chain.from_iterable(asked))))
        for index, (item, entries) in enumerate(zip(window, asked, strict=True), done):
            output.write(form.render(index, item, list(islice(found, len(entries)))).encode())
        done += len(window)
        translator.notices.add(lines=len(window))
        output.flush()
