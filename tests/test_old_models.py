"""A run of each format gives for ever what it gave when it was made; a later format is refused by its name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy

from s2s_cli.run import FORMAT

FROZEN = Path(__file__).parent / "frozen"


def test_there_is_a_run_of_each_format() -> None:
    assert sorted(path.name for path in FROZEN.glob("format-*")) == [f"format-{n}" for n in range(1, FORMAT + 1)]


@pytest.mark.parametrize("run", sorted(FROZEN.glob("format-*")), ids=lambda run: run.name)
def test_a_frozen_run_gives_what_it_gave(run: Path) -> None:
    source = (FROZEN / "source.txt").read_bytes()
    done = toy.s2s("translate", "--model", run, cwd=FROZEN, stdin=source)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == (run / "expected.txt").read_bytes()
    several = toy.s2s("translate", "--model", run, "--beam", 3, "--n-best", 2, cwd=FROZEN, stdin=source)
    scored = [row.split(" ||| ") for row in several.stdout.decode().splitlines()]
    expected = [row.split(" ||| ") for row in (run / "n-best.txt").read_text(encoding="utf-8").splitlines()]
    for found, wanted in zip(scored, expected, strict=True):
        assert found[:2] == wanted[:2]
        assert float(found[2]) == pytest.approx(float(wanted[2]), abs=2e-4)


def test_to_load_a_run_is_quick() -> None:
    """Without the second that PyTorch takes to import its symbolic mathematics."""
    program = (
        "import sys; from s2s_cli import Translator; Translator.load(sys.argv[1]); sys.exit('sympy' in sys.modules)"
    )
    command = [sys.executable, "-c", program, FROZEN / f"format-{FORMAT}"]
    assert subprocess.run(command, cwd=FROZEN.parent.parent, check=False).returncode == 0


def test_a_later_format_is_refused_by_its_name(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(FROZEN / f"format-{FORMAT}", run)
    config = run / "config.yaml"
    later = re.sub(
        rf"format {FORMAT}, written by s2s \S+,", f"format {FORMAT + 1}, written by s2s 9.0,", config.read_text()
    )
    config.write_text(later)
    done = toy.s2s("translate", "--model", run, cwd=tmp_path, stdin=b"copy a\n")
    assert done.returncode == 2
    assert f"a run of format {FORMAT + 1}, written by s2s 9.0".encode() in done.stderr
    assert done.stderr.count(b"\n") == 1
