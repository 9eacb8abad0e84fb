"""Plans: positions against a naive loop, the matrix of unused values, and notes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgkit.errors import DataError, RecipeError
from imgkit.recipe.load import Flag, Loaded, load_recipe, shipped_recipes
from imgkit.recipe.losses import CrossEntropy, Focal, LogitAdjusted
from imgkit.recipe.plan import make_plan
from imgkit.recipe.schedules import Constant

HEAD = 'schema = 1\nname = "mine"\n'
ALL = '[[phases]]\nname = "all"\ntrain = "all"\nepochs = 2\nlr = 0.1\n'
SOLVED = '[[phases]]\nname = "head"\ntrain = "head"\nsolver = "logistic"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def load(folder: Path, body: str, *sets: str) -> Loaded:
    (folder / "my.toml").write_text(HEAD + body)
    return load_recipe(folder / "my.toml", sets=sets)


# --- arithmetic

PHASE = st.fixed_dictionaries({
    "solved": st.booleans(),
    "length": st.tuples(st.sampled_from(["epochs", "steps"]), st.integers(1, 7)),
    "batch": st.integers(1, 12),
})  # fmt: skip


@given(n=st.integers(1, 25), phases=st.lists(PHASE, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_positions_against_a_naive_loop(
    n: int, phases: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    body = ""
    expected: list[tuple[int, int, int]] = []  # phase, epoch, step within the epoch; one an update
    ends: set[int] = set()
    epoch = 0
    for index, phase in enumerate(phases):
        unit, count = phase["length"]
        if phase["solved"]:
            body += SOLVED.replace('"head"\nt', f'"p{index}"\nt')
            expected.append((index, epoch, 0))
            ends.add(len(expected))
            continue
        body += (
            f'[[phases]]\nname = "p{index}"\ntrain = "all"\nlr = 1\nbatch_size = {phase["batch"]}\n{unit} = {count}\n'
        )
        done = 0
        while done < count:
            images, step = n, 0
            while images >= min(phase["batch"], n) and done < count:
                images -= min(phase["batch"], n)
                expected.append((index, epoch, step))
                step += 1
                done += unit == "steps"
            ends.add(len(expected))
            epoch += 1
            done += unit == "epochs"
    plan = make_plan(load(tmp_path_factory.getbasetemp(), body), n)
    assert plan.total_steps == len(expected)
    assert sum(phase.epochs for phase in plan.phases) == epoch
    found = []
    for step in range(plan.total_steps):
        phase = plan.phase_at(step)
        passes, inner = divmod(step - phase.first_step, phase.steps_per_epoch)
        found.append((plan.phases.index(phase), phase.first_epoch + passes, inner))
    assert found == expected
    closing = {done for done in range(plan.total_steps + 1) for phase in plan.phases if phase.ends_epoch(done)}
    assert closing == ends
    for phase in plan.phases:
        assert (phase.lr is None) == (phase.solver == "logistic")
        if phase.solver == "logistic":
            assert (phase.steps, phase.epochs) == (1, 0)
    assert [phase.first_step for phase in plan.phases[1:]] == [phase.stop for phase in plan.phases[:-1]]


def test_an_end_of_one_phase_is_no_end_of_the_next(folder: Path) -> None:
    first, second = make_plan(load(folder, SOLVED + ALL), 64).phases
    assert (first.ends_epoch(0), first.ends_epoch(1), second.ends_epoch(1), second.ends_epoch(3)) == (
        False, True, False, True,
    )  # fmt: skip


def test_phase_at_holds_only_steps_of_the_run(folder: Path) -> None:
    plan = make_plan(load(folder, ALL), 64)
    for step in (-1, plan.total_steps):
        with pytest.raises(AssertionError):
            plan.phase_at(step)


def test_settings_are_resolved(folder: Path) -> None:
    body = '[train]\nbatch_size = 8\n[loss]\nname = "focal"\nalpha = 0.2\n[augment]\nhflip = 0\n' + ALL
    body += 'ema = 0.5\naugment = { vflip = 1 }\nloss = { gamma = 1 }\nschedule = { name = "constant" }\n'
    [phase] = make_plan(load(folder, body), 64).phases
    assert (phase.settings.batch_size, phase.settings.ema) == (8, 0.5)
    assert (phase.augment.hflip, phase.augment.vflip) == (0.0, 1.0)
    assert phase.loss == Focal(name="focal", gamma=1.0, alpha=0.2)
    assert phase.schedule == Constant(name="constant")


def test_no_images_no_plan(folder: Path) -> None:
    with pytest.raises(DataError, match="no training image"):
        make_plan(load(folder, ALL), 0)


# --- notes


def test_what_does_not_fit_is_noted(folder: Path) -> None:
    loaded = load(folder, "[train]\nbatch_size = 16\nmicro_batch = 12\n" + ALL)
    assert make_plan(loaded, 32).notes == ()
    assert make_plan(loaded, 37).notes == (
        "phase 'all': 5 of 37 training images sit out each epoch, others each time, since 37 is no multiple of "
        "batch size 16",
    )
    plan = make_plan(loaded, 10)
    assert plan.notes == ("phase 'all': batch size 10 instead of 16, since there are 10 images",)
    assert (plan.phases[0].settings.batch_size, plan.phases[0].settings.micro_batch) == (10, 10)
    assert make_plan(load(folder, SOLVED), 5).notes == ()


# --- values that nothing reads

SOLVED_ONLY = [
    "train.batch_size=8", "train.optimizer=sgd", "train.ema=0.5", "train.precision=float32", "augment.hflip=0",
    "augment.crop=none", "loss.label_smoothing=0.1", "loss.name=focal", "schedule.end=0.5", "schedule.warmup=3%",
    "early_stop=3", "model.drop_rate=0.5", "model.drop_path=0.5",
]  # fmt: skip


@pytest.mark.parametrize("text", SOLVED_ONLY)
def test_solved_phases_read_no_setting_of_training(text: str) -> None:
    key, value = text.split("=")
    with pytest.raises(RecipeError) as caught:
        make_plan(load_recipe("probe", sets=[text]), 64)
    message, _, hint = str(caught.value).partition("\n")
    assert message.startswith(f"{key} = ")
    assert value in message.lower()
    assert message.endswith(" (--set) is not used: every phase of 'probe' is solved on features")
    assert hint == "Leave it out, or choose a recipe that trains, such as finetune."
    make_plan(load_recipe("scratch", sets=[text]), 64)  # a recipe that trains reads all of them


def test_a_solve_with_views_reads_the_augmentation_and_nothing_else_of_training() -> None:
    sets = ["phases.head.views=2", "augment.hflip=0.1", "phases.head.augment.vflip=0.5"]
    (head,) = make_plan(load_recipe("probe", sets=sets), 64).phases
    assert (head.views, head.augment.hflip, head.augment.vflip) == (2, 0.1, 0.5)
    with pytest.raises(RecipeError, match=r"train.ema = 0.5 .--set. is not used: every phase of 'probe' is solved"):
        make_plan(load_recipe("probe", sets=[*sets, "train.ema=0.5"]), 64)
    with pytest.raises(RecipeError, match=r"phases.head.ema = 0.5 .--set. is not used: phase 'head' is solved"):
        make_plan(load_recipe("probe", sets=[*sets, "phases.head.ema=0.5"]), 64)


def test_a_solve_reads_the_class_weights_of_a_loss_and_nothing_else_of_it() -> None:
    sets = ["loss.class_weights=effective", "loss.class_weights_beta=0.9"]
    (head,) = make_plan(load_recipe("probe", sets=sets), 64).phases
    assert head.loss == CrossEntropy(class_weights="effective", class_weights_beta=0.9)
    (own,) = make_plan(load_recipe("probe", sets=["phases.head.loss.class_weights=sqrt"]), 64).phases
    assert own.loss == CrossEntropy(class_weights="sqrt")
    adjusted = LogitAdjusted(name="logit_adjusted", tau=0.5)
    (head,) = make_plan(load_recipe("probe", sets=["loss.name=logit_adjusted", "loss.tau=0.5"]), 64).phases
    assert head.loss == adjusted, "which shifts its biases; the recipe's class weights are of another loss"
    own = 'phases.head.loss={name="logit_adjusted",tau=0.5}'
    (head,) = make_plan(load_recipe("probe", sets=[own]), 64).phases
    assert head.loss == adjusted
    with pytest.raises(RecipeError, match=r"loss.label_smoothing = 0.1 .--set. is not used: every phase of 'probe'"):
        make_plan(load_recipe("probe", sets=["loss.name=logit_adjusted", "loss.label_smoothing=0.1"]), 64)
    with pytest.raises(RecipeError, match=r"^loss.name = .focal. .--set. is not used: every phase of 'probe' is"):
        make_plan(load_recipe("probe", sets=["loss.name=focal", "loss.class_weights=sqrt"]), 64)


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        (
            "loss.class_weights_beta=0.9",
            "loss.class_weights is not effective",
            "Give it too: loss.class_weights=effective.",
        ),
        (
            "schedule.step_on=epoch",
            "the rate changes in the warm-up alone, which is off",
            "Leave it out, or give the warm-up a length: schedule.warmup='2 epochs'.",
        ),
    ],
)
@pytest.mark.parametrize("prefix", ["", "phases.all."])
def test_keys_that_need_another_one(prefix: str, text: str, reason: str, hint: str) -> None:
    sets = [prefix + text, *(["schedule.name=constant"] if "schedule" in text else [])]
    with pytest.raises(RecipeError) as caught:
        make_plan(load_recipe("scratch", sets=sets), 64)
    assert f"{reason}\n{hint}" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["finetune", "probe", "finetune-focal-restarts"])
def test_any_shipped_solve_can_be_trained_instead(name: str) -> None:
    sets = ["phases.head.solver=sgd", "phases.head.lr=1e-3", "phases.head.epochs=2"]
    assert make_plan(load_recipe(name, sets=sets), 64).phases[0].solver == "sgd"
    with pytest.raises(RecipeError, match=r"phases.head.views = 2 \(--set\) is not used: phase 'head' trains more"):
        make_plan(load_recipe(name, sets=[*sets, "phases.head.views=2", "phases.head.train=all"]), 64)


CHOOSING = ["monitor=val/top1", "save.keep=all"]
SAVING = ["save.every_steps=2", "save.every_minutes=1"]


def test_one_solve_has_nothing_to_choose_from_and_no_steps_to_save() -> None:
    for texts, reason in (
        (CHOOSING, "one solved phase is scored and saved once, so there is nothing to choose from"),
        (SAVING, "a solved phase is one step, saved when it is done"),
    ):
        for text in texts:
            with pytest.raises(RecipeError, match=rf"^{text.partition('=')[0]} = .* \(--set\) is not used: {reason}"):
                make_plan(load_recipe("probe", sets=[text]), 64)
            make_plan(load_recipe("finetune", sets=[text]), 64)


def test_two_solves_are_chosen_from(tmp_path: Path) -> None:
    text = (shipped_recipes()["probe"]).read_text()
    phase = text[text.index("[[phases]]") :]
    file = tmp_path / "two.toml"
    file.write_text(text + phase.replace('"head"', '"again"', 1))
    for sets in CHOOSING:
        make_plan(load_recipe(file, sets=[sets]), 64)
    with pytest.raises(RecipeError, match="saved when it is done"):
        make_plan(load_recipe(file, sets=SAVING), 64)


READ_BY_ALL = ["seed=3", "data.val=0.1", "model.weights=none", "run.workers=0"]


@pytest.mark.parametrize("text", READ_BY_ALL)
@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_what_every_run_reads(text: str, name: str) -> None:
    make_plan(load_recipe(name, sets=[text]), 64)


UNUSED = [
    (
        ALL + "batch_size = 8\n",
        "train.batch_size=16",
        "train.batch_size = 16 (--set) is not used: phase 'all' has its own value",
        "Change the phase instead: --set phases.all.batch_size=16",
    ),
    (
        ALL + "augment = { hflip = 0 }\n",
        "augment.hflip=0.1",
        "augment.hflip = 0.1 (--set) is not used: phase 'all' has its own value",
        "Change the phase instead: --set phases.all.augment.hflip=0.1",
    ),
    (
        ALL + 'schedule = { name = "constant" }\n',
        "schedule.end=0.1",
        "schedule.end = 0.1 (--set) is not used: phase 'all' has its own schedule, 'constant'",
        "Change the phase instead: --set phases.all.schedule.name=cosine",
    ),
    (
        ALL + 'schedule = { name = "cosine", end = 0.2 }\n',
        "schedule.end=0.1",
        "schedule.end = 0.1 (--set) is not used: phase 'all' has its own value",
        "Change the phase instead: --set phases.all.schedule.end=0.1",
    ),
    (
        ALL,
        "augment.jitter_p=0.5",
        "augment.jitter_p = 0.5 (--set) is not used: augment.jitter is off",
        "Give the strengths too, for example augment.jitter=[0.2,0.2,0.2,0.1].",
    ),
    (
        ALL + "augment = { jitter_p = 0.5 }\n",
        "seed=1",
        "phases.all.augment.jitter_p = 0.5 (file my.toml) is not used: augment.jitter is off",
        "Give the strengths too, for example augment.jitter=[0.2,0.2,0.2,0.1].",
    ),
    (
        "[augment]\ncrop = [0.5, 1.0]\n" + ALL,
        "augment.scale_jitter=[0.9,1.1]",
        "augment.scale_jitter = [0.9, 1.1] (--set) is not used: augment.crop is on and sets the scale",
        'Take one: augment.crop="none", or augment.scale_jitter="none".',
    ),
    (
        '[augment]\ncrop = "none"\n' + ALL,
        "augment.ratio=[1,2]",
        "augment.ratio = [1.0, 2.0] (--set) is not used: augment.crop is off",
        "Give augment.crop, the share of the area, for example augment.crop=[0.5,1.0].",
    ),
    *(
        (ALL, f"augment.{key}={value}", f"augment.{key} = {value} (--set) is not used: {reason}", hint)
        for key, value, reason, hint in (
            (
                "fill",
                "[0, 0, 0]",
                "nothing is moved in from outside the image",
                "Give what moves it too, for example augment.rotate=10, or a policy.",
            ),
            (
                "policy_p",
                "0.5",
                "augment.policy is off",
                "Name the policy too, for example augment.policy=trivialaugment.",
            ),
            (
                "mix_p",
                "0.5",
                "augment.mixup and augment.cutmix are off",
                "Give one of them too, for example augment.mixup=0.2.",
            ),
            (
                "ramp",
                '"30%"',
                "nothing is on that has a strength (framing and flips have none)",
                "Give what is to grow, for example augment.rotate=10.",
            ),
        )
    ),
    *(
        (
            f"[augment]\n{chance} = 0\n{other}" + ALL,
            f"augment.{key}={value}",
            f"augment.{key} = {value} (--set) is not used: augment.{chance} is 0",
            f"Leave it out, or give an augment.{chance} above 0.",
        )
        for key, value, chance, other in (
            ("mixup", "0.2", "mix_p", ""),
            ("cutmix", "1.0", "mix_p", "mixup = 0\n"),
            ("policy", '"augmix"', "policy_p", ""),
            ("jitter", "[0.1, 0.0, 0.0, 0.0]", "jitter_p", ""),
        )
    ),
    (
        '[augment]\npolicy = "augmix"\n' + ALL,
        "augment.policy_ops=3",
        "augment.policy_ops = 3 (--set) is not used: only randaugment has a number of operations",
        "Give augment.policy=randaugment too.",
    ),
    (
        '[augment]\npolicy = "trivialaugment"\n' + ALL,
        "augment.policy_magnitude=3",
        "augment.policy_magnitude = 3 (--set) is not used: only randaugment and augmix have a magnitude",
        "Give augment.policy=randaugment or augmix too.",
    ),
    (
        ALL + SOLVED + "views = 1\n",
        "phases.head.augment.mixup=0.2",
        "phases.head.augment.mixup = 0.2 (--set) is not used: phase 'head' is solved on features",
        "Leave it out, or move it to a phase that trains.",
    ),
    (
        ALL.replace('"all"\ne', '"head"\ne'),
        "train.layer_decay=0.5",
        "train.layer_decay = 0.5 (--set) is not used: only the head trains",
        'Leave it out, or train more: train = "all" in the phase.',
    ),
    *(
        (
            ALL.replace('"all"\ne', '"head"\ne'),
            f"{key}={value}",
            f"{key} = {value} (--set) is not used: only the head trains",
            'Leave it out, or train more: train = "all" in the phase.',
        )
        for key, value in (("train.batch_norm", '"train"'), ("model.drop_path", "0.3"), ("train.compile", "true"))
    ),
    (
        ALL + SOLVED + "ema = 0.5\n",
        "seed=1",
        "phases.head.ema = 0.5 (file my.toml) is not used: phase 'head' is solved on features",
        "Leave it out, or move it to a phase that trains.",
    ),
    (
        ALL + SOLVED,
        "phases.head.loss.label_smoothing=0.5",
        "phases.head.loss.label_smoothing = 0.5 (--set) is not used: phase 'head' is solved on features",
        "Leave it out, or move it to a phase that trains.",
    ),
]


@pytest.mark.parametrize(("body", "text", "message", "hint"), UNUSED)
def test_unused_values_are_refused(
    body: str, text: str, message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text(HEAD + body)
    loaded = load_recipe("my.toml", sets=[text])
    with pytest.raises(RecipeError) as caught:
        make_plan(loaded, 64)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_chance_of_0_switches_off_what_was_not_given_beside_it(folder: Path) -> None:
    make_plan(load(folder, "[augment]\npreset = 'strong'\n" + ALL, "augment.policy_p=0", "augment.mix_p=0"), 64)
    mixed = "[augment]\nmixup = 0.2\n" + ALL
    two = mixed + ALL.replace('"all"\nt', '"last"\nt') + "augment = { mix_p = 0.0 }\n"
    one, other = make_plan(load(folder, two), 64).phases
    assert "mixup 0.2" in one.augmentation
    assert "mixup" not in other.augmentation
    with pytest.raises(RecipeError, match=r"mixup = 0\.2 .*my\.toml.* is not used: augment\.mix_p is 0"):
        make_plan(load(folder, mixed, "phases.all.augment.mix_p=0"), 64)


def test_patience_that_outlasts_the_run_is_noted(folder: Path) -> None:
    def notes(patience: int, epochs: int, *before: str) -> tuple[str, ...]:
        return make_plan(
            load(folder, "".join(before) + ALL, f"early_stop={patience}", f"phases.all.epochs={epochs}"), 64
        ).notes

    assert notes(3, 5) == ()
    assert notes(4, 5) == (
        "early_stop = 4 never ends this run early: validation is scored 5 times; it takes 3 or less",
    )
    assert notes(4, 5, SOLVED) == (), "the solved head is scored, too"
    assert notes(1, 2) == (
        "early_stop = 1 never ends this run early: validation is scored 2 times; it takes more epochs",
    )
    assert notes(1, 1) == ("early_stop = 1 never ends this run early: validation is scored once; it takes more epochs",)


READ = {
    "fill": ("[0, 0, 0]", "rotate=10", "translate=0.1", "scale=[0.9,1.1]", "shear=5", "policy=augmix"),
    "policy_p": ("0.5", "policy=trivialaugment"),
    "policy_ops": ("3", "policy=randaugment"),
    "policy_magnitude": ("3", "policy=randaugment", "policy=augmix"),
    "mix_p": ("0.5", "mixup=0.2", "cutmix=1"),
    "ramp": ("30%", "rotate=10", "policy=augmix", "jitter=[0.1,0,0,0]", "gray=0.1", "blur=0.1", "erase=0.1", "mixup=1"),
}


@pytest.mark.parametrize("key", READ)
def test_what_a_value_of_the_augmentation_needs(key: str, folder: Path) -> None:
    value, *needs = READ[key]
    for need in needs:
        make_plan(load(folder, ALL, f"augment.{key}={value}", f"augment.{need}"), 64)


@pytest.mark.parametrize(
    ("ramp", "strengths"),
    [("0%", [1, 1, 1, 1]), ("50%", [0, 0.5, 1, 1]), ("3 epochs", [0, 1 / 3, 2 / 3, 1]), ("8 steps", [0, 1, 1, 1])],
)
def test_strength_is_a_function_of_the_epoch(ramp: str, strengths: list[float], folder: Path) -> None:
    body = "[augment]\nrotate = 10\n[train]\nbatch_size = 8\n" + ALL + ALL.replace('"all"\nt', '"more"\nt')
    sets = [f"augment.ramp={ramp}", "phases.all.epochs=4", "phases.more.epochs=4"]
    plan = make_plan(load(folder, body, *sets), 64)
    for phase in plan.phases:  # it begins anew in each phase
        each = [phase.strength(step) for step in range(phase.first_step, phase.stop)]
        assert each == pytest.approx([strength for strength in strengths for _ in range(8)])
        assert [phase.ramp.strength(phase.first_epoch + epoch) for epoch in range(4)] == pytest.approx(strengths)
    assert not any("strength" in note for note in plan.notes)


def test_a_ramp_that_does_not_reach_its_top_is_noted(folder: Path) -> None:
    plan = make_plan(load(folder, ALL, "augment.rotate=10", "augment.ramp=200%", "phases.all.epochs=4"), 64)
    assert plan.notes == (
        "phase 'all': augmentation grows to 38% of its strength in the last epoch (augment.ramp = \"200%\")",
    )


def test_a_value_that_one_of_two_phases_reads_is_used(folder: Path) -> None:
    other = ALL.replace('"all"\nt', '"more"\nt')
    body = '[loss]\nname = "focal"\n[train]\nbatch_size = 4\nlayer_decay = 0.5\n' + ALL + other
    make_plan(load(folder, body + 'batch_size = 8\nloss = { name = "cross_entropy" }\n'), 64)
    # The section's name decides what a table that repeats it is laid over.
    make_plan(
        load(folder, '[loss]\nname = "focal"\nalpha = 0.3\n' + ALL + 'loss = { name = "focal", gamma = 1 }\n'), 64
    )


def test_the_flag_is_named_and_all_come_at_once() -> None:
    flags = {"train.batch_size": Flag("--batch-size", 64), "early_stop": Flag("--early-stop", 3)}
    with pytest.raises(RecipeError) as caught:
        make_plan(load_recipe("probe", flags=flags), 64)
    assert caught.value.message.splitlines() == [
        "train.batch_size = 64 (--batch-size) is not used: every phase of 'probe' is solved on features",
        "early_stop = 3 (--early-stop) is not used: every phase of 'probe' is solved on features",
    ]


def test_values_of_a_shipped_recipe_are_never_blamed_on_the_user() -> None:
    sets = ["phases.all.batch_size=8", "phases.all.schedule.name=constant", "phases.all.augment.crop=none"]
    for name in ("finetune", "scratch", "finetune-focal-restarts"):
        make_plan(load_recipe(name, sets=sets), 64)
    # But what the user gives besides is.
    with pytest.raises(RecipeError, match=r"^schedule.name = \"constant\" \(--set\) is not used[^\n]*\n[^\n]*$"):
        make_plan(load_recipe("finetune", sets=["schedule.name=constant"]), 64)


def test_a_micro_batch_is_a_part_of_the_batch(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"train.micro_batch = 64 \(--set\) is more than the batch_size .* 'all', 32"):
        make_plan(load(folder, ALL, "train.micro_batch=64"), 640)
    with pytest.raises(RecipeError, match=r"phases.all.micro_batch = 64 \(--set\) is more"):
        make_plan(load(folder, ALL, "phases.all.micro_batch=64"), 640)
    make_plan(load(folder, ALL, "train.micro_batch=5"), 640)


def test_rare_classes_that_are_raised_twice_are_noted(folder: Path) -> None:
    twice = make_plan(load(folder, ALL, "train.sampler=sqrt", "loss.class_weights=inverse"), 64).notes
    assert any("drawn more often (sampler sqrt) and weigh more (loss.class_weights)" in note for note in twice)
    twice = make_plan(load(folder, ALL, "train.sampler=balanced", "loss.name=logit_adjusted"), 64).notes
    assert any("(sampler balanced) and their logits raised (loss.name = logit_adjusted)" in note for note in twice)
    for sets in (["train.sampler=sqrt"], ["loss.class_weights=inverse"]):
        assert not any("weigh more" in note for note in make_plan(load(folder, ALL, *sets), 64).notes)


def test_of_a_solved_phase_it_is_not_said_that_it_draws_rare_classes_more_often() -> None:
    notes = make_plan(load_recipe("finetune", sets=["train.sampler=sqrt", "loss.class_weights=inverse"]), 64).notes
    assert [note.split(":")[0] for note in notes if "drawn more often" in note] == ["phase 'all'"]
    assert [note.split(":")[0] for note in notes if "sees every image equally often" in note] == ["phase 'head'"]
