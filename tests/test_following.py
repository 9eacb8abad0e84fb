"""Several ranks train as one does: the same pictures in each step, the same numbers, and one run folder."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sklearn.linear_model  # noqa: F401  (imported here so that no fork has to)
import torch
from oracle import fingerprint
from torchrun import command, ends, start, train, words

from imgkit import checkpoint, finetune, open_run, resume, scoring
from imgkit.data.batches import EvalReader
from imgkit.data.load import load_data
from imgkit.errors import UsageError
from imgkit.evaluations import write_evaluation
from imgkit.features import BATCH
from imgkit.models.create import create_model
from imgkit.recipe.schema import DataSettings, ModelSettings
from imgkit.scoring import score
from imgkit.trainer import Trainer
from imgkit.world import begin, current

MIXED = ("--set", "augment.mixup=0.3", "--set", "augment.cutmix=0.5")
STEADY = ("--set", "train.batch_norm=frozen", "--set", "train.optimizer=sgd")
"""Nothing in it depends on which pictures are beside each other, and no optimizer enlarges what was rounded."""


def end_of(folder: Path) -> str:
    return fingerprint(open_run("run", folder / "runs"))


def noted(folder: Path) -> Callable[[int], None]:
    """Have each rank write which rows it is given, by step."""

    def before(rank: int) -> None:
        update = Trainer._update

        def note(self: Trainer, phase: object, batch: object, step: int, *rest: object) -> object:
            with (folder / f"rows-{rank}").open("a") as file:
                file.write(json.dumps([step, batch.ids.tolist()]) + "\n")  # type: ignore[attr-defined]
            return update(self, phase, batch, step, *rest)  # type: ignore[arg-type]

        Trainer._update = note  # type: ignore[method-assign,assignment]

    return before


def rows_by_step(folder: Path, size: int) -> dict[int, list[int]]:
    """What all ranks together were given."""
    found: dict[int, list[int]] = {}
    for rank in range(size):
        for line in (folder / f"rows-{rank}").read_text().splitlines():
            step, rows = json.loads(line)
            found.setdefault(step, []).extend(rows)
    return found


def test_two_ranks_end_in_the_bits_of_one(tmp_path: Path) -> None:
    """By `--exact-world`: weights, averages, optimizer, history, batch norm's statistics; and only rank 0 writes."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(one, 1, "--exact-world", "2", before=noted(one)) == [0]
    assert train(two, 2, "--exact-world", "2", before=noted(two)) == [0, 0]
    assert end_of(two) == end_of(one)
    assert rows_by_step(two, 2) == rows_by_step(one, 1)
    assert "Done in" in (two / "said-0").read_text()
    assert (two / "said-1").read_text() == ""
    assert [entry.name for entry in (two / "runs").iterdir() if entry.is_dir()] == ["run"]
    assert train(two, 1, "--exact-world", "2") == [0]
    assert "run is finished already" in (two / "said-0").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), MIXED], ids=["plain", "mixed"])
