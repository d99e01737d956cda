"""BN's statistics as true averages: against the averages written out, and nothing else changed."""

import pytest
import torch
from torch import Tensor, nn

from reslab.data.images import ImageSet
from reslab.data.loader import Eval
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.evaluate.recalibrate import recalibrate
from reslab.nets import build
from reslab.nets.catalog import resolve
from reslab.nets.network import Network

CPU = torch.device("cpu")
NORMALIZER = Normalizer(torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25))


def images(n: int = 12, batch: int = 4) -> Eval:
    pixels = torch.randint(0, 256, (n, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Eval(ImageSet(pixels, torch.arange(n) % 3), NORMALIZER, batch=batch, device=CPU)


def network(name: str = "cifar_resnet(depth=8, width=16)", **fields: object) -> Network:
    spec = resolve(resolve(name, num_classes=3, size=(12, 12)), **fields)
    return build(spec).to(memory_format=torch.channels_last)


def statistics(net: Network) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in net.named_buffers() if "running" in name}


def slow(net: Network, seen: Eval) -> dict[str, Tensor]:
    """The mean over the batches of what each BN layer takes its statistics of."""
    found: dict[str, list[Tensor]] = {}
    norms = {module: name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}

    def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0].double().transpose(0, 1).flatten(1)
        found.setdefault(f"{norms[module]}.running_mean", []).append(x.mean(1))  # type: ignore[index]
        found.setdefault(f"{norms[module]}.running_var", []).append(x.var(1))  # type: ignore[index]

    hooks = [module.register_forward_pre_hook(look) for module in norms]
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.train()
    with torch.no_grad():
        for x, _ in seen:
            if len(x) == seen.batch:
                net(x)
        for name, buffer in net.named_buffers():
            buffer.copy_(before[name])
    for hook in hooks:
        hook.remove()
    net.eval()
    return {name: torch.stack(values).mean(0).float() for name, values in found.items()}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("momentum", [0.1, 0.9])
def test_the_averages_over_all_batches(fused: bool, momentum: float) -> None:
    net = network(norm={"momentum": momentum}).eval()
    expected = slow(net, images())
    net.fuse(fused)
    assert recalibrate(net, images(), device=CPU) == 12
    found = statistics(net)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not any(module.training for module in net.modules())


def test_what_the_statistics_were_before_does_not_matter() -> None:
    one, other = network().eval(), network().eval()
    with torch.no_grad():
        for name, buffer in other.named_buffers():
            if "running" in name:
                buffer.fill_(3.0)
    for net in (one, other, other):  # and twice is once
        recalibrate(net, images(), device=CPU)
    torch.testing.assert_close(statistics(one), statistics(other), rtol=0, atol=0)


def test_a_batch_that_is_not_full_is_left_out() -> None:
    nets = [network().eval() for _ in range(2)]
    assert recalibrate(nets[0], images(8), device=CPU) == 8
    ten = images(10)  # 4, 4 and 2
    ten.images = torch.cat([images(8).images, images(2).images])
    assert recalibrate(nets[1], ten, device=CPU) == 8
    torch.testing.assert_close(statistics(nets[0]), statistics(nets[1]), rtol=0, atol=0)
    assert recalibrate(network().eval(), images(3), device=CPU) == 3, "fewer than a batch are one"


def test_everything_else_stays() -> None:
    net = network("cifar_resnet(depth=8, width=4)", dropout=0.5).train()
    net.stages[0].eval()
    net.group_norm_statistics(2)
    for block in net.blocks:
        block.bn1.momentum = 0.3  # type: ignore[union-attr]
    modes = {name: module.training for name, module in net.named_modules()}
    weights = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    recalibrate(net, images(), device=CPU)
    assert {name: module.training for name, module in net.named_modules()} == modes
    torch.testing.assert_close(dict(net.named_parameters()), weights, rtol=0, atol=0)
    assert {block.bn1.momentum for block in net.blocks} == {0.3}  # type: ignore[union-attr]
    assert isinstance(net.dropout, nn.Dropout)
    assert net.dropout.p == 0.5


def test_everything_else_stays_after_an_error() -> None:
    net = network("cifar_resnet(depth=8, width=4)", dropout=0.5).eval()
    net.fc.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("out of luck")))
    with pytest.raises(RuntimeError, match="out of luck"):
        recalibrate(net, images(), device=CPU)
    assert not any(module.training for module in net.modules())
    assert {module.momentum for module in net.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}
    assert net.dropout.p == 0.5


def test_dropout_is_off_meanwhile() -> None:
    """In front of a BN layer it would change the variance."""
    plain = network("cifar_resnet(depth=8, width=4)").eval()
    thinned = network("cifar_resnet(depth=8, width=4)").eval()
    first = thinned.blocks[0]
    first.dropout = nn.Dropout(0.9)
    for net in (plain, thinned):
        recalibrate(net, images(), device=CPU)
    torch.testing.assert_close(statistics(plain), statistics(thinned))


def test_what_cannot_be_recalibrated() -> None:
    with pytest.raises(InputError, match="the network has no BN"):
        recalibrate(network(norm=None), images(), device=CPU)
    with pytest.raises(InputError, match="two images or more, got 1"):
        recalibrate(network(), images(1), device=CPU)
