"""The forms in which sources come and translations go: lines of text, TSV, JSON Lines."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from s2s_cli.config import DecodingConfig
from s2s_cli.data.corpus import read_lines
from s2s_cli.data.features import FeatureSequences, Vectors
from s2s_cli.errors import UserError, suggest
from s2s_cli.packing import PACKERS, refuse_packed
from s2s_cli.translate.documents import NOTHING, Divide, Document, Splitter, Whole, whole
from s2s_cli.translate.entry import MAX_LINE_BYTES, Entry, Notices, Translation
from s2s_cli.translate.insight import FIELDS, Insight
from s2s_cli.translate.lines import LAST_WINDOW, REPAIRS, SURROGATES, count_lines, read_windows, repair
from s2s_cli.translate.objects import Member, read_object, write_object

FIELD = "source"
_TRANSLATIONS = ("translation", "translations")
_ADDED = (*_TRANSLATIONS, "error", *FIELDS)
"""Fields of JSON Lines that are written here."""

TEXT_ALONE = Insight()

_TOO_LONG = f"longer than {MAX_LINE_BYTES:,} bytes"


class Item(NamedTuple):
    """A line or an item of features, as it was given, and what is translated of it."""

    given: Any
    document: Document
    error: str | None = None
    """Why it is not translated."""


@dataclass(frozen=True)
class Style:
    """What the output is like, whatever its format."""

    n_best: int = 1
    divide: Divide = whole
    shown: Insight = TEXT_ALONE
    field: str = FIELD
    """JSON Lines: that holds the source."""


class Format(Protocol):
    """How items are read, and their translations written."""

    def windows(self, source: BinaryIO | FeatureSequences, notices: Notices) -> Iterator[list[Item]]:
        """The items in order, in windows that grow, given out when the input pauses."""

    def line(self, number: int, line: bytes, notices: Notices) -> Item:
        """The item of a line, the number from 1."""

    def best(self, item: Item, translations: Sequence[list[Translation]]) -> list[Translation]:
        """Of the translations of an item's entries, those of the item: search may find fewer than `n_best`, and the
        count of lines must not depend on it."""

    def render(self, index: int, item: Item, best: Sequence[Translation]) -> str:
        """The output lines of an item, the index from 0, each with its LF."""


class _Items(ABC):
    """What formats share: a subclass says what a line is to it."""

    def __init__(self, style: Style) -> None:
        self.style = style

    def windows(self, source: BinaryIO | FeatureSequences, notices: Notices) -> Iterator[list[Item]]:
        if isinstance(source, FeatureSequences):
            for start in range(0, len(source), LAST_WINDOW):
                yield [_vectors(index, source[index]) for index in range(len(source))[start : start + LAST_WINDOW]]
            return
        done = 0
        for window in read_windows(source):
            if not done:
                refuse_packed(window[0])
            notices.add(bytes=sum(map(len, window)) + len(window))
            yield [self.line(number, line, notices) for number, line in enumerate(window, done + 1)]
            done += len(window)

    def best(self, item: Item, translations: Sequence[list[Translation]]) -> list[Translation]:
        found = item.document.join(translations)
        return found + found[-1:] * (self.style.n_best - len(found))

    @abstractmethod
    def line(self, number: int, line: bytes, notices: Notices) -> Item: ...


class Text(_Items):
    """Lines of text; with `n_best` over one each gives that many `index ||| text ||| score`, and a utility if any."""

    def render(self, index: int, item: Item, best: Sequence[Translation]) -> str:
        return "".join(f"{self._told(index, one)}\n" for one in best)

    def _told(self, index: int, translation: Translation) -> str:
        text = translation.text
        if self.style.n_best > 1:
            text = " ||| ".join([str(index), text, *_ranked_by(translation)])
        return text + self.style.shown.suffix(translation)

    def line(self, number: int, line: bytes, notices: Notices) -> Item:
        return Item(None, self.style.divide(_repaired(line, notices)))


class Tsv(_Items):
    """Lines of which the first column is translated: a column is added, with `n_best` over one also its figures, and
    what else is told in further ones. A line too long to be held, so that columns would be lost, gets an error there.
    """

    def render(self, index: int, item: Item, best: Sequence[Translation]) -> str:
        if item.error:
            return f"{item.given}\terror: {item.error}\n" * self.style.n_best
        return "".join(f"{item.given}\t{self._told(one)}\n" for one in best)

    def _told(self, translation: Translation) -> str:
        figures = _ranked_by(translation) if self.style.n_best > 1 else ()
        return "\t".join([translation.text.replace("\t", " "), *figures, *self.style.shown.parts(translation)])

    def line(self, number: int, line: bytes, notices: Notices) -> Item:
        if len(line) > MAX_LINE_BYTES:
            return Item("", NOTHING, f"line {number}: {_TOO_LONG}")
        entry = _repaired(line, notices)
        source, _, _ = str(entry.source).partition("\t")
        return Item(entry.source, self.style.divide(Entry(source)))


class JsonLines(_Items):
    """An object a line: to its fields a `translation` is added, and with `n_best` over one the `translations`, in the
    place of those of an earlier run.

    What cannot be read gets an `error` instead; a blank line stays blank.
    """

    def render(self, index: int, item: Item, best: Sequence[Translation]) -> str:
        if item.given is None:
            return "\n"
        added = {"error": item.error} if item.error else self._added(best)
        return f"{write_object(item.given, added)}\n"

    def _added(self, best: Sequence[Translation]) -> dict[str, Any]:
        told = self.style.shown.fields
        if self.style.n_best == 1:
            return {"translation": best[0].text, **told(best[0])}
        every = [
            {"text": one.text, **{name: round(figure, 4) for name, figure in one.ranked_by.items()}, **told(one)}
            for one in best
        ]
        return {"translation": best[0].text, "translations": every}

    def line(self, number: int, line: bytes, notices: Notices) -> Item:
        members: dict[str, Member] = {}
        if not line.strip():
            return Item(None, NOTHING)
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(_TOO_LONG)
            text = line.decode("utf-8", errors="replace").removeprefix("\ufeff")
            members = _as_given(read_object(text))
            source = _text(members, self.style.field)
            entry = _asked(source.replace("\r\n", "\n").translate(REPAIRS), members)
        except ValueError as error:
            said = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else error
            return Item(members, NOTHING, f"line {number}: {said}")
        if text.encode() != line or entry.source != source:
            notices.add(repaired=1)
        return Item(members, self.style.divide(entry))


def _as_given(members: Mapping[str, Member]) -> dict[str, Member]:
    """An object without what an earlier run added: figures, too, where there is a translation that they belong to."""
    old = _ADDED if any(name in members for name in _TRANSLATIONS) else ("error",)
    return {name: member for name, member in members.items() if name not in old}


def _vectors(index: int, vectors: Vectors) -> Item:
    """An item of features: an object that holds its index."""
    return Item({"index": Member(f'"index": {index}', index)}, Whole((Entry(vectors),)))


def _repaired(line: bytes, notices: Notices) -> Entry:
    """The entry of a line of text."""
    entry, changed = repair(line)
    if changed:
        notices.add(repaired=1)
    return entry


def _ranked_by(translation: Translation) -> list[str]:
    return [f"{figure:.4f}" for figure in translation.ranked_by.values()]


def _text(members: Mapping[str, Member], name: str) -> str:
    """A field that must hold text; halves of characters in it are replaced.

    Raises:
        ValueError: where there is none.
    """
    if name not in members:
        raise ValueError(f"no field {json.dumps(name)}")
    value = members[name].value
    if not isinstance(value, str):
        raise ValueError(f"the field {json.dumps(name)} must be a string")
    return value.translate(SURROGATES)


def _texts(members: Mapping[str, Member], name: str) -> tuple[str, ...]:
    """A field that holds a text or a list of them.

    Raises:
        ValueError: where it holds something else.
    """
    value = members[name].value
    several = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in several):
        raise ValueError(f"the field {json.dumps(name)} must be a string or a list of strings")
    return tuple(one.translate(SURROGATES) for one in several)


_CONTROLS: dict[str, Callable[[Mapping[str, Member], str], Any]] = {"prefix": _text, "force": _texts, "forbid": _texts}


def _asked(source: str, members: Mapping[str, Member]) -> Entry:
    """The entry of an object: its source, and what its fields ask of the translation.

    Raises:
        ValueError: where such a field does not hold text.
    """
    given = {name: read for name, read in _CONTROLS.items() if name in members and members[name].value is not None}
    return Entry(source, **{name: read(members, name) for name, read in given.items()})


FORMATS: dict[str, Callable[[Style], Format]] = {"text": Text, "tsv": Tsv, "jsonl": JsonLines}
_ENDINGS = {".tsv": "tsv", ".jsonl": "jsonl"}


def format_of(path: Path | None) -> str:
    """What the ending of a file's name, packed or not, says that it holds: text, where it says nothing."""
    if path is None:
        return "text"
    unpacked = path.with_suffix("") if path.suffix.lower() in PACKERS else path
    return _ENDINGS.get(unpacked.suffix.lower(), "text")


