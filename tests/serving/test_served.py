import json
from pathlib import Path

import pytest
from oracle import short_run

from imgkit import Run
from imgkit.caution import Wish
from imgkit.errors import UsageError
from imgkit.prediction_rows import json_row
from imgkit.serving.served import Served


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("served")
        patch.setenv("IMGKIT_CACHE", str(place / "cache"))
        return short_run(place, "phases.top.steps=1", "phases.all.epochs=1", data="synthetic:3x30")


def files(run: Run) -> list[Path]:
    data = Path(run.folder.read_json("run.json")["data"]["root"])
    return sorted(data.rglob("*.png"))[::7]


@pytest.mark.parametrize("wish", [Wish(), Wish(reject_at=0.5), Wish(conformal=0.8), Wish(target_accuracy=0.05)])
def test_a_run_answers_as_predict_does(run: Run, wish: Wish) -> None:
    served = Served.of(run.folder, wish=wish)
    assert served.health()["model"] == "test_resnet.r160_in1k"
    found = files(run)
    assert len(found) > 8
    predicted = run.predict(found, top_k=2, precision="float32", **wish._asdict())
    for path, expected in zip(found, predicted, strict=True):
        probs = served.probabilities([served.pixels(path.read_bytes(), str(path))])[0]
        row, wanted = (
            json.loads(json.dumps(one)) for one in (served.row(str(path), probs, 2), json_row(expected, wish.columns))
        )
        assert [one["prob"] for one in row.pop("top")] == pytest.approx(
            [one["prob"] for one in wanted.pop("top")], abs=2e-5
        )
        assert row.pop("prob") == pytest.approx(wanted.pop("prob"), abs=2e-5)
        assert row == wanted


def test_a_wish_that_cannot_be_granted_is_told_before_anything_is_answered(run: Run) -> None:
    with pytest.raises(UsageError, match="leaves nothing open"):
        Served.of(run.folder, wish=Wish(reject_at=0.1))
    with pytest.raises(UsageError, match="between 0 and 1"):
        Served.of(run.folder, wish=Wish(conformal=80))
