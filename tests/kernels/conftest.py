"""Tiny networks are quicker on one thread, above all where the machine has other work."""

import dataclasses
import platform
from collections.abc import Iterator

import pytest
import torch

from reslab.compiled import NotBuilt, loaded
from reslab.kernels import build


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads(one_thread: None) -> None:
    torch.set_num_threads(2)


@pytest.fixture
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels as another processor compiles them: given indirectly, options of the compiler, or "" for this one."""
    if build.library() is None:
        pytest.skip("no C++ compiler: there are no kernels")
    if not request.param:
        return
    if platform.machine() != "x86_64":
        pytest.skip("the options are those of one kind of processor")
    source = dataclasses.replace(build.SOURCE, name="narrow-kernels", flags=(*build.SOURCE.flags, request.param))
    try:
        library = loaded(source)
    except NotBuilt as why:
        pytest.skip(f"the compiler has no such option: {why}")
    monkeypatch.setattr(build, "library", lambda: library)
