"""Loading recipes: precedence, origins, and every message."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgkit.errors import RecipeError
from imgkit.recipe.heads import FORMS
from imgkit.recipe.load import Flag, Loaded, load_recipe, recipe_summary, shipped_recipes
from imgkit.recipe.losses import LOSS_TYPES, CrossEntropy, Focal
from imgkit.recipe.monitors import MONITORS
from imgkit.recipe.schedules import Cosine, CosineRestarts
from imgkit.recipe.toml import value_text

HEAD = 'schema = 1\nname = "mine"\n'
ALL = '[[phases]]\nname = "all"\ntrain = "all"\nepochs = 2\nlr = 0.1\n'
LAST = '[[phases]]\nname = "last"\ntrain = "last:2"\nsteps = 5\nlr = 0.1\n'
IN_PHASE = "keys of [train] stand in the phase itself"
KINDS = "expected text, a number, true or false, or a list of these"
SOLVED = '[[phases]]\nname = "head"\ntrain = "head"\nsolver = "logistic"\n'


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(body: str, *sets: str, head: str = HEAD, **flags: tuple[str, object]) -> Loaded:
    """Load `my.toml` of the current folder with `body` in it; flags: key with __ for the dot."""
    Path("my.toml").write_text(head + body, encoding="utf-8")
    given = {key.replace("__", "."): Flag(*flag) for key, flag in flags.items()}
    return load_recipe("my.toml", flags=given, sets=sets)


def lines_of(body: str, *sets: str, head: str = HEAD, **flags: tuple[str, object]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(body, *sets, head=head, **flags)
    return caught.value.message.splitlines()


pytestmark = pytest.mark.usefixtures("at")


# --- sources


def test_a_shipped_recipe_by_name() -> None:
    loaded = load_recipe("finetune")
    assert loaded.source == "recipe finetune"
    assert loaded.recipe.name == "finetune"
    assert loaded.origins["train.batch_size"] == "recipe finetune"
    assert loaded.origins["train.ema"] == "default"


def test_unknown_names_are_answered_with_the_nearest_and_the_list() -> None:
    with pytest.raises(RecipeError, match=r"unknown recipe 'fientune' \(did you mean 'finetune'\?\)") as caught:
        load_recipe("fientune")
    assert f"Shipped: {', '.join(sorted(shipped_recipes()))}. Or give" in caught.value.hint
    with pytest.raises(RecipeError, match=r"there is no recipe file prob.toml \(did you mean 'probe'\?\)"):
        load_recipe("prob.toml")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RecipeError, match=r"run is a folder.*\nGive the .toml file itself") as caught:
        load_recipe("run")
    (tmp_path / "run" / "recipe.toml").touch()
    with pytest.raises(RecipeError) as caught:
        load_recipe("run")
    assert caught.value.hint == "Did you mean run/recipe.toml?"


def test_a_wheel_keeps_its_recipes_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "imgkit" / "_recipes"
    inside.mkdir(parents=True)
    (inside / "only.toml").write_text(HEAD + ALL)
    monkeypatch.setattr("imgkit.recipe.shipped.__file__", str(tmp_path / "imgkit" / "recipe" / "shipped.py"))
    assert shipped_recipes() == {"only": inside / "only.toml"}
    assert load_recipe("only").source == "recipe only"


def test_summary_is_the_first_comment(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("\nschema = 1\n#  mine: what it does \n# more\n")
    assert recipe_summary(file) == "mine: what it does"
    file.write_text("schema = 1\n")
    assert recipe_summary(file) == ""
    with pytest.raises(RecipeError, match="cannot be read"):
        recipe_summary(tmp_path / "none.toml")


def test_syntax_errors_name_file_and_line(tmp_path: Path) -> None:
    assert lines_of("[train\n") == ["my.toml:3: not TOML: expected ']' at the end of a table declaration"]
    assert lines_of("seed = 1\nseed = 2\n")[0].startswith("my.toml:4: not TOML: cannot overwrite a value")
    assert lines_of('monitor = """\n')[0].startswith("my.toml:4: not TOML: ")
    (tmp_path / "my.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(RecipeError, match=r"my\.toml: is not UTF-8 text"):
        load_recipe("my.toml")
    (tmp_path / "my.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(RecipeError, match=r"my\.toml: tables or lists inside each other"):
        load_recipe("my.toml")


def test_a_byte_order_mark_is_no_syntax_error() -> None:
    assert load(ALL, head="\ufeff" + HEAD).recipe.name == "mine"


# --- schema


def test_another_schema_is_the_only_complaint() -> None:
    text = "my.toml:1: schema: the file has schema 2, this imgkit reads schema 1"
    assert lines_of("[trian]\nx = 1\n", head="schema = 2\n") == [text]
    assert lines_of(ALL, head='name = "x"\n') == ["my.toml: schema: is missing; write schema = 1 at the top"]
    assert "schema true" in lines_of(ALL, head="schema = true\n")[0]


# --- messages of a file

BAD = [
    ("sead = 1\n", "my.toml:3: sead: unknown key (did you mean 'seed'?)"),
    ("[train]\nbatch_sise = 1\n", "my.toml:4: train.batch_sise: unknown key (did you mean 'batch_size'?)"),
    ("[train]\nhflip = 1\n", "my.toml:4: train.hflip: unknown key; [augment] has 'hflip'"),
    ("[train]\nlr = 1\n", "my.toml:4: train.lr: unknown key; [[phases]] has 'lr'"),
    ("[train]\nmonitor = 1\n", "my.toml:4: train.monitor: unknown key; the top of the file has 'monitor'"),
    ("[trian]\nx = 1\n", "my.toml:3: trian: unknown key (did you mean 'train'?)"),
    ("train = 3\n", "my.toml:3: train: expected a table"),
    ('[train]\nbatch_size = "64"\n', "my.toml:4: train.batch_size: expected a whole number, got '64'"),
    ("[train]\nbatch_size = 2.5\n", "my.toml:4: train.batch_size: expected a whole number, got 2.5"),
    ("[train]\nbatch_size = true\n", "my.toml:4: train.batch_size: expected a whole number, got true"),
    ("[train.batch_size]\nx = 1\n", "my.toml:3: train.batch_size: expected a whole number, got a table"),
    ("[train]\nbatch_size = 0\n", "my.toml:4: train.batch_size: must be greater than 0, got 0"),
    ('[train]\nweight_decay = "abc"\n', "my.toml:4: train.weight_decay: expected a number, got 'abc'"),
    ("[train]\nweight_decay = -1\n", "my.toml:4: train.weight_decay: must be at least 0, got -1"),
    ("[train]\nclip_norm = inf\n", "my.toml:4: train.clip_norm: must be a finite number, got inf"),
    ("[train]\noptimizer = 3\n", "my.toml:4: train.optimizer: expected text, got 3"),
    ("[train]\ndecay_all = 1\n", "my.toml:4: train.decay_all: expected true or false, got 1"),
    (
        '[train]\nbatch_norm = "forzen"\n',
        "my.toml:4: train.batch_norm: must be 'frozen', 'train' or 'sync', got 'forzen' (did you mean 'frozen'?)",
    ),
    ("[data]\nval = 1.5\n", "my.toml:4: data.val: must be less than 1, got 1.5"),
    ("[augment]\nhflip = 2\n", "my.toml:4: augment.hflip: must be at most 1, got 2"),
    ("[augment]\ncrop = [0.5]\n", "my.toml:4: augment.crop: expected 2 numbers, got [0.5]"),
    ("[augment]\ncrop = [1, 1, 1]\n", "my.toml:4: augment.crop: expected 2 numbers, got [1, 1, 1]"),
    ("[augment]\ncrop = 0.5\n", "my.toml:4: augment.crop: expected a list, got 0.5"),
    ('[augment]\ncrop = ["a", 1]\n', "my.toml:4: augment.crop: expected a number, got 'a'"),
    ("[augment]\ncrop = [1, 0.5]\n", "my.toml:4: augment.crop: the smaller number comes first, got [1.0, 0.5]"),
    ("[augment]\ncrop = [1, 2]\n", "my.toml:4: augment.crop: a share of the image's area is at most 1, got [1.0, 2.0]"),
    ("[augment]\nratio = [2, 1]\n", "my.toml:4: augment.ratio: the smaller number comes first, got [2.0, 1.0]"),
    (
        "[augment]\njitter = [0, 0, 0, 0.6]\n",
        "my.toml:4: augment.jitter: needs numbers >= 0 and a hue (the last) of at most 0.5, got [0.0, 0.0, 0.0, 0.6]",
    ),
    (
        "[loss]\ngamma = 2.0\n",
        "my.toml:4: loss.gamma: cross_entropy has no 'gamma' (focal, distribution_balanced have)",
    ),
    ("[loss]\nlabel_smothing = 2.0\n", "my.toml:4: loss.label_smothing: unknown key (did you mean 'label_smoothing'?)"),
    (
        '[loss]\nname = "focl"\n',
        f"my.toml:4: loss.name: must be one of {', '.join(LOSS_TYPES)}, got 'focl' (did you mean 'focal'?)",
    ),
    ("[loss]\nname = 3\n", f"my.toml:4: loss.name: must be one of {', '.join(LOSS_TYPES)}, got 3"),
    ('[schedule]\nname = "constant"\nend = 0\n', None),
    ('[schedule]\nname = "cosine_restarts"\n', 'my.toml:3: schedule.first: is missing; for example "2 epochs"'),
    (
        '[schedule]\nwarmup = "5"\n',
        "my.toml:4: schedule.warmup: '5' is not a length; write '10%', '3 epochs' or '500 steps'",
    ),
    (
        '[budget]\nsize = "100"\n',
        "my.toml:4: budget.size: '100' has no unit (kB, MB, GB, KiB, MiB, GiB); "
        "write '100MB' (millions of bytes) or '95MiB' (2^20 bytes each)",
    ),
    (
        "[budget]\nlatency = 20\n",
        "my.toml:4: budget.latency: '20' has no unit (ms, s); write '20ms' or '0.5s'",
    ),
    (
        "[budget]\nparams = true\n",
        "my.toml:4: budget.params: expected text, got true",
    ),
    ("[save]\nkeep = 0\n", "my.toml:4: save.keep: must be greater than 0 or 'all', got 0"),
    ('[save]\nkeep = "al"\n', "my.toml:4: save.keep: expected a whole number or 'all', got 'al' (did you mean 'all'?)"),
    ("[model]\nmean = [0.5, 0.5]\n", "my.toml:4: model.mean: expected 3 numbers, got [0.5, 0.5]"),
    (
        '[model]\nmean = "half"\n',
        "my.toml:4: model.mean: must be a number, or one for each of red, green and blue, got 'half'",
    ),
    ("[model]\nstd = [0.2, 0, 0.2]\n", "my.toml:4: model.std: must be greater than 0, got 0"),
    ("[model]\ncrop_pct = 2\n", "my.toml:4: model.crop_pct: must be at most 1, got 2"),
    ('[run]\ndevice = "gpu"\n', "my.toml:4: run.device: must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got 'gpu'"),
    ("seed = -1\n", "my.toml:3: seed: must be at least 0, got -1"),
    ("early_stop = 0\n", "my.toml:3: early_stop: must be greater than 0, got 0"),
]


@pytest.mark.parametrize(("body", "line"), BAD)
def test_each_fault_is_one_line_with_its_place(body: str, line: str | None) -> None:
    if line is None:
        line = "my.toml:5: schedule.end: constant has no 'end' ("
        line += "linear, polynomial, cosine, cosine_restarts, one_cycle, plateau have)"
    assert lines_of(body + ALL) == [line]


def test_monitors_are_a_closed_list_with_suggestions() -> None:
    [line] = lines_of('monitor = "f1_macro"\n' + ALL)
    assert line.startswith("my.toml:3: monitor: 'f1_macro' is not known (did you mean 'val/f1_macro'?)")
    assert all(name in line for names in MONITORS.values() for name in names)
    for name in (*MONITORS["single"], *MONITORS["multilabel"]):
        assert load(f'monitor = "val/{name}"\n' + ALL).recipe.monitor == f"val/{name}"


PHASES = [
    ("", "my.toml: phases: is missing; a recipe has at least one [[phases]]"),
    ("phases = []\n", "my.toml: phases: is missing; a recipe has at least one [[phases]]"),
    ("[phases]\nlr = 1\n", "my.toml:3: phases: expected tables, each headed by [[phases]]"),
    (ALL + "layer_decai = 1\n", "my.toml:8: phases.all.layer_decai: unknown key (did you mean 'layer_decay'?)"),
    (ALL + "overrides = { ema = 0.5 }\n", "my.toml:8: phases.all.overrides: unknown key"),
    (ALL + 'precision = "float32"\n', "my.toml:8: phases.all.precision: unknown key; [train] has 'precision'"),
    (ALL + "layer_decay = 2\n", "my.toml:8: phases.all.layer_decay: must be at most 1, got 2"),
    (ALL + "augment = 3\n", "my.toml:8: phases.all.augment: expected a table"),
    (ALL + "augment = { hflip = 2 }\n", "my.toml:8: phases.all.augment.hflip: must be at most 1, got 2"),
    (ALL + "[phases.augment]\nhflop = 2\n", "my.toml:9: phases.all.augment.hflop: unknown key (did you mean 'hflip'?)"),
    (
        ALL + "[phases.loss]\ngamma = 2\n",
        "my.toml:9: phases.all.loss.gamma: cross_entropy has no 'gamma' (focal, distribution_balanced have)",
    ),
    (
        ALL + '[phases.loss]\nname = "focl"\n',
        f"my.toml:9: phases.all.loss.name: must be one of {', '.join(LOSS_TYPES)}, got 'focl' (did you mean 'focal'?)",
    ),
    (
        ALL + '[phases.schedule]\nname = "cosine_restarts"\n',
        'my.toml:8: phases.all.schedule.first: is missing; for example "2 epochs"',
    ),
    (ALL + ALL, "my.toml:9: phases[1]: there are two phases called 'all'"),
    ('[[phases]]\ntrain = "all"\nlr = 1\nsteps = 1\n', "my.toml:3: phases[0].name: is missing"),
    (
        ALL.replace('"all"\nt', '"All"\nt'),
        "my.toml:4: phases.All.name: must be small letters, digits, '-' and '_', beginning with a letter, got 'All'",
    ),
    (
        ALL.replace('n = "all"', 'n = "al"'),
        "my.toml:5: phases.all.train: must be 'head', 'all' or 'last:N' (N groups of layers), got 'al'",
    ),
    (ALL.replace("lr = 0.1\n", ""), "my.toml:3: phases.all.lr: is missing; a phase with solver 'sgd' has a rate"),
    (ALL.replace("epochs = 2\n", ""), "my.toml:3: phases.all: needs epochs or steps"),
    (ALL + "steps = 2\n", "my.toml:8: phases.all.steps: give epochs or steps, not both (epochs = 2)"),
    (SOLVED + "lr = 1\n", "my.toml:7: phases.head.lr: a solved phase has no lr; leave it out, or set solver = 'sgd'"),
    (
        SOLVED + "epochs = 1\n",
        "my.toml:7: phases.head.epochs: a solved phase has no epochs; leave it out, or set solver = 'sgd'",
    ),
    (
        '[model]\nhead = "mlp:8"\n' + SOLVED,
        "my.toml:4: model.head: 'mlp:8' has several layers, and phase 'head' is solved, which gives one linear layer; "
        "train it by gradients: --set phases.head.solver=sgd --set phases.head.lr=1e-3 --set phases.head.epochs=2",
    ),
    (
        SOLVED.replace('"head"\ns', '"all"\ns'),
        "my.toml:5: phases.head.train: must be 'head' with solver = 'logistic', got 'all'",
    ),
]


@pytest.mark.parametrize(("body", "line"), PHASES)
def test_each_fault_of_a_phase_is_one_line_with_its_place(body: str, line: str) -> None:
    assert lines_of(body) == [line]


def test_all_faults_come_at_once_in_the_order_of_the_file() -> None:
    body = "sead = 1\n" + ALL + "ema = 2\n[train]\nema = 3\nbatch_size = 0\n[loss]\nname = 'fcal'\n"
    found = lines_of(body, "seed=a", "x.y=1", data__val=("--val", 7))
    assert [line.split(": ")[0] for line in found[:5]] == [f"my.toml:{n}" for n in (3, 9, 11, 12, 14)]
    assert sorted(line.split(": ")[0] for line in found[5:]) == ["--set", "--set", "--val"]


def test_lines_are_found_past_multi_line_values() -> None:
    body = "[augment] # [x]\njitter = [ # a = 1\n  0.1,\n  0.1, 0.1, 0.1,\n]\n"
    body += '[model]\nweights = """\nhead = 1\n"""\nhead = "x"\n'
    assert lines_of(body + ALL) == [f"my.toml:12: model.head: must be {FORMS}, got 'x'"]


def test_keys_with_control_characters_do_not_reach_the_terminal() -> None:
    [line] = lines_of('"a\\u001b[31m" = 1\n' + ALL)
    assert line == "my.toml:3: a\\x1b[31m: unknown key"


# --- phases


def test_a_phase_keeps_what_it_has_of_its_own() -> None:
    body = (
        '[loss]\nname = "focal"\nalpha = 0.2\n'
        + ALL
        + (
            'layer_decay = 1\nclip_norm = "none"\naugment = { crop = [1, 1] }\nloss = { gamma = 1 }\n'
            'schedule = { name = "cosine_restarts", first = "1 epoch" }\n'
        )
    )
    loaded = load(body)
    [phase] = loaded.recipe.phases
    assert phase.overrides == {
        "layer_decay": 1.0,
        "clip_norm": None,
        "augment": {"crop": (1.0, 1.0)},
        "loss": {"gamma": 1.0},
        "schedule": {"name": "cosine_restarts", "first": "1 epoch"},
    }
    for key in ("layer_decay", "clip_norm", "augment.crop", "loss.gamma", "schedule.first"):
        assert loaded.origins[f"phases.all.{key}"] == "file my.toml"
    assert loaded.recipe.loss == Focal(name="focal", alpha=0.2)


def test_none_in_a_file_turns_off_what_may_be_off() -> None:
    recipe = load('[augment]\ncrop = "none"\n[data]\npath = "none"\n' + ALL).recipe
    assert recipe.augment.crop is None
    assert recipe.data.path == "none"


# --- options of a network: a table that is open


def test_options_are_a_table_of_any_keys() -> None:
    inline = '[model]\noptions = { act = "none", widths = [1, 2.5, "x", true], deep = false }\n' + ALL
    options = {"act": "none", "widths": (1, 2.5, "x", True), "deep": False}
    headed = '[model.options]\nact = "none"\nwidths = [1, 2.5, "x", true]\ndeep = false\n' + ALL
    for body in (inline, headed):
        loaded = load(body)
        assert loaded.recipe.model.options == options
        assert [type(value) for value in loaded.recipe.model.options.values()] == [str, tuple, bool]
        assert loaded.origins["model.options.widths"] == "file my.toml"
    loaded = load(inline, "model.options.act=relu", "model.options={n=3}", "model={options={m=4}}")
    assert loaded.recipe.model.options == {**options, "act": "relu", "n": 3, "m": 4}
    assert {key for key, origin in loaded.origins.items() if origin == "--set"} == {
        *("model.options.act", "model.options.n", "model.options.m")
    }
    assert load(inline, "model.options=none").recipe.model.options == {}
    assert load(inline, "model.options.deep=none").recipe.model.options["deep"] == "none"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model.options=3", "model.options: is a table; set one of its keys, as model.options.KEY=3"),
        ("model.options.a-b=3", "model.options.a-b: is no name of an option; letters, digits and _ make one"),
        (
            "model.options.a.b=2",
            "model.options.a.b: there is no table 'model.options.a' (did you mean 'model.options'?)",
        ),
        ("model.opt.a=2", "model.opt.a: there is no table 'model.opt' (did you mean 'model.options'?)"),
        ("model.options.a={b=2}", f"model.options.a: {KINDS}, got a table"),
        ("model.options.a=[[1]]", f"model.options.a: {KINDS}, got [[1]]"),
        ("model.options.a=inf", "model.options.a: must be a finite number, got inf"),
        ("model.options.a=[1, nan]", "model.options.a: must be a finite number, got [1, nan]"),
    ],
)
def test_options_that_cannot_be(text: str, fault: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(ALL, text)
    assert str(caught.value) == f"--set: {fault}"


def test_faults_of_options_have_their_line() -> None:
    body = "[model.options]\nfine = 1\na = { b = 1 }\n"
    assert lines_of(body + ALL) == [f"my.toml:5: model.options.a: {KINDS}, got a table"]
    assert lines_of("[model]\noptions = 3\n" + ALL) == ["my.toml:4: model.options: expected a table"]


# --- sets


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.batch_size=8", "train.batch_size", 8),
        (" train.batch_size = 1_000 ", "train.batch_size", 1000),
        ("train.ema=0.5", "train.ema", 0.5),
        ("train.decay_all=true", "train.decay_all", True),
        ("augment.crop=[0.2, 1]", "augment.crop", (0.2, 1.0)),
        ("augment.crop=none", "augment.crop", None),
        ("train.clip_norm=none", "train.clip_norm", None),
        ("train.optimizer=sgd", "train.optimizer", "sgd"),
        ("data.path=a b=c#d", "data.path", "a b=c#d"),
        ('data.path="a b"', "data.path", "a b"),
        ("data.path=2026-01-01", "data.path", "2026-01-01"),
        ("data.label_col=1", "data.label_col", ("1",)),
        ("data.label_col=a b", "data.label_col", ("a b",)),
        ('data.label_col=["a", "b"]', "data.label_col", ("a", "b")),
        ("data.label_col=[a]", "data.label_col", ("[a]",)),
        ("data.label_delimiter=|", "data.label_delimiter", "|"),
        ("data.label_delimiter=1", "data.label_delimiter", "1"),
        ("data.path=x\ny=1", "data.path", "x\ny=1"),
        ("model.weights=none", "model.weights", "none"),
        ("save.keep=all", "save.keep", "all"),
        ("save.keep=3", "save.keep", 3),
        ("schedule.warmup=5%", "schedule.warmup", "5%"),
        ("schedule.warmup=3 epochs", "schedule.warmup", "3 epochs"),
    ],
)
def test_values_of_sets(text: str, key: str, value: object) -> None:
    loaded = load(ALL, text)
    section, name = key.split(".")
    found = getattr(getattr(loaded.recipe, section), name)
    assert found == value
    assert type(found) is type(value)
    assert loaded.origins[key] == "--set"


