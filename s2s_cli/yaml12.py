"""A strict reader of YAML 1.2 values that remembers on which line each key stood.

Scalars follow the core schema of YAML 1.2 (`1e-3` is a number, `no` is a string). Duplicate keys, aliases, tags
and deep nesting are refused: a config is a tree of plain values, and reading one never runs or multiplies anything.
"""

from __future__ import annotations

import os
import re
from typing import Any, TypeAlias

import yaml

from s2s_cli.errors import UserError

KeyPath: TypeAlias = tuple[str | int, ...]

MAX_CHARACTERS = 250_000
MAX_DEPTH = 20
MAX_KEY = 200

_NO_TEXT = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # controls, line ends, half characters
_VARIABLE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _refusal(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


class _Reader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2, and without aliases or deep nesting."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (as the base class declares it)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases are not allowed", event)
        if getattr(event, "anchor", None):
            raise _refusal("anchors are not allowed: write the value in each place", event)
        if getattr(event, "tag", None):
            raise _refusal(f"the tag {event.tag} is not allowed", event)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _refusal(f"nested deeper than {MAX_DEPTH}", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


# YAML 1.2.2, section 10.3.2: the core schema.
for _tag, _pattern in (
    ("null", r"null|Null|NULL|~|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
):
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), None)


def parse(
    text: str, name: str, *, fill: bool = True, unset: dict[KeyPath, str] | None = None, most: int = MAX_CHARACTERS
) -> tuple[Any, dict[KeyPath, int]]:
    """Reads one document into plain values, and the line of every key path (from 1).

    Args:
        text: the document. `${NAME}` in a scalar is filled from the environment before its type is read; `$${NAME}`
            stands for `${NAME}` itself.
        name: what to call the document in errors, usually the file's name.
        fill: whether `${NAME}` means a variable; not in a document that was filled once already.
        most: characters that the document may have.
        unset: takes up the places of variables that are not set, with an error for each; default: raise it.

    Raises:
        UserError: where the text is not YAML or uses what is refused; names the line.
    """
    if len(text) > most:
        raise UserError(f"{name}: larger than {most:,} characters, this is no config")
    lines: dict[KeyPath, int] = {}
    try:
        reader = _Reader(text)
        try:
            node = reader.get_single_node()
            value = None if node is None else _value(reader, node, (), lines, name, fill, unset)
        finally:
            reader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        here = text.splitlines()[mark.line : mark.line + 1] if mark else []
        quoted = ': quote what holds a variable: "${NAME}/train.en"' if "${" in "".join(here) else ""
        raise UserError(f"{name}{where}: {error.problem or error.context}{quoted}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from None
    return value, lines


def _value(
    reader: _Reader,
    node: Any,
    path: KeyPath,
    lines: dict[KeyPath, int],
    name: str,
    fill: bool,
    unset: dict[KeyPath, str] | None,
) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"{name}:{key_line}: a key must be a word")
            key = str(key_node.value)
            if len(key) > MAX_KEY or _NO_TEXT.search(key):
                raise UserError(f"{name}:{key_line}: no key is {key[:40]!a}: too long, or it cannot be printed")
            if key in mapping:
                raise UserError(f"{name}:{key_line}: the key '{key}' stands here twice")
            lines[(*path, key)] = key_line
            mapping[key] = _value(reader, value_node, (*path, key), lines, name, fill, unset)
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_value(reader, item, (*path, i), lines, name, fill, unset) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        where = f"{name}:{line}: {'.'.join(map(str, path))}"
        names = [name for escaped, name in _VARIABLE.findall(node.value) if not escaped] if fill else []
        missing = [name for name in names if name not in os.environ]
        if missing:
            problem = (
                f"{where}: the environment variable {missing[0]} is not set; set it, or write the value here "
                f"($${{{missing[0]}}} stands for ${{{missing[0]}}} itself)"
            )
            if unset is None:
                raise UserError(problem)
            unset[path] = problem
        return _scalar(reader, node, where, fill)
    raise UserError(f"{name}:{line}: the tag {node.tag} is not allowed")


def _filled(match: re.Match[str]) -> str:
    return match[0][1:] if match[1] else os.environ.get(match[2], match[0])


def unfilled(value: Any) -> Any:
    """The same with each `${NAME}` written so that it is not filled when it is read."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: f"${match[0]}", value)
    if isinstance(value, dict):
        return {key: unfilled(item) for key, item in value.items()}
    return [unfilled(item) for item in value] if isinstance(value, list) else value


def _scalar(reader: _Reader, node: yaml.ScalarNode, where: str, fill: bool) -> Any:
    text = _VARIABLE.sub(_filled, node.value) if fill else str(node.value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{where}: this text holds half a character (a surrogate)")
    plain = node.style is None
    changed = plain and text != node.value
    tag = reader.resolve(yaml.ScalarNode, text, (True, False)) if changed else node.tag  # type: ignore[no-untyped-call]
    match tag.removeprefix("tag:yaml.org,2002:"):
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            if len(text) > 300:
                raise UserError(f"{where}: this number is too long")
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        case "float":
            return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))
    raise UserError(f"{where}: the tag {node.tag} is not allowed")
