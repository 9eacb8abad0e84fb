"""The functions of Python: what they refuse, and what they take."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from oracle import SHORT, short_run, write_recipe

import imgkit
from imgkit import api
from imgkit.errors import DataError, UsageError
from imgkit.models.names import resolve_name
from imgkit.screen import Screen


def test_a_misspelt_option_is_no_silence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no option 'epoch'; did you mean 'epochs'") as caught:
        imgkit.finetune("test_resnet", data="digits", epoch=3, out=tmp_path)  # type: ignore[call-arg]
    assert 'sets=["train.batch_size=8"]' in caught.value.hint


def test_a_single_input_is_one_file_not_its_letters(tmp_path: Path) -> None:
    run = short_run(tmp_path)
    (answer,) = run.predict(str(tmp_path / "gone.png"))
    assert (answer.path, answer.error) == (str(tmp_path / "gone.png"), "No such file or directory")
    (answer,) = run.predict(tmp_path / "gone.png")
    assert answer.error


def test_scratch_takes_random_weights_whatever_the_recipe(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, SHORT.replace('weights = "none"', ""))
    file = io.StringIO()
    api.show_plan(
        "scratch", "test_resnet", recipe=recipe, data="synthetic:3x16", screen=Screen(file=file, width=200)
    )  # without a network, pretrained weights would be an error
    assert "random weights" in file.getvalue()
    with pytest.raises(UsageError, match='is "none" by imgkit scratch and "auto" by --set'):
        api.show_plan("scratch", "test_resnet", recipe=recipe, data="synthetic:3x16", sets=["model.weights=auto"])


def test_a_missing_folder_is_told_before_torch_is_imported() -> None:
    script = (
        "import sys, imgkit\n"
        "from imgkit import api\n"
        "for verb in ((imgkit.finetune,), (api.show_plan, 'finetune')):\n"
        "    try:\n        verb[0](*verb[1:], 'resnet50', recipe='finetune', data='no-such-folder')\n"
        "    except imgkit.ImgkitError:\n        print('torch' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\nFalse\n"


def test_a_misspelt_model_is_told_before_torch_is_imported() -> None:
    resolve_name("resnet50")  # keeps the names
    script = (
        "import sys, imgkit\n"
        "try:\n    imgkit.finetune('resnet5O', data='digits')\n"
        "except imgkit.ImgkitError as error:\n    print(error.message, 'torch' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("Unknown model 'resnet5O'. Did you mean resnet50")
    assert found.stdout.endswith("False\n")


def test_a_misspelt_model_is_told_before_the_images_are_read(tmp_path: Path) -> None:
    broken = tmp_path / "pictures" / "cat"
    broken.mkdir(parents=True)
    (broken / "a.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="Unknown model 'resnet5O'"):
        imgkit.finetune("resnet5O", data=tmp_path / "pictures", out=tmp_path)
    with pytest.raises(DataError):
        imgkit.finetune("resnet50", data=tmp_path / "pictures", out=tmp_path)
