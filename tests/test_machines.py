"""Workers that are started together translate and evaluate as one process does, and end together."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forks
import pytest
import torch
import toy
import workers
from workers import Ended

from s2s_cli import dispatch, distributed
from s2s_cli.distributed import own_device
from s2s_cli.errors import RunFailed, UserError
from s2s_cli.translate import formats, lines, machines
from s2s_cli.translate.translator import Translator

COMMAND = ("translate", "--model", "runs/text", "--beam", 1, "--input", "big.txt", "--output", "out")


@pytest.fixture(scope="module")
def context() -> Any:
    return forks.server()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that learned a little, a file of some windows, and its translation by one process."""
    folder = tmp_path_factory.mktemp("machines")
    for name, changes in {"text": {}, "features": toy.of_features(), "other": {"training__seed": 2}}.items():
        config = toy.write_config(folder, **{"training__max_steps": 10, **changes})
        assert toy.invoke("train", "--config", config, "--run", folder / "runs" / name) is None
    sources = [source for source, _ in toy.pairs(700, seed=5)]
    sources[100] = sources[500] = "copy\0a"
    (folder / "big.txt").write_text("".join(f"{line}\n" for line in sources))
    (folder / "big.tsv").write_text("".join(f"{line}. Copy Zürich!\t{at}\n" for at, line in enumerate(sources)))
    rows = [{"source": line, "forbid": "a"} for line in sources]
    (folder / "big.jsonl.gz").write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    done = toy.s2s(*COMMAND[:-1], "whole", cwd=folder)
    assert done.returncode == 0
    (folder / "told").write_bytes(done.stderr)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for path in trained.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def assert_whole(folder: Path, ended: Ended) -> None:
    assert ended.codes == [0] * len(ended.codes), ended.told
    assert (folder / "out").read_bytes() == (folder / "whole").read_bytes()
    assert not (folder / "out.part").exists()
    warned = [line for line in ended.told[0].splitlines() if line.startswith("warning:")]
    assert warned == (folder / "told").read_text().splitlines()
    assert not any(ended.told[1:]), "the first one alone tells"


def small_windows_of_features(rank: int) -> None:
    formats.LAST_WINDOW = 7


def small_windows(rank: int) -> None:
    lines.FIRST_WINDOW = lines.LAST_WINDOW = 16


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (2, ("text", "--input", "big.txt", "--output", "out.gz", "--n-best", 2, "--scores")),
        (3, ("text", "--input", "big.tsv", "--output", "out", "--format", "tsv", "--split")),
        (2, ("text", "--input", "big.jsonl.gz", "--output", "out", "--format", "jsonl", "--alignments")),
        (2, ("features", "--input", "test.safetensors", "--output", "out", "--search", "sampling", "--samples", 3)),
    ],
    ids=["n-best", "split", "jsonl", "features"],
)
def test_the_file_is_that_of_one_process(context: Any, folder: Path, size: int, options: tuple[object, ...]) -> None:
    run, *others = options
    command = "translate", "--model", f"runs/{run}", *others
    assert toy.invoke(*command) is None
    output = folder / str(options[4])
    expected = output.read_bytes()
    output.unlink()
    ended = workers.run(context, folder, size, *command, prepare=small_windows_of_features)
    assert ended.codes == [0] * size, ended.told
    assert output.read_bytes() == expected
    assert not any(ended.told[1:])


def die_in_the_second_piece(rank: int) -> None:
    small_windows(rank)
    plain, pieces = machines.answer, iter(range(100))

    def answer(*arguments: Any) -> Any:
        if rank == 1 and next(pieces) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*arguments)

    machines.answer = answer


def fail_in_the_second_piece(rank: int) -> None:
    small_windows(rank)
    plain, pieces = machines.answer, iter(range(100))

    def answer(*arguments: Any) -> Any:
        if rank == 1 and next(pieces) == 1:
            raise RunFailed("out of memory")
        return plain(*arguments)

    machines.answer = answer


