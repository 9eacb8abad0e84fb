"""Lines of keys and text of values, against tomllib."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from imgkit.errors import printable
from imgkit.recipe.toml import key_lines, value_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALAR = st.one_of(st.integers(), st.booleans(), TEXT, st.floats(allow_nan=False))


@given(st.one_of(SCALAR, st.lists(SCALAR, max_size=4)))
def test_values_read_back(value: object) -> None:
    read = tomllib.loads(f"x = {value_text(value)}")["x"]
    assert read == value
    assert type(read) is type(value)


def test_values_are_short() -> None:
    assert [value_text(value) for value in (1e-5, 3e-4, 1e20, (0.5, 1.0), None, "a")] == [
        "1e-5", "0.0003", "1e+20", "[0.5, 1.0]", '"none"', '"a"',
    ]  # fmt: skip


# Each statement holds traps: brackets, quotes, '#' and '=' where they mean nothing.
VALUES = st.sampled_from([
    "1",
    "'a # = [ { b'",
    '"a \\" # ] }"',
    "[1, # ]\n  2,\n]",
    "[\n\n[1], ['[']]",
    '"""one\nx = 1\n[t]\n\\" two"""',
    '""""quoted""""',
    "'''one\n[[t]] # '\n'''",
    "{ a = 1, b = { c = '}' } }  # x = 2",
    '""  # "',
])  # fmt: skip
NOISE = st.sampled_from(["", "\n", "# x = 1 [a] \" '''\n", "  \n\t# [[b]]\n"])
HEADERS = st.sampled_from(["", "[t{0}]", "[[p]]", " [ t{0} . 'u v' ] # x", "[t{0}.p]"])


@given(st.lists(st.tuples(NOISE, HEADERS, st.lists(st.tuples(NOISE, VALUES), max_size=3)), max_size=5))
def test_lines_of_keys(blocks: list[tuple[str, str, list[tuple[str, str]]]]) -> None:
    text, expected, elements = "", {}, 0
    for number, (noise, header, values) in enumerate(blocks):
        text += noise
        table: tuple[str | int, ...] = ()
        names = (header or "[t{0}]").format(number)
        if names.startswith("[[p]]"):
            table, elements = ("p", elements), elements + 1
        else:
            table = tuple(part.strip(" '[]") for part in names.split("#")[0].split("."))
        expected[table] = text.count("\n") + 1
        text += names + "\n"
        for key, (more, value) in enumerate(values):
            text += more
            expected[(*table, f"k{key}")] = text.count("\n") + 1
            text += f"k{key} = {value}\n"
    tomllib.loads(text)  # the test itself writes valid TOML
    found = key_lines(text)
    assert {steps: found.get(steps) for steps in expected} == expected


def test_dotted_and_quoted_keys() -> None:
    found = key_lines('a.b = 1\n"c.d" . e = 2\n[x]\ny = 3\n[[x.z]]\nq = 1\n[x.z.w]\nr = 1\n[[x.z]]\nq = 2\n')
    expected = {
        ("a", "b"): 1, ("c.d", "e"): 2, ("x", "y"): 4, ("x", "z", 0, "q"): 6, ("x", "z", 0, "w", "r"): 8,
        ("x", "z", 1, "q"): 10,
    }  # fmt: skip
    assert {steps: found[steps] for steps in expected} == expected


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_texts_read_back_and_hold_nothing_that_a_terminal_acts_on(text: str) -> None:
    written = value_text(text)
    assert tomllib.loads(f"a = {written}") == {"a": text}
    assert printable(written) == written
