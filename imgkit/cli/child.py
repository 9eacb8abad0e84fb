"""One job of a study in a process of its own: `python -m imgkit.cli.child JOB RESULT`, both as JSON.

    {"do": "command", "words": [...]}                      what `imgkit WORDS` does
    {"do": "look", "study": {...}, "variants": [...]}      every variant, before the first run
    {"do": "measure", "run": NAME, ...}                    the model of a finished run
    {"do": "look", "sweep": {...}}                         each network of a sweep, before the first trial

RESULT gets {"result": ...}, or "kind", "message" and "hint" of what the user can mend.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgkit.errors import ImgkitError
from imgkit.screen import Screen
from imgkit.signals import end_with_parent, ending_cleanly


def main() -> None:
    """Do the job; exits with its code."""
    end_with_parent(signal.SIGTERM)  # as by Ctrl-C
    job, file = json.loads(sys.argv[1]), Path(sys.argv[2])
    try:
        with ending_cleanly():
            told: dict[str, Any] = {"result": do(job)}
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except SystemExit as end:  # of a command, which has said what was wrong
        error = end.__context__
        told = about_error(error) if isinstance(error, ImgkitError) else {}
        _write(file, told)
        raise
    except ImgkitError as error:
        if job["do"] != "look":  # that is told by whoever asked
            Screen().error(error)
        _write(file, about_error(error))
        sys.exit(error.exit_code)
    _write(file, told)


def do(job: Mapping[str, Any]) -> object:
    """Do a job; what it gives.

    Raises:
        SystemExit: by a command that does not end well.
        ImgkitError: by another job.
    """
    if job["do"] == "command":
        _command(job["words"])
        return None
    from imgkit.plugin_files import use_plugins
    from imgkit.studies.measure import look_at_variants, measure_run

    if "sweep" in job:
        from imgkit.sweeps.plan import asked_again as sweep_again
        from imgkit.sweeps.plan import looked_at, plan_corners

        study, runs = plan_corners(sweep_again(job["sweep"]))
        return look_at_variants(study, looked_at(runs))
    if job["do"] == "look":
        from imgkit.studies.conduct import asked_again
        from imgkit.studies.plan import plan_runs

        asked = asked_again(job["study"])
        return look_at_variants(asked, [run for run in plan_runs(asked) if run.variant.name in job["variants"]])
    from imgkit.run import RunFolder

    use_plugins(job["plugin"])
    folder = RunFolder.open(job["run"], Path(job["out"]))
    return measure_run(folder, train_images=job["train_images"], inference=job["inference"], screen=Screen())


def about_error(error: ImgkitError) -> dict[str, str]:
    """An error as RESULT has it."""
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}


def _command(words: list[str]) -> None:
    from imgkit.cli import app

    os.environ.pop("IMGKIT_SMOKE", None)  # whether it is a trial stands in its words
    sys.argv = ["imgkit", *words]
    try:
        app.main()
    except SystemExit as end:
        if end.code != 0:
            raise


def _write(file: Path, told: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
