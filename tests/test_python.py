"""From Python: the examples of the document run, and threads share a translator."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from threading import Barrier

import pytest
import torch

from s2s_cli import RunFailed, S2SError, Term, Translation, Translator, UserError, Wishes
from s2s_cli.translate import translator as module

ROOT = Path(__file__).parent.parent
RUN = ROOT / "tests" / "frozen" / "format-1"
LINES = (RUN.parent / "source.txt").read_text(encoding="utf-8").splitlines()
EXPECTED = (RUN / "expected.txt").read_text(encoding="utf-8").splitlines()


def blocks() -> list[str]:
    document = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", document, flags=re.DOTALL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which runs/demo and runs/other are."""
    (tmp_path / "runs").mkdir()
    for name in ("demo", "other"):
        (tmp_path / "runs" / name).symlink_to(RUN)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_the_examples_of_the_document_run(here: Path) -> None:
    assert len(blocks()) == 8
    program = f"lines = {LINES[:6]!r}\n" + "\n".join(blocks())
    (here / "examples.py").write_text(program, encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "examples.py"], cwd=here, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    said = done.stdout.decode().splitlines()
    for line, best in zip(LINES[:6], EXPECTED, strict=False):
        assert any(row.startswith(f"{line} -> {best}") for row in said), line
    assert "decoding.beam" in said[-1]


def test_nothing_goes_to_standard_output(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Translator.load("runs/demo").translate(LINES)
    assert capfd.readouterr() == ("", "")


def test_a_model_is_found_as_by_the_command(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("runs/demo", Path("runs/demo"), next((RUN / "checkpoints").iterdir())):
        assert [found[0].text for found in Translator.load(path).translate(LINES)] == EXPECTED
    with pytest.raises(UserError, match="no run was trained"):
        Translator.load()
    monkeypatch.setenv("S2S_MODEL", "runs/demo")
    assert Translator.load().translate_one(LINES[0]).text == EXPECTED[0]


def test_one_line_in_place_of_a_list_is_refused(here: Path) -> None:
    translator = Translator.load("runs/demo")
    for line in (LINES[0], LINES[0].encode()):
        with pytest.raises(TypeError, match=r"give \[line\], or call translate_one"):
            translator.translate(line)  # type: ignore[arg-type, unused-ignore]  # a text is a sequence of texts


def test_the_attributes_of_a_translation_are_documented(here: Path) -> None:
    document = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names = {field.name for field in fields(Translation)} | {"log_probability", "length"}
    assert all(f"`{name}`" in document for name in names)


def test_wishes_are_granted(here: Path) -> None:
    translator = Translator.load("runs/demo")
    translator.wish(Wishes(terms=(Term("c", "h"),), forbid=("a",)))
    found = translator.translate_one("copy a c").text.split()
    assert "h" in found and "a" not in found
    with pytest.raises(UserError, match="is forbidden"):
        translator.wish(Wishes(force=("a",), forbid=("a",)))


def test_an_ensemble_of_a_model_with_itself_is_the_model(here: Path) -> None:
    twice = Translator.load("runs/demo", "runs/other")
    assert [found[0].text for found in twice.translate(LINES)] == EXPECTED


def test_translations_are_values_and_blank_lines_are_blank(here: Path) -> None:
    translator = Translator.load("runs/demo", beam=3, n_best=2)
    found, blank = translator.translate([LINES[0], " "])
    assert [type(item) for item in found] == [Translation] * 2
    assert found[0].score >= found[1].score
    assert found[0] == translator.translate_one(LINES[0])
    assert [item.text for item in blank] == ["", ""]


@pytest.mark.parametrize(
    ("path", "changes", "words"),
    [
        ("runs/nowhere", {}, "s2s train"),
        ("runs/demo", {"beam": 0}, "decoding.beam"),
        ("runs/demo", {"beem": 3}, "did you mean 'beam'?"),
        ("runs/demo", {"n_best": 9, "beam": 2}, "raise beam"),
        ("runs/demo", {"device": "cuda:77"}, "cuda:77"),
    ],
)
def test_a_mistake_is_one_clear_line(path: str, changes: dict[str, object], words: str, here: Path) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        Translator.load(path, **changes)
    assert len(str(caught.value).splitlines()) == 1
    assert issubclass(UserError, S2SError) and issubclass(RunFailed, S2SError)


def test_a_checkpoint_without_its_manifest_is_damaged_and_still_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    (checkpoint,) = (run / "checkpoints").iterdir()
    (checkpoint / "manifest.json").unlink()
    for path in (run, checkpoint):
        with pytest.raises(UserError, match=r"manifest\.json: missing or damaged; no other checkpoint"):
            Translator.load(path)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on two cores; what torch is told of it is taken back."""
    threads = torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 2)
        yield
    torch.set_num_threads(threads)


THREADS, ROUNDS = 8, 3


@pytest.mark.parametrize("table", [1 << 28, 0])
def test_eight_threads_at_once_give_what_each_gives_alone(
    table: int, here: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first moment, while the model is made ready, and its table while others search; workers within."""
    monkeypatch.setattr(module, "TABLE_BYTES", table)
    monkeypatch.setattr(module, "WORKER_SENTENCES", 4)
    alone = Translator.load("runs/demo", beam=3, n_best=2, max_source_length=4)
    shares = [[*LINES[first::THREADS], LINES[0], "", "copy a b c d e"] for first in range(THREADS)]
    expected = [alone.translate(share) for share in shares]
    for _ in range(ROUNDS):
        together = Translator.load("runs/demo", beam=3, n_best=2, max_source_length=4)
        start = Barrier(THREADS)

        def work(share: list[str], own: Translator = together, start: Barrier = start) -> list[list[Translation]]:
            start.wait()
            found = own.translate(share)
            own.notices.add(lines=len(share))
            return found

        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(work, shares))
        for mine, theirs in zip(found, expected, strict=True):
            assert [[item.text for item in group] for group in mine] == [
                [one.text for one in group] for group in theirs
            ]
            for group, other in zip(mine, theirs, strict=True):
                assert [item.score for item in group] == pytest.approx([item.score for item in other], abs=1e-4)
        assert together.notices.lines == sum(map(len, shares))
        assert together.notices.cut == alone.notices.cut == THREADS
