"""The whole check of a data set: every file looked at, and all that was found."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgkit.check.classes import class_sections
from imgkit.check.copies import copy_sections, group_sections, near_sections
from imgkit.check.finding import SEVERITIES, Finding, Section
from imgkit.check.pictures import bad_sections, look_sections, place_sections
from imgkit.data.classes import missing_notes, name_warnings, single_warnings
from imgkit.data.index import Index
from imgkit.data.load import Listed, LoadedData, duplicate_warnings, group_warnings, list_data, load_data
from imgkit.data.looks import Looks, look_at
from imgkit.data.paths import Files
from imgkit.data.same import same_pictures
from imgkit.recipe.schema import DataSettings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""By which most pretrained networks normalise channels: ImageNet's (torchvision)."""
_BRIGHT, _SPREAD = 1.0, 2.0  # normalised means beyond this, and deviations beyond this times 1 or below its inverse
_IN_SECTIONS = (
    "left out because they cannot be used",
    "imgkit does not read this kind",
    "outside the class folders, ignored",
    "are exact copies of each other",
)
"""Words of what a training says in a sentence and the check in a section of its own."""


@dataclass(frozen=True)
class Statistics:
    """Channels of all pictures together.

    Args:
        mean: of each channel, in [0, 1]; every picture counts the same.
        std: likewise; of JPEGs decoded at a fraction of their size, so a little below that of all pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def normalised(self) -> list[tuple[float, float]]:
        """Mean and deviation of each channel as a network gets them that was pretrained on ImageNet."""
        return [
            ((own - mean) / std, spread / std)
            for own, spread, mean, std in zip(self.mean, self.std, MEAN, STD, strict=True)
        ]


@dataclass(frozen=True)
class Checked:
    """A data set, and all that was found.

    Args:
        found: the data as a training would have them, without the files that cannot be used.
        sections: the gravest first.
        notes: what is worth saying beside them.
        warnings: what is likely wrong and in no section.
        statistics: of the channels.
    """

    found: LoadedData
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    statistics: Statistics

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What must be mended."""
        return tuple(one for section in self.sections if section.severity == "error" for one in section.findings)


def check(settings: DataSettings, progress: Callable[[int, int], None] | None = None) -> Checked:
    """Look at every file of a data set, and say what is wrong.

    Args:
        settings: `[data]` of a recipe; bad files are left out and are findings, whatever `on_bad` is.
        progress: called with (files done, files in all).

    Raises:
        DataError: see `load_data`: where no index can be made of the data.
        UsageError: if the settings contradict each other.
    """
    settings = settings.model_copy(update={"on_bad": "skip"})
    listed = list_data(settings)
    files = Files(listed.source.root, listed.source.rows.paths)
    looks, report = look_at(files, max_pixels=settings.max_pixels, progress=progress)
    found = load_data(settings, listed=listed, report=report)
    index, rows = found.index, np.flatnonzero(report.facts.good)
    looks = looks[rows] if found.bad else looks
    same = same_pictures(lambda row: str(index.path(row)), found.facts, looks, max_pixels=settings.max_pixels)
    statistics = _statistics(looks)
    sections = [
        *bad_sections(found.bad, str(index.root)),
        *copy_sections(found, same),
        *near_sections(index, same),
        *group_sections(index, _group_names(index, listed, rows)),
        *class_sections(index),
        *place_sections(listed.source, index),
        *look_sections(index, found.facts, looks),
        *_statistics_section(statistics),
    ]
    told = {*duplicate_warnings(index), *group_warnings(index), *name_warnings(index), *single_warnings(index)}
    told |= {text for text in (*found.warnings, *found.notes) if any(words in text for words in _IN_SECTIONS)}
    return Checked(
        found=found,
        sections=tuple(sorted(sections, key=lambda section: SEVERITIES.index(section.severity))),
        notes=tuple(text for text in found.notes if text not in {*told, *missing_notes(index)}),
        warnings=tuple(text for text in found.warnings if text not in told),
        statistics=statistics,
    )


def _group_names(index: Index, listed: Listed, rows: npt.NDArray[np.int64]) -> list[str | None]:
    """The group of each image, by the row of the source that it is."""
    return [] if index.groups is None else [listed.source.rows[row].group for row in rows.tolist()]


def _statistics(looks: Looks) -> Statistics:
    known = looks[looks["known"]]
    mean = known["mean"].astype(np.float64).mean(axis=0)
    square = known["square"].astype(np.float64).mean(axis=0)
    return Statistics(tuple(mean.tolist()), tuple(np.sqrt(np.maximum(square - mean**2, 0)).tolist()))


def _statistics_section(statistics: Statistics) -> list[Section]:
    """Where a pretrained network gets pictures far from those that it learned from."""
    odd = [
        (mean, std) for mean, std in statistics.normalised if abs(mean) > _BRIGHT or not 1 / _SPREAD <= std <= _SPREAD
    ]
    if not odd:
        return []
    means = ", ".join(f"{mean:.2f}" for mean, _ in statistics.normalised)
    stds = ", ".join(f"{std:.2f}" for _, std in statistics.normalised)
    sentence = (
        f"Normalised as for ImageNet, the channels have means {means} and deviations {stds}, where 0 and 1 are usual. "
        "A frozen trunk may do worse on them; fine-tune all of it."
    )
    return [Section("statistics", "note", "Brightness and contrast", sentence, ())]
