"""The mistakes that newcomers make, typed at the command line: what each is told, and with which exit code.

Lines are compared without their wrapping. Nothing is trained but in the last two, where it takes two steps.
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_run import Run
from pictures import MakeFolders, square
from PIL import Image
from torch import nn

from imgkit import device, prepare, setup
from imgkit.models import weights

pytest_plugins = ["cli_fixture"]

PLAN = ("--dry-run", "--image-size", "32", "--set", "train.precision=float32")
SMOKE = ("--smoke", "--image-size", "32", "--set", "train.precision=float32", "--workers", "0")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def told(imgkit: Run) -> Callable[..., str]:
    """What `imgkit ARGS...` says on stderr, unwrapped, once its exit code is the given one."""

    def run(code: int, *args: str) -> str:
        found, out, err = imgkit(*args)
        assert (found, "Traceback" in err) == (code, False), out + err
        return flat(err)

    return run


Told = Callable[..., str]


def table(name: str, header: str, rows: list[tuple[object, ...]]) -> None:
    with Path(name).open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def test_1_a_wrong_folder(told: Told, make_folders: MakeFolders) -> None:
    Path("data").mkdir()
    make_folders({"cat": 1, "dog": 1}, "data/pets")
    said = told(3, "finetune", "resnet50", "--data", "datta/pets")
    assert said == (
        f"error: Data folder not found: datta/pets Looked in {Path('datta/pets').absolute()}. "
        "There is a folder with a similar name: data/pets Try: --data data/pets imgkit expects data/pets/CLASS/*.jpg "
        "or data/pets/train/CLASS/*.jpg or a CSV file."
    )


def test_1_a_folder_without_images(told: Told) -> None:
    Path("pets").mkdir()
    Path("pets/pets.zip").write_bytes(b"PK")
    assert told(3, "finetune", "resnet50", "--data", "pets").endswith(  # before its missing weights are told
        "error: No images in pets (looked for .jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff, at any depth). "
        "It holds 1 .zip file: unpack pets.zip first."
    )


def test_2_a_class_only_in_val(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"train/Persian": 2, "train/birman": 2, "val/persian": 1}, "pets")
    assert told(3, "finetune", "resnet50", "--data", "pets").endswith(
        "error: val has a class that train does not have: persian (same as 'Persian' but for capitals, spaces or "
        "accents?) Rename it in pets/val/, or give the training images alone, and imgkit splits them: --train "
        "pets/train"
    )


def test_2_a_class_only_in_train_is_a_note(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"train/cat": 3, "train/dog": 3, "val/cat": 2}, "pets")
    said = told(0, "scratch", "test_resnet", "--data", "pets", *PLAN)
    assert "note: 1 class of train has no image in val: dog." in said


def test_3_no_internet_for_weights(told: Told, make_folders: MakeFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(weights, "_answers", lambda endpoint: False)
    monkeypatch.setattr(weights, "installed_networks", lambda: [])
    monkeypatch.setenv("HF_HUB_CACHE", "hub")
    monkeypatch.setenv("TORCH_HOME", "torch")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    make_folders({"cat": 2, "dog": 2}, "pets")
    assert told(4, "finetune", "resnet50", "--data", "pets").endswith(
        "error: Cannot get the pretrained weights of resnet50.a1_in1k (timm/resnet50.a1_in1k): they are not in hub, "
        "and huggingface.co did not answer in 2 s. Choose one, with your other options: "
        "train without them imgkit scratch resnet50.a1_in1k "
        "use a file you have imgkit finetune resnet50.a1_in1k --weights model.safetensors "
        "a network that is here imgkit models --cached "
        "fetch on another machine hf download timm/resnet50.a1_in1k then copy the cache folder "
        "a mirror or proxy set HF_ENDPOINT or HTTPS_PROXY and try again"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_4_no_gpu(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"cat": 2, "dog": 2}, "pets")
    said = told(5, "scratch", "test_resnet", "--data", "pets", "--device", "cuda")
    assert f"error: --device cuda was asked for, but torch {torch.__version__} cannot use it: " in said
    assert said.endswith("Use --device cpu, or install a driver that fits this torch.")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_4_no_gpu_where_none_was_asked_for(
    told: Told, make_folders: MakeFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folders({"cat": 2, "dog": 2}, "pets")
    said = told(0, "scratch", "test_resnet", "--data", "pets", *PLAN)
    assert re.search(r"Machine CPU, 1 thread \([^)]+\) · no GPU found · ", said)
    assert "large for a processor" not in said
    monkeypatch.setattr(setup, "_LARGE", 300_000)
    note = (
        "note: test_resnet.r160_in1k is large for a processor. Quicker: a smaller network, such as "
        "tf_efficientnet_lite0"
    )  # of random weights no head alone is worth training
    assert note in told(0, "scratch", "test_resnet", "--data", "pets", *PLAN)
    said = told(0, "scratch", "test_resnet", "--data", "pets", "--device", "cpu", *PLAN)
    assert ("no GPU found" in said, note in said) == (False, False)


def test_5_a_table_with_a_bad_column(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"cat": 2, "dog": 2}, "pets")
    rows: list[tuple[object, ...]] = [(f"pets/{name}/{n:04d}.png", name, n) for name in ("cat", "dog") for n in (0, 1)]
    table("labels.csv", "picture,breed,n", rows)
    assert told(3, "finetune", "resnet50", "--data", "labels.csv", "--label-col", "bred").endswith(
        "error: labels.csv has no column 'bred'. Columns: picture, breed, n Did you mean --label-col breed ? Give "
        "--image-col as well."
    )
    assert told(3, "finetune", "resnet50", "--data", "labels.csv").endswith(
        "error: labels.csv has no image column (looked for path, image, file, filename, file_name, image_path, "
        "filepath). Columns: picture, breed, n Give --label-col and --image-col."
    )


def test_5_a_table_with_a_missing_image(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"cat": 2, "dog": 2}, "pets")
    names = ["cat/0000.png", "cat/0001.jpg", "dog/0000.png", "dog/0001.png"]
    table("labels.csv", "image,label", [(f"pets/{name}", name[:3]) for name in names])
    assert told(3, "finetune", "resnet50", "--data", "labels.csv").endswith(
        "error: labels.csv: 1 of 4 images do not exist. First: row 3, 'pets/cat/0001.jpg' (there is "
        "'pets/cat/0001.png'). Fix the rows, or pass --on-bad skip to leave them out (they will be listed)."
    )


def test_6_a_checkpoint_of_other_classes(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"cat": 4, "dog": 4, "eel": 4}, "pets")
    make_folders({"cat": 4, "fox": 4}, "wild")
    told(0, "scratch", "test_resnet", "--data", "pets", "--name", "old", *SMOKE)
    assert told(3, "evaluate", "old", "--data", "wild").endswith(
        "error: wild has 1 class that the model does not know: fox + only in the data: fox - only in the model: dog, "
        "eel Rename or leave out these classes; labels are matched by name. Or train a new head for them, on the "
        "weights of this model: imgkit finetune NETWORK --weights RUN/model/model.safetensors --data wild"
    )
    for name in ("runs/old", "runs/old/model"):
        assert told(2, "finetune", name, "--data", "wild") == (
            f"error: '{name}' is a folder of weights, not the name of a network. Name the network, and its weights "
            "apart; it gets a new head for the classes of your data: "
            "imgkit finetune test_resnet --weights runs/old/model/model.safetensors"
        )
    said = told(0, "finetune", "test_resnet", "--weights", "runs/old/model/model.safetensors", "--data", "wild", *PLAN)
    assert "weights: file runs/old/model/model.safetensors · new head for 2 classes" in said


def test_7_a_number_of_classes_that_the_folder_does_not_have(told: Told, make_folders: MakeFolders) -> None:
    make_folders(dict.fromkeys(("cat", "dog", "eel", "fox"), 2), "pets")
    assert told(3, "finetune", "resnet50", "--data", "pets", "--classes", "100").endswith(
        "error: --classes 100, but pets has 4 classes. First: cat, dog, eel ... last: fox Leave out --classes (it is "
        "read from the data) or point --data at the data with 100 classes. One level too deep or too high? pets is 4 "
        f"folders of images; its parent {Path.cwd().name}/ has 1 folder."
    )
    make_folders({"cat": 2, "dog": 2}, "few")
    said = told(3, "finetune", "resnet50", "--data", "few", "--classes", "3")
    assert "error: --classes 3, but few has 2 classes. They are: cat, dog Leave out --classes" in said


def test_8_a_tiny_validation_set(told: Told, make_folders: MakeFolders) -> None:
    make_folders({**{f"train/{name}": 3 for name in "abcd"}, "val/a": 2, "val/b": 2}, "given")
    assert (
        "warning: The validation set has 4 images for 4 classes, and 2 classes have none. Top-1 would be known only to "
        "about ±49 points. A larger one, taken from train: give the training images alone (--train FOLDER, or a table "
        "of them)"
    ) in told(0, "scratch", "test_resnet", "--data", "given", *PLAN)
    make_folders({"cat": 10, "dog": 10}, "pets")
    assert (
        "warning: The validation set has 4 images for 2 classes. Top-1 would be known only to about ±49 points. A "
        "larger one, taken from train: --val 0.4"
    ) in told(0, "scratch", "test_resnet", "--data", "pets", *PLAN)


def test_9_grayscale_images(told: Told) -> None:
    for code, name in enumerate(("cat", "dog")):
        Path("pets", name).mkdir(parents=True)
        for number in range(3):
            square(number, code=code).convert("L").save(Path("pets", name, f"{number}.png"))
    said = told(0, "scratch", "test_resnet", "--data", "pets", *PLAN)
    assert "note: All 6 images are grayscale and are repeated to 3 channels (unless model.in_chans is 1)." in said


def test_10_huge_images(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"cat": 2, "dog": 2}, "pets")
    Image.new("1", (9000, 9000)).save("pets/dog/scan_0001.tif", compression="group4")
    assert told(3, "scratch", "test_resnet", "--data", "pets").endswith(
        "error: 1 of 5 images in pets cannot be used: dog/scan_0001.tif: 9000 x 9000 is 81.0 megapixels, over the "
        "limit of 64 (if you trust it: --max-pixels 81M) Mend or remove them, or pass --on-bad skip to leave them out "
        "(they will be listed)."
    )


@pytest.mark.parametrize(
    ("kind", "why"), [("jpg", "JPEGs are decoded at a fraction of their size"), ("png", "PNG is decoded in full")]
)
def test_10_large_images_are_a_note(told: Told, kind: str, why: str) -> None:
    for code, name in enumerate(("cat", "dog")):
        Path("pets", name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (2400, 1800), (number, 90 * code, 0)).save(Path("pets", name, f"{number}.{kind}"))
    said = told(0, "scratch", "test_resnet", "--data", "pets", *PLAN)
    assert f"note: The images are large; {why}. A long training decodes them once (data.prepared)." in said


def test_11_too_big_a_batch(told: Told, make_folders: MakeFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    # What fits on a GPU is tried in tests/test_device.py; here a machine that runs out above 2 images.
    def check(
        model: nn.Module, on: torch.device, size: tuple[int, int], batch: int, micro: int | None, *_: object
    ) -> None:
        if (micro or batch) > 2:
            raise device.out_of_memory(on, size, batch, micro, 2)

    monkeypatch.setattr(prepare, "check_memory", check)
    make_folders({"cat": 6, "dog": 6}, "pets")
    args = ("scratch", "test_resnet", "--data", "pets", "--batch-size", "8", *PLAN)
    assert told(5, *args).endswith(
        "error: Out of memory on cpu with 8 images of 32×32 at once. "
        "Add --micro-batch 2: the same batch of 8 in smaller parts."
    )
    assert not Path("runs").exists()
    told(0, *args, "--micro-batch", "2")


def test_12_an_unknown_network(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"cat": 2, "dog": 2}, "pets")
    said = told(2, "finetune", "resnet5O", "--data", "pets")
    assert said.partition("error: ")[2].startswith("Unknown model 'resnet5O'. Did you mean resnet50, resnet50")
    assert said.endswith(" models are known: imgkit models resnet")


def test_13_a_class_with_one_image(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"cat": 4, "dog": 4, "eel": 1}, "pets")
    said = told(0, "scratch", "test_resnet", "--data", "pets", *PLAN)
    assert "note: 1 class of train has no image in val: eel." in said
    assert "warning: 1 class has one image in train: eel. Add images, or leave it out." in said


def test_14_labels_that_are_numbers_with_decimals(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"x": 8}, "pets")
    names = [f"pets/x/{number:04d}.png" for number in range(8)]
    args = ("scratch", "test_resnet", "--data", "labels.csv")
    table("labels.csv", "image,age", [(name, f"{0.25 + number:.2f}") for number, name in enumerate(names)])
    assert told(3, *args, "--label-col", "age").endswith(
        "error: labels.csv: column 'age' holds numbers with decimals (0.25, 1.25, 2.25 and 5 more), 8 different ones "
        "in 8 rows. imgkit tells classes apart; it does not predict quantities. Name another column (--label-col "
        "COLUMN), or write a class for each range of the numbers."
    )
    table("labels.csv", "image,label", [(name, f"{number % 2 / 2}") for number, name in enumerate(names)])
    assert (
        "warning: Labels of 'label' are numbers with decimals (0.0, 0.5). Each different one is a class of its own; "
        "that one is near another is not known to the network."
    ) in told(0, *args, *PLAN)
    table("labels.csv", "image,label", [(name, f"{number % 2}.0") for number, name in enumerate(names)])
    note = "note: Labels of 'label' are whole numbers with decimals (0.0, 1.0), kept as names."
    assert note in told(0, *args, *PLAN)
    table("labels.csv", "image,label", [(name, f"{number % 2}") for number, name in enumerate(names)])
    assert "decimals" not in told(0, *args, *PLAN)


def test_15_the_same_image_in_train_and_val(told: Told, make_folders: MakeFolders) -> None:
    make_folders({"train/cat": 3, "train/dog": 3, "val/cat": 2, "val/dog": 2}, "pets")
    Path("pets/val/cat/0000.png").write_bytes(Path("pets/train/cat/0000.png").read_bytes())
    assert (
        "warning: 2 images in 1 group are exact copies in different splits, so scores are too good, for example "
        "train/cat/0000.png = val/cat/0000.png. Keep one of each."
    ) in told(0, "scratch", "test_resnet", "--data", "pets", *PLAN)


def test_16_a_result_no_better_than_chance(told: Told, make_folders: MakeFolders) -> None:
    # Every rule of the closing advice is in tests/test_finish.py.
    make_folders({"cat": 8, "dog": 8}, "pets")
    args = ("--set", "phases.all.lr=1e-9", "--epochs", "1", "--batch-size", "8", "--image-size", "32", "--workers", "0")
    assert (
        "This cannot be told from always answering the largest class. Score on more than 4 images. Check the labels: "
        "imgkit data check. Try ten times the rate."
    ) in told(0, "scratch", "test_resnet", "--data", "pets", "--set", "train.precision=float32", *args)


def test_17_a_loss_that_is_not_a_number(told: Told, make_folders: MakeFolders) -> None:
    # That earlier checkpoints stay whole is in tests/test_experiment.py.
    make_folders({"cat": 8, "dog": 8}, "pets")
    args = ("--lr", "1e30", "--batch-size", "4", "--image-size", "32", "--workers", "0")
    said = told(6, "scratch", "test_resnet", "--data", "pets", "--set", "train.precision=float32", *args)
    assert "error: The loss is nan at step 2 of phase 'all', lr " in said
    assert ", in float32. Images: " in said
    assert said.endswith(". Start again with a tenth of the rate: --set phases.all.lr=1e+29")
    said = told(6, "scratch", "test_resnet", "--data", "pets", "--set", "train.precision=bfloat16", *args)
    assert said.endswith("1e+29, or with more exact numbers: --set train.precision=float32")


def test_the_data_are_looked_at_before_weights_are_fetched(
    told: Told, make_folders: MakeFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(prepare, "find_source", lambda settings: looked.append(settings.name))
    make_folders({"cat": 2}, "pets")
    assert "error: pets has one class only: cat." in told(3, "finetune", "resnet50", "--data", "pets")
    assert looked == []
