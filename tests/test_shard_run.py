"""A run on shards has the bits of a run on the files they were packed from, and goes on where it was stopped."""

from pathlib import Path

import pytest
import torch
from oracle import fingerprint, short_run

from imgkit import ImgkitError, Run, checkpoint, resume
from imgkit.data.pack import pack
from imgkit.errors import DataError
from imgkit.evaluate import check_files, read_index
from imgkit.recipe.schema import DataSettings

pytest.importorskip("pyarrow")


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "cache"))
    pack(DataSettings(path="synthetic:3x16", val=0.0), tmp_path / "shards", 20_000)
    return tmp_path / "shards"


def learned(run: Run) -> tuple[dict[str, torch.Tensor], list[dict[str, object]]]:
    """Weights, averages and optimizer of a run, and its scores; not its data's fingerprint, which has the paths."""
    found = checkpoint.load(run.folder.path / "checkpoints", lambda text: None)
    assert found is not None
    history = found.state["progress"]["history"]
    scores = [{key: value for key, value in row.items() if "second" not in key} for row in history]
    return {**found.model, **{f"train/{name}": value for name, value in found.train.items()}}, scores


@pytest.mark.slow
def test_shards_train_and_resume_like_files(tmp_path: Path, packed: Path) -> None:
    assert len(list(packed.glob("*.tar"))) > 2
    shards = short_run(tmp_path / "shards-run", data=str(packed), workers=2)
    (of_files, told), (of_shards, their) = map(learned, (short_run(tmp_path / "files"), shards))
    assert told == their
    assert all(torch.equal(of_files[name], of_shards[name]) for name in of_files | of_shards)
    expected = fingerprint(shards)
    url = short_run(tmp_path / "url", data=f"file://{packed}/shard-*.tar")
    assert fingerprint(url) == expected
    about = url.folder.read_json("run.json")["data"]
    assert about["root"] == f"file://{packed}"

    def stop(point: str) -> None:
        if point == "before prune":
            raise ImgkitError("stop")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "reached", stop)
        with pytest.raises(ImgkitError, match="stop"):
            short_run(tmp_path / "stopped", data=str(packed))
    assert fingerprint(resume("run", out=tmp_path / "stopped" / "runs")) == expected


@pytest.mark.slow
def test_a_shard_that_changed_is_found_out(tmp_path: Path, packed: Path) -> None:
    run = short_run(tmp_path / "run", data=str(packed))
    index = read_index(run.folder, run.folder.read_json("run.json"))
    check_files(index)
    shard = packed / "shard-00000.tar"
    content = bytearray(shard.read_bytes())
    content[600] ^= 1  # in the first picture
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"shard-00000\.tar#000000000512\+.* has other content, of the same length"):
        check_files(index)
    shard.write_bytes(content[:600])
    with pytest.raises(DataError, match=r"cannot be read \(its shard ends within it\)"):
        check_files(index)
