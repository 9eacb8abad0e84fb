"""`imgkit predict --format`: which forms there are, what each of them reads, and the lines of competitions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from imgkit.data.rows import count, listed
from imgkit.errors import UsageError, printable
from imgkit.screen import Screen

if TYPE_CHECKING:
    from imgkit.predict import Prediction
    from imgkit.run import RunFolder

Format = Literal["csv", "jsonl", "competition", "multihot"]
ClassesAs = Literal["index", "name"]
Base = Literal["0", "1"]
Vote = Literal["mean", "majority"]
EXTENSION: Mapping[Format, str] = {"csv": ".csv", "jsonl": ".jsonl", "competition": ".txt", "multihot": ".txt"}
"""Of what an archive holds."""
_READ_BY: Mapping[str, tuple[Format, ...]] = {
    "--classes-as": ("competition",),
    "--index-base": ("competition",),
    "--class-order": ("competition", "multihot"),
    "--fill": ("competition", "multihot"),
    "--top-k": ("csv", "jsonl", "competition"),
    "--reject-at": ("csv", "jsonl"),
    "--target-accuracy": ("csv", "jsonl"),
    "--unlike": ("csv", "jsonl"),
    "--conformal": ("csv", "jsonl"),
}


def refuse_unread(form: Format | None, given: Mapping[str, object]) -> None:
    """See that the form reads each option that was given.

    Args:
        form: as typed; None: what the name of the file, or the terminal, asks for.
        given: option as typed to its value, None where it was not given.

    Raises:
        UsageError: naming the first one that it does not read.
    """
    for flag, forms in _READ_BY.items():
        if given[flag] is not None and (form or "csv") not in forms:
            where = f"--format {' or '.join(forms)}"
            also = "a template, and for " if flag == "--fill" else ""
            raise UsageError(
                f"{flag} is not used: it is for {also}{where}.", f"Leave it out, or add  --format {forms[0]}"
            )
    if given["--index-base"] is not None and given["--classes-as"] == "name":
        raise UsageError("--index-base is not used: --classes-as name writes no indices.", "Leave one of them out.")
    if given["--class-order"] is not None and given["--classes-as"] == "name":
        raise UsageError("--class-order is not used: names are in no order.", "Leave one of them out.")


@dataclass(frozen=True)
class Lines:
    """How the lines of a competition's form are written.

    Args:
        form: "competition" or "multihot".
        classes: in the order of indices or columns.
        words: what `competition` writes for each class.
        fill: for images that cannot be read; None: an error.
    """

    form: Format
    classes: Sequence[str]
    words: Mapping[str, str]
    fill: str | None

    def write(self, answers: Iterable["Prediction"], stream: TextIO, k: int) -> Iterator["Prediction"]:
        """Write the answers, `k` classes a line where the form has several, and pass them on."""
        from imgkit.forms import write_guesses, write_multihot

        if self.form == "competition":
            return write_guesses(answers, stream, words=self.words, k=k, fill=self.fill)
        return write_multihot(answers, stream, labels=self.classes, fill=self.fill)


def lines_of(form: Format, run: "RunFolder", given: Mapping[str, Any]) -> Lines | None:
    """What a run's answers are in a competition's form, told on stderr; None where `form` is none of these.

    Args:
        form: as typed.
        run: that answers.
        given: option as typed to its value.

    Raises:
        UsageError: if the run is of the other task, or the options do not fit its classes.
        DataError: if the list of classes cannot be used.
    """
    if form not in {"competition", "multihot"}:
        return None
    from imgkit.forms import read_class_order, words_of

    about, fill = run.read_json("run.json"), given["--fill"]
    several = about["task"] == "multilabel"
    if several != (form == "multihot"):
        has = "any number of labels" if several else "one label"
        other = "multihot" if several else "competition"
        raise UsageError(
            f"{run.name} answers {has} for each image, which {form} is not for.", f"Write  --format {other}"
        )
    if fill is not None and len(fill.split()) != 1:
        raise UsageError(f"--fill {fill!r} is not one word, and lines are words with spaces between.", "Write one.")
    classes, where = about["classes"], str(run.path / "data" / "classes.txt")
    if given["--class-order"] is not None:
        file: Path = given["--class-order"]
        known, classes, where = set(classes), read_class_order(file, classes), str(file)
        extra = [name for name in classes if name not in known]
        if extra:
            what = f"{printable(where)} has {count(len(extra), 'class', 'classes')} that {run.name} does not know"
            if several:
                raise UsageError(f"{what}, so nothing is known of {listed(extra)}.", "Leave them out of the list.")
            Screen().note(f"{what} and never answers: {listed(extra)}")
    kind: ClassesAs = given["--classes-as"] or "index"
    base = int(given["--index-base"] or 0)
    words = {} if several else words_of(classes, kind, base)
    if several:
        Screen().note(f"columns are in the order of {printable(where)}, lines in the numeric order of the names")
    elif kind == "index":
        Screen().note(f"indices count the lines of {printable(where)} from {base}: {printable(classes[0])} is {base}")
    return Lines(form, classes, words, fill)
