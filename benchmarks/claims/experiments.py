"""What is trained and measured for the claims: each a frozen description, whose hash names its figure.

Planned by trials of single trainings on one core of an AMD EPYC (Zen 5), on a quiet machine and on a busy one. Seconds:

| task, updates in the full form | an update | a training | all of it |
|---|---|---|---|
| copying, 6,000 | 0.010 (tanh RNN), 0.013 (LSTM), 0.023 (GRU) | 60 to 140 | 9 trainings: 850 |
| long sentences, 1,800 | 0.13 to 0.23 (dot, fed), 0.07 to 0.12 (no attention) | 130 to 600 | 33: 8,000 to 12,000 |
| captions, 1,800 | 0.20 to 0.26 (Bahdanau) | 150 to 480 | 27: 7,000 to 10,000 |
| speeds, one by one | | 19 | 27 in one figure: 500 |

Two trainings at once: 8,400 to 11,900 seconds, two and a half to three and a half hours. `QUICK` has fewer variants,
shorter sentences and fewer updates: 1,900 seconds of one thread, twenty minutes. Two cores of an AMD EPYC with AVX2
alone take three to four times as long: a training of copying 250 to 600, of long sentences 290 to 1,430.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from benchmarks.claims import tasks
from benchmarks.claims.tasks import Sizes, Task
from s2s_cli.files import sha256

FORMAT = 1
"""Raised where figures made before can no longer stand beside new ones."""
BEAM = 5
SPEED_UPDATES = 30
"""By which the speed of training is measured."""
SPEED_BATCH = 64
"""Sentences decoded at once where speed is measured."""
BATCH_TOKENS = 2048
LEARNING_RATES = {"copy": 5e-4, "long": 3e-3, "multi30k": 3e-3}
"""Peaks, by task: with more a tanh RNN learns no copying at all."""
MODEL: dict[str, Any] = {
    "encoder": {"cell": "lstm", "layers": 1, "hidden_size": 128, "bidirectional": True},
    "decoder": {"cell": "lstm", "layers": 1, "hidden_size": 256, "input_feeding": True},
    "embedding_size": 128,
    "tie_embeddings": "all",
    "dropout": 0.2,
}
READER = {"hidden_size": 128, "bidirectional": False}
"""The encoder of copying: from behind it would read what is to be copied last."""


class Variant(NamedTuple):
    """A model, as what differs from MODEL."""

    title: str
    changes: Mapping[str, Any]


def _without_attention(cell: str) -> dict[str, Any]:
    decoder = {"cell": cell, "input_feeding": False}
    return {"attention": "none", "encoder": {"cell": cell}, "decoder": decoder}


def _copier(cell: str) -> dict[str, Any]:
    decoder = {"cell": cell, "input_feeding": False, "hidden_size": 128, "initial_state": "last"}
    shape = {"embedding_size": 32, "tie_embeddings": "none", "dropout": 0.0}
    return {"attention": "none", "encoder": {**READER, "cell": cell}, "decoder": decoder, **shape}


def _local(span: str) -> dict[str, Any]:
    return {"attention": "luong-general", "attention_span": span}


UNFED = {"decoder": {"input_feeding": False}}
VARIANTS: dict[str, Variant] = {
    "none": Variant("no attention (LSTM)", _without_attention("lstm")),
    "gru-none": Variant("no attention (GRU)", _without_attention("gru")),
    "rnn-none": Variant("no attention (tanh RNN)", _without_attention("rnn")),
    "bahdanau": Variant("Bahdanau", {"attention": "bahdanau"}),
    "luong-dot": Variant("Luong dot", {"attention": "luong-dot"}),
    "luong-general": Variant("Luong general", {"attention": "luong-general"}),
    "luong-concat": Variant("Luong concat", {"attention": "luong-concat"}),
    "local-m": Variant("Luong general (local-m)", _local("local-m")),
    "local-p": Variant("Luong general (local-p)", _local("local-p")),
    "luong-dot-unfed": Variant("Luong dot (not fed)", {"attention": "luong-dot", **UNFED}),
    "luong-general-unfed": Variant("Luong general (not fed)", {"attention": "luong-general", **UNFED}),
    "copy-rnn": Variant("tanh RNN", _copier("rnn")),
    "copy-gru": Variant("GRU", _copier("gru")),
    "copy-lstm": Variant("LSTM", _copier("lstm")),
}
LOCAL = ("local-m", "local-p")
KINDS = ("bahdanau", "luong-dot", "luong-general", "luong-concat", *LOCAL)
"""Attentions that are compared, each fed back."""
FED = {"luong-general": "luong-general-unfed", "luong-dot": "luong-dot-unfed"}
"""Each beside what is the same but for input feeding."""
CELLS = {"rnn": "rnn-none", "gru": "gru-none", "lstm": "none"}
COPIERS = {"rnn": "copy-rnn", "gru": "copy-gru", "lstm": "copy-lstm"}


@dataclass(frozen=True)
class Form:
    """How much is done."""

    name: str
    command: str
    """That does all of it."""
    alone: str
    """That does what one claim needs, whose name follows."""
    seeds: tuple[int, ...]
    sizes: Sizes
    updates: Mapping[str, int]
    """By task."""
    variants: Mapping[str, tuple[str, ...]]
    """By task, in the order in which they are trained."""
    rounds: int
    """Measurements of each speed, in turn."""

    def tasks(self) -> dict[str, Task]:
        """Those that can be done here; text is generated where it is not there yet."""
        found = tasks.copies(self.sizes), tasks.long_sentences(self.sizes), tasks.captions()
        return {task.name: task for task in found if task}


FULL = Form(
    name="full",
    command="make claims",
    alone="python -m benchmarks.claims --only",
    seeds=(1, 2, 3),
    sizes=Sizes(pairs=30_000, trained_to=60, doublings=7, tested=100),
    updates={"copy": 6000, "long": 1800, "multi30k": 1800},
    variants={
        "copy": tuple(COPIERS.values()),
        "long": ("none", "gru-none", "rnn-none", *KINDS, *FED.values()),
        "multi30k": ("none", *KINDS, *FED.values()),
    },
    rounds=3,
)
QUICK = Form(
    name="quick",
    command="make claims QUICK=1",
    alone="python -m benchmarks.claims --quick --only",
    seeds=(1, 2),
    sizes=Sizes(pairs=15_000, trained_to=30, doublings=6, tested=60),
    updates={"copy": 2000, "long": 550, "multi30k": 300},
    variants={
        "copy": tuple(COPIERS.values()),
        "long": ("none", "gru-none", "rnn-none", "bahdanau", "luong-dot", "luong-dot-unfed"),
        "multi30k": ("none", "bahdanau", "luong-dot", "luong-dot-unfed"),
    },
    rounds=2,
)


@dataclass(frozen=True)
class Training:
    """A model of one seed, trained and its test set translated."""

    kind: ClassVar[str] = "translate"
    form: str
    task: Task
    variant: str
    seed: int
    updates: int

    @property
    def config(self) -> dict[str, Any]:
        """What `s2s train` is given."""
        task = self.task
        texts = {split: task.text(split).model_dump(mode="json", exclude_none=True) for split in tasks.SPLITS}
        return {
            "data": {**texts, "max_ratio": 1000.0},
            "tokenizer": dict(task.tokenizer),
            "model": merged(MODEL, VARIANTS[self.variant].changes),
            "training": {
                "max_steps": self.updates,
                "validate_every": self.updates,
                "validation_beam": 1,
                "batch_tokens": BATCH_TOKENS,
                "learning_rate": LEARNING_RATES[task.name],
                "schedule": "cosine",
                "warmup_steps": 100,
                "precision": "fp32",
                "device": "cpu",
                "keep_last": 1,
                "samples": 0,
                "seed": self.seed,
            },
            "decoding": {"beam": BEAM},
            "evaluation": {"metrics": ["bleu"], "tokenize": task.tokenize or "none"},
        }

    @property
    def name(self) -> str:
        """What, and a hash of all that determines it."""
        config = {**self.config, "data": self.task.digest, "form": self.form, "format": FORMAT}
        return f"{self.task.name}-{self.variant}-{self.seed}-{sha256(json.dumps(config, sort_keys=True).encode())[:12]}"

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Those whose runs are measured: this one."""
        return (self,)

    @property
    def request(self) -> dict[str, Any]:
        """What the worker must know beside the run."""
        return {"ordered": self.task.ordered, "shown": self.task.shown}


