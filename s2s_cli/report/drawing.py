"""What `s2s plot` asks for, carried out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from s2s_cli.data.corpus import Source
from s2s_cli.errors import UserError, suggest
from s2s_cli.report import plots
from s2s_cli.run import find_run, read_metrics
from s2s_cli.score.analysis import Breakdown
from s2s_cli.score.evaluator import Evaluator
from s2s_cli.score.request import Request
from s2s_cli.score.system import AttentionMap, ModelSystem
from s2s_cli.score.testset import read_sources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BREAKDOWNS = {"length": "by length", "rarity": "by rarity", "position": "by position"}
KINDS = ("curve", "attention", *BREAKDOWNS)


def draw(
    kind: str,
    request: Request,
    path: Path,
    say: Callable[[str], None],
    text: str | None = None,
    line: int | None = None,
) -> bytes:
    """A plot.

    Args:
        kind: one of KINDS.
        request: of what, as for `s2s evaluate`.
        text: the sentence of an attention map...
        line: ... or its number, from 1, in the request's source.
        path: where it will go; its ending names the format.
        say: tells the user.

    Raises:
        UserError: where it cannot be drawn.
    """
    if kind not in KINDS:
        raise UserError(f"plot {kind}: no such plot: {suggest(kind, KINDS)}")
    plots.check(path)
    for option, given in (("--text", text), ("--line", line)):
        if kind != "attention" and given is not None:
            raise UserError(f"{option} has no use but for `s2s plot attention`: leave it out")
    content, missing = plots.save(_figure(kind, request, say, text, line), path)
    if missing:
        say(
            f"hint: no font here has {' '.join(missing[:10])}: boxes stand in its place; install one that has it "
            "(Debian: fonts-nanum, fonts-noto-cjk)"
        )
    return content


def _figure(kind: str, request: Request, say: Callable[[str], None], text: str | None, line: int | None) -> Figure:
    request.check_plot(kind)
    if kind == "curve":
        run, _ = find_run(request.model)
        return plots.learning_curve(read_metrics(run.metrics_path), run.path.resolve().name)
    if kind == "attention":
        source = _source(request.source, text, line)
        model = ModelSystem(request.model, None, say, {"beam": request.beam} if request.beam else None)
        if isinstance(source, str) and model.config.source.kind == "features":
            raise UserError("this model reads feature vectors: give --source FILE --line N")
        model.check(source, str(request.source))
        model.translator.look("plot attention")
        ((best, *_),) = model.translator.translate([source])
        if best.attention is None:
            raise UserError("an attention map needs a sentence: nothing is left of this one once it is normalized")
        return plots.attention(AttentionMap(best.source_pieces, best.target_pieces, best.attention))
    evaluator = Evaluator(request, say)
    outcome = evaluator.run()
    shown: dict[str, Breakdown] = {}
    for evaluation, details in zip(outcome.evaluations, evaluator.details(outcome), strict=True):
        name = f"{evaluation.system} (baseline)" if evaluation.baseline else evaluation.system
        shown[name] = next(item for item in details.breakdowns if item.name == BREAKDOWNS[kind])
    return plots.by_group(shown, *request.metric)


def _source(path: Path | None, text: str | None, line: int | None) -> Source:
    """What an attention map is of."""
    if path is None or line is None:
        if path or line or text is None or not text.strip():
            raise UserError('an attention map needs a sentence: --text "A man is sleeping.", or --source FILE --line N')
        return text
    if text is not None:
        raise UserError("an attention map is of one sentence: give --text, or --source and --line")
    sources = read_sources(path)
    if line > len(sources):
        raise UserError(f"--line {line}: {path} has {len(sources):,}")
    return sources[line - 1]
