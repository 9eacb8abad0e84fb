import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from cli_run import Run

from imgkit.cli import app
from imgkit.errors import DataError, Interrupted, UsageError

pytest_plugins = ["cli_fixture"]

COMMANDS = [
    "demo",
    "data",
    "label",
    "finetune",
    "scratch",
    "resume",
    "lr-find",
    "probe",
    "study",
    "sweep",
    "evaluate",
    "predict",
    "report",
    "plot",
    "serve",
    "export",
    "push",
    "models",
    "recipes",
    "doctor",
]


def outside(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "imgkit", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False)


def seconds(*command: str, times: int) -> float:
    """Processor time of a Python command line, the least of some runs: other processes hardly change it."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    found = []
    for _ in range(times):
        before = used()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        found.append(used() - before)
    return min(found)


@pytest.mark.parametrize("args", [(), ("--help",)])
def test_help_is_grouped_and_says_what_to_try(imgkit: Run, args: tuple[str, ...]) -> None:
    code, out, _ = imgkit(*args)
    assert code == 0
    order = [
        "─ Start here",
        "│ demo",
        "│ label",
        "│ data",
        "─ Train",
        "│ finetune",
        "│ scratch",
        "│ resume",
        "─ Look",
        "│ evaluate",
    ]
    places = [out.index(word) for word in [*order, "│ predict", "│ report", "│ models", "│ recipes"]]
    assert places == sorted(places)
    assert "Try:  imgkit demo" in out
    assert "Usage: imgkit " in out


@pytest.mark.parametrize(
    "args",
    [[command] for command in COMMANDS]
    + [["data", "check"], ["data", "preview"], ["data", "prepare"], ["data", "split"], ["data", "pack"]]
    + [["data", "label-errors"], ["data", "learning-curve"]],
)
def test_help_of_each_command_fits_80_columns(imgkit: Run, args: list[str]) -> None:
    code, out, _ = imgkit(*args, "--help")
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80


def test_version(imgkit: Run) -> None:
    assert imgkit("--version") == (0, "imgkit 0.1.0\n", "")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["finetun"], ["No such command 'finetun'", "finetune", "Help:  imgkit --help"]),
        (["finetune", "x", "--epoch", "3"], ["--epoch", "--epochs", "Help:  imgkit finetune --help"]),
        (["finetune", "x", "--epochs", "many"], ["--epochs: expected a whole number, got 'many'"]),
        (["finetune", "x", "--on-bad", "ignore"], ["--on-bad: 'ignore' is not one of 'stop', 'skip'"]),
        (["predict", "x", "y", "--top-k", "0"], ["--top-k: must be at least 1, got '0'", "imgkit predict --help"]),
        (["scratch", "x", "--weights", "none"], ["--weights"]),
        (["evaluate"], ["NAME", "The newest run is called latest:  imgkit evaluate latest\n"]),
        (["predict"], ["The newest run is called latest:  imgkit predict latest INPUTS\n"]),
        (["predict", "one"], ["Type:  imgkit predict latest INPUTS\n"]),
        (["export"], ["imgkit export latest --to onnx\n"]),
        (["push", "one"], ["Type:  imgkit push latest OWNER/NAME\n"]),
        (["label"], ["Type:  imgkit label FOLDER\n"]),
        (["data", "chek"], ["check"]),
        (["label-errors", "--data", "x"], ["It is  imgkit data label-errors", "imgkit data label-errors --help"]),
        (["data", "finetune"], ["It is  imgkit finetune\n"]),
        (["export", "x"], ["Missing option '--to'. Choose from: onnx, onnx-int8, torch-export, timm"]),
    ],
)
def test_usage_errors_exit_2_with_a_suggestion(imgkit: Run, args: list[str], words: list[str]) -> None:
    code, out, err = imgkit(*args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_a_file_that_is_called_like_a_flag(imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-dash.png", "--two dashes.png"):
        assert "The file of that name" not in imgkit("predict", "latest", name)[2]
        (tmp_path / name).touch()
        code, _, err = imgkit("predict", "latest", name)
        quoted = f"'./{name}'" if " " in name else f"./{name}"
        assert (code, f"The file of that name is  {quoted}\n" in err) == (2, True), err


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def demo(**_: object) -> None:
        raise error

    monkeypatch.setattr("imgkit.demo.run", demo)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("bad", "do this"), 2),
        (DataError("bad", "do this"), 3),
        (Interrupted("bad", "do this", signal=15), 143),
        (Interrupted("bad", "do this"), 130),
    ],
)
def test_our_errors_are_messages_with_a_code(
    imgkit: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    fail_with(monkeypatch, error)
    assert imgkit("demo") == (code, "", "error: bad\n  do this\n")


def test_debug_keeps_the_traceback(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, DataError("bad"))
    monkeypatch.setenv("IMGKIT_DEBUG", "1")
    with pytest.raises(DataError):
        imgkit("demo")


def test_a_bug_is_not_hidden(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        imgkit("demo")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")])
def test_out_of_memory_is_a_message(imgkit: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fail_with(monkeypatch, error)
    code, out, err = imgkit("demo")
    assert (code, out) == (5, "")
    assert "Out of memory" in err
    assert "Traceback" not in err
    fail_with(monkeypatch, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        imgkit("demo")


def test_what_may_not_be_looked_into_is_a_message(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, PermissionError(13, "Permission denied", "closed/runs"))
    told = "error: closed/runs: Permission denied.\n  Check the permissions of it and above it.\n"
    assert imgkit("demo") == (7, "", told)
    fail_with(monkeypatch, OSError(30, "Read-only file system", "closed/runs"))
    assert imgkit("demo") == (7, "", told.replace("Permission denied", "Read-only file system"))
    fail_with(monkeypatch, OSError(22, "Invalid argument"))
    with pytest.raises(OSError, match="Invalid argument"):
        imgkit("demo")


def test_control_c_is_130(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    assert imgkit("demo")[0] == 130


def test_what_a_plugin_says_when_it_ends_the_process_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, SystemExit("bye"))
    monkeypatch.setattr(sys, "argv", ["imgkit", "demo"])
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == "bye", "Python prints it"


def test_a_bug_exits_1_with_its_traceback_in_a_process() -> None:
    script = "import sys, imgkit.cli.app as a\nsys.argv = ['imgkit', 'demo']\na.main()\n"
    patch = "import imgkit.demo\nimgkit.demo.run = lambda **_: 1 / 0\n"
    found = subprocess.run([sys.executable, "-c", patch + script], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "Traceback" in found.stderr
    assert "ZeroDivisionError" in found.stderr


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "imgkit", "recipes", "finetune"]
    found = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (found.returncode, found.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_or_closed_output_is_no_bug() -> None:
    command = [sys.executable, "-m", "imgkit", "recipes", "finetune"]
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    told = "error: Cannot write: No space left on device.\n  Free some space where the output or the files go.\n"
    assert (found.returncode, found.stderr) == (7, told)
    closed = ["sh", "-c", '"$@" >&-', "sh", *command]
    found = subprocess.run(closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["finetune", "--help"],
        ["recipes"],
        ["report", "RUNS"],
        ["finetune", "resnet50", "--print-recipe", "--lr", "1e-3"],
        ["finetune", "resnet50", "--epochs", "-3"],
    ],
)
def test_text_commands_import_nothing_heavy(args: list[str], tmp_path: Path) -> None:
    from sample_runs import write_run

    write_run(tmp_path, "one")
    args = [str(tmp_path) if arg == "RUNS" else arg for arg in args]
    heavy = {"torch", "timm", "torchvision", "pandas", "sklearn", "scipy"}
    script = (
        "import sys\nfrom imgkit.cli.app import main\n"
        f"sys.argv = ['imgkit', *{args!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print('code', end.code)\n"
        f"print('heavy', sorted(set(sys.modules) & {heavy!r}))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert found.stdout.endswith(f"code {2 if '-3' in args else 0}\nheavy []\n"), found.stdout + found.stderr


def test_help_imports_no_numbers_either() -> None:
    script = (
        "import sys\nfrom imgkit.cli.app import main\nsys.argv = ['imgkit', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(sorted(set(sys.modules) & {'numpy', 'pydantic', 'PIL'}))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("[]\n")


def test_help_takes_a_small_part_of_importing_torch() -> None:
    assert seconds("-m", "imgkit", "--help", times=3) <= 0.15 * seconds("-c", "import torch", times=1)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"COLUMNS": "60"}, {"PYTHONIOENCODING": "ascii"}])
def test_errors_read_well_in_a_pipe(env: dict[str, str]) -> None:
    found = outside("finetune", "--recipe", "finetune", **env)
    assert found.returncode == 2
    assert found.stdout == ""
    assert "\x1b" not in found.stderr
    assert max(len(line) for line in found.stderr.splitlines()) <= int(env.get("COLUMNS", "80"))
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["data", "--help"], ["lr-find", "--help"], ["finetun"], ["data", "x"]]
)
def test_help_and_faults_are_those_of_all_commands(
    words: list[str], imgkit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the command that is typed has its options, and nobody sees that."""
    few = imgkit(*words)
    monkeypatch.setattr(app, "_app_for", lambda words: app.app)
    assert imgkit(*words) == few


def test_the_commands_are_pinned() -> None:
    names = [command.name or command.callback.__name__ for command in app.app.registered_commands if command.callback]
    assert sorted([*names, *(group.name or "" for group in app.app.registered_groups)]) == sorted(COMMANDS)


@pytest.mark.parametrize("command", ["resume", "evaluate", "predict"])
def test_a_run_is_looked_for_under_runs(imgkit: Run, command: str) -> None:
    out = imgkit(command, "--help")[1]
    assert "A run under --runs, a path, or: latest" in " ".join(out.replace("│", " ").split())
    assert "--runs " in out


def test_a_missing_run_is_answered_with_latest(imgkit: Run) -> None:
    for command in ("resume", "evaluate", "predict"):
        code, _, err = imgkit(command)
        assert code == 2
        assert f"imgkit {command} latest" in err
