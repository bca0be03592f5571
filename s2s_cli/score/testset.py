"""What systems are scored on: sources and references, from a run's config, from files, or from sacreBLEU."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from s2s_cli.config import Config, ParallelText
from s2s_cli.data.corpus import Source, read_lines, read_pairs
from s2s_cli.data.features import FEATURE_FILES, open_features
from s2s_cli.errors import S2SError, UserError, suggest
from s2s_cli.files import matching, names_files, sha256
from s2s_cli.run import RunDirectory


@dataclass(frozen=True)
class TestSet:
    """Lines to score on."""

    __test__ = False  # pytest takes the name for a test

    name: str
    references: tuple[tuple[str, ...], ...]
    """One or more translations of the whole text."""
    files: tuple[str, ...]
    sources: tuple[Source, ...] | None = None
    """None where only references were given: nothing can then be translated."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the references: scores on other references cannot be compared."""
        return digest([line for side in self.references for line in (str(len(side)), *side)])

    @cached_property
    def sources_fingerprint(self) -> str | None:
        """SHA-256 of the sources, where there are any."""
        if self.sources is None:
            return None
        return digest([source if isinstance(source, str) else source.fingerprint for source in self.sources])

    @property
    def paths(self) -> list[Path]:
        """Its files, each by its own name."""
        return [path for name in self.files for path in matching(Path(name))]

    @property
    def texts(self) -> tuple[Source, ...]:
        """The sources.

        Raises:
            UserError: where there are none.
        """
        if self.sources is None:
            raise UserError(f"test set {self.name} has no source to translate: give --source")
        return self.sources


def digest(lines: Sequence[str]) -> str:
    """SHA-256 of a text, line by line."""
    return sha256("".join([line + "\n" for line in lines]).encode())


def read_sources(path: Path) -> tuple[Source, ...]:
    """The sources of a file, which is one of feature vectors where its ending says so.

    Raises:
        UserError: where it cannot be read.
    """
    return tuple(open_features([path], None) if path.suffix in FEATURE_FILES else read_lines(path))


def from_files(source: Path | None, references: Sequence[Path]) -> TestSet:
    """A test set of files.

    Raises:
        UserError: where one cannot be read, or they do not have the same number of lines.
    """
    sources: tuple[Source, ...] | None = None
    lengths: dict[str, int] = {}
    if source:
        sources = read_sources(source)
        lengths[str(source)] = len(sources)
    sides = {path: tuple(read_lines(path)) for path in references}
    lengths |= {str(path): len(side) for path, side in sides.items()}
    _check_same_length(lengths)
    return TestSet(references[0].name, tuple(sides[path] for path in references), tuple(lengths), sources)


def from_run(run: RunDirectory, config: Config, name: str | None) -> TestSet:
    """A test set that a run's config names; by default the first. Files that are gone are looked for in the run.

    Raises:
        UserError: where there is none, or none of this name, or its files are missing or misaligned.
    """
    texts = config.data.test
    if not texts:
        raise UserError("the run's config names no test set (data.test): give --source and --reference")
    names = {text.name: text for text in texts}
    if name is not None and name not in names:
        raise UserError(f"--test {name}: no such test set: {suggest(name, names)}")
    chosen = names[name] if name else texts[0]
    folder = _folder_beside(run, chosen, texts)
    text = _found_in(folder, chosen)
    for path in text.files:
        if not names_files(path):
            where = "the run's folder" if folder == run.path else folder
            raise UserError(f"{path}: the test set is not there: put it into {where}, or give --source and --reference")
    pairs = list(read_pairs(text, config.source))
    sources, targets = tuple(source for source, _ in pairs), tuple(target for _, target in pairs)
    return TestSet(text.name, (targets,), tuple(map(str, text.files)), sources)


def _folder_beside(run: RunDirectory, text: ParallelText, texts: Sequence[ParallelText]) -> Path:
    """Where a test set may lie in a run: in its folder, or in NAME there, where others have files of the same names."""
    others = {path.name for other in texts if other is not text for path in other.files if path not in text.files}
    shared = others & {path.name for path in text.files}
    return run.path / text.name if shared else run.path


def _found_in(folder: Path, text: ParallelText) -> ParallelText:
    """The test set, each file that is gone taken from a folder: a run that was copied has its paths no more."""

    def find(path: Path | None) -> Path | None:
        beside = folder / path.name if path else None
        return beside if path and beside and not names_files(path) and names_files(beside) else path

    return text.model_copy(update={name: find(getattr(text, name)) for name in ("source", "target", "tsv")})


def from_sacrebleu(name: str, pair: str | None, say: Callable[[str], None]) -> TestSet:
    """One of the public test sets that sacreBLEU knows, from its folder (`$SACREBLEU`) or downloaded into it.

    Raises:
        UserError: where it knows no such set or language pair, or the set cannot be had.
    """
    from sacrebleu.dataset import DATASETS

    if name not in DATASETS:
        raise UserError(f"--testset {name}: sacreBLEU knows no such test set: {suggest(name, DATASETS)[:300]}")
    dataset: Any = DATASETS[name]  # its methods are not typed
    pairs = sorted(dataset.langpairs)
    if pair not in pairs:
        wanted = f"--pair {pair}: not in {name}" if pair else f"--testset {name} needs --pair, the languages"
        raise UserError(f"{wanted}: {suggest(pair or '', pairs)}")
    if not list(Path(dataset._outdir).glob(f"*.{pair}.*")):
        say(f"{name} is not on this machine: downloading it")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            source, references = dataset.get_source_file(pair), dataset.get_reference_files(pair)
    except S2SError:  # stopped meanwhile
        raise
    except (Exception, SystemExit) as error:  # sacreBLEU ends the process where a download fails
        detail = "" if isinstance(error, SystemExit) else f" ({' '.join(str(error).split())[:200]})"
        raise UserError(
            f"--testset {name}: cannot be downloaded here{detail}: fetch it where there is a network "
            f"(sacrebleu -t {name} -l {pair} --echo src), then copy the folder ~/.sacrebleu"
        ) from None
    found = from_files(Path(source), [Path(path) for path in references])
    return replace(found, name=f"{name}/{pair}")


def _check_same_length(lengths: dict[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        described = ", ".join(f"{path} has {count:,}" for path, count in lengths.items())
        raise UserError(f"the sides are misaligned: {described} lines")