def test_a_table_can_be_set_at_once_or_taken_out() -> None:
    body = '[schedule]\nname = "one_cycle"\n' + ALL + 'schedule = { name = "constant" }\n'
    assert load(body, "schedule=none").recipe.schedule == Cosine()
    assert "schedule" not in load(body, "phases.all.schedule=none").recipe.phases[0].overrides
    loaded = load(body, 'phases.all.schedule={name="cosine_restarts", first="1 epoch"}', "augment={hflip=0}")
    assert loaded.recipe.phases[0].overrides["schedule"] == {"name": "cosine_restarts", "first": "1 epoch"}
    assert loaded.recipe.augment.hflip == 0.0
    assert loaded.origins["augment.hflip"] == "--set"


def test_none_takes_a_key_out_where_it_cannot_be_off() -> None:
    loaded = load("[train]\nbatch_size = 8\n[data]\npath = 'x'\n" + ALL, "train.batch_size=none", "data.path=none")
    assert loaded.recipe.train.batch_size == 32
    assert loaded.recipe.data.path is None
    assert loaded.origins["train.batch_size"] == loaded.origins["data.path"] == "default"


def test_sets_reach_phases_by_name() -> None:
    loaded = load(ALL + LAST, "phases.last.lr=3e-4", "phases.all.batch_norm=train", "phases.all.schedule.name=constant")
    assert [phase.lr for phase in loaded.recipe.phases] == [0.1, 3e-4]
    assert loaded.recipe.phases[0].overrides == {"batch_norm": "train", "schedule": {"name": "constant"}}
    assert loaded.origins["phases.last.lr"] == "--set"
    assert loaded.origins["phases.all.lr"] == "file my.toml"


