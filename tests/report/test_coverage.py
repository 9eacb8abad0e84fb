import csv
import io
from pathlib import Path

import numpy as np
import pytest
from page_runs import make_run
from test_run_page import cells, page, text_of

from imgkit.metrics import wilson
from imgkit.report.coverage import LEVELS, area_words, coverage_chart, coverage_line, coverage_of
from imgkit.report.stored import Answers, stored_of
from imgkit.report.table import print_run
from imgkit.run import RunFolder
from imgkit.screen import Screen
from imgkit.selective import Area


def answers_of(prob: list[float], right: list[bool]) -> Answers:
    codes = np.array([not one for one in right], dtype=np.int64)
    sure = np.array(prob)
    return Answers([f"{row}.png" for row in range(len(prob))], codes, np.zeros_like(codes), sure, sure)


def read(folder: RunFolder) -> tuple[list[float], list[bool]]:
    """Probability of each answer, and whether it is right, of predictions.csv by hand."""
    with (folder.path / "evaluations" / "test@40" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [float(row["prob"]) for row in rows], [row["label"] == row["predicted"] for row in rows]


def test_the_page_says_what_predictions_give(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=200, sure=1.5)
    prob, right = read(folder)
    html = page(folder)
    expected = []
    for level in LEVELS:
        least = sorted(prob, reverse=True)[int(np.ceil(level * 200 - 1e-9)) - 1]
        given = [good for sure, good in zip(prob, right, strict=True) if sure >= least]
        wrong = given.count(False)
        low, high = wilson(wrong, len(given))
        row = [f"{100 * len(given) / 200:.1f}", f"{len(given):,}", f"{least:.4f}", str(wrong)]
        expected.append([*row, f"{100 * wrong / len(given):.1f}", f"{100 * low:.1f} to {100 * high:.1f}"])
    assert cells(html, "coverage")[1:] == expected
    risks = [np.mean([not good for sure, good in zip(prob, right, strict=True) if sure >= own]) for own in prob]
    text = text_of(html)
    assert f"The area under the curve is {100 * np.mean(risks):.1f} % (95 % interval " in text
    assert f"{100 * right.count(False) / 200:.1f} % if sureness told nothing; smaller is better." in text
    assert "<strong>Risk by coverage</strong>" in html
    assert 'href="#coverage"' in html


def test_probabilities_that_agree_are_given_together() -> None:
    found = coverage_of(answers_of([0.9, 0.9, 0.9, 0.4], [True, True, False, False]))
    assert found is not None
    assert [(row.threshold, row.answered, row.wrong, row.risk) for row in found.rows] == [
        (0.4, 4, 2, 0.5),
        (0.9, 3, 1, pytest.approx(1 / 3)),
    ]


def test_what_is_left_when_a_fifth_is_open() -> None:
    found = coverage_of(answers_of([0.9, 0.8, 0.7, 0.6, 0.5], [True, True, True, True, False]))
    assert found is not None
    line = coverage_line(found)
    assert line.startswith("area under the risk-coverage curve 4.0 % (95 % interval ")
    assert line.endswith("; 80.0 % answered (from 0.6 on): 100.0 % of them rightly")
    alike = coverage_of(answers_of([0.9, 0.9], [True, False]))
    assert alike is not None
    assert coverage_line(alike).endswith("50.0 % if sureness told nothing"), "nothing can be left open but everything"


def test_an_area_without_an_interval_has_none_in_words() -> None:
    assert area_words(Area(0.0, None, 0.0, 0.0)) == (
        "0.0 %; 0.0 % if all mistakes were less sure than all right answers, 0.0 % if sureness told nothing"
    )


def test_the_interval_is_one_line_with_a_gap() -> None:
    found = coverage_of(answers_of(np.linspace(0.99, 0.6, 40).tolist(), [True] * 30 + [False] * 10))
    assert found is not None
    chart = coverage_chart(found)
    drawing, legend = chart.split("</svg>", 1)
    assert [drawing.count(f'<path class="line c{look}"') for look in (0, 1)] == [1, 2], "either end is a line"
    assert legend.count("95 % interval of each point") == 1
    assert "from 30 answers on" in chart


def test_one_image_has_a_row_and_no_chart() -> None:
    found = coverage_of(answers_of([0.9], [True]))
    assert found is not None
    assert [row.answered for row in found.rows] == [1]
    assert coverage_chart(found) == ""


def test_sets_of_labels_have_no_such_section(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=60, sets=True)
    stored = stored_of(folder)
    assert stored is not None
    assert coverage_of(stored.answers) is None
    assert 'id="coverage"' not in page(folder)
    assert "risk-coverage" not in told(folder)


def told(folder: RunFolder) -> str:
    file = io.StringIO()
    print_run(folder, Screen(file=file, width=400))
    return file.getvalue()


def test_the_terminal_has_the_area(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=200, sure=1.5)
    found = coverage_of(stored_of(folder).answers)  # type: ignore[union-attr]
    assert found is not None
    assert f"test@40: {coverage_line(found)}" in told(folder)
    (folder.path / "evaluations" / "test@40" / "predictions.csv").write_text("cut")
    assert "risk-coverage" not in told(folder), "what cannot be read is told by the page"
