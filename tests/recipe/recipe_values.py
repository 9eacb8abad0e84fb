"""Random valid values for recipes, as `--set` texts."""

from hypothesis import strategies as st

from imgkit.recipe.load import Loaded, load_recipe, shipped_recipes
from imgkit.recipe.monitors import MONITORS
from imgkit.recipe.phases import unread
from imgkit.recipe.toml import value_text

Table = st.SearchStrategy[dict[str, object]]
SHARE = st.floats(0, 0.99)
UNIT = st.floats(0, 1)
POSITIVE = st.floats(1e-6, 1e3)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
LENGTH = st.builds(lambda n, unit: f"{n}{unit}", st.integers(1, 9), st.sampled_from(["%", " epochs", " steps"]))
PAIR = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)

TRAIN = {
    "batch_size": st.integers(16, 64),
    "micro_batch": st.none() | st.integers(1, 16),
    "sampler": st.sampled_from(["uniform", "balanced", "sqrt"]),
    "exact_world": st.none() | st.just(1),  # what divides any batch
    "grad_checkpointing": st.booleans(),
    "compile": st.booleans(),
    "optimizer": st.sampled_from(["sgd", "adamw", "none"]).filter(lambda name: name != "none"),
    "momentum": st.none() | UNIT,
    "betas": st.none() | st.lists(SHARE, min_size=2, max_size=3),
    "eps": st.none() | POSITIVE,
    "weight_decay": POSITIVE,
    "decay_all": st.booleans(),
    "clip_norm": st.none() | POSITIVE,
    "batch_norm": st.sampled_from(["frozen", "train", "sync"]),
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
    "preset": st.sampled_from(["none", "light", "medium", "strong"]),
    "rotate": st.floats(0, 180),
    "translate": SHARE,
    "scale": st.none() | PAIR,
    "shear": st.floats(0, 89),
    "fill": st.just("mean") | st.tuples(*[st.integers(0, 255)] * 3),
    "policy": st.sampled_from([None, "randaugment", "trivialaugment", "augmix"]),
    "policy_p": UNIT,
    "policy_ops": st.integers(1, 14),
    "policy_magnitude": st.integers(0, 30),
    "gray": UNIT,
    "blur": UNIT,
    "erase": UNIT,
    "mixup": st.floats(0, 9),
    "cutmix": st.floats(0, 9),
    "mix_p": UNIT,
    "ramp": LENGTH,
}
GAMMA = st.floats(1, 9)
WEIGHTS = {"class_weights": st.sampled_from(["none", "inverse", "sqrt", "weights.csv"])}


def table(name: str, /, *, needs: dict[str, st.SearchStrategy[object]] | None = None, **keys: object) -> Table:
    """A table of that name with what it cannot do without, and any of its other keys."""
    return st.fixed_dictionaries({"name": st.just(name), **(needs or {})}, optional=keys)


