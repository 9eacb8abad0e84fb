import http.client
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cli_run import Run
from sample_runs import write_run
from scored_runs import index_of, write_scored_run

pytest_plugins = ["cli_fixture"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs", "one", f1=0.8)
    (tmp_path / "runs" / "latest").write_text("one\n")
    return tmp_path / "runs"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs of one data set, and one of another."""
    monkeypatch.chdir(tmp_path)
    for name, share, n in (("high", 0.9, 90), ("low", 0.6, 90), ("elsewhere", 0.9, 120)):
        write_scored_run(tmp_path / "runs", name, index_of(n), {"test": share}, draw=n)
    return tmp_path / "runs"


def test_report_of_many_writes_three_files(imgkit: Run, runs: Path) -> None:
    code, out, err = imgkit("report", str(runs))
    assert code == 0
    assert "one" in out
    assert "80.0 %" in out
    assert err.startswith("Wrote ")
    assert [line.split("/")[-1] for line in err.splitlines()] == ["report.html", "leaderboard.csv", "report.md"]
    assert (runs / "report.html").read_text().startswith("<!doctype html>")
    assert (runs / "report.md").is_file()
    assert (runs / "leaderboard.csv").is_file()


@pytest.mark.parametrize("name", ["runs/one", "one", "latest", "runs/latest", "./runs/one"])
def test_report_of_one_writes_its_page_alone(imgkit: Run, runs: Path, name: str) -> None:
    before = {*runs.rglob("*")}
    code, out, err = imgkit("report", name)
    assert (code, err) == (0, "Wrote   runs/one/report.html\n")
    assert "val@10" in out
    assert {*runs.rglob("*")} - before == {runs / "one" / "report.html"}
    assert '<meta http-equiv="refresh"' not in (runs / "one" / "report.html").read_text()


def test_a_folder_that_is_called_like_a_run_is_in_no_ones_way(imgkit: Run, runs: Path) -> None:
    (runs.parent / "one").mkdir()  # the pictures, say
    code, out, err = imgkit("report", "one")
    assert (code, err) == (0, "Wrote   runs/one/report.html\n")
    assert "val@10" in out
    write_run(runs.parent / "one", "two", f1=0.7)
    assert "70.0 %" in imgkit("report", "one")[1], "a folder of runs is what it is"


@pytest.mark.parametrize(("below", "name"), [("", "."), ("evaluations", "..")])
def test_a_run_from_within_has_its_name(
    imgkit: Run, runs: Path, monkeypatch: pytest.MonkeyPatch, below: str, name: str
) -> None:
    monkeypatch.chdir(runs / "one" / below)
    code, out, _ = imgkit("report", name)
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["Run", "one"]
    assert "<title>one · imgkit report</title>" in (runs / "one" / "report.html").read_text()


def test_a_watched_run_is_written_until_it_is_over(imgkit: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, texts = write_run(runs, "two", state="running"), []

    def look(write: Callable[[], object], files: Callable[[], Iterable[Path]], over: Callable[[], bool]) -> None:
        assert Path("runs/two/status.json") in files()
        for state in ("running", "finished"):
            folder.set_status(state, step=10, total_steps=10)
            write()
            texts.append(((folder.path / "report.html").read_text(), over()))

    monkeypatch.setattr("imgkit.report.watch.watch", look)
    code, _, err = imgkit("report", "two", "--watch")
    assert code == 0
    assert "Watch   the page is written again as training goes on  (Ctrl-C ends)" in err
    assert [('<meta http-equiv="refresh"' in text, over) for text, over in texts] == [(True, False), (False, True)]


def test_a_broken_run_is_an_error_by_name_and_a_row_among_others(imgkit: Run, runs: Path) -> None:
    write_run(runs, "two")
    (runs / "one" / "evaluations" / "val@10" / "metrics.json").write_text("{")
    code, out, err = imgkit("report", "runs/one")
    assert (code, out) == (7, "")
    assert "runs/one/evaluations/val@10/metrics.json cannot be read" in " ".join(err.split())
    code, out, _ = imgkit("report", "runs")
    assert code == 0
    assert "broken:" in out
    assert "metrics.json" in "".join(out.split())


def test_a_run_whose_name_is_not_utf8_is_a_row_with_a_page(imgkit: Run, runs: Path) -> None:
    folder = (runs / "one").rename(runs / "o\udcffe")
    assert imgkit("report", str(folder))[0] == 0
    code, out, _ = imgkit("report", "runs")
    assert code == 0
    assert "o\\udcffe" in out
    assert '<a href="./o%FFe/report.html">o\\udcffe</a>' in (runs / "report.html").read_text()
    assert ",o\\udcffe," in (runs / "leaderboard.csv").read_text()
    assert "o\\\\udcffe" in (runs / "report.md").read_text()


def test_runs_of_another_format_are_one_line(imgkit: Run, runs: Path) -> None:
    for number in range(7):
        write_run(runs, f"new{number}", schema=2)
    code, out, err = imgkit("report", "runs")
    assert code == 0
    assert "new" not in out
    assert "new" not in (runs / "report.md").read_text() + (runs / "leaderboard.csv").read_text()
    left_out = "7 runs of another format, which this imgkit does not read, left out: new0, new1, new2, new3, new4"
    assert f"note: {left_out} and 2 more" in " ".join(err.split())
    shutil.rmtree(runs / "one")
    code, _, err = imgkit("report", "runs")
    assert code == 2
    assert f"note: {left_out}" in " ".join(err.split())
    assert "There is no run in runs." in err


@pytest.mark.parametrize("args", [(), ("empty",)])
def test_report_of_nothing_says_what_to_type(
    imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, _, err = imgkit("report", *args)
    assert code == 2
    assert err == f"error: There is no run in {args[0] if args else 'runs'}.\n  Train one:  imgkit demo\n"


def test_studies_below_are_named_with_what_to_type(
    imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for study in ("loss", "my depth"):
        write_run(tmp_path / "runs" / study, "one")
        (tmp_path / "runs" / study / "study.toml").touch()
    (tmp_path / "runs" / "notes").mkdir()
    code, _, err = imgkit("report", "runs/")
    assert (code, err) == (
        2,
        "error: There is no run in runs itself, but 2 studies in it.\n"
        "  Type:  imgkit report runs/loss   or  imgkit report 'runs/my depth'\n",
    )
    assert imgkit("report", "runs/my depth")[0] == 0
    for number in range(5):
        write_run(tmp_path / "runs" / f"x{number}", "one")
    _, _, err = imgkit("report")
    assert "There is no run in runs itself, but 7 folders of runs in it." in err
    assert err.count("imgkit report ") == 5
    assert err.endswith("   and 2 more\n")


def test_options_are_pinned(imgkit: Run) -> None:
    _, out, _ = imgkit("report", "--help")
    found = [word for word in out.split() if word.startswith("--")]
    assert found == ["--baseline", "--by", "--watch", "--serve", "--port", "--help"]


def test_a_baseline_is_named_or_refused_before_anything_is_shown(imgkit: Run, pair: Path) -> None:
    code, out, _ = imgkit("report", "runs", "--baseline", "low")
    assert code == 0
    assert "high" in out
    assert "Against low" in (pair / "report.html").read_text()
    before = (pair / "report.html").read_bytes()
    for name, told in (("hig", "did you mean 'high'?"), ("elsewhere", "cannot be the baseline of another run")):
        code, out, err = imgkit("report", "runs", "--baseline", name)
        assert (code, out) == (2, "")
        assert told in " ".join(err.split())
    assert (pair / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ("runs/one", "--baseline", "two"),
            "--baseline is of many runs, and this is one. imgkit report runs --baseline two",
        ),
        (
            ("runs", "--port", "8000"),
            "--port is not used: it is that of --serve. imgkit report runs --serve --port 8000",
        ),
        (
            ("runs", "--serve", "--port", "80000"),
            "--port: must be at most 65535, got '80000' Help: imgkit report --help",
        ),
    ],
)
def test_options_that_do_nothing_are_refused(imgkit: Run, runs: Path, args: tuple[str, ...], told: str) -> None:
    code, out, err = imgkit("report", *args)
    assert (code, out) == (2, "")
    assert " ".join(err.split()) == f"error: {told}"


def test_a_taken_port_is_told(imgkit: Run, runs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, err = imgkit("report", "runs", "--serve", "--port", str(port))
    assert code == 2
    assert f"--port {port}: Address already in use." in err


def wait_for(what: str, done: Callable[[], bool]) -> None:
    for _ in range(600):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError(what)


def test_a_served_page_is_written_again_as_runs_come_until_ctrl_c(runs: Path) -> None:
    command = [sys.executable, "-m", "imgkit", "report", "runs", "--watch", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            place = urlsplit(next(line.split()[1] for line in lines if line.startswith("Serving")))

            def served() -> str:
                connection = http.client.HTTPConnection("127.0.0.1", place.port or 0, timeout=10)
                connection.request("GET", "/")
                return connection.getresponse().read().decode()

            assert '<meta http-equiv="refresh"' in served()
            assert "a-later-one" not in served()
            write_run(runs, "a-later-one", f1=0.9)
            wait_for("the new run is on the page", lambda: "a-later-one" in served())
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert '<meta http-equiv="refresh"' not in (runs / "report.html").read_text()
    assert "a-later-one" in (runs / "leaderboard.csv").read_text()


def test_slices_of_one_run_are_told_and_kept(imgkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_scored_run(tmp_path, "one", index_of(120), {"test": 0.7})
    columns = {"camera": ["A"] * 25 + ["B"] * 15}
    monkeypatch.setattr("imgkit.report.slice_values.columns_of", lambda *asked: columns)
    code, out, _ = imgkit("report", str(run.path), "--by", "camera")
    assert code == 0
    said = " ".join(out.split())
    assert "camera = A 25 " in said
    assert "slice can be told" in said
    assert '<h2 id="slices">Slices</h2>' in (run.path / "report.html").read_text()
    assert (run.path / "evaluations" / "test@10" / "slices.csv").is_file()
    code, _, err = imgkit("report", str(tmp_path), "--by", "camera")
    assert code == 2
    assert "--by is of one run, and this is a folder of runs." in err
