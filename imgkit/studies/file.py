"""A study's file: read, checked as a whole, its grid taken apart into variants. The form is that of docs/studies.md."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

from imgkit.errors import suggestion
from imgkit.recipe.given import Flag
from imgkit.recipe.problems import Place, Problem, got, option_fault, stop_at
from imgkit.recipe.shipped import shipped_studies
from imgkit.recipe.toml import Steps, read_toml, value_text
from imgkit.studies.reader import VERBS, Reader, find_file, shown_as
from imgkit.studies.schema import Inference, Study, Variant, Verb

_KEYS = (
    *("schema", "name", "verb", "recipe", "model", "seeds", "baseline", "compare", "train_images"),
    *("base", "variants", "grid", "inference"),
)
_OF_VARIANT = ("name", "model", "set")
_COMPARE = ("baseline", "all")
_ELSEWHERE = {
    "seed": "seeds stand at the top of the study: seeds = [0, 1, 2]",
    "schema": "the schema is the recipe's own",
    "name": "the recipe keeps its name; a variant has one of its own",
}


def study_file(source: str | Path) -> Path:
    """The file of a study: a shipped one by name, or a path.

    Raises:
        UsageError: if there is none; the message suggests the nearest name.
    """
    return find_file(source, shipped_studies(), "study")


def read_study(source: str | Path) -> Study:
    """Read a study.

    Raises:
        UsageError: if there is no such file.
        RecipeError: all that is wrong with it, one line each, with line and key; what recipes say of its values is not
            known here.
    """
    file = study_file(source)
    reader = _StudyReader(read_toml(file), shown_as(source, file, shipped_studies()), _ELSEWHERE)
    return reader.study(str(source), file.read_text(encoding="utf-8-sig"))


class _StudyReader(Reader):
    """Reads what only studies have."""

    def study(self, source: str, text: str) -> Study:
        top = self.document.values
        self.check_schema(top)
        self.unknown((), top, _KEYS)
        verb = self.word(("verb",), top.get("verb"), VERBS)
        name = self.name(("name",), top.get("name"))
        seeds = self._seeds(top.get("seeds"))
        base = self.values(("base",), top.get("base", {}))
        model = self.model(top, ())
        axes: Mapping[str, tuple[str, ...]] = {}
        if "grid" in top and "variants" in top:
            self.fault(("grid",), "a study has [[variants]] or a [grid], not both")
        if "grid" in top:
            axes, variants = self._grid(top["grid"])
        else:
            variants = self._variants(top.get("variants"))
        variants = self._with_model(variants, base, model)
        if verb == "scratch":
            self._refuse_weights(base, variants)
        names = [one.name for one in variants]
        baseline = top.get("baseline", names[0] if names else "")
        if names and baseline not in names:
            near = suggestion(str(baseline), names)
            self.fault(("baseline",), f"there is no variant {got(baseline)}{near}; there are {', '.join(names)}")
        compare = self.word(("compare",), top.get("compare", "baseline"), _COMPARE)
        study = Study(
            source=source,
            name=name,
            verb=cast(Verb, verb),
            recipe=self.text(("recipe",), top.get("recipe", verb or VERBS[0])),
            seeds=seeds,
            base=base,
            variants=tuple(variants),
            axes=axes,
            baseline=str(baseline),
            compare=compare,
            train_images=self.count(("train_images",), top["train_images"]) if "train_images" in top else None,
            inference=self._inference(top.get("inference", {})),
            verb_place=self.place(("verb",)).text,
            text=text,
        )
        stop_at(self.problems)
        return study

    def _seeds(self, value: object) -> tuple[int, ...]:
        if not isinstance(value, list) or not value:
            fault = "is missing" if value is None else f"expected a list of whole numbers, got {got(value)}"
            self.fault(("seeds",), f"{fault}; write seeds = [0, 1, 2]")
            return ()
        seeds = tuple(self.count(("seeds",), one, least=0) for one in value)
        if len(set(seeds)) < len(seeds):
            self.fault(("seeds",), f"names a seed twice: {value_text(value)}")
        return seeds

    def _with_model(self, variants: list[Variant], base: Mapping[str, Flag], model: Flag | None) -> list[Variant]:
        """The variants, those without a network of their own with the study's."""
        if model is None:
            return variants
        if "model.name" in base:
            self.fault(("model",), "the base has model.name, too; give it once")
        if variants and all("model.name" in one.values for one in variants):
            self.fault(("model",), "is not used: every variant has a network of its own")
        return [replace(one, values={"model.name": model, **one.values}) for one in variants]

    def _refuse_weights(self, base: Mapping[str, Flag], variants: list[Variant]) -> None:
        """`scratch` starts from random weights, so there is nothing to be said of them."""
        for values in (base, *(one.values for one in variants)):
            if "model.weights" in values:
                text = 'scratch starts from random weights: leave it out, or write verb = "finetune"'
                line = int(values["model.weights"].spelling.rpartition(":")[2])
                self.problems.append(Problem(Place(values["model.weights"].spelling, line), ("model.weights",), text))

    def _inference(self, table: object) -> Inference:
        if not isinstance(table, dict):
            self.fault(("inference",), "expected a table")
            return Inference()
        known = tuple(Inference.__dataclass_fields__)
        self.unknown(("inference",), table, known)
        counts = {key: self.count(("inference", key), table[key]) for key in known if key in table}
        return Inference(**counts)

    def _variants(self, tables: object) -> list[Variant]:
        if not isinstance(tables, list) or not tables or not all(isinstance(one, dict) for one in tables):
            missing = tables is None or tables == []
            text = "are missing; write one [[variants]] for each way to train, or a [grid]"
            self.fault(("variants",), text if missing else "expected tables, each headed by [[variants]]")
            return []
        found: list[Variant] = []
        for position, table in enumerate(cast(list[dict[str, Any]], tables)):
            steps: Steps = ("variants", position)
            self.unknown(steps, table, _OF_VARIANT)
            name = self.name((*steps, "name"), table.get("name"))
            if name and name in [one.name for one in found]:
                self.fault((*steps, "name"), f"there are two variants called {name!r}")
            values = self.values((*steps, "set"), table.get("set", {}))
            model = self.model(table, steps)
            if model is not None and "model.name" in values:
                self.fault((*steps, "model"), "the set has model.name, too; give it once")
            found.append(Variant(name, values if model is None else {**values, "model.name": model}))
        return found

    def _grid(self, table: object) -> tuple[dict[str, tuple[str, ...]], list[Variant]]:
        if not isinstance(table, dict) or not table:
            self.fault(("grid",), "expected factors: [grid.NAME] with a level a line, or KEY = [value, value]")
            return {}, []
        factors = {str(name): self._levels(("grid", name), name, levels) for name, levels in table.items()}
        self._refuse_shared(factors)
        variants = []
        for chosen in product(*factors.values()):
            levels = dict(zip(factors, chosen, strict=True))
            values = {key: flag for axis, level in levels.items() for key, flag in factors[axis][level].items()}
            variants.append(Variant("+".join(chosen), values, levels))
        return {name: tuple(levels) for name, levels in factors.items()}, variants

    def _levels(self, steps: Steps, name: str, levels: object) -> dict[str, Mapping[str, Flag]]:
        """The levels of a factor by name, each with its values."""
        found: dict[str, Mapping[str, Flag]] = {}
        if isinstance(levels, list):
            for one in levels:
                if option_fault(one) is not None or isinstance(one, list):
                    self.fault(steps, f"a level in a list is text, a number, true or false, got {got(one)}")
                    continue
                text = one if isinstance(one, str) else value_text(one)
                found[self.name(steps, text)] = self.values(steps, {name: one}, inside=False)
        elif isinstance(levels, dict):
            for level, values in levels.items():
                if isinstance(values, list):
                    self.fault((*steps, level), f'a key with dots stands in quotes: "{name}.{level}" = [value, value]')
                    continue
                found[self.name((*steps, level), level)] = self.values((*steps, level), values)
        if len(found) < 2 or (isinstance(levels, list) and len(found) < len(levels)):
            self.fault(steps, "needs two levels at least, each once")
        return found

    def _refuse_shared(self, factors: Mapping[str, Mapping[str, Mapping[str, Flag]]]) -> None:
        """Two factors that set one key could not be told apart."""
        owner: dict[str, str] = {}
        for axis, levels in factors.items():
            for key in dict.fromkeys(key for values in levels.values() for key in values):
                if key in owner:
                    self.fault(("grid", axis), f"sets {key}, and so does the factor {owner[key]!r}")
                owner.setdefault(key, axis)
