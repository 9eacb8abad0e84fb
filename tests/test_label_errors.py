"""Labels that are likely wrong: found where they were planted, written as a table that trains."""

import csv
from pathlib import Path

import numpy as np
import pytest
from multilabel_data import write_patches
from pictures import square
from test_trunk import Told

from imgkit.api_features import label_errors
from imgkit.data.load import load_data
from imgkit.errors import DataError, UsageError
from imgkit.label_errors import Judged, judge
from imgkit.recipe.schema import DataSettings

SETS = ["model.weights=none", "model.image_size=32", "run.workers=0"]
WRONG = (7, 20, 33)


def table(folder: Path, *, wrong: tuple[int, ...] = WRONG, names: str = "ab", columns: str = "path,label") -> Path:
    """Pictures of two colours; the labels of some are exchanged."""
    folder.mkdir(parents=True)
    lines = [columns]
    for number in range(40):
        square(number, code=number % 2, side_px=16).save(folder / f"{number:02d}.png")
        label = names[(number + (number in wrong)) % 2]
        lines.append(f"{number:02d}.png,{label}" + f",{number // 2}" * ("group" in columns))
    (folder / "table.csv").write_text("\n".join(lines))
    return folder / "table.csv"


def judged(data: Path | str, out: Path, *sets: str) -> Judged:
    return label_errors("test_resnet", data=data, out=out, sets=[*SETS, *sets], screen=Told())


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_planted_ones_come_first_and_the_table_trains_on_mended_labels(tmp_path: Path) -> None:
    data = table(tmp_path / "data")
    found = judged(data, tmp_path / "out", "data.test=0.2")
    rows = rows_of(tmp_path / "out" / "labels.csv")
    assert {row["path"] for row in rows[:3]} == {f"{number:02d}.png" for number in WRONG}
    assert [int(row["rank"]) for row in rows] == list(range(1, 41))
    assert [row["suspect"] for row in rows] == ["yes"] * 3 + [""] * 37
    assert all(row["label"] == row["given"] for row in rows)
    assert all(row["suggested"] == {"a": "b", "b": "a"}[row["given"]] for row in rows[:3])
    assert "about 3 of 40 labels" in found.estimate
    mended = [{**row, "label": row["suggested"] or row["given"]} for row in rows]
    file = tmp_path / "out" / "labels.csv"
    with file.open("w", newline="") as stream:
        sheet = csv.DictWriter(stream, list(rows[0]))
        sheet.writeheader()
        sheet.writerows(mended)
    before = load_data(DataSettings(path=str(data), test=0.2)).index
    after = load_data(DataSettings(path=str(file), root=str(found.index.root))).index
    assert list(after.paths) == list(before.paths)
    assert after.splits.tolist() == before.splits.tolist(), "mended labels are in the split that they were in"
    assert np.flatnonzero(after.labels() != before.labels()).tolist() == list(WRONG)


def test_the_page_shows_the_suspects_with_their_pictures(tmp_path: Path) -> None:
    judged(table(tmp_path / "data"), tmp_path / "out")
    page = (tmp_path / "out" / "label-errors.html").read_text()
    assert page.count("data:image/webp;base64,") == 3
    assert page.count('class="picture"') == 3
    assert all(f"{number:02d}.png" in page for number in WRONG)
    assert "The number is an estimate." in page


def test_class_weights_count_where_somebody_asked_for_them(tmp_path: Path) -> None:
    data = table(tmp_path / "data")
    text = data.read_text().splitlines()
    data.write_text("\n".join([*text[:20], *text[21::2]]))  # one class has more images
    plain = judged(data, tmp_path / "plain")
    weighed = judged(data, tmp_path / "weighed", "loss.class_weights=inverse")
    same = judged(data, tmp_path / "same", "loss.class_weights=none")
    assert np.array_equal(plain.errors.probs, same.errors.probs)
    assert not np.allclose(plain.errors.probs, weighed.errors.probs)


def test_nothing_wrong(tmp_path: Path) -> None:
    found = judged(table(tmp_path / "data", wrong=()), tmp_path / "out")
    assert found.suspects == []
    assert "No label is suspect." in (tmp_path / "out" / "label-errors.html").read_text()