def read_written(kind: str, where: str, line: str) -> dict[str, Any]:
    """What a line of a file of translations says, as `s2s translate` writes them.

    Args:
        kind: what the file holds, by `format_of`.
        where: file and line, for errors.
        line: the line.

    Returns:
        The object, or one of the line alone, with its `translation`: empty where nothing was given to translate.

    Raises:
        UserError: where there is none, or a table does not say which column it is.
    """
    if kind == "tsv" and "\t" in line:
        raise UserError(
            f"{where}: a table, of which one column is the translation: give that alone (cut -f2 FILE > translations)"
        )
    found: Any = {"translation": line}
    if kind == "jsonl":
        try:
            found = json.loads(line) if line.strip() else {"translation": ""}
        except (ValueError, RecursionError):
            found = None
    text = found.get("translation") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise UserError(
            f"{where}: no object with a translation: give lines as `s2s translate` writes them, or text in a file "
            "that does not end in .jsonl"
        )
    return {**found, "translation": text.translate(SURROGATES)}


class Prefixed:
    """A format whose translations begin as the lines of a file say, one for each item; blank where they are free.

    Raises:
        UserError: where the file cannot be read, or its lines are not as many as the items.
    """

    def __init__(self, form: Format, path: Path) -> None:
        self._form, self._path, self._lines = form, path, list(read_lines(path))
        self.best, self.render, self.line = form.best, form.render, form.line

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_lines": []}  # another process is given lines that have their prefix

    def windows(self, source: BinaryIO | FeatureSequences, notices: Notices) -> Iterator[list[Item]]:
        """The items with their prefixes; of a file it is known before the first whether there are as many."""
        done, total = 0, len(self._lines)
        items = len(source) if isinstance(source, FeatureSequences) else count_lines(source)
        if items not in (None, total):
            raise self._unlike(f"{items:,}")
        for window in self._form.windows(source, notices):
            if done + len(window) > total:
                raise self._unlike("more")
            yield [
                _begun(item, line) for item, line in zip(window, self._lines[done : done + len(window)], strict=True)
            ]
            done += len(window)
        if done != total:
            raise self._unlike(f"{done:,}")

    def _unlike(self, items: str) -> UserError:
        lines = len(self._lines)
        return UserError(
            f"--prefix {self._path}: it has {lines:,} line{'' if lines == 1 else 's'}, and the input has {items}: give "
            "a line for each"
        )


