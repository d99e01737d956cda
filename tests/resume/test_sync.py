"""BN's statistics over the images of several ranks: what one rank trains, and the derivatives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch.nn import functional as F

from reslab.data.sources import load
from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.spec import NetSpec
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import read_json
from reslab.train.distributed import World
from reslab.train.recipe import Recipe, override
from reslab.train.sharing import ranks_of_group, why_not_shared
from reslab.train.sync import SyncBatchNorm2d, synchronise

from .test_ranks import ALL, ROUNDING, apart, weights

WHOLE = (*ALL, "--set", "bn_group=null")


@pytest.fixture(scope="module")
def one(forge: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one rank with statistics over the whole batch."""
    out = tmp_path_factory.mktemp("one") / "run"
    code, text, _ = forge("train", *WHOLE, "--out", out)
    assert code == 0, text
    return out


def test_two_ranks_have_the_statistics_of_one_where_they_are_computed_twice(
    forge: Any, one: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("train", *WHOLE, "--sync-bn", "--checkpoint-activations", "--out", out)
    for code, text in forge.ranks(words, words):
        assert code == 0, text
    assert apart(out, one) < ROUNDING


def test_two_ranks_have_the_statistics_of_one(forge: Any, one: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", *WHOLE, "--sync-bn", "--out", out)
    for code, text in forge.ranks(words, words):
        assert code == 0, text
    assert apart(out, one) < ROUNDING
    assert read_json(out / "env.json")["sync_bn"] is True
    # Without its end, the run goes on as it was begun.
    before = weights(out)
    (out / "result.json").unlink()
    (out / "checkpoints" / "iteration-00000024.safetensors").unlink()
    for code, text in forge.ranks(*[("train", "--resume", out)] * 2):
        assert code == 0, text
    assert all(torch.equal(tensor, weights(out)[name]) for name, tensor in before.items())


def test_groups_of_two_of_four_ranks(forge: Any, tmp_path: Path) -> None:
    """The paper's groups of 64, and ranks of 32 images."""
    code, text, _ = forge("train", *ALL, "--out", tmp_path / "one")
    assert code == 0, text
    words = ("train", *ALL, "--sync-bn", "--out", tmp_path / "four")
    for code, text in forge.ranks(*[words] * 4):
        assert code == 0, text
    assert apart(tmp_path / "four", tmp_path / "one") < ROUNDING


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "each of 2 ranks sees 64 images; use --sync-bn to compute them across ranks, or --set"),
        (
            ("--sync-bn", "--accumulate", 2),
            "--sync-bn combines them across ranks, not across the parts of --accumulate",
        ),
    ],
)
def test_what_is_refused(forge: Any, tmp_path: Path, words: tuple[object, ...], says: str) -> None:
    words = ("train", *WHOLE, *words, "--out", tmp_path / "run")
    for code, text in forge.ranks(words, words):
        assert code == 2, text
        assert says in text
    assert not (tmp_path / "run").exists()


def test_ranks_that_disagree_about_it(forge: Any, tmp_path: Path) -> None:
    words = ("train", *WHOLE, "--out", tmp_path / "run")
    for code, text in forge.ranks((*words, "--sync-bn"), words):
        assert code == 2, text
        assert "the ranks differ in their --sync-bn: True on rank 0, False on rank 1" in text


def recipe(group: str) -> Recipe:
    return override(he2015_cifar("resnet20", load("synthetic").info, batch=192), [f"bn_group={group}"])


@pytest.mark.parametrize(
    ("group", "ranks", "spread"), [("null", 4, 4), ("192", 4, 4), ("96", 4, 2), ("48", 4, 1), ("24", 4, 1)]
)
def test_how_many_ranks_a_group_is_spread_over(group: str, ranks: int, spread: int) -> None:
    made = recipe(group)
    assert ranks_of_group(made, ranks) == spread
    assert isinstance(made.net, NetSpec)
    net = build(made.net)
    assert why_not_shared(made, net, ranks, ranks=ranks, synced=True) == ""
    assert bool(why_not_shared(made, net, ranks, ranks=ranks)) == (spread > 1)


def test_a_group_that_no_number_of_ranks_holds() -> None:
    """Groups of 64, and ranks of 48."""
    made = recipe("64")
    assert isinstance(made.net, NetSpec)
    reason = why_not_shared(made, build(made.net), 4, ranks=4, synced=True)
    assert "groups of 64 images, but each of {how} sees 48 images; use --set bn_group=48" in reason


def test_derivatives_and_statistics(tmp_path: Path) -> None:
    """In a world of one, where it is BN: against finite differences and PyTorch's own, in fp64."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        net = build("cifar_resnet(depth=8, width=4)")
        synchronise(net, World(), 1)
        norm = net.bn1
        assert isinstance(norm, SyncBatchNorm2d)
        norm.double()
        draw = torch.Generator().manual_seed(0)
        x = (torch.randn(3, 4, 2, 3, generator=draw).double() * 2 + 1).requires_grad_()
        weight = torch.nn.Parameter(torch.rand(4, generator=draw).double() + 0.5)
        bias = torch.nn.Parameter(torch.rand(4, generator=draw).double())
        norm.weight, norm.bias = weight, bias
        assert torch.autograd.gradcheck(lambda x, *_: norm(x), (x, weight, bias))
        norm.reset_running_stats()
        mean, var = torch.zeros(4).double(), torch.ones(4).double()
        wanted = F.batch_norm(x, mean, var, weight, bias, True, norm.momentum, norm.eps)  # type: ignore[arg-type]
        torch.testing.assert_close(norm(x), wanted)
        torch.testing.assert_close([norm.running_mean, norm.running_var], [mean, var])
        # A mean that is large against the spread loses no digits.
        far = norm.float()(x.detach().float() + 1000)
        torch.testing.assert_close(far.double(), wanted.detach(), rtol=0, atol=2e-4)
    finally:
        dist.destroy_process_group()


def test_vectors_are_not_for_it() -> None:
    with pytest.raises(InputError, match="--sync-bn is for networks of images; mlp"):
        synchronise(build("mlp(depth=4, width=8)"), World(), 1)
