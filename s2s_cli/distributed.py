"""Several processes, called workers, that train one model: who is who, and what they tell each other.

torchrun starts them and says so in their environment; a process that was started alone is the only worker, and then
nothing here does anything. DistributedDataParallel (Li et al. 2020) takes the mean of gradients, over NCCL on GPUs and
over Gloo elsewhere; figures and texts always go over Gloo. Tensors and JSON are sent, nothing that is unpickled.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

if "RANK" in os.environ:  # before torch is there: each worker would tell of what is meant so in `reducing`
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from s2s_cli.device import choose_device
from s2s_cli.errors import Damaged, RunFailed, S2SError, Stopped, UserError

Value = TypeVar("Value")

PATIENCE = timedelta(days=1)
"""How long the others wait while the first worker reads and tokenizes the text."""
BUCKET_MB = 8
"""Gradients that travel together: few enough that those of a small model too travel while others are computed."""
KINDS: dict[str, type[S2SError]] = {kind.__name__: kind for kind in (UserError, Damaged, RunFailed)}
LOST = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "broken pipe")
"""Words of which one is in every error of a network."""


def launched() -> bool:
    """Whether torchrun started this process: then it may start it again."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def world_size() -> int:
    """How many workers there are, with this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the worker that writes and tells, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass(frozen=True)
class Workers:
    """All workers, as one of them sees them."""

    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None
    patient: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this worker is the one that writes and tells."""
        return self.rank == 0

    def gather(self, *figures: float, patient: bool = False) -> list[tuple[float, ...]]:
        """Figures of each worker, by rank; all workers must call it.

        Args:
            figures: as many from each.
            patient: wait for `PATIENCE` instead of training.worker_timeout.
        """
        if self.size == 1:
            return [figures]
        table = self._gather(torch.tensor(figures, dtype=torch.float64), self.patient if patient else self.control)
        return [tuple(row.tolist()) for row in table]

    def gather_json(self, value: Value) -> list[Value]:
        """What is JSON of each worker, by rank; all workers must call it."""
        if self.size == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [int(size) for (size,) in self.gather(len(data))]
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(data)] = data
        rows = self._gather(padded, self.control)
        return [json.loads(row[:size].numpy().tobytes()) for row, size in zip(rows, sizes, strict=True)]

    def of_first(self, value: Value) -> Value:
        """The first worker's value, JSON; all workers must call it, and what the others give does not matter."""
        found: Any = self.gather_json(value if self.first else None)[0]
        return found  # type: ignore[no-any-return]

    def check_alike(self, found: Mapping[str, Any], what: str) -> None:
        """Compares what is JSON of each worker; all workers must call it.

        Args:
            found: by the names that the user knows it by.
            what: is read by all, for the error.

        Raises:
            UserError: where a worker has found something else than the first one.
        """
        told = [json.loads(text) for text in (json.dumps(found), json.dumps(self.of_first(found)))]
        changed = [name for name in {**told[0], **told[1]} if told[0].get(name) != told[1].get(name)]
        with self.together():
            if changed:
                raise UserError(
                    f"{what}: worker {self.rank} sees another {', '.join(changed)} than the first one: all need the "
                    "same files by the same names, on a shared disk"
                )

    @property
    def others(self) -> range:
        """The ranks of all but the first."""
        return range(1, self.size)

    def send(self, value: object, rank: int = 0) -> None:
        """Sends JSON to another worker, which must be about to `receive` it; by one thread at a time."""
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        for part in (torch.tensor(len(data)), data):
            dist.send(part, rank, group=self.control)

    def receive(self, rank: int = 0) -> Any:
        """What another worker sends to this one; by one thread at a time for each rank."""
        size = torch.tensor(0)
        dist.recv(size, rank, group=self.control)
        data = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(data, rank, group=self.control)
        return json.loads(data.numpy().tobytes())

    def _gather(self, mine: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine, group=group)
        return found

    @contextmanager
    def together(self, *, patient: bool = False) -> Iterator[None]:
        """What ends the work of one worker inside ends that of all; all workers must enter it.

        Raises:
            S2SError: that of the first worker that has one, which tells it; the others raise it quietly.
        """
        if self.size == 1:
            yield
            return
        own: S2SError | None = None
        try:
            yield
        except S2SError as error:
            own = error
        failed = [rank for rank, (has,) in enumerate(self.gather(own is not None, patient=patient)) if has]
        if failed:
            told = self.gather_json(packed_error(own) if own else ("", "", 0))[failed[0]]
            ended = unpacked_error(*told)
            ended.quiet = self.rank != failed[0]
            raise ended from None

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first worker goes through this alone, then the others; an error of one is that of all."""
        if not self.first:
            with self.together(patient=True):
                pass
        with self.together(patient=True):
            yield
        if self.first:
            with self.together(patient=True):
                pass

    def reducing(self, module: nn.Module) -> nn.Module:
        """The module, whose gradients become the means of all workers' in each backward pass."""
        if self.size == 1:
            return module
        # Buckets of gradients stay as they are from the first update on only where unused parameters are looked for:
        # sums of three and more then come in the same order after a restart, and resuming is exact.
        return DistributedDataParallel(
            module, bucket_cap_mb=BUCKET_MB, find_unused_parameters=True, gradient_as_bucket_view=True
        )

    def draw_apart(self, *seeds: int) -> None:
        """Gives torch's generators a state of this worker's own; the first one keeps what it has."""
        if not self.first:
            mixed = 0
            for number in (*seeds, self.rank):
                mixed = (mixed * 1_000_003 + number) % 2**63
            torch.manual_seed(mixed)


