"""Where to compute, and in which precision."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s_cli.errors import RunFailed, UserError
from s2s_cli.files import memory

Item = TypeVar("Item")
Result = TypeVar("Result")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def choose_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `cuda:1` or `mps` means; a GPU that is named becomes the current one, on
    which alone CUDA graphs are recorded.

    Raises:
        UserError: where it is unknown or not on this machine.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if cuda:
        torch.backends.cudnn.allow_tf32 = False  # its RNNs would take fp32 for less than it is
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind = name.partition(":")[0]
    available = {"cpu": True, "cuda": cuda, "mps": mps}
    if not available.get(kind, False):
        have = ", ".join(device for device, present in available.items() if present)
        raise UserError(f"device {name}: not available here (available: auto, {have})")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name}: no such device; for example cuda:0") from None
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise UserError(
            f"device {name}: this machine has {torch.cuda.device_count()} such devices, the first is cuda:0"
        )
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """bf16 where it was asked for, or where `auto` finds that products in it are faster; else fp32.

    Raises:
        UserError: for bf16 on a processor that cannot compute in it.
    """
    if name == "auto":
        return torch.bfloat16 if _is_faster_in_bf16(device) else torch.float32
    if name == "bf16" and not has_bf16(device):
        raise UserError("precision bf16: this processor cannot compute in it; auto and fp32 go everywhere")
    return torch.bfloat16 if name == "bf16" else torch.float32


def has_bf16(device: torch.device) -> bool:
    """Whether models can be trained in bf16: oneDNN's LSTM knows it from AVX-512 on, if only by a detour."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # private to PyTorch, for years


def _is_faster_in_bf16(device: torch.device) -> bool:
    """Intel's vectors have half as many bf16 instructions a cycle as fp32 ones: only its AMX gains by them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        probes = ["_is_amx_tile_supported", *(["_is_avx512_bf16_supported"] if _is_amd() else [])]
        return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)  # private: asked with care
    return False


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


@cache
def onednn_is_faster() -> bool:
    """Whether fp32 products are better made by oneDNN than by MKL, which PyTorch asks.

    On AMD's processors MKL leaves AVX-512 aside, and with it half of what they can do. The choice follows from the
    machine alone, not from a measurement, so that it is the same in every run.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not _is_amd():
        return False
    try:
        onednn_linear(torch.zeros(1, 1), torch.zeros(1, 1), None)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def onednn_linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """x W.T + b by oneDNN. The operation is private to PyTorch: `onednn_is_faster` tries it first.

    oneDNN makes and keeps a program for each number of rows, half a megabyte. So rows are added up to the next of a few
    numbers (1, 4, 8, 16, 24, then four an octave): memory stays bounded, however many lengths come along.
    """
    flat_NI = x.reshape(-1, x.shape[-1])
    rows = len(flat_NI)
    step = 1 if rows < 2 else 4 if rows <= 8 else max(8, 1 << rows.bit_length() - 3)
    if extra := -rows % step:
        flat_NI = F.pad(flat_NI, (0, 0, 0, extra))
    y_NO: Tensor = torch.ops.mkldnn._linear_pointwise(flat_NI, weight_OI, bias_O, "none", [], "")
    return y_NO[:rows].view(*x.shape[:-1], len(weight_OI))


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """Large products in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)


def share_threads(work: Callable[[Item], Result], items: Sequence[Item], stop: Event) -> list[Result]:
    """Works on each item in a thread of the interpreter, with its share of the processor's threads.

    Of small operations, two workers of one thread each do a tenth more than one worker of two: neither waits for the
    other at the end of each. `stop` is set where one of them fails or a signal comes: the others should look at it.
    """
    faults: list[BaseException] = []

    def guarded(item: Item) -> Result:
        try:
            return work(item)
        except BaseException as error:
            faults.append(error)
            stop.set()
            raise

    threads = torch.get_num_threads()
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(len(items), initializer=torch.set_num_threads, initargs=(threads // len(items),)) as pool:
        try:
            return list(pool.map(guarded, items))
        except BaseException:
            stop.set()
            if faults:  # the first in time, not that of the first item: others may only have heard of it
                raise faults[0] from None
            raise
        finally:
            torch.set_num_threads(threads)  # one part of torch has a number for all threads of the interpreter


def explain_memory(error: BaseException, remedy: str) -> RunFailed | None:
    """A clear end for an allocation that failed; None for any other error.

    Args:
        error: what was raised.
        remedy: which keys to lower.
    """
    words = str(error).lower()
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    if known or "allocate memory" in words or "out of memory" in words:
        return RunFailed(f"out of memory: {remedy}")
    return None


def keep_programs() -> None:
    """Tells oneDNN to keep the programs that it makes for each shape of a product; to be called before the first one.

    An epoch has batches of some two hundred shapes, which need more programs than the 1,024 that oneDNN keeps: it would
    make them anew in every epoch, and leave gaps between those that it drops. With these kept, the memory that training
    takes grows no more after the first epoch, and an update takes 3 % less time.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "4096")


def keep_freed_memory() -> None:
    """Tells glibc to keep large freed blocks: otherwise each large tensor is mapped, zeroed and unmapped anew.

    On two cores this makes a training step about a third faster. Elsewhere than on glibc it does nothing.
    """
    libc = _glibc()
    if libc and libc.mallopt(_M_MMAP_THRESHOLD, 2**30):  # refused by a glibc before 2.35
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


class FreedMemory:
    """Gives the system what is free between blocks in use, once that is much.

    Tensors of ever other shapes leave gaps that no later one fills, ever more of them where the shapes are too many for
    `keep_programs`. To give them back takes about a second, most of it when the memory is taken again: done every 25
    updates it costs a sixth of the speed. So an eighth of the memory may lie in gaps, of all workers here together.

    Args:
        spare_bytes: how much may lie in gaps, beside half of what is in use.
    """

    def __init__(self, spare_bytes: int | None = None) -> None:
        self._in_use = 0
        workers_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._spare = memory() // 8 // workers_here if spare_bytes is None else spare_bytes

    def watch(self) -> None:
        """To be called now and then; elsewhere than on glibc it does nothing."""
        libc = _glibc()
        if libc and resident_bytes() > 1.5 * self._in_use + self._spare:
            libc.malloc_trim(0)
            self._in_use = resident_bytes()


def resident_bytes() -> int:
    """What this process has in memory now; Linux alone."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
