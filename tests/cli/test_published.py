"""``reslab published``: the papers' tables."""

import json

from reslab import published

from .sample import Reslab, refused, said


def test_a_paper(reslab: Reslab) -> None:
    code, out, err = reslab("published", "he2015")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    [line] = [line for line in out.splitlines() if line.split()[:1] == ["resnet110"]]
    assert {"6.43", "6.61", "0.16"} <= set(line.split())
    assert "7.40" in out  # as the table has it, not as Python shortens it
    assert "Table 6" in out
    assert said(reslab, "published", "he2015", "--json") == published.load("he2015")


def test_all_papers(reslab: Reslab) -> None:
    code, out, _ = reslab("published")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for name in published.names():
        paper = published.load(name)
        assert paper["paper"]["title"] in " ".join(out.split())
        for part in paper.values():
            for row in part.get("rows", {}):
                assert row in out
    assert set(json.loads(reslab("published", "--json")[1])) == set(published.names())


def test_a_paper_that_is_not_there(reslab: Reslab) -> None:
    assert "did you mean 'xie2016'" in refused(reslab, "published", "xie2061")