def unreduced(module: nn.Module) -> AbstractContextManager[None]:
    """Inside, gradients of a module from `reducing` are only added up."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


@contextmanager
def joined(
    device_name: str,
    timeout: float,
    limit: str = "training.worker_timeout",
    remedy: str = "start them all again, and the run goes on from its last checkpoint",
) -> Iterator[tuple[Workers, torch.device]]:
    """The workers, and the device of this one; outside, each is on its own.

    Args:
        device_name: as for `own_device`.
        timeout: seconds to wait for another worker.
        limit, remedy: what the timeout is called and what to do when it is over, for the error.

    Raises:
        UserError: where the machine has not the device.
        RunFailed: inside, where another worker is gone or does not answer in time.
    """
    device = own_device(device_name)
    if world_size() == 1:
        yield Workers(), device
        return
    wait = timedelta(seconds=timeout)
    try:
        rank, store = _meet(wait)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=wait, store=store, rank=rank, world_size=world_size())
        control, patient = (dist.new_group(backend="gloo", timeout=each) for each in (wait, PATIENCE))
        yield Workers(rank, world_size(), control, patient), device
        dist.destroy_process_group()
    except RuntimeError as error:
        if not _is_of_network(error):
            raise
        raise RunFailed(
            f"another worker is gone, or did not answer within {limit} ({timeout:g} s): {remedy} "
            f"({' '.join(str(error).split())[:200]})"
        ) from None


def _meet(limit: timedelta) -> tuple[int, Store]:
    """This worker's rank, and a store that is of these workers alone.

    torchrun keeps its store when it starts workers again, with what the dead ones left in it. So the first worker makes
    a name for what is stored from now on, and tells it to each other one under a word that this one has made.
    """
    launcher, rank, size = next(rendezvous("env://", timeout=limit))
    word, deadline = uuid4().hex, time.monotonic() + limit.total_seconds()
    if rank:
        launcher.set(f"s2s/{rank}", word)
        launcher.wait([f"s2s/{word}"], limit)
        name = launcher.get(f"s2s/{word}").decode()
        launcher.set(f"s2s/{name}/{rank}", "here")
        return rank, PrefixStore(name, launcher)
    waiting = set(range(1, size))
    while waiting:
        for other in sorted(waiting):
            if launcher.check([f"s2s/{word}/{other}"]):
                waiting.remove(other)
            elif launcher.check([f"s2s/{other}"]):  # perhaps of a dead one: it is asked again
                launcher.set(f"s2s/{launcher.get(f's2s/{other}').decode()}", word)
        if time.monotonic() > deadline:
            raise dist.DistStoreError(f"worker {min(waiting)} did not come")
        time.sleep(0.01)
    return rank, PrefixStore(word, launcher)


def own_device(name: str) -> torch.device:
    """The device that a name as `training.device` means to this worker; on a machine with several GPUs each has its
    own, which is then the current one.

    Raises:
        UserError: where the machine has not the device, or not for as many workers.
    """
    device = choose_device(name)
    if world_size() == 1:
        return device
    if device.type == "mps":
        raise UserError("device mps: workers cannot share it; set the device to cpu, or start one worker")
    if device.type == "cuda" and device.index is None:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise UserError(f"{local + 1} workers on this machine, but {torch.cuda.device_count()} GPUs: start as many")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    return device


def _is_of_network(error: RuntimeError) -> bool:
    words = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in words for word in LOST)


def packed_error(error: S2SError) -> tuple[str, str, int]:
    """An error as JSON, for another worker: its kind, text and exit code."""
    return type(error).__name__, str(error), error.exit_code


def unpacked_error(kind: str, text: str, code: int) -> S2SError:
    """The error that another worker has packed."""
    return Stopped(text, code - 128) if kind == Stopped.__name__ else KINDS.get(kind, UserError)(text)
