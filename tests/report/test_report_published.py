import pytest

from reslab import published
from reslab.errors import InputError


def test_table6_of_he2015() -> None:
    paper = published.load("he2015")
    rows = paper["table6"]["rows"]
    errors = {name: rows[name]["test_error"] for name in rows if name.startswith("resnet")}
    assert errors == {
        "resnet20": 8.75,
        "resnet32": 7.51,
        "resnet44": 7.17,
        "resnet56": 6.97,
        "resnet110": 6.43,
        "resnet1202": 7.93,
    }
    assert all(row["depth"] == 6 * row["n"] + 2 for row in rows.values() if "n" in row)
    assert (rows["resnet110"]["mean"], rows["resnet110"]["std"]) == (6.61, 0.16)


def test_every_table_says_where_it_is_from_and_how_it_was_measured() -> None:
    for name in published.names():
        paper = published.load(name)
        assert {"key", "cite", "title", "arxiv"} <= paper["paper"].keys()
        assert paper["paper"]["key"] == name
        tables = {name: part for name, part in paper.items() if name not in ("paper", "recipe")}
        assert tables
        for part in tables.values():
            assert {"place", "what", "protocol"} <= part.keys()
    paper = published.load("he2015")
    assert len(paper) >= 10
    for row in paper["table3"]["rows"].values():
        assert 0 < row["top5_error"] < row["top1_error"] < 100


def test_multiply_adds_of_vgg_are_cited_from_the_text() -> None:
    """The paper's Table 1 holds ResNets only; VGG's 15.3 and 19.6 billion stand in section 4.1."""
    paper = published.load("he2015")
    assert all(row["depth"] and row["block"] for row in paper["table1"]["rows"].values())
    assert paper["vgg"]["place"] == "Section 4.1"
    assert {name: row["gmacs"] for name, row in paper["vgg"]["rows"].items()} == {"vgg16": 15.3, "vgg19": 19.6}


def test_an_unknown_paper_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'xie2016'"):
        published.load("xie2061")
    assert "he2015" in published.names()
