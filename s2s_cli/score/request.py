"""The options of `s2s evaluate`, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from s2s_cli.errors import UserError

FINEST_LEVEL = 0.001
"""No p-value of a bootstrap of 1,000 samples is smaller, so nothing could ever be significant at a finer level."""


@dataclass(frozen=True)
class Request:
    """The options of `s2s evaluate`; those that `_refuse` may name are called as on the command line."""

    model: Path | None = None
    source: Path | None = None
    reference: tuple[Path, ...] = ()
    hypothesis: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    testset: tuple[str, ...] = ()
    pair: str | None = None
    metric: tuple[str, ...] = ()
    floors: tuple[str, ...] = ()
    ceilings: tuple[str, ...] = ()
    baseline: Path | None = None
    no_regression: bool = False
    drops: tuple[str, ...] = ()
    level: float | None = None
    tokenize: str | None = None
    lowercase: bool | None = None
    set: tuple[str, ...] = ()
    beam: int | None = None
    batch_size: int | None = None
    output: Path | None = None
    use_cache: bool = True

    @property
    def needs_run(self) -> bool:
        """Whether a run takes part: its model is scored, or its config names the test set and how to score."""
        return not (self.hypothesis and (self.reference or self.testset))

    def check(self) -> None:
        """Refuses what makes no sense together, before any work.

        Raises:
            UserError: naming the option.
        """
        if self.hypothesis:
            where = "with --hypothesis" if self.needs_run else "with --hypothesis and a test set of its own"
            self._refuse(where, "set", "beam", "batch_size", "output", *([] if self.needs_run else ["model"]))
        if self.reference:
            self._refuse("with --reference", "test", "testset")
            if not (self.source or self.hypothesis):
                raise UserError("--reference needs --source, the text to translate (or --hypothesis FILE)")
        elif self.source:
            raise UserError("--source needs --reference, or leave it out for the test set of the run's config")
        if self.testset:
            self._refuse("with --testset", "test")
        else:
            self._refuse("without --testset", "pair")
        if not self.baseline and (self.no_regression or self.drops):
            option = "--fail-on regression" if self.no_regression else "--max-drop"
            raise UserError(f"{option} needs something to compare with: --baseline FILE or RUN")
        if self.level is not None and not self.no_regression:
            raise UserError("--level has no use without --fail-on regression: leave it out")
        if self.level is not None and not FINEST_LEVEL < self.level < 1:
            raise UserError(f"--level {self.level:g}: must lie between {FINEST_LEVEL} (the tests see no less) and 1")
        sets = len(self.test) + len(self.testset)
        if sets > 1 and (self.hypothesis or self.output):
            option = "--hypothesis" if self.hypothesis else "--output"
            raise UserError(
                f"{option}: one file cannot hold the translations of {sets} test sets: score them one by one"
            )

    def check_plot(self, kind: str) -> None:
        """Refuses what a kind of plot has no use for.

        Raises:
            UserError: naming the option.
        """
        if kind != "length":
            self._refuse(f"with plot {kind}", "metric")
        elif not set(self.metric) <= {"bleu", "chrf"}:
            raise UserError(f"--metric {self.metric[0]}: plot length draws bleu or chrf")
        if kind in ("curve", "attention"):
            self._refuse(f"with plot {kind}", "reference", "hypothesis", "test", "baseline", "tokenize")
        if kind == "curve":
            self._refuse(f"with plot {kind}", "source", "beam")

    def _refuse(self, where: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) not in (None, ()):
                raise UserError(f"--{name.replace('_', '-')} has no use {where}: leave it out")
