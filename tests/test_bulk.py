"""Big files: killed, refused or stopped at any moment, or shared by processes, they give what one quiet run gives."""

from __future__ import annotations

import errno
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forks
import pytest
import toy

sys.path.insert(0, str(Path(__file__).parent / "torture"))
import child
from child import Fault
from terminal import Terminal, screen

from s2s_cli.config import DecodingConfig
from s2s_cli.data.features import FeatureFile
from s2s_cli.errors import RunFailed, UserError
from s2s_cli.packing import open_unpacked
from s2s_cli.translate import workers
from s2s_cli.translate.bulk import can_go_on
from s2s_cli.translate.entry import Notices
from s2s_cli.translate.formats import Prefixed, choose_format
from s2s_cli.translate.lines import FIRST_WINDOW
from s2s_cli.translate.machines import refuse_alone
from s2s_cli.translate.part import Part
from s2s_cli.translate.streams import read_input
from s2s_cli.translate.translator import Translator

FROZEN = Path(__file__).parent / "frozen" / "format-1"
COMMAND = ("translate", "--model", "runs/toy", "--input", "big.txt", "--output", "runs/out.txt", "--beam", 1)
Rounds = Callable[[int, int], int]


@pytest.fixture(scope="module")
def context() -> Any:
    return forks.server()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, a file of some windows, and what its translation is."""
    path = tmp_path_factory.mktemp("bulk")
    toy.write_config(path, training__max_steps=10)
    done = toy.s2s("train", "--config", "toy.yaml", cwd=path)
    assert done.returncode == 0, done.stderr.decode()
    lines = [source for source, _ in toy.pairs(700, seed=5)]
    lines[100] = lines[500] = "copy\0a"
    (path / "big.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = toy.s2s(*COMMAND[:3], "--beam", 1, cwd=path, stdin=(path / "big.txt").read_bytes())
    (path / "whole").write_bytes(done.stdout)
    (path / "told").write_bytes(done.stderr)
    return path


@pytest.fixture(autouse=True)
def nothing_begun(folder: Path) -> Iterator[None]:
    yield
    subprocess.run(["rm", "-rf", folder / "runs/out.txt", folder / "runs/out.txt.part"], check=True)


def ends_whole(context: Any, folder: Path, *options: object) -> child.Ended:
    ended = child.run(context, folder, *COMMAND, *options)
    assert ended.code == 0, ended.stderr
    assert (folder / "runs/out.txt").read_bytes() == (folder / "whole").read_bytes()
    assert not (folder / "runs/out.txt.part").exists()
    warned = [line for line in ended.stderr.splitlines() if line.startswith("warning:")]
    assert warned == (folder / "told").read_text().splitlines(), "of all lines, those done before the kill too"
    return ended


def touches_of(context: Any, folder: Path) -> int:
    """Of a quiet run."""
    count = ends_whole(context, folder).touches
    (folder / "runs/out.txt").unlink()
    return count


def test_killed_at_every_touch_of_the_disk_it_goes_on_to_the_same_file(
    context: Any, folder: Path, rounds: Rounds
) -> None:
    touches = touches_of(context, folder)
    assert touches > 15
    chosen = range(1, touches + 1)
    for at in random.Random(1).sample(chosen, rounds(12, touches)):
        assert child.run(context, folder, *COMMAND, fault=Fault(at)).code == -signal.SIGKILL
        ends_whole(context, folder)
        (folder / "runs/out.txt").unlink()


def test_killed_again_and_again_it_still_ends(context: Any, folder: Path, rounds: Rounds) -> None:
    draw, killed = random.Random(2), 0
    while child.run(context, folder, *COMMAND, fault=Fault(draw.randint(8, 20))).code and killed < rounds(6, 30):
        killed += 1
    ends_whole(context, folder)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_disk_that_refuses_ends_with_3_and_one_line(number: int, context: Any, folder: Path, rounds: Rounds) -> None:
    touches = touches_of(context, folder)
    for at in random.Random(number).sample(range(1, touches + 1), rounds(6, touches)):
        ended = child.run(context, folder, *COMMAND, fault=Fault(at, number))
        what = (folder / "touches").read_text().splitlines()[at - 1]
        assert ended.code in (0, 3), (what, ended)
        assert ended.stderr.count("s2s: error:") == (1 if ended.code else 0), (what, ended)
        assert "Traceback" not in ended.stderr, (what, ended)
        if ended.code:
            assert not (folder / "runs/out.txt").exists() or "sync" in what
        ends_whole(context, folder)
        (folder / "runs/out.txt").unlink()


def left_in_the_middle(context: Any, folder: Path, command: tuple[object, ...] = COMMAND) -> int:
    """Leaves a part, killed in the third window, and returns how many of its lines are whole."""
    ended = child.run(context, folder, *command, fault=Fault(18))
    assert ended.code == -signal.SIGKILL
    assert "/output" in (folder / "touches").read_text().splitlines()[-1]
    return FIRST_WINDOW * 3


def test_it_says_where_it_goes_on_and_refuses_what_is_asked_otherwise(context: Any, folder: Path) -> None:
    lines = left_in_the_middle(context, folder)
    for options, word in (
        (["--beam", 2], "decoding.beam was 1, is 2"),
        (["--beam", 1, "--format", "jsonl"], "--format was None, is jsonl"),
    ):
        ended = child.run(context, folder, *COMMAND[:-2], *options)
        assert ended.code == 2
        (line,) = ended.stderr.splitlines()
        assert word in line and "--fresh" in line
    big = folder / "big.txt"
    about = big.stat()
    os.utime(big, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    ended = child.run(context, folder, *COMMAND)
    assert ended.code == 2 and "--input was" in ended.stderr
    os.utime(big, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert f"goes on after line {lines}" in child.run(context, folder, *COMMAND, "--batch-size", 3).stderr
    assert (folder / "runs/out.txt").read_bytes() == (folder / "whole").read_bytes()


def test_it_is_bound_to_its_model_and_terms_but_not_to_where_the_model_lies(
    context: Any, folder: Path, tmp_path: Path
) -> None:
    terms, command = folder / "terms", (*COMMAND, "--terminology", "terms")
    terms.write_text("a\tb\n")
    lines = left_in_the_middle(context, folder, command)
    about = terms.stat()
    os.utime(terms, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    ended = child.run(context, folder, *command)
    assert ended.code == 2 and "--terminology was" in ended.stderr
    os.utime(terms, ns=(about.st_atime_ns, about.st_mtime_ns))
    ended = child.run(context, folder, "translate", "--model", FROZEN, *command[3:])
    assert ended.code == 2 and "--model 1 was" in ended.stderr
    shutil.copytree(folder / "runs" / "toy", tmp_path / "moved")
    ended = child.run(context, folder, "translate", "--model", tmp_path / "moved", *command[3:])
    assert ended.code == 0 and f"goes on after line {lines}" in ended.stderr


def test_what_came_through_a_pipe_cannot_be_gone_on_with(tmp_path: Path) -> None:
    """Another time something else may come."""
    for name in ("in", "terms"):
        (tmp_path / name).write_text("a\tb\n")
    os.mkfifo(tmp_path / "pipe")
    assert can_go_on(tmp_path / "in", tmp_path / "out", [tmp_path / "terms"])
    assert not can_go_on(tmp_path / "in", tmp_path / "out", [tmp_path / "terms", tmp_path / "pipe"])
    assert not can_go_on(tmp_path / "pipe", tmp_path / "out", [])
    with pytest.raises(UserError, match="and --prefix and --terminology"):  # workers would each write what they got
        refuse_alone(tmp_path / "in", tmp_path / "out", [tmp_path / "pipe"], looks=False, processes="1", fresh=False)


def test_other_processes_are_not_given_all_prefixes(tmp_path: Path) -> None:
    sizes = []
    for lines in (10, 10_000):
        (tmp_path / "prefixes").write_text("a prefix\n" * lines)
        form = choose_format(DecodingConfig(), "text")
        sizes.append(len(pickle.dumps(Prefixed(form, tmp_path / "prefixes"))))
    assert sizes[0] == sizes[1]


def test_fresh_forgets_what_was_begun(context: Any, folder: Path) -> None:
    left_in_the_middle(context, folder)
    ended = child.run(context, folder, *COMMAND[:-2], "--beam", 2, "--fresh")
    assert ended.code == 0, ended.stderr
    assert "goes on" not in ended.stderr
    assert (folder / "runs/out.txt").read_bytes().count(b"\n") == 700


def test_fresh_is_refused_where_nothing_can_be_begun_anew(context: Any, folder: Path) -> None:
    ended = child.run(context, folder, *COMMAND[:3], "--fresh")
    assert ended.code == 2
    assert ended.stderr.startswith("s2s: error: --fresh")


@pytest.mark.parametrize(("how", "workers"), [("INT", 1), ("TERM", 1), ("TERM", 2), ("KILL", 2)])
def test_ended_in_the_middle_the_same_command_gives_the_whole(
    how: str, workers: int, context: Any, folder: Path
) -> None:
    process = started(folder, "--workers", workers, "--batch-size", 1)
    wait_for(lambda: lines_in_journal(folder) > 2)
    process.send_signal(signal.Signals[f"SIG{how}"])
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == {"INT": 130, "TERM": 143, "KILL": -9}[how]
    assert stderr.count(b"goes on after line") == (how != "KILL")
    assert how == "KILL" or stderr.count(b"\n") == 1
    assert not (folder / "runs/out.txt").exists()
    assert ends_whole(context, folder, "--workers", workers).stderr.startswith("goes on after line")


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_terminal_shows_how_far_it_is_and_is_left_clean(interrupted: bool, folder: Path, tmp_path: Path) -> None:
    own = Terminal(*COMMAND, "--batch-size", 1, folder=folder, output=tmp_path / "stdout", TERM="xterm")
    try:
        seen = own.answer("left") + "left"
        if interrupted:
            own.type("\x03")
        lines, cursor = screen(seen + own.rest())
        code = own.end()
    finally:
        own.close()
    ((bar,), _) = screen(seen)
    assert re.fullmatch(r".{20} line [\d,]+ [\d,]+ lines/s, \d:\d\d:\d\d left", bar), bar
    assert cursor
    assert (tmp_path / "stdout").read_bytes() == b""
    if interrupted:
        assert code == 130
        assert len(lines) == 1 and "goes on after line" in lines[0]
    else:
        assert code == 0
        assert lines == (folder / "told").read_text().splitlines()


def test_what_is_done_of_a_file_is_what_was_given_out(folder: Path) -> None:
    """Not what was read ahead."""
    translator = Translator.load(folder / "runs/toy")
    with read_input(translator, folder / "big.txt", choose_format(translator.config, "text")) as windows:
        found = {window.first + len(window.items): window.share for window in windows}
    lines = (folder / "big.txt").read_bytes().splitlines(keepends=True)
    assert list(found) == [FIRST_WINDOW, 3 * FIRST_WINDOW, 7 * FIRST_WINDOW, 700]
    assert found == {end: pytest.approx(len(b"".join(lines[:end])) / len(b"".join(lines))) for end in found}


def started(folder: Path, *options: object) -> subprocess.Popen[bytes]:
    """The real command, in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.Popen(
        [sys.executable, "-m", "s2s_cli", *map(str, (*COMMAND, *options))],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def lines_in_journal(folder: Path) -> int:
    try:
        return (folder / "runs/out.txt.part/journal").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def wait_for(there: Callable[[], object]) -> None:
    began = time.monotonic()
    while not there():
        assert time.monotonic() - began < 60
        time.sleep(0.005)


def children(process: int) -> list[int]:
    """Its workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"PPid:\t{process}\n" in (path / "status").read_text()
            if ours and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:  # it has ended
            continue
    return found


def is_alive(process: int) -> bool:
    """Whether it runs: who has ended, and was not waited for, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_give_what_one_process_gives(folder: Path) -> None:
    process = started(folder, "--workers", 2)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert (folder / "runs/out.txt").read_bytes() == (folder / "whole").read_bytes()
    assert stderr == (folder / "told").read_bytes()


@pytest.mark.parametrize("how", ["worker killed", "interrupted", "parent killed"])
def test_no_worker_outlives_the_command(how: str, folder: Path) -> None:
    process = started(folder, "--workers", 2)
    try:
        wait_for(lambda: len(children(process.pid)) == 2)
        mine = children(process.pid)
        if how == "worker killed":
            os.kill(mine[0], signal.SIGKILL)
        elif how == "interrupted":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()
        _, stderr = process.communicate(timeout=120)
        wait_for(lambda: not any(map(is_alive, mine)))
    finally:
        process.kill()
    assert process.returncode == {"worker killed": 3, "interrupted": 130, "parent killed": -9}[how]
    if how != "parent killed":
        assert stderr.count(b"\n") == 1
        assert b"Traceback" not in stderr
    if how == "worker killed":
        assert b"a worker was killed by SIGKILL" in stderr


def test_auto_is_a_worker_for_each_core_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert workers.count_workers("auto", workers.torch.device("cpu")) == 3


@pytest.mark.parametrize("asked", ["0", "-1", "two", ""])
def test_a_number_of_workers_that_is_none_is_refused(asked: str) -> None:
    with pytest.raises(UserError, match="--workers"):
        workers.count_workers(asked, workers.torch.device("cpu"))


def test_only_processors_are_shared() -> None:
    cuda = workers.torch.device("cuda")
    assert workers.count_workers("auto", cuda) == 1
    assert workers.count_workers("1", cuda) == 1
    with pytest.raises(UserError, match="--device cpu"):
        workers.count_workers("2", cuda)


@pytest.mark.parametrize("name", ["runs/out.gz", "runs/out.zst"])
def test_a_compressed_output_goes_on_too(context: Any, folder: Path, name: str) -> None:
    command = (*COMMAND[:-4], "--output", name, "--beam", 1)
    child.run(context, folder, *command)
    whole = (folder / name).read_bytes()
    with open_unpacked(folder / name) as file:
        assert file.read() == (folder / "whole").read_bytes()
    (folder / name).unlink()
    left_in_the_middle(context, folder, command)
    assert child.run(context, folder, *command).code == 0
    assert (folder / name).read_bytes() == whole


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with Part(path, {}, fresh=False), pytest.raises(UserError, match=f"process {os.getpid()} is translating"):
        Part(path, {}, fresh=True).__enter__()


def test_a_part_that_changed_is_taken_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with Part(path, {"a": 1}, fresh=False) as part:
        part.append(b"one\n", 1, {"lines": 1})
        part.append(b"two\n", 2, {"lines": 1})
    (part.folder / "output").write_bytes(b"one\ntwX\nthree")
    with Part(path, {"a": 1}, fresh=False) as part:
        assert (part.whole.items, part.whole.counts) == (1, {"lines": 1})
        part.append(b"2\n", 2, {"lines": 1})
        part.finish()
    assert path.read_bytes() == b"one\n2\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_without_its_journal_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with Part(path, {}, fresh=False) as part:
        part.append(b"one\n", 1, {})
    (part.folder / "journal").write_bytes(b"not one\n")
    with pytest.raises(UserError, match="--fresh"):
        Part(path, {}, fresh=False).__enter__()
    assert (part.folder / "output").read_bytes() == b"one\n"
    with Part(path, {}, fresh=True) as part:
        assert not part.whole.items


def test_a_part_in_which_nothing_is_whole_goes_away(tmp_path: Path) -> None:
    with pytest.raises(RunFailed), Part(tmp_path / "out", {}, fresh=False):
        raise RunFailed("no memory")
    assert list(tmp_path.iterdir()) == []


def test_what_was_noticed_is_taken_once() -> None:
    notices = Notices(lines=3, cut=1)
    assert notices.take()["cut"] == 1
    assert set(notices.take().values()) == {0}
    notices.add(**Notices(lines=2, repaired=2).take())
    assert len(notices.messages(DecodingConfig())) == 1


def test_a_file_of_features_is_mapped_once_in_another_process(folder: Path) -> None:
    """A window's items name it each."""
    file = FeatureFile(folder / "test.safetensors")
    packed = pickle.dumps(file)
    assert pickle.loads(packed) is pickle.loads(packed)
    assert pickle.loads(packed).size == file.size
