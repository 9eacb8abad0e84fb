"""A sweep's file: read and checked as a whole. The form is that of docs/sweeps.md."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from imgkit.recipe.given import Flag
from imgkit.recipe.problems import annotation, got, option_fault, stop_at, takes_whole_alone
from imgkit.recipe.shipped import shipped_sweeps
from imgkit.recipe.toml import Steps, read_toml, value_text
from imgkit.studies.reader import VERBS, Reader, find_file, shown_as
from imgkit.studies.schema import Verb
from imgkit.sweeps.schema import Choices, Domain, Range, Sweep

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
_KEYS = (
    *("schema", "name", "verb", "recipe", "model", "trials", "seed", "sampler", "pruner", "startup_trials"),
    *("warmup_epochs", "storage", "base", "space"),
)
_SAMPLERS, _PRUNERS = ("tpe", "random"), ("median", "none")
_OF_RANGE = ("low", "high", "log", "step", "int")
_ELSEWHERE = {
    "seed": "the seed stands at the top of the sweep: seed = 0",
    "schema": "the schema is the recipe's own",
    "name": "the recipe keeps its name; the sweep has one of its own",
    "score_test": "a sweep holds test back itself: it is scored once, of the trial that is chosen",
}
_FIXED = {
    "monitor": "what trials are compared by cannot be searched; set it in [base]",
    "time_limit": "how long a trial may take cannot be searched; set it in [base]",
}
_FIXED_SECTIONS = {
    "data": "trials on other images cannot be compared",
    "run": "keys of [run] change nothing that is learned",
    "save": "keys of [save] change nothing that is learned",
    "budget": "keys of [budget] change nothing that is learned",
}


def sweep_file(source: str | Path) -> Path:
    """The file of a sweep: a shipped one by name, or a path.

    Raises:
        UsageError: if there is none; the message suggests the nearest name.
    """
    return find_file(source, shipped_sweeps(), "sweep")


def read_sweep(source: str | Path) -> Sweep:
    """Read a sweep.

    Raises:
        UsageError: if there is no such file.
        RecipeError: all that is wrong with it, one line each, with line and key; what recipes say of its values is not
            known here.
    """
    file = sweep_file(source)
    reader = _SweepReader(read_toml(file), shown_as(source, file, shipped_sweeps()), _ELSEWHERE)
    return reader.sweep(str(source), file.read_text(encoding="utf-8-sig"))


def storage_fault(url: str) -> str | None:
    """What is wrong with the URL of a storage; None for one of PostgreSQL."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        got_it = f"{scheme}://…" if "://" in url else repr(url)
        return (
            f"is a URL of PostgreSQL, postgresql://USER@HOST/DATABASE, not {got_it}; without it trials are kept in a "
            "file of the sweep's folder"
        )
    return None


