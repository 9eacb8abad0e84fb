"""What may be sent to a hub, and what arrives there; the hub is a folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import timm
import torch
from cli_run import Run as Command
from exported_run import trained
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from imgkit.errors import UsageError
from imgkit.exports.push import check_repo
from imgkit.models.folder import load_model_folder

pytest_plugins = ["cli_fixture"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose export for timm is verified."""
    place = tmp_path_factory.mktemp("push")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGKIT_CACHE", str(place / "cache"))
        trained(place).export("timm", images=3)
    return place


@pytest.fixture
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The export of a copy of that run, from whose folder commands are typed."""
    shutil.copytree(home / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "run" / "exports" / "timm"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of a hub that keeps what it gets in hub/."""
    calls: list[dict[str, Any]] = []

    class Hub:
        def create_repo(self, repo_id: str, **options: object) -> None:
            calls.append({"repo": repo_id, **options})

        def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], **more: object) -> str:
            target = tmp_path / "hub" / repo_id
            target.mkdir(parents=True)
            for name in allow_patterns:
                shutil.copy(folder_path / name, target / name)
            calls.append({"sent": sorted(allow_patterns), **more})
            return f"https://hub.test/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    return calls


def test_without_yes_it_is_told_what_would_be_sent(imgkit: Command, place: Path, hub: list[dict[str, Any]]) -> None:
    code, out, err = imgkit("push", "run", "me/squares", "--private")
    assert (code, err, hub) == (0, "", [])
    words = " ".join(out.split())
    for file in place.iterdir():
        assert file.name in words
    assert "me/squares on huggingface.co, private if it is new" in words
    assert "3 val images, logits at most 0 apart, same answer to 3" in words
    assert "Nothing was sent." in words
    assert "imgkit push run me/squares --private --yes" in words


def test_what_arrives_is_what_was_verified(
    imgkit: Command, place: Path, hub: list[dict[str, Any]], tmp_path: Path
) -> None:
    (place / "README.md").write_text((place / "README.md").read_text() + "The pictures are my own.\n")
    code, out, _ = imgkit("push", "run", "me/squares", "--yes")
    assert code == 0
    assert "my own" in (tmp_path / "hub" / "me" / "squares" / "README.md").read_text()
    assert "https://hub.test/me/squares" in out
    made, sent = hub
    assert made == {"repo": "me/squares", "private": False, "exist_ok": True}
    assert sent["sent"] == sorted(file.name for file in place.iterdir())
    assert "on 3 images" in sent["commit_message"]
    arrived = timm.create_model(f"local-dir:{tmp_path / 'hub' / 'me' / 'squares'}", pretrained=True).eval()
    images = torch.randn(2, 3, 32, 32)
    source = load_model_folder(place.parent.parent / "model").model
    assert torch.equal(arrived(images), source(images))


def linked(file: Path) -> None:
    """Put a link in a file's place, to the same content elsewhere."""
    elsewhere = file.replace(file.parent.parent / "elsewhere")
    file.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        ("none", 8, "run has no verified export for timm, so there is nothing to send."),
        ("unverified", 8, "run has no verified export for timm, so there is nothing to send."),
        ("changed", 8, "preprocessing.json is not what was verified."),
        ("no card", 8, "README.md is not what was verified."),
        ("more", 8, "secret.txt is not what was verified."),
        ("gone", 8, "calibration.json is not what was verified."),
        ("linked", 8, "README.md is a link, and files alone are sent."),
        ("older", 8, "is of older weights than the run's."),
        ("refused", 8, "the export for timm was refused: too far"),
        ("damaged", 7, "verify.json cannot be read"),
    ],
)
def test_what_was_not_verified_is_not_sent(
    imgkit: Command, place: Path, hub: list[dict[str, Any]], spoil: str, code: int, words: str
) -> None:
    proof = json.loads((place / "verify.json").read_text())
    {
        "none": lambda: shutil.rmtree(place.parent),
        "unverified": (place / "verify.json").unlink,
        "changed": lambda: (place / "preprocessing.json").write_text("mine"),
        "no card": (place / "README.md").unlink,
        "more": lambda: (place / "secret.txt").write_text("mine"),
        "gone": (place / "calibration.json").unlink,
        "linked": lambda: linked(place / "README.md"),
        "older": lambda: (place.parent.parent / "model" / "model.safetensors").write_bytes(b"other"),
        "refused": lambda: (place / "verify.json").write_text(json.dumps(proof | {"faults": ["too far"]})),
        "damaged": lambda: (place / "verify.json").write_text('{"files": 3}'),
    }[spoil]()
    found, out, err = imgkit("push", "run", "me/squares", "--yes")
    assert (found, out, hub) == (code, "", [])
    told = " ".join(err.split())
    assert words in told
    assert "imgkit export run --to timm" in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LocalTokenNotFoundError("no token"), "Log in: hf auth login"),
        (OSError("unreachable"), "The hub did not take me/squares: unreachable"),
        (
            HfHubHTTPError.__mro__[1]("Name or service not known"),
            "The hub did not take me/squares: Name or service not known",
        ),
        (None, "The hub did not take me/squares: 403"),
    ],
)
def test_a_hub_that_refuses_is_a_message(
    imgkit: Command, place: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, words: str
) -> None:
    class Hub:
        def create_repo(self, *_: object, **__: object) -> None:
            response = httpx.Response(403, request=httpx.Request("POST", "https://hub.test"))
            raise error or HfHubHTTPError("403 Forbidden", response=response)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    code, _, err = imgkit("push", "run", "me/squares", "--yes")
    assert code == 4
    assert words in " ".join(err.split())


@pytest.mark.parametrize("repo", ["squares", "a/b/c", "me/", "me/..", "me/a b", ""])
def test_names_of_repositories_have_a_form(repo: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a repository"):
        check_repo(repo)


def test_a_run_that_is_not_there(imgkit: Command, place: Path) -> None:
    assert imgkit("push", "rum", "me/squares")[0] == 2
