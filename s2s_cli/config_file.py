"""Config files: YAML in, a checked `Config` out, and back; errors name file, line and key, and what is allowed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from s2s_cli import yaml12
from s2s_cli.config import CHANGEABLE, Config, DecodingConfig
from s2s_cli.config_section import Section
from s2s_cli.errors import UserError, suggest
from s2s_cli.files import is_there, names_files
from s2s_cli.yaml12 import KeyPath

MOST_PROBLEMS = 20
MOST_RESOLVED = 1 << 24
"""Characters of a config that `dump_config` wrote: every key, whole paths."""
ONE_OR_MORE = (("data", "train"), ("data", "test"))
"""Keys of a list, or of one of its items alone."""

_INDEX = re.compile(r"[0-9]{1,5}")
_KEY = re.compile(r"(?!constrained-)[a-z0-9_+-]+")
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, made safe for readers of YAML 1.2: it knows only which words 1.1 would misread."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"'
    ),
)

AnySection = TypeVar("AnySection", bound=Section)


def load_config(path: Path, overrides: Sequence[str] = (), *, files_exist: bool = False) -> Config:
    """Reads a config file.

    Args:
        path: the YAML file; relative paths in it are taken from its folder.
        overrides: `section.key=value`, the value in YAML; relative paths in them are taken from the working directory.
        files_exist: also refuse a config that names files which are not there.

    Raises:
        UserError: naming file, line and key, what is allowed, and the nearest key where one is unknown.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot read the config: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    unset: dict[KeyPath, str] = {}
    data, lines = yaml12.parse(text.removeprefix("\ufeff"), str(path), unset=unset)
    if not isinstance(data, dict):
        raise UserError(f"{path}: a config is a mapping of sections: {', '.join(Config.model_fields)}")
    from_options = [_override(data, option) for option in overrides]
    for place, problem in unset.items():
        if not _within(place, from_options):
            raise UserError(problem)
    config = _validate(data, lines, str(path), path.resolve().parent, from_options)
    if files_exist:
        _refuse_missing_files(config, lines, str(path), from_options)
    return config


def parse_config(text: str, name: str, folder: Path) -> Config:
    """Reads what `dump_config` wrote: as `load_config` from a file in `folder`, but every value stands for itself."""
    data, lines = yaml12.parse(text, name, fill=False, most=MOST_RESOLVED)
    return _validate(data, lines, name, folder, [])


def dump_config(config: Config, *, comments: bool = False) -> str:
    """The config as YAML that reads back equal: by `parse_config`, as a run keeps it. With `comments` every key has its
    meaning beside it, and it is `load_config` that reads it."""
    data = config.model_dump(mode="json")
    if not comments:
        return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    return "\n".join(_commented(Config, yaml12.unfilled(data), "")) + "\n"


def schema() -> dict[str, Any]:
    """The JSON schema of a config file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "s2s config",
    }


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ in a way that makes another run of it: `section.key` to (old, new)."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key) and key not in CHANGEABLE]
    return {key: (before.get(key), after.get(key)) for key in keys}


def with_names_of(other: Config, config: Config) -> Config:
    """A config with the file names of another, where both have one: of texts, and of what is no more where it was."""
    names: dict[KeyPath, Path] = {}

    def note(path: Path, at: KeyPath) -> Path:
        if at[0] == "data" or not is_there(path):
            names[at] = path
        return path

    _map_paths(other, (), note)
    renamed = _map_paths(config, (), lambda path, at: names.get(at, path))
    assert isinstance(renamed, Config)
    return renamed


def change(section: AnySection, changes: dict[str, Any], name: str) -> AnySection:
    """A section with some values changed, checked as if it had been read so.

    Raises:
        UserError: where a value is not allowed, or has no use.
    """
    try:
        changed = type(section).model_validate({**section.model_dump(), **changes})
    except ValidationError as error:
        problems = [_problem({**item, "loc": (name, *item["loc"])}) for item in error.errors()]
        raise UserError("\n".join(dict.fromkeys(problems))) from None
    if told := changed.without_use(changes):
        raise UserError(f"{name}: {told}")
    return changed


def change_decoding(decoding: DecodingConfig, changes: dict[str, Any]) -> DecodingConfig:
    """As `change`; another search begins without what it has no use for."""
    return change(decoding.for_search(changes.get("search")), changes, "decoding")


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of options those that are not None, which leaves a key as it is; to be given to `change`."""
    return {name: value for name, value in options.items() if value is not None}


