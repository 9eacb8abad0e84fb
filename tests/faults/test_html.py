"""T-X3: no name, label, path, cell, comment or value becomes anything but text on a page, which loads nothing."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from markupsafe import Markup
from page_reader import PageReader, read_page, text_of
from page_runs import make_run
from payloads import PAYLOADS
from PIL import Image
from sample_runs import write_run
from scored_runs import index_of, write_scored_run
from tally import Tally

from imgkit import evidence
from imgkit.errors import printable
from imgkit.report.collect import collect
from imgkit.report.html import shell
from imgkit.report.run_page import html_of, page_of
from imgkit.report.runs_page import runs_page
from imgkit.run import RunFolder
from imgkit.sheet import thumbnail

FAMILY = "T-X3"
BOTH = {"val": 0.8, "test": 0.8}
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
ELEMENTS = ("script", "style", "img", "svg", "a", "input", "button", "meta", "link", "h2", "h3", "section")
POLICY = re.compile(
    r"default-src 'none'; style-src 'sha256-[^' ]+'; script-src( ?'sha256-[^' ]+')+; img-src data:; base-uri 'none'; "
    r"form-action 'none'"
)


def problems(html: str, plain: str, *, exact: bool) -> set[str]:
    """What a page of payloads has that the page of plain words has not; `exact`: each element as often."""
    try:
        found, ours, wrong = read_page(html), read_page(plain), set[str]()
    except AssertionError:  # a tag that closes another one
        return {"elements"}
    counts = [one.elements if exact else Counter({tag: one.elements[tag] for tag in ELEMENTS}) for one in (found, ours)]
    if counts[0] != counts[1] or set(found.elements) != set(ours.elements):
        wrong.add("elements")
    if names(found) != names(ours) or any(name.startswith("on") or name == "style" for _, name in names(found)):
        wrong.add("attributes")
    if not has_policy(found):
        wrong.add("policy")
    loaded = [value for _, name, value in found.attributes if name in ("src", "href", "action", "data")]
    style = "".join(text for element, text in found.texts if element == "style")
    if any(not re.match(r"#|data:(,|image/webp;base64,)|\./[^/:]+/report\.html$", value) for value in loaded):
        wrong.add("network")
    if re.search(r"@import|url\(", style):
        wrong.add("network")
    if HIDDEN.search(html):
        wrong.add("hidden")
    if "49" in text_of(html).split() and "49" not in text_of(plain).split():
        wrong.add("run")
    return wrong


def names(page: PageReader) -> set[tuple[str, str]]:
    return {(tag, name) for tag, name, _ in page.attributes}


def has_policy(page: PageReader) -> bool:
    """Whether the first thing of the page that could be kept to it is a policy that allows its own blocks alone."""
    said = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content")]
    return any(POLICY.fullmatch(value) for value in said)


def page_of_run(tmp_path: Path, plain: bool, sets: bool, k: int, shift: int = 0) -> str:
    """The page of a run whose names, recipe and run.json are payloads from the shift-th on, or plain words."""
    bad = [f"word{number}" for number in range(len(PAYLOADS))] if plain else [*PAYLOADS[shift:], *PAYLOADS[:shift]]
    bad = bad if sets else [text.strip("\n") for text in bad]
    classes = bad[:k]
    n = max(2 * k, 60)
    paths = [f"{bad[row % len(bad)]}{row}" for row in range(n)]
    texts = dict(zip(("model", "recipe", "device", "machine", "command", "created", "verb"), bad, strict=False))
    folder = make_run(
        tmp_path,
        f"run{plain}",
        classes=classes,
        n=n,
        sets=sets,
        sure=1.0,
        paths=paths,
        pictures=5,
        **texts,
        format={"precision": bad[8], "why": bad[9], "memory": bad[10]},
        versions={bad[11]: bad[12]},
        weights={"kind": bad[13], "detail": bad[14], "licence": bad[15], "sha256": bad[16]},
        parent={"run": bad[17], "step": 3, "epoch": 1, "sha256": bad[18]},
        budget={bad[19]: {"words": bad[20], "limit": bad[21], "origin": bad[22]}},
        plugins=[{"file": bad[23], "sha256": "x"}],
        smoke=True,
    )
    about = folder.read_json("run.json")
    about["data"] |= {"where": bad[24], "root": bad[25], "notes": bad, "fingerprint": bad[26]}
    folder.write_json("run.json", about)
    history = folder.history()
    folder.write_rows("history.jsonl", [row | {"phase": bad[27 + number % 2]} for number, row in enumerate(history)])
    (folder.path / "recipe.toml").write_text(
        "\n".join(f"x{number} = {json.dumps(text)}" for number, text in enumerate(bad))
    )
    rows = "".join(f'"{text}","{text}"\n' for text in bad if '"' not in text)
    (folder.path / "data" / "bad.csv").write_text("path,reason\n" + rows)
    status = folder.read_json("status.json")
    folder.write_json(
        "status.json", {**status, "state": "failed", "reason": bad[29], "best": {**status["best"], "metric": bad[30]}}
    )
    renamed = folder.path.rename(folder.path.with_name(bad[31] if plain else "<svg onload=alert(1)> & 'x'"))
    file = renamed / "evaluations" / "test@40" / "images.json"
    content = json.loads(file.read_text())
    for entry in content["images"]:
        entry["cam_of"] = bad[32]
    file.write_text(json.dumps(content | {"note": bad[33], "left_out": [{"path": bad[34], "reason": bad[35]}]}))
    (renamed / "evaluations" / "test@40" / "cost.json").write_text(
        json.dumps({"images_per_second": 3.0, "device": bad[36], "peak_memory": 1, "device_peak_memory": 1})
    )
    return html_of(page_of(RunFolder(renamed)))


def page_of_runs(out: Path, text: str) -> str:
    """The page of runs all of whose words are `text`."""
    index = index_of(60, paths=[f"{text}.png"])
    name = re.sub(r"[/\x00\udcff]", "-", text)[:100]
    about = {"model": text, "recipe": text, "verb": text, "machine": text, "versions": {text: text}}
    one = write_scored_run(out, f"one {name}", index, BOTH, draw=1)
    two = write_scored_run(out, f"two {name}", index, BOTH, draw=2, seed=1)
    three = write_scored_run(out, f"three {name}", index, BOTH, draw=3, seed=2)
    four = write_run(out, f"four {name}", f1=None, state="failed")
    for folder in (two, four):
        content = folder.read_json("run.json")
        folder.write_json("run.json", content | about | {"data": content["data"] | {"where": text}})
    four.write_json("status.json", four.read_json("status.json") | {"reason": text})
    recipe = one.path / "recipe.toml"
    shown = text.encode("unicode_escape").decode().replace("\\", "\\\\").replace('"', '\\"')
    recipe.write_text(recipe.read_text().replace('class_weights = "sqrt"', f'"{shown}" = "{shown}"'))
    file = three.path / "evaluations" / "test@10" / "predictions.csv"  # a label that the page tells as unknown
    cell = '"' + text.encode("utf-8", "backslashreplace").decode().replace('"', '""') + '"'
    file.write_text(file.read_text().replace(",cat,", f",{cell},", 1))
    return runs_page(out, collect(out), None)


@pytest.mark.parametrize(("sets", "k"), [(False, 20), (False, len(PAYLOADS)), (True, 20)])
def test_the_page_of_a_run(tmp_path: Path, tally: Tally, whole: bool, sets: bool, k: int) -> None:
    """Each payload in each of 37 places; in `make test` in one."""
    assert len(PAYLOADS) >= 30
    plain = page_of_run(tmp_path / "plain", True, sets, k)
    shifts = range(len(PAYLOADS)) if whole and (sets, k) == (False, 20) else range(1)
    for shift in shifts:
        html = page_of_run(tmp_path / str(shift), False, sets, k, shift)
        assert problems(html, plain, exact=False) == set(), shift
        shown = text_of(html)
        assert all(" ".join(printable(text).split()) in shown for text in [*PAYLOADS, *PAYLOADS][shift : shift + 20])
    tally.count(FAMILY, pages=len(shifts), new=0)


def test_the_page_of_runs(tmp_path: Path, tally: Tally, whole: bool) -> None:
    plain = page_of_runs(tmp_path / "plain", "plain")
    chosen = (*PAYLOADS, "\udcff<b>")[:: 1 if whole else 6]
    for number, payload in enumerate(chosen):
        html = page_of_runs(tmp_path / str(number), payload)
        assert problems(html, plain, exact=True) == set(), payload
        assert " ".join(printable(payload).split()) in text_of(html), "it is readable"
    tally.count(FAMILY, pages=len(chosen), payloads=len(chosen), new=0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_a_picture_says_of_itself_reaches_no_page(tmp_path: Path, tally: Tally, kind: str) -> None:
    """Pictures of a page are drawn anew: comments, EXIF and XMP stay behind."""
    for number, payload in enumerate(PAYLOADS):
        file = tmp_path / f"{number}.{kind.lower()}"
        image = Image.new("RGB", (40, 40), (200, 30, 30))
        exif = image.getexif()
        exif[0x010E] = f"payload {payload}"
        image.save(file, kind, exif=exif, **({"comment": b"payload"} if kind == "JPEG" else {}))
        assert b"payload" in file.read_bytes()
        evidence._save(thumbnail(file, 16, max_pixels=10_000), tmp_path / "small.webp")
        assert b"payload" not in (tmp_path / "small.webp").read_bytes()
        with Image.open(tmp_path / "small.webp") as small:
            assert not ({"exif", "xmp", "icc_profile", "comment"} & set(small.info))
    tally.count(FAMILY, comments=len(PAYLOADS), new=0)


# What protects, taken away: the check above must notice.


@pytest.mark.parametrize("what", ["escaping", "policy", "visible characters"])
def test_the_check_notices_what_is_missing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    plain = page_of_runs(tmp_path / "plain", "plain")
    shell._environment.cache_clear()
    if what == "escaping":
        monkeypatch.setattr(shell, "_visible", lambda value: Markup(value) if type(value) is str else value)  # noqa: S704
        payload, noticed = "<b>x</b>", "elements"
    elif what == "policy":
        monkeypatch.setattr(shell, "_policy", lambda style, scripts, *, live: "default-src *")
        payload, noticed = "plain", "policy"
    else:
        monkeypatch.setattr(shell, "_visible", lambda value: value)
        payload, noticed = "\u202egpj.exe", "hidden"
    try:
        assert noticed in problems(page_of_runs(tmp_path / "evil", payload), plain, exact=True)
    finally:
        shell._environment.cache_clear()
    tally.count("mutants", caught=1, escaped=0)
