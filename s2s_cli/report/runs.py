"""What `s2s info` shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from s2s_cli.config import Config, DecodingConfig, ParallelText
from s2s_cli.display import print_table
from s2s_cli.errors import duration, printable
from s2s_cli.info.history import STATES, History
from s2s_cli.info.listing import Listed
from s2s_cli.run import FORMAT

if TYPE_CHECKING:  # it needs torch
    from s2s_cli.info.description import Description, Saved, Weights

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS, LAST_VALIDATIONS = 60, 5

Row = tuple[str, ...]


def print_runs(runs: Sequence[Listed], plain: bool) -> None:
    """The runs, one a line, on standard output; below them why some cannot be read."""
    rows = []
    for run in runs:
        history, name = run.history, f"{run.name} (latest)" if run.latest else run.name
        figures = ("damaged", "", "", "")
        if history:
            best = "" if history.best is None else f"{history.monitor} {history.best:.2f}"
            figures = (history.state, _count(history.step), best, _count(run.parameters))
        rows.append((name, *figures, _ago(run.changed)))
    print_table(("run", "state", "step", "best", "parameters", "saved"), rows, plain)
    for run in runs:
        if run.damage:
            print(printable(f"damaged: {run.damage}"))


def print_run(run: Description, plain: bool) -> None:
    """All that is known of a run, on standard output."""
    history, used = run.history, run.weights
    tables: list[tuple[Row, list[Row]]] = [
        (("run", str(run.path)), list(_about(run))),
        (("model", run.config.model.attention), list(_model(run.config, used.vocabulary if used else {}))),
        (("data", "files"), list(_data(run))),
        (("training", _count(history.step) + (" steps" if history.step is not None else "")), list(_training(run))),
    ]
    if used:
        tables.append((("parameters", f"{used.parameters:,}", "share"), list(_parts(used))))
    if history.validations:
        tables.append(_validations(history))
    if run.checkpoints:
        tables.append(_checkpoints(run.checkpoints))
    for number, (header, rows) in enumerate(tables):
        if number:
            print()
        print_table(header, rows, plain)


def _about(run: Description) -> Iterator[Row]:
    history, used = run.history, run.weights
    yield "state", f"{history.state} ({history.reason or STATES[history.state]})"
    if run.latest:
        yield "latest", "used where no model is named"
    yield "written by", f"s2s {run.version}, format {FORMAT}"
    if used:
        yield "translates with", f"{used.checkpoint}, weights {used.sha256[:12]}"
    yield "tokenizer", run.tokenizer_sha256[:12]
    for origin in history.origins:
        yield "averaged from", f"{origin.run} {origin.checkpoint}, weights {origin.sha256[:12]}"
    yield "decoding", ", ".join(_decoding(run.config.decoding))
    sizes = ", ".join(f"{part} {_bytes(size)}" for part, size in run.bytes.items() if size)
    yield "on the disk", f"{_bytes(sum(run.bytes.values()))} ({sizes})"


def _decoding(config: DecodingConfig) -> Iterator[str]:
    """Search, beam and penalty, and what else is not as by default."""
    always = ("search", "beam", "length_penalty")
    for key, field in DecodingConfig.model_fields.items():
        value = getattr(config, key)
        if key in always or value != field.default:
            yield f"{key} {value}"


def _model(config: Config, vocabulary: Mapping[str, int]) -> Iterator[Row]:
    model, encoder, decoder = config.model, config.model.encoder, config.model.decoder
    directions = {True: ", bidirectional", False: "", "bottom": ", bidirectional at the bottom"}
    yield "encoder", f"{encoder.layers} x {encoder.cell} of {encoder.hidden_size}{directions[encoder.bidirectional]}"
    feeds = {True: ", input feeding", False: ""}
    yield "decoder", f"{decoder.layers} x {decoder.cell} of {decoder.hidden_size}{feeds[decoder.input_feeding]}"
    extras = [f"span {model.attention_span}", f"coverage {model.coverage}"]
    yield (
        "attention",
        ", ".join([model.attention, *(extra for extra in extras if not extra.endswith(("global", "none")))]),
    )
    yield "embeddings", f"{model.embedding_size}, tied: {model.tie_embeddings}"
    pieces = {side: f"{size:,}" for side, size in vocabulary.items()}
    if config.source.kind == "features":
        yield "source", f"feature vectors of width {config.source.size}"
        pieces.pop("source", None)
    elif config.tokenizer.shared:
        pieces = {"shared": pieces["target"]} if pieces else {}
    sizes = ", ".join(f"{side} {size}" for side, size in pieces.items())
    yield "pieces", f"{config.tokenizer.type}{': ' if sizes else ''}{sizes}"


def _data(run: Description) -> Iterator[Row]:
    """The texts, which are as many files as their names stand for, and their pairs where the log tells."""
    data, logged = run.config.data, run.logged
    for text in data.train:
        yield "training", _files(text) + (f", weight {text.weight:g}" if text.weight else "")
    yield "validation", _files(data.valid)
    for test in data.test:
        yield "test", f"{test.name}: {_files(test)}"
    if logged.training_pairs is not None:
        pieces = f"{_count(logged.training_pieces)} target pieces"
        validation = f"{_count(logged.validation_pairs)} for validation"
        yield "pairs", f"{_count(logged.training_pairs)} for training ({pieces}), {validation}"


def _files(text: ParallelText) -> str:
    return ", ".join(map(str, text.files))


def _training(run: Description) -> Iterator[Row]:
    history, training = run.history, run.config.training
    yield "optimizer", f"{training.optimizer}, {training.schedule} {training.learning_rate:g}, seed {training.seed}"
    if run.logged.trained_on:
        yield "trained on", "; then ".join(run.logged.trained_on)
    if history.epochs is not None:
        yield "epochs", f"{history.epochs:.2f}"
    if history.target_pieces is not None:
        yield "target pieces", f"{history.target_pieces:,}"
    if history.elapsed is not None:
        yield "time", duration(history.elapsed)
    if history.pieces_per_second is not None:
        yield "speed", f"{history.pieces_per_second:,.0f} target pieces/s in updates"
    if history.best is not None:
        where = f" ({history.best_checkpoint})" if history.best_checkpoint else ""
        yield f"best {history.monitor}", f"{history.best:.2f}{where}"


def _parts(used: Weights) -> Iterator[Row]:
    for part, count in used.parts.items():
        yield part, f"{count:,}", f"{count / used.parameters:.0%}"


def _checkpoints(checkpoints: Sequence[Saved]) -> tuple[Row, list[Row]]:
    header: Row = ("checkpoint", "pointers", "saved", "size", "damage")
    rows: list[Row] = [
        (saved.name, ", ".join(saved.pointers), _date(saved.saved), _bytes(saved.bytes), saved.damage or "")
        for saved in checkpoints
    ]
    shown = len(header) if any(saved.damage for saved in checkpoints) else len(header) - 1
    return header[:shown], [row[:shown] for row in rows]


def _validations(history: History) -> tuple[Row, list[Row]]:
    """The last of them, under a line of bars for all."""
    last = history.validations[-LAST_VALIDATIONS:]
    metrics = list(dict.fromkeys(metric for one in last for metric in one.scores))
    rows = [
        (_count(one.step), *(f"{one.scores[metric]:.2f}" if metric in one.scores else "" for metric in metrics))
        for one in last
    ]
    bars = [_bars([one.scores[metric] for one in history.validations if metric in one.scores]) for metric in metrics]
    return ("validation", *metrics), [("all", *bars), *rows]


def _bars(values: Sequence[float]) -> str:
    """A line of bars, from the lowest to the highest value; where they are many, evenly chosen ones, with the last."""
    count = min(len(values), MOST_BARS)
    chosen = [values[(number + 1) * len(values) // count - 1] for number in range(count)]
    low, span = min(chosen), max(chosen) - min(chosen)
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1)) if span else 0] for value in chosen)


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _ago(seconds: float) -> str:
    return f"{duration(max(0, time.time() - seconds))} ago"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
