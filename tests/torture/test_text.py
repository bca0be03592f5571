"""Text, configs and pipes that nobody wishes for: lines stay lines, memory stays bounded, every end is a clear one."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import toy
import yaml

from s2s_cli.config import Config
from s2s_cli.config_file import dump_config, load_config, parse_config
from s2s_cli.errors import UserError
from s2s_cli.forced import losses
from s2s_cli.translate.streams import translate_lines
from s2s_cli.translate.translator import Translator

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "s2s_cli"]
AT_ONCE = 2  # commands that run beside each other, where their time is not measured
Rounds = Callable[[int, int], int]
Record = Callable[[str, object], None]


def environment(**more: str) -> dict[str, str]:
    """For commands that `toy.s2s` cannot run, since they need pipes."""
    return {**{name: text for name, text in os.environ.items() if name != "S2S_MODEL"}, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that has nearly learned its task: different lines have different translations."""
    folder = tmp_path_factory.mktemp("text")
    path = toy.write_config(folder, training__max_steps=150, training__validate_every=150)
    done = toy.s2s("train", "--config", path, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return folder


def translator(folder: Path, batch_size: int = 64, beam: int = 1) -> Translator:
    """In fp32, where the batch may change nothing."""
    return Translator.load(folder / "runs" / "toy", beam=beam, batch_size=batch_size, precision="fp32")


# Lines


ODD = [
    b"\0",
    *(b"\xff", b"\xfe\xff", b"\x80\x80", b"\xc0\xaf", b"\xe2\x80", b"\xf0\x9f\x91", b"\xf5\x90\x80\x80"),
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80"),  # surrogates, alone and as a pair
    *(b"\r", b"\r\r", b"\v", b"\f", b"\x1c", b"\x1d", b"\x1e", b"\x1b[31m", b"\x7f", b"\t"),
    *(text.encode() for text in ("\ufeff", "\u2028", "\u2029", "\u0085", "\u00a0", "\u3000", "\u200b")),
    *(text.encode() for text in ("👩‍👩‍👧", "🏳️‍🌈", "🇨🇭", "👍🏽", "\u200d", "\ufe0f")),
    *(text.encode() for text in ("שלום", "\u202eabc\u202c", "\u2067مرحبا\u2069", "\u202a\u202b")),
    *(("e" + "\u0301" * 40).encode(), "ก็็็็็็".encode(), "각".encode(), "▁a <s> </s> <unk> ⁇ |||".encode()),
    *("\U000e0fff".encode(), "\uffff".encode(), "\U0010ffff".encode()),
]


def hostile(draw: random.Random) -> bytes:
    """A line, without its end."""
    match draw.randrange(16):
        case 0:
            return b""
        case 1:
            return b" " * draw.randint(1, 300)
        case 2:
            return draw.choice([b"copy", *ODD]) * draw.randint(1, 3000)  # one very long word
        case 3:
            return b"\xef\xbb\xbf" + draw.choice([b"", b"copy a"])
        case 4:
            return draw.choice([b"", b"copy a b", b" "]) + b"\r"  # as files of CRLF lines have them
        case 5:
            return bytes(draw.choice([byte for byte in range(256) if byte != 0x0A]) for _ in range(draw.randint(1, 60)))
        case _:
            words = [word.encode() for word in ["copy", *draw.choices(toy.LETTERS, k=draw.randint(0, 6))]]
            for _ in range(draw.randint(0, 4)):
                words.insert(draw.randint(0, len(words)), draw.choice(ODD))
            return draw.choice([b" ", b" ", b""]).join(words)


def test_of_hostile_lines_each_gives_one_and_known_ones_keep_their_places(
    trained: Path, rounds: Rounds, record_property: Record
) -> None:
    draw, alone = random.Random(5), translator(trained)
    known = {source: alone.translate([source])[0][0].text for source, _ in toy.pairs(40, seed=6)}
    assert len(set(known.values())) > 20, "what is moved must show"
    lines: list[bytes] = [b"\xef\xbb\xbfcopy a"]
    expected: dict[int, str] = {}
    for number in range(1, rounds(500, 10_000) - 1):
        if draw.random() < 0.15:
            source = draw.choice(list(known))
            expected[number] = known[source]
            lines.append(source.encode())
        else:
            lines.append(hostile(draw))
            if not lines[-1].strip(b" \r"):
                expected[number] = ""
    lines.append(b"copy \xff a")
    data = b"\n".join(lines)  # the last without an end
    done = toy.s2s("translate", "--beam", 1, "--precision", "fp32", cwd=trained, stdin=data)
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode("utf-8")
    found = text.split("\n")
    assert found.pop() == "", "the last line has its end"
    assert len(found) == len(lines)
    assert text.splitlines() == found, "to no reader are there more lines"
    assert {number: found[number] for number in expected} == expected
    assert all(line.startswith("warning: ") for line in done.stderr.decode().splitlines())
    record_property(
        "figure",
        f"{len(lines):,} lines in, {len(found):,} out, {len(expected):,} known ones among them in their places",
    )


def test_a_model_that_learned_to_say_line_ends_ends_no_line(tmp_path: Path, record_property: Record) -> None:
    """Its training text holds, as words, everything that ends a line to someone, except LF."""
    ends = dict(zip("abcdefg", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"], strict=True))  # h stays
    toy.write_corpus(tmp_path)
    for name in ("train", "valid", "test"):
        path = tmp_path / f"{name}.tgt"
        path.write_bytes("".join(ends.get(mark, mark) for mark in path.read_text()).encode())
    config = toy.write_config(
        tmp_path,
        tokenizer={"type": "char", "vocab_size": 100, "normalization": "identity", "shared": False},
        training__max_steps=150,
        training__validate_every=150,
    )
    done = toy.s2s("train", "--config", config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    speaker, output = translator(tmp_path), io.BytesIO()
    target = speaker.tokenizer.target
    assert set(ends.values()) <= set(target.pieces(range(len(target)))), "it can say them"
    sources = [source for source, _ in toy.pairs(300, seed=7)]
    given = tmp_path / "given.txt"
    given.write_text("".join(f"{source}\n" for source in sources), encoding="utf-8")
    with open(given, "rb") as file:
        translate_lines(speaker, file, output)
    text = output.getvalue().decode("utf-8")
    assert text.count("\n") == len(text.splitlines()) == len(sources)
    assert set(text) <= {" ", "h", "\n"}
    said = sum("   " in line for line in text.splitlines())  # between two spaces, what was repaired
    assert said > len(sources) / 4
    record_property(
        "figure", f"{len(sources)} lines in and out, of which {said} held line ends when the model said them"
    )


@dataclass(frozen=True)
class Measured:
    """What a command needed, from a process that has no other children."""

    seconds: float
    peak: int
    """Megabytes, resident."""
    output: bytes
    errors: str


MEASURE = """
import json, resource, subprocess, sys, time
given, out, limit, *command = sys.argv[1:]
began = time.monotonic()
with open(given, "rb") as source, open(out, "wb") as target:
    code = subprocess.run(command, stdin=source, stdout=target, timeout=float(limit)).returncode
seconds = time.monotonic() - began
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)
print(json.dumps([code, seconds, peak]))
"""


def measured(folder: Path, data: bytes, limit: float) -> Measured:
    """`s2s translate`; a run that takes longer is ended, and fails."""
    given, out = folder / "measured.in", folder / "measured.out"
    given.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(given), str(out), str(limit), *COMMAND, "translate"],
        cwd=folder,
        env=environment(),
        capture_output=True,
    )
    errors = done.stderr.decode()
    assert done.returncode == 0, errors
    code, seconds, peak = json.loads(done.stdout)
    assert code == 0, errors
    return Measured(seconds, peak, out.read_bytes(), errors)


MEGABYTE = 1_000_000
LONG = {
    "one word": b"a" * MEGABYTE,
    "spaces": b" " * MEGABYTE,
    "broken bytes": b"\xff\x80" * (MEGABYTE // 2),
    "words": b"copy a b " * (MEGABYTE // 9),
    "more than a megabyte": b"copy a b " * (3 * MEGABYTE // 9),
    "combining marks": b"a" + "\u0301".encode() * (MEGABYTE // 2),
    "line separators": "\u2028".encode() * (MEGABYTE // 3),
}


def test_a_line_of_a_megabyte_needs_little_time_and_memory(
    trained: Path, rounds: Rounds, record_property: Record
) -> None:
    """First all kinds in one run; then each kind alone, and often: what one line leaves behind would add up."""
    most_seconds, most_memory = 60.0, 150
    often = rounds(1, 30)
    short = measured(trained, b"copy a b\n", most_seconds)
    given = {
        "every kind": list(LONG.values()),
        **({kind: [line] * often for kind, line in LONG.items()} if often > 1 else {}),
    }
    runs = []
    for kind, lines in given.items():
        data = b"".join(line + b"\ncopy a b\n" for line in lines)
        long = measured(trained, data, most_seconds)
        found = long.output.split(b"\n")
        assert len(found) == 2 * len(lines) + 1, kind
        assert set(found[1::2]) == {short.output.rstrip(b"\n")}, f"{kind}: the lines beside are what they were"
        assert "Traceback" not in long.errors
        assert long.peak < short.peak + most_memory, f"{kind}: {long.peak:,} MB, a short line {short.peak:,} MB"
        runs.append(long)
    record_property(
        "figure",
        f"{sum(map(len, given.values()))} lines of a megabyte, {len(LONG)} kinds, in {len(runs)} runs: at most "
        f"{max(run.peak for run in runs):,} MB and {max(run.seconds for run in runs):.1f} s a run, "
        f"where a short line takes {short.peak:,} MB and {short.seconds:.1f} s",
    )


# Configs


def hostile_values() -> list[bytes]:
    """What may stand in the place of a value, a key or a line."""
    plain = """\
1e999|-0|-1|0|.nan|-.inf|1_000|0o777|1e-400|2001-01-01|1:20:30|no|~|''|[]|{}|[[]]|[1, 2, 3]|{a: 1}|null|true
!!python/object:os.system x|!!python/object/apply:os.system ['exit 1']|!!python/name:os.system|!!int 5|!x y|!<tag:a> b
&a [1]|*a|&a|*|<<: {a: 1}|<<: *a|{<<: {dropout: 0.1}}|{a: 1, a: 2}|{? [a] : b}|? a|? |: |- |[|]|{|}|,|"|'|@|`|%|&|!|#
${S2S_TORTURE}|x${S2S_TORTURE}y|"${S2S_TORTURE}"|${S2S_NEVER_SET}|${|${}|$${a}|---|...|%YAML 9.9|%TAG ! x|x: y: z|=
"\\ud800"|"\\0"|"\\x85"|"\\U0010ffff"|"\\q"|'\t'|é|\u2028|\u2029|\u0085|\ufeff|\u00a0|שלום|\u202eabc|👩‍👩‍👧|e\u0301|\U000e0fff
../../../etc/passwd|/dev/stdin|/dev/full|~/x|a/b/c|.|con|a b|<s>|</s>|<unk>|cuda:99|auto|bf16"""
    values = [value.encode() for line in plain.split("\n") for value in line.split("|")]
    values += [b"9" * 299, b"9" * 4500, b"0x" + b"f" * 290, b"0." + b"1" * 3000, b"1e" + b"9" * 300]
    values += [b"[" * 1000, b"{a: " * 1000, b"- " * 1000, b"[" * 15 + b"]" * 15, b"? " * 500, b"!!str " * 300]
    values += [b"k" * 20_000, b'"' + b"k" * 20_000 + b'"', b"[" + b"1, " * 2000 + b"1]", b"{" + b"a: 1, " * 500 + b"}"]
    return [*values, b"\0", b"\xff", b"\xed\xa0\x80", b"\t", b"\r", b"\x1b[31m", b"|\n  x", b">-\n  x", b"\n", b" "]


def mutated(draw: random.Random, data: bytes, values: Sequence[bytes]) -> bytes:
    """A config with one to four things done to it."""
    lines = data.split(b"\n")
    for _ in range(draw.choice([1, 1, 2, 4])):
        place, other, value = draw.randrange(len(lines)), draw.randrange(len(lines)), draw.choice(values)
        line = lines[place]
        key, colon, rest = line.partition(b":")
        match draw.randrange(12):
            case 0:
                flipped = bytearray(line or b" ")
                flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
                lines[place] = bytes(flipped)
            case 1 if len(lines) > 1:
                del lines[place]
            case 2:
                lines.insert(other, line)
            case 3:
                lines[place], lines[other] = lines[other], line
            case 4:
                lines[place] = draw.choice([b" ", b"  ", b"\t", b"        "]) + line
            case 5:
                lines[place] = line.lstrip(b" ")
            case 6:
                lines.insert(place, value)
            case 7:
                indent = line[: len(line) - len(line.lstrip(b" "))]
                lines[place] = indent + value + colon + rest
            case 8:  # somewhere in a line, also of one that holds the whole config
                start = draw.randint(0, len(line))
                lines[place] = line[:start] + value + line[min(len(line), start + draw.choice([0, 1, 8])) :]
            case _:
                lines[place] = key + b": " + value
    return b"\n".join(lines)


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Whole ones, to be broken: those that ship, and the toy's in three ways to write it."""
    for folder in ("MULTI30K_DIR", "TAUGHT_DIR"):
        monkeypatch.setenv(folder, str(tmp_path))
    monkeypatch.setenv("S2S_TORTURE", 'a: [*b, "\x85')
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(toy.config()), encoding="utf-8")
    every_key = dump_config(load_config(path), comments=True)
    shipped = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml"))]
    return [*shipped, path.read_bytes(), json.dumps(toy.config()).encode(), every_key.encode()]


def outcome(path: Path) -> Config | UserError:
    """What a config is read as, or refused with; in less than a second."""
    slow = []
    for _ in range(2):  # twice where it took long: perhaps the machine was busy
        began = time.perf_counter()
        found: Config | UserError
        try:
            found = load_config(path)
        except UserError as error:
            found = error
        except Exception as error:
            raise AssertionError(f"neither read nor refused: {path.read_bytes()!r}") from error
        slow.append(time.perf_counter() - began)
        if slow[-1] < 1:
            return found
    raise AssertionError(f"it took {slow} seconds: {path.read_bytes()!r}")


def test_any_config_is_read_or_refused_with_a_message(
    configs: Sequence[bytes], tmp_path: Path, rounds: Rounds, record_property: Record
) -> None:
    draw, values, path = random.Random(8), hostile_values(), tmp_path / "config.yaml"
    for whole in configs:
        path.write_bytes(whole)
        assert isinstance(outcome(path), Config)
    read = refused = 0
    for _ in range(rounds(300, 10_000)):
        path.write_bytes(mutated(draw, draw.choice(configs), values))
        found = outcome(path)
        if isinstance(found, Config):
            read += 1
        else:
            refused += 1
            problem = str(found).removeprefix(str(path))
            assert problem != str(found), "it names the file"
            assert problem.strip(": \n"), "and the problem"
    assert read > 20
    assert refused > 100
    record_property("figure", f"{read + refused:,} broken configs: {read:,} still read, {refused:,} refused, none else")


def test_broken_configs_end_the_command_with_0_or_2_and_what_it_shows_is_what_was_read(
    configs: Sequence[bytes], tmp_path: Path, rounds: Rounds, record_property: Record
) -> None:
    draw, values = random.Random(9), hostile_values()
    paths = [tmp_path / f"{number}.yaml" for number in range(rounds(5, 200))]
    paths[0].write_bytes(configs[-1])  # whole
    for path in paths[1:]:
        path.write_bytes(mutated(draw, draw.choice(configs), values))

    def show(path: Path) -> subprocess.CompletedProcess[bytes]:
        return toy.s2s("config", "show", "--config", path, cwd=tmp_path)

    codes: Counter[int] = Counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for path, done in zip(paths, pool.map(show, paths), strict=True):
            codes[done.returncode] += 1
            found, errors = outcome(path), done.stderr.decode()
            assert "Traceback" not in errors, path.read_bytes()
            if isinstance(found, Config):
                assert done.returncode == 0, path.read_bytes()
                assert parse_config(done.stdout.decode(), "shown", tmp_path) == found, path.read_bytes()
            else:
                assert done.returncode == 2, path.read_bytes()
                assert errors.startswith("s2s: error: "), path.read_bytes()
    assert set(codes) == {0, 2}
    record_property("figure", f"`s2s config show`: {codes[0]} shown, {codes[2]} refused, no traceback")


# Pipes and disks


def test_a_reader_that_leaves_early_gets_its_lines_and_all_is_quiet(
    trained: Path, rounds: Rounds, record_property: Record
) -> None:
    draw = random.Random(10)
    rows = [draw.choices(toy.LETTERS, k=draw.randint(1, 7)) for _ in range(20_000)]
    sources = [f"copy {' '.join(row)}" for row in rows]
    path, most = trained / "big.txt", 70  # a line more than the first window holds, and some
    path.write_text("".join(f"{source}\n" for source in sources), encoding="utf-8")
    expected = [best.text for best, *_ in translator(trained).translate(sources[:most])]
    ends: Counter[int] = Counter()

    def read_some(wanted: int) -> tuple[int, str, str]:
        with open(path, "rb") as source:
            process = subprocess.Popen(
                [*COMMAND, "translate", "--beam", "1", "--precision", "fp32"],
                cwd=trained,
                env=environment(),
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        assert process.stdout
        assert process.stderr
        with process, process.stdout, process.stderr:
            head = subprocess.run(["head", "-n", str(wanted)], stdin=process.stdout, capture_output=True, timeout=120)
            process.stdout.close()  # now nobody reads
            errors = process.stderr.read().decode()
        return process.returncode, head.stdout.decode(), errors

    wishes = [(1, 1, most)[number % 3] for number in range(rounds(3, 100))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for wanted, (code, text, errors) in zip(wishes, pool.map(read_some, wishes), strict=True):
            assert text == "".join(f"{line}\n" for line in expected[:wanted])
            assert errors == ""
            assert code in (0, -signal.SIGPIPE)
            ends[code] += 1
    assert ends[-signal.SIGPIPE], "none was still writing"
    record_property(
        "figure", f"`s2s translate | head` {len(wishes)} times: {ends[-signal.SIGPIPE]} ended while writing, all quiet"
    )


SCORING = "evaluate --hypothesis test.src --reference test.tgt"  # needs no model
PRINTING = [
    *("translate", "evaluate", f"{SCORING} --json -", "config show --config toy.yaml", "config schema"),
    *("--version", "--help", "train --help", "translate --help", "evaluate --help", "plot --help"),
    *("config --help", "config show --help", "config schema --help"),
]
MORE_PRINTING = [
    *("translate --n-best 2", "evaluate --no-cache", "evaluate --no-cache --json -", "evaluate --no-cache --details"),
    *("translate -o /dev/stdout", SCORING, f"{SCORING} --details", f"{SCORING} --plain"),
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_on_a_full_disk_no_command_that_prints_says_success(
    trained: Path, rounds: Rounds, record_property: Record
) -> None:
    commands = PRINTING + MORE_PRINTING[: rounds(0, len(MORE_PRINTING))]

    def fill(command: str) -> subprocess.CompletedProcess[bytes]:
        with open("/dev/full", "wb") as full:
            return subprocess.run(
                [*COMMAND, *command.split()],
                cwd=trained,
                env=environment(),
                input=b"copy a\n",
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=300,
            )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for command, done in zip(commands, pool.map(fill, commands), strict=True):
            errors = done.stderr.decode()
            assert done.returncode == 3, f"{command}: {errors}"
            assert errors.startswith("s2s: error: cannot write the output"), f"{command}: {errors}"
            assert errors.count("\n") == 1, f"{command}: {errors}"
    record_property("figure", f"{len(commands)} commands printed to a full disk: each failed, in one line")


# The same output


TIE = 1e-4  # nats; less than that is rounding


def gap(translator: Translator, source: str, first: str, second: str) -> float:
    """Between the log-probabilities of two translations where they part, in nats."""
    tokenizer = translator.tokenizer
    targets = tokenizer.target.encode([first, second])
    one, other = losses(translator.model, tokenizer, tokenizer.source.encode([source] * 2), targets, 1000)
    ends = [[*target, tokenizer.target.specials.eos] for target in targets]
    place = next(i for i, (left, right) in enumerate(zip(*ends, strict=False)) if left != right)
    return abs(float(one[place] - other[place]))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads torch has; afterwards they are as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_output_depends_on_neither_batch_size_nor_order_nor_threads(
    trained: Path, threads: Callable[[int], None], rounds: Rounds, record_property: Record
) -> None:
    """Each of them with each other; in the long form also by the command."""
    sources = [source for source, _ in toy.pairs(rounds(200, 2_000), seed=11, longest=7)]
    orders = [sources, random.Random(12).sample(sources, len(sources))]
    sizes = (1, 7, 64, 256)
    ways = [(size, order, count) for size in sizes for order in orders for count in (1, 2, 4)]
    by_size = {size: translator(trained, size) for size in sizes}

    def here(size: int, order: Sequence[str], count: int) -> list[str]:
        threads(count)
        return [best.text for best, *_ in by_size[size].translate(order)]

    def by_command(size: int, order: Sequence[str], count: int) -> list[str]:
        command = ["translate", "--beam", 1, "--precision", "fp32", "--batch-size", size]
        data = "".join(f"{source}\n" for source in order).encode()
        done = toy.s2s(*command, cwd=trained, stdin=data, fresh=True, OMP_NUM_THREADS=str(count))
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().split("\n")[:-1]

    expected = dict(zip(sources, here(*ways[0]), strict=True))
    assert len(set(expected.values())) > len(sources) / 4
    judge = by_size[1]
    for source in sources[:5]:
        assert gap(judge, source, expected[source], f"{expected[source]} a") > TIE, "what is no tie is not called one"
    ties: set[str] = set()
    for translate in (here, by_command)[: rounds(1, 2)]:
        for size, order, count in ways:
            found = translate(size, order, count)
            for source, text in zip(order, found, strict=True):
                if text != expected[source]:
                    apart = gap(judge, source, expected[source], text)
                    assert apart <= TIE, (source, expected[source], text, apart, size, count)
                    ties.add(source)
    record_property(
        "figure",
        f"{len(sources):,} lines, {len(ways)} ways: {len(sources) - len(ties):,} always the same, {len(ties)} ties",
    )


# Memory


def resident(process: int) -> float:
    """Megabytes of memory that a process holds; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0.0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_is_flat_however_many_lines_come(trained: Path, rounds: Rounds, record_property: Record) -> None:
    count, most_growth = rounds(20_000, 1_000_000), 30
    draw, given = random.Random(13), trained / "many.txt"
    with open(given, "w", encoding="utf-8") as file:
        for _ in range(count):
            task = draw.choice(("copy", "reverse"))
            file.write(f"{task} {' '.join(draw.choices(toy.LETTERS, k=draw.randint(1, 7)))}\n")
    samples: list[tuple[int, float]] = []  # lines that came out so far, and the memory then
    began, lines = time.monotonic(), 0
    with open(given, "rb") as source:
        process = subprocess.Popen(
            [*COMMAND, "translate", "--beam", "1"], cwd=trained, env=environment(), stdin=source, stdout=subprocess.PIPE
        )
    assert process.stdout
    with process, process.stdout:
        while chunk := os.read(process.stdout.fileno(), 1 << 12):
            lines += chunk.count(b"\n")
            samples.append((lines, resident(process.pid)))
    seconds = time.monotonic() - began
    assert process.returncode == 0
    assert lines == count
    later = [memory for done, memory in samples if done >= count / 4 and memory]
    assert len(later) > 4, "it was watched while it worked"
    assert max(later) < later[0] + most_growth, f"from {later[0]:,.0f} to {max(later):,.0f} MB"
    record_property(
        "figure",
        f"{count:,} lines, {count / seconds:,.0f} a second, loading included: {later[0]:,.0f} MB after a quarter, "
        f"{later[-1]:,.0f} MB at the end",
    )
