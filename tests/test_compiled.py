"""Libraries that are compiled here: once, by whoever comes first."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reslab.compiled import NoCompiler, NotBuilt, Source, loaded

SOURCE = Source("resize", "reslab.data", ("resize.cpp", "resize.h"), ("-O1", "-shared", "-fPIC"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESLAB_CACHE", str(tmp_path / "cache"))
    try:
        loaded(SOURCE)
    except NotBuilt:
        pytest.skip("no C++ compiler")
    [built] = (tmp_path / "cache" / "kernels").iterdir()
    return built


def test_it_is_compiled_once(cache: Path) -> None:
    before = cache.stat().st_mtime_ns
    assert loaded(SOURCE).resized_part
    assert cache.stat().st_mtime_ns == before


def test_several_may_compile_at_once(cache: Path) -> None:
    cache.unlink()
    with ThreadPoolExecutor(3) as pool:
        assert all(library.resized_part for library in pool.map(loaded, [SOURCE] * 3))
    assert list(cache.parent.iterdir()) == [cache]


def test_one_that_cannot_be_loaded_is_made_anew(cache: Path) -> None:
    cache.unlink()
    cache.write_bytes(b"linked with something that is gone")
    assert loaded(SOURCE).resized_part


def test_flags_and_links_are_part_of_what_it_is(cache: Path) -> None:
    loaded(Source(SOURCE.name, SOURCE.package, SOURCE.files, SOURCE.flags, ("-lm",)))
    assert len(list(cache.parent.iterdir())) == 2


def test_why_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(NotBuilt, match="could not be built"):
        loaded(Source(SOURCE.name, SOURCE.package, SOURCE.files, SOURCE.flags, ("-lno_such_library",)))
    monkeypatch.setenv("RESLAB_CACHE", os.devnull)
    with pytest.raises(NotBuilt):
        loaded(SOURCE)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCompiler):
        loaded(SOURCE)
