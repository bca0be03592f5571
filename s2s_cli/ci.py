"""Results for build servers: JUnit XML, GitHub's annotations and step summary."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET  # only written here, never parsed
from collections.abc import Callable, Sequence

from s2s_cli.display import score_table
from s2s_cli.score.gates import Gate
from s2s_cli.score.result import Outcome

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def junit(outcome: Outcome) -> str:
    """JUnit XML: a suite for each system and test set, a case for each gate, the scores as properties."""
    root = ET.Element("testsuites", _counts("s2s evaluate", outcome.gates))
    for evaluation in outcome.judged:
        name = _NOT_IN_XML.sub("?", evaluation.title)
        suite = ET.SubElement(root, "testsuite", _counts(name, evaluation.gates))
        properties = ET.SubElement(suite, "properties")
        for metric, score in evaluation.scores.items():
            ET.SubElement(properties, "property", name=metric, value=f"{score.value:.6f}")
            ET.SubElement(properties, "property", name=f"{metric} signature", value=score.signature)
        for gate in evaluation.gates:
            case = ET.SubElement(suite, "testcase", classname=name, name=f"{gate.kind} {gate.metric}")
            if not gate.passed:
                ET.SubElement(case, "failure", message=gate.text)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def markdown(outcome: Outcome) -> str:
    """The score table and the gates, as GitHub shows them."""
    header, rows = score_table(outcome)
    lines = ["### s2s evaluate", "", _row(header), _row(["---"] * len(header)), *map(_row, rows), ""]
    for evaluation in outcome.judged:
        for gate in evaluation.gates:
            mark = ":white_check_mark:" if gate.passed else ":x:"
            lines.append(f"- {mark} {_escape(evaluation.title)}: {_escape(gate.text)}")
    return "\n".join([*lines, ""])


def report_to_github(outcome: Outcome, say: Callable[[str], None]) -> None:
    """On GitHub's runners, an annotation for each gate that was missed; and the table in the step's summary.

    Args:
        outcome: what to report.
        say: writes a line to standard error, where the runner looks for annotations too.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for evaluation in outcome.judged:
            for gate in evaluation.gates:
                if not gate.passed:
                    say(f"::error title=s2s evaluate::{_command(f'{evaluation.title}: {gate.text}')}")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(summary, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(markdown(outcome))
        except OSError as error:  # the gates are judged: that counts
            say(f"warning: cannot write {summary} (GITHUB_STEP_SUMMARY): {error.strerror}")


def _counts(name: str, gates: Sequence[Gate]) -> dict[str, str]:
    missed = sum(not gate.passed for gate in gates)
    return {"name": name, "tests": str(len(gates)), "failures": str(missed)}


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(text: str) -> str:
    """Text that Markdown and HTML leave alone, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|&~])", r"\\\1", " ".join(text.split()))


def _command(text: str) -> str:
    """Text in a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