@pytest.mark.parametrize("then", [1, 3])
def test_killed_it_goes_on_with_other_workers(context: Any, folder: Path, then: int) -> None:
    ended = workers.run(context, folder, 2, *COMMAND, "--batch-size", 1, prepare=die_in_the_second_piece)
    assert ended.codes == [3, -signal.SIGKILL], ended.told
    assert ended.told[0].count("s2s: error: another worker is gone") == 1
    assert "Traceback" not in ended.told[0]
    assert not (folder / "out").exists()
    ended = workers.run(context, folder, then, *COMMAND, prepare=small_windows)
    assert ended.told[0].startswith("goes on after line")
    assert_whole(folder, ended)


def test_an_error_of_one_ends_all_and_is_told_once(context: Any, folder: Path) -> None:
    ended = workers.run(context, folder, 3, *COMMAND, prepare=fail_in_the_second_piece)
    assert ended.codes == [3, 3, 3]
    assert "s2s: error: out of memory; the same command goes on after line" in "".join(ended.told)
    assert "".join(ended.told).count("error") == 1
    assert_whole(folder, workers.run(context, folder, 2, *COMMAND, prepare=small_windows))


def slow_pieces(rank: int) -> None:
    small_windows(rank)
    plain = machines.answer

    def answer(*arguments: Any) -> Any:
        time.sleep(0.1)
        return plain(*arguments)

    machines.answer = answer


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_stops_all(context: Any, folder: Path, rank: int) -> None:
    started = workers.start(context, folder, 2, *COMMAND, prepare=slow_pieces)
    began, journal = time.monotonic(), folder / "out.part" / "journal"
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        assert time.monotonic() - began < 60
        time.sleep(0.01)
    os.kill(started.processes[rank].pid, signal.SIGTERM)
    ended = started.end()
    assert ended.codes == [143, 143], ended.told
    assert ended.told[0].startswith("s2s: stopped by SIGTERM; the same command goes on after line")
    assert not ended.told[1]
    assert_whole(folder, workers.run(context, folder, 2, *COMMAND, prepare=small_windows))


def impatient(rank: int) -> None:
    dispatch.SILENCE_SECONDS, dispatch.TELL_SECONDS = 4, 0.2


def slow_but_there(rank: int) -> None:
    impatient(rank)
    plain = machines.answer

    def answer(translator: Translator, *arguments: Any) -> Any:
        for _ in range(50 if rank else 0):
            time.sleep(0.1)
            translator.between_batches()
        return plain(translator, *arguments)

    machines.answer = answer


def silent(rank: int) -> None:
    impatient(rank)
    plain = machines.answer

    def answer(*arguments: Any) -> Any:
        time.sleep(1000 if rank else 0)
        return plain(*arguments)

    machines.answer = answer


def test_who_is_slow_is_waited_for_and_who_is_silent_is_not(context: Any, folder: Path) -> None:
    assert_whole(folder, workers.run(context, folder, 2, *COMMAND, prepare=slow_but_there))
    (folder / "out").unlink()
    started = workers.start(context, folder, 2, *COMMAND, prepare=silent)
    started.processes[0].join(60)
    assert started.processes[0].exitcode == 3
    assert "did not answer within the time limit (4 s)" in started.logs[0].read_text()
    started.processes[1].kill()
    started.processes[1].join()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--input", "big.txt"), "several workers translate a file to a file"),
        (("--output", "out"), "several workers translate a file to a file"),
        (("--input", "big.txt", "--output", "/dev/null"), "several workers translate a file to a file"),
        (("--input", "big.txt", "--output", "out", "--attention", "a.npz"), "--attention"),
        (("--input", "big.txt", "--output", "out", "--workers", "auto"), "--workers auto"),
        (("--input", "big.txt", "--output", "out", "--fresh"), "remove out.part"),
        (("--input", "none.txt", "--output", "out"), "several workers translate a file to a file"),
        (("--input", "big.txt", "--output", "none/out"), "--output none/out"),
        (("--input", "big.txt", "--output", "out", "--n-best", 3), "n_best"),
    ],
)
def test_what_they_cannot_do_is_refused_once(
    context: Any, folder: Path, options: tuple[object, ...], word: str
) -> None:
    ended = workers.run(context, folder, 2, *COMMAND[:5], *options)
    assert ended.codes == [2, 2]
    assert ended.told[0].startswith("s2s: error: ") and word in ended.told[0]
    assert ended.told[0].count("\n") == 1 and not ended.told[1]