def test_a_new_name_replaces_the_table_of_the_file() -> None:
    body = '[loss]\nlabel_smoothing = 0.1\n[schedule]\nname = "cosine"\nwarmup = "5%"\n' + ALL
    recipe = load(body, "loss.gamma=1", "loss.name=focal", "schedule.name=cosine").recipe
    assert recipe.loss == Focal(name="focal", gamma=1.0)
    assert recipe.schedule == Cosine(warmup="5%")
    body = ALL + 'schedule = { warmup = "5%" }\n'
    recipe = load(body, "phases.all.schedule.name=cosine_restarts", "phases.all.schedule.first=1 epoch").recipe
    assert recipe.phases[0].overrides["schedule"] == {"name": "cosine_restarts", "first": "1 epoch"}


def test_epochs_and_steps_replace_each_other() -> None:
    loaded = load(ALL + LAST, "phases.all.steps=7", "phases.last.epochs=3")
    assert [(phase.epochs, phase.steps) for phase in loaded.recipe.phases] == [(None, 7), (3, None)]
    assert loaded.origins["phases.all.steps"] == "--set (replaces epochs = 2)"
    assert loaded.origins["phases.all.epochs"] == "default"
    assert loaded.origins["phases.last.epochs"] == "--set (replaces steps = 5)"
    [line] = lines_of(ALL, "phases.all.steps=7", "phases.all.epochs=7")
    assert line == "--set: phases.all.steps: give epochs or steps, not both (epochs = 7)"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("train.batch_size", "--set: 'train.batch_size' has not the form key.path=value, as train.ema=0.99"),
        ("train.ema=", "--set: 'train.ema=' has not the form key.path=value, as train.ema=0.99"),
        ("=3", "--set: '=3' has not the form key.path=value, as train.ema=0.99"),
        ("a..b=3", "--set: 'a..b=3' has not the form key.path=value, as train.ema=0.99"),
        ("train=3", "--set: train: is a table; set one of its keys, as train.KEY=3"),
        ("phases.all.loss=x", '--set: phases.all.loss: is a table; set one of its keys, as phases.all.loss.KEY="x"'),
        ("phases.all=3", "--set: phases.all: phases are set key by key, as phases.NAME.lr=0.001"),
        ("phases.al.lr=3", "--set: phases.al.lr: unknown phase 'al' (did you mean 'all'?); phases: all"),
        ("phases.all.name=x", "--set: phases.all.name: the name is how the phase is found; it cannot be set"),
        ("phases.all.train.x=0", f"--set: phases.all.train.x: {IN_PHASE}, as phases.all.x"),
        ("train.ema.x=3", "--set: train.ema.x: there is no table 'train.ema' (did you mean 'train'?)"),
        ("trian.ema=3", "--set: trian.ema: there is no table 'trian' (did you mean 'train'?)"),
        ("seed.x=3", "--set: seed.x: there is no table 'seed'"),
        ("train.batch_sise=3", "--set: train.batch_sise: unknown key (did you mean 'batch_size'?)"),
        ("train.batch_size=abc", "--set: train.batch_size: expected a whole number, got 'abc'"),
        ("data.path=\udcff", "--set: data.path: '\\udcff' is not UTF-8, which a recipe cannot hold; rename the file or "
         "reach it through a link"),
    ],
)  # fmt: skip
def test_each_fault_of_a_set(text: str, line: str) -> None:
    assert lines_of(ALL, text) == [line]


