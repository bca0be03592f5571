"""From a config to a trained run: begins a run, goes on with it, or refuses; then hands over to the trainer."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from s2s_cli.checkpoint import Checkpoint, load_model, load_weights, offering_others, weights
from s2s_cli.config import Config, DataConfig, TokenizerConfig
from s2s_cli.config_file import differences, with_names_of
from s2s_cli.data.corpus import (
    Corpus,
    count_overlap,
    describe_dropped,
    read_corpus,
    read_pairs,
    train_tokenizer,
    unknown_rate,
)
from s2s_cli.data.sequences import Sequences
from s2s_cli.data.store import open_corpus
from s2s_cli.data.tokenizer import Tokenizer, fingerprint, model_files, read_given
from s2s_cli.device import choose_precision, keep_freed_memory, keep_programs
from s2s_cli.distributed import Workers, joined
from s2s_cli.errors import S2SError, UserError
from s2s_cli.evaluate import compute_scores, tokenization_hint
from s2s_cli.files import disk_explained
from s2s_cli.model.seq2seq import build_model, count_parameters
from s2s_cli.run import RunDirectory, find_model, record_latest
from s2s_cli.signals import StopRequest
from s2s_cli.train.observer import Observer
from s2s_cli.train.parts import Parts
from s2s_cli.train.trainer import Trainer

UNKNOWN_WARNING = 0.01


@dataclass(frozen=True)
class TrainingOutcome:
    """How a training ended."""

    run: Path
    reason: str
    step: int
    monitor: str
    best: float | None
    already_finished: bool


def train(
    config: Config, run_path: Path, observer: Observer, stop: StopRequest, *, fresh: bool = False
) -> TrainingOutcome:
    """Trains, or goes on training, the run at `run_path`; with others, where torchrun started several workers.

    Args:
        config: the resolved config.
        run_path: the run directory.
        observer: where messages go.
        stop: set by signals.
        fresh: move an existing run aside and begin anew.

    Raises:
        UserError: where the config, the data or the run do not allow it.
        RunFailed: where training cannot go on.
        Stopped: after a signal, with everything saved.
    """
    run = RunDirectory(run_path)
    with joined(config.training.device, config.training.worker_timeout) as (workers, device), ExitStack() as held:
        if device.type == "cpu":
            torch.set_num_threads(torch.get_num_threads())  # MKL then keeps to it, as after the first validation
            keep_freed_memory()
            keep_programs()
        own = None
        with workers.together(), disk_explained(f"cannot write to {run.path}"):
            if workers.first:
                compute_scores(["a"], [["a"]], config.evaluation)  # what is missing for it is told now, not in an hour
                own = _begin(run, config, observer, held, fresh=fresh)
        with disk_explained(f"cannot write to {run.path}"):
            try:
                trainer = _prepare(config.data, run, observer, stop, workers, device)
            except S2SError:
                if own:
                    run.write_config(own)  # what was refused changes nothing
                raise
            return _fit(trainer, run, observer, workers)


def _begin(run: RunDirectory, config: Config, observer: Observer, held: ExitStack, *, fresh: bool) -> Config | None:
    """Makes the run directory, locked and with its log open until `held` is closed.

    Returns:
        The config that the run had before, where it had learned something with it.
    """
    if fresh and run.exists:
        _refuse_own_weights(run, config)
        with run.lock():
            aside = _free_name(run.path)
            run.path.rename(aside)
        observer.info(f"moved the old run to {aside}")
    held.enter_context(run.lock())
    held_config = _hold_to_config(run, config, observer) if run.exists else config
    own = run.read_config() if run.exists and run.checkpoints() else None
    run.create()
    run.write_config(held_config)
    held.enter_context(observer.logging_to(run.log_path))
    return own


def _prepare(
    data: DataConfig,
    run: RunDirectory,
    observer: Observer,
    stop: StopRequest,
    workers: Workers,
    device: torch.device,
) -> Trainer:
    """Reads all that the run needs, and goes back to where it was; refuses what is not as it was."""
    with workers.in_turn(), disk_explained(f"cannot write to {run.path}"):  # what the first one makes, the others find
        if not run.exists:
            raise UserError(f"{run.path}: not seen by worker {workers.rank}: all need one folder on a shared disk")
        config = run.read_config()
        saved = _last_checkpoint(run, config)
        torch.manual_seed(config.training.seed)
        begun = config.training.init_from if saved is None else None
        start = load_model(*find_model(begun)) if begun else None
        if next(read_pairs(data.valid, config.source), None) is None:
            raise UserError(f"data.valid: {' and '.join(map(str, data.valid.files))}: nothing stands there")
        tokenizer = _tokenizer(config, data, run, observer, start[1] if start else None)
        quiet = saved is not None or not workers.first
        train_corpus, valid_corpus = _read_corpora(config, data, run, tokenizer, observer, stop, workers, quiet=quiet)
        stop.check()
    found = {
        "checkpoint": saved.path.name if saved else None,
        "tokenizer": tokenizer.fingerprint,
        "training text": train_corpus.fingerprint,
        "validation text": valid_corpus.fingerprint,
        "validation references": valid_corpus.targets_fingerprint,
    }
    workers.check_alike(found, str(run.path))
    model = build_model(config.model, tokenizer)
    if start:
        load_weights(model, weights(start[2]), f"training.init_from {config.training.init_from}")
    workers.draw_apart(config.training.seed)
    parts = Parts(run, config, tokenizer, train_corpus, valid_corpus, model.to(device), device, workers)
    precision = {torch.bfloat16: "bf16", torch.float32: "fp32"}[choose_precision(config.training.precision, device)]
    threads = f" ({torch.get_num_threads()} threads)" if device.type == "cpu" else ""
    on = f"{workers.size} workers, each " if workers.size > 1 else ""
    computed = f"{on}{precision} on {device.type}{threads} by torch {torch.__version__}"
    observer.info(f"model: {count_parameters(model):,} parameters, {computed}")
    trainer = Trainer(parts, observer, stop)
    if saved is not None:
        trainer.resume(saved)
        observer.info(f"goes on from {saved.path.name}")
    elif workers.first:
        trainer.metrics.rewind(0, 0)  # an attempt that saved nothing left its figures
    return trainer


def _fit(trainer: Trainer, run: RunDirectory, observer: Observer, workers: Workers) -> TrainingOutcome:
    """Trains, and tells how it ended, which the log has too."""
    began_at = trainer.progress.step
    try:
        reason = trainer.fit()
    finally:  # what a signal or a full disk ended may be used, too
        if workers.first and run.checkpoints():
            _record_latest(run, observer)
    progress, monitor = trainer.progress, trainer.config.monitor
    already = began_at > 0 and progress.step == began_at
    best = "" if progress.best is None else f", best {monitor} {progress.best:.2f}"
    state = "had finished" if already else "finished"
    observer.info(f"{state} at step {progress.step:,}: {reason}{best}. Try: s2s translate --model {run.path}")
    return TrainingOutcome(run.path, reason, progress.step, monitor, progress.best, already)


def _refuse_own_weights(run: RunDirectory, config: Config) -> None:
    """Refuses to begin from a run that is moved aside for that, or from none at all."""
    begun = config.training.init_from
    if begun and find_model(begun)[0].path.resolve() == run.path.resolve():
        raise UserError(
            f"training.init_from: {begun} is the run that --fresh would move aside; choose another folder with --run"
        )


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return aside


def _hold_to_config(run: RunDirectory, config: Config, observer: Observer) -> Config:
    """The config with which a run goes on, by which another than its own is refused.

    A run that has learned nothing yet takes the new one. One whose text, or whatever else it began from, lies elsewhere
    now keeps the names that it began with, which its checkpoints are bound to; that it is the same text is seen when it
    is read.
    """
    if run.pointer("last") is None and not run.checkpoints():
        run.remove_tokenizer()  # the text may be another too
        return config
    own = run.read_config()
    renamed, changed = with_names_of(own, config), differences(own, config)
    if differences(own, renamed):
        keys = "\n".join(f"    {key}: {old!r} in the run, {new!r} now" for key, (old, new) in changed.items())
        raise UserError(
            f"{run.path}: this run was begun with another config:\n{keys}\n"
            "choose another folder with --run, or begin anew with --fresh (the old run is moved aside)"
        )
    if config.tokenizer != own.tokenizer:
        given = read_given(config.tokenizer, config.source)
        if given and given.fingerprint != fingerprint(run.read_tokenizer_files()):
            raise UserError(f"{run.path}: tokenizer.model: not the tokenizer that this run began with")
    if changed:
        observer.info("files are read where they lie now; the run keeps the names that it began with")
    return renamed


def _record_latest(run: RunDirectory, observer: Observer) -> None:
    try:
        record_latest(run)
    except OSError as error:
        observer.warn(f"./runs/latest cannot be written ({error.strerror}): name this run by --model {run.path}")


def _last_checkpoint(run: RunDirectory, config: Config) -> Checkpoint | None:
    """Where to go on, read and found whole."""
    path = run.pointer("last")
    if path is None and run.checkpoints():  # killed after a save, before the pointer moved
        path = run.checkpoints()[-1]
    if path is None:
        return None
    tokenizer = fingerprint(run.read_tokenizer_files())
    with offering_others(run, path, config, tokenizer, f"write its name into {run.path / 'last'} to go on from there"):
        checkpoint = Checkpoint(path, config, tokenizer)
        checkpoint.verify()
    if not checkpoint.resumable:
        raise UserError(
            f"{run.path}: {path.name} holds weights alone, so that training cannot go on from it; to start from them, "
            f"set training.init_from to {run.path} and choose another folder with --run"
        )
    return checkpoint


def _tokenizer(
    config: Config, data: DataConfig, run: RunDirectory, observer: Observer, other: Tokenizer | None
) -> Tokenizer:
    """The run's own tokenizer, else that of `init_from` (`other`), else the one given, else a new one."""
    files = run.read_tokenizer_files()
    if files.keys() == model_files(config.tokenizer, config.source):
        return Tokenizer.from_files(files, source=config.source)
    tokenizer = read_given(config.tokenizer, config.source)
    if other:
        if other.source.config != config.source:
            was = other.source.config.model_dump(exclude_none=True)
            raise UserError(f"source: must be {was}, as in training.init_from")
        if config.source.kind == "text" and other.shared != config.tokenizer.shared:
            raise UserError(f"tokenizer.shared: must be {str(other.shared).lower()}, as in training.init_from")
        if tokenizer and tokenizer.fingerprint != other.fingerprint:
            raise UserError(
                "tokenizer.model: not the tokenizer of training.init_from, whose weights need it: leave it out"
            )
        observer.info(f"tokenizer: that of {config.training.init_from}")
        tokenizer = other
    for told in config.tokenizer.idle_settings() if tokenizer else ():
        observer.warn(f"{told}: a tokenizer is there already")
    if tokenizer is None:
        observer.info("training the tokenizer ...")
        tokenizer = train_tokenizer(data.train, config.tokenizer, config.source)
        _tell_unfilled(tokenizer, config.tokenizer, observer)
    else:
        tokenizer.check_symbols(config.tokenizer.user_symbols)
    run.write_tokenizer(tokenizer)
    return tokenizer