def settings_of(section: str, options: Sequence[str]) -> dict[str, Any]:
    """What `section.key=value`, the value in YAML, asks for in one section, to be given to `change`.

    Raises:
        UserError: where one is of another section.
    """
    data: dict[str, Any] = {}
    for option in options:
        if not option.strip().startswith(f"{section}."):
            raise UserError(f"--set {option}: a run has all but {section} for good: write {section}.KEY=VALUE")
        _override(data, option)
    return dict(data.get(section, {}))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    dot = f"{prefix}." if prefix else ""
    return {key: leaf for name, item in value.items() for key, leaf in _flat(item, f"{dot}{name}").items()}


def _override(data: dict[str, Any], option: str) -> KeyPath:
    key, equals, text = option.partition("=")
    parts = key.strip().split(".")
    if not equals or "" in parts:
        raise UserError(f"--set {option}: write section.key=value, for example --set training.max_steps=200")
    value, _ = yaml12.parse(text, f"--set {key}")
    place: Any = data
    keys: list[str | int] = []
    for number, part in enumerate(parts, 1):
        last = number == len(parts)
        if isinstance(place, list) and _INDEX.fullmatch(part) and int(part) < len(place):
            keys.append(int(part))
            if last:
                place[int(part)] = value
            place = place[int(part)]
        elif part == "0" and tuple(keys) in ONE_OR_MORE and not last:
            keys.append(0)  # of one text alone, which needs no list
        elif isinstance(place, dict) and not (_INDEX.fullmatch(part) and tuple(keys) in ONE_OR_MORE):
            keys.append(part)
            if last:
                place[part] = value
            elif place.get(part) is None:  # a section that is not there, or blank
                place[part] = {}
            place = place[part]
        else:
            raise UserError(f"--set {option}: '{'.'.join(parts[: number - 1])}' is not a section that has '{part}'")
    return tuple(keys)


def _validate(data: Any, lines: dict[KeyPath, int], name: str, folder: Path, from_options: Sequence[KeyPath]) -> Config:
    try:
        # Through JSON, since strict mode takes JSON's lists and strings for tuples and paths.
        config = Config.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        found = [dict(item) for item in error.errors()]
        wrong = {place[:end] for place in map(_place, found) for end in range(len(place))}
        found = [item for item in found if item["type"] != "too_short" or _place(item) not in wrong]
        problems = [_describe(item, lines, name, from_options) for item in found[: MOST_PROBLEMS + 1]]
        if len(found) > MOST_PROBLEMS:
            problems[MOST_PROBLEMS:] = [f"{name}: and {len(found) - MOST_PROBLEMS:,} problems more"]
        raise UserError("\n".join(dict.fromkeys(problems))) from None

    def absolute(path: Path, at: KeyPath) -> Path:
        given = _within(at, from_options)
        return path if path.is_absolute() else (Path.cwd() if given else folder) / path

    resolved = _map_paths(config, (), absolute)
    assert isinstance(resolved, Config)
    return resolved


def _map_paths(value: Any, at: KeyPath, change: Any) -> Any:
    """A copy of a config value in which every path has gone through `change`."""
    if isinstance(value, Path):
        return change(value, at)
    if isinstance(value, tuple):
        return tuple(_map_paths(item, (*at, i), change) for i, item in enumerate(value))
    if isinstance(value, BaseModel):
        fields = {name: _map_paths(getattr(value, name), (*at, name), change) for name in type(value).model_fields}
        return value.model_copy(update=fields)
    return value