def alike(groups: np.ndarray) -> list[list[bool]]:
    """Which images belong together, however the groups are numbered."""
    found: list[list[bool]] = (groups[:, None] == groups).tolist()
    return found


def test_groups_stay_together_and_in_the_table(tmp_path: Path) -> None:
    data = table(tmp_path / "data", columns="path,label,group")
    found = judged(data, tmp_path / "out", "data.group_col=group")
    file = tmp_path / "out" / "labels.csv"
    again = load_data(DataSettings(path=str(file), root=str(found.index.root), group_col="group")).index
    assert again.groups is not None
    assert found.index.groups is not None
    assert alike(again.groups) == alike(found.index.groups)


def test_names_that_a_spreadsheet_would_run_lead_to_their_files_and_classes(tmp_path: Path) -> None:
    data = table(tmp_path / "data", names="=@")
    (tmp_path / "data" / "07.png").rename(tmp_path / "data" / "=7.png")
    data.write_text(data.read_text().replace("07.png", "=7.png"))
    found = judged(data, tmp_path / "out")
    file = tmp_path / "out" / "labels.csv"
    assert all(row["path"][0] not in "=@" and row["label"] in {"'=", "'@"} for row in rows_of(file))
    again = load_data(DataSettings(path=str(file), root=str(found.index.root))).index
    assert list(again.paths) == list(found.index.paths)
    assert (again.classes, again.labels().tolist()) == (found.index.classes, found.index.labels().tolist())


def test_a_class_with_a_single_image_is_not_judged_and_stays_in_the_table(tmp_path: Path) -> None:
    data = table(tmp_path / "data")
    data.write_text(data.read_text().replace("02.png,a", "02.png,only"))
    found = judged(data, tmp_path / "out", "data.val=0.3")
    assert found.alone == ("only",)
    rows = rows_of(tmp_path / "out" / "labels.csv")
    assert len(rows) == 40
    assert [row["path"] for row in rows if not row["rank"]] == ["02.png"]
    assert "only: a single image" in (tmp_path / "out" / "label-errors.html").read_text()


def test_a_table_that_is_there_is_not_written_over_and_told_before_any_work(tmp_path: Path) -> None:
    file = table(tmp_path / "data")
    file.rename(tmp_path / "data" / "labels.csv")
    before = (tmp_path / "data" / "labels.csv").read_bytes()
    with pytest.raises(UsageError, match=r"labels\.csv is there already") as caught:
        judged(tmp_path / "data" / "labels.csv", tmp_path / "data")
    assert f"--out {tmp_path / 'data'}-2" in caught.value.hint
    assert (tmp_path / "data" / "labels.csv").read_bytes() == before


def test_sets_of_labels_are_refused(tmp_path: Path) -> None:
    data = write_patches(tmp_path / "patches", n=20)
    with pytest.raises(UsageError, match="one label an image") as caught:
        judged(data, tmp_path / "out", "data.label_delimiter=;")
    assert caught.value.hint.endswith("--label-col COLUMN --task single")
    assert not (tmp_path / "out").exists()


def test_nothing_to_compare(tmp_path: Path) -> None:
    data = table(tmp_path / "data", columns="path,label,group")
    text = data.read_text().splitlines()
    data.write_text(
        "\n".join(
            [f"{text[0]},split"]
            + [
                f"{line.rpartition(',')[0]},{line.split(',')[1]},{'val' if n % 3 else 'train'}"
                for n, line in enumerate(text[1:])
            ]
        )
    )
    with pytest.raises(DataError, match="none can judge another"):
        judged(data, tmp_path / "out", "data.group_col=group")


def test_suspects_are_as_many_as_estimated_and_never_more_than_contradict() -> None:
    probs = np.array([[0.6, 0.4]] * 6 + [[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 3)
    given = np.array([0] * 6 + [0] * 3 + [1] * 3)
    found = judge(probs, given)
    assert found.estimated.sum() == pytest.approx(0.0)
    assert len(found.suspects) == 0
