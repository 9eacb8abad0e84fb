"""T-F: no content of a file makes its reader fall over: it is taken, or refused with an error of imgkit's own."""

from pathlib import Path

import pytest
from fuzz import SUBJECTS, fuzz, page_template
from tally import Tally

FAMILY = "T-F"
EXAMPLES, QUICK = 20_000, 50
EACH = -(-EXAMPLES // len(SUBJECTS))

__all__ = ["page_template"]


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("page_template")
@pytest.mark.parametrize("name", SUBJECTS)
def test_no_content_makes_a_reader_fall_over(tmp_path: Path, tally: Tally, whole: bool, name: str) -> None:
    least = EACH if whole else QUICK
    done, refused = fuzz(SUBJECTS[name], tmp_path, examples=least)
    assert done >= least
    assert (refused > 0) == (name != "page"), "damages reach what the reader looks at"
    tally.count(FAMILY, examples=done, refused=refused, fallen=0)
