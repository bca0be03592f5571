"""The prompt, on a terminal that is none: what is asked and what is answered, and where each goes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import toy
from terminal import Terminal

RUN = Path(__file__).parent / "frozen" / "format-1"
LINE, OTHER = "reverse c d", "copy a b"
WAITS = 0.5
"""Seconds from an echo until a key is surely waited for: a signal between the two is seen at the next key."""


@contextlib.contextmanager
def terminal(*arguments: object, folder: Path, output: Path | None = None, **environment: str) -> Iterator[Terminal]:
    own = Terminal("translate", "--model", RUN, *arguments, folder=folder, output=output, **environment)
    try:
        own.answer("Ctrl-D ends\n> ")
        yield own
    finally:
        own.close()


@pytest.fixture
def state(tmp_path: Path) -> dict[str, str]:
    """Where the history goes."""
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@cache
def piped(*arguments: object, lines: str) -> list[str]:
    """What comes out of a pipe."""
    done = toy.s2s("translate", "--model", RUN, *arguments, cwd=RUN, stdin=lines.encode())
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def test_lines_are_translated_as_from_a_pipe_and_commands_change_how(tmp_path: Path, state: dict[str, str]) -> None:
    best = piped(lines=f"{LINE}\n{OTHER}\n")
    several = piped("--beam", 3, "--n-best", 2, lines=f"{LINE}\n" * 3)
    with terminal(folder=tmp_path, **state) as own:
        assert own.ask(LINE) == best[0]
        assert own.ask(OTHER) == best[1]
        own.ask(":beam 3")
        own.ask(":n 2")
        found = own.ask(LINE).splitlines()
        assert [row.split(" ||| ")[:2] for row in found] == [row.split(" ||| ")[:2] for row in several[4:]]
        assert float(found[0].split(" ||| ")[2]) >= float(found[1].split(" ||| ")[2])
        assert own.ask(":beam") == "beam is 3"
        own.type("\x04")
        assert own.end() == 0


def rows(answer: str) -> list[list[str]]:
    """The fields of the lines of an answer that has scores."""
    return [line.split(" ||| ") for line in answer.splitlines() if "|||" in line]


def test_what_changes_how_shows_the_last_line_again(tmp_path: Path, state: dict[str, str]) -> None:
    best = piped(lines=f"{LINE}\n")[0]
    five = [line.split(" ||| ") for line in piped("--beam", 5, "--n-best", 5, lines=f"{OTHER}\n{LINE}\n")[5:]]
    with terminal(folder=tmp_path, **state) as own:
        assert own.ask(":n 1") == "", "there is no line yet"
        own.ask(OTHER)
        assert own.ask(LINE) == best
        found = own.ask(":n 5")
        assert "beam is now 5" in found
        assert [row[:2] for row in rows(found)] == [row[:2] for row in five]
        assert rows(own.ask(":beam 6"))[0][0] == "1", "it is still the second line"
        assert "lower n_best" in own.ask(":beam 4")
        own.ask(":n 1")
        assert own.ask(":beam 1") == piped("--beam", 1, lines=f"{LINE}\n")[0]
        assert own.ask(":attention").splitlines()[0] == piped("--beam", 1, lines=f"{LINE}\n")[0]


def test_samples_and_groups_are_raised_too(tmp_path: Path, state: dict[str, str]) -> None:
    diverse = "--search", "diverse", "--beam", 4, "--beam-groups", 2
    with terminal(*diverse, folder=tmp_path, **state) as own:
        own.ask(LINE)
        found = own.ask(":n 5")
        assert "beam is now 6" in found and len(rows(found)) == 5
    with terminal("--search", "sampling", "--samples", 2, folder=tmp_path, **state) as own:
        own.ask(LINE)
        found = own.ask(":n 3")
        assert "samples is now 3" in found and len(rows(found)) == 3
        assert "beam has no use with search sampling" in own.ask(":beam 5")


def test_a_line_that_contradicts_what_is_asked_ends_nothing(tmp_path: Path, state: dict[str, str]) -> None:
    with terminal("--keep", "numbers", "--forbid", "5", folder=tmp_path, **state) as own:
        told = own.ask("copy 5")
        assert "'5' in it is forbidden" in told and len(told.splitlines()) == 1
        assert own.ask(":n 1") == "", "what has no translation is not translated again"
        assert "give a line first" in own.ask(":attention")
        assert own.ask(LINE) == piped(lines=f"{LINE}\n")[0]
        own.type("\x04")
        assert own.end() == 0


def test_a_line_that_cannot_be_read_ends_nothing_either(tmp_path: Path, state: dict[str, str]) -> None:
    output, weights = tmp_path / "out.jsonl", tmp_path / "weights.jsonl"
    options = "--format", "jsonl", "--attention", weights
    with terminal(*options, folder=tmp_path, output=output, **state) as own:
        assert "line 1: " in own.ask("no object")
        assert own.ask(f'{{"source": "{LINE}"}}') == ""
        own.type("\x04")
        assert own.end() == 0
    assert output.read_text(encoding="utf-8").count("\n") == weights.read_text(encoding="utf-8").count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--prefix", "prefixes"), "name the file with --input"), (("--workers", 2), "one process")],
    ids=str,
)
def test_options_that_say_nothing_to_typed_lines_are_refused(
    options: tuple[object, ...], words: str, tmp_path: Path, state: dict[str, str]
) -> None:
    (tmp_path / "prefixes").write_text("a\n", encoding="utf-8")
    own = Terminal("translate", "--model", RUN, *options, folder=tmp_path, **state)
    try:
        assert words in " ".join(own.rest().split())
        assert own.end() == 2
    finally:
        own.close()


def test_attention_is_drawn_of_the_last_sentence(tmp_path: Path, state: dict[str, str]) -> None:
    with terminal(folder=tmp_path, **state) as own:
        assert "give a line first" in own.ask(":attention")
        translation = own.ask(LINE)
        drawn = own.ask(":attention").removeprefix(":attention").strip().splitlines()
        assert drawn[0] == translation
        rows = drawn[-len(translation.split()) - 1 :]
        assert [row.split()[0].lstrip("▁") for row in rows] == [*translation.split(), "</s>"]
        assert {len(row) for row in rows} == {len("</s> ") + 2 * (len(LINE.split()) + 1)}, "two columns for each piece"


def test_a_mistake_is_told_and_changes_nothing(tmp_path: Path, state: dict[str, str]) -> None:
    mistakes = {
        ":bean 3": "did you mean 'beam'?",
        ":beam many": "give a whole number",
        ":beam 0": "greater than or equal to 1",
        ":n 0": "greater than 0",
        ":n 5000": "decoding.beam",
        ":": "known: n, beam",
    }
    with terminal(folder=tmp_path, **state) as own:
        before = own.ask(LINE)
        for command, words in mistakes.items():
            assert words in own.ask(command)
            assert own.ask(LINE) == before


def test_help_tells_of_every_command_and_a_space_makes_a_line(tmp_path: Path, state: dict[str, str]) -> None:
    with terminal(folder=tmp_path, **state) as own:
        found = own.ask(":help")
        for command in (":n 5", ":beam 10", ":attention", ":help", ":quit"):
            assert command in found
        assert own.ask(" :help") == piped(lines=" :help\n")[0]
        own.type(":quit\n")
        assert own.end() == 0


@pytest.mark.parametrize("redirected", [False, True])
def test_ctrl_c_gives_up_the_line_and_sigterm_the_program(
    redirected: bool, tmp_path: Path, state: dict[str, str]
) -> None:
    output = tmp_path / "out.txt" if redirected else None
    with terminal(folder=tmp_path, output=output, **state) as own:
        own.type("what nobody wan")
        own.answer("wan")
        time.sleep(WAITS)
        own.type("\x03")
        own.answer()
        answer = own.ask(LINE)
        if output:
            answer = output.read_text(encoding="utf-8").strip()
        assert answer == piped(lines=f"{LINE}\n")[0]
        time.sleep(WAITS)
        own.process.send_signal(signal.SIGTERM)
        assert own.end() == 143


def test_standard_output_has_translations_alone(tmp_path: Path, state: dict[str, str]) -> None:
    output = tmp_path / "out.txt"
    with terminal(folder=tmp_path, output=output, **state) as own:
        for line in (":help", LINE, ":attention", "", ":bean", OTHER):
            own.ask(line)
        own.type("\x04")
        assert own.end() == 0
    assert output.read_text(encoding="utf-8").splitlines() == piped(lines=f"{LINE}\n\n{OTHER}\n")


def test_lines_are_called_back_in_a_later_session(tmp_path: Path, state: dict[str, str]) -> None:
    pytest.importorskip("readline")
    up = "\x10"  # Ctrl-P, as the arrow
    with terminal(folder=tmp_path, **state) as own:
        first = own.ask(LINE)
        own.type("\x04")
        assert own.end() == 0
    assert LINE in (tmp_path / "state" / "s2s" / "history").read_text(encoding="utf-8")
    with terminal(folder=tmp_path, **state) as own:
        own.type(f"{up}\n")
        assert own.answer().splitlines()[-1] == first


def test_a_history_that_cannot_be_kept_is_not_missed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with terminal(folder=tmp_path, XDG_STATE_HOME=str(tmp_path / "file")) as own:
        assert own.ask(LINE)
        own.type("\x04")
        assert own.end() == 0


def test_what_was_repaired_is_told_at_the_end(tmp_path: Path, state: dict[str, str]) -> None:
    with terminal(folder=tmp_path, output=tmp_path / "out.txt", **state) as own:
        os.write(own._own, b"copy \xff a\n")
        own.answer()
        own.type("\x04")
        own.answer("repaired")
        assert own.end() == 0
    assert re.fullmatch(r"[^\n]*\n", (tmp_path / "out.txt").read_text(encoding="utf-8"))


def test_a_file_is_translated_without_questions(tmp_path: Path, state: dict[str, str]) -> None:
    (tmp_path / "in.txt").write_text(f"{LINE}\n", encoding="utf-8")
    own = Terminal("translate", "--model", RUN, "--input", "in.txt", folder=tmp_path, **state)
    try:
        assert own.answer("\n") == piped(lines=f"{LINE}\n")[0]
        assert own.end() == 0
    finally:
        own.close()
