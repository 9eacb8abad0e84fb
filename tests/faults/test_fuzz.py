"""T-F: no content of a file makes its reader fall over: it is taken, or refused with an error of imgkit's own."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from fuzz import SUBJECTS, fuzz, page_template
from tally import Tally

from imgkit import checkpoint
from imgkit.report.html import shell

FAMILY = "T-F"
EXAMPLES, QUICK = 20_000, 50
EACH = -(-EXAMPLES // len(SUBJECTS))

__all__ = ["page_template"]


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("page_template")
@pytest.mark.parametrize("name", SUBJECTS)
def test_no_content_makes_a_reader_fall_over(tmp_path: Path, tally: Tally, whole: bool, name: str) -> None:
    least = EACH if whole else QUICK
    seen = fuzz(SUBJECTS[name], tmp_path, examples=least)
    assert seen["examples"] >= least
    assert seen["fallen"] == 0
    assert (seen["refused"] > 0) == (name != "page"), "damages reach what the reader looks at"
    tally.count(FAMILY, **seen)


# What protects, taken away: the examples must notice.


@pytest.mark.usefixtures("page_template")
@pytest.mark.parametrize("name", ["state", "page"])
def test_the_examples_notice_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "state":
        monkeypatch.setattr(checkpoint, "fitting", lambda place, step: nullcontext())
    else:
        shell._environment().autoescape = False
    with pytest.raises((TypeError, AssertionError)):
        fuzz(SUBJECTS[name], tmp_path, examples=500, shorten=False)
    tally.count("mutants", caught=1, escaped=0)