# --- flags and precedence


def test_flags_and_sets_win_over_the_file() -> None:
    body = "[train]\nbatch_size = 8\nema = 0.5\n" + ALL
    loaded = load(body, "train.ema=0.9", train__batch_size=("--batch-size", 64), data__path=("DATA", Path("cells")))
    assert (loaded.recipe.train.batch_size, loaded.recipe.train.ema, loaded.recipe.data.path) == (64, 0.9, "cells")
    assert loaded.origins["train.batch_size"] == "--batch-size"
    assert loaded.origins["train.ema"] == "--set"
    assert loaded.origins["phases.all.lr"] == "file my.toml"
    assert loaded.origins["augment.hflip"] == "default"


def test_a_flag_without_value_is_not_given() -> None:
    assert load(ALL, train__ema=("--ema", None)).origins["train.ema"] == "default"


def test_a_fault_of_a_flag_is_reported_by_its_spelling() -> None:
    assert lines_of(ALL, train__batch_size=("--batch-size", 0)) == [
        "--batch-size: train.batch_size: must be greater than 0, got 0"
    ]
    assert lines_of(ALL, phases__al__lr=("--x", 1.0))[0].startswith("--x: phases.al.lr: unknown phase 'al'")


def test_lr_and_epochs_mean_the_only_phase_with_gradients() -> None:
    loaded = load(SOLVED + ALL, lr=("--lr", 3e-4), epochs=("--epochs", 9))
    assert (loaded.recipe.phases[1].lr, loaded.recipe.phases[1].epochs) == (3e-4, 9)
    assert loaded.origins["phases.all.lr"] == "--lr"
    loaded = load(LAST, epochs=("--epochs", 9))
    assert loaded.recipe.phases[0].steps is None
    assert loaded.origins["phases.last.epochs"] == "--epochs (replaces steps = 5)"


