import io
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run
from sample_runs import metrics_of, write_run

from imgkit.cli import look
from imgkit.cli.look import gap, weakest_classes
from imgkit.errors import DiskError
from imgkit.screen import Screen

pytest_plugins = ["cli_fixture"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs", "one", f1=0.8)
    (tmp_path / "runs" / "latest").write_text("one\n")
    return tmp_path / "runs"


def test_evaluate_prints_scores_and_the_weakest_classes(
    imgkit: Run, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def evaluate(_: object, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        asked.update(options)
        return metrics_of("val", 0.9, 0.8) | {"folder": str(runs / "one" / "evaluations" / "val@10"), "k": 2}

    monkeypatch.setattr("imgkit.api.Run.evaluate", evaluate)
    code, out, _ = imgkit("evaluate", "latest", "--split", "val", "--data", "pets")
    assert code == 0
    assert (asked["split"], asked["data"].path, asked["device"], asked["images"]) == ("val", "pets", "auto", True)
    assert imgkit("evaluate", "latest", "--data", "pets", "--device", "cpu", "--no-images")[0] == 0
    assert (asked["device"], asked["images"]) == ("cpu", False)
    lines = [line.split() for line in out.splitlines()]
    assert ["Top-1", "90.0", "%", "(95", "%", "interval", "85.0", "to", "92.0)"] in lines
    assert ["Macro", "F1", "80.0", "%", "(95", "%", "interval", "74.0", "to", "83.0)"] in lines
    assert ["Top-2", "100.0", "%", "(there", "are", "only", "2", "classes)"] in lines
    assert "Guessing always answering 'cat' gives top-1 40.0 % · macro F1 19.0 %" in " ".join(out.split())
    weakest = [line[0] for line in lines if "F1" in line and "images" in line and "most" in line]
    assert weakest == ["dog", "cat"]  # eel has no image
    assert out.rstrip().endswith("evaluations/val@10/")


def test_a_handful_of_images_has_no_interval(imgkit: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = metrics_of("val", 0.9, 0.8, n=10) | {"folder": str(runs / "one" / "evaluations" / "val@10")}
    found["intervals"]["f1_macro"] = None
    monkeypatch.setattr("imgkit.api.Run.evaluate", lambda *_, **__: found)
    out = imgkit("evaluate", "latest", "--data", "pets")[1]
    assert "Macro F1   80.0 %  (too few images or mistakes for an interval)" in out


def weakest(tmp_path: Path, name: str) -> list[str]:
    (tmp_path / "per_class.csv").write_text(
        f"class,support,f1,most_confused_with\n{name},1,0.1,eel of the deep and cold sea\nzero,8,0.5,\n",
        encoding="utf-8",
    )
    file = io.StringIO()
    look._print_weakest(tmp_path / "per_class.csv", "class", Screen(file=file, width=66))
    return file.getvalue().splitlines()[2:]


def test_what_a_weak_class_is_taken_for_stands_under_its_numbers(tmp_path: Path) -> None:
    first, wrapped, second = weakest(tmp_path, "vier 🐱")
    assert first.startswith("  vier 🐱  F1 10.0 %  1 image  most often taken for eel")
    assert wrapped.startswith(" " * 11), "beside no class"
    assert wrapped[11] != " "
    assert second == "  zero     F1 50.0 %  8 images"


def test_a_class_with_a_long_name_leaves_room_for_its_numbers(tmp_path: Path) -> None:
    lines = weakest(tmp_path, "a class with a name that is longer than half of the screen")
    assert max(map(len, lines)) <= 66
    assert len(lines) < 6


def test_weakest_classes_of_a_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot be read"):
        weakest_classes(tmp_path / "per_class.csv")
    (tmp_path / "per_class.csv").write_text("class,support,f1\na,many,0.1\n")
    with pytest.raises(DiskError, match=r"Remove .* and score again: imgkit evaluate"):
        weakest_classes(tmp_path / "per_class.csv")


def test_recipes_are_listed_and_printed(imgkit: Run) -> None:
    from imgkit.recipe.load import shipped_recipes

    code, out, _ = imgkit("recipes")
    assert code == 0
    for name, file in shipped_recipes().items():
        assert name in out
        assert imgkit("recipes", name) == (0, file.read_text(), "")
    code, _, err = imgkit("recipes", "finetun")
    assert code == 2
    assert "did you mean 'finetune'?" in err


def test_models(imgkit: Run) -> None:
    code, out, _ = imgkit("models", "test_resnet")
    assert code == 0
    assert out.split()[:6] == ["model", "params", "MiB", "input", "licence", "weights"]
    row = next(line for line in out.splitlines() if line.startswith("test_resnet "))
    assert "0.5 M" in row
    assert "160×160" in row
    assert imgkit("models", "nothing-like-it")[0] == 2
    code, out, _ = imgkit("models")
    assert code == 0
    assert "resnet50" in out


def test_cached_models(imgkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgkit.models.weights import WeightSource

    def find(name: str) -> WeightSource | None:
        return WeightSource("cache", "somewhere", "mit", None) if name == "test_resnet" else None

    monkeypatch.setattr("imgkit.models.weights.find_local", find)
    code, out, _ = imgkit("models", "--cached")
    assert code == 0
    assert out.splitlines()[1].split() == ["test_resnet", "mit", "somewhere"]
    monkeypatch.setattr("imgkit.models.weights.find_local", lambda name: None)
    assert imgkit("models", "test_resnet", "--cached")[1] == "No weights of these models are on this machine.\n"


def test_the_gap_between_seen_and_unseen_images() -> None:
    seen, unseen = metrics_of("train", 0.99, 0.95), metrics_of("test", 0.9, 0.8)
    assert gap({"test@10": unseen}, 10, "one") == "between seen and unseen images:  imgkit evaluate one --split train"
    said = gap({"train@10": seen, "val@10": metrics_of("val", 0.9, 0.9), "test@10": unseen}, 10, "one")
    assert said == "macro F1 95.0 % on train (seen), 80.0 % on test (unseen): 15.0 points"


def test_what_to_type_for_the_gap_names_the_plugins(imgkit: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, object]] = []

    def evaluate(run: object, **how: object) -> dict[str, object]:
        given.append(how)
        return metrics_of("val", 0.9, 0.9) | {"folder": str(runs), "step": 10}

    monkeypatch.setattr("imgkit.api.Run.evaluate", evaluate)
    monkeypatch.setattr("imgkit.cli.look.print_metrics", lambda *_: None)
    monkeypatch.setattr("imgkit.plugin_files.plugin_words", lambda folder: " --plugin my.py")
    out = imgkit("evaluate", "latest", "--root", "moved")[1]
    assert "imgkit evaluate one --plugin my.py --split " in out
    assert given[0]["root"] == "moved"


@pytest.mark.parametrize("flag", ["--label-col", "--split-col"])
def test_columns_of_other_data_need_other_data(imgkit: Run, runs: Path, flag: str) -> None:
    code, _, err = imgkit("evaluate", "latest", flag, "kind")
    assert code == 2
    assert f"{flag} is not used" in err


def test_recipes_stand_in_columns(imgkit: Run) -> None:
    from imgkit.recipe.load import recipe_summary, shipped_recipes

    out = imgkit("recipes")[1]
    starts = {
        line.index(recipe_summary(file).removeprefix(f"{name}: ").split()[0], len(name))
        for name, file in shipped_recipes().items()
        for line in out.splitlines()
        if line.split(" ")[0] == name
    }
    assert len(starts) == 1


def test_models_by_another_spelling_and_with_a_typo(imgkit: Run) -> None:
    code, out, _ = imgkit("models", "ViT-Ti/16")
    assert code == 0
    assert "vit_tiny_patch16_224" in out
    code, _, err = imgkit("models", "test_resnt")
    assert code == 2
    assert "Did you mean test_resnet" in err
