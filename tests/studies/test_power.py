"""What a study could see, before it is run."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy import stats

from reslab.studies.design import Absolute, Below, Sooner, Within
from reslab.studies.power import CLEAR, Seen, chance, differences_seen, spread_of, visible
from reslab.studies.sequential import EACH, LOOKS

Reslab = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("effect", [1.0, 3.0, 6.0])
def test_the_chance_at_the_first_look_by_the_noncentral_t(effect: float) -> None:
    seeds = LOOKS[0]
    wanted = stats.nct.sf(stats.t.isf(EACH, seeds - 1), seeds - 1, effect * math.sqrt(seeds))
    assert chance(Below("a", "b"), -2 * effect, 2.0, seeds) == pytest.approx(wanted, abs=0.03)


def test_more_seeds_see_smaller_effects() -> None:
    least = [visible(seeds) for seeds in (2, *LOOKS)]
    assert least == sorted(least, reverse=True)
    assert math.isinf(least[0]), "two seeds decide nothing"
    assert visible(6) == visible(5), "the sixth seed is in no look"
    assert chance(Below("a", "b"), -visible(5), 1.0, 5) == pytest.approx(CLEAR, abs=0.01)


def test_either_verdict_counts() -> None:
    """An effect of nothing is seen as well, where the paper's is large: as less than half of it."""
    assert chance(Below("a", "b", published=6.0), 0.0, 1.0, 8) > 0.9
    assert chance(Below("a", "b", published=0.5), 0.0, 1.0, 8) < 0.2
    assert chance(Within("a", "b", 4.0), 0.0, 1.0, 8) > 0.9
    assert chance(Within("a", "b", 0.1), 0.0, 1.0, 8) < 0.1
    assert chance(Absolute("a", "above", 1.0), 4.0, 1.0, 8) > 0.9
    assert chance(Sooner("a", "b"), 0.0, 1.0, 8) < 0.1


def test_the_spread_is_that_of_lengths_near_it() -> None:
    def seen(iterations: int, spread: float, papers_data: bool = True) -> Seen:
        values = (5 - spread, 5.0, 5 + spread)
        return Seen("depth", Below("a", "b"), (20, 32), iterations, values, papers_data)

    records = [seen(2000, 1.0), seen(2500, 2.0), seen(16_000, 0.3), seen(2000, 90.0, papers_data=False)]
    assert spread_of("test_error", 2000, records) == pytest.approx(math.sqrt((1 + 4) / 2))
    assert spread_of("test_error", 64_000, records) == pytest.approx(0.3)
    assert spread_of("train_error", 2000, records) is None


def test_the_records_of_the_repository_are_read() -> None:
    seen = differences_seen([ROOT / "results"])
    assert {"degradation", "shortcuts", "depth"} <= {each.study for each in seen if each.papers_data}
    assert all(len(each.values) > 1 and each.iterations for each in seen)


def test_the_command(reslab: Reslab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ("study", "shortcuts", "--power", "--seeds", 5, "--iterations", 2000)
    monkeypatch.chdir(ROOT)
    code, text, err = reslab(*words, "--json")
    assert code == 0, err
    found = json.loads(text)
    assert found["least_in_standard_deviations"] == visible(5)
    first = found["comparisons"][0]
    assert first["comparison"].startswith("test error of A, zero padding minus that of none below 0")
    assert first["published"] == pytest.approx(3.51)
    assert first["least"] == pytest.approx(first["spread"] * visible(5))
    assert 0 < first["chance"] <= 1
    monkeypatch.chdir(tmp_path)
    code, text, err = reslab(*words[:3], "--seeds", 2)
    assert code == 0, err
    assert "Nothing is decided by fewer than 3 seeds" in text
    assert not any(tmp_path.iterdir())
