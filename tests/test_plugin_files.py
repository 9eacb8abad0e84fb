"""Plugins: the file of the documentation from end to end, under each way to start loaders, and what is told."""

import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_run import Run
from oracle import fingerprint
from pictures import square
from timm.models import _registry

import imgkit.api
from imgkit import plugin_files
from imgkit.data.sources import find_data, read_source
from imgkit.errors import DataError, UsageError
from imgkit.plugin import registered, unregister
from imgkit.plugin_files import load_plugins
from imgkit.recipe.losses import LOSS_TYPES
from imgkit.recipe.schema import DataSettings
from imgkit.run import RunFolder
from imgkit.screen import Screen

pytest_plugins = ["cli_fixture"]

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "my_plugin.py"
OWN = ["--set", "loss.name=tversky", "--set", "loss.alpha=0.3", "--set", "schedule.name=halving"]


def forget() -> None:
    """As in a process that has imported no plugin."""
    for name in list(plugin_files._IMPORTED):
        sys.modules.pop(Path(name).stem, None)
    plugin_files._IMPORTED.clear()
    sys.path[:] = PATH
    names = {kind: set(known) for kind, known in registered().items()}
    unregister({kind: frozenset(names[kind] - BEFORE[kind]) for kind in names})


BEFORE = registered()
PATH = list(sys.path)


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    forget()  # what tests of other files imported
    _registry._model_entrypoints.pop("my_tiny_net", None)  # timm forgets no network
    yield
    forget()


def pictures(tmp_path: Path) -> str:
    (tmp_path / "pics").mkdir()
    for code, label in enumerate(("red", "green")):
        for number in range(8):
            square(number, code=code).save(tmp_path / "pics" / f"{label}_{number}.png")
    return "by_name:pics"


def train(tmp_path: Path, name: str, workers: int = 0) -> imgkit.Run:
    return imgkit.scratch(
        "my_tiny_net",
        plugin=EXAMPLE,
        data="by_name:pics",
        image_size=32,
        epochs=2,
        batch_size=4,
        workers=workers,
        name=name,
        out="runs",
        sets=["loss.name=tversky", "loss.alpha=0.3", "schedule.name=halving", "run.deterministic=true"],
    )


def test_the_example_from_end_to_end(imgkit: Run, tmp_path: Path) -> None:
    data = pictures(tmp_path)
    shutil.copy(EXAMPLE, "my_plugin.py")
    own = ["--plugin", "my_plugin.py"]
    args = ["--data", data, "--image-size", "32", "--epochs", "1", "--workers", "0", "--name", "one", *OWN]
    code, _, err = imgkit("scratch", "my_tiny_net", *own, *args)
    assert code == 0, err
    assert "imgkit predict latest PHOTOS/ --plugin my_plugin.py" in " ".join(err.split())
    assert "timm loads it once the plugin is imported" in " ".join(err.split())
    folder = RunFolder.open("one")
    (entry,) = folder.read_json("run.json")["plugins"]
    assert entry["registers"] == {
        "model": ["my_tiny_net"],
        "loss": ["tversky"],
        "schedule": ["halving"],
        "source": ["by_name"],
    }
    assert (folder.path / "plugins" / "my_plugin.py").read_bytes() == EXAMPLE.read_bytes()
    assert "alpha = 0.3" in (folder.path / "recipe.toml").read_text()

    forget()
    for command in (["evaluate", "one"], ["predict", "one", "pics"], ["resume", "one"]):
        code, _, err = imgkit(*command)
        words = " ".join(err.split())
        assert code == 2, err
        assert f"needs the plugin my_plugin.py (SHA-256 {entry['sha256'][:12]})" in words
        assert f"imgkit {command[0]} one --plugin runs/one/plugins/my_plugin.py" in words
        assert "my_plugin" not in sys.modules, "nothing in a run's folder is executed unasked"
    code, _, err = imgkit("evaluate", "one", "--data", data, *own)
    assert code == 0, err
    forget()
    code, out, err = imgkit("predict", "one", "pics", "--plugin", "runs/one/plugins/my_plugin.py")
    assert code == 0, err
    assert len(out.splitlines()) == 17
    forget()
    for command in (
        ["lr-find", "my_tiny_net", "--recipe", "scratch", "--steps", "10"],
        ["data", "preview", "my_tiny_net"],
        ["data", "prepare", "my_tiny_net"],
    ):
        code, out, err = imgkit(*command, "--data", data, "--image-size", "32", "--set", "loss.name=tversky", *own)
        assert code == 0, err
        forget()
    assert imgkit("data", "check", data, *own)[0] == 0
    code, out, _ = imgkit("models", "my_tiny")
    assert "my_tiny_net" in out

    forget()
    with Path("my_plugin.py").open("a") as file:
        file.write("# other\n")
    code, _, err = imgkit("resume", "one", *own)
    assert (code, "is not the plugin that the run began with" in " ".join(err.split())) == (2, True)
    code, _, err = imgkit("evaluate", "one", *own)
    assert code == 0
    assert "warning" in err
    assert "is not the plugin that the run began with" in " ".join(err.split())


