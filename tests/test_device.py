"""Precision; and memory that is freed: kept for the next tensors, and given back where it lies in gaps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from s2s_cli import device, files
from s2s_cli.errors import UserError

ROOT = Path(__file__).parent.parent

IN_GAPS = """
import torch
from s2s_cli.device import FreedMemory, keep_freed_memory, resident_bytes

def resident():
    return resident_bytes() // 2**20

keep_freed_memory()
memory = FreedMemory(2**28)
memory.watch()
blocks = [torch.ones(2**18) for _ in range(800)]
full = resident()
del blocks[::2], blocks[1::3]
freed = resident()
memory.watch()
print(full, freed, resident(), len(blocks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
def test_what_lies_in_gaps_is_given_back() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", IN_GAPS], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    full, freed, after, left = map(int, done.stdout.split())
    assert full - freed < 20, "freed blocks are kept"
    assert full - after > 0.9 * (800 - left)


def test_memory_is_what_a_container_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, other = tmp_path / "memory.max", tmp_path / "gone"
    monkeypatch.setattr(files, "CONTAINER_MEMORY", (limit, other))
    whole = files.memory()
    for text, expected in (("max\n", whole), ("80000\n", 80_000)):
        limit.write_text(text)
        assert files.memory() == expected
    assert device.FreedMemory()._spare == 10_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert device.FreedMemory()._spare == 2_500, "each of four workers"


def test_a_gpu_that_is_named_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else graphs would be recorded on the first one, and hold nothing."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cudnn, "allow_tf32", True)
        assert device.choose_device("cuda") == torch.device("cuda") and not current
        assert not torch.backends.cudnn.allow_tf32, "fp32 means fp32"
        assert device.choose_device("cuda:1") == torch.device("cuda:1")
    assert current == [torch.device("cuda:1")]


def test_bf16_is_refused_where_the_processor_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(device, "has_bf16", lambda _: False)
    with pytest.raises(UserError, match="auto and fp32 go everywhere"):
        device.choose_precision("bf16", cpu)
    assert device.choose_precision("fp32", cpu) == torch.float32
    monkeypatch.setattr(device, "has_bf16", lambda _: True)
    assert device.choose_precision("bf16", cpu) == torch.bfloat16


def test_where_bf16_is_chosen_models_can_be_trained_in_it() -> None:
    """What `auto` takes and what is not refused must go: oneDNN's LSTM has no way on processors without AVX-512."""
    cpu = torch.device("cpu")
    assert device.has_bf16(cpu) or device.choose_precision("auto", cpu) == torch.float32
    lstm = torch.nn.LSTM(4, 4)
    with device.autocast(cpu, torch.bfloat16 if device.has_bf16(cpu) else torch.float32):
        assert lstm(torch.zeros(3, 2, 4))[0].shape == (3, 2, 4)


@pytest.mark.parametrize(("cuda", "mps", "found"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_the_gpu_that_is_there(cuda: bool, mps: bool, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device.choose_device("auto") == torch.device(found)
