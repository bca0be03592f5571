"""The order of the layers, and what must never be imported."""

from __future__ import annotations

import ast
import graphlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import s2s_cli

PACKAGE = Path(s2s_cli.__file__).parent

# Each imports only from itself and from what stands before it.
LAYERS = [
    "errors",
    "files",
    "locks",
    "packing",
    "yaml12",
    "signals",
    "console",
    "config_section",
    "config_model",
    "config_decoding",
    "config",
    "config_file",
    "device",
    "processes",
    "distributed",
    "dispatch",
    "data",
    "run",
    "manifest",
    "model",
    "checkpoint",
    "average",
    "search",
    "capture",
    "forced",
    "translate",
    "evaluate",
    "score",
    "train",
    "info",
    "display",
    "ci",
    "report",
    "cli",
    "__main__",
]
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}


def tree_of(module: Path) -> ast.Module:
    return ast.parse((PACKAGE / module).with_suffix(".py").read_text(encoding="utf-8"))


def is_module(dotted: str) -> bool:
    place = PACKAGE.parent.joinpath(*dotted.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def imports(module: Path) -> Iterator[str]:
    """Dotted names of all that a module imports, inside functions too; `from a import b` is a.b if that is a module."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ["s2s_cli", *module.parts][: -node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if base.startswith("s2s_cli") and is_module(inner) else base


def own_imports(module: Path) -> set[str]:
    """What a module imports from this package, without `s2s_cli.`."""
    return {name.removeprefix("s2s_cli.") for name in imports(module) if name.startswith("s2s_cli.")}


def in_python(code: str) -> str:
    """What a new interpreter prints."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_has_its_layer() -> None:
    assert {module.parts[0] for module in MODULES} - {"__init__"} == set(LAYERS)


def test_the_walk_sees_the_imports_that_are_there() -> None:
    assert {"config", "errors"} <= own_imports(Path("config_file"))
    assert "yaml12" in own_imports(Path("config_file"))  # from s2s_cli import yaml12
    assert "config_file" in own_imports(Path("cli/train"))  # inside a function
    assert "train.session" in own_imports(Path("cli/train"))


@pytest.mark.parametrize("module", [module for module in MODULES if module.name != "__init__"], ids=str)
def test_no_import_runs_back(module: Path) -> None:
    layer = LAYERS.index(module.parts[0])
    back = {name for name in own_imports(module) if LAYERS.index(name.split(".")[0]) > layer}
    assert not back, f"{module} is in layer {module.parts[0]} and imports {', '.join(sorted(back))}"
    level = {name for name in own_imports(module) if name.split(".")[0] == module.parts[0]}
    assert len(module.parts) > 1 or not level


def test_no_modules_import_each_other() -> None:
    graph = {".".join(module.parts): own_imports(module) for module in MODULES}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("errors") < order.index("cli.main")


@pytest.mark.parametrize(
    "name",
    [
        f"{package}/__init__"
        for package in ("cli", "data", "info", "model", "report", "score", "search", "train", "translate")
    ],
)
def test_packages_import_nothing_by_themselves(name: str) -> None:
    assert list(imports(Path(name))) == []


def test_the_whole_package_imports_what_it_names_only_when_it_is_asked_for() -> None:
    """The names, as type checkers see them, are those that are looked up, and stand where they are looked for."""
    (guarded,) = (node for node in tree_of(Path("__init__")).body if isinstance(node, ast.If))
    assert ast.unparse(guarded.test) == "TYPE_CHECKING"
    seen = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == s2s_cli._HOMES
    assert sorted(seen) == s2s_cli.__all__
    for name, home in seen.items():
        assert getattr(s2s_cli, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = s2s_cli.nothing_such
    code = "import sys; before = set(sys.modules); import s2s_cli; print(sorted(set(sys.modules) - before))"
    done = in_python(code)
    assert {name for name in ast.literal_eval(done) if name.startswith(("s2s_cli", "torch"))} == {"s2s_cli"}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_can_be_unpickled(module: Path) -> None:
    assert not PICKLES & {name.split(".")[0] for name in imports(module)}
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save"), ("numpy", "load")}
        if isinstance(node, ast.ImportFrom) and node.module in ("torch", "torch.serialization"):
            assert not {"load", "save"} & {alias.name for alias in node.names}
        if isinstance(node, ast.keyword):
            assert node.arg != "allow_pickle"


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = (
        "import sys, s2s_cli.cli.main; "
        "print(sorted({'torch', 'sacrebleu', 'sentencepiece', 'numpy'} & set(sys.modules)))"
    )
    assert in_python(code) == "[]"


def test_reading_a_config_needs_no_torch() -> None:
    """So that a fault in a config is told at once."""
    seen: set[str] = set()
    todo = ["config_file"]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(own_imports(Path(name)))
            assert not {"torch", "sacrebleu", "sentencepiece"} & {other.split(".")[0] for other in imports(Path(name))}
    assert "config" in seen