def _describe(error: dict[str, Any], lines: dict[KeyPath, int], name: str, from_options: Sequence[KeyPath]) -> str:
    return f"{_where(_place(error), lines, name, from_options)}: {_problem(error)}"


def _place(error: dict[str, Any]) -> KeyPath:
    """Where an error is; pydantic also puts the branch of a union, or "[key]", there."""
    return tuple(
        part
        for end, part in enumerate(error["loc"], 1)
        if isinstance(part, int)
        or _KEY.fullmatch(part)
        or (end == len(error["loc"]) and error["type"] == "extra_forbidden")
    )


def _problem(error: dict[str, Any]) -> str:
    """The key of an error, and what is wrong with it."""
    kind, given, place = error["type"], error.get("input"), _place(error)
    key = ".".join(str(part) for part in place)
    if kind == "extra_forbidden":
        return f"unknown key {key}: {suggest(str(place[-1]), _keys_at(place[:-1]))}"
    if kind == "missing":
        return f"{key} is missing"
    if kind == "value_error":
        return f"{key + ': ' if key else ''}{error['ctx']['error']}"
    hint = ""
    if kind == "literal_error" and isinstance(given, str):
        choices = [choice.strip(" '") for choice in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        hint = f": {suggest(given, choices)}"
    message = error["msg"].removeprefix("Input ")
    return f"{key}: {message}, not {json.dumps(given, default=str, ensure_ascii=False)[:80]}{hint}"


def _where(place: KeyPath, lines: dict[KeyPath, int], name: str, from_options: Sequence[KeyPath]) -> str:
    """File and line of a place, or the option that gave it."""
    if _within(place, from_options):
        return "--set"
    known = max((path for path in (place, _words(place)) for path in _prefixes(path, lines)), key=len, default=())
    where = f"{name}:{lines[known]}" if known in lines else name
    partly = any(option[: len(place)] == place != () for option in from_options)
    return f"{where} and --set" if partly else where


def _refuse_missing_files(
    config: Config, lines: dict[KeyPath, int], name: str, from_options: Sequence[KeyPath]
) -> None:
    problems = []

    def look(path: Path, at: KeyPath) -> Path:
        if at != ("training", "init_from") and not names_files(path):
            key = ".".join(map(str, _words(at)))
            what = "a folder, not a file" if os.path.isdir(path) else "no such file"  # noqa: PTH112
            problems.append(f"{_where(at, lines, name, from_options)}: {key}: {what}: {path}")
        return path

    _map_paths(config, (), look)
    if problems:
        raise UserError("\n".join(problems))


def _prefixes(place: KeyPath, lines: dict[KeyPath, int]) -> list[KeyPath]:
    return [place[:end] for end in range(len(place) + 1) if place[:end] in lines]


def _words(place: KeyPath) -> KeyPath:
    """A place without its indices: where a single mapping stands for a list of one, it has none in the file."""
    return tuple(part for part in place if isinstance(part, str))


def _within(place: KeyPath, options: Sequence[KeyPath]) -> bool:
    """Whether a value was given by one of the options."""
    return any(path[: len(option)] == option for option in options for path in (place, _words(place)))


def _keys_at(place: KeyPath) -> list[str]:
    """The keys that the section at `place` allows."""
    section: Any = Config
    for part in (part for part in place if isinstance(part, str)):
        fields: dict[str, FieldInfo] = getattr(section, "model_fields", {})
        if part in fields:
            section = next(_sections(fields[part].annotation), None)
    return list(getattr(section, "model_fields", {}))


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The config sections named anywhere in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _commented(section: type[BaseModel], data: dict[str, Any], indent: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        value, meaning = data[name], " ".join((field.description or "").split())
        inner = field.annotation
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
            yield f"{indent}{name}:  # {meaning}"
            yield from _commented(inner, value, indent + "  ")
        else:
            text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**6)
            yield f"{indent}{name}: {text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}  # {meaning}"
