"""What is built holds all that is needed: the wheel to run, the source archive to build and test it."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


def files(folder: str) -> set[str]:
    """The files below a folder of the sources, from there."""
    found = (file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(ROOT / folder).as_posix() for file in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(place), versions=["standard"])
    return Path(built)


def test_the_wheel_holds_every_file_of_the_package_and_the_recipes(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"imgkit/{name}" for name in files("imgkit")} | {f"imgkit/_recipes/{name}" for name in files("recipes")}
    assert held == expected
    assert {"imgkit/py.typed", "imgkit/exports/predict_onnx.txt", "imgkit/report/html/page.css"} <= held
    assert {Path(name).suffix for name in held} == {".py", ".typed", ".txt", ".css", ".js", ".j2", ".toml"}


def test_the_wheel_names_its_licence_and_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as held:
        (metadata,) = (name for name in held.namelist() if name.endswith(".dist-info/METADATA"))
        folder, text = metadata.rpartition("/")[0], held.read(metadata).decode()
        assert held.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "License-Expression: Apache-2.0\n" in text
    assert "Requires-Python: >=3.11\n" in text
    assert {"demo", "export", "parquet", "plot", "serve", "sweep"} <= {
        line.removeprefix("Provides-Extra: ") for line in text.splitlines() if line.startswith("Provides-Extra: ")
    }


def test_what_the_wheel_holds_runs_where_the_sources_are_not(wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    script = "import sys, imgkit.cli.app as a; sys.argv = ['imgkit', 'recipes']; print(a.__file__); a.main()"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {script}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert all(file.stem in done.stdout for file in (ROOT / "recipes").glob("*.toml"))


def test_the_source_archive_holds_what_the_tests_read(tmp_path: Path) -> None:
    (built,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(built) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("imgkit", "recipes", "tests", "benchmarks", "docs", ".ci"):
        assert {f"{folder}/{name}" for name in files(folder)} <= held, folder
    alone = {"README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "Makefile", "mkdocs.yml", "pyproject.toml"}
    assert alone | {"constraints.txt", "requirements.lock"} <= held
