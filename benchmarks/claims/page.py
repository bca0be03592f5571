"""The page: verdicts, tables and pictures, all of them made from the kept figures."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.claims.evidence import Evidence
from benchmarks.claims.experiments import (
    BATCH_TOKENS,
    BEAM,
    LEARNING_RATES,
    MODEL,
    VARIANTS,
    Speeds,
    Training,
    merged,
)
from benchmarks.claims.judged import CLAIMS
from benchmarks.claims.section import Section, Table
from s2s_cli.evaluate import BOOTSTRAP_SAMPLES
from s2s_cli.files import write_result
from s2s_cli.report import plots

INTRODUCTION = """\
# Claims
What is said again and again of recurrent sequence-to-sequence models, tried with this program. Nothing on this page is
written by hand: `{command}` makes it from the figures kept in `{figures}`, measures those that are missing first, and,
where it was stopped, goes on where it was.
"""


def write(evidence: Evidence, page: Path, pictures: Path, failed: Sequence[str] = ()) -> None:
    """Writes the page and its pictures; it names what failed."""
    sections = {name: claim.judge(evidence) for name, claim in CLAIMS.items()}
    for folder in (pictures, page.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for name, section in sections.items():
        if section.picture is not None:
            path = pictures / f"{name}.png"
            write_result(path, plots.save(section.picture, path)[0])
    folder = Path(os.path.relpath(pictures, page.parent))
    write_result(page, render(evidence, sections, folder, failed).encode())


def render(evidence: Evidence, sections: Mapping[str, Section], pictures: Path, failed: Sequence[str]) -> str:
    """The page as Markdown.

    Args:
        evidence: what is there.
        sections: what was found of each claim.
        pictures: the folder of pictures and figures, as the page sees it.
        failed: what could not be measured, with the reason.
    """
    form, missing = evidence.form, evidence.missing
    parts = [INTRODUCTION.format(command=form.command, figures=pictures.as_posix())]
    if "multi30k" not in evidence.tasks:
        parts.append("**Without Multi30k**: `MULTI30K_DIR` named no folder, so that only generated text was used.\n")
    if missing:
        few = ", ".join(f"`{name}`" for name in missing[:3])
        more = " and others" if len(missing) > 3 else ""
        parts.append(f"**Not finished**: {len(missing)} of {len(evidence.figures)} figures are missing: {few}{more}.\n")
    parts += [f"**Failed**: {one}\n" for one in failed]
    rows = [
        [_link(CLAIMS[name].title), section.claim, section.answer, "<br>".join(section.found)]
        for name, section in sections.items()
    ]
    parts.append(_markdown(["", "claim", "what was found", "judged by its rule"], rows))
    parts += [_section(name, section, pictures, form.alone) for name, section in sections.items()]
    parts += [_method(evidence), _work(evidence), _machines(evidence)]
    return "\n".join(parts)


def _link(title: str) -> str:
    return f"[{title}](#{title.lower().replace(' ', '-')})"


def _section(name: str, section: Section, pictures: Path, command: str) -> str:
    parts = [f"## {CLAIMS[name].title}\n*{section.claim}*\n"]
    if section.answer:
        parts.append(f"{section.answer}\n")
    parts.append("".join(f"- {line}\n" for line in section.found))
    if section.picture is not None:
        parts += [f"![{CLAIMS[name].title}]({(pictures / name).as_posix()}.png)\n", f"{section.caption}\n"]
    parts.append(f"**Rule.** {section.rule}\n")
    rows = [[one.scope, one.text, one.verdict.value] for one in section.statements]
    parts.append(_markdown(["on", "part", "found"], rows))
    parts += map(_table, section.tables)
    parts.append(f"This claim alone: `{command} {name}`.\n")
    return "\n".join(parts)


def _method(evidence: Evidence) -> str:
    form, sizes, model = evidence.form, evidence.form.sizes, MODEL
    reader, copy = merged(MODEL, VARIANTS["copy-lstm"].changes), evidence.tasks["copy"]
    updates = {name: f"{count:,}" for name, count in form.updates.items()}
    return f"""\
## How it was measured
**Models.** One layer on each side: a bidirectional encoder of {model["encoder"]["hidden_size"]} in each direction, a
decoder of {model["decoder"]["hidden_size"]}, embeddings of {model["embedding_size"]}, tied, dropout of
{model["dropout"]:g}; LSTM where no other cell is named. Copying: {reader["encoder"]["hidden_size"]} in one direction,
as many in the decoder, which begins with the encoder's last state, embeddings of {reader["embedding_size"]}, not tied,
no dropout.

