import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from timm.models import get_deprecated_models
from torch import nn

from imgkit import model_names as names_file
from imgkit.data.builtin import cache_folder
from imgkit.errors import UsageError
from imgkit.model_names import ALIASES, OWN, resolve_name, search


def fresh(body: str) -> list[str]:
    """Lines that a new process prints, whether it imported timm last."""
    script = f"import sys\nfrom imgkit.model_names import resolve_name, search\n{body}\nprint('timm' in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", timm.list_models()[::40] + timm.list_models(pretrained=True)[::60])
def test_timm_names_mean_themselves(name: str) -> None:
    assert resolve_name(name) == name


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_lead_to_known_models(alias: str) -> None:
    assert timm.is_model(ALIASES[alias])
    assert resolve_name(alias) == resolve_name(alias.upper()) == ALIASES[alias]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ViT-B/16", "vit_base_patch16_224"),
        ("swin", "swin_tiny_patch4_window7_224"),
        ("resnet-50", "resnet50"),
        ("ResNet50", "resnet50"),
        ("vgg-19", "vgg19"),
        ("efficientnetb0", "efficientnet_b0"),
        ("convnext-tiny", "convnext_tiny"),
        ("ResNet-50.a1_in1k", "resnet50.a1_in1k"),
        (" resnet18 ", "resnet18"),
    ],
)
def test_common_spellings(typed: str, meant: str) -> None:
    assert resolve_name(typed) == meant


def test_replaced_names_lead_to_their_replacement() -> None:
    old, new = next((old, new) for old, new in get_deprecated_models().items() if new and "." in new)
    assert resolve_name(old) == new


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_name("resnet5O")
    assert caught.value.message.startswith("Unknown model 'resnet5O'. Did you mean resnet50")
    assert caught.value.hint == f"{len(timm.list_models()):,} models are known:  imgkit models resnet"


def test_names_are_kept_in_the_cache_and_told_without_timm() -> None:
    body = (
        "for name in ('ResNet-50', 'resnet50.a1_ink1', 'resnet5O', 'efficientnet_b0_gn', 'VGG-C', 'vgg_cc'):\n"
        "    try:\n        print(resolve_name(name))\n    except Exception as error:\n        print(error)\n"
        "print(search('vgg11_*'))"
    )

    def answers() -> list[str]:
        return fresh(body)

    *first, imported = answers()
    assert "vgg_c" in first, "imgkit's own"
    assert first[-1] == "['vgg11_bn', 'vgg11_compact']"
    assert imported == "True", "nothing was kept yet"
    assert answers() == [*first, "False"]
    (kept,) = cache_folder().glob("names-timm-*.json")
    kept.write_text("{")
    assert answers() == [*first, "True"], "a damaged file is none"


def test_an_own_network_that_is_new_is_not_hidden_by_what_was_kept() -> None:
    fresh("search('x')")
    (kept,) = cache_folder().glob("names-timm-*.json")
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps({**content, "plain": ["only_this_one"]}))
    assert fresh("print(search('only_this'))") == ["['only_this_one']", "False"], "what was kept is used"
    newer = f"from imgkit import model_names\nmodel_names.OWN = {(*OWN, 'a_new_one')}\nprint(search('only_this'))"
    assert fresh(newer) == ["[]", "True"]


def test_the_names_of_own_networks_are_those_that_are_registered() -> None:
    code = (
        "import timm\nbefore = set(timm.list_models())\nimport imgkit.models\n"
        "print(*sorted(set(timm.list_models()) - before))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) == tuple(sorted(OWN)), "and none of timm's is overwritten, which timm warns of"


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("IMGKIT_CACHE", str(tmp_path / "file"))
    assert resolve_name("ResNet-50") == "resnet50"


def test_the_short_way_for_exact_names_is_no_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*timm.list_models(include_tags=True)[::40], "resnet50", "test_vit"]
    answers = {name: resolve_name(name) for name in names}
    assert answers == {name: name for name in names}
    others = ["ResNet-50", "resnet50.nope", "resnet50.", "convnext_tiny_in22ft1k", "qqq", "qqq.x"]
    assert not any(map(names_file._is_exact, others))
    known = names_file._known()
    monkeypatch.setattr(names_file, "_is_exact", lambda name: False)
    monkeypatch.setattr(names_file, "_known", lambda: known)
    assert {name: resolve_name(name) for name in names} == answers


def imgkit_test_later(pretrained: bool = False, **_: object) -> nn.Module:
    return nn.Identity()


def test_a_network_registered_later_is_known() -> None:
    if not timm.is_model("imgkit_test_later"):
        timm.models.register_model(imgkit_test_later)
    assert resolve_name("imgkit_test_later") == "imgkit_test_later"


def test_a_folder_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown model") as caught:
        resolve_name(f"{tmp_path}/")
    assert f"Pictures are given by  --data {tmp_path}/\n" in caught.value.hint


def test_a_name_like_no_other() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_name("qqqqqqqqqqqqqqqqqqq")
    assert caught.value.message == "Unknown model 'qqqqqqqqqqqqqqqqqqq'."
    assert caught.value.hint.endswith("imgkit models")


def test_an_unknown_tag_is_answered_with_the_real_ones() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_name("resnet50.a1_ink1")
    assert "has no tag 'a1_ink1'. Did you mean resnet50.a1_in1k?" in caught.value.message
    assert "Its tags, the default first: a1_in1k, " in caught.value.hint
    assert "tv2_in1k" in caught.value.hint


def test_a_folder_does_not_hide_the_network_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("resnet50", "ResNet-50", "resnet50.mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    assert resolve_name("resnet50") == resolve_name("ResNet-50") == "resnet50"
    for name in ("./resnet50", "resnet50.mine"):
        with pytest.raises(UsageError, match="is a folder of weights, not the name of a network"):
            resolve_name(name)


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet50.a1_in1k", "local-dir:runs/x/model", "HF-HUB:a/b"])
def test_other_registries_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not the name of a network") as caught:
        resolve_name(name)
    assert "--weights hub:" in caught.value.hint


def test_search() -> None:
    assert search("test_res") == ["test_resnet"]
    assert search("ReSNet50") == [name for name in timm.list_models() if "resnet50" in name]
    assert search("res*50") == [n for n in timm.list_models() if n.startswith("res") and n.endswith("50")]
    assert search("resnet50.a1_*") == timm.list_models("resnet50.a1_*", include_tags=True)
    assert search("no such network") == []
