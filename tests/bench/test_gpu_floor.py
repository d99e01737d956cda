"""The floor of a step on a GPU: against the cost of a network, and by hand."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from reslab.nets.catalog import resolve
from reslab.nets.cost import cost

ROOT = Path(__file__).parents[2]
SMALL = "cifar_resnet(depth=8, width=16)"


@pytest.fixture(scope="module")
def floor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_floor", ROOT / "benchmarks" / "gpu_floor.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_floor"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("net", "size"), [(SMALL, (32, 32)), ("resnet50", (224, 224))])
def test_operations_are_the_networks_own(floor: ModuleType, net: str, size: tuple[int, int]) -> None:
    """Forward once, backward twice, but for the gradient of the images."""
    kernels = floor.step(net, 4, size)
    spec = resolve(net)
    whole = cost(spec, size)
    forward = sum(k.flops for k in kernels if k.what.endswith("forward"))
    assert forward == 4 * whole.flops
    stem = 4 * whole.parts[0].flops
    assert sum(k.flops for k in kernels) == 3 * forward - stem


def test_bytes_of_normalisation_by_hand(floor: ModuleType) -> None:
    """ResNet-8: a stem, and three stages of a block with two BN; activations halve from stage to stage."""
    batch = 4
    first = batch * 16 * 32 * 32
    numbers = {"statistics": 0, "normalise": 0, "sums": 0, "gradients": 0}
    # The stem's output goes to a block and its shortcut, so that its gradient comes twice.
    for size, added, twice in (
        (first, False, True),
        (first, False, False), (first, True, True),
        (first // 2, False, False), (first // 2, True, True),
        (first // 4, False, False), (first // 4, True, False),
    ):  # fmt: skip
        looked = 2 + added + twice
        numbers["statistics"] += size
        numbers["normalise"] += size * (2 + added)
        numbers["sums"] += size * looked
        numbers["gradients"] += size * (looked + 1 + added)
    found = {
        name: sum(k.bytes for k in floor.step(SMALL, batch) if k.what.startswith("BN") and name in k.what)
        for name in numbers
    }
    assert found == {name: 2 * count for name, count in numbers.items()}


def test_time_is_the_longer_of_both(floor: ModuleType) -> None:
    assert floor.Kernel("", int(2.9e12), int(7e12)).seconds == pytest.approx(1.0)
    assert floor.Kernel("", int(2.9e9), int(7e14)).seconds == pytest.approx(1.0)


def test_launches_by_hand(floor: ModuleType) -> None:
    """Seven BN are four launches each, and a batch is one. A convolution is two, and two for its weight's gradient.

    But the stem, which needs no gradient of its input, and the two with a stride, which the library runs in three.
    """
    seen = floor.launches(SMALL, fused=True)
    assert seen["our BN"] == 7 * 4
    assert seen["our batch"] == 1
    assert seen["our convolution"] == 5 * 4 - 1
    assert seen["convolution"] + seen["convolution_backward"] == 2 * 3
    assert seen["_fused_sgd_"] == 2
    by_modules = floor.launches(SMALL, fused=False)
    assert by_modules["native_batch_norm"] == 7 * 3 * 2, "statistics, running statistics, normalising, of two groups"
    assert sum(by_modules.values()) > 3 * sum(seen.values())
    deeper = floor.launches("cifar_resnet(depth=14, width=16)", fused=True)
    # A block more in each stage: two convolutions and two BN, and nothing else. Their parameters go through launches
    # that there are already.
    assert sum(deeper.values()) - sum(seen.values()) == 3 * 2 * (4 + 4)


def test_the_page_has_these_figures(floor: ModuleType) -> None:
    table = floor.tables([floor.Floor.of(*case) for case in floor.CASES])
    assert table in (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