@dataclass(frozen=True)
class Speeds:
    """How fast models are trained and decode, measured in turn with nothing beside them: one figure, so that all of it
    is one machine's."""

    trainings: tuple[Training, ...]
    rounds: int

    @property
    def task(self) -> Task:
        """On which they are measured."""
        return self.trainings[0].task

    @property
    def name(self) -> str:
        names = [training.name for training in self.trainings]
        key = json.dumps([names, self.rounds, SPEED_UPDATES, SPEED_BATCH])
        return f"speeds-{sha256(key.encode())[:12]}"


Figure = Training | Speeds


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes in them, section by section."""
    both = {
        name: merged(settings[name], value) for name, value in changes.items() if isinstance(settings.get(name), dict)
    }
    return {**settings, **changes, **both}


def planned(form: Form, found: Mapping[str, Task]) -> list[Figure]:
    """All figures of a form, seed by seed, so that a part of them says something about everything; behind the first
    seed's, whose runs are at hand then, the speeds."""
    rounds = [
        [
            Training(form.name, found[task], variant, seed, form.updates[task])
            for task, variants in form.variants.items()
            if task in found
            for variant in variants
        ]
        for seed in form.seeds
    ]
    task = "multi30k" if "multi30k" in found else "long"
    speeds = Speeds(tuple(one for one in rounds[0] if one.task.name == task), form.rounds)
    return [*rounds[0], speeds, *(training for later in rounds[1:] for training in later)]
