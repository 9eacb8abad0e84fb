"""Each feature: the same bits with other workers and after a resume, and other bits than without the feature."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from multilabel_data import write_patches
from oracle import fingerprint, short_run, write_recipe
from pictures import square
from tally import share

from imgkit import Run, checkpoint, finetune, resume
from imgkit.errors import Interrupted
from imgkit.run import replace_text

FEATURES = {
    "plain": (),
    "no ema": ("train.ema=0",),
    "no accumulation": ("train.micro_batch=none",),
    "frozen batch norm": ("train.batch_norm=frozen",),
    "clipping": ("train.clip_norm=0.01",),
    "layer decay": ("train.layer_decay=0.5",),
    "decay all": ("train.decay_all=true", "train.weight_decay=0.5"),
    "sgd momentum": ("train.optimizer=sgd", "train.momentum=0.8"),
    "lamb": ("train.optimizer=lamb",),
    "bfloat16": ("train.precision=bfloat16",),
    "label smoothing": ("loss.label_smoothing=0.1",),
    "focal": ("loss.name=focal", "loss.gamma=1.5"),
    "class weights": (f"loss.class_weights={Path(__file__).with_name('oracle_weights.json')}",),
    "poly": ("loss.name=poly", "loss.epsilon=1"),
    "steps an epoch": (
        "phases.all.schedule.name=multistep",
        'phases.all.schedule.milestones=["30%","60%"]',
        "phases.all.schedule.step_on=epoch",
    ),
    "plateau": (
        *("phases.all.epochs=4", "phases.all.schedule.name=plateau", "phases.all.schedule.patience=0"),
        *("phases.all.schedule.threshold=0.9", "phases.all.schedule.watch=val/top1"),
    ),
    "restarts": ("phases.all.schedule.name=cosine_restarts", "phases.all.schedule.first=3 steps"),
    "one cycle": ("schedule.name=one_cycle", "phases.all.schedule=none"),
    "constant": ("phases.all.schedule.name=constant",),
    "no crop": ("augment.crop=none",),
    "scale jitter": ("augment.crop=none", "augment.scale_jitter=[0.9,1.2]"),
    "views": ("phases.head.views=2", "augment.crop=none", "augment.scale_jitter=[0.9,1.2]"),
    "head in turns": ("phases.head.solver=sgd", "phases.head.views=2", "phases.head.lr=1e-2", "phases.head.epochs=3"),
    "flips": ("augment.hflip=0.1", "augment.vflip=0.6"),
    "dropout": ("model.drop_rate=0.3",),
    "balanced sampler": ("train.sampler=balanced",),
    "sampler of a phase": ("phases.all.sampler=sqrt",),
    "seed": ("seed=4",),
    "moves": ("augment.rotate=20", "augment.translate=0.1", "augment.scale=[0.8,1.2]", "augment.shear=5"),
    "randaugment": ("augment.policy=randaugment", "augment.policy_ops=1", "augment.policy_magnitude=12"),
    "trivialaugment": ("augment.policy=trivialaugment", "augment.policy_p=0.7"),
    "augmix": ("augment.policy=augmix",),
    "greys, blur, erasing": ("augment.gray=0.5", "augment.blur=0.5", "augment.erase=0.5"),
    "mixup": ("augment.mixup=0.4", "loss.name=focal"),
    "both mixed": ("augment.mixup=0.4", "augment.cutmix=1", "augment.mix_p=0.8", "train.micro_batch=3"),
    "ramp": ("augment.erase=1", "augment.mixup=0.4", "augment.ramp=80%"),
    "views under a policy": ("phases.head.views=1", "augment.policy=trivialaugment"),
    "letterbox": ("model.fit=letterbox",),
    "phase augmentation": ("phases.top.augment.cutmix=0.4", "phases.all.augment.preset=light"),
    "float16": ("train.precision=float16",),
    "gradient checkpointing": ("train.grad_checkpointing=true", "seed=5"),  # changes no loss, so with another seed
    "phase override": ("phases.top.weight_decay=0.3", "phases.all.augment.hflip=0"),
    "sets of labels": ("data.label_delimiter=;",),
    "drop path": ("model.drop_path=0.3",),
    "asymmetric": ("loss.name=asymmetric", "loss.gamma_pos=2"),
    "linear": ("phases.all.schedule.name=linear",),
    "polynomial": ("phases.all.schedule.name=polynomial", "phases.all.schedule.power=3"),
    "step": ("phases.all.schedule.name=step", "phases.all.schedule.every=3 steps", "phases.all.schedule.gamma=0.5"),
    "prepared": ("data.prepared=16",),
    "greys": ("model.in_chans=1",),
    "wide pictures": (),
    "squash": ("model.fit=squash",),
    "weighted sampler": ("train.sampler=weighted", "data.weight_col=weight"),
}
QUICK = (  # in `make test`; `make proof` has the others
    *("plain", "plateau", "views", "head in turns", "scale jitter", "both mixed"),
    *("phase augmentation", "gradient checkpointing", "weighted sampler"),
)
WIDE = ("wide pictures", "squash", "weighted sampler")


def write_wide(folder: Path) -> Path:
    """48 pictures of 48 x 32 in three classes, and their table, with weights."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,label,weight"]
    for number in range(48):
        square(number, code=number % 3, side_px=32).resize((48, 32)).save(folder / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{'abc'[number % 3]},{1 + number % 5}")
    (folder / "table.csv").write_text("\n".join(lines))
    return folder / "table.csv"


def data_of(feature: str, folder: Path) -> str:
    """The data of a feature's run."""
    if feature in WIDE:
        return str(write_wide(folder / "wide"))
    return str(write_patches(folder / "patches", n=80)) if feature == "sets of labels" else "synthetic:3x16"


Prints = Callable[[str], str]


@pytest.fixture
def prints(shared: Path, tmp_path: Path) -> Prints:
    """The hash of a feature's run without workers and in one go, made by the process that first asks for it."""

    def of(feature: str) -> str:
        file = shared / f"oracle {feature}"
        if not file.exists():
            folder = tmp_path / "whole" / feature
            made = fingerprint(short_run(folder, *FEATURES[feature], data=data_of(feature, folder)))
            replace_text(file, made)
        return file.read_text()

    return of


@pytest.mark.parametrize("feature", share(FEATURES, QUICK, pytest.mark.slow))
def test_same_bits_with_workers_and_after_a_resume(feature: str, prints: Prints, tmp_path: Path) -> None:
    folder = tmp_path
    stop_at = {"plain": 6, "plateau": 15}.get(feature, 3 + len(feature) % 9)

    def save_and_stop(point: str) -> None:
        # Stands for a polite stop right after a checkpoint, at a step that differs between features.
        saved = checkpoint.steps(folder / "runs" / "run" / "checkpoints")
        if point == "before prune" and saved[-1] >= stop_at:
            raise Interrupted("stop", signal=15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", save_and_stop)
        patch.setattr("imgkit.setup.in_turn", lambda *_: len(feature) % 2 == 0)
        with pytest.raises(Interrupted):
            short_run(folder, *FEATURES[feature], data=data_of(feature, folder), workers=2)
    run = resume("run", out=folder / "runs", workers=0)
    assert run.folder.read_json("status.json")["state"] == "finished"
    assert fingerprint(run) == prints(feature)


@pytest.mark.parametrize("features", [QUICK, pytest.param((*FEATURES,), marks=pytest.mark.slow)], ids=["quick", "all"])
def test_every_feature_changes_the_weights(prints: Prints, features: tuple[str, ...]) -> None:
    assert len({prints(feature) for feature in features}) == len(features)


TURNS = """
schema = 1
name = "turns"
seed = 3

[model]
weights = "none"
image_size = 32

[train]
batch_size = 8
precision = "float32"

[save]
every_steps = 1
keep = "all"
""" + "".join(
    f'[[phases]]\nname = "{name}"\ntrain = "{part}"\nsteps = 3\nlr = 1e-3\n'
    for name, part in (("first", "all"), ("pause", "head"), ("again", "all"))
)


def turns(folder: Path, *sets: str) -> Run:
    """Three updates of all, three of the head alone, three of all."""
    return finetune(
        "test_resnet",
        recipe=write_recipe(folder, TURNS),
        data="synthetic:3x16",
        out=folder / "runs",
        name="run",
        sets=["run.workers=0", *sets],
    )


def test_moments_outlast_a_phase_that_leaves_their_parameters_out(tmp_path: Path) -> None:
    place = turns(tmp_path).folder.path / "checkpoints"
    train = {step: checkpoint.read(place, step).train for step in range(1, 10)}
    trunk = next(name for name in train[1] if name.endswith("/exp_avg") and "fc" not in name).removesuffix("/exp_avg")
    head = "opt/fc.weight"
    assert torch.equal(train[3][f"{trunk}/exp_avg"], train[6][f"{trunk}/exp_avg"]), "kept while the trunk is frozen"
    assert not torch.equal(train[6][f"{trunk}/exp_avg"], train[7][f"{trunk}/exp_avg"])
    assert [int(train[step][f"{trunk}/step"]) for step in (3, 6, 7, 9)] == [3, 3, 4, 6]
    assert int(train[9][f"{head}/step"]) == 9


def test_moments_do_not_outlast_another_optimizer(tmp_path: Path) -> None:
    place = turns(tmp_path, "phases.pause.optimizer=sgd").folder.path / "checkpoints"
    assert not any("exp_avg" in name for name in checkpoint.read(place, 4).train)
    assert int(checkpoint.read(place, 7).train["opt/fc.weight/step"]) == 1


def test_same_bits_after_a_resume_inside_each_of_these_phases(tmp_path: Path) -> None:
    whole = turns(tmp_path)
    expected, place = fingerprint(whole), whole.folder.path / "checkpoints"
    for step in (8, 6, 5, 3, 2):
        for later in checkpoint.steps(place):
            if later > step:
                (place / f"step-{later:08d}").rename(tmp_path / f"moved-{step}-{later}")
        whole.folder.set_status("stopped", step=step, total_steps=9)
        assert fingerprint(resume("run", out=tmp_path / "runs")) == expected, f"from step {step}"
