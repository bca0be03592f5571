"""How time and memory grow; each figure from an interpreter of its own: `python -m benchmarks.growth corpus 1000`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.measure import ROOT, Figures, seconds
from benchmarks.training import model
from s2s_cli.config import DataConfig, DecodingConfig, ParallelText, TokenizerConfig
from s2s_cli.data.batches import POOL_PAIRS, Batch, Sampler
from s2s_cli.data.corpus import Corpus, train_tokenizer
from s2s_cli.data.mixture import Mixture
from s2s_cli.data.store import open_corpus
from s2s_cli.data.tokenizer import Specials, Tokenizer
from s2s_cli.model.seq2seq import SearchModel, Seq2Seq
from s2s_cli.search.flight import Sources
from s2s_cli.search.loop import decode

SPECIALS = Specials(pad=0, unk=1, bos=2, eos=3)
CHUNK, FILE_PAIRS = 10_000, 1_000_000


def measure(*, quick: bool) -> dict[str, list[Figures]]:
    """Opening a corpus by its size, memory of an update by vocabulary and budget, a step by the output's length."""
    every: dict[str, list[tuple[int, ...]]] = {
        "corpus": [(100_000,), (1_000_000,), (3_000_000,)],
        "memory": [(8_000, 2_048), (32_000, 2_048), (32_000, 4_096), (32_000, 8_192)],
        "length": [(10,), (40,), (160,)],
    }
    few: dict[str, list[tuple[int, ...]]] = {"corpus": [(20_000,)], "memory": [(8_000, 1_024)], "length": [(10,)]}
    return {name: [_apart(name, *each) for each in sizes] for name, sizes in (few if quick else every).items()}


def _apart(name: str, *sizes: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.growth", name, *map(str, sizes)]
    figures: Figures = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout)
    return figures


def corpus(pairs: int) -> Figures:
    """Generates a corpus in files of a million pairs, tokenizes it, opens it again, plans an epoch and takes batches.

    The epoch is planned as it is, and mixed of two texts. Memory held is what no file backs; the peak also has the
    pages of mapped files, which the system takes back when it needs them (Linux).
    """
    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.perf_counter()
        _generate(folder, pairs)
        generated = time.perf_counter()
        text = ParallelText(tsv=folder / "part-*.tsv")
        data = DataConfig.model_validate({"train": text.model_dump(), "valid": text.model_dump(), "max_ratio": 5})
        tokenizer = train_tokenizer([text], TokenizerConfig(type="word", vocab_size=500, max_sentences=10_000))
        before, ready = _megabytes("RssAnon"), time.perf_counter()
        open_corpus(folder / "corpus", [text], tokenizer, data)
        made = time.perf_counter()
        opened = open_corpus(folder / "corpus", [text], tokenizer, data)
        again, held = time.perf_counter(), _megabytes("RssAnon") - before
        plain, planned = _plan(opened, tokenizer)
        held_planned = _megabytes("RssAnon") - before
        began_batches = time.perf_counter()
        taken = sum(len(plain.next().tgt_len_B) for _ in range(500))
        batches = time.perf_counter() - began_batches
        del plain
        many = len(opened) * 9 // 10
        _, mixed = _plan(replace(opened, mixture=Mixture((many, len(opened) - many), (1.0, 1.0))), tokenizer)
        sizes = [sum(path.stat().st_size for path in folder.glob(each)) for each in ("*.tsv", "corpus/*")]
    return {
        "pairs": len(opened),
        "megabytes_of_text": round(sizes[0] / 2**20, 1),
        "megabytes_on_disk": round(sizes[1] / 2**20, 1),
        "seconds_to_generate": round(generated - began, 2),
        "seconds_to_make": round(made - ready, 2),
        "pairs_a_second_made": round(pairs / (made - ready)),
        "seconds_to_open": round(again - made, 4),
        "seconds_to_plan": round(planned, 4),
        "seconds_to_plan_mixed": round(mixed, 4),
        "pairs_a_second_in_batches": round(taken / batches),
        "megabytes_held": round(held, 1),
        "megabytes_with_the_plan": round(held_planned, 1),
        "megabytes_at_the_peak": round(_megabytes("VmHWM"), 1),
    }


def _plan(opened: Corpus, tokenizer: Tokenizer) -> tuple[Sampler, float]:
    """A sampler that went to every pool of an epoch, and its seconds; each time it draws the epoch's order anew."""
    began, sampler = time.perf_counter(), Sampler(opened, tokenizer, 4096, 1)
    for pool in range(1, -(-len(opened) // POOL_PAIRS)):
        sampler.restore({"epoch": 0, "pool": pool, "index": 0})
    return sampler, time.perf_counter() - began


def _generate(folder: Path, pairs: int) -> None:
    draw = torch.Generator().manual_seed(1)
    words = [f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400)]
    for start in range(0, pairs, CHUNK):
        lengths = torch.randint(5, 25, (min(CHUNK, pairs - start), 2), generator=draw).tolist()
        chosen = iter(torch.randint(len(words), (50 * CHUNK,), generator=draw).tolist())
        with open(folder / f"part-{start // FILE_PAIRS:03}.tsv", "a", encoding="utf-8") as file:
            for row in lengths:
                sides = (" ".join(words[next(chosen)] for _ in range(length)) for length in row)
                file.write("\t".join(sides) + "\n")


def _megabytes(kind: str) -> float:
    """Of this process alone (Linux): VmHWM is its peak, RssAnon what no file backs."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


def memory(vocabulary: int, batch_tokens: int) -> Figures:
    """What forward and backward of one batch add to the peak."""
    network = _network(vocabulary)
    rows = batch_tokens // 32
    ids, lengths = torch.randint(4, vocabulary, (rows, 32)), torch.full((rows,), 32)
    batch, small = (Batch(ids[:n], lengths[:n], ids[:n], ids[:n], lengths[:n]) for n in (rows, 1))
    network.losses(small, 0.1).smoothed.backward()  # type: ignore[no-untyped-call]
    before = _megabytes("VmHWM")
    for _ in range(2):
        network.losses(batch, 0.1).smoothed.backward()  # type: ignore[no-untyped-call]
    return {
        "vocabulary": vocabulary,
        "batch_tokens": batch_tokens,
        "megabytes": round(_megabytes("VmHWM") - before),
        "megabytes_of_one_copy_of_the_logits": round(batch_tokens * vocabulary * 4 / 2**20),
    }


def length(steps: int) -> Figures:
    """Greedy search of 64 sentences that end at their limit."""
    network = _network(8_000)
    with torch.no_grad():
        network.output.bias[SPECIALS.eos] = -1000.0
    source = Sources(torch.randint(4, 8_000, (64, 20)), torch.full((64,), 20), torch.full((64,), steps))
    ready = SearchModel(network, torch.float32)
    taken = seconds(lambda: decode(ready, [source], DecodingConfig(beam=1), bos=2, eos=3), repeats=5)
    return {"steps": steps, "seconds": round(taken, 3), "milliseconds_a_step": round(1000 * taken / steps, 2)}


def _network(vocabulary: int) -> Seq2Seq:
    config = model("lstm", "luong-general", feeding=False, tie_embeddings="all")
    return Seq2Seq(config, vocabulary, vocabulary, SPECIALS, SPECIALS)


if __name__ == "__main__":
    kinds: dict[str, Callable[..., Figures]] = {"corpus": corpus, "memory": memory, "length": length}
    print(json.dumps(kinds[sys.argv[1]](*map(int, sys.argv[2:]))))
