import re
from pathlib import Path

import pytest

from imgkit.errors import RecipeError
from imgkit.recipe.augment import AugmentSettings
from imgkit.recipe.load import Flag, Loaded, load_recipe
from imgkit.recipe.phases import resolve
from imgkit.recipe.plan import make_plan
from imgkit.recipe.presets import PRESETS
from imgkit.recipe.toml import value_text
from imgkit.recipe.write import render

PAGE = Path(__file__).parents[2] / "docs" / "augmentation.md"
every_preset = pytest.mark.parametrize("name", PRESETS)


def flag(name: str) -> dict[str, Flag]:
    return {"augment.preset": Flag("--augment", name)}


def from_file(folder: Path, text: str, **options: object) -> Loaded:
    file = folder / "my.toml"
    phase = '[[phases]]\nname = "all"\ntrain = "all"\nepochs = 2\nlr = 1e-3\n'
    file.write_text(f'schema = 1\nname = "mine"\n{text}\n{phase}')
    return load_recipe(file, **options)  # type: ignore[arg-type]


@every_preset
def test_values_are_plain_and_say_where_they_come_from(name: str) -> None:
    loaded = load_recipe("scratch", flags=flag(name))
    for key, value in PRESETS[name].items():
        assert getattr(loaded.recipe.augment, key) == value
        assert loaded.origins[f"augment.{key}"] == f"preset {name}"
    assert loaded.recipe.augment == resolve(loaded.recipe, loaded.recipe.phases[0]).augment
    assert make_plan(loaded, 64).phases[0].augment == loaded.recipe.augment


def test_every_preset_has_its_own_values_and_its_name_is_one_of_the_key() -> None:
    assert len({value_text(tuple(values.items())) for values in PRESETS.values()}) == len(PRESETS)
    for name in PRESETS:
        AugmentSettings(preset=name)  # type: ignore[arg-type]
    assert set.intersection(*map(set, PRESETS.values())) == set(PRESETS["light"])


@every_preset
def test_a_resolved_recipe_reads_back(name: str, tmp_path: Path) -> None:
    loaded = load_recipe("finetune", flags=flag(name), sets=["augment.erase=0.3", "augment.vflip=0.2"])
    assert (loaded.recipe.augment.erase, loaded.recipe.augment.vflip) == (0.3, 0.2)
    (tmp_path / "again.toml").write_text(render(loaded))
    again = load_recipe(tmp_path / "again.toml")
    assert again.recipe == loaded.recipe
    assert make_plan(again, 64).phases == make_plan(loaded, 64).phases


def test_none_is_the_evaluations_picture_whatever_the_file_says(tmp_path: Path) -> None:
    lines = (
        "[augment]",
        "jitter = [0.1, 0.1, 0.1, 0]",
        "jitter_p = 0.5",
        "fill = [0, 0, 0]",
        "rotate = 5",
    )
    loaded = from_file(tmp_path, "\n".join([*lines, "ramp = '50%'"]), flags=flag("none"))
    plain = AugmentSettings(preset="none", crop=None, hflip=0.0)
    assert loaded.recipe.augment == plain
    make_plan(loaded, 64)


def test_views_without_augmentation_are_noted() -> None:
    notes = make_plan(load_recipe("finetune", flags=flag("none")), 64).notes
    assert notes == (
        "phase 'head': its views are the evaluation's pictures again, since no augmentation is on; "
        "--set phases.head.views=0 saves the time",
    )
    assert make_plan(load_recipe("finetune", flags=flag("none"), sets=["phases.head.views=0"]), 64).notes == ()


def test_given_keys_win_over_a_preset_of_their_own_place_and_the_command_line_over_the_file(tmp_path: Path) -> None:
    text = "[augment]\nrotate = 33\nhflip = 0\n"
    file = from_file(tmp_path, text + 'preset = "light"').recipe.augment
    assert (file.rotate, file.translate, file.hflip) == (33, 0.05, 0)
    line = from_file(tmp_path, text, flags=flag("light"), sets=["augment.translate=0.2"]).recipe.augment
    assert (line.rotate, line.translate, line.hflip) == (5, 0.2, 0)  # flips are what the pictures allow


def test_a_phase_may_have_a_preset_of_its_own(tmp_path: Path) -> None:
    loaded = load_recipe("finetune", flags=flag("strong"), sets=["phases.all.augment.preset=light"])
    head, last = make_plan(loaded, 64).phases
    assert (head.augment.policy, last.augment.policy, last.augment.mixup) == ("trivialaugment", None, 0)
    assert loaded.origins["phases.all.augment.rotate"] == "preset light"


def test_what_a_preset_gives_in_vain_is_nobodys_fault_but_a_preset_in_vain_is() -> None:
    make_plan(load_recipe("probe", flags=flag("strong"), sets=["phases.head.views=1"]), 64)  # a solve mixes nothing
    with pytest.raises(RecipeError) as caught:
        make_plan(load_recipe("probe", flags=flag("strong")), 64)
    assert caught.value.message == (
        "augment.preset = \"strong\" (--augment) is not used: every phase of 'probe' is solved on features"
    )


def test_a_wrong_name_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("finetune", sets=["augment.preset=storng"])
    assert caught.value.message == (
        "--set: augment.preset: must be 'none', 'light', 'medium' or 'strong', got 'storng' (did you mean 'strong'?)"
    )


def test_the_table_of_the_page_has_the_values() -> None:
    text = PAGE.read_text()
    header, _, *rows = re.findall(r"^\|.*\|$", text[text.index("| preset |") :].split("\n\n")[0], re.MULTILINE)
    names = [cell.strip(" `") for cell in header.strip("|").split("|")][1:]
    assert names == list(PRESETS)
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for row in rows:
        key, *cells = (cell.strip(" `") for cell in row.strip("|").split("|"))
        for name, cell in zip(names, cells, strict=True):
            if cell != "as it is":
                found[name][key] = cell
    for name, values in PRESETS.items():
        assert found[name] == {key: value_text(value).strip('"') for key, value in values.items()}
