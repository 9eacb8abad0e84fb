"""The tables of made-up results: pairs, unseen images, failures, multi-label scores, and how numbers are written."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from imgkit.recipe.fields import Task
from imgkit.studies.estimates import Estimate
from imgkit.studies.plan import Asked, Planned
from imgkit.studies.results import COSTS, SCORES, Quantity, Result, Scored, epoch_seconds
from imgkit.studies.rows import pairs, rows_of, unseen_of
from imgkit.studies.schema import Inference, Study, Variant
from imgkit.studies.state import Memory
from imgkit.studies.table import csv_text, footnotes, markdown, score_cells


def study(*names: str, **more: object) -> Study:
    given: dict[str, Any] = {
        "source": "s.toml",
        "name": "s",
        "verb": "scratch",
        "recipe": "scratch",
        "seeds": (0, 1, 2),
        "base": {},
        "variants": tuple(Variant(name, {}) for name in names),
        "axes": {},
        "baseline": names[0],
        "compare": "baseline",
        "train_images": None,
        "inference": Inference(),
        "verb_place": "s.toml:1",
        "text": "",
    }
    return Study(**(given | more))


def planned(name: str, seed: int) -> Planned:
    return Planned(Variant(name, {}), seed, None, ())  # type: ignore[arg-type]


def result(
    name: str,
    seed: int,
    score: float,
    *,
    task: Task = "single",
    splits: str = "train val test",
    data: str = "d",
    precision: str = "float32",
) -> Result:
    """A result whose scores are all `score`, on train 0.1 more."""
    values = {split: {one.key: score + 0.1 * (split == "train") for one in SCORES[task]} for split in splits.split()}
    return Result(
        run=planned(name, seed),
        task=task,
        k=5,
        splits={split: Scored(found, 100, data) for split, found in values.items()},
        costs={"parameters": 1e6, "epoch_s": 61.0 + seed, "batch_s": 0.04, "size_bytes": 2**20},
        model="resnet18",
        sample="",
        precision=precision,
    )


def by_key(rows: list[Any], kind: str, quantity: str) -> list[Any]:
    return [row for row in rows if (row.kind, row.quantity.key) == (kind, quantity)]


def test_what_is_compared() -> None:
    assert pairs(study("a", "b", "c", baseline="b")) == [("a", "b"), ("c", "b")]
    assert pairs(study("a", "b", "c", compare="all")) == [("b", "a"), ("c", "a"), ("c", "b")]
    assert pairs(study("a")) == []
    assert rows_of(study("a"), []) == []


def test_only_seeds_on_the_same_images_are_pairs() -> None:
    results = [result("a", seed, 0.5) for seed in (0, 1, 2)]
    results += [result("b", 0, 0.6), result("b", 1, 0.7), result("b", 2, 0.9, data="other")]
    (row,) = by_key(rows_of(study("a", "b"), results), "difference", "top1")
    assert row.estimate is not None
    assert row.estimate.values == pytest.approx({0: 0.1, 1: 0.2})
    assert row.others == (2,)
    (score,) = [
        r for r in by_key(rows_of(study("a", "b"), results), "score", "top1") if r.subject == "b" and r.split == "test"
    ]
    assert list(score.estimate.values) == [0, 1, 2], "its own mean counts all"
    assert "Seeds left out of comparisons, since their images differ: 2." in footnotes(
        rows_of(study("a", "b"), results), results
    )


def test_where_no_pair_is_left_that_is_said() -> None:
    results = [result("a", 0, 0.5), result("b", 0, 0.6, data="other"), result("c", 1, 0.7)]
    page = page_of(study("a", "b", "c"), results)
    assert "| b − a | accuracy |  |  | not scored on the same images |" in page
    assert "| c − a | accuracy |  |  | no seed in common |" in page


def test_effects_leave_out_seeds_whose_images_differ() -> None:
    axes = {"x": ("p", "q"), "y": ("r", "s")}
    cells = [("p", "r"), ("p", "s"), ("q", "r"), ("q", "s")]
    variants = tuple(Variant("+".join(cell), {}, dict(zip(axes, cell, strict=True))) for cell in cells)
    grid = study("p+r", variants=variants, axes=axes)
    results = [result("+".join(cell), seed, 0.1 * at) for at, cell in enumerate(cells) for seed in (0, 1)]
    results += [result("+".join(cell), 2, 0.9, data=f"d{at}") for at, cell in enumerate(cells)]
    (main, other, both) = by_key(rows_of(grid, results), "effect", "top1")
    assert [one.others for one in (main, other, both)] == [(2,)] * 3
    assert main.estimate.values == pytest.approx({0: 0.2, 1: 0.2})
    assert both.estimate.mean == pytest.approx(0.0)


def test_without_a_test_split_val_is_unseen_and_flatters() -> None:
    results = [result("a", 0, 0.5, splits="train val"), result("b", 0, 0.6)]
    assert unseen_of(results) == "val"
    rows = rows_of(study("a", "b"), results)
    assert {row.split for row in rows if row.kind in ("gap", "difference")} == {"val"}
    assert "There is no test split: val chose the weights, so its scores flatter." in footnotes(rows, results)


def test_runs_in_other_number_formats_are_named() -> None:
    results = [result("a", seed, 0.5) for seed in (0, 1)]
    rows = rows_of(study("a"), results)
    assert "number format" not in " ".join(footnotes(rows, results))
    results.append(result("b", 0, 0.6, precision="bfloat16"))
    told = "float32 in a-seed0, a-seed1; bfloat16 in b-seed0. train.precision in [base] fixes it."
    assert f"The number format is not the same in all runs: {told}" in footnotes(
        rows_of(study("a", "b"), results), results
    )


def test_a_multi_label_study_has_its_own_scores() -> None:
    results = [result("a", seed, 0.5 + 0.01 * seed, task="multilabel") for seed in (0, 1, 2)]
    titles, cells = score_cells(rows_of(study("a"), results), results)
    assert titles == ["variant", "split", "seeds", "images", "micro F1", "macro F1", "mAP", "exact sets", "loss"]
    # s = 0.01, t(0.975, 2) = 4.302653: half of the interval 0.024841
    assert cells[2] == ["a", "test", "3", "100", *["51.0 ± 2.5 %"] * 4, "0.510 ± 0.025"]
    page = page_of(study("a"), results)
    assert "| variant | micro F1 seen (train) | unseen (test) | gap |" in page
    assert "| a | 61.0 ± 2.5 % | 51.0 ± 2.5 % | -10.0 |" in page


def page_of(made: Study, results: list[Result], memory: Memory | None = None) -> str:
    runs = [planned(variant.name, seed) for variant in made.variants for seed in made.seeds]
    done = {one.run.name for one in results}
    states: Any = {run.name: "done" if run.name in done else "new" for run in runs}
    asked = Asked(made, Path("runs/s"), data="my <data>", sets=("train.ema=0.9",))
    return markdown(asked, runs, results, rows_of(made, results), states, memory or Memory())


def test_what_is_missing_is_named_with_its_reason() -> None:
    memory = Memory(failed={"a-seed1": {"code": 6, "reason": "with exit code 6: the loss | is not finite", "at": ""}})
    page = page_of(study("a"), [result("a", 0, 0.5)], memory)
    assert "1 of 3 runs finished." in page
    assert "* `a-seed1`: failed with exit code 6: the loss \\| is not finite\n* `a-seed2`: not finished\n" in page
    assert "Over the file: `--data my <data>`, `--set train.ema=0.9`." in page
    assert "## Scores" not in page_of(study("a"), [], memory)


def test_costs_are_written_in_their_units() -> None:
    page = page_of(study("a"), [result("a", seed, 0.5) for seed in (0, 1, 2)])
    assert "| variant | network | parameters | trainable | size | time an epoch | time a batch |" in page
    assert "| a | resnet18 | 1,000,000 |  | 1.00 MiB | 1 min 02 s ± 2.48 s | 40 ms |" in page


def test_the_csv_reads_back() -> None:
    rows = rows_of(study("a", "b"), [result("a", 0, 1 / 3), result("a", 2, 2 / 3)])
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert len(read) == len(rows)
    first = next(row for row in read if (row["kind"], row["split"], row["quantity"]) == ("score", "test", "top1"))
    assert (first["subject"], first["n"], first["seeds"]) == ("a", "2", "0 2")
    assert [float(value) for value in first["values"].split()] == [1 / 3, 2 / 3]
    assert float(first["mean"]) == pytest.approx(0.5)
    empty = next(row for row in read if row["kind"] == "difference")
    assert (empty["subject"], empty["against"], empty["n"], empty["mean"]) == ("b", "a", "0", "")


def test_the_time_an_epoch_leaves_out_solved_heads() -> None:
    history = [{"seconds": 100.0, "solved": True}, *({"seconds": s, "solved": False} for s in (110.0, 130.0, 142.0))]
    assert epoch_seconds(history) == 12.0, "of 10, 20 and 12"
    assert epoch_seconds(history[:1]) is None


def test_each_quantity_has_a_key_of_its_own() -> None:
    quantities: list[Quantity] = [*SCORES["single"], *COSTS]
    assert len({one.key for one in quantities}) == len(quantities)
    assert Estimate({0: 1.0}).mean == 1.0
