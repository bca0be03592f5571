"""What is shipped works as written: every config, and the commands and YAML of the README."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import toy
import yaml

from s2s_cli.config_file import load_config

ROOT = Path(__file__).parent.parent
DOCUMENTS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def corpus_of_captions(folder: Path) -> None:
    """Stands for a real corpus that is not here: made-up pairs under the real file names."""
    for name, count in (("train", 400), ("val", 30), ("test_2016_flickr", 30)):
        rows = toy.pairs(count, seed=count, longest=6)
        for column, side in enumerate(("en", "de")):
            text = "".join(f"{row[column]}\n" for row in rows)
            (folder / f"{name}.{side}").write_text(text, encoding="utf-8")


CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", [name for name in CONFIGS if name != "shapes.yaml"])  # that one: in test_shapes.py
def test_every_shipped_config_trains_translates_and_evaluates(tmp_path: Path, config: str) -> None:
    corpus_of_captions(tmp_path)
    short = ["training.max_steps=2", "training.validate_every=2", "training.schedule_steps=2"]
    if config != "demo.yaml":
        short += ["tokenizer.vocab_size=24"]
    options = [word for value in short for word in ("--set", value)]
    run = tmp_path / "run"
    environment = {"MULTI30K_DIR": str(tmp_path), "TAUGHT_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    runs = {config: run}
    if config == "multi30k-student.yaml":  # it takes a tokenizer and texts that other models have made
        runs = {"multi30k-en-de.yaml": tmp_path / "runs" / "one", **runs}
        for made, side in (("taught", "de"), ("back", "en")):
            shutil.copy(tmp_path / f"train.{side}", tmp_path / f"{made}.{side}")
    for name, folder in runs.items():
        path = ROOT / "configs" / name
        done = toy.s2s("train", "--config", path, "--run", folder, *options, cwd=tmp_path, **environment)
        assert done.returncode == 0, done.stderr.decode()
    done = toy.s2s("translate", "--beam", 1, cwd=tmp_path, stdin=b"The dog sees a cat.\n\n", **environment)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"\n") == 2
    (tmp_path / "a").write_text("The dog sees a cat.\nA man.\n", encoding="utf-8")
    files = ("--source", tmp_path / "a", "--reference", tmp_path / "a")
    done = toy.s2s("evaluate", "--model", run, "--beam", 1, *files, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr.decode()


def test_the_configs_of_the_readme_are_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    mine = next(block for block in blocks if block.startswith("# my.yaml"))
    (tmp_path / "my.yaml").write_text(mine, encoding="utf-8")
    done = toy.s2s("config", "show", "--config", "my.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "shown.yaml").write_bytes(done.stdout)
    again = toy.s2s("config", "show", "--config", "shown.yaml", cwd=tmp_path)
    assert again.stdout == done.stdout
    for data in re.findall(
        r"```yaml\n(data:.*?)```", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), flags=re.DOTALL
    ):
        (tmp_path / "data.yaml").write_text(f"{data}training: {{max_steps: 1}}\n", encoding="utf-8")
        load_config(tmp_path / "data.yaml")
    workflow = next(block for block in blocks if "workflows" in block)
    steps = yaml.safe_load(workflow)["jobs"]["translation"]["steps"]
    assert any("s2s evaluate" in step.get("run", "") for step in steps)


def test_every_command_of_the_documents_is_understood(tmp_path: Path) -> None:
    """Each option is one that the command knows; whether files are there is another matter."""
    commands = re.findall(r"(?:^ {4}|\| |`|run: )(s2s [^|`\n]+)", DOCUMENTS, flags=re.MULTILINE)
    assert len(commands) >= 15
    helps = {}
    for command in commands:
        words = shlex.split(command.split("<")[0].split("#")[0])[1:]
        if not words or words[0] not in (
            "train",
            "translate",
            "evaluate",
            "score",
            "plot",
            "info",
            "average",
            "config",
        ):
            continue
        name = words[:2] if words[0] == "config" and len(words) > 1 else words[:1]
        if tuple(name) not in helps:
            done = toy.s2s(*name, "--help", cwd=tmp_path, COLUMNS="200")
            assert done.returncode == 0, command
            helps[tuple(name)] = done.stdout.decode()
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word)}(?![\w-])", helps[tuple(name)]), command


def test_make_targets_that_the_readme_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {*re.findall(r"make ([a-z-]+)  ", README), *re.findall(r"`(?:[A-Z0-9_]+=\S+ )?make ([a-z-]+)", DOCUMENTS)}
    assert {"demo", "test", "torture", "claims"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
