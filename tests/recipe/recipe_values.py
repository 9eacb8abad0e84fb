"""Random valid values for recipes, as `--set` texts."""

from hypothesis import strategies as st

from imgkit.recipe.load import Loaded, load_recipe, shipped_recipes
from imgkit.recipe.phases import unread
from imgkit.recipe.schema import MONITORS
from imgkit.recipe.toml import value_text

SHARE = st.floats(0, 0.99)
UNIT = st.floats(0, 1)
POSITIVE = st.floats(1e-6, 1e3)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
LENGTH = st.builds(lambda n, unit: f"{n}{unit}", st.integers(1, 9), st.sampled_from(["%", " epochs", " steps"]))
PAIR = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)

TRAIN = {
    "batch_size": st.integers(16, 64),
    "micro_batch": st.none() | st.integers(1, 16),
    "grad_checkpointing": st.booleans(),
    "optimizer": st.sampled_from(["sgd", "adamw", "none"]).filter(lambda name: name != "none"),
    "momentum": st.none() | UNIT,
    "weight_decay": POSITIVE,
    "decay_all": st.booleans(),
    "clip_norm": st.none() | POSITIVE,
    "batch_norm": st.sampled_from(["frozen", "train"]),
    "ema": SHARE,
    "layer_decay": st.floats(0.01, 1),
}
AUGMENT = {
    "crop": st.none() | PAIR,
    "scale_jitter": st.none() | PAIR,
    "ratio": PAIR,
    "hflip": UNIT,
    "vflip": UNIT,
    "jitter": st.none() | st.tuples(UNIT, UNIT, UNIT, st.floats(0, 0.5)),
    "jitter_p": UNIT,
}
LOSSES = st.one_of(
    st.fixed_dictionaries({"name": st.just("focal")}, optional={"gamma": POSITIVE, "alpha": POSITIVE}),
    st.fixed_dictionaries({"name": st.just("cross_entropy")}, optional={"label_smoothing": SHARE}),
)
SCHEDULES = st.one_of(
    st.fixed_dictionaries({"name": st.just("constant")}, optional={"warmup": LENGTH}),
    st.fixed_dictionaries({"name": st.just("cosine")}, optional={"warmup": LENGTH, "end": UNIT}),
    st.fixed_dictionaries({"name": st.just("cosine_restarts"), "first": LENGTH}, optional={"mult": st.integers(1, 3)}),
    st.fixed_dictionaries({"name": st.just("one_cycle")}, optional={"rise": LENGTH, "start": UNIT}),
)
COMMON = {
    "seed": st.integers(0, 2**63 - 1),
    "monitor": st.sampled_from(MONITORS).map("val/{}".format),
    "early_stop": st.none() | st.integers(1, 9),
    "time_limit": st.sampled_from(["90s", "1h 30m"]),
    "data.path": TEXT,
    "data.label_col": TEXT,
    "data.val": SHARE,
    "data.on_bad": st.sampled_from(["stop", "skip"]),
    "model.name": TEXT,
    "model.weights": TEXT,
    "model.image_size": st.none() | st.integers(1, 999),
    "model.drop_rate": UNIT,
    "save.keep": st.integers(1, 9) | st.just("all"),
    "save.keep_best": st.integers(1, 9),
    "save.average_best": st.none() | st.integers(2, 9),
    "save.every_minutes": POSITIVE,
    "run.tensorboard": st.booleans(),
    "run.device": st.sampled_from(["auto", "cuda:1"]),
    "run.workers": st.none() | st.integers(0, 4),
    "train.precision": st.sampled_from(["auto", "float32", "float16"]),
    **{f"train.{key}": values for key, values in TRAIN.items()},
    **{f"augment.{key}": values for key, values in AUGMENT.items()},
}


@st.composite
def loaded_recipes(draw: st.DrawFn) -> Loaded:
    """A shipped recipe with random sets, of which every one is read by some phase."""
    name = draw(st.sampled_from(sorted(shipped_recipes())))
    phase = "phases.head" if name == "probe" else "phases.all"
    values = draw(st.fixed_dictionaries({}, optional=COMMON))
    own = draw(st.fixed_dictionaries({}, optional={**TRAIN, "steps": st.integers(1, 90), "lr": POSITIVE}))
    values |= {f"{phase}.{key}": value for key, value in own.items()} if name != "probe" else {}
    if "phases.head.solver" in load_recipe(name).origins:
        solve = {"views": st.integers(0, 3), "augment.hflip": UNIT}
        solved = draw(st.fixed_dictionaries({}, optional=solve))
        values |= {f"phases.head.{key}": value for key, value in solved.items()}
    for table, tables in {
        "loss": LOSSES,
        "schedule": SCHEDULES,
        "augment": st.fixed_dictionaries({}, optional=AUGMENT),
    }.items():
        for prefix in ("", f"{phase}.") if table != "augment" else (f"{phase}.",):
            chosen = draw(st.none() | tables)
            if chosen and (prefix == "" or name != "probe"):
                values |= {f"{prefix}{table}.{key}": value for key, value in chosen.items()}
    return _read(name, values)


def _read(name: str, values: dict[str, object]) -> Loaded:
    while True:
        sets = [f"{key}={'none' if value is None else value_text(value)}" for key, value in values.items()]
        loaded = load_recipe(name, sets=sets)
        idle = {key for key in unread(loaded.recipe) if loaded.origins[key] == "--set"}
        if not idle:
            return loaded
        # A name decides what the other keys of its table mean: they go together.
        tables = {key.removesuffix("name") for key in idle if key.endswith(("loss.name", "schedule.name"))}
        values = {key: value for key, value in values.items() if key not in idle and not key.startswith(tuple(tables))}
