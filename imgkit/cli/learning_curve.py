"""`imgkit data learning-curve`."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from imgkit.cli.given import command_line, flags_of, use_given_plugins
from imgkit.cli.label_errors import chosen_model
from imgkit.cli.options import learning_curve_signature
from imgkit.screen import Screen
from imgkit.terminal import make_console, print_columns

if TYPE_CHECKING:
    from imgkit.learning_curve import Curve


def learning_curve_command() -> Callable[..., None]:
    """The command: the options of `probe`, and --seeds."""

    def command(**given: Any) -> None:  # noqa: ANN401
        use_given_plugins(given)
        from imgkit.api_features import learning_curve

        curve = learning_curve(
            chosen_model(given["model"]),
            recipe=given["recipe"] or "probe",
            seeds=given["seeds"],
            out=given["out"],
            flags=flags_of(given),
            sets=given["set"] or [],
            plugin=given["plugin"] or [],
            screen=Screen(),
            command=command_line(),
        )
        show(curve, Screen(file=sys.stdout))
        Screen().fact("Wrote", f"{given['out']}/")

    command.__dict__["__signature__"] = learning_curve_signature()
    return command


def show(curve: "Curve", screen: Screen) -> None:
    """The scores of each size as a table, and what more images would bring."""
    from imgkit.learning_curve import SCORES, sentence
    from imgkit.plots.curves import TITLES

    scores = [curve.scores(score) for score in SCORES]
    titles = ["share", "images", *(title for score in SCORES for title in (TITLES[score], f"of {TITLES[score]} draws"))]
    rows = [
        [
            f"{100 * fraction:.0f} %",
            f"{curve.sizes[place]:,}",
            *(
                cell
                for one in scores
                for cell in (f"{one[place].mean():.3f}", _ends(one[place].min(), one[place].max()))
            ),
        ]
        for place, fraction in enumerate(curve.fractions)
    ]
    print_columns(titles, rows, make_console(sys.stdout), right=["share", "images"])
    screen.line()
    draws = curve.answers.shape[1]
    screen.fact("Judged", f"{len(curve.truth):,} validation images, {draws} draws of each share; test is not looked at")
    for score in SCORES:
        screen.line(sentence(curve.extrapolated[score], TITLES[score]))


def _ends(low: float, high: float) -> str:
    return "" if low == high else f"{low:.3f} to {high:.3f}"