def _begun(item: Item, prefix: str) -> Item:
    if not prefix or not item.document.entries:
        return item
    (entry,) = item.document.entries
    return item._replace(document=Whole((replace(entry, prefix=entry.prefix or prefix),)))


def choose_format(
    config: DecodingConfig,
    kind: str,
    *,
    name: str | None = None,
    path: Path | None = None,
    field: str | None = None,
    split: bool = False,
    language: str | None = None,
    shown: Insight = TEXT_ALONE,
) -> Format:
    """The format that options ask for.

    Args:
        config: how to decode.
        kind: of the sources, `text` or `features`.
        name: in FORMATS; default: what the path's ending says, of feature vectors text.
        path: of the file that is read, if it is one.
        field: JSON Lines: that holds the source; default: `source`.
        split: divide text into sentences.
        language: of the text that is divided; default: English.
        shown: what else is told of a translation; default: nothing.

    Raises:
        UserError: where there is no such format, options contradict each other, or the splitter's library is missing.
    """
    if name is None:
        name = format_of(path) if kind == "text" else "text"
    if name not in FORMATS:
        raise UserError(f"--format {name}: {suggest(name, FORMATS)}")
    features, n_best = kind == "features", config.n_best
    for wrong, message in (
        (field is not None and name != "jsonl", "--field names a field of JSON Lines: add --format jsonl"),
        (
            field in (*_ADDED, *_CONTROLS),
            f"--field {field}: this one has another meaning: give the source another name",
        ),
        (language is not None and not split, "--language is for --split, to find sentences: add --split"),
        (split and n_best > 1, f"--split joins sentences, and n_best is {n_best}: join the best with --n-best 1"),
        (features and split, "--split divides text, but this model reads feature vectors: leave it out"),
        (features and field is not None, "--field names text, but this model reads feature vectors: leave it out"),
        (features and name == "tsv", "--format tsv is text, but this model reads feature vectors: take text or jsonl"),
    ):
        if wrong:
            raise UserError(message)
    divide = Splitter(language or "en") if split else whole
    return FORMATS[name](Style(config.n_best, divide, shown, field or FIELD))
