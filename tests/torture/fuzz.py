"""Coverage-guided fuzzing of what reads a stranger's bytes: `make torture` runs it, for a minute each.

    python tests/torture/fuzz.py TARGET [options of libFuzzer]

A target ends in a value or in a `UserError`; anything else is a crash, and Atheris prints the input that made it.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["s2s_cli", "yaml"]):
    from s2s_cli import yaml12
    from s2s_cli.config_file import load_config
    from s2s_cli.errors import UserError
    from s2s_cli.run import RunDirectory, read_metrics
    from s2s_cli.translate.entry import MAX_LINE_BYTES
    from s2s_cli.translate.lines import read_windows, repair
    from s2s_cli.translate.objects import read_object, write_object

FOLDER = Path(tempfile.mkdtemp(prefix="s2s-fuzz-"))
LINE_BREAKS = set("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\0")


def config(data: bytes) -> None:
    path = FOLDER / "config.yaml"
    path.write_bytes(data)
    load_config(path)


def yaml(data: bytes) -> None:
    yaml12.parse(data.decode("utf-8", "replace"), "fuzz")


def run(data: bytes) -> None:
    """All small files of a run directory, of one content."""
    directory = RunDirectory(FOLDER / "run")
    (FOLDER / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
    for path in (directory.config_path, directory.metrics_path, directory.path / "best"):
        path.write_bytes(data)
    read_metrics(directory.metrics_path)
    for read in (lambda: directory.pointer("best"), directory.read_config):
        try:
            read()
        except UserError:
            continue


def lines(data: bytes) -> None:
    """As many lines as there are, each one line, none longer than it may be."""
    path = FOLDER / "lines"
    path.write_bytes(data)
    with open(path, "rb") as file:
        found = [line for window in read_windows(file) for line in window]
    assert len(found) == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    for line in found:
        assert len(line) <= MAX_LINE_BYTES + 1
        assert not LINE_BREAKS & set(repair(line)[0].source)


def objects(data: bytes) -> None:
    """What is read as an object goes through as it is, and stays one line."""
    text = data.decode("utf-8", "replace").replace("\n", " ")
    try:
        members = read_object(text)
    except ValueError:
        return
    line = write_object(members, {"translation": "a"})
    assert not LINE_BREAKS & set(line)
    assert [*read_object(line)] == [name for name in members if name != "translation"] + ["translation"]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "config": config,
    "yaml": yaml,
    "run": run,
    "lines": lines,
    "objects": objects,
}


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]

    def test_one(data: bytes) -> None:
        try:
            target(data)
        except UserError as error:
            assert str(error)

    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, path in enumerate(sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))):
        (corpus / str(number)).write_bytes(path.read_bytes())
    (corpus / "json").write_text(json.dumps({"step": 1, "scores": {"bleu": 1.0}}))
    (corpus / "pointer").write_text("step-00000010\n")
    atheris.Setup([*sys.argv, str(corpus), f"-artifact_prefix={FOLDER}{os.sep}"], test_one)
    sys.stderr = io.TextIOWrapper(sys.stderr.buffer, line_buffering=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
