"""The arithmetic of benchmarks/speed.py, its turns, and that its page says what its figures say. Nothing is timed."""

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = ("speed", "speed_contestants", "speed_page", "speed_pictures", "speed_turns", "stopwatch")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The benchmark's own modules, which are no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.syspath_prepend(str(BENCHMARKS / "drivers"))
        yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture
def speed(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["speed"]


@pytest.fixture
def page(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["speed_page"]


@pytest.fixture
def contestants(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["speed_contestants"]


def run(who: str, repeat: int, value: float | None, variant: str = "as it is", **more: object) -> dict[str, Any]:
    of = who.partition(":")[0]
    return {"repeat": repeat, "of": of, "who": who, "value": value, "variant": variant, "load": 0.5, **more}


def found(runs: Sequence[dict[str, Any]], scenario: str = "train-resnet50", *, more: bool = True) -> dict[str, Any]:
    """A result with these runs."""
    machine = {
        "device": "CPU",
        "cores": 2,
        "memory_gib": 8,
        "system": "Linux",
        "threads": 2,
        "versions": {"torch": "9"},
    }
    settings = {"model": "resnet50", "data": {"pictures": 80, "pixels": "500 x 375", "mean_kb": 79}}
    return {
        "schema": 1,
        "scenario": scenario,
        "unit": "images/s" if more else "s",
        "more": more,
        "settings": settings,
        "left_out": ["fastai: needs fastai"],
        "machine": machine,
        "began": "2026-01-01 00:00",
        "runs": list(runs),
    }


TURNS = [
    run("imgkit", 0, 18.0),
    run("no data", 0, 20.0, "best format"),
    run("timm train.py, best flags", 0, 8.0, "channels_last"),
    run("timm train.py, best flags", 0, 12.0, "channels_last, bfloat16"),
    run("timm train.py, best flags", 1, 16.0, "channels_last, bfloat16"),
    run("no data", 1, 19.0, "best format"),
    run("imgkit", 1, 19.0),
    run("imgkit", 2, 9.0),
    run("no data", 2, 10.0, "best format"),
]


def test_a_ratio_is_that_of_one_repeat(page: ModuleType) -> None:
    result = found(TURNS)
    assert page.ratios(result, "imgkit", "no data") == page.Spread(0.9, 0.9, 1.0, 3)
    # The third repeat had no peer; the variant that was slower in the first one does not count.
    assert page.ratios(result, "imgkit", "timm train.py, best flags") == page.Spread(
        (18 / 12 + 19 / 16) / 2, 19 / 16, 18 / 12, 2
    )
    assert page.ratios(result, "imgkit", "fastai") is None


def test_of_seconds_fewer_are_faster(page: ModuleType) -> None:
    result = found([run("imgkit", 0, 2.0), run("fastai", 0, 8.0, "a"), run("fastai", 0, 6.0, "b")], more=False)
    assert page.ratios(result, "imgkit", "fastai") == page.Spread(3.0, 3.0, 3.0, 1)
    assert page.best_variant(result["runs"], "fastai", more=False) == "b"
    assert page.best_variant(result["runs"], "fastai", more=True) == "a"


def test_like_is_compared_with_like(page: ModuleType) -> None:
    whos = ("imgkit, first time", "imgkit, first time: with validation", "fastai", "fastai: with validation")
    runs = [run(who, 0, seconds) for who, seconds in zip(whos, (1.0, 4.0, 10.0, 12.0), strict=True)]
    lines = page.scenario_lines(found(runs, more=False))
    assert "| fastai | 10 | 1 | 10.00 |  |" in lines
    assert "| fastai: with validation | 12 | 1 | 3.00 |  |" in lines
    assert "| imgkit, first time: with validation | 4 | 1 |  |  |" in lines


def test_what_failed_is_told_and_counts_for_nothing(page: ModuleType) -> None:
    runs = [run("imgkit", 0, 3.0), run("fastai", 0, None, "bfloat16", error="no such thing"), run("fastai", 0, 1.5)]
    result = found(runs)
    assert page.best_variant(runs, "fastai", more=True) == "as it is"
    assert page.ratios(result, "imgkit", "fastai") == page.Spread(2.0, 2.0, 2.0, 1)
    lines = page.scenario_lines(result)
    assert "* fastai (bfloat16) failed: no such thing" in lines
    assert "* left out: fastai: needs fastai" in lines
    assert page.best_variant([runs[1]], "fastai", more=True) == "bfloat16"
    assert page.best_variant([], "fastai", more=True) is None


@pytest.mark.parametrize(
    ("bar", "told"),
    [
        (("train-resnet50", "imgkit", "no data", 0.90), ("≥ 0.9 × as fast as no data", "0.90 (0.90 to 1.00)", "yes")),
        (("train-resnet50", "imgkit", "no data", 1.0), ("≥ 1 × as fast as no data", "0.90 (0.90 to 1.00)", "**no**")),
        (("train-resnet50", "imgkit", "fastai", 2.0), ("≥ 2 × as fast as fastai", "not measured", "")),
    ],
)  # fmt: skip
def test_promises_are_judged_by_the_median(page: ModuleType, bar: tuple[Any, ...], told: tuple[str, str, str]) -> None:
    assert page.judged(page.Bar(*bar), found(TURNS)) == told


def test_a_share_and_a_value_have_an_upper_bound(page: ModuleType) -> None:
    runs = [run("imgkit: beside", 0, 0.2), run("imgkit: waited for", 0, 2.5)]
    result = found(runs, "checkpoint", more=False)
    share = page.Bar("checkpoint", "imgkit: beside", "imgkit: waited for", most=0.10)
    assert page.judged(share, result) == ("≤ 0.1 of imgkit: waited for", "0.08, measured once", "yes")
    runs[0]["value"] = 0.3
    assert page.judged(share, result)[1:] == ("0.12, measured once", "**no**")
    alone = page.Bar("checkpoint", "imgkit: waited for", most=2.4)
    assert page.judged(alone, result) == ("≤ 2.4", "2.5, measured once", "**no**")


def test_a_time_to_a_score_counts_only_with_that_score(page: ModuleType) -> None:
    bar = page.Bar("quality-solar2", "imgkit", "fastai", 15.0)
    runs = [run("imgkit", 0, 60.0, f1_macro=0.81), run("fastai", 0, 1200.0, f1_macro=0.75)]
    told = page.judged(bar, found(runs, "quality-solar2", more=False))
    assert told[1:] == ("20.00, measured once; macro F1 0.810 and 0.750", "yes")
    runs[0]["f1_macro"] = 0.74
    assert page.judged(bar, found(runs, "quality-solar2", more=False))[2] == "**no**"


def test_the_table_has_medians_ranges_ratios_and_surroundings(page: ModuleType) -> None:
    text = "\n".join(page.scenario_lines(found(TURNS)))
    assert "| imgkit | 18 (9 to 19) | 3 |  |  |" in text
    assert "| no data | 19 (10 to 20) | 3 | 0.90 (0.90 to 1.00) | best format |" in text
    assert "| timm train.py, best flags | 14 (12 to 16) | 2 | 1.34 (1.19 to 1.50) | channels_last, bfloat16 |" in text
    assert "80 JPEGs of 500 x 375 px and 79 kB on average; load average at the start of a run 0.5 to 0.5" in text


def test_formats_that_were_chosen_are_told(page: ModuleType) -> None:
    own = {"precision": "bfloat16", "memory": "channels_last", "why": "faster"}
    runs = [run("imgkit", 0, 1.0, format=own), run("no data", 0, 1.0, "best format", format="float32, contiguous")]
    runs += [run("no data", one, 1.0, "best format", format="bfloat16, channels_last") for one in (1, 2)]
    lines = page.scenario_lines(found(runs))
    assert "| imgkit | 1 | 1 |  | bfloat16, channels_last |" in lines
    assert "| no data | 1 (1 to 1) | 3 | 1.00 | bfloat16, channels_last or float32, contiguous |" in lines


def test_every_promise_is_on_the_page_and_only_measured_ones_in_the_chart(page: ModuleType, tmp_path: Path) -> None:
    results = {"train-resnet50": found(TURNS)}
    text = page.page(results)
    assert (
        text.count("not measured") == sum(not bar.scenario.endswith("-cuda") for bar in page.BARS) - 2
    )  # beside the limit and timm
    assert "Nothing was measured on a GPU" in text
    assert [row[:2] for row in page.chart_rows(results)] == [
        ("train-resnet50", "no data"),
        ("train-resnet50", "timm train.py, best flags"),
    ]
    page.draw(results, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_written_from_the_figures(speed: ModuleType, page: ModuleType) -> None:
    results = page.collect(speed.RESULTS)
    there = page.PAGE.read_text(encoding="utf-8") if page.PAGE.exists() else ""
    assert there == (page.page(results) if results else "")


def test_rates_leave_the_first_epoch_out(modules: dict[str, ModuleType]) -> None:
    rate = modules["stopwatch"].rate
    assert rate([100, 100, 100], [50.0, 10.0, 30.0]) == 5.0
    with pytest.raises(ValueError, match="1 epochs of 1 counts leave none to be timed"):
        rate([100], [50.0])


DRIVER = """
import json, pathlib, sys
out, name = pathlib.Path(sys.argv[1]), sys.argv[2]
assert pathlib.Path.cwd() == out.parent and not list(out.parent.iterdir())
log = pathlib.Path(sys.argv[3])
log.write_text((log.read_text() if log.exists() else "") + name + " ")
if name == "broken":
    sys.exit("it does not work here")
out.write_text(json.dumps({"values": {"": {"fast": 4.0, "slow": 2.0}.get(name, 1.0), ": twice": 8.0}, "format": "x"}))
"""


def tiny(contestants: ModuleType, log: Path) -> Any:  # noqa: ANN401
    def command(name: str) -> list[str]:
        return [sys.executable, "-c", DRIVER.replace("{", "{{").replace("}", "}}"), "{out}", name, str(log)]

    peer = {name: command(name) for name in ("slow", "broken", "fast")}
    many = [
        contestants.Contestant("imgkit", {"as it is": command("own")}),
        contestants.Contestant("timm", peer, peer=True),
    ]
    return contestants.Scenario("tiny", "images/s", True, many, {"model": "none"}, [])


@pytest.fixture
def given(speed: ModuleType, tmp_path: Path) -> argparse.Namespace:
    words = ["train", "--out", str(tmp_path / "out"), "--cache", str(tmp_path), "--repeats", "3", "--peer-repeats", "2"]
    parsed: argparse.Namespace = speed.complete(speed.arguments().parse_args(words))
    return parsed


def test_all_take_turns_in_either_order_and_the_best_flags_are_kept(
    speed: ModuleType, contestants: ModuleType, given: argparse.Namespace, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    scenario, result = tiny(contestants, log), {"runs": []}
    lengths = [len(found["runs"]) for found in speed.measure(scenario, result, given)]
    assert log.read_text().split() == ["own", "slow", "broken", "fast", "fast", "own", "own"]
    assert lengths == [7, 11, 13]  # two values of each that worked, after each repeat
    first = result["runs"][0]
    assert (first["who"], first["value"], first["format"]) == ("imgkit", 1.0, "x")
    assert result["runs"][1]["who"] == "imgkit: twice"
    (broken,) = [run for run in result["runs"] if run["value"] is None]
    assert broken["error"] == "it does not work here"
    assert not list((tmp_path / "scratch").iterdir())


STAYS = """
import pathlib, sys
sys.path.insert(0, {drivers!r})
import stopwatch
assert sys.argv[-1] == "--turns"
turns, log, name = stopwatch.Turns(), pathlib.Path(sys.argv[2]), sys.argv[1]
print("this is no answer")
for turn in range(int(sys.argv[3])):
    with log.open("a") as file:
        file.write(f"{{name}}{{turn}} ")
    turns.over(float(turn), format=name)
sys.exit("it is over")
"""


def staying(contestants: ModuleType, name: str, log: Path, turns: int) -> Any:  # noqa: ANN401
    script = STAYS.format(drivers=str(BENCHMARKS / "drivers")).replace("{", "{{").replace("}", "}}")
    words = [sys.executable, "-c", script, name, str(log), str(turns)]
    return contestants.Contestant(name, {"as it is": words}, turns=True)


def test_who_stays_does_an_epoch_a_turn_while_the_others_wait(
    speed: ModuleType, contestants: ModuleType, given: argparse.Namespace, tmp_path: Path
) -> None:
    log, result = tmp_path / "log", {"runs": []}
    many = [staying(contestants, name, log, 9) for name in ("a", "b")]
    scenario = contestants.Scenario("train-x", "images/s", True, many, {}, [])
    given.repeats = 2
    assert [len(found["runs"]) for found in speed.measure(scenario, result, given)] == [2, 4]
    # The first epoch of each does not count.
    assert log.read_text().split() == ["a0", "b0", "a1", "b1", "b2", "a2"]
    assert [(run["who"], run["value"], run["format"]) for run in result["runs"]] == [
        *(("a", 1.0, "a"), ("b", 1.0, "b"), ("b", 2.0, "b"), ("a", 2.0, "a"))
    ]
    assert not list((tmp_path / "scratch").iterdir())


def test_who_stays_and_ends_is_told_with_its_last_words(
    modules: dict[str, ModuleType], contestants: ModuleType, tmp_path: Path
) -> None:
    with modules["speed_turns"].Kept(staying(contestants, "a", tmp_path / "log", 2), tmp_path, {}) as kept:
        assert kept.turn()["values"] == {"a": 1.0}
        with pytest.raises(SystemExit, match=r"a ended: .*it is over"):
            kept.turn()
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


def test_a_stopped_scenario_goes_on_and_other_settings_are_refused(
    speed: ModuleType,
    contestants: ModuleType,
    given: argparse.Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "log"
    scenario, file = tiny(contestants, log), given.out / "tiny.json"
    monkeypatch.setattr(contestants, "scenarios", lambda _: [scenario])
    monkeypatch.setattr(speed, "machine", lambda _: {"device": "CPU", "threads": 1})
    monkeypatch.setattr(speed.speed_page, "scenario_lines", lambda _: [])
    given.repeats = 1
    speed.run(given)
    given.repeats = 2
    speed.run(given)
    speed.run(given)
    runs = json.loads(file.read_text())["runs"]
    assert [run["repeat"] for run in runs if run["who"] == "imgkit"] == [0, 1]
    assert log.read_text().split() == ["own", "slow", "broken", "fast", "fast", "own"]
    monkeypatch.setattr(speed, "machine", lambda _: {"device": "CPU", "threads": 2})
    with pytest.raises(SystemExit, match=r"tiny\.json has other values of machine: delete it to measure anew"):
        speed.run(given)


def test_who_lacks_something_is_left_out_with_what_to_do(
    contestants: ModuleType, given: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [contestants.Contestant(who, {}) for who in ("imgkit", "timm train.py, defaults", "fastai")]
    monkeypatch.setattr(contestants, "has_fastai", lambda _: False)
    there, left_out = contestants.taking_part(given, many)
    assert [one.who for one in there] == ["imgkit"]
    assert left_out == [
        "timm train.py, defaults: needs a checkout of timm: --timm-repo TIMM",
        "fastai: needs fastai: pip install fastai 'fastprogress<1.1', or --fastai-path DIR",
    ]
    given.only = ["imgkit", "fastai"]
    assert contestants.taking_part(given, many)[1] == left_out[1:]


def test_every_promise_can_be_measured(
    contestants: ModuleType,
    page: ModuleType,
    given: argparse.Namespace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Names in the promises are those of scenarios and contestants, which nothing else would notice."""
    monkeypatch.setattr(contestants, "has_fastai", lambda _: True)
    monkeypatch.setattr(contestants.speed_pictures, "write_jpegs", lambda folder, _: folder)
    monkeypatch.setattr(contestants.speed_pictures, "about", lambda _: {})
    (tmp_path / "solar2-0.csv").touch()
    (tmp_path / "tree-1000000").mkdir()
    given.timm_repo, given.data = Path("TIMM"), tmp_path
    taking_part: dict[str, list[str]] = {}
    for what in contestants.WHAT:
        for model, device in ((page.LITE, "cpu"), (page.RES, "cpu"), (page.RES, "cuda")):
            given.what, given.model, given.device = what, model, device
            for scenario in contestants.scenarios(given):
                taking_part[scenario.name] = [one.who for one in scenario.contestants]
                for one in scenario.contestants:
                    for words in one.variants.values():
                        assert all(Path(word).exists() for word in words if word.endswith(".py"))
                        assert [word.format(out="o", scratch="s") for word in words]
    for bar in page.BARS:
        for who in filter(None, (bar.own, bar.other)):
            known = taking_part[bar.scenario]
            assert who.removesuffix(": with validation") in known or who.startswith("imgkit, "), (
                f"{bar.scenario} has no {who}: {known}"
            )


def test_pictures_are_of_a_realistic_size_and_made_once(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    from PIL import Image

    pictures = modules["speed_pictures"]
    folder = pictures.write_jpegs(tmp_path / "jpegs", 20, 10)
    files = sorted(folder.rglob("*.jpg"))
    assert len(files) == len({file.read_bytes() for file in files}) == 30
    assert {file.parent.parent.name for file in files} == {"train", "val"}
    assert len({file.parent for file in files}) == 2 * pictures.CLASSES
    for file in files:
        with Image.open(file) as picture:
            assert picture.size == (500, 375)
    assert 50 <= pictures.about(folder)["mean_kb"] <= 100
    before = files[0].stat().st_mtime_ns
    pictures.write_jpegs(folder, 20, 10)
    assert files[0].stat().st_mtime_ns == before
