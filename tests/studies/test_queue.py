"""The order of all studies, and working through it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reslab import studies
from reslab.commands import study_queue
from reslab.studies.design import Below, Study
from reslab.studies.power import Seen
from reslab.studies.queue import LENGTHS, Candidate, candidates, expected, ranked, seconds, sizes
from reslab.studies.sequential import LOOKS

Reslab = Callable[..., tuple[int, str, str]]
SHORTCUTS = studies.find("identity-shortcuts")
KEYS = {claim.key for claim in SHORTCUTS.claims}


def macs(net: str) -> int:
    return 1_000


def per_mac(study: Study) -> float:
    return 2e-6 if study.precision == "fp32" else 1e-6


def seen(spread: float) -> Seen:
    return Seen("depth", Below("a", "b"), (20,), 2000, (5 - spread, 5.0, 5 + spread), papers_data=True)


def test_candidates_are_every_size_to_each_look_that_is_to_come() -> None:
    every = list(candidates({}))
    assert len(every) == sum(len(sizes(study)) for study in studies.every()) * len(LENGTHS) * len(LOOKS)
    size = ("identity-shortcuts", (56,), 2000)
    left = [each for each in candidates({size: 5}) if each.size == size]
    assert [(each.seeds, each.done) for each in left] == [(8, 5), (12, 5)]
    assert left[0].folder == "identity-shortcuts-56-2000"


def test_what_a_candidate_is_expected_to_decide() -> None:
    one = Candidate(SHORTCUTS, (56,), 2000, 8, 0)
    small = expected(one, KEYS, [seen(1.0)])
    assert 3 < small <= len(KEYS), "dropout, 1x1 and scaling are far apart in the paper"
    assert expected(one, set(), [seen(1.0)]) == 0, "nothing is open"
    assert expected(one, KEYS, [seen(30.0)]) == 0, "it could not see the published effects"
    assert expected(Candidate(SHORTCUTS, (20,), 2000, 8, 0), KEYS, [seen(1.0)]) == 0, "too shallow for the claims"
    assert expected(Candidate(SHORTCUTS, (56,), 2000, 3, 0), KEYS, [seen(1.0)]) < small


def test_a_difference_that_was_seen_stands_in_place_of_the_papers() -> None:
    [claim] = [claim for claim in SHORTCUTS.claims if claim.key == "he2016-identity-exclusive-gating"]
    [test] = claim.tests((56,))
    one = Candidate(SHORTCUTS, (56,), 2000, 8, 3)
    midway = -test.published / 4  # type: ignore[union-attr]
    here = Seen("identity-shortcuts", test, (56,), 2000, (midway - 1, midway, midway + 1), papers_data=True)
    assert expected(one, {claim.key}, [seen(1.0)]) > 0.9
    assert expected(one, {claim.key}, [seen(1.0), here]) < 0.5


def test_the_cost_by_hand() -> None:
    one = Candidate(studies.find("degradation"), (20, 56), 4000, 5, 3)
    assert seconds(one, macs, per_mac) == pytest.approx(4 * 1_000 * 4000 * 2e-6 * 2)


def test_most_claims_an_hour_first() -> None:
    keys = {"he2016-identity-dropout", "he2016-identity-conv1x1"}
    order = ranked({}, keys, [seen(1.0)], macs=macs, per_mac=per_mac)
    rates = [each.per_hour for each in order]
    assert rates == sorted(rates, reverse=True)
    assert {each.candidate.study.name for each in order} == {"identity-shortcuts"}
    assert order[0].candidate.iterations == 2000
    assert not ranked({}, set(), [seen(1.0)], macs=macs, per_mac=per_mac)


def test_the_command_works_through_them_and_goes_on(
    reslab: Reslab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the digits in place of CIFAR-10, and with sizes that take seconds; the second seed is cut short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study_queue, "of_papers_data", lambda name, images: True)
    monkeypatch.setattr("reslab.studies.queue.on_papers_data", lambda summary: True)
    monkeypatch.setattr("reslab.studies.queue.LENGTHS", (12,))
    monkeypatch.setattr("reslab.studies.queue.LOOKS", (1, 2))
    monkeypatch.setattr("reslab.studies.queue.sizes", lambda study: [(8, 14)] if study.name == "degradation" else [])
    monkeypatch.setattr("reslab.studies.queue.short_of", lambda wanted, have: "")
    monkeypatch.setattr(study_queue, "MEASURING", 0.1)
    monkeypatch.setattr("os.nice", lambda by: 0)
    words = ("study", "--queue", "--data", "digits")
    code, text, err = reslab(*words, "--dry-run", "--json")
    assert code == 0, err
    [first] = json.loads(text)
    assert (first["study"], first["depths"], first["iterations"]) == ("degradation", [8, 14], 12)
    assert not any(tmp_path.iterdir())
    code, _, err = reslab(*words, "--budget", 60)
    assert code == 0, err
    folder = tmp_path / "runs" / "queue" / "degradation-8-14-12"
    assert {row["n"] for row in json.loads((folder / "summary.json").read_text())["rows"]} == {2}
    assert "nothing is left to decide" in err or "no study that could decide" in err
    (folder / "summary.json").unlink()
    code, _, err = reslab(*words, "--budget", 60)
    assert code == 0, err
    assert "8 of 8 runs are finished already" in err, "what was begun goes on first"


def test_what_does_not_go_with_it(reslab: Reslab) -> None:
    code, _, err = reslab("study", "shortcuts", "--queue", "--data", "digits", "--seeds", 3)
    assert code == 2
    assert "leave out --seeds, NAME" in err
    code, _, err = reslab("study", "--queue", "--data", "digits")
    assert code == 2
    assert "expected --data cifar10, got digits" in err
