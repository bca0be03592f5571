"""The command `s2s evaluate` on files: the table, the gates, comparisons, and what is refused."""

from __future__ import annotations

import functools
import html
import io
import json
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sacrebleu.dataset import DATASETS
from test_evaluate import CHINESE, ENGLISH, scores_of, third

from s2s_cli.cli import main as cli
from s2s_cli.config import EvaluationConfig
from s2s_cli.errors import Stopped
from s2s_cli.score.testset import from_sacrebleu

Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Evaluate]:
    """Runs `s2s evaluate` in this process on the files hyp and ref: exit code, standard output, standard error."""
    for name, lines in zip(("hyp", "ref"), ENGLISH, strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(
        *options: str, files: tuple[str, ...] = ("--hypothesis", "hyp", "--reference", "ref")
    ) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["s2s", "evaluate", *files, *options])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return end.value.code, *capfd.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


BLEU = scores_of(*ENGLISH, EvaluationConfig())["bleu"].value


def test_the_table_shows_each_score_with_its_signature(evaluate: Evaluate) -> None:
    code, out, err = evaluate("--metric", "bleu", "--metric", "ter")
    scores = scores_of(*ENGLISH, EvaluationConfig(metrics=("bleu", "ter")))
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert set(rows) == {"metric", "bleu", "ter"}
    for name, found in scores.items():
        assert rows[name].split()[1] == f"{found.value:.2f}"
        bare = rows[name].split()[-1].replace("|bs:1000|seed:12345", "")
        assert bare == found.signature
    assert err == ""


@pytest.mark.parametrize(
    ("floors", "code"),
    [
        (["bleu=0"], 0),
        ([f"bleu={BLEU - 0.01}"], 0),
        ([f"bleu={BLEU + 0.01}"], 1),
        (["bleu=0", "chrf=99.9"], 1),
        (["bleu=99.9", "chrf=0"], 1),
        (["bleu=1e-3", "chrf++=1"], 0),
    ],
)
def test_gates_decide_the_exit_code(evaluate: Evaluate, floors: list[str], code: int) -> None:
    found, out, _ = evaluate(*(f"--min={floor}" for floor in floors))
    assert found == code
    for floor in floors:
        assert f": {floor.split('=')[0]} " in out
    assert ("MISSED" in out) == bool(code)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--min", "bleu"], "METRIC=VALUE"),
        (["--min", "bleu="], "METRIC=VALUE"),
        (["--min", "bleu=high"], "METRIC=VALUE"),
        (["--min", "bleau=30"], "did you mean 'bleu'"),
        (["--min", "=30"], "unknown metric"),
        (["--min", "bleu=nan"], "nan"),
        (["--metric", "rouge"], "rouge"),
        (["--tokenize", "14a"], "13a"),
        (["--beam", "3"], "--beam"),
        (["--set", "decoding.length_penalty=1"], "--set has no use with --hypothesis"),
        (["--model", "runs/x"], "--model"),
        (["--nonsense"], "--nonsense"),
        (["--json", "missing/scores.json"], "missing/scores.json"),
    ],
)
def test_what_the_user_must_change_exits_with_2(evaluate: Evaluate, options: list[str], word: str) -> None:
    code, out, err = evaluate(*options)
    assert (code, out) == (2, "")
    assert word in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "misaligned"),
        (b"one line\n", "misaligned"),
        (b"a\n" * 24 + b"\xff\n", "25: not UTF-8"),
        (None, "No such file"),
    ],
    ids=["empty", "short", "not UTF-8", "missing"],
)
def test_a_hypothesis_file_that_does_not_fit_exits_with_2(
    evaluate: Evaluate, tmp_path: Path, content: bytes | None, word: str
) -> None:
    path = tmp_path / "hyp"
    path.unlink() if content is None else path.write_bytes(content)
    code, out, err = evaluate()
    assert (code, out) == (2, "")
    assert word in err


