from pathlib import Path

import pytest
from scipy.stats import ttest_rel
from scored_runs import index_of, write_scored_run

from imgkit.report.collect import collect
from imgkit.report.configurations import Configuration, configurations
from imgkit.report.seeds import with_means
from imgkit.report.trials import arrange


def found(out: Path) -> list[Configuration]:
    ladder = arrange(out, collect(out))[0].ladders[0]
    return configurations(ladder, ladder.best)


def write(out: Path, name: str, share: float, seed: int, *sets: str, **about: object) -> None:
    write_scored_run(out, name, index_of(600), {"test": share}, draw=seed, sets=sets, seed=seed, **about)


def test_seeds_of_two_configurations_are_compared_in_pairs(tmp_path: Path) -> None:
    for seed, share in enumerate((0.90, 0.93, 0.96)):
        write(tmp_path, f"a{seed}", share, seed)
        write(tmp_path, f"b{seed}", share - 0.1, seed, "phases.all.lr=0.01")
    write(tmp_path, "b7", 0.8, 7, "phases.all.lr=0.01")
    first, second = found(tmp_path)
    assert [trial.run.name for trial in first.trials] == ["a0", "a1", "a2"]
    assert (first.against, first.verdict) == (None, "")
    assert second.against is not None
    assert [*second.against.values] == [0, 1, 2], "seed 7 has no pair"
    one, two = ([c.scores.values[seed] for seed in range(3)] for c in (first, second))
    expected = ttest_rel(two, one).confidence_interval(0.95)
    assert second.against.ends == pytest.approx((expected.low, expected.high))
    assert second.verdict == "lower"
    means = {len(run.seeds): run for run in with_means(collect(tmp_path)) if run.is_mean}
    for one in (first, second):
        score = means[len(one.trials)].score
        assert score is not None
        assert (one.scores.mean, one.interval) == (score.merit, score.measured["f1_macro"].interval)


def test_pairs_that_do_not_differ_by_more_than_their_seeds(tmp_path: Path) -> None:
    for seed, (one, two) in enumerate(((0.90, 0.92), (0.93, 0.91), (0.96, 0.95))):
        write(tmp_path, f"a{seed}", one, seed)
        write(tmp_path, f"b{seed}", two, seed, "phases.all.lr=0.01")
    assert found(tmp_path)[1].verdict in ("not distinguishable", "")
    assert {c.verdict for c in found(tmp_path)} == {"", "not distinguishable"}


def test_one_seed_each_is_no_configuration_table(tmp_path: Path) -> None:
    write(tmp_path, "a", 0.9, 0)
    write(tmp_path, "b", 0.8, 0, "phases.all.lr=0.01")
    assert found(tmp_path) == []
    write(tmp_path, "c", 0.8, 1, "phases.all.lr=0.01", state="stopped")
    assert found(tmp_path) == [], "a stopped run counts in no mean"
    write(tmp_path, "d", 0.85, 1)
    verdicts = {len(c.trials): c.verdict for c in found(tmp_path)}
    assert verdicts == {2: "", 1: "one seed: no interval"}
