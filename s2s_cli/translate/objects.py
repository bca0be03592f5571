"""JSON objects of which most goes through untouched: fields are read, and kept as they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

_WHITE = re.compile(r"[ \t\r\n]*")
# To some readers these end a line, or they have no place in UTF-8; in JSON they can only stand in strings.
_TO_ESCAPE = re.compile("[\x85\u2028\u2029\ud800-\udfff]")


class Member(NamedTuple):
    """A field of an object."""

    text: str
    """Name and value, as written."""
    value: Any
    """As Python holds it, but for numbers, which nobody reads here: 0."""


_dump = partial(json.dumps, ensure_ascii=False)


def _unread(digits: str) -> int:
    """However many digits there are, they cost nothing, and need not fit."""
    return 0


_DECODER = json.JSONDecoder(parse_int=_unread, parse_float=_unread)


def read_object(text: str) -> dict[str, Member]:
    """The fields of a JSON object, in order; of those of one name the last stands.

    Raises:
        ValueError: where the text is no JSON object, or is nested too deeply.
    """
    members: dict[str, Member] = {}
    _, at = _mark("{", text, 0)
    try:
        more = not text.startswith("}", at)
        if not more:
            _, at = _mark("}", text, at)
        while more:
            start = at
            name, at = _DECODER.raw_decode(text, start)
            if not isinstance(name, str):
                raise json.JSONDecodeError("Expecting a name in double quotes", text, start)
            _, at = _mark(":", text, at)
            value, end = _DECODER.raw_decode(text, at)
            members[name] = Member(text[start:end], value)
            mark, at = _mark(",}", text, end)
            more = mark == ","
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if at < len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return members


def _mark(marks: str, text: str, at: int) -> tuple[str, int]:
    """The next of some marks, and where reading goes on; white space around it is passed over."""
    at = _after_white(text, at)
    if at == len(text) or text[at] not in marks:
        raise json.JSONDecodeError(f"Expecting {' or '.join(map(repr, marks))}", text, at)
    return text[at], _after_white(text, at + 1)


def _after_white(text: str, at: int) -> int:
    found = _WHITE.match(text, at)
    return found.end() if found else at


def write_object(members: Mapping[str, Member], added: Mapping[str, Any]) -> str:
    """An object on one line: members as they were written, but those that are added anew."""
    kept = [member.text for name, member in members.items() if name not in added]
    new = [f"{_dump(name)}: {_dump(value)}" for name, value in added.items()]
    line = f"{{{', '.join([*kept, *new])}}}".replace("\r", " ")  # as it is, it can only be white space
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)