def _read_corpora(
    config: Config,
    data: DataConfig,
    run: RunDirectory,
    tokenizer: Tokenizer,
    observer: Observer,
    stop: StopRequest,
    workers: Workers,
    *,
    quiet: bool,
) -> tuple[Corpus, Corpus]:
    def begin() -> None:
        if not workers.first:
            raise UserError(f"{run.corpus_path}: worker {workers.rank} reads another text than the first one")
        observer.info("tokenizing the training text ...")

    sampled = config.tokenizer.sampling.alpha > 0
    train_corpus = open_corpus(
        run.corpus_path,
        data.train,
        tokenizer,
        data,
        keep_text=sampled,
        begin=begin,
        check=stop.check,
    )
    valid_corpus = read_corpus([data.valid], tokenizer, keep_text=True)
    sizes = " and ".join(f"{len(vocabulary):,}" for vocabulary in tokenizer.vocabularies.values())
    observer.info(
        f"data: {len(train_corpus):,} training pairs ({train_corpus.target.total:,} target pieces), "
        f"{len(valid_corpus):,} for validation; vocabulary {sizes}"
    )
    if train_corpus.mixture:
        mixed = zip(train_corpus.mixture.quotas, train_corpus.mixture.sizes, data.train, strict=True)
        parts = [f"{quota:,} of the {size:,} of {text.files[0].name}" for quota, size, text in mixed]
        observer.info(f"an epoch takes so many pairs: {', '.join(parts)}")
    if train_corpus.dropped:
        observer.info(f"dropped training pairs: {describe_dropped(train_corpus.dropped)}")
    _tell_unknown(valid_corpus, tokenizer, observer)
    _tell_cut(valid_corpus, config.decoding.max_source_length, observer)
    assert valid_corpus.texts
    if not quiet and (hint := tokenization_hint(valid_corpus.texts[1], config.evaluation, "evaluation.tokenize:")):
        observer.warn(f"{hint}; a run keeps what it was begun with")
    if not quiet and config.source.kind == "text":
        held_out = (data.valid, *data.test)
        for text, overlap in zip(held_out, count_overlap(data.train, held_out), strict=True):
            if overlap:
                observer.warn(f"{overlap:,} source sentences of {text.files[0].name} stand in the training set too")
    return train_corpus, valid_corpus


