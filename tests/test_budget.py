"""Limits on a network: what is counted, what is said, what would fit; before training and on the written file."""

from pathlib import Path

import pytest
import timm
import torch
from cli_run import Run
from oracle import short_run, write_recipe
from torch import nn

import imgkit
from imgkit import budget
from imgkit.budget import check, check_file, latency_ms, measure
from imgkit.errors import GateError
from imgkit.recipe.load import Flag, Loaded, load_recipe

pytest_plugins = ["cli_fixture"]
CPU = torch.device("cpu")


def loaded(model: str, *sets: str, **flags: tuple[str, str]) -> Loaded:
    given = {"model.name": Flag("MODEL", model)}
    given |= {f"budget.{key}": Flag(flag, value) for key, (flag, value) in flags.items()}
    return load_recipe("scratch", flags=given, sets=sets)


def line(model: str, classes: int, **options: object) -> str:
    """What is said of a network that fits: its parameters and size, counted here tensor by tensor."""
    with torch.device("meta"):
        network = timm.create_model(model, num_classes=classes, **options)
    millions = sum(weight.numel() for weight in network.parameters()) / 1e6
    megabytes = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()) / 1e6
    return f"{millions:.2f} M parameters, {megabytes:.2f} MB"


def gate(
    model: str, classes: int, *sets: str, options: dict[str, object] | None = None, **flags: tuple[str, str]
) -> None:
    """Look at a network on the meta device."""
    recipe = loaded(model, *sets, **flags)
    with torch.device("meta"):
        network = timm.create_model(model, num_classes=classes, **(options or {}))
    limits = measure(network, recipe, size=(224, 224), device=CPU, machine="a processor")
    check(limits, name=f"{model}.tag", loaded=recipe, classes=classes)


def test_a_resnet_50_is_within_100_mebibytes_and_over_100_megabytes() -> None:
    gate("resnet50", 1000, size=("--max-size", "100MiB"))
    gate("resnet50", 1000, size=("--max-size", "103MB"))
    with pytest.raises(GateError) as caught:
        gate("resnet50", 1000, size=("--max-size", "100MB"))
    assert caught.value.exit_code == 8
    assert caught.value.message == (
        "resnet50 with 1,000 classes: 102.44 MB (parameters and buffers, float32), over the limit of 100MB (--max-size)"
    )
    assert caught.value.hint.splitlines() == [
        "Smaller, and within the limits:",
        *(f"  {name}  {line(name, 1000)}" for name in ("resnet34", "resnet26", "resnet18")),
        "In half precision it would be 51.22 MB; imgkit counts and writes float32.",
        "It is 97.70 MiB: within 100MiB, if that was meant:  --max-size 100MiB",
        "Without the limit:  --max-size none",
    ]


def test_the_limit_itself_is_within() -> None:
    gate("resnet50", 1000, "budget.size=102_441.032kB")
    with pytest.raises(GateError, match=r"over the limit of 102_441\.031kB \(--set\)"):
        gate("resnet50", 1000, "budget.size=102_441.031kB")


def test_the_gated_resnet_has_a_limit_of_its_own() -> None:
    for placement in ("blocks", "stages", "stem+stages"):
        gate("cbam_resnet50", 100, options={"placement": placement})
    with pytest.raises(GateError) as caught:
        gate("cbam_resnet50", 1000)
    assert caught.value.message == (
        "cbam_resnet50 with 1,000 classes: 103.70 MB (parameters and buffers, float32), over the limit of 100MB "
        "(the network's own)"
    )
    hint = caught.value.hint.splitlines()
    assert hint[:2] == ["Smaller, and within the limits:", f"  cbam_resnet18  {line('cbam_resnet18', 1000)}"]
    assert hint[-1] == "Without the limit:  --max-size none"
    gate("cbam_resnet50", 1000, size=("--max-size", "none"))
    gate("cbam_resnet50", 1000, size=("--max-size", "104MB"))
    with pytest.raises(GateError, match="over the limit of 90MiB"):
        gate("cbam_resnet50", 100, size=("--max-size", "90MiB"))


