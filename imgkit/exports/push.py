"""A verified export for timm, sent to a model hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgkit.bounds import read_json
from imgkit.data.sources import sha256_of
from imgkit.errors import DiskError, GateError, UsageError, WeightsError, brief, printable
from imgkit.run import RunFolder

_FORMAT = "timm"
_VERIFIED = "verify.json"
_CARD = "README.md"  # is for people to add to


@dataclass(frozen=True)
class Parcel:
    """What would be sent.

    Args:
        folder: the export.
        files: their names and bytes.
        proof: what verify.json says.
    """

    folder: Path
    files: Mapping[str, int]
    proof: Mapping[str, Any]


def parcel_of(run: RunFolder, address: str) -> Parcel:
    """The export of a run for timm, if it was compared with the run's weights and is as it was then.

    Args:
        run: the run.
        address: how it is called on a command line.

    Raises:
        UsageError: if the run is not finished.
        GateError: if there is none, nothing was verified, or a file is another one now.
        DiskError: if verify.json cannot be read.
    """
    if not run.has_model:
        raise run.without_model()
    folder = run.path / "exports" / _FORMAT
    again = f"Export and compare:  imgkit export {address} --to {_FORMAT}"
    if not (folder / _VERIFIED).is_file():
        raise GateError(f"{run.name} has no verified export for timm, so there is nothing to send.", again)
    try:
        proof = read_json(folder / _VERIFIED)
        files, faults, weights = dict(proof["files"]), list(proof["faults"]), str(proof["weights_sha256"])
        known = {name: str(one["sha256"]) for name, one in files.items()}
        described(proof)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DiskError(f"{printable(str(folder / _VERIFIED))} cannot be read: {brief(error)}.", again) from error
    if faults:
        raise GateError(f"{run.name}: the export for timm was refused: {brief(faults[0])}", again)
    if weights != sha256_of(run.path / "model" / "model.safetensors"):
        raise GateError(f"{run.name}: the export for timm is of older weights than the run's.", again)
    links = sorted(file.name for file in folder.iterdir() if file.is_symlink())
    if links:  # a run that came from elsewhere may point to what is not for a hub
        raise GateError(f"{printable(str(folder / links[0]))} is a link, and files alone are sent.", again)
    there = {file.name for file in folder.iterdir()} - {_VERIFIED}
    for name in sorted((there | set(known)) - ({_CARD} & there)):
        if name not in there or name not in known or sha256_of(folder / name) != known[name]:
            raise GateError(f"{printable(str(folder / name))} is not what was verified.", again)
    sizes = {name: (folder / name).stat().st_size for name in sorted([*known, _VERIFIED])}
    return Parcel(folder, sizes, proof)


def check_repo(repo: str) -> None:
    """See that a repository's name has the form OWNER/NAME.

    Raises:
        UsageError: if it has not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id  # utils exports it, untyped

    try:
        validate_repo_id(repo)
        good = repo.count("/") == 1
    except HFValidationError:
        good = False
    if not good:
        raise UsageError(f"{printable(repo)!r} is not the name of a repository.", "Give  OWNER/NAME")


def send(parcel: Parcel, repo: str, *, private: bool) -> str:
    """Make the repository where there is none, and put the files of a parcel into it in one commit; its address.

    Raises:
        WeightsError: if the hub refuses or cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub import errors

    # That of the HTTP library beneath, which depends on the version: of no network it is told by this one.
    unanswered: type[Exception] = getattr(errors, "HTTPError", OSError)
    hub = huggingface_hub.HfApi()
    proof = parcel.proof
    message = f"imgkit: {proof['format']}, compared with run {proof['run']} on {proof['n']} images"
    try:
        hub.create_repo(repo, private=private, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repo, folder_path=parcel.folder, commit_message=message, allow_patterns=[*parcel.files]
        )
    except errors.LocalTokenNotFoundError as error:
        raise WeightsError("The hub does not know who you are.", "Log in:  hf auth login   or set HF_TOKEN") from error
    except (unanswered, errors.HfHubHTTPError, OSError) as error:
        raise WeightsError(
            f"The hub did not take {repo}: {brief(error)}", "Check the name, your rights and the network."
        ) from error
    return str(done)


def described(proof: Mapping[str, Any]) -> str:
    """What was compared, as one line."""
    part = proof["exported"]
    return (
        f"{proof['n']:,} {proof['split']} images, logits at most {part['max_abs_logit']:.2g} apart, "
        f"same answer to {part['same']:,}"
    )
