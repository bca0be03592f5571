"""What all measurements share: the machine, medians, and one line for each figure."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
"""Of programs that are started: they are those of this folder."""
Figures = dict[str, Any]


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median time of some calls, after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken)


def matrix_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 9) -> float:
    """Floating-point operations a second of a square matrix product."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    with torch.inference_mode():
        return 2 * size**3 / seconds(lambda: a @ b, repeats)


def processor() -> tuple[str, list[str]]:
    """Its name, and which of the wider vectors it has."""
    name = platform.processor()
    flags: set[str] = set()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
        flags = set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
    return name, sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"})


def machine() -> Figures:
    """The processor, and what it can do at best."""
    name, vector = processor()
    rates = {"fp32": matrix_rate(torch.float32)}
    if {"avx512_bf16", "amx_bf16"} & set(vector):
        rates["bf16"] = matrix_rate(torch.bfloat16)
    return {
        "processor": name,
        "threads": torch.get_num_threads(),
        "vector": vector,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "matrix_gflops": {name: round(rate / 1e9, 1) for name, rate in rates.items()},
    }


def about() -> Figures:
    """What is kept with each figure: machine and commit."""
    name, vector = processor()
    changed = _git("status", "--porcelain", "--untracked-files=no", "s2s_cli", "benchmarks", "data")
    commit = _git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    return {"machine": f"{name} ({', '.join(vector)})", "PyTorch": torch.__version__, "commit": commit}


def _git(*arguments: str) -> str:
    """What git says; nothing where there is none."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()
