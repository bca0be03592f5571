"""The prompt of `s2s translate` on a terminal: a line and its translation, and commands that begin with a colon."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import BinaryIO, TextIO

from s2s_cli.config import DecodingConfig
from s2s_cli.config_file import change
from s2s_cli.errors import Stopped, UserError, suggest
from s2s_cli.translate.attention_file import Watch
from s2s_cli.translate.entry import Notices, Translation
from s2s_cli.translate.formats import Format
from s2s_cli.translate.streams import Window, answer
from s2s_cli.translate.translator import Translator

SIGN = "> "
MOST_HISTORY = 1000
ABOUT = "a line is translated; one that begins with a colon is a command (with a space before it, a line)"


def refuse_ignored(prefix: Path | None, workers: str) -> None:
    """Refuses options that say nothing to lines which are typed.

    Args:
        prefix: of --prefix.
        workers: of --workers.

    Raises:
        UserError: saying what to do.
    """
    if prefix:
        raise UserError(
            f"--prefix {prefix}: its lines belong to those of a file, not to what is typed: name the file with --input"
        )
    if workers not in ("1", "auto"):
        raise UserError(
            f"--workers {workers}: typed lines are translated by one process: leave it out, or name a file with --input"
        )


def is_wanted(translator: Translator, path: Path | None) -> bool:
    """Whether somebody sits at the keyboard, and can be asked for lines."""
    reads_lines = path is None and translator.tokenizer.source.config.kind == "text"
    return reads_lines and sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())


class Prompt:
    """Reads lines and commands from a terminal until it ends.

    Args:
        translator: keeps its attention too, from here on.
        output: where translations go, and nothing else.
        choose: the format of lines and translations, for how it decodes now.
        watches: are shown each translation.
    """

    def __init__(
        self,
        translator: Translator,
        output: BinaryIO,
        choose: Callable[[DecodingConfig], Format],
        watches: Sequence[Watch] = (),
    ) -> None:
        with contextlib.suppress(UserError):  # one that has none says so when it is asked for
            translator.look(":attention")
        self.translator, self._output = translator, output
        self._choose, self._form = choose, choose(translator.config)
        self._talk: TextIO = sys.stdout if sys.stdout.isatty() else sys.stderr
        self._read = _edited if self._talk is sys.stdout else self._plainly_read
        self._watches = watches
        self._line: str | None = None
        self._last: list[Translation] = []
        """Of that line, which is the last one that was translated."""
        self._ends = False

    def run(self) -> None:
        """Until the end of the input or `:quit`. Ctrl-C gives up a line, not the program."""
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # bytes stay what they are until they are repaired
        self._say(f"{ABOUT}; :help lists the commands, Ctrl-D ends")
        with _history() if self._talk is sys.stdout else contextlib.nullcontext():
            while not self._ends:
                try:
                    self._take(self._read())
                except Stopped as stopped:
                    if stopped.exit_code != 128 + signal.SIGINT:
                        raise
                    self._say("")

    def _take(self, line: str | None) -> None:
        """Does what a line asks for; None is the end of the input. A mistake is told, and ends nothing."""
        if line is None:
            self._say("")
            self._ends = True
            return
        try:
            if line.startswith(":"):
                self._obey(line)
            else:
                self._translate(line)
        except UserError as error:
            self._say(str(error))

    def _plainly_read(self) -> str | None:
        """A line, where standard output is no terminal: Python would write the prompt there."""
        self._talk.write(SIGN)
        self._talk.flush()
        line = sys.stdin.readline()
        return line.removesuffix("\n") if line else None

    def _translate(self, line: str) -> None:
        notices = self.translator.notices
        self._line, self._last = None, []
        counts = self._write(line, notices.lines, notices)
        self._line = line
        notices.add(**counts)

    def _translate_again(self) -> None:
        """The last line, which is still the same one: it is not counted twice."""
        if self._line is not None:
            self._write(self._line, self.translator.notices.lines - 1, Notices())

    def _write(self, line: str, index: int, notices: Notices) -> dict[str, int]:
        """Writes the translations as `translate_lines` does; what was noticed in translating is returned.

        Raises:
            UserError: where the line cannot be translated; nothing is written then.
        """
        item = self._form.line(index + 1, line.encode("utf-8", "surrogateescape"), notices)
        window, last = Window(index, [item], Notices().take()), list[Translation]()
        found = answer(self.translator, self._form, window, [last.append])
        if found.why:
            raise UserError(found.why)
        self._last = last
        for watch, best in product(self._watches, last):
            watch(best)
        self._output.write(found.output)
        self._output.flush()
        return found.counts

    # --- commands

    def _obey(self, line: str) -> None:
        name, _, value = line[1:].strip().partition(" ")
        if name not in COMMANDS:
            raise UserError(f":{name}: no such command: {suggest(name, COMMANDS)}")
        COMMANDS[name](self, value.strip())

    def set_beam(self, value: str) -> None:
        """:beam 10     keeps 10 hypotheses, and translates the last line again"""
        self._set("beam", value)

    def set_n_best(self, value: str) -> None:
        """:n 5         gives the 5 best, with scores, of the last line too"""
        self._set("n_best", value)

    def _set(self, key: str, value: str) -> None:
        config = self.translator.config
        if not value:
            raise UserError(f"{key} is {getattr(config, key)}")
        if not value.isdecimal():
            raise UserError(f"{key}: give a whole number, not {value}")
        room = config.room_for(int(value)) if key == "n_best" else {}
        changed = change(config, {**room, key: int(value)}, "decoding")
        self._form, self.translator.config = self._choose(changed), changed
        for name, number in room.items():
            self._say(f"{name} is now {number}, so that it holds so many")
        self._translate_again()

    def show_attention(self, value: str) -> None:
        """:attention   shows where the model looked for the last translation"""
        self.translator.look(":attention")
        if not self._last or self._last[0].attention is None:
            raise UserError("there is no translation to show the attention of: give a line first")
        from s2s_cli.translate.heat_map import draw  # it takes a while to load

        draw(self._talk)(self._last[0])

    def show_help(self, value: str) -> None:
        """:help        shows this"""
        self._say(ABOUT)
        for command in COMMANDS.values():
            self._say(f"  {command.__doc__}")

    def quit(self, value: str) -> None:
        """:quit        ends, as Ctrl-D does; Ctrl-C gives up a line"""
        self._ends = True

    def _say(self, text: str) -> None:
        print(text, file=self._talk, flush=True)


COMMANDS: dict[str, Callable[[Prompt, str], None]] = {
    "n": Prompt.set_n_best,
    "beam": Prompt.set_beam,
    "attention": Prompt.show_attention,
    "help": Prompt.show_help,
    "quit": Prompt.quit,
}


def _edited() -> str | None:
    """A line, with the editing and the history that the terminal offers."""
    try:
        return input(SIGN)
    except EOFError:
        return None


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Inside, lines that were typed before can be called back; later ones are kept. Without readline, or a place for
    them, there is no history, and nothing else is missing."""
    try:
        import readline
    except ImportError:
        yield
        return
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111  # never fails
    path = Path(state) / "s2s" / "history"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        readline.read_history_file(path)
    readline.set_history_length(MOST_HISTORY)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)
