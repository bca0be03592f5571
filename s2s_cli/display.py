"""What people see: progress and messages on standard error, score tables on standard output.

On a terminal there is a progress bar; elsewhere plain lines. Messages also go to the run's log once it has one.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from s2s_cli.console import Console
from s2s_cli.errors import Stopped, printable
from s2s_cli.files import write_result

if TYPE_CHECKING:  # what shows no scores needs no numpy
    from s2s_cli.evaluate import Score
    from s2s_cli.score.analysis import Details
    from s2s_cli.score.result import Outcome

TOLD_SECONDS = 60.0


class Display:
    """Messages and progress. Nothing here decides anything."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True, quiet=quiet)
        self._log: IO[str] | None = None
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._told = 0.0

    @contextlib.contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        """Inside, messages are appended to a file too, with the time, and so is the error that ends it."""
        with open(path, "a", encoding="utf-8") as self._log:
            try:
                yield
            except Stopped:  # whoever stopped it has told what is saved
                raise
            except Exception as error:
                with contextlib.suppress(OSError):  # the disk may be what is full
                    self._record(f"error: {str(error) or type(error).__name__}")
                raise
            finally:
                self._log = None

    def info(self, text: str) -> None:
        """A line for the user."""
        self._print(text, escape(text))

    def warn(self, text: str) -> None:
        """A line that the user should not miss."""
        self._print(f"warning: {text}", f"[yellow]warning:[/] {escape(text)}")

    def _print(self, plain: str, styled: str) -> None:
        try:
            self.console.print(styled)
        except BrokenPipeError:  # nobody reads our standard error any more; the work goes on
            self.console.quiet = True
        except OSError:  # a full disk, for example, where it goes into a file
            pass
        self._record(plain)

    def _record(self, text: str) -> None:
        if self._log:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            self._log.writelines(f"{stamp} {line}\n" for line in text.splitlines() or [""])
            self._log.flush()

    def training(self) -> contextlib.AbstractContextManager[None]:
        """Inside, `advance` moves a progress bar on a terminal; elsewhere `step` writes a line now and then."""
        return self._bar("step")

    def translating(self) -> contextlib.AbstractContextManager[None]:
        """Inside, `translated` moves a progress bar on a terminal; elsewhere it writes a line now and then."""
        self._told = time.monotonic()
        return self._bar("line")

    @contextlib.contextmanager
    def _bar(self, unit: str) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        columns = (
            BarColumn(bar_width=20),
            TextColumn(f"[bold]{unit} {{task.fields[step]:,}}[/] {{task.fields[figures]}}"),
        )
        with Progress(*columns, console=self.console, transient=True) as self._progress:
            self._task = self._progress.add_task("", total=None, step=0, figures="")
            try:
                yield
            finally:
                self._progress, self._task = None, None

    def advance(self, share: float | None, step: int, figures: str) -> None:
        """Moves the progress bar, where there is one."""
        if self._progress is not None and self._task is not None:
            total = None if share is None else 1.0
            self._progress.update(self._task, total=total, completed=share or 0.0, step=step, figures=figures)

    def translated(self, share: float | None, lines: int, figures: str) -> None:
        """So many lines are done: for the bar, or once in a while for a standard error that has none."""
        self.advance(share, lines, figures)
        if self._progress is None and time.monotonic() - self._told > TOLD_SECONDS:
            self._told = time.monotonic()
            done = "" if share is None else f" ({share:.0%})"
            self.info(f"line {lines:,}{done}: {figures}")

    def step(self, step: int, figures: str) -> None:
        """A line of training figures: to the log, and to a standard error that has no bar."""
        if self._progress is None:
            self.info(f"step {step:,}: {figures}")
        elif self._log:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} step {step:,}: {figures}\n")
            self._log.flush()

    def validation(self, step: int, scores: Mapping[str, float], best: bool, samples: Sequence[Sequence[str]]) -> None:
        """The scores of a validation, and a few translations."""
        figures = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        self.info(f"validation at step {step:,}: {figures}{' (best so far)' if best else ''}")
        for source, reference, hypothesis in samples:
            self.info(f"    source      {source}\n    reference   {reference}\n    translation {hypothesis}")