def test_a_set_of_lr_and_epochs_means_what_the_flags_mean() -> None:
    loaded = load(SOLVED + ALL, "lr=0.25", "epochs=7")
    assert (loaded.recipe.phases[1].lr, loaded.recipe.phases[1].epochs) == (0.25, 7)
    assert loaded.origins["phases.all.lr"] == "--set"
    [line] = lines_of(ALL + LAST, "lr=0.1")
    assert line == (
        "--set: the recipe has 2 phases with lr; say which: --set phases.all.lr=0.1 or --set phases.last.lr=0.1"
    )
    [line] = lines_of(ALL, "lr=0.5", lr=("--lr", 0.1))
    assert line == "--set: phases.all.lr: is 0.1 by --lr and 0.5 by --set; give it once"
    [line] = lines_of(ALL, "lr=fast")
    assert line.startswith("--set: phases.all.lr: ")


def test_lr_is_refused_where_it_has_no_one_meaning() -> None:
    [line] = lines_of(ALL + LAST, lr=("--lr", 0.1))
    assert line == (
        "--lr: the recipe has 2 phases with lr; say which: --set phases.all.lr=0.1 or --set phases.last.lr=0.1"
    )
    [line] = lines_of(SOLVED, epochs=("--epochs", 3))
    assert line == (
        "--epochs: every phase is solved on features and has no epochs; leave it out, or choose a recipe that trains"
    )
    # A set may change which phases take gradients.
    sets = ("phases.head.solver=sgd", "phases.head.epochs=1")
    assert load(SOLVED, *sets, lr=("--lr", 0.5)).recipe.phases[0].lr == 0.5