def _tell_unfilled(tokenizer: Tokenizer, config: TokenizerConfig, observer: Observer) -> None:
    """Which vocabularies are smaller than was asked for; of characters or words there are as many as there are."""
    for side, vocabulary in tokenizer.vocabularies.items():
        if config.type in ("unigram", "bpe") and len(vocabulary) < config.vocab_size:
            observer.warn(
                f"tokenizer.vocab_size: {config.vocab_size:,} is more than the {side} text can fill: "
                f"its vocabulary has the {len(vocabulary):,} pieces that it can"
            )


def _tell_cut(corpus: Corpus, longest: int, observer: Observer) -> None:
    """How many sources of the validation set are translated in part alone."""
    cut = int((corpus.source.lengths(torch.arange(len(corpus))) > longest).sum())
    if cut:
        observer.warn(
            f"{cut:,} of {len(corpus):,} sources of the validation set are longer than {longest:,} pieces or vectors: "
            "only their beginning is translated; raise decoding.max_source_length"
        )


def _tell_unknown(corpus: Corpus, tokenizer: Tokenizer, observer: Observer) -> None:
    """How much of the validation set the vocabularies do not know."""
    sides = (("source", corpus.source, tokenizer.source), ("target", corpus.target, tokenizer.target))
    rates = {
        side: unknown_rate(sequences, vocabulary.specials.unk)
        for side, sequences, vocabulary in sides
        if isinstance(sequences, Sequences) and vocabulary.specials
    }
    observer.info("unknown pieces in the validation set: " + ", ".join(f"{s} {r:.2%}" for s, r in rates.items()))
    for side, rate in rates.items():
        if rate > UNKNOWN_WARNING:
            observer.warn(
                f"{rate:.1%} of the {side} pieces of the validation set are unknown: raise "
                "tokenizer.character_coverage or vocab_size, or set tokenizer.byte_fallback"
            )
