"""Every number of a study as one list of rows, from which study.csv, study.md and the screen are made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from imgkit.data.index import SPLITS
from imgkit.studies.estimates import Cell, Estimate, difference, effects
from imgkit.studies.results import COSTS, GAPS, SCORES, Quantity, Result
from imgkit.studies.schema import Study

Values = Mapping[int, float]


@dataclass(frozen=True)
class Row:
    """One number, over seeds.

    Args:
        kind: "score", "gap", "cost", "difference" or "effect".
        subject: the variant; of an effect, its name.
        against: of a difference, the other variant; else "".
        split: "train", "val" or "test"; of a gap, of a difference and of an effect that of the unseen images; of a
            cost "".
        quantity: what was measured.
        estimate: its mean over seeds; None where no seed tells.
        others: seeds of both variants of a difference whose images were not the same.
    """

    kind: str
    subject: str
    against: str
    split: str
    quantity: Quantity
    estimate: Estimate | None
    others: tuple[int, ...] = ()


def rows_of(study: Study, results: Sequence[Result]) -> list[Row]:
    """All rows of a study, kind by kind; empty where no run is finished."""
    if not results:
        return []
    return [*_scores(study, results), *_gaps(study, results), *_costs(study, results), *_compared(study, results)]


def quantities(results: Sequence[Result]) -> tuple[Quantity, ...]:
    """The scores of the runs' task, with the K of their top-K error."""
    first = results[0]
    return tuple(
        one._replace(title=f"top-{first.k} error") if one.key == "topk_error" else one for one in SCORES[first.task]
    )


def pairs(study: Study) -> list[tuple[str, str]]:
    """The variants that are compared, (one, against which other)."""
    names = [one.name for one in study.variants]
    if study.compare == "all":
        return [(second, first) for first, second in combinations(names, 2)]
    return [(name, study.baseline) for name in names if name != study.baseline]


def _scores(study: Study, results: Sequence[Result]) -> Iterator[Row]:
    for variant in study.variants:
        own = _of(results, variant.name)
        for split in SPLITS:
            for quantity in quantities(results):
                values = {
                    seed: one.splits[split].values[quantity.key] for seed, one in own.items() if split in one.splits
                }
                if values:
                    yield Row("score", variant.name, "", split, quantity, Estimate(values))


def _gaps(study: Study, results: Sequence[Result]) -> Iterator[Row]:
    """Unseen minus seen."""
    split = unseen_of(results)
    for variant in study.variants:
        own = _of(results, variant.name)
        for quantity in _gap_quantities(results):
            values = {
                seed: one.splits[split].values[quantity.key] - one.splits["train"].values[quantity.key]
                for seed, one in own.items()
                if "train" in one.splits
            }
            if values:
                yield Row("gap", variant.name, "", split, quantity, Estimate(values))


def _gap_quantities(results: Sequence[Result]) -> list[Quantity]:
    known = {quantity.key: quantity for quantity in quantities(results)}
    return [known[key] for key in GAPS[results[0].task]]


def _costs(study: Study, results: Sequence[Result]) -> Iterator[Row]:
    for variant in study.variants:
        own = _of(results, variant.name)
        for quantity in COSTS:
            values = {seed: one.costs[quantity.key] for seed, one in own.items() if quantity.key in one.costs}
            if values:
                yield Row("cost", variant.name, "", "", quantity, Estimate(values))


def _compared(study: Study, results: Sequence[Result]) -> Iterator[Row]:
    split = unseen_of(results)
    for name, against in pairs(study):
        one, other = _of(results, name), _of(results, against)
        common = [seed for seed in one if seed in other]
        data = {seed: {results_.splits[split].data for results_ in (one[seed], other[seed])} for seed in common}
        others = tuple(seed for seed in common if len(data[seed]) > 1)
        for quantity in quantities(results):
            values, base = (_values(side, split, quantity, others) for side in (one, other))
            yield Row("difference", name, against, split, quantity, difference(values, base), others)
    if study.axes:
        yield from _effects(study, results, split)


def _effects(study: Study, results: Sequence[Result], split: str) -> Iterator[Row]:
    cells: dict[Cell, str] = {tuple(variant.levels.values()): variant.name for variant in study.variants}
    of = {cell: _of(results, name) for cell, name in cells.items()}
    others = tuple(
        seed
        for seed in study.seeds
        if len({found[seed].splits[split].data for found in of.values() if seed in found}) > 1
    )
    for effect in effects(study.axes):
        for quantity in quantities(results):
            values = {cell: _values(found, split, quantity, others) for cell, found in of.items()}
            yield Row("effect", effect.name, "", split, quantity, effect.of(values), others)


def unseen_of(results: Sequence[Result]) -> str:
    """The split of unseen images that all runs have: test, else val."""
    return "test" if all(one.unseen == "test" for one in results) else "val"


def _values(of: Mapping[int, Result], split: str, quantity: Quantity, but: Sequence[int]) -> dict[int, float]:
    return {seed: one.splits[split].values[quantity.key] for seed, one in of.items() if seed not in but}


def _of(results: Sequence[Result], variant: str) -> dict[int, Result]:
    """The results of a variant by seed."""
    return {one.run.seed: one for one in results if one.run.variant.name == variant}