def test_translations_in_json_lines_are_scored_and_a_table_is_refused(evaluate: Evaluate, tmp_path: Path) -> None:
    _, plain, _ = evaluate("--metric", "bleu")
    said = [{"id": at, "source": "x", "translation": line} for at, line in enumerate(ENGLISH[0])]
    (tmp_path / "hyp.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in said))
    files = ("--hypothesis", "hyp.jsonl", "--reference", "ref")
    assert evaluate("--metric", "bleu", files=files) == (0, plain, "")
    (tmp_path / "hyp.jsonl").write_text(json.dumps({"text": "x"}) + "\n")
    code, _, err = evaluate(files=files)
    assert (code, "hyp.jsonl:1: no object with a translation" in err) == (2, True)
    (tmp_path / "hyp.tsv").write_text("".join(f"x\t{line}\n" for line in ENGLISH[0]), encoding="utf-8")
    code, _, err = evaluate(files=("--hypothesis", "hyp.tsv", "--reference", "ref"))
    assert (code, "hyp.tsv:1: a table" in err) == (2, True)


def test_the_json_file_holds_what_the_table_shows(evaluate: Evaluate, tmp_path: Path) -> None:
    code, out, _ = evaluate("--json", "scores.json", "--min", "bleu=99")
    assert code == 1
    found = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert found["passed"] is False
    (only,) = found["evaluations"]
    assert only["sentences"] == len(ENGLISH[0])
    assert only["gates"] == [{"kind": "min", "metric": "bleu", "value": BLEU, "limit": 99.0, "passed": False}]
    assert only["translations"] == ENGLISH[0]
    assert only["hypothesis"] == "hyp"
    assert f"{found['scores']['bleu']['value']:.2f}" in out
    for row in found["scores"].values():
        assert row["low"] < row["value"] < row["high"]


def test_options_of_the_score_reach_it(evaluate: Evaluate) -> None:
    code, out, _ = evaluate("--tokenize", "char", "--lowercase", "--metric", "bleu")
    wanted = scores_of(*ENGLISH, EvaluationConfig(metrics=("bleu",), tokenize="char", lowercase=True))["bleu"]
    assert code == 0
    assert f"{wanted.value:.2f}" in out
    assert "case:lc" in out
    assert "tok:char" in out


def test_a_hint_goes_to_standard_error(evaluate: Evaluate, tmp_path: Path) -> None:
    for name in ("hyp", "ref"):
        (tmp_path / name).write_text("한국어 문장\n다른 문장\n", encoding="utf-8")
    code, out, err = evaluate("--metric", "bleu")
    assert code == 0
    assert "hint" in err
    assert "hint" not in out


def test_json_on_standard_output_is_one_object_and_nothing_else(evaluate: Evaluate, tmp_path: Path) -> None:
    for name, lines in zip(("hyp", "ref"), CHINESE, strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    code, out, err = evaluate("--json", "-", "--min", "bleu=101")
    assert code == 1
    assert out.endswith("}\n")
    found = json.loads(out)
    assert found["passed"] is False
    assert {name: row["value"] for name, row in found["scores"].items()} == {
        name: row.value for name, row in scores_of(*CHINESE, EvaluationConfig()).items()
    }
    assert "--tokenize zh" in err


# Comparisons


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    """Translations that are clearly worse than the file `hyp`."""
    path = tmp_path / "worse"
    lines = [" ".join(line.split()[: max(1, len(line.split()) // 2)]) for line in ENGLISH[0]]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


FILES = ("--reference", "ref")


def test_a_regression_fails_the_build_and_an_improvement_does_not(evaluate: Evaluate, worse: Path) -> None:
    options = ("--fail-on", "regression", "--baseline")
    code, out, _ = evaluate("--hypothesis", "worse", *options, "hyp", files=FILES)
    assert code == 1
    assert "MISSED: bleu worse than the baseline with p = " in out
    assert "hyp (baseline)" not in out.splitlines()[0]
    code, out, _ = evaluate("--hypothesis", "hyp", *options, "worse", files=FILES)
    assert code == 0
    assert "passed: bleu not worse" in out
    assert evaluate("--hypothesis", "worse", "--baseline", "hyp", files=FILES)[0] == 0  # only told


def test_noise_does_not_fail_the_build(evaluate: Evaluate, tmp_path: Path) -> None:
    lines = [*ENGLISH[0]]
    lines[3] = " ".join(lines[3].split()[:-1])
    (tmp_path / "noise").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    code, out, _ = evaluate("--hypothesis", "noise", "--baseline", "hyp", "--fail-on", "regression", files=FILES)
    assert code == 0, out
    code, out, _ = evaluate("--hypothesis", "noise", "--baseline", "hyp", "--max-drop", "bleu=0.01", files=FILES)
    assert code == 1
    assert "MISSED: bleu worse than the baseline by " in out


def test_an_earlier_evaluation_is_a_baseline(evaluate: Evaluate, worse: Path, tmp_path: Path) -> None:
    assert evaluate("--json", "before.json")[0] == 0
    from_json = evaluate("--hypothesis", "worse", "--baseline", "before.json", files=FILES)
    from_text = evaluate("--hypothesis", "worse", "--baseline", "hyp", files=FILES)
    assert from_json[0] == from_text[0] == 0

    def table(text: str) -> list[list[str]]:
        return [line.split()[-1:] + line.split()[2:7] for line in text.splitlines()]

    assert table(from_json[1])[-2:] == table(from_text[1])[-2:]


@pytest.mark.parametrize(
    ("options", "change", "word"),
    [
        (["--tokenize", "intl"], None, "cannot be compared: its bleu is"),
        (["--lowercase"], None, "cannot be compared"),
        ([], "other references", "other references"),
        ([], '{"scores": 3}', "no evaluation"),
        ([], '{"scores": ', "damaged"),
        ([], '{"scores": {}, "evaluations": [{"baseline": false, "references_sha256": 1}]}', "no evaluation"),
        ([], "a letter that is none", "no evaluation"),
        ([], "two systems", "holds 2 systems"),
    ],
)
def test_a_baseline_of_another_kind_is_refused(
    evaluate: Evaluate, tmp_path: Path, options: list[str], change: str | None, word: str
) -> None:
    assert evaluate("--json", "before.json")[0] == 0
    if change == "other references":
        (tmp_path / "ref").write_text("".join(f"{line} .\n" for line in ENGLISH[1]), encoding="utf-8")
    elif change == "a letter that is none":
        found = json.loads((tmp_path / "before.json").read_text(encoding="utf-8"))
        found["evaluations"][0]["translations"][0] = "\ud800"
        (tmp_path / "before.json").write_text(json.dumps(found))
    elif change == "two systems":
        assert evaluate("--hypothesis", "other=ref", "--json", "before.json")[0] == 0
    elif change:
        (tmp_path / "before.json").write_text(change)
    code, out, err = evaluate("--baseline", "before.json", "--json", "after.json", *options)
    assert (code, out) == (2, "")
    assert word in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "after.json").exists()


def test_several_systems_stand_in_one_table(evaluate: Evaluate, worse: Path) -> None:
    options = ("--hypothesis", "good=hyp", "--hypothesis", "bad=worse", "--metric", "bleu", "--min", f"bleu={BLEU - 1}")
    code, out, _ = evaluate(*options, files=FILES)
    assert code == 1
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows[:3]] == ["system", "good", "bad"]
    assert float(rows[1][2]) > float(rows[2][2])
    assert "passed: good on ref: bleu" in out
    assert "MISSED: bad on ref: bleu" in out
    code, _, err = evaluate("--hypothesis", "hyp", "--hypothesis", "hyp", files=FILES)
    assert code == 2
    assert "NAME=FILE" in err


def test_several_references_are_used_together(evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "ref2").write_text("".join(f"{line}\n" for line in third(ENGLISH[1])), encoding="utf-8")
    code, out, _ = evaluate("--reference", "ref2")
    assert code == 0
    assert "nrefs:2" in out
    (tmp_path / "ref2").write_text("one\n")
    code, _, err = evaluate("--reference", "ref2")
    assert code == 2
    assert "misaligned: ref has 25, ref2 has 1 lines" in err


def test_a_ceiling_judges_ter(evaluate: Evaluate) -> None:
    ter = scores_of(*ENGLISH, EvaluationConfig(metrics=("ter",)))["ter"].value
    assert evaluate("--max", f"ter={ter + 0.01}")[0] == 0
    code, out, _ = evaluate("--max", f"ter={ter - 0.01}")
    assert code == 1
    assert "MISSED: ter" in out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--max", "bleu=30"], "more is better"),
        (["--max", "loss=2"], "needs a model"),
        (["--fail-on", "regression"], "--baseline"),
        (["--max-drop", "bleu=1"], "--baseline"),
        (["--fail-on", "noise", "--baseline", "hyp"], "regression"),
        (["--max-drop", "loss=1", "--baseline", "hyp"], "unknown metric"),
        (["--baseline", "nothing"], "--baseline nothing"),
        (["--baseline", "hyp", "--level", "0.05"], "--fail-on"),
        (["--baseline", "hyp", "--fail-on", "regression", "--level", "5"], "--level 5: must lie"),
        (["--baseline", "hyp", "--fail-on", "regression", "--level", "0.0009"], "see no less"),
        (["--min", "bleu=90", "--min", "bleu=10"], "given twice"),
        (["--baseline", "n" * 300], "cannot read it"),
        (["--baseline", "/dev/null"], "neither a file nor a run"),
        (["--json", "x", "--report", "x"], "both would write"),
        (["--json", ""], "--json"),
        (["--testset", "wmt20"], "leave it out"),
        (["--pair", "en-de"], "leave it out"),
        (["--report", "missing/report.html"], "--report missing/report.html"),
        (["--junit", "."], "--junit"),
        (["--test", "a"], "leave it out"),
        (["--json", "-", "--details"], "--details has no use with --json -"),
        (["--json", "ref2", "--baseline", "ref2"], "would be overwritten"),
    ],
)
def test_what_does_not_fit_together_exits_with_2(
    evaluate: Evaluate, tmp_path: Path, options: list[str], word: str
) -> None:
    shutil.copy(tmp_path / "ref", tmp_path / "ref2")
    code, out, err = evaluate(*options)
    assert (code, out) == (2, "")
    assert word in err
    assert len(err.splitlines()) == 1


def test_all_results_are_written_together(evaluate: Evaluate, tmp_path: Path) -> None:
    options = ("--junit", "scores.xml", "--report", "report.html", "--json", "-", "--min", "bleu=1")
    code, out, err = evaluate(*options)
    assert (code, err) == (0, "")
    assert json.loads(out)["passed"] is True
    assert "<testsuites" in (tmp_path / "scores.xml").read_text(encoding="utf-8")
    assert "<!doctype html>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_details_print_the_numbers_of_the_report(evaluate: Evaluate) -> None:
    code, out, _ = evaluate("--details", "--plain")
    assert code == 0
    for title in ("by length", "by rarity", "by position"):
        assert f"hyp on ref, {title}" in out


# sacreBLEU's own test sets


def seg(lines: list[str]) -> str:
    """As test sets were given until 2020, and within an XML document since."""
    return "".join(f'<seg id="{n}">{html.escape(line, quote=False)}</seg>\n' for n, line in enumerate(lines, 1))


def wmt_xml(translator: str) -> str:
    doc = f'<src lang="en"><p>{seg(ENGLISH[0])}</p></src>'
    doc += f'<ref lang="cs" translator="{translator}"><p>{seg(ENGLISH[1])}</p></ref>'
    return f'<dataset id="t"><doc id="d" origlang="en">{doc}</doc></dataset>'


@pytest.mark.parametrize(
    ("name", "pair", "contents"),
    [
        ("wmt17", "en-de", (seg(ENGLISH[0]), seg(ENGLISH[1]))),
        ("wmt22", "cs-en", (wmt_xml("B"),)),
    ],
)
def test_a_public_test_set_is_downloaded_once(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, pair: str, contents: tuple[str, ...]
) -> None:
    """From a server of our own, in the place of the public one."""
    dataset = DATASETS[name]
    pack = tmp_path / "served" / Path(dataset.data[0]).name
    pack.parent.mkdir()
    members = dataset.langpairs[pair]
    with tarfile.open(pack, "w:gz") as archive:
        for member, content in zip([members["path"]] if isinstance(members, dict) else members, contents, strict=True):
            entry = tarfile.TarInfo(member)
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(pack.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path / "sacrebleu"
    for attribute, value in {
        "data": [f"http://127.0.0.1:{server.server_port}/{pack.name}"],
        "md5": None,
        "_outdir": str(folder),
        "_rawdir": str(folder / "raw"),
    }.items():
        monkeypatch.setattr(dataset, attribute, value)
    options = ("--hypothesis", "hyp", "--testset", name, "--pair", pair, "--metric", "bleu")
    try:
        code, out, err = evaluate(*options, files=())
    finally:
        server.shutdown()
        server.server_close()
    assert code == 0, err
    assert "downloading" in err
    assert f"{BLEU:.2f}" in out
    code, again, err = evaluate(*options, files=())
    assert (code, again) == (0, out)
    assert "downloading" not in err


def test_a_public_test_set_that_cannot_be_had_exits_with_2(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = DATASETS["wmt17"]
    monkeypatch.setattr(dataset, "data", ["http://127.0.0.1:9/dev.tgz"])
    monkeypatch.setattr(dataset, "_outdir", str(tmp_path / "none"))
    monkeypatch.setattr(dataset, "_rawdir", str(tmp_path / "none" / "raw"))
    code, out, err = evaluate("--hypothesis", "hyp", "--testset", "wmt17", "--pair", "en-de", files=())
    assert (code, out) == (2, "")
    assert "cannot be downloaded" in err
    for options, word in (
        (("--testset", "wmt7", "--pair", "en-de"), "did you mean 'wmt"),
        (("--testset", "wmt17", "--pair", "de-xx"), "de-xx: not in wmt17"),
        (("--testset", "wmt17"), "needs --pair"),
    ):
        code, _, err = evaluate("--hypothesis", "hyp", *options, files=())
        assert code == 2
        assert word in err


def test_a_text_that_is_too_long_to_resample_has_scores_without_intervals(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("s2s_cli.evaluate", "s2s_cli.score.evaluator"):
        monkeypatch.setattr(f"{module}.MOST_RESAMPLED", 2)
    code, out, err = evaluate("--json", "-")
    assert code == 0
    assert json.loads(out)["scores"]["bleu"]["low"] is None
    assert "no intervals" in err
    code, out, err = evaluate("--baseline", "hyp")
    assert (code, out) == (2, "")
    assert "2 lines at most" in err


def test_a_few_lines_cannot_tell_a_regression_from_chance(evaluate: Evaluate, tmp_path: Path) -> None:
    for name in ("hyp", "ref", "other"):
        (tmp_path / name).write_text("a b c d e\n" if name == "ref" else f"a b c d {name}\n")
    code, out, err = evaluate("--baseline", "other", "--fail-on", "regression")
    assert (code, out) == (2, "")
    assert "too few" in err


def test_a_fault_of_the_program_ends_with_70_and_a_traceback(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2s_cli.score.evaluator.Evaluator.judge", lambda *_: 1 / 0)
    code, out, err = evaluate()
    assert (code, out) == (70, "")
    assert "Traceback" in err and "ZeroDivisionError" in err


def test_the_level_decides_what_is_significant(evaluate: Evaluate, tmp_path: Path) -> None:
    lines = [*ENGLISH[0]]
    lines[3] = " ".join(lines[3].split()[:-1])
    (tmp_path / "noise").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    ask = ("--hypothesis", "noise", "--baseline", "hyp", "--metric", "bleu")
    files = ("--reference", "ref")
    (one,) = json.loads(evaluate(*ask, "--json", "-", files=files)[1])["evaluations"][1]["comparisons"]
    p = max(one["p_bootstrap"], one["p_randomization"])
    assert 0 < p < 0.9
    for level, code in ((p * 1.01, 1), (p * 0.99, 0)):
        assert evaluate(*ask, "--fail-on", "regression", "--level", repr(level), files=files)[0] == code


def test_a_baseline_from_another_source_is_refused(evaluate: Evaluate, tmp_path: Path) -> None:
    for name in ("src", "other"):
        (tmp_path / name).write_text("".join(f"{name} {number}\n" for number in range(len(ENGLISH[0]))))
    assert evaluate("--source", "src", "--json", "before.json")[0] == 0
    assert evaluate("--source", "src", "--baseline", "before.json")[0] == 0
    code, out, err = evaluate("--source", "other", "--baseline", "before.json")
    assert (code, out) == (2, "") and "translated another source" in err


def test_test_sets_that_share_references_each_find_their_own_baseline(evaluate: Evaluate, tmp_path: Path) -> None:
    """As a clean and a noisy source of one translation."""
    before: dict[str, Any] = {"evaluations": []}
    for name, lines in (("clean", ENGLISH[0]), ("noisy", ENGLISH[1])):
        (tmp_path / name).write_text("".join(f"{name} {number}\n" for number in range(len(lines))))
        (tmp_path / "out").write_text("".join(f"{line}\n" for line in lines))
        options = ("--hypothesis", "out", "--source", name, "--reference", "ref", "--json", "one.json")
        assert evaluate(*options, files=())[0] == 0
        found = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
        before = {**found, "evaluations": before["evaluations"] + found["evaluations"]}
    (tmp_path / "before.json").write_text(json.dumps(before))
    for name, lines in (("clean", ENGLISH[0]), ("noisy", ENGLISH[1])):
        (tmp_path / "out").write_text("".join(f"{line}\n" for line in lines))
        options = ("--hypothesis", "out", "--source", name, "--reference", "ref", "--baseline", "before.json")
        code, out, err = evaluate(*options, "--json", "-", files=())
        assert code == 0, err
        assert [one["gain"] for one in json.loads(out)["evaluations"][1]["comparisons"]] == [0, 0]


def test_who_is_stopped_while_a_test_set_is_fetched_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise Stopped("stopped", signal.SIGTERM)

    monkeypatch.setattr(type(DATASETS["wmt17"]), "get_source_file", stopped)
    with pytest.raises(Stopped):
        from_sacrebleu("wmt17", "en-de", print)
