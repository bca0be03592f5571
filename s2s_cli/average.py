"""The mean of the weights of several checkpoints, as a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s2s_cli.checkpoint import Checkpoint, average, check_fits, load_model, save
from s2s_cli.config import Config
from s2s_cli.config_file import differences
from s2s_cli.data.tokenizer import Tokenizer, fingerprint
from s2s_cli.errors import UserError, suggest
from s2s_cli.files import cannot_make, is_there
from s2s_cli.run import RunDirectory, find_model


def average_run(models: Sequence[Path | None], names: Sequence[str], last: int | None, output: Path) -> list[Path]:
    """Makes a run of the mean of some checkpoints' weights.

    Args:
        models: one run, or one of each run to average (its best checkpoint, or the one named), as for `find_model`.
        names: of the checkpoints of one run to average.
        last: average the last so many of one run; default, where no names are given either: all.
        output: where the new run goes.

    Returns:
        The checkpoints that were averaged.

    Raises:
        UserError: where they are fewer than two, damaged, or do not belong together; or something stands at the output.
        RunFailed: where the disk refuses.
    """
    new = RunDirectory(output)
    if is_there(new.config_path) or (is_there(output) and not output.is_dir()):
        raise UserError(f"--output {output}: something stands there already; choose another folder")
    if len(models) > 1:
        if names or last is not None:
            raise UserError("--last and --checkpoint choose among the checkpoints of one run: give one --model alone")
        members = [find_model(path) for path in models]
    else:
        run, _ = find_model(*models)
        members = [(run, path) for path in _chosen(run, names, last)]
    paths = [path for _, path in members]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a checkpoint is named twice: name each once")
    first, path = members[0]
    config, tokenizer, model = load_model(first, path)
    weights, origins = [], []
    for run, path in members:
        checkpoint = _member(run, path, first, config, tokenizer)
        weights.append(checkpoint.model())
        check_fits(model, weights[-1], str(path))
        name = run.path.resolve().name
        origins.append({"run": name, "checkpoint": path.name, "sha256": checkpoint.told_sha256})
    newest = max(int(path.name.rpartition("-")[2]) for path in paths)
    try:
        new.create()
        new.write_tokenizer(tokenizer)
        saved = save(new, f"average-{newest:08d}", config, tokenizer, average(weights), state={"average": origins})
        for pointer in ("last", "best"):
            new.point(pointer, saved)
        new.write_config(config)  # last: what is begun and not done is no run
    except OSError as error:
        raise cannot_make(error, f"--output {output}: cannot make a run there") from None
    return paths


def _chosen(run: RunDirectory, names: Sequence[str], last: int | None) -> list[Path]:
    """Which of a run's checkpoints to average."""
    present = run.checkpoints()
    if names and last is not None:
        raise UserError("--last and --checkpoint both choose: give one of them")
    by_name = {path.name: path for path in present}
    if unknown := [name for name in names if name not in by_name]:
        raise UserError(f"--checkpoint {unknown[0]}: {run.path} has none of that name: {suggest(unknown[0], by_name)}")
    chosen = [by_name[name] for name in names] or present[-(last or len(present)) :]
    if last is not None and last > len(present):
        raise UserError(
            f"--last {last}: {run.path} has {len(present)}; lower it, or keep more next time (training.keep_last)"
        )
    if len(chosen) < 2:
        raise UserError(
            f"{run.path}: an average needs two checkpoints or more, and this is one; training.keep_last says how many "
            "a run keeps"
        )
    return chosen


def _member(run: RunDirectory, path: Path, first: RunDirectory, config: Config, tokenizer: Tokenizer) -> Checkpoint:
    """A checkpoint of a run that belongs to the first one's.

    Raises:
        UserError: where it is damaged, or its model or tokenizer is another.
    """
    own, files = run.read_config(), run.read_tokenizer_files()
    changed = [key for key in differences(config, own) if key.startswith(("model.", "source."))]
    if changed:
        raise UserError(f"--model {run.path}: cannot be averaged with {first.path}: {', '.join(changed)} differ")
    if fingerprint(files) != tokenizer.fingerprint:
        raise UserError(f"--model {run.path}: cannot be averaged with {first.path}: their tokenizers differ")
    return Checkpoint(path, own, tokenizer.fingerprint)
