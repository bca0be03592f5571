"""The training loop: update, validate, save, and stop in a state from which the next start goes on exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from s2s_cli import checkpoint as checkpoints
from s2s_cli.checkpoint import Checkpoint
from s2s_cli.config import better
from s2s_cli.data.batches import Batch, Sampler
from s2s_cli.device import FreedMemory, autocast, choose_precision, explain_memory
from s2s_cli.distributed import unreduced
from s2s_cli.errors import Damaged, RunFailed, Stopped, UserError, duration
from s2s_cli.files import disk_explained
from s2s_cli.model.seq2seq import Losses, Seq2Seq
from s2s_cli.signals import StopRequest, stopped_by
from s2s_cli.train.metrics import MetricsLog
from s2s_cli.train.observer import Observer
from s2s_cli.train.optim import (
    WeightAverage,
    borrowed_weights,
    build_optimizer,
    decay_end,
    idle_updates,
    learning_rate,
    load_optimizer,
    optimizer_tensors,
)
from s2s_cli.train.parts import Parts
from s2s_cli.train.progress import Progress
from s2s_cli.train.randomness import random_states, restore_random_states
from s2s_cli.train.validation import Sample, validate

WEIGHT, OPTIMIZER = "weight.", "optimizer."  # prefixes in training.safetensors


class _Losses(nn.Module):
    """A model's losses as the call of a module, which several workers need."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, label_smoothing: float, coverage: float, r_drop: float) -> Losses:
        return self.model.losses(batch, label_smoothing, coverage, r_drop)


