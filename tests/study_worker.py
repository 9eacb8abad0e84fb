"""Studies in tests: a small file, and a worker that forks, which spares the imports of a new process."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sklearn.linear_model  # noqa: F401  (imported here so that no forked job has to)
import torch

import imgkit.experiment
import imgkit.studies.measure  # noqa: F401  (likewise)
from imgkit import plugin_files
from imgkit.cli import child
from imgkit.errors import ImgkitError
from imgkit.plugin import registered, unregister
from imgkit.signals import Request
from imgkit.studies.work import Outcome

PLUGIN = Path(__file__).parents[1] / "docs" / "examples" / "my_plugin.py"

HEAD = """
schema = 1
name = "small"
verb = "scratch"
recipe = "scratch"
model = "my_tiny_net"
seeds = {seeds}

[base]
"data.path" = "synthetic:3x24"
"data.test" = 0.25
"model.image_size" = 32
"run.workers" = 0
"train.batch_size" = 8
"train.precision" = "float32"
epochs = 2

[inference]
batch_size = 2
warm_up = 1
passes = 3
"""
LISTED = """
[[variants]]
name = "fast"
set = { lr = 1e-2 }

[[variants]]
name = "slow"
set = { lr = 1e-4 }
"""
GRID = """
[grid.rate]
fast = { lr = 1e-2 }
slow = { lr = 1e-4 }

[grid.loss]
none = {}
focal = { "loss.name" = "focal", "loss.gamma" = 2.0 }
"""


@contextmanager
def plugins_forgotten() -> Iterator[None]:
    """Plugins that are imported inside are forgotten afterwards, as in a process that has imported none."""
    before, path, imported = registered(), list(sys.path), dict(plugin_files._IMPORTED)
    try:
        yield
    finally:
        for name in plugin_files._IMPORTED.keys() - imported.keys():
            sys.modules.pop(Path(name).stem, None)
            del plugin_files._IMPORTED[name]
        sys.path[:] = path
        unregister({kind: frozenset(names) - before[kind] for kind, names in registered().items()})


def write_study(folder: Path, body: str, seeds: str = "[0, 1]") -> Path:
    """The file of a small study, whose runs take a second."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "small.toml"
    file.write_text(HEAD.format(seeds=seeds) + body)
    return file


def forking(
    jobs: list[Mapping[str, Any]] | None = None, before: Callable[[Mapping[str, Any]], None] = lambda job: None
) -> Callable[..., Outcome]:
    """A worker that does each job in a fork of this process, notes it in `jobs`, and calls `before` in the fork."""

    def work(job: Mapping[str, Any], request: Request, tick: Callable[[], object] = lambda: None) -> Outcome:
        if jobs is not None:
            jobs.append(job)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "result.json"
            pid = os.fork()
            if pid == 0:
                os._exit(_in_the_fork(job, file, before))
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return Outcome(code, **(json.loads(file.read_text()) if file.is_file() else {}))

    return work


def _in_the_fork(job: Mapping[str, Any], file: Path, before: Callable[[Mapping[str, Any]], None]) -> int:
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        before(job)
        told: Mapping[str, Any] = {"result": child.do(job)}
        code = 0
    except SystemExit as end:
        error, code = end.__context__, int(end.code or 0)
        told = child.about_error(error) if isinstance(error, ImgkitError) else {}
    except ImgkitError as error:
        told, code = child.about_error(error), error.exit_code
    except BaseException:
        return 1
    file.write_text(json.dumps(told))
    return code
