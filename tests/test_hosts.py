"""Two hosts, which are network namespaces of this machine with a cable between them, train together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import toy
from test_distributed import RANDOM, assert_same_metrics, wait_for
from test_train import assert_same_checkpoint

pytestmark = pytest.mark.slow

ADDRESSES = ("10.77.0.1", "10.77.0.2")
Start = Callable[..., list[subprocess.Popen[bytes]]]


def names(kind: str) -> list[str]:
    """Of what this process makes: at most 15 characters."""
    return [f"s2s{kind}{number}{os.getpid() % 100_000}" for number in range(2)]


SPACES, CARDS = names("h"), names("c")


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())


@pytest.fixture
def hosts() -> Iterator[None]:
    with ExitStack() as made:
        try:
            for space in SPACES:
                ip("netns", "add", space)
                made.callback(ip, "netns", "del", space)
            ip(
                "link",
                "add",
                CARDS[0],
                "netns",
                SPACES[0],
                *f"type veth peer name {CARDS[1]} netns {SPACES[1]}".split(),
            )
            for space, card, address in zip(SPACES, CARDS, ADDRESSES, strict=True):
                ip("-n", space, "link", "set", "lo", "up")
                ip("-n", space, "addr", "add", f"{address}/24", "dev", card)
                ip("-n", space, "link", "set", card, "up")
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield


@pytest.fixture
def start(hosts: None, tmp_path: Path) -> Iterator[Start]:
    """Starts a program on both hosts; `{host}`, `{address}` and `{first}` are each one's."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: object, **variables: object) -> list[subprocess.Popen[bytes]]:
        for host, (space, card, address) in enumerate(zip(SPACES, CARDS, ADDRESSES, strict=True)):
            mine = {"host": host, "address": address, "first": host == 0}
            own = {"GLOO_SOCKET_IFNAME": card, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
            own |= {name: str(value).format(**mine) for name, value in variables.items()}
            words = [str(word).format(**mine) for word in command]
            program = ["ip", "netns", "exec", space, sys.executable, "-m", *words]
            with open(tmp_path / f"host-{host}", "wb") as told:
                started.append(subprocess.Popen(program, cwd=tmp_path, env={**os.environ, **own}, stderr=told))
        return started[-2:]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def train(run: str) -> tuple[str, ...]:
    return ("s2s_cli", "train", "--config", "toy.yaml", "--run", run)


def by_hand(start: Start, run: str) -> list[subprocess.Popen[bytes]]:
    """One worker a host, without torchrun, as `srun` starts them."""
    return start(*train(run), RANK="{host}", LOCAL_RANK=0, WORLD_SIZE=2, MASTER_ADDR=ADDRESSES[0], MASTER_PORT=29_400)


def by_torchrun(start: Start, run: str, restarts: int = 0) -> list[subprocess.Popen[bytes]]:
    """The same by torchrun on each host."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:29400", "--rdzv-id", run)
    here = ("--local-addr", "{address}", "--rdzv-conf", "is_host={first}", "--nproc-per-node", 1)
    return start("torch.distributed.run", *meeting, *here, "--max-restarts", restarts, "-m", "--", *train(run))


def assert_done(folder: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    for host, process in enumerate(processes):
        assert process.wait(120) == 0, (folder / f"host-{host}").read_text()


def test_two_hosts_train_what_one_trains(start: Start, tmp_path: Path) -> None:
    toy.write_config(tmp_path)
    assert toy.s2s("train", "--config", "toy.yaml", "--run", "alone", cwd=tmp_path).returncode == 0
    assert_done(tmp_path, by_torchrun(start, "together"))
    assert_same_metrics(toy.metrics(tmp_path / "alone"), toy.metrics(tmp_path / "together"))


def test_a_worker_killed_on_one_host_is_started_again_on_both(start: Start, tmp_path: Path) -> None:
    toy.write_config(tmp_path, **RANDOM, training__max_steps=100, training__validate_every=20)
    assert_done(tmp_path, by_torchrun(start, "whole"))
    both = by_torchrun(start, "killed", restarts=3)
    for host, step in enumerate((25, 65)):
        wait_for(tmp_path / "killed" / "metrics.jsonl", f'"step": {step},')
        children = Path(f"/proc/{both[host].pid}/task/{both[host].pid}/children").read_text()
        os.kill(int(children.split()[0]), signal.SIGKILL)
    assert_done(tmp_path, both)
    assert_same_metrics(toy.metrics(tmp_path / "whole"), toy.metrics(tmp_path / "killed"), 0)
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "killed", "step-00000100")


def test_a_cut_cable_ends_both_in_time_and_a_new_start_goes_on(start: Start, tmp_path: Path) -> None:
    changes = {**RANDOM, "training__max_steps": 400, "training__validate_every": 50, "training__worker_timeout": 4}
    toy.write_config(tmp_path, **changes)
    assert_done(tmp_path, by_hand(start, "whole"))
    both = by_hand(start, "cut")
    wait_for(tmp_path / "cut" / "metrics.jsonl", '"step": 75,')
    ip("-n", SPACES[0], "link", "set", CARDS[0], "down")
    began = time.monotonic()
    for host, process in enumerate(both):
        assert process.wait(60) == 3
        told = (tmp_path / f"host-{host}").read_text()
        assert "did not answer within training.worker_timeout (4 s)" in told
        assert "Traceback" not in told
    assert time.monotonic() - began < 20
    ip("-n", SPACES[0], "link", "set", CARDS[0], "up")
    assert_done(tmp_path, by_hand(start, "cut"))
    assert_same_metrics(toy.metrics(tmp_path / "whole"), toy.metrics(tmp_path / "cut"), 0)
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "cut", "step-00000400")


def test_a_cable_that_is_mended_lets_both_go_on_by_themselves(start: Start, tmp_path: Path) -> None:
    toy.write_config(
        tmp_path, **RANDOM, training__max_steps=200, training__validate_every=20, training__worker_timeout=4
    )
    assert_done(tmp_path, by_hand(start, "whole"))
    both = by_torchrun(start, "mended", restarts=5)
    wait_for(tmp_path / "mended" / "metrics.jsonl", '"step": 45,')
    ip("-n", SPACES[0], "link", "set", CARDS[0], "down")
    time.sleep(8)
    ip("-n", SPACES[0], "link", "set", CARDS[0], "up")
    assert_done(tmp_path, both)
    assert "did not answer within training.worker_timeout (4 s)" in (tmp_path / "host-0").read_text()
    assert_same_metrics(toy.metrics(tmp_path / "whole"), toy.metrics(tmp_path / "mended"), 0)
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "mended", "step-00000200")


def test_a_slow_host_only_takes_longer(start: Start, tmp_path: Path) -> None:
    toy.write_config(tmp_path, **RANDOM)
    assert_done(tmp_path, by_hand(start, "whole"))
    both = by_hand(start, "slow")
    wait_for(tmp_path / "slow" / "metrics.jsonl", '"step"')
    while both[1].poll() is None:  # it works for a tenth of the time
        for sent, seconds in ((signal.SIGSTOP, 0.45), (signal.SIGCONT, 0.05)):
            both[1].send_signal(sent)
            time.sleep(seconds)
    assert_done(tmp_path, both)
    assert_same_metrics(toy.metrics(tmp_path / "whole"), toy.metrics(tmp_path / "slow"), 0)


def test_a_slow_network_only_takes_longer(start: Start, tmp_path: Path) -> None:
    limit = "qdisc add dev", CARDS[1], "root tbf rate 2mbit burst 16kbit latency 400ms"
    done = subprocess.run(["ip", "netns", "exec", SPACES[1], "tc", *" ".join(limit).split()], capture_output=True)
    if done.returncode:
        pytest.skip(f"no slow network can be made here: {done.stderr.decode().strip()}")
    toy.write_config(tmp_path)
    assert toy.s2s("train", "--config", "toy.yaml", "--run", "alone", cwd=tmp_path).returncode == 0
    assert_done(tmp_path, by_hand(start, "slow"))
    assert_same_metrics(toy.metrics(tmp_path / "alone"), toy.metrics(tmp_path / "slow"))