def test_four_shards_have_the_same_bits_on_one_two_and_four_ranks(tmp_path: Path, more: Sequence[str]) -> None:
    found = set()
    for size in (1, 2, 4):
        assert train(tmp_path / str(size), size, "--exact-world", "4", *more) == [0] * size
        found.add(end_of(tmp_path / str(size)))
    assert len(found) == 1


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), MIXED], ids=["plain", "mixed"])
def test_without_exact_world_ranks_differ_by_rounding_alone(tmp_path: Path, more: Sequence[str]) -> None:
    weights = {}
    for size in (1, 2, 4):
        folder = tmp_path / str(size)
        assert train(folder, size, *STEADY, *more, before=noted(folder)) == [0] * size
        found = checkpoint.load(folder / "runs" / "run" / "checkpoints", pytest.fail)
        assert found is not None
        weights[size] = found.model
        if more != MIXED:  # else each rank is given the picture before its own, too
            assert rows_by_step(folder, size) == rows_by_step(tmp_path / "1", 1)
    for size in (2, 4):
        for name, tensor in weights[1].items():
            torch.testing.assert_close(weights[size][name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_run_of_two_ranks_is_stopped_by_a_signal_to_one_and_goes_on_with_four(tmp_path: Path) -> None:
    exact = ("--exact-world", "4")
    assert train(tmp_path / "whole", 1, *exact) == [0]
    folder = tmp_path / "cut"

    def before(rank: int) -> None:
        update = Trainer._update

        def asked(self: Trainer, phase: object, batch: object, step: int, *rest: object) -> object:
            if (rank, step) == (1, 7):
                os.kill(os.getpid(), signal.SIGTERM)
            return update(self, phase, batch, step, *rest)  # type: ignore[arg-type]

        Trainer._update = asked  # type: ignore[method-assign,assignment]

    assert train(folder, 2, *exact, before=before) == [143, 143]
    assert "Stopped at step 8" in (folder / "said-0").read_text()
    assert checkpoint.steps(folder / "runs" / "run" / "checkpoints")[-1] == 8
    assert train(folder, 4, *exact) == [0] * 4
    assert end_of(folder) == end_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_scores_are_those_of_one_rank_to_the_last_bit(tmp_path: Path, size: int) -> None:
    """Each of 1, 7, 64 and 101 images once, whoever scored it."""
    index = load_data(DataSettings(path="synthetic:3x48")).index
    created = create_model(ModelSettings(name="test_resnet", weights="none", image_size=32), 3, 0)
    rows = torch.arange(len(index)).numpy()
    rule = created.preprocessing
    reader = EvalReader(index, preprocessing=rule, batch_size=BATCH, workers=0, max_pixels=10**6)

    def metrics(folder: Path) -> str:
        told = {}
        for n in (1, 7, 64, 101):
            world = current()
            if world is not None and not world.leads:
                assert world.receive()[0]["do"] == "score"
            some = rows[:n]
            found = score(created.model, reader, some, device=torch.device("cpu"))
            assert (len(found.logits), found.ids.tolist()) == (n, some.tolist())
            logits, targets = found.logits, found.targets
            paths, how = [str(row) for row in some], {"split": "val", "step": 0, "seed": 0, "extra": {}}
            place = folder / str(n)
            scores = write_evaluation(place, paths=paths, targets=targets, logits=logits, classes=index.classes, **how)
            told[n] = [scores, logits.tobytes().hex()]
        return json.dumps(told, sort_keys=True, default=str)

    def work(rank: int) -> None:
        place = tmp_path / f"rank-{rank}"
        place.mkdir()
        if size > 1:
            begin(rank, size)
        (tmp_path / f"told-{rank}").write_text(metrics(place))
        world = current()
        if world is not None:
            world.leave()

    assert ends(start(tmp_path, size, work)) == [0] * size, (tmp_path / "said-0").read_text()
    (tmp_path / "alone").mkdir()
    alone = metrics(tmp_path / "alone")
    assert {(tmp_path / f"told-{rank}").read_text() for rank in range(size)} == {alone}


@pytest.mark.slow
def test_evaluate_shares_a_split_and_says_the_same(tmp_path: Path) -> None:
    assert train(tmp_path, 1) == [0]
    found = set()
    for size in (1, 3):
        line = ["evaluate", "run", "--runs", str(tmp_path / "runs"), "--split", "train", "--no-images"]
        assert ends(start(tmp_path, size, command(line))) == [0] * size, (tmp_path / "said-0").read_text()
        (place,) = (tmp_path / "runs" / "run" / "evaluations").glob("train@*")
        found.add((place / "predictions.csv").read_bytes())
        shutil.rmtree(place)
    assert len(found) == 1


@pytest.mark.slow
def test_a_signal_to_another_rank_ends_an_evaluation(tmp_path: Path) -> None:
    assert train(tmp_path, 1) == [0]

    def before(rank: int) -> None:
        filled = scoring.filled

        def asked(images: torch.Tensor) -> torch.Tensor:
            if rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return filled(images)

        scoring.filled = asked  # type: ignore[attr-defined]

    line = ["evaluate", "run", "--runs", str(tmp_path / "runs"), "--split", "train", "--no-images"]
    assert ends(start(tmp_path, 2, command(line, before))) == [143, 143]
    assert not [*(tmp_path / "runs" / "run" / "evaluations").glob("train@*")]


@pytest.mark.slow
def test_torchrun_itself_starts_a_run_and_an_update_that_fails_ends_it(tmp_path: Path) -> None:
    """The real thing, in processes of its own."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    line += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    usual = words(tmp_path, "--smoke")
    done = subprocess.run([*line, "-m", "imgkit", *usual], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "Done in" in done.stderr
    assert len(re.findall("Done in", done.stderr)) == 1
    wrong = words(tmp_path / "wrong", "--smoke", "--batch-size", "7")
    done = subprocess.run([*line, "-m", "imgkit", *wrong], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode != 0
    assert "2 processes cannot share a batch of 7 images equally" in done.stderr


def test_a_script_that_torchrun_starts_is_told_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"started this 2 times.*\n.*-m imgkit finetune MODEL --name NAME"):
        finetune("test_resnet", data="synthetic:3x16", out=tmp_path)
    with pytest.raises(UsageError, match="started this 2 times"):
        resume("run", out=tmp_path)