def another_model(rank: int) -> None:
    if rank == 1:
        Path("elsewhere/runs").mkdir(parents=True)
        for name in ("big.txt", "test.src", "test.tgt"):
            Path("elsewhere", name).symlink_to(Path(name).resolve())
        Path("elsewhere/runs/text").symlink_to(Path("runs/other").resolve())
        os.chdir("elsewhere")


@pytest.mark.parametrize(
    ("command", "what"), [(COMMAND, "--model 1"), (("evaluate", "--model", "runs/text"), "model, config")]
)
def test_workers_that_see_another_model_are_refused(
    context: Any, folder: Path, command: tuple[object, ...], what: str
) -> None:
    ended = workers.run(context, folder, 2, *command, prepare=another_model)
    assert ended.codes == [2, 2]
    assert f"worker 1 sees another {what} than the first one" in "".join(ended.told)
    assert "".join(ended.told).count("\n") == 1


def evaluation(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def own_cache(rank: int) -> None:
    os.environ["S2S_CACHE"] = "cache"


def test_an_evaluation_is_that_of_one_process(context: Any, folder: Path) -> None:
    size = 3
    command = "evaluate", "--model", "runs/text", "--baseline", "runs/other", "--max", "loss=9", "--json"
    assert toy.invoke(*command, "one.json", "--no-cache") is None
    ended = workers.run(context, folder, size, *command, "all.json", prepare=own_cache)
    assert ended.codes == [0] * size, ended.told
    assert not any(ended.told)
    assert evaluation(folder / "all.json") == evaluation(folder / "one.json")
    assert len(list((folder / "cache" / "translations").iterdir())) == 2
    ended = workers.run(context, folder, size, *command, "cached.json", "--min", "chrf=99", prepare=own_cache)
    assert ended.codes == [1] * size, "a gate that was missed"
    assert ended.told[0].count("taken from the cache") == 2
    assert evaluation(folder / "cached.json")["scores"] == evaluation(folder / "one.json")["scores"]


def test_what_cannot_be_judged_is_told_once(context: Any, folder: Path) -> None:
    ended = workers.run(context, folder, 2, "evaluate", "--hypothesis", "big.txt", "--reference", "test.tgt")
    assert ended.codes == [2, 2]
    assert ended.told[0].startswith("s2s: error: misaligned") and not ended.told[1]


def test_on_a_machine_with_several_gpus_each_worker_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(distributed, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert own_device("cuda") == torch.device("cuda") and not current, "alone"
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device("cuda") == torch.device("cuda:1") and current == [torch.device("cuda:1")]
    assert own_device("cuda:0") == torch.device("cuda:0") and own_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="device mps"):
        own_device("mps")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="3 workers on this machine, but 2 GPUs"):
        own_device("cuda")
    assert len(current) == 1


def test_by_torchrun_a_killed_worker_ends_all_and_the_same_command_goes_on(folder: Path) -> None:
    process = workers.torchrun(folder, 2, *COMMAND, "--batch-size", 1)
    started = [process]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    began, journal = time.monotonic(), folder / "out.part" / "journal"
    try:
        while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
            assert time.monotonic() - began < 60
            time.sleep(0.005)
        os.kill(int(children.read_text().split()[1]), signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == 1
        assert not (folder / "out").exists()
        again = workers.torchrun(folder, 2, *COMMAND)
        started.append(again)
        _, told = again.communicate(timeout=60)
        assert again.returncode == 0, told.decode()
        assert b"goes on after line" in told
        assert (folder / "out").read_bytes() == (folder / "whole").read_bytes()
    finally:
        for each in started:
            if each.poll() is None:
                os.killpg(each.pid, signal.SIGKILL)


def test_by_torchrun_a_missed_gate_fails_the_build(folder: Path) -> None:
    process = workers.torchrun(folder, 2, "evaluate", "--model", "runs/text", "--json", "j", "--min", "chrf=99")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"exitcode  : 1" in told
    assert evaluation(folder / "j")["scores"]["chrf"]["value"] < 99
