"""Damaged, swapped and hostile run directories: refused by name, in one line, without a traceback."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import child
import pytest
import safetensors.torch
import torch
import toy

from s2s_cli.checkpoint import identity, load_model
from s2s_cli.config import Config
from s2s_cli.data.tokenizer import fingerprint
from s2s_cli.errors import UserError
from s2s_cli.files import sha256
from s2s_cli.run import RunDirectory, find_model
from s2s_cli.train.session import _last_checkpoint

Rounds = Callable[[int, int], int]
Record = Callable[[str, object], None]
SMALL: dict[str, Any] = {
    "model__encoder__hidden_size": 8,
    "model__decoder__hidden_size": 16,
    "model__embedding_size": 8,
}
KINDS = {
    "weights": "checkpoints/{best}/model.safetensors",
    "optimizer": "checkpoints/{last}/training.safetensors",
    "state": "checkpoints/{last}/state.json",
    "manifest": "checkpoints/{best}/manifest.json",
    "tokenizer": "tokenizer/shared.model",
    "config": "config.yaml",
    "best": "best",
    "last": "last",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run; `best` and `last` are not the same checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    child.write_task(folder, **SMALL, training__keep_last=4)
    done = toy.s2s("train", "--config", "toy.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    run = folder / "runs" / "toy"
    (run / "best").write_text("step-00000003\n")
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    return copy


def load(run: Path) -> None:
    """All that `s2s translate` and `s2s train` read of a run before they begin."""
    load_model(*find_model(run))
    directory = RunDirectory(run)
    checkpoint = _last_checkpoint(directory, directory.read_config())
    assert checkpoint is not None
    checkpoint.training()
    checkpoint.state()


def place(run: Path, kind: str) -> Path:
    names = {name: (run / name).read_text().strip() for name in ("best", "last")}
    return run / KINDS[kind].format(**names)


def is_refused(run: Path, path: Path) -> str:
    """The one line that names the file or what it belongs to."""
    with pytest.raises(UserError) as caught:
        load(run)
    line = str(caught.value)
    assert len(line.splitlines()) == 1, line
    assert all(char.isprintable() for char in line), line
    named = (path.name, path.parent.name, "tokenizer", run.name)
    assert any(name in line for name in named), line
    return line


def test_the_run_loads(trained: Path) -> None:
    load(trained)


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_are_refused(kind: str, run: Path, rounds: Rounds, record_property: Record) -> None:
    path = place(run, kind)
    whole, draw = path.read_bytes(), random.Random(kind)
    flips = rounds(40, 1000)
    for _ in range(flips):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        is_refused(run, path)
    path.write_bytes(whole)
    load(run)
    record_property("figure", f"{kind}: {flips} of {flips} flipped bits refused")


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_refused(kind: str, run: Path, rounds: Rounds, record_property: Record) -> None:
    """At every byte of a header and at the edges of tensors; a pointer without its line feed alone still says all."""
    path = place(run, kind)
    whole = path.read_bytes()
    edges = set(range(min(len(whole), 300)))
    if path.suffix == ".safetensors":
        (header,) = struct.unpack("<Q", whole[:8])
        tensors = json.loads(whole[8 : 8 + header])
        ends = {8 + header + end for item in tensors.values() if "data_offsets" in item for end in item["data_offsets"]}
        edges = set(range(8 + header)) | {end + step for end in ends for step in (-1, 0, 1)}
    cuts = sorted(edge for edge in edges if edge < len(whole) - (kind in ("best", "last")))
    if (most := rounds(40, len(cuts))) < len(cuts):
        cuts = sorted(random.Random(kind).sample(cuts, most))
    for cut in cuts:
        path.write_bytes(whole[:cut])
        is_refused(run, path)
    record_property("figure", f"{kind}: cut at {len(cuts)} places, each refused")


def test_a_whole_checkpoint_is_offered_in_place_of_a_damaged_one(run: Path, trained: Path) -> None:
    for kind, command in (("weights", "--model"), ("optimizer", "last")):
        path = place(run, kind)
        kept = path.read_bytes()
        path.write_bytes(kept[:-1])
        line = is_refused(run, path)
        offered = [other for other in RunDirectory(run).checkpoints() if f"{other} is whole" in line]
        assert len(offered) == 1 and offered[0] != path.parent
        assert command in line.partition("is whole")[2]
        if kind == "weights":
            load_model(*find_model(offered[0]))
        else:
            (run / "last").write_text(f"{offered[0].name}\n")
            load(run)
            best = (run / "best").read_text().strip()
            shutil.rmtree(run / "checkpoints" / "step-00000003")  # as if it had been pruned since
            (run / "best").write_text("step-00000012\n")
            done = toy.s2s("train", "--config", trained.parent.parent / "toy.yaml", "--run", run, cwd=run.parent)
            assert done.returncode == 0, done.stderr.decode()
            load_model(*find_model(run))
            assert best == "step-00000003"
        path.write_bytes(kept)
    for file in run.glob("checkpoints/*/model.safetensors"):
        file.write_bytes(b"")
    assert "no other checkpoint of the run is whole" in is_refused(run, run / "checkpoints")


# --- parts of different runs


def test_parts_of_different_runs_do_not_go_together(
    run: Path, trained: Path, tmp_path: Path, record_property: Record
) -> None:
    work = tmp_path / "other"
    child.write_task(work, **SMALL, training__keep_last=4, training__seed=2)
    (work / "train.src").write_text((work / "train.src").read_text().replace("copy", "repeat"))  # another tokenizer
    done = toy.s2s("train", "--config", "toy.yaml", cwd=work)
    assert done.returncode == 0, done.stderr.decode()
    other = work / "runs" / "toy"
    mine, theirs = ([place(path, kind) for kind in KINDS if kind not in ("best", "last")] for path in (run, other))
    swaps = [*zip(mine, theirs, strict=True), (mine[0].parent, theirs[0].parent)]
    for own, foreign in swaps:
        kept = tmp_path / "kept"
        own.rename(kept)
        (shutil.copytree if foreign.is_dir() else shutil.copyfile)(foreign, own)
        is_refused(run, own)
        (shutil.rmtree if own.is_dir() else os.unlink)(own)
        kept.rename(own)
    load(run)
    record_property("figure", f"{len(swaps)} parts of another run in the place of this one's: all refused")


# --- run directories from a stranger


def sealed(run: Path, **changes: Any) -> None:
    """Changes the best checkpoint, or the run's config, and makes all hashes right again, as a stranger would."""
    directory = RunDirectory(run)
    config = directory.read_config()
    if section := changes.get("config"):
        data = config.model_dump(mode="json")
        for key, value in section.items():
            place_in, name = data, key.split(".")
            for part in name[:-1]:
                place_in = place_in[part]
            place_in[name[-1]] = value
        config = Config.model_validate_json(json.dumps(data))
        directory.write_config(config)
    checkpoint = place(run, "weights").parent
    for name, content in changes.get("files", {}).items():
        (checkpoint / name).write_bytes(content)
    manifest = json.loads((checkpoint / "manifest.json").read_bytes())
    manifest["files"] = {name: sha256((checkpoint / name).read_bytes()) for name in manifest["files"]}
    manifest["config"] = identity(config)
    manifest["tokenizer"] = fingerprint(directory.read_tokenizer_files())
    manifest |= changes.get("manifest", {})
    manifest.pop("sha256")
    manifest["sha256"] = sha256(json.dumps(manifest, sort_keys=True).encode())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def tensors_of(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = safetensors.torch.load_file(place(run, "weights"))
    return found


def pack(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def replace_by(make: Callable[[Path], object], kind: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        path = place(run, kind)
        path.unlink()
        make(path)

    return change


def bind(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name must be short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def hole(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 41)


def other_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(run: Path) -> None:
        tensors = tensors_of(run)
        change(tensors)
        sealed(run, files={"model.safetensors": safetensors.torch.save(tensors)})

    return rewrite


def other_bytes(make: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda run: sealed(run, files={"model.safetensors": make()})


def other_config(**changes: Any) -> Callable[[Path], None]:
    return lambda run: sealed(run, config={key.replace("__", "."): value for key, value in changes.items()})


def pointing_to(text: bytes) -> Callable[[Path], None]:
    def rewrite(run: Path) -> None:
        for name in ("best", "last"):
            (run / name).write_bytes(text)

    return rewrite


def other_tokenizer(content: bytes) -> Callable[[Path], None]:
    def rewrite(run: Path) -> None:
        place(run, "tokenizer").write_bytes(content)
        sealed(run)

    return rewrite


def linked_folder(run: Path) -> None:
    checkpoint = place(run, "weights").parent
    moved = checkpoint.rename(run.parent / "elsewhere")
    checkpoint.symlink_to(moved)


def first(tensors: dict[str, torch.Tensor]) -> str:
    return min(tensors)


def hostile() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Name, and what a stranger did to a run."""
    for text in (
        b"../../step-00000003", b"/etc", b"/etc/passwd", b".", b"..", b"step-00000003/..", b"step-00000003/x",
        b"step-00000003\0", b"step-99999999", b"checkpoints/step-00000003", b"\xff\xfe", b"", b"\n", b"A" * 2000,
        "step-0000000٣".encode(), b"step-00000003\nstep-00000006",
    ):  # fmt: skip
        yield f"a pointer to {text[:40]!r}", pointing_to(text)
    makers: dict[str, Callable[[Path], object]] = {
        "a link to a device": lambda path: path.symlink_to("/dev/zero"),
        "a link to a file": lambda path: path.symlink_to("/etc/hostname"),
        "a link to itself": lambda path: path.symlink_to(path),
        "a pipe": os.mkfifo,
        "a folder": lambda path: path.mkdir(),
    }
    for kind in ("weights", "manifest", "tokenizer", "config", "best"):
        for name, make in makers.items():
            yield f"{kind}: {name}", replace_by(make, kind)
    yield "config: a socket", replace_by(bind, "config")
    for kind in ("weights", "manifest", "tokenizer", "config", "best"):
        yield f"{kind}: a hole of 2 TB", replace_by(hole, kind)
    yield "a checkpoint that is a link", linked_folder
    yield "a header of 2^63 bytes", other_bytes(lambda: pack({}, length=(1 << 63) - 1))
    yield "a header of 100 MB", other_bytes(lambda: pack(b" " * 100_000_001))
    yield "a header that is no JSON", other_bytes(lambda: pack(b"{" * 1000))
    yield "a header nested deeply", other_bytes(lambda: pack(b'{"a":' * 100_000 + b"1" + b"}" * 100_000))
    yield (
        "offsets beyond the file",
        other_bytes(lambda: pack({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, b"\0" * 8)),
    )
    yield (
        "offsets that overlap",
        other_bytes(lambda: pack({n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}, b"\0" * 8)),
    )
    yield (
        "a shape that overflows",
        other_bytes(lambda: pack({"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 0]}})),
    )
    yield (
        "an unknown type",
        other_bytes(lambda: pack({"a": {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4)),
    )
    yield "a pickle", other_bytes(lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    yield "another shape", other_tensors(lambda t: t.update({first(t): torch.zeros(3)}))
    yield "a tensor too few", other_tensors(lambda t: t.pop(first(t)))
    yield "a tensor too many", other_tensors(lambda t: t.update({"extra": torch.zeros(1)}))
    yield "a tensor of another name", other_tensors(lambda t: t.update({"../../x": t.pop(first(t))}))
    yield "a model of the largest size", other_config(model__encoder__hidden_size=65_536, model__encoder__layers=100)
    yield (
        "a manifest that names files elsewhere",
        lambda run: sealed(run, manifest={"files": {"../../config.yaml": sha256((run / "config.yaml").read_bytes())}}),
    )
    yield "a manifest without files", lambda run: sealed(run, manifest={"files": {}})
    yield "a tokenizer that is none", other_tokenizer(b"\x0a\xff\xff\xff\xff\x0f" * 100)
    yield "a tokenizer of nothing", other_tokenizer(b"")


HOSTILE = dict(hostile())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_run_is_refused(name: str, run: Path) -> None:
    assert len(HOSTILE) >= 50
    HOSTILE[name](run)
    with pytest.raises(UserError) as caught:
        load_model(*find_model(run))
    line = str(caught.value)
    assert 0 < len(line) < 2000
    assert len(line.splitlines()) == 1, line
    assert all(char.isprintable() for char in line), line


@pytest.mark.parametrize("name", ["weights: a pipe", "config: a link to a device", "another shape"])
def test_a_hostile_run_is_refused_by_the_command_too(name: str, run: Path) -> None:
    HOSTILE[name](run)
    done = toy.s2s("translate", "--model", run, cwd=run.parent, stdin=b"copy a\n", timeout=60)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr


def test_what_a_run_holds_beside_its_own_files_is_never_read(run: Path) -> None:
    for name in ("pickle.pt", "tokenizer.py", "conftest.py", "sitecustomize.py"):
        (run / name).write_text("raise SystemExit('this must not run')")
    load(run)
    assert {path.name for path in run.iterdir()} > {"pickle.pt", "conftest.py"}


def test_headers_end_where_they_say(trained: Path) -> None:
    """The edges that the truncations are made at are real ones."""
    whole = place(trained, "weights").read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    tensors = json.loads(whole[8 : 8 + header])
    ends = sorted(item["data_offsets"] for name, item in tensors.items() if name != "__metadata__")
    assert all(before[1] == after[0] for before, after in pairwise(ends))
    assert 8 + header + ends[-1][1] == len(whole)