class Trainer:
    """Trains one model in one run directory; of several workers each has one, and all do the same."""

    def __init__(self, parts: Parts, observer: Observer, stop: StopRequest) -> None:
        self.parts, self.observer, self.stop = parts, observer, stop
        self.run, self.config, self.model, self.device = parts.run, parts.config, parts.model, parts.device
        self.workers = parts.workers
        training = self.config.training
        self.precision = choose_precision(training.precision, self.device)
        self.optimizer = build_optimizer(self.model, training, self.device)
        self.average = WeightAverage(self.model, training.average_decay) if training.average_decay else None
        self.sampler = Sampler(
            parts.train,
            parts.tokenizer,
            training.batch_tokens,
            training.seed,
            self.config.tokenizer.sampling,
            passes=2 if training.r_drop else 1,
        )
        self.losses = self.workers.reducing(_Losses(self.model))
        self.progress = Progress(horizon=training.schedule_steps or training.max_steps or 1)
        self.metrics = MetricsLog(self.run.metrics_path)
        self.saved_step = -1
        self.told: set[str] = set()
        self.freed = FreedMemory()

    # --- the loop

    def fit(self) -> str:
        """Trains until a limit is reached.

        Returns:
            Which one.

        Raises:
            Stopped: after a signal, with everything saved.
            RunFailed: where the loss stays infinite, memory runs out or the disk refuses; the last checkpoint stands.
        """
        if not self.progress.finished(self.config, self.sampler.epoch):
            self._tell_idle()
        with self.observer.training(), _memory_explained():
            while True:
                signal = self._agree()
                reason = self.progress.finished(self.config, self.sampler.epoch)
                last_validation = reason is not None and self.progress.validated_step < self.progress.step
                if self.progress.validation_due(self.config) or last_validation:
                    self._validate()
                    continue
                if reason is not None:
                    self._average_last()
                    return reason
                if signal:
                    self._save_and_stop(signal)
                if self.progress.step == decay_end(self.config.training, self.progress.horizon):
                    self._tell_idle()
                self._update()

    def _tell_idle(self) -> None:
        """What has no effect, each once."""
        training, progress = self.config.training, self.progress
        updates = idle_updates(training, progress.step, progress.horizon)
        for told in chain(self.config.model.idle_settings(), training.idle_settings(), updates):
            if told not in self.told:
                self.told.add(told)
                self.observer.warn(told)

    def _agree(self) -> int:
        """The signal that any worker was stopped by, or 0; all take the first one's clock."""
        found = self.workers.gather(self.stop.signal or 0, self.progress.elapsed)
        self.progress.elapsed = found[0][1]
        return int(max(signal for signal, _ in found))

    def _update(self) -> None:
        """One optimizer step over `accumulate` batches, normalized by the target tokens of all workers."""
        began, training, progress = time.perf_counter(), self.config.training, self.progress
        epoch = self.sampler.epoch
        batches, tokens = self.sampler.share(training.accumulate, self.workers.rank, self.workers.size)
        rate = progress.plateau_factor * learning_rate(progress.step + 1, training, progress.horizon)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with unreduced(self.losses):
            own = sum(self._backward(batch, tokens) for batch in batches[:-1])
        own += self._backward(batches[-1], tokens)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm or math.inf)
        found = self.workers.gather(own, float(norm))
        nll = sum(part for part, _ in found)
        progress.epoch_ended |= self.sampler.epoch > epoch
        if not all(math.isfinite(figure) for figures in found for figure in figures):
            progress.elapsed += time.perf_counter() - began
            self._skip()
            return
        self.optimizer.step()
        progress.step += 1
        progress.skipped_in_a_row = 0
        if self.average:
            self.average.update(self.model, progress.step)
        if self.device.type == "cpu":
            self.freed.watch()
        seconds = time.perf_counter() - began
        progress.tokens += tokens
        progress.seconds += seconds
        progress.elapsed += seconds
        progress.window_loss += nll
        progress.window_tokens += tokens
        progress.window_seconds += seconds
        self._log(rate)

    def _backward(self, batch: Batch, tokens: int) -> float:
        """Adds a batch's gradient; returns its negative log-likelihood in nats."""
        batch, training = batch.to(self.device), self.config.training
        with autocast(self.device, self.precision):
            losses: Losses = self.losses(batch, training.label_smoothing, training.coverage_loss, training.r_drop)
        (losses.smoothed / (tokens / self.workers.size)).backward()  # type: ignore[no-untyped-call]
        return float(losses.nll_N.sum())

    def _skip(self) -> None:
        progress, limit = self.progress, self.config.training.max_skips
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self.observer.warn(
            f"step {progress.step + 1:,}: the loss or its gradient is not finite, this update is skipped"
        )
        with self.workers.together():
            if progress.skipped_in_a_row >= limit:
                raise RunFailed(
                    f"the loss was not finite {limit} times in a row at step {progress.step + 1:,}: lower "
                    "training.learning_rate or set training.clip_norm and begin anew with --fresh, or from the last "
                    "good weights with training.init_from; the last checkpoint stands"
                )

    def _log(self, rate: float) -> None:
        progress = self.progress
        mean = progress.window_loss / progress.window_tokens
        speed = progress.window_tokens / progress.window_seconds
        epoch = self.sampler.epoch + self.sampler.progress
        figures = f"epoch {epoch:.2f}, loss {mean:.3f}, {speed:,.0f} tokens/s, lr {rate:.2e}"
        share = progress.share(self.config, epoch)
        if share:
            figures += f", {duration(progress.elapsed * (1 - share) / share)} left"
        if progress.scores:
            figures += f", last {self.config.monitor} {progress.scores[self.config.monitor]:.2f}"
        self.observer.advance(share, progress.step, figures)
        if progress.step % self.config.training.log_every == 0:
            self.observer.step(progress.step, figures)
            self._write_metrics(loss=mean, lr=rate)
            progress.window_loss, progress.window_tokens, progress.window_seconds = 0.0, 0, 0.0

    def _write_metrics(self, **figures: object) -> None:
        progress = self.progress
        epoch = round(self.sampler.epoch + self.sampler.progress, 4)
        seconds = round(progress.seconds, 3)
        row = {"step": progress.step, "epoch": epoch, **figures, "tokens": progress.tokens, "seconds": seconds}
        with self.workers.together():
            if self.workers.first:
                self.metrics.write(row)

    # --- validation

    def _validate(self) -> None:
        """Loss and scores on the validation set, by the weights and the decoder that `translate` uses; then saves."""
        progress = self.progress
        scores, samples = self._judged(self._inference_weights())
        best = progress.take_scores(self.config, scores)
        name = self._checkpoint_name()
        if best:
            progress.best_checkpoint = name
        self.observer.validation(progress.step, scores, best, samples)
        self._write_metrics(scores=scores)
        self._save()

    def _judged(self, weights: AbstractContextManager[None]) -> tuple[dict[str, float], list[Sample]]:
        """Scores and samples by other weights, the time of which counts; where that is stopped, all is saved."""
        began, found, signal = time.perf_counter(), None, 0
        try:
            with weights:
                found = validate(self.parts, self.stop)
        except Stopped as stopped:
            signal = stopped.signal
        self.progress.elapsed += time.perf_counter() - began
        return found or self._save_and_stop(signal)

    def _inference_weights(self) -> AbstractContextManager[None]:
        return borrowed_weights(self.model, self.average.tensors) if self.average else nullcontext()

    def _average_last(self) -> None:
        """Averages the weights of the last checkpoints, once, and keeps that where it is better."""
        progress, wanted = self.progress, self.config.training.average_last
        names = self.workers.of_first([path.name for path in self._validated()[-wanted:]])
        paths = [self.run.checkpoints_path / name for name in names]
        if len(paths) < 2 or progress.averaged_step == progress.step:
            return
        models = []
        with self.workers.in_turn():
            for path in paths:
                try:
                    models.append(Checkpoint(path, self.config, self.parts.tokenizer.fingerprint).model())
                except Damaged as error:
                    self.observer.warn(f"{error}: left out of the average")
        if len(models) < 2:
            return
        mean = checkpoints.average(models)
        scores, _ = self._judged(borrowed_weights(self.model, mean))
        progress.averaged_step = progress.step
        improved = better(self.config.monitor, scores[self.config.monitor], progress.best)
        figures = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        self.observer.info(f"average of the last {len(models)} checkpoints: {figures}{' (best)' if improved else ''}")
        if improved:
            name = f"average-{progress.step:08d}"
            with self.workers.together():
                if self.workers.first:
                    checkpoints.save(self.run, name, self.config, self.parts.tokenizer, mean)
            progress.best, progress.best_loss = scores[self.config.monitor], scores.get("loss")
            progress.best_checkpoint = name
        self._save()

    # --- saving and going on

    def _checkpoint_name(self) -> str:
        return f"step-{self.progress.step:08d}"

    def _save_and_stop(self, signal: int) -> NoReturn:
        if self.saved_step != self.progress.step:
            self._save()
        self.observer.info(f"saved at step {self.progress.step:,}: the same command goes on from there")
        with self.workers.together():
            raise stopped_by(signal)

    def _save(self) -> None:
        """The first worker writes what all have; a random state is each one's own."""
        states = self.workers.gather_json(random_states(self.device))
        with self.workers.together():
            if self.workers.first:
                self._write(states)
        self.saved_step = self.progress.step

    def _write(self, random: Sequence[dict[str, str]]) -> None:
        """Writes a checkpoint, then moves `last`, then `best`, which the state of `last` names too."""
        own = checkpoints.weights(self.model)
        training = {f"{WEIGHT}{name}": tensor for name, tensor in own.items()}
        for name, tensor in optimizer_tensors(self.optimizer, self.model).items():
            training[f"{OPTIMIZER}{name}"] = tensor
        state = {
            "progress": asdict(self.progress),
            "sampler": self.sampler.state,
            "random": random[0],
            "random_of_others": random[1:],
            "corpus": self.parts.train.fingerprint,
            "validation": self.parts.valid.fingerprint,
            "references": self.parts.valid.targets_fingerprint,
        }
        model = self.average.tensors if self.average else own
        self._refuse_what_is_no_number({**training, **self.average.tensors} if self.average else training)
        self.metrics.sync()
        path = checkpoints.save(
            self.run, self._checkpoint_name(), self.config, self.parts.tokenizer, model, training, state
        )
        self._point("last", path)
        self._point_best()

    def _refuse_what_is_no_number(self, tensors: Mapping[str, Tensor]) -> None:
        """A last gate: what is on the disk can always be gone on from."""
        bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
        if bad:
            raise RunFailed(
                f"{bad[0]} is not finite at step {self.progress.step:,}, so it is not saved: lower "
                "training.learning_rate or set training.clip_norm and begin anew with --fresh; the last checkpoint "
                "stands"
            )

    def _point(self, name: str, checkpoint: Path) -> None:
        with disk_explained(f"cannot move the pointers of {self.run.path}"):
            self.run.point(name, checkpoint)

    def _point_best(self) -> None:
        last = self.run.pointer("last")
        keep = [last] if last else []
        if self.progress.best_checkpoint:
            best = self.run.checkpoints_path / self.progress.best_checkpoint
            if best.is_dir():
                self._point("best", best)
                keep.append(best)
            else:  # going on from an older checkpoint, whose best is gone
                with suppress(UserError):
                    keep += [present] if (present := self.run.pointer("best")) else []
        training = self.config.training
        checkpoints.prune(self.run, [*keep, *self._validated()[-max(training.keep_last, training.average_last) :]])

    def _validated(self) -> list[Path]:
        """The checkpoints of validations, oldest first: those that a run has which was never stopped."""
        return [path for path in self.run.checkpoints() if self._is_validated(path)]

    def _is_validated(self, path: Path) -> bool:
        try:
            found = Checkpoint(path, self.config, self.parts.tokenizer.fingerprint).state()["progress"]
        except UserError:  # it is damaged, which is told where it is needed
            return True
        return bool(0 < found["step"] == found["validated_step"])

    def resume(self, saved: Checkpoint) -> None:
        """Goes on from a checkpoint, exactly.

        Raises:
            UserError: where it is damaged or does not fit, or the training text is no longer the same.
        """
        state, tensors = saved.state(), saved.training()
        if state["corpus"] != self.parts.train.fingerprint:
            raise UserError(
                f"{self.run.path}: the training text is not what this run began with, so it cannot go on exactly; "
                "restore the text, or begin anew with --fresh"
            )
        found = self.parts.valid.fingerprint, self.parts.valid.targets_fingerprint
        if (state.get("validation", found[0]), state.get("references", found[1])) != found:
            raise UserError(
                f"{self.run.path}: the validation text is not what this run began with, so its scores could not be "
                "compared with those before; restore the text, or begin anew with --fresh"
            )
        checkpoints.load_weights(self.model, _with_prefix(tensors, WEIGHT), str(saved.path))
        load_optimizer(self.optimizer, self.model, _with_prefix(tensors, OPTIMIZER))
        if self.average:
            self.average.load(saved.model())
        self.progress = Progress(**state["progress"])
        self.sampler.restore(state["sampler"])
        states = [state["random"], *state.get("random_of_others", ())]
        if self.workers.rank < len(states):
            restore_random_states(states[self.workers.rank], self.device)
        else:
            self.workers.draw_apart(self.config.training.seed, self.progress.step)
        self.saved_step = self.progress.step
        with self.workers.together():
            pass  # all have read what may be removed now
        with self.workers.together():
            if self.workers.first:
                self._point("last", saved.path)  # a kill may have come between the save and this
                self._point_best()
                self.metrics.rewind(self.progress.step, self.progress.validated_step)


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextmanager
def _memory_explained() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        remedy = (
            "lower training.batch_tokens (and raise training.accumulate by as much to keep the update), "
            "data.max_length, tokenizer.vocab_size or the hidden sizes, and begin anew with --fresh; "
            "the last checkpoint stands"
        )
        raise explain_memory(error, remedy) or error from None