def print_outcome(outcome: Outcome, plain: bool = False) -> None:
    """The score table, on standard output, and what the gates found.

    Args:
        outcome: what to show.
        plain: columns of text even on a terminal.
    """
    print_table(*score_table(outcome), plain)
    for evaluation in outcome.judged:
        where = f"{evaluation.title}: " if len(outcome.judged) > 1 else ""
        for gate in evaluation.gates:
            print(f"{'passed' if gate.passed else 'MISSED'}: {where}{gate.text}")


def print_details(outcome: Outcome, details: Sequence[Details], plain: bool = False) -> None:
    """The breakdowns of each system, on standard output."""
    for evaluation, found in zip(outcome.evaluations, details, strict=True):
        for breakdown in found.breakdowns:
            print(f"\n{evaluation.title}, {breakdown.name} ({breakdown.about})")
            metrics = list(breakdown.groups[0].scores) if breakdown.groups else []
            rows = [
                [group.label, f"{group.count:,}", *(_with_interval(group.scores[metric]) for metric in metrics)]
                for group in breakdown.groups
            ]
            print_table([breakdown.unit, breakdown.counted, *metrics], rows, plain)


def _interval(score: Score) -> str:
    return "" if score.low is None or score.high is None else f"{score.low:.2f} to {score.high:.2f}"


def _with_interval(score: Score) -> str:
    interval = _interval(score)
    return f"{score.value:.2f} ({interval})" if interval else f"{score.value:.2f}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], plain: bool) -> None:
    """A table on standard output: with lines on a terminal that is wide enough, else (or where it shall be plain)
    columns of text."""
    header, *rows = [[*map(printable, row)] for row in (header, *rows)]
    if sys.stdout.isatty() and not plain:
        table = Table(*header)
        for row in rows:
            table.add_row(*map(escape, row))
        console = Console(highlight=False, emoji=False)
        width = console.measure(table, options=console.options.update(width=sys.maxsize)).maximum
        if width <= console.width:  # else it would cut what one has to cite
            console.print(table)
            return
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def score_table(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a metric of a system on a test set each; columns that would say the same in all are left out."""
    several_tests = len({item.test.name for item in outcome.evaluations}) > 1
    several_systems = len({(item.system, item.baseline) for item in outcome.evaluations}) > 1
    compared = any(item.comparisons for item in outcome.evaluations)
    shown = {
        "test set": several_tests,
        "system": several_systems,
        "metric": True,
        "score": True,
        "95 % interval": True,
        "beside baseline": compared,
        "p (bootstrap)": compared,
        "p (randomization)": compared,
        "signature": True,
    }
    rows = []
    for item in outcome.evaluations:
        beside = {found.metric: found for found in item.comparisons}
        for name, score in item.scores.items():
            found = beside.get(name)
            cells = {
                "test set": item.test.name,
                "system": f"{item.system} (baseline)" if item.baseline else item.system,
                "metric": name,
                "score": f"{score.value:.2f}",
                "95 % interval": _interval(score),
                "beside baseline": f"{found.value - found.baseline:+.2f}" if found else "",
                "p (bootstrap)": f"{found.p_bootstrap:.4f}" if found else "",
                "p (randomization)": f"{found.p_randomization:.4f}" if found else "",
                "signature": score.signature,
            }
            rows.append([text for column, text in cells.items() if shown[column]])
    return [column for column, wanted in shown.items() if wanted], rows


def json_file(destination: str | None) -> Path | None:
    """The file that `write_json` writes; None where it is standard output, or nothing is written."""
    return None if destination is None or destination == "-" else Path(destination)


def write_json(destination: str, content: Mapping[str, Any]) -> None:
    """One JSON object, to a file or (`-`) to standard output."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if destination == "-":
        sys.stdout.write(text)
    else:
        write_result(Path(destination), text.encode(errors="backslashreplace"))