class _SweepReader(Reader):
    """Reads what only sweeps have."""

    def sweep(self, source: str, text: str) -> Sweep:
        """The sweep.

        Raises:
            RecipeError: all that is wrong with it.
        """
        top = self.document.values
        self.check_schema(top)
        self.unknown((), top, _KEYS)
        verb = self.word(("verb",), top.get("verb"), VERBS)
        base, model = self.values(("base",), top.get("base", {})), self.model(top, ())
        if model is not None and "model.name" in base:
            self.fault(("model",), "the base has model.name, too; give it once")
        if model is not None:
            base = {"model.name": model, **base}
        space = self._space(top.get("space"), base)
        sweep = Sweep(
            source=source,
            name=self.name(("name",), top.get("name")),
            verb=cast(Verb, verb),
            recipe=self.text(("recipe",), top.get("recipe", verb or VERBS[0])),
            trials=self.count(("trials",), top.get("trials")),
            seed=self.count(("seed",), top.get("seed", 0), least=0),
            sampler=self.word(("sampler",), top.get("sampler", "tpe"), _SAMPLERS),
            pruner=self.word(("pruner",), top.get("pruner", "median"), _PRUNERS),
            startup_trials=self.count(("startup_trials",), top.get("startup_trials", 5)),
            warmup_epochs=self.count(("warmup_epochs",), top.get("warmup_epochs", 1), least=0),
            storage=self._storage(top.get("storage")),
            base=base,
            space=space,
            places={key: self._place_of(key) for key in space},
            verb_place=self.place(("verb",)).text,
            text=text,
        )
        if verb == "scratch" and "model.weights" in {**base, **space}:
            self.fault(("verb",), 'scratch starts from random weights: leave out model.weights, or write "finetune"')
        stop_at(self.problems)
        return sweep

    def _place_of(self, key: str) -> str:
        return self.place(("space", key)).text

    def _storage(self, value: object) -> str | None:
        if value is None:
            return None
        url, steps = self.text(("storage",), value), ("storage",)
        fault = storage_fault(url) if url else None
        if fault is None and url and (urlsplit(url).password or "password=" in urlsplit(url).query.lower()):
            fault = "has a password, which a file is not the place for: ~/.pgpass or the variable PGPASSWORD has it"
        if fault:
            self.fault(steps, fault)
        return url

    def _space(self, table: object, base: Mapping[str, Flag]) -> dict[str, Domain]:
        """What each key may be; tables of keys are not taken apart, so a key with dots stands in quotes."""
        if not isinstance(table, dict) or not table:
            example = "under [space] write  lr = { low = 1e-5, high = 1e-2, log = true }"
            what = "expected a table" if table else "is missing" if table is None else "is empty"
            self.fault(("space",), f"{what}; {example}")
            return {}
        found: dict[str, Domain] = {}
        for key, asked in table.items():
            steps: Steps = ("space", key)
            fault = self._key_fault(key, base)
            domain = self._domain(steps, key, asked)
            if fault:
                self.fault(steps, fault)
            if domain is not None:
                found[key] = domain
        return found

    def _key_fault(self, key: str, base: Mapping[str, Flag]) -> str | None:
        fault = self.value_fault(key, 0) or _FIXED.get(key)
        section = key.partition(".")[0]
        if fault is None and section in _FIXED_SECTIONS and "." in key:
            fault = f"cannot be searched: {_FIXED_SECTIONS[section]}"
        if fault is None and key in base:
            fault = f"is set by {base[key].spelling}, too; search it or set it"
        return fault

    def _domain(self, steps: Steps, key: str, asked: object) -> Domain | None:
        if not isinstance(asked, dict):
            form = "{ low = 1e-5, high = 1e-2, log = true } or { choices = [16, 32] }"
            self.fault(steps, f"expected {form}, got {got(asked)}")
        elif "choices" in asked:
            self.unknown(steps, asked, ("choices",))
            return self._choices((*steps, "choices"), asked["choices"])
        elif asked.keys() & {*_OF_RANGE}:
            self.unknown(steps, asked, _OF_RANGE)
            return self._range(steps, asked)
        elif all(isinstance(value, dict) for value in asked.values()):
            inner = next(iter(asked), "low")
            self.fault(steps, f'a key with dots stands in quotes: "{key}.{inner}" = {{ low = …, high = … }}')
        else:
            self.unknown(steps, asked, (*_OF_RANGE, "choices"))
        return None

    def _choices(self, steps: Steps, values: object) -> Choices | None:
        if not isinstance(values, list) or len(values) < 2:
            self.fault(steps, "needs a list of two values at least")
            return None
        found = tuple(tuple(one) if isinstance(one, list) else one for one in values)
        for one in found:
            if fault := option_fault(one):
                self.fault(steps, fault)
                return None
        if len({value_text(one) for one in found}) < len(found):
            self.fault(steps, f"names a value twice: {value_text(values)}")
            return None
        return Choices(found)

    def _range(self, steps: Steps, asked: Mapping[str, object]) -> Range | None:
        whole, log = asked.get("int", False), asked.get("log", False)
        for name in ("int", "log"):
            if not isinstance(asked.get(name, False), bool):
                self.fault((*steps, name), f"expected true or false, got {got(asked[name])}")
                return None
        numbers: dict[str, float] = {}
        for name in ("low", "high", "step"):
            value = asked.get(name)
            if value is None and name == "step":
                continue
            fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not fits or not math.isfinite(cast(float, value)):
                kind = "a whole number" if whole else "a number"
                told = f"is missing; write {name} = {kind}" if value is None else f"expected {kind}, got {got(value)}"
                self.fault((*steps, name), told)
                return None
            numbers[name] = cast(float, value)
        key = steps[-1]
        assert isinstance(key, str), "a key of the space"
        fault = _range_fault(numbers["low"], numbers["high"], numbers.get("step"), log=bool(log))
        if fault is None and not whole and takes_whole_alone(annotation(tuple(key.split(".")))):
            fault = "takes whole numbers alone; write  int = true  beside low and high"
        if fault:
            self.fault(steps, fault)
            return None
        return Range(numbers["low"], numbers["high"], bool(log), numbers.get("step"), bool(whole))


def _range_fault(low: float, high: float, step: float | None, *, log: bool) -> str | None:
    if not low < high:
        return f"low has to be below high, got {low:g} and {high:g}"
    if log and low <= 0:
        return f"a logarithmic range begins above 0, got low = {low:g}"
    if log and step is not None:
        return "a logarithmic range has no step; leave out one of them"
    if step is not None:
        steps = (high - low) / step if step > 0 else 0.0
        if round(steps) < 1 or not math.isclose(steps, round(steps), rel_tol=1e-9):
            return f"steps of {step:g} do not lead from {low:g} to {high:g}"
    return None
