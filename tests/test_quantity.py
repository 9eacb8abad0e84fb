import pytest

from imgkit.quantity import format_bytes, parse_bytes, parse_count, parse_ms, unit_of


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("100MB", 100_000_000),
        ("100 MB", 100_000_000),
        ("95MiB", 95 * 1024 * 1024),
        ("1.5GiB", 3 * 2**29),
        ("2GB", 2_000_000_000),
        ("1_000kB", 1_000_000),
        ("4KiB", 4096),
    ],
)
def test_bytes(text: str, count: int) -> None:
    assert parse_bytes(text) == count
    assert parse_bytes(format_bytes(count, unit_of(text)).replace(",", "")) == count


def test_counts_and_times() -> None:
    assert [parse_count(text) for text in ("25M", "800k", "25_000_000", "1.5B", "7")] == [
        25_000_000,
        800_000,
        25_000_000,
        1_500_000_000,
        7,
    ]
    assert [parse_ms(text) for text in ("20ms", "0.5s", " 1 s ")] == [20.0, 500.0, 1000.0]


def test_a_resnet_50_in_both_units() -> None:
    assert format_bytes(102_441_032, "MB") == "102.44 MB"
    assert format_bytes(102_441_032, "MiB") == "97.70 MiB"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("100", r"'100' has no unit \(kB, MB, GB, KiB, MiB, GiB\); write '100MB' \(millions of bytes\) or '95MiB'"),
        ("100mb", r"'100mb' has the unit 'mb', which is none of kB, .*GiB \(did you mean 'MB'\?\); write"),
        ("100Mbit", "has the unit 'Mbit', which is none of"),
        ("100M", r"has the unit 'M', which is none of"),
        ("0MB", "'0MB' is not above 0"),
        ("-5MB", "'-5MB' is not a size; write '100MB'"),
        ("MB", "'MB' is not a size"),
        ("", "'' is not a size"),
        ("1e3MB", "'1e3MB' is not a size"),
        ("100 000MB", "'100 000MB' is not a size"),
    ],
)
def test_faults_of_sizes(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_bytes(text)


def test_faults_of_counts_and_times() -> None:
    with pytest.raises(ValueError, match=r"'25MB' has the unit 'MB', which is none of k, M, B.*write '25M'"):
        parse_count("25MB")
    with pytest.raises(ValueError, match="'many' is not a number of parameters"):
        parse_count("many")
    with pytest.raises(ValueError, match=r"'20' has no unit \(ms, s\); write '20ms' or '0.5s'"):
        parse_ms("20")
    with pytest.raises(ValueError, match=r"'20sm' has the unit 'sm', which is none of ms, s \(did you mean"):
        parse_ms("20sm")
