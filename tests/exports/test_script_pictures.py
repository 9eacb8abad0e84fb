"""Pictures as the stand-alone script is given them: files of their own, of shards too."""

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from corpus import encoded
from exported_run import trained
from pictures import square

from imgkit.data.pack import pack
from imgkit.errors import BadImage
from imgkit.exports.proof import by_the_script
from imgkit.recipe.schema import DataSettings

SCRIPT = """
from pathlib import Path
import numpy as np

class Model:
    def __init__(self, folder, threads): pass
    def pixels(self, path):
        with open(path, "rb") as file: content = file.read()
        return np.frombuffer(Path(path).suffix.encode() + b" " + content, dtype=np.uint8)[None]
    def logits(self, pixels): return pixels.sum(axis=1, keepdims=True).astype(np.float32)
"""


@pytest.fixture
def export(tmp_path: Path) -> Path:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "predict_onnx.py").write_text(SCRIPT)
    return tmp_path / "export"


def test_a_picture_of_a_shard_is_given_as_a_file(tmp_path: Path, export: Path) -> None:
    content = encoded(square(0), "JPEG")
    (tmp_path / "plain.jpg").write_bytes(content)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        about = tarfile.TarInfo("cat/1.jpg")
        about.size = len(content)
        archive.addfile(about, io.BytesIO(content))
    ask = by_the_script(export, 1)
    for path in ("plain.jpg", f"x.tar#000000000512+{len(content)}/cat/1.jpg"):
        pixels, _ = ask(str(tmp_path / path))
        assert pixels is not None
        assert pixels.tobytes() == b".jpg " + content
    assert [file.name for file in export.iterdir()] == ["predict_onnx.py"]


@pytest.mark.parametrize("path", ["gone.png", "gone.tar#000000000512+9/cat/1.jpg", "short.tar#000000000512+9/1.jpg"])
def test_what_cannot_be_read_is_told_of_the_picture(tmp_path: Path, export: Path, path: str) -> None:
    (tmp_path / "short.tar").write_bytes(bytes(515))
    with pytest.raises(BadImage, match=re.escape(path) + ": (No such file|its shard ends)"):
        by_the_script(export, 1)(str(tmp_path / path))


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "onnx-int8"])
def test_a_run_on_shards_is_exported(tmp_path: Path, to: str) -> None:
    pytest.importorskip("onnx")
    pack(DataSettings(path="synthetic:3x16", val=0.0), tmp_path / "shards", 20_000)
    run = trained(tmp_path, data=str(tmp_path / "shards"))
    done = run.export(to, **({"max_drop": 100.0} if to == "onnx-int8" else {}))
    assert done["from_files"]["same_pixels"] == done["n"] > 0
    assert np.isfinite(done["from_files"]["max_abs_logit"])
