"""docs/verdicts.md is what its script makes of the records, and records name no folder of their maker's."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_it_is_what_the_records_say(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("verdicts", ROOT / "scripts" / "verdicts.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(ROOT)
    assert script.article(Path("results")) == (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8"), (
        "python scripts/verdicts.py makes it anew"
    )


def test_records_call_a_known_data_set_by_its_name() -> None:
    for path in (ROOT / "results").rglob("summary.json"):
        assert "/data/cifar10" not in path.read_text(encoding="utf-8"), path
