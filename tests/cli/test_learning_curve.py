from pathlib import Path

from cli_run import Run

pytest_plugins = ["cli_fixture"]

WORDS = ["--data", "synthetic:3x40", "--model", "test_resnet", "--weights", "none", "--workers", "0"]


def test_a_table_and_a_sentence(imgkit: Run, tmp_path: Path) -> None:
    words = ["--image-size", "32", "--seeds", "2", "--set", "data.val=0.3", "--out", str(tmp_path / "out")]
    code, shown, err = imgkit("data", "learning-curve", *WORDS, *words)
    assert code == 0, err
    lines = shown.splitlines()
    assert lines[0].split()[:2] == ["share", "images"]
    assert [line.split()[0] for line in lines[1:7]] == ["10", "20", "40", "60", "80", "100"]
    assert lines[6].split()[2] == "84"
    assert "Judged  36 validation images, 2 draws of each share; test is not looked at" in shown
    assert any(
        word in " ".join(shown.split()) for word in ("Twice the images would bring", "No extrapolation of macro F1")
    )
    assert max(map(len, lines)) <= 80
    assert f"Wrote   {tmp_path}/out/" in " ".join(err.split("\n"))


def test_one_draw(imgkit: Run) -> None:
    code, _, err = imgkit("data", "learning-curve", *WORDS, "--seeds", "1")
    assert code == 2
    assert "--seeds 1: one draw does not tell how far draws differ." in " ".join(err.split())
    assert "--seeds 5" in err


def test_an_output_among_the_pictures_is_refused(imgkit: Run, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    words = ["--model", "test_resnet", "--data", str(tmp_path / "pictures"), "--out", str(tmp_path / "pictures" / "x")]
    code, _, err = imgkit("data", "learning-curve", *words)
    assert code == 2
    assert "which is never written to" in " ".join(err.split())
