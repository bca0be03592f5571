"""What a training run remembers beside its weights: counters, limits reached, the best score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from s2s_cli.config import Config, better


@dataclass
class Progress:
    """Every number that decides how a run goes on; saved in `state.json`."""

    step: int = 0
    """Updates made."""
    tokens: int = 0
    """Target pieces trained on, the ends of sentences included."""
    seconds: float = 0.0
    """Time in updates alone."""
    elapsed: float = 0.0
    """Time in updates and validations; what is saved could not hold that of its own saving."""
    horizon: int = 1
    """Steps that the schedule spans, fixed when the run begins."""
    epoch_ended: bool = False
    """Whether an epoch has ended since the last validation."""
    validated_step: int = 0
    """The step of the last validation."""
    scores: dict[str, float] = field(default_factory=dict)
    """Of the last validation."""
    best: float | None = None
    """The best value of the monitored score..."""
    best_loss: float | None = None
    """The loss beside it, which decides between equal ones..."""
    best_checkpoint: str | None = None
    """... and the checkpoint that has them."""
    since_best: int = 0
    """Validations since one had a better score."""
    plateau_factor: float = 1.0
    """What the plateau schedule multiplies the learning rate by."""
    plateau_wait: int = 0
    """Validations that it has waited."""
    skipped: int = 0
    """Updates skipped because the loss or its gradient was not finite."""
    skipped_in_a_row: int = 0
    averaged_step: int = -1
    """The step at which the last checkpoints were averaged."""
    window_loss: float = 0.0
    """Loss summed since the last line in the log..."""
    window_tokens: int = 0
    """... over this many target pieces..."""
    window_seconds: float = 0.0
    """... in this time."""

    def finished(self, config: Config, epoch: int) -> str | None:
        """Why the run is at its end, if it is."""
        limits = config.training
        if limits.max_steps and self.step >= limits.max_steps:
            return f"max_steps {limits.max_steps:,} reached"
        if limits.max_epochs and epoch >= limits.max_epochs:
            return f"max_epochs {limits.max_epochs:,} reached"
        if limits.max_minutes and self.elapsed >= 60 * limits.max_minutes:
            return f"max_minutes {limits.max_minutes:g} reached"
        if limits.patience and self.since_best >= limits.patience:
            return f"no better {config.monitor} in {limits.patience} validations"
        return None

    def share(self, config: Config, epochs: float) -> float | None:
        """How much of the way to its limit is behind the run, from 0 to 1; None where nothing but patience ends it.

        Args:
            config: has the limits; the nearest counts.
            epochs: passes over the training text so far.
        """
        limits = config.training
        done = (
            (self.step, limits.max_steps),
            (epochs, limits.max_epochs),
            (self.elapsed / 60, limits.max_minutes),
        )
        shares = [min(1.0, now / end) for now, end in done if end]
        return max(shares) if shares else None

    def validation_due(self, config: Config) -> bool:
        """Whether this step is one to validate at, and it was not done yet."""
        every = config.training.validate_every
        here = self.epoch_ended if every == "epoch" else self.step % every == 0
        return here and self.step > self.validated_step

    def take_scores(self, config: Config, scores: dict[str, float]) -> bool:
        """Notes a validation; returns whether it is the best so far.

        Of equal scores the loss decides, since BLEU is 0 while no word is right; what waits for a better one waits on.
        """
        value, loss = scores[config.monitor], scores.get("loss", math.nan)
        self.scores, self.validated_step, self.epoch_ended = scores, self.step, False
        improved = better(config.monitor, value, self.best)
        equal = value == self.best and better("loss", loss, self.best_loss)
        if improved or equal:
            self.best, self.best_loss = value, loss
        if improved:
            self.since_best, self.plateau_wait = 0, 0
        else:
            self.since_best += 1
            self.plateau_wait += 1
        if config.training.schedule == "plateau" and self.plateau_wait >= config.training.plateau_patience:
            self.plateau_factor *= config.training.plateau_factor
            self.plateau_wait = 0
        return improved or equal
