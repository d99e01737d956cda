"""Claims about the inside of networks: each rule on numbers made by hand, and on figures that were really measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from reslab.probes.claims import CLAIMS, PairClaim, ProbeClaim, decided
from reslab.probes.figures import FIGURES
from reslab.probes.rules import Measured, has_learnt, spearman
from reslab.report.summary import Judgement

Reslab = Callable[..., tuple[int, str, str]]
BY_KEY = {claim.key: claim for claim in CLAIMS}


def decide(key: str, **result: Any) -> Judgement:
    claim = BY_KEY[key]
    assert isinstance(claim, ProbeClaim)
    return claim.decide(Measured(claim.figure, "net", {"depth": 20, "order": result.pop("order", "original")}, result))[
        0
    ]


def pair(key: str, first: list[float], second: list[float]) -> Judgement:
    claim = BY_KEY[key]
    assert isinstance(claim, PairClaim)
    made = [
        Measured(claim.figure, "net", {}, {"std": [9.0, *std], "kernel": [1, *[3] * len(std)]})
        for std in (first, second)
    ]
    return claim.decide(*made)[0]


SMALL, LARGE = [0.1 + 0.001 * i for i in range(18)], [0.5 + 0.001 * i for i in range(18)]


def test_every_claim_is_of_a_figure_that_there_is() -> None:
    assert {claim.figure for claim in CLAIMS} <= set(FIGURES)
    assert len(BY_KEY) == len(CLAIMS)


@pytest.mark.parametrize("key", ["he2015-responses-plain", "he2015-responses-deeper"])
def test_responses(key: str) -> None:
    assert pair(key, SMALL, LARGE) == "held"
    assert pair(key, LARGE, SMALL) == "not held"
    assert pair(key, SMALL[:9] + LARGE[:9], LARGE[:9] + SMALL[:9]) == "not decided"


@pytest.mark.parametrize(
    ("error", "residual", "chain"),
    [
        ([10.0, 11.0, 10.5, 12.0], "held", "not held"),
        ([10.0, 11.0, 88.0, 12.0], "not held", "not held"),
        ([89.0, 90.0, 88.0, 85.0], "not held", "held"),
        ([10.0, 90.0, 14.0, None], "not held", "not held"),
    ],
)
def test_lesions(error: list[float | None], residual: Judgement, chain: Judgement) -> None:
    found = {"error": error, "whole_error": 10.0, "chance": 90.0, "changes_shape": [0] * 4}
    assert decide("veit2016-lesion", **found) == residual
    assert decide("veit2016-chain", **found) == chain


def test_blocks_that_change_the_shape_do_not_count() -> None:
    found = {"error": [10.0, 90.0, 10.5], "whole_error": 10.0, "chance": 90.0, "changes_shape": [0, 1, 0]}
    assert decide("veit2016-lesion", **found) == "held"


@pytest.mark.parametrize(
    ("median", "verdict"),
    [
        ([10, 15, 22, 35, 50, 65, 80], "held"),
        ([10, 88, 89, 90, 90.1, 90.2, 90.3], "not held"),
        ([10, 30, 20, 50, 40, 70, 60], "not held"),
    ],
)
def test_deletions(median: list[float], verdict: Judgement) -> None:
    assert decide("veit2016-smooth", median=median, deleted=[0, 1, 2, 3, 4, 5, 6], chance=90.0) == verdict


def test_behind_ruin_there_is_noise() -> None:
    median = [10, 30, 50, 70, 85, 84.9, 85.1, 84.8, 85]
    assert decide("veit2016-smooth", median=median, deleted=list(range(9)), chance=90.0) == "held"


def test_of_a_network_that_guesses_nothing_is_said() -> None:
    found = {"error": [89.0, 90.0, 88.0], "whole_error": 60.0, "chance": 90.0, "changes_shape": [0] * 3}
    assert decide("veit2016-lesion", **found) == decide("veit2016-chain", **found) == "not decided"
    assert decide("veit2016-smooth", median=[60, 70, 80], deleted=[0, 1, 2], chance=90.0) == "not decided"
    tau = {"tau": [1 - 0.02 * i for i in range(40)], "error": [60 + i / 2 for i in range(40)], "chance": 90.0}
    assert decide("veit2016-order", whole_error=60.0, **tau) == "not decided"


@pytest.mark.parametrize(
    ("about", "against"),
    [
        ({"depth": 110, "data": "cifar10"}, "not held"),
        ({"depth": 56, "data": "cifar10"}, "not decided"),
        ({"depth": 110, "data": "digits"}, "not decided"),
    ],
)
def test_less_than_the_papers_network_cannot_speak_against_it(about: dict[str, Any], against: Judgement) -> None:
    """What bears a claim out counts anywhere."""
    claim = BY_KEY["veit2016-paths"]
    for longest, expected in ((12, "held"), (20, against)):
        found = {"length": list(range(28)), "shortest": 3, "longest": longest, "mean_length": 8.0}
        verdict, said = decided(claim, Measured("paths", "net", about, found))
        assert verdict == expected
        assert ("cannot count against" in said) is (expected == "not decided")


def test_which_networks_have_learnt() -> None:
    for found, expected in (
        ({"whole_error": 44.0, "chance": 90.0}, True),
        ({"whole_error": 46.0, "chance": 90.0}, False),
        ({"median": [60.0, 80.0], "deleted": [0, 1], "chance": 90.0}, False),
        ({"median": [60.0, 80.0]}, True),
    ):
        assert has_learnt(Measured("figure", "net", {}, found)) is expected


def test_figures_that_are_no_numbers_decide_nothing() -> None:
    found = {"length": list(range(28)), "shortest": 0, "longest": None, "mean_length": None}
    claim = BY_KEY["veit2016-paths"]
    verdict, said = decided(claim, Measured("paths", "net", {}, found))
    assert verdict == "not decided"
    assert "not every figure that the rule needs is a number" in said


RESNET = {
    "residual": True, "depth": 20, "order": "original", "activation": "relu", "branch": "basic", "data": "cifar10",
    "images": 2000, "layers": [[3, 16], [3, 32], [3, 64]], "shortcut": "zero-pad", "same_shape": ["identity"],
}  # fmt: skip
PLAIN = RESNET | {"residual": False, "shortcut": "none", "same_shape": []}
DEEPER = RESNET | {"depth": 56, "layers": [[9, 16], [9, 32], [9, 64]]}


@pytest.mark.parametrize(
    ("key", "about", "applies"),
    [
        ("veit2016-lesion", RESNET, True),
        ("veit2016-lesion", PLAIN, False),
        ("veit2016-chain", PLAIN, True),
        ("veit2016-chain", {"residual": False, "layers": 18}, True),
        ("veit2016-chain", RESNET, False),
        ("veit2016-chain", {}, False),
        ("he2016-sign", RESNET, True),
        ("he2016-sign", RESNET | {"activation": "gelu"}, False),
        ("he2016-sign", RESNET | {"order": "bn-after-addition"}, False),
        ("he2016-sign", RESNET | {"order": "full-preactivation", "activation": "gelu"}, True),
        ("he2016-undiminished", RESNET | {"order": "full-preactivation"}, True),
        ("he2016-undiminished", RESNET | {"order": "full-preactivation", "same_shape": ["scale"]}, False),
        ("tong-he2018-discarded", RESNET | {"shortcut": "projection"}, True),
        ("tong-he2018-discarded", RESNET | {"shortcut": "projection, pooled"}, False),
    ],
)
def test_which_networks_a_claim_is_about(key: str, about: dict[str, Any], applies: bool) -> None:
    claim = BY_KEY[key]
    assert isinstance(claim, ProbeClaim)
    assert claim.of(about) is applies


@pytest.mark.parametrize(
    ("key", "first", "second", "applies"),
    [
        ("he2015-responses-plain", RESNET, PLAIN, True),
        ("he2015-responses-plain", PLAIN, RESNET, False),
        ("he2015-responses-plain", RESNET | {"order": "full-preactivation"}, PLAIN, False),
        ("he2015-responses-plain", RESNET, PLAIN | {"data": "digits"}, False),
        ("he2015-responses-plain", DEEPER, PLAIN, False),
        ("he2015-responses-deeper", DEEPER, RESNET, True),
        ("he2015-responses-deeper", RESNET, DEEPER, False),
        ("he2015-responses-deeper", DEEPER, RESNET | {"images": 60}, False),
        ("he2015-responses-deeper", DEEPER | {"layers": [[9, 160], [9, 320], [9, 640]]}, RESNET, False),
    ],
)
def test_which_pairs_a_claim_is_about(key: str, first: dict[str, Any], second: dict[str, Any], applies: bool) -> None:
    claim = BY_KEY[key]
    assert isinstance(claim, PairClaim)
    assert claim.of(first, second) is applies


def test_reordering() -> None:
    tau = [1 - 0.02 * i for i in range(40)]
    whole = {"tau": tau, "whole_error": 10.0, "chance": 90.0}
    assert decide("veit2016-order", error=[10 + i for i in range(40)], **whole) == "held"
    assert decide("veit2016-order", error=[90 - i for i in range(40)], **whole) == "not held"
    assert decide("veit2016-order", error=[10 + (i * 7) % 11 for i in range(40)], **whole) == "not held"


def test_paths() -> None:
    found = {"length": list(range(28)), "shortest": 2, "mean_length": 5.0}
    assert decide("veit2016-paths", longest=9, **found) == "held"
    assert decide("veit2016-paths", longest=20, **found) == "not held"


def test_gradients() -> None:
    blocks = ["layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer2.2", "end"]
    found = {"block": blocks, "ratio": [1.0, 1.05, 0.9, 1.0, 1.02, None]}
    assert decide("he2016-undiminished", by_shortcuts=[0.1, 0.1, 0.5, 1.0, 1.0, 1.0], **found) == "held"
    assert decide("he2016-undiminished", by_shortcuts=[0.1, 0.1, 0.5, 0.9, 1.0, 1.0], **found) == "not held"
    assert decide("zaeemzadeh2018-norm", **found) == "held"
    assert decide("zaeemzadeh2018-norm", **found | {"ratio": [1.5, 1.4, 1.3, 1.2, 1.1, None]}) == "not held"
    assert decide("he2015-gradients-start", plain_bn=[5.0, 2.0, 1.0]) == "held"
    assert decide("he2015-gradients-start", plain_bn=[0.01, 0.1, 1.0]) == "not held"


def test_the_sign_of_the_signal() -> None:
    assert decide("he2016-sign", negative=[0.5, 0.0, 0.0]) == "held"
    assert decide("he2016-sign", negative=[0.0, 0.0, 0.3]) == "not held"
    assert decide("he2016-sign", negative=[0.0, 0.2, 0.3], order="full-preactivation") == "held"
    assert decide("he2016-sign", negative=[0.0, 0.0, 0.0], order="full-preactivation") == "not held"


def test_laws_and_the_rest() -> None:
    assert decide("balduzzi2017-laws", plain_base=0.51, residual_base=0.74, residual_bn_power=-0.45) == "held"
    assert decide("balduzzi2017-laws", plain_base=0.60, residual_base=0.74, residual_bn_power=-0.45) == "not held"
    shattered = {"depth": [2, 50], "plain_bn": [[1, 0.9], [1, 0.05]], "residual_bn": [[1, 0.9], [1, 0.6]]}
    assert decide("balduzzi2017-shattered", **shattered) == "held"
    assert decide("balduzzi2017-shattered", **shattered | {"plain_bn": [[1, 0.9], [1, 0.5]]}) == "not held"
    assert decide("tong-he2018-discarded", shortcut=[0.75, None, 0.75]) == "held"
    assert decide("tong-he2018-discarded", shortcut=[0.75, 0.0]) == "not held"
    assert decide("tong-he2018-discarded", shortcut=[None]) == "not decided"
    assert decide("srivastava2015-gates", mean=[0.1, 0.3]) == "held"
    assert decide("srivastava2015-gates", mean=[0.7, 0.8]) == "not held"
    fits = {"depth": [2, 16], "plain": [0, 0.5], "residual": [0, 0.1], "seeds": 3}
    bounds = {"plain_low": [0, 0.4], "plain_high": [0, 0.6], "residual_low": [0, 0.05], "residual_high": [0, 0.2]}
    assert decide("he2015-identity-hard", **fits, **bounds) == "held"
    assert decide("he2015-identity-hard", **fits, **bounds | {"plain_low": [0, 0.1]}) == "not decided"


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_scipys(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 6, 20).astype(float), random.normal(size=20)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_from_a_run_to_the_ledger(reslab: Reslab, tmp_path: Path) -> None:
    """Plain and residual twins are trained, looked into, and found in the ledger."""
    torch.set_num_threads(1)
    runs = []
    for net in ("cifar_resnet(depth=14)", "cifar_plain(depth=14)"):
        runs.append(tmp_path / net)
        words = ("--data", "digits", "--iterations", 20, "--batch-size", 32, "--lr", 0.02, "--out", runs[-1])
        assert reslab("train", "he2015_cifar", "--net", net, *words)[0] == 0
    out = tmp_path / "results" / "probes"
    code, _, err = reslab(
        "probe", *runs, "--data", "digits", "--images", 60, "--responses", "--lesions", "--out", out, "--json"
    )
    assert code == 0, err
    code, text, err = reslab("claims", tmp_path / "results", "--json")
    assert code == 0, err
    found = {row["key"]: row for row in json.loads(text) if row["evidence"]}
    assert {"he2015-responses-plain", "veit2016-lesion", "veit2016-chain", "veit2016-smooth", "he2016-sign"} <= set(
        found
    )
    assert found["he2016-sign"]["verdict"] == "held"
    for row in found.values():
        assert row["found"]["of"].endswith("images of digits")
        assert row["found"]["command"].startswith("reslab probe ")
    assert "cifar_plain" in found["veit2016-chain"]["found"]["numbers"]
    assert "cifar_resnet" in found["veit2016-lesion"]["found"]["numbers"]
