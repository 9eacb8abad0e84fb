"""The page on which people label."""

import string

from imgkit.labelling.session import Session
from imgkit.report.html.shell import render

KEYS = "1234567890" + string.ascii_lowercase
"""The key of each class, in order; further classes are found by name."""


def page_of(session: Session) -> str:
    """The HTML for the images of `session`."""
    keys = [KEYS[code : code + 1] for code in range(len(session.classes))]
    task = {"keys": keys, "classes": session.classes, "first": session.after(len(session.candidates) - 1)["next"] or 0}
    return render(
        "label.html.j2",
        title=f"Label {len(session.candidates):,} images",
        live=True,
        task=task,
        total=len(session.candidates),
        classes=list(zip(keys, session.classes, strict=True)),
        run=session.run,
        by_name=len(session.classes) > len(KEYS),
    )
