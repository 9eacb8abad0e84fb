"""T-F, for as long as there is time: the examples of tests/faults/test_fuzz.py, others every day."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fuzz import SUBJECTS, fuzz, page_template
from tally import Tally

pytestmark = pytest.mark.nightly
__all__ = ["page_template"]


@pytest.mark.timeout(0)
@pytest.mark.usefixtures("page_template")
@pytest.mark.parametrize("name", SUBJECTS)
def test_no_content_makes_a_reader_fall_over(tmp_path: Path, tally: Tally, nightly_minutes: float, name: str) -> None:
    day = datetime.now(UTC).date().toordinal()
    minutes = nightly_minutes / len(SUBJECTS)
    seen = fuzz(SUBJECTS[name], tmp_path, examples=1, minutes=minutes, first=day * 10_000)
    print(f"{name}: {seen}")
    assert seen["fallen"] == 0
    tally.count("T-F", **seen)