def test_its_own_options_are_offered_where_they_are_enough() -> None:
    with pytest.raises(GateError) as caught:
        gate("cbam_resnet50", 100, "budget.size=95.8MB")
    hint = caught.value.hint
    for key, value, shown in (("reduction", 256, "256"), ("placement", "stages", '"stages"')):
        words = line("cbam_resnet50", 100, **{key: value})
        assert f"  --set model.options.{key}={shown}  {words}" in hint.splitlines()
    gate("cbam_resnet50", 100, "budget.size=95.8MB", options={"reduction": 256})
    gate("cbam_resnet50", 100, "budget.size=95.8MB", options={"placement": "stages"})


def test_parameters_alone() -> None:
    gate("resnet50", 1000, params=("--max-params", "25_557_032"))
    with pytest.raises(GateError) as caught:
        gate("resnet50", 1000, params=("--max-params", "25M"))
    assert caught.value.message == (
        "resnet50 with 1,000 classes: 25,557,032 parameters, over the limit of 25M (--max-params)"
    )
    assert f"  resnet34  {line('resnet34', 1000)}" in caught.value.hint
    assert "half precision" not in caught.value.hint
    assert caught.value.hint.endswith("Without the limit: leave out --max-params")


def test_what_fits_fits_every_limit() -> None:
    with pytest.raises(GateError) as caught:
        gate("resnet50", 1000, params=("--max-params", "20M"), size=("--max-size", "50MB"))
    assert len(caught.value.message.splitlines()) == 2
    named = [line.split()[0] for line in caught.value.hint.splitlines() if line.startswith("  ")]
    assert named == ["resnet18"]
    with pytest.raises(GateError) as caught:
        gate("resnet50", 1000, size=("--max-size", "1MB"))
    assert "No network of its family is small enough; all of them with their sizes:  imgkit models" in caught.value.hint
    assert "half precision" not in caught.value.hint
    assert "if that was meant" not in caught.value.hint


def test_what_fits_has_the_same_head() -> None:
    recipe = loaded("vgg19_bn", "model.image_size=64", "model.head=pool2-mlp:64", "budget.params=9.4M")
    with torch.device("meta"):
        network = timm.create_model("vgg19_bn", num_classes=5)
    with pytest.raises(GateError) as caught:
        check(
            measure(network, recipe, size=(64, 64), device=CPU, machine=""), name="vgg19_bn", loaded=recipe, classes=5
        )
    trunk = 9_220_480 + 5_504  # VGG-11's convolutions and norms, without the two layers of 4096
    (named,) = [one for one in caught.value.hint.splitlines() if one.startswith("  ")]
    assert named.startswith(f"  vgg11_bn  {(trunk + 512 * 4 * 64 + 64 + 64 * 5 + 5) / 1e6:.2f} M parameters")


# --- latency


class Slow(nn.Module):
    """Each pass takes as long as the next number says, on a clock of its own."""

    def __init__(self, clock: list[float], seconds: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.clock, self.seconds = clock, list(seconds)
        self.modes: set[tuple[bool, bool]] = set()
        self.shapes: set[tuple[int, ...]] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.modes.add((self.training, torch.is_inference_mode_enabled()))
        self.shapes.add(tuple(images.shape))
        self.clock[0] += self.seconds.pop(0)
        return images.mean((2, 3))


def test_latency_is_the_median_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(budget.time, "perf_counter", lambda: clock[0])
    model = Slow(clock, [9.0, 8.0, 7.0, 0.02, 0.5, 0.02, 0.02, 0.03, 0.01, 0.02, 0.03, 0.4])
    model.train()
    assert latency_ms(model, (3, 20, 30), CPU) == pytest.approx(20.0)
    assert model.seconds == []
    assert (model.modes, model.shapes, model.training) == ({(False, True)}, {(1, 3, 20, 30)}, True)


def test_a_network_that_reads_greys_is_timed_on_a_grey_image() -> None:
    model = timm.create_model("test_resnet", in_chans=1)
    recipe = loaded("test_resnet", "model.in_chans=1", latency=("--max-latency", "900s"))
    (limit,) = measure(model, recipe, size=(32, 32), device=CPU, machine="a processor")
    assert 0 < limit.found < limit.most


def test_a_slow_network_is_told_with_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "latency_ms", lambda *_: 31.25)
    gate("resnet50", 10, latency=("--max-latency", "32ms"))
    with pytest.raises(GateError) as caught:
        gate("resnet50", 10, latency=("--max-latency", "20ms"))
    assert caught.value.message == (
        "resnet50 with 10 classes: 31.2 ms for one image on a processor (median of 9), over the limit of 20ms "
        "(--max-latency)"
    )
    assert caught.value.hint.splitlines()[:2] == ["Smaller, not timed:", f"  resnet34  {line('resnet34', 10)}"]
    assert caught.value.hint.endswith("Without the limit: leave out --max-latency")