def test_a_run_goes_on_with_its_plugin(tmp_path: Path) -> None:
    pictures(tmp_path)
    whole = train(tmp_path, "whole")
    shutil.copytree("runs/whole", "runs/cut")
    shutil.rmtree("runs/cut/model")
    folder = RunFolder.open("cut")
    steps = sorted((folder.path / "checkpoints").glob("step-*"))
    shutil.rmtree(steps[-1])
    forget()
    cut = imgkit.resume("cut", plugin=EXAMPLE)
    assert fingerprint(cut) == fingerprint(whole)
    Path("more.py").write_text("from imgkit import plugin\n")
    with pytest.raises(UsageError, match=r"--plugin more\.py is not used: cut began without it"):
        imgkit.resume("cut", plugin=[EXAMPLE, "more.py"])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_find_the_plugin(method: str, tmp_path: Path) -> None:
    pictures(tmp_path)
    load_plugins(EXAMPLE)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert [one.label for one in pool.apply(listed, ("pics",))] == ["green"] * 8 + ["red"] * 8


def listed(folder: str) -> list[object]:
    """By the plugin's own function, in a process that was started anew."""
    import my_plugin  # type: ignore[import-not-found]

    return list(my_plugin.by_name(folder))


def test_workers_change_nothing(tmp_path: Path) -> None:
    pictures(tmp_path)
    assert fingerprint(train(tmp_path, "two", workers=1)) == fingerprint(train(tmp_path, "alone"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.py", None, r"There is no plugin gone.py"),
        ("my-own.py", "", r"The plugin my-own.py is no Python module"),
        ("own.txt", "", r"The plugin own.txt is no Python module"),
        ("json.py", "", r"The plugin json.py has the name of another module, json \("),
        ("timm.py", "", r"The plugin timm.py has the name of another module, timm \("),
        ("own.py", "x = 1\ny = 1 / 0\n", r"own.py cannot be imported:\n.*own.py\", line 2(.|\n)*ZeroDivisionError"),
        (
            "own.py",
            "import sys\nsys.exit('bye')\n",
            r"own.py cannot be imported:\n.*own.py\", line 2(.|\n)*SystemExit: bye",
        ),
        ("own.py", "raise SystemExit\n", r"own.py cannot be imported:\n.*own.py\", line 1(.|\n)*SystemExit"),
        ("own.py", "def (\n", r"own.py cannot be imported:\n.*own.py\", line 1(.|\n)*SyntaxError"),
        ("own.py", "import no_such_thing\n", r"ModuleNotFoundError: No module named 'no_such_thing'"),
        (
            "own.py",
            "from imgkit.plugin import register_loss\n@register_loss('focal')\ndef f(): ...\n",
            r"The plugin own.py: there are two loss definitions called 'focal'",
        ),
        (
            "own.py",
            "from imgkit.plugin import register_model\n@register_model\ndef resnet50(): ...\n",
            r"The plugin own.py: there are two networks called 'resnet50'",
        ),
        (
            "own.py",
            "from imgkit.plugin import register_loss\n@register_loss('own')\ndef own(alpha=1): ...\n",
            r"loss 'own': its parameter 'alpha' has no type",
        ),
        (
            "own.py",
            "from imgkit.plugin import register_loss\n@register_loss('own')\ndef own(name: str): ...\n",
            r"loss 'own': its parameter 'name' cannot be a key of a recipe",
        ),
        (
            "own.py",
            "from imgkit.plugin import register_loss, Picture\nclass A: ...\n"
            "@register_loss('own')\ndef own(value: A): ...\n",
            r"loss 'own': its parameters cannot be keys of a recipe",
        ),
        (
            "own.py",
            "from imgkit.plugin import register_source\n@register_source('C')\ndef own(folder): ...\n",
            r"'C' cannot be the name of a source",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        Path(name).write_text(text)
    before = registered(), list(sys.path)
    with pytest.raises(UsageError, match=message):
        load_plugins(name)
    assert (registered() | {"model": None}, sys.path) == (before[0] | {"model": None}, before[1])


def test_a_mended_plugin_is_imported_again(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("my_tiny_net", "mended_net")
    Path("own.py").write_text(text + "\n1 / 0\n")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_plugins("own.py")
    assert "tversky" not in LOSS_TYPES
    Path("own.py").write_text(text)
    assert load_plugins("own.py") == load_plugins(["own.py", "own.py"])
    Path("own.py").write_text(text + "# other\n")
    with pytest.raises(UsageError, match=r"is not the own\.py that this process imported"):
        load_plugins("own.py")


def test_names_and_values_are_checked_as_imgkits_own(imgkit: Run, tmp_path: Path) -> None:
    data = pictures(tmp_path)
    own = ["scratch", "my_tiny_net", "--plugin", str(EXAMPLE), "--data", data, "--dry-run", "--image-size", "32"]
    for args, message in (
        (["--set", "loss.name=tverski"], "did you mean 'tversky'?"),
        (["--set", "loss.name=tversky", "--set", "loss.alfa=1"], "unknown key (did you mean 'alpha'?)"),
        (["--set", "loss.name=tversky", "--set", "loss.alpha=high"], "expected a number, got 'high'"),
        (["--set", "schedule.name=halving", "--set", "schedule.times=0.5"], "expected a whole number"),
        (["--data", "by_nam:pics"], "No source is called 'by_nam' (did you mean 'by_name'?)"),
        (["--label-col", "x"], "data.label_col is for a CSV, but the source 'by_name' reads these data"),
    ):
        code, _, err = imgkit(*own, *args)
        assert code in (2, 3)
        assert message in " ".join(err.split())
    code, _, err = imgkit("scratch", "my_tiny_nat", *own[2:])
    assert "Did you mean my_tiny_net" in err
    code, out, _ = imgkit(*own, *OWN, "--print-recipe")
    Path("mine.toml").write_text(out)
    assert imgkit(*own, "--recipe", "mine.toml")[0] == 0
    forget()
    code, _, err = imgkit("scratch", "resnet18", "--recipe", "mine.toml", "--data", data, "--dry-run")
    assert code == 2
    assert "tversky" in err


def test_a_plugin_that_registers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty_one.py").write_text("")
    plugin_files.use_plugins("empty_one.py", Screen())
    assert "the plugin empty_one.py registers nothing" in capsys.readouterr().err


def source_error(lines: str, argument: str = "pics") -> str:
    Path("bad_source.py").write_text(
        f"from imgkit.plugin import *\n@register_source('bad')\ndef bad(x):\n    {lines}\n"
    )
    load_plugins("bad_source.py")
    with pytest.raises(DataError) as caught:
        imgkit.scratch("test_resnet", data=f"bad:{argument}", image_size=32)
    return str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("return []", "The source 'bad' gives no image for 'pics'"),
        ("yield 'red_0.png'", "image 1 of the source 'bad' is a str"),
        ("yield Picture('red_0.png', 'red'); {}['col']", "the source 'bad' failed: KeyError: 'col'\n"),
        ("yield Picture('red_9.png', 'red')", "names a file that is not there: red_9.png"),
        ("yield Picture('red_0.png', 'red', 'vali')", "is in split 'vali' (did you mean 'val'?)"),
        ("yield Picture('red_0.png', 3)", "image 1 of the source 'bad' has a label that is no text: 3"),
    ],
)
def test_a_source_that_gives_what_it_should_not(lines: str, message: str, tmp_path: Path) -> None:
    pictures(tmp_path)
    assert message in source_error(lines)


def test_pictures_that_lie_elsewhere_are_read_again(tmp_path: Path) -> None:
    """Outside of the folder that the argument means: their own common folder is the root, and a resume finds them."""
    pictures(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    for color in ("red", "green"):
        for file in sorted(Path("pics").glob(f"{color}_*.png"))[:4]:
            shutil.copy(file, tmp_path / "elsewhere")
    Path("far.py").write_text(
        "import pathlib\nfrom imgkit.plugin import *\n"
        "@register_source('far')\ndef far(x):\n"
        "    for file in sorted(pathlib.Path('elsewhere').resolve().glob('*.png')):\n"
        "        yield Picture(str(file), file.name.split('_')[0])\n"
    )
    load_plugins("far.py")
    for argument, root in (("pics", "elsewhere"), ("", "."), ("service://host/cells", "."), ("shards/*.tar", ".")):
        found = read_source(find_data(DataSettings(path=f"far:{argument}")), DataSettings(path=f"far:{argument}"))
        assert found.root == (tmp_path / root).resolve()
        assert len(found.rows) == len(list((tmp_path / "elsewhere").iterdir()))
    run = imgkit.scratch(
        "test_resnet",
        plugin=["far.py"],
        data="far:pics",
        image_size=32,
        epochs=1,
        out=tmp_path / "runs",
        sets=["data.val=0.5"],
    )
    assert Path(run.evaluate(split="train")["folder"]).is_dir()


def test_a_loss_without_mean_and_a_factor_above_one_are_told(tmp_path: Path) -> None:
    pictures(tmp_path)
    Path("wrong.py").write_text(
        "from imgkit.plugin import *\n"
        "@register_loss('rows')\ndef rows():\n    return lambda logits, targets: logits.sum(1)\n"
        "@register_schedule('high')\ndef high():\n    return lambda progress: 2.0\n"
    )
    for key, message in (("loss.name=rows", r"gives \(8,\), not a scalar"), ("schedule.name=high", "gives 2 at")):
        with pytest.raises(UsageError, match=message):
            imgkit.scratch(
                "test_resnet",
                plugin=[EXAMPLE, "wrong.py"],
                data="by_name:pics",
                image_size=32,
                sets=[key, "train.batch_size=8"],
                epochs=1,
            )


def test_imgkits_own_networks_are_no_plugins(tmp_path: Path) -> None:
    Path(tmp_path / "early.py").write_text(
        "import timm\nimport imgkit.models\n@timm.models.register_model\n"
        "def early_net(pretrained=False, num_classes=2, **_):\n    return None\n"
    )
    code = "from imgkit.plugin_files import load_plugins\nprint(load_plugins('early.py')[0].names)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "{'model': ('early_net',)}"
