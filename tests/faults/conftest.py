"""What the faults of a run are measured against."""

import time

import pytest
from lives import End, life
from oracle import fingerprint, short_run

from imgkit import open_run


@pytest.fixture(scope="session")
def end(tmp_path_factory: pytest.TempPathFactory) -> End:
    """Of the usual short run."""
    folder, began = tmp_path_factory.mktemp("oracle"), time.monotonic()
    assert life(lambda: short_run(folder)) == 0
    return End(fingerprint(open_run("run", folder / "runs")), time.monotonic() - began)
