from pathlib import Path

import pytest

from imgkit.energy import Meter

RANGE = 262_143_328_850


def zone(root: Path, called: str, name: str, energy: int) -> Path:
    folder = root / called
    folder.mkdir()
    for file, content in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", RANGE)):
        (folder / file).write_text(f"{content}\n")
    return folder / "energy_uj"


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    one, two = (zone(tmp_path, f"intel-rapl:{number}", f"package-{number}", 5_000_000) for number in (0, 1))
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 1),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1),
        zone(tmp_path, "intel-rapl:2", "psys", 1),
    ]
    (tmp_path / "intel-rapl").mkdir()  # the driver itself
    meter = Meter(tmp_path)
    assert meter.joules == 0
    for counter, energy in ((one, 9_500_000), (two, 6_000_000), *((other, 900_000_000) for other in others)):
        counter.write_text(f"{energy}\n")
    assert meter.joules == 0, "up to the last look"
    meter.look()
    meter.look()
    assert meter.joules == 5.5


def test_a_counter_that_begins_anew_is_followed(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_000_000)
    meter = Meter(tmp_path)
    for _ in range(3):
        for energy in (2_000_000, RANGE - 1_000_000):
            counter.write_text(f"{energy}\n")
            meter.look()
    # Three times over the end, and three times back to where it was.
    assert meter.joules == pytest.approx(3 * RANGE / 1e6)


@pytest.mark.parametrize("why", ["no folder", "no zone", "not ours", "no number", "gone"])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "none" if why == "no folder" else tmp_path
    counter = None if why in {"no folder", "no zone"} else zone(root, "intel-rapl:0", "package-0", 5)
    if why == "no number" and counter is not None:
        counter.write_text("")
    if why == "not ours":
        read = Path.read_text

        def refuse(file: Path) -> str:
            if file.name == "energy_uj":
                raise PermissionError(13, "Permission denied")
            return read(file)

        monkeypatch.setattr(Path, "read_text", refuse)
    meter = Meter(root)
    if why == "gone" and counter is not None:
        assert meter.joules == 0
        counter.unlink()
    meter.look()
    meter.look()
    assert meter.joules is None