LOSSES = st.one_of(
    table("cross_entropy", label_smoothing=SHARE, **WEIGHTS),
    table("cross_entropy", needs={"class_weights": st.just("effective")}, class_weights_beta=st.floats(0.01, 0.99)),
    table("focal", gamma=POSITIVE, alpha=st.floats(0.01, 1), **WEIGHTS),
    table("bce", label_smoothing=SHARE, pos_weight=st.sampled_from(["none", "neg_pos", "sqrt", "w.json"])),
    table("asymmetric", gamma_neg=GAMMA, gamma_pos=GAMMA, clip=SHARE, label_smoothing=SHARE),
    table("logit_adjusted", tau=st.floats(0.01, 9), label_smoothing=SHARE),
    table("poly", epsilon=st.floats(-1, 9), label_smoothing=SHARE),
    table("two_way", positive_temperature=POSITIVE, negative_temperature=POSITIVE),
    table("zlpr"),
    table("distribution_balanced", negative_scale=GAMMA, prior_shift=UNIT, gamma=GAMMA, label_smoothing=SHARE),
)
ON = st.sampled_from(["update", "epoch"])
MILESTONES = st.sampled_from([["10%", "90%"], ["3 epochs"], ["1 steps", "2 steps"]])
SCHEDULES = st.one_of(
    table("constant", warmup=LENGTH),
    table("constant", needs={"warmup": LENGTH}, step_on=ON),
    table("linear", warmup=LENGTH, end=UNIT, step_on=ON),
    table("polynomial", warmup=LENGTH, end=UNIT, power=POSITIVE, step_on=ON),
    table("cosine", warmup=LENGTH, end=UNIT, step_on=ON),
    table("cosine_restarts", needs={"first": LENGTH}, mult=st.integers(1, 3), end=UNIT, step_on=ON),
    table("step", needs={"every": LENGTH}, gamma=SHARE, warmup=LENGTH, step_on=ON),
    table("multistep", needs={"milestones": MILESTONES}, gamma=SHARE, warmup=LENGTH),
    table("one_cycle", rise=LENGTH, start=UNIT, end=UNIT, step_on=ON),
    table(
        "plateau",
        factor=st.floats(0.1, 0.9),
        watch=st.just("val/f1_macro"),
        patience=st.integers(0, 5),
        threshold=SHARE,
        end=UNIT,
    ),
)
COMMON = {
    "seed": st.integers(0, 2**63 - 1),
    "monitor": st.sampled_from(tuple(MONITORS["single"])).map("val/{}".format),
    "early_stop": st.none() | st.integers(1, 9),
    "time_limit": st.sampled_from(["90s", "1h 30m"]),
    "score_test": st.booleans(),
    "data.path": TEXT,
    "data.more": st.lists(TEXT, max_size=2),
    "data.label_col": TEXT | st.lists(TEXT, min_size=1, max_size=3, unique=True),
    "data.label_delimiter": TEXT,
    "data.task": st.sampled_from(["auto", "single", "multilabel"]),
    "data.val": SHARE,
    "data.on_bad": st.sampled_from(["stop", "skip"]),
    "model.name": TEXT,
    "model.weights": TEXT,
    "model.image_size": st.none() | st.integers(1, 999),
    "model.drop_rate": UNIT,
    "model.options.head": TEXT | st.booleans() | st.integers() | UNIT,
    "model.options.widths": st.lists(st.integers(1, 9) | UNIT | TEXT, max_size=3),
    "model.fit": st.sampled_from([None, "crop", "squash", "letterbox"]),
    "model.crop_pct": st.none() | st.floats(0.1, 1.0),
    "model.mean": st.none() | UNIT | st.lists(UNIT, min_size=3, max_size=3),
    "model.std": st.none() | POSITIVE,
    "budget.size": st.sampled_from(["auto", "none", "100MB", "95.5MiB"]),
    "budget.params": st.sampled_from(["25M", "25_000_000"]),
    "budget.latency": st.just("20ms"),
    "save.keep": st.integers(1, 9) | st.just("all"),
    "save.keep_best": st.integers(1, 9),
    "save.average_best": st.none() | st.integers(2, 9),
    "save.every_minutes": POSITIVE,
    "run.track": st.lists(st.sampled_from(["tensorboard", "mlflow"]), unique=True),
    "run.device": st.sampled_from(["auto", "cuda:1"]),
    "run.workers": st.none() | st.integers(0, 4),
    "train.precision": st.sampled_from(["auto", "float32", "float16"]),
    **{f"train.{key}": values for key, values in TRAIN.items()},
    **{f"augment.{key}": values for key, values in AUGMENT.items()},
}


GENERAL = sorted(name for name in shipped_recipes() if load_recipe(name).recipe.model.name is None)
"""Recipes of no network in particular; those of reference systems fix too much to be combined with anything."""


@st.composite
def loaded_recipes(draw: st.DrawFn) -> Loaded:
    """A shipped recipe with random sets, of which every one is read by some phase."""
    name = draw(st.sampled_from(GENERAL))
    phase = "phases.head" if name == "probe" else "phases.all"
    values = draw(st.fixed_dictionaries({}, optional=COMMON))
    own = draw(st.fixed_dictionaries({}, optional={**TRAIN, "steps": st.integers(1, 90), "lr": POSITIVE}))
    values |= {f"{phase}.{key}": value for key, value in own.items()} if name != "probe" else {}
    if "phases.head.solver" in load_recipe(name).origins:
        solve = {"views": st.integers(0, 3), "augment.hflip": UNIT}
        solved = draw(st.fixed_dictionaries({}, optional=solve))
        values |= {f"phases.head.{key}": value for key, value in solved.items()}
    if name == "scratch":  # a solve gives one linear layer
        heads = st.sampled_from(["linear", "mlp:1000", "mlp:9,8:gelu", "pool5-mlp:64"])
        values |= draw(st.fixed_dictionaries({}, optional={"model.head": heads}))
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
