"""`imgkit doctor`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from imgkit.errors import GateError
from imgkit.screen import Screen, versions_line

PANEL = "Look"
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("doctor", rich_help_panel=PANEL)(doctor)


def doctor(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The folder that runs are to go to.")] = Path(
        "runs"
    ),
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Try in seconds what a run needs of this machine. Its text is for a bug report, too."""
    from imgkit.doctor import Place, examine, worst

    screen = Screen(file=sys.stdout)
    screen.line(versions_line())
    screen.line()
    findings = []
    for finding in examine(Place(out, device)):
        findings.append(finding)
        advice = finding.advice.splitlines()
        screen.fact(f"{_MARKS[finding.verdict]} {finding.name.ljust(8)}", finding.words, *advice)
    screen.line()
    seconds = sum(finding.seconds for finding in findings)
    count = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in _MARKS}
    warnings = f"{count['warn']} warning{'s' * (count['warn'] != 1)}"
    screen.line(f"{count['ok']} ok, {warnings}, {count['fail']} failed, in {seconds:.1f} s")
    if worst(findings) == "fail":
        names = ", ".join(finding.name for finding in findings if finding.verdict == "fail")
        raise GateError(f"This machine cannot do all that a run needs: {names}.", "What to do stands under each.")
