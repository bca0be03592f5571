"""Memory that is freed: kept for the next tensors, and given back where it lies in gaps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