def test_the_same_key_twice_must_agree() -> None:
    [line] = lines_of(ALL, "train.batch_size=32", train__batch_size=("--batch-size", 64))
    assert line == "--set: train.batch_size: is 64 by --batch-size and 32 by --set; give it once"
    [line] = lines_of(ALL, "phases.all.lr=0.5", lr=("--lr", 0.1))
    assert line == "--set: phases.all.lr: is 0.1 by --lr and 0.5 by --set; give it once"
    [line] = lines_of(ALL, "train.ema=0.5", "train.ema=none")
    assert line == "--set: train.ema: is 0.5 by --set and taken out by --set; give it once"
    loaded = load(ALL, "train.batch_size=64", "train.batch_size=64", train__batch_size=("--batch-size", 64))
    assert loaded.origins["train.batch_size"] == "--batch-size"


# --- what the shipped recipe's own values become


def test_values_of_a_shipped_recipe_that_nothing_reads_fall_back() -> None:
    loaded = load_recipe("scratch", sets=["phases.all.batch_size=8", "phases.all.loss.name=focal"])
    assert loaded.recipe.train.batch_size == 32
    assert loaded.origins["train.batch_size"] == "default"
    assert loaded.recipe.loss == CrossEntropy()
    assert loaded.origins["train.weight_decay"] == "recipe scratch"
    restarts = load_recipe("finetune-focal-restarts", sets=["phases.all.schedule.end=0.5"])
    assert isinstance(restarts.recipe.schedule, CosineRestarts)
    assert restarts.recipe.schedule.end == 0.0  # its own 0.01 is read by no phase
    assert restarts.origins["schedule.end"] == "default"