def test_no_limit_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "latency_ms", lambda *_: pytest.fail("is timed"))
    recipe = loaded("test_resnet")
    assert measure(timm.create_model("test_resnet"), recipe, size=(32, 32), device=CPU, machine="") == []


# --- runs


def test_limits_on_a_command(imgkit: Run, tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=2)
    count = sum(weight.numel() for weight in network.parameters())
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    base = ["scratch", "test_resnet", "--data", "synthetic:2x8", "--image-size", "32", "--out", str(tmp_path / "runs")]
    for flag, value, told in (
        ("--max-size", "100kB", f"test_resnet with 2 classes: {size / 1000:,.2f} kB (parameters and buffers"),
        ("--max-params", "100k", f"test_resnet with 2 classes: {count:,} parameters, over the limit of 100k"),
        ("--max-latency", "0.0001ms", "for one image on"),
    ):
        code, out, err = imgkit(*base, flag, value)
        assert (code, out) == (8, "")
        assert told in " ".join(err.split())
        assert "Traceback" not in err
        assert not (tmp_path / "runs").exists(), "before the run's folder"
    code, _, err = imgkit(*base, "--max-size", "100", "--dry-run")
    assert code == 2
    assert "'100' has no unit" in " ".join(err.split())
    code, _, err = imgkit(*base, "--max-size", "2MB", "--max-params", "1M", "--max-latency", "60s", "--dry-run")
    assert code == 0
    said = " ".join(err.split())
    assert f"{size / 1e6:.2f} MB (parameters and buffers, float32): within 2MB (--max-size)" in said
    assert f"{count:,} parameters: within 1M (--max-params)" in said
    assert "(median of 9): within 60s (--max-latency)" in said


def test_a_run_keeps_its_limits_and_measures_the_written_file(tmp_path: Path) -> None:
    run = short_run(tmp_path, "budget.size=2MB", "budget.latency=60s", "phases.all.epochs=1")
    found = run.folder.read_json("run.json")["budget"]
    written = (run.folder.path / "model" / "model.safetensors").stat().st_size
    size = found["size"]
    assert set(found) == {"size", "latency"}
    assert (size["limit"], size["origin"], size["most"]) == ("2MB", "--set", 2_000_000)
    assert size["counted"] == "parameters and buffers, float32"
    assert size["found"] < size["file_bytes"] == written < size["found"] + 60_000
    assert found["latency"]["device"] == run.folder.read_json("run.json")["machine"]
    assert found["latency"]["found"] > 0


def test_a_written_file_over_the_limit_ends_the_run_with_its_model(tmp_path: Path) -> None:
    plain = short_run(tmp_path, "phases.all.epochs=1", name="plain")
    counted = budget.weigh(timm.create_model("test_resnet", num_classes=3)).size_bytes
    with pytest.raises(GateError, match=r"model\.safetensors takes .* over the limit of .*kB \(--set\)") as caught:
        short_run(tmp_path, f"budget.size={(counted + 100) / 1000:.3f}kB", "phases.all.epochs=1", name="over")
    assert "the list of their names comes on top" in caught.value.message
    run = imgkit.open_run("over", tmp_path / "runs")
    status = run.folder.read_json("status.json")
    assert (status["state"], status["reason"]) == ("failed", caught.value.message)
    assert run.folder.has_model
    assert run.metrics.keys() == plain.metrics.keys(), "all else is done"
    with pytest.raises(GateError, match="over the limit"):
        imgkit.resume("over", out=tmp_path / "runs")


def test_a_file_within_the_limit_is_fine(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(1000))
    limit = {"limit": "1kB", "most": 1000, "origin": "file my.toml", "words": "0.90 kB (…)"}
    check_file(limit, file)
    file.write_bytes(bytes(1001))
    with pytest.raises(GateError, match=r"takes 1\.00 kB, over the limit of 1kB \(file my\.toml\)"):
        check_file(limit, file)


def test_in_python_too(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"over the limit of 10kB \(max_size=\)"):
        imgkit.scratch(
            "test_resnet", recipe=write_recipe(tmp_path), data="synthetic:3x16", max_size="10kB", out=tmp_path / "runs"
        )
    assert not (tmp_path / "runs").exists()