**Text.** Multi30k: its captions to train on, `test_2016_flickr` to test on. Generated sentences, by the grammar of the
demo corpus: {sizes.pairs:,} pairs of at most {sizes.trained_to} English words, as many of each length, and
some {sizes.tested} to test on in each group of lengths, longer ones too. Copying: {sizes.pairs:,} rows of at most
{copy.longest} fillers, {sizes.tested} to test on at each distance. All seeds ({", ".join(map(str, form.seeds))})
read the same text.

**Training.** All models of a task alike: fp32, batches of {BATCH_TOKENS:,} tokens, {updates["long"]} updates (generated
sentences), {updates["multi30k"]} (Multi30k) and {updates["copy"]} (copying) by Adam, with a peak of
{LEARNING_RATES["long"]:g} (copying: {LEARNING_RATES["copy"]:g}) and a cosine, two side by side with a thread each; the
rest is the program's default. That is minutes of training: what is compared is what equal updates teach, not the best
that each could become. The peaks were chosen before, by single trials. For the cells on generated sentences by the loss
on validation after 600 updates: of 3e-3, 1e-3 and 5e-4 a tanh RNN has 3.47, 4.14 and 4.91; of the first two a GRU has
3.18 and 4.07, an LSTM 3.21 and 4.18. Those for Multi30k and copying were chosen by scores on what is tested here; with
the larger one a tanh RNN learns no copying at all. A beam of {BEAM} translates. BLEU is sacreBLEU's, of Korean by
characters.

**Intervals** hold 95 %. They join that of {BOOTSTRAP_SAMPLES:,} samples, each of which draws the sentences again, the
same for all systems, with Student's of the mean of the seeds; where there is one seed, they are of sentences alone, and
nothing is judged. The p-values beside them are those of sacreBLEU's paired bootstrap and paired approximate
randomization, seed by seed: whether these two models would differ on other sentences too; of other trainings they know
nothing, and the bootstrap's is about half of the two-sided one. Nothing is corrected for the number of parts. A claim
holds where all its parts do, and does not where one does not; what cannot be told has an interval on both sides of its
limit. Speeds are measured in {form.rounds} turns on one machine, with nothing beside them, by the first seed's runs;
how many times as fast one is, is told turn by turn, since the machine itself is not equally fast in all of them
(the mean of the logarithms, and Student's interval).

**The rules** were written before the figures but for four things, which were changed when the first seed's were there
and two thirds of the others' were not: each kind of attention is judged by itself; what is lost less is compared by
shares of BLEU, not in BLEU, since without attention there is little left to lose; speeds are compared turn by turn,
not all with all; and speeds of training and decoding are two parts.
"""


def _work(evidence: Evidence) -> str:
    """What was trained, and how long it took."""
    rows = []
    for task in evidence.tasks.values():
        planned = [one for one in evidence.figures if isinstance(one, Training) and one.task == task]
        found = [content for one in planned if (content := evidence.store.get(one))]
        means = [median(content[key] for content in found) if found else 0 for key in ("updates", "pieces")]
        seconds = sum(content["training_seconds"] + content["decoding_seconds"] for content in found)
        sizes = [f"{len(found)} of {len(planned)}", *(f"{value:,.0f}" for value in means)]
        rows.append([task.title, *sizes, f"{seconds / 60:,.0f}"])
    header = ["", "trainings", "updates", "target pieces, the median", "minutes of one thread, all together"]
    return _markdown(header, rows)


def _machines(evidence: Evidence) -> str:
    """Where trainings and speeds come from, by what was kept with them."""
    parts = []
    for name, wanted in (("Trainings", Training), ("Speeds", Speeds)):
        figures = [one for one in evidence.figures if isinstance(one, wanted)]
        kept = [content["about"] for one in figures if (content := evidence.store.get(one))]
        for about, count in Counter(json.dumps(one, ensure_ascii=False) for one in kept).items():
            told = "; ".join(f"{key} {value}" for key, value in json.loads(about).items())
            parts.append(f"- {name} ({count}): {told}\n")
    return "".join(parts)


def _table(table: Table) -> str:
    return f"{table.title}:\n\n{_markdown(table.header, table.rows)}"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