def test_origins_list_every_key() -> None:
    loaded = load_recipe("finetune")
    dump = loaded.recipe.model_dump(by_alias=True)
    keys = {key for key, value in dump.items() if not isinstance(value, (dict, tuple))}
    keys |= {f"{table}.{key}" for table, value in dump.items() if isinstance(value, dict) for key in value}
    keys.remove("model.options")  # open: those that are given are listed
    for phase in dump["phases"]:
        own = phase.pop("overrides")
        keys |= {f"phases.{phase['name']}.{key}" for key in phase}
        for key, value in own.items():
            inner = [f"{key}.{name}" for name in value] if isinstance(value, dict) else [key]
            keys |= {f"phases.{phase['name']}.{one}" for one in inner}
    assert set(loaded.origins) == keys


def test_loading_needs_no_heavy_library() -> None:
    code = (
        "import sys, imgkit.recipe.load, imgkit.recipe.plan, imgkit.recipe.write\n"
        "print(sorted({'torch', 'timm', 'torchvision', 'pandas', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"


# --- anything at all is answered with a RecipeError or a recipe

WORDS = """
schema name seed data path model train batch_size augment crop jitter loss gamma schedule first warmup end save keep run
device phases all head lr steps epochs solver overrides [0] x
"""
WORD = st.sampled_from(WORDS.split()) | st.text(max_size=3)
VALUE = st.recursive(
    st.sampled_from(['"none"', '"all"', '"focal"', '"cosine_restarts"', '"5%"', "0.5", "1", "-1", "nan", "true"])
    | st.sampled_from(["2026-01-01", '"\\u0000"', '""', "99999999999999999999", "1e308", '"logistic"']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(WORD, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{value_text(key)} = {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=6,
)
KEY = st.lists(WORD, min_size=1, max_size=5)


@given(
    top=st.dictionaries(WORD, VALUE, max_size=5),
    phases=st.lists(st.dictionaries(WORD, VALUE, max_size=5), max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_any_file(top: dict[str, str], phases: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    top = {key: value for key, value in top.items() if key not in ("schema", "phases")}
    text = "schema = 1\n" + "".join(f"{value_text(key)} = {value}\n" for key, value in top.items())
    for table in phases:
        text += "[[phases]]\n" + "".join(f"{value_text(key)} = {value}\n" for key, value in table.items())
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text, encoding="utf-8")
    with contextlib.suppress(RecipeError):
        load_recipe(file)


@given(st.lists(st.tuples(KEY.map(".".join), st.sampled_from(["=", ""]), VALUE | st.text(max_size=5)), max_size=3))
@example([("phases.all.loss", "=", "{ name = { a = 1 } }")])
@settings(max_examples=150, deadline=None)
def test_any_set(sets: list[tuple[str, str, str]]) -> None:
    with contextlib.suppress(RecipeError):
        load_recipe("finetune-focal-restarts", sets=["".join(parts) for parts in sets])


@pytest.mark.parametrize("given", ["[2, 1]", "[]"])
def test_milestones_are_told_with_an_example(given: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("scratch", sets=["phases.all.schedule.name=multistep", f"phases.all.schedule.milestones={given}"])
    assert f'must be lengths with their unit, such as ["50%", "75%"], got {given}' in str(caught.value)


def test_one_milestone_may_be_given_as_text() -> None:
    sets = ["phases.all.schedule.name=multistep", "phases.all.schedule.milestones=50%"]
    (*_, phase) = load_recipe("scratch", sets=sets).recipe.phases
    assert phase.overrides["schedule"]["milestones"] == ("50%",)
