"""Each field of the optimiser against plain Python, and against PyTorch's own class."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.nets import build
from reslab.train.optim import MuonOptimizer, Optimizer, make_optimizer, orthogonalised
from reslab.train.recipe import Muon, Sgd

RATES = [0.1, 0.1, 0.1, 0.01, 0.01, 0.2, 0.2, 0.001]


class Scalar(nn.Module):
    """One weight, whose gradient is set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0]))


def by_optimizer(spec: Sgd, rates: list[float]) -> list[float]:
    net, path = Scalar(), []
    optimizer = Optimizer.of(net, spec)
    for step, lr in enumerate(rates):
        optimizer.set_lr(lr)
        net.weight.grad = torch.tensor([1.0 + step])
        optimizer.step()
        path.append(net.weight.item())
    return path


def by_hand(spec: Sgd, rates: list[float]) -> list[float]:
    w, v, path = 1.0, 0.0, []
    for step, lr in enumerate(rates):
        g = 1.0 + step + spec.weight_decay * w
        inside = spec.momentum_form == "lr-inside"
        v = spec.momentum * v + (lr * g if inside else g)
        look_ahead = spec.momentum * v + (lr * g if inside else g) if spec.nesterov else v
        w -= look_ahead if inside else lr * look_ahead
        path.append(w)
    return path


@pytest.mark.parametrize("form", ["lr-inside", "lr-outside"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 0.0), (0.5, 0.1)])
def test_the_formula(form: str, nesterov: bool, momentum: float, weight_decay: float) -> None:
    spec = Sgd.model_validate(
        {"momentum_form": form, "nesterov": nesterov, "momentum": momentum, "weight_decay": weight_decay}
    )
    assert by_optimizer(spec, RATES) == pytest.approx(by_hand(spec, RATES), rel=1e-5)


def test_without_momentum() -> None:
    spec = Sgd(momentum=0.0, weight_decay=0.1)
    assert by_optimizer(spec, RATES) == pytest.approx(by_hand(spec, RATES), rel=1e-5)


def test_the_forms_differ_only_where_the_rate_changes() -> None:
    inside, outside = Sgd(momentum_form="lr-inside"), Sgd(momentum_form="lr-outside")
    assert by_optimizer(inside, [0.1] * 6) == by_optimizer(outside, [0.1] * 6)
    a, b = by_optimizer(inside, RATES), by_optimizer(outside, RATES)
    assert a[:3] == b[:3]
    assert a[3] != pytest.approx(b[3], rel=1e-3)


def batches(n: int) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(3)
    return [(torch.randn(8, 3, 8, 8, generator=draw), torch.randint(10, (8,), generator=draw)) for _ in range(n)]


def trained(spec: Sgd, rates: list[float]) -> dict[str, Tensor]:
    net = build("cifar_resnet(depth=8, width=4, shortcut='B')", seed=1, size=(8, 8))
    optimizer = Optimizer.of(net, spec)
    for lr, (x, y) in zip(rates, batches(len(rates)), strict=True):
        optimizer.set_lr(lr)
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        assert all(p.grad is None for p in net.parameters())
    return {name: p.detach() for name, p in net.named_parameters()}


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_parity_with_torch(nesterov: bool, fused: bool) -> None:
    rates = [0.1, 0.1, 0.02, 0.02, 0.004]
    ours = trained(
        Sgd(momentum_form="lr-outside", decay="all", weight_decay=0.01, nesterov=nesterov, momentum=0.8), rates
    )
    net = build("cifar_resnet(depth=8, width=4, shortcut='B')", seed=1, size=(8, 8))
    theirs = torch.optim.SGD(
        net.parameters(), lr=0.1, momentum=0.8, weight_decay=0.01, nesterov=nesterov, fused=fused, foreach=False
    )
    for lr, (x, y) in zip(rates, batches(len(rates)), strict=True):
        theirs.param_groups[0]["lr"] = lr
        F.cross_entropy(net(x), y).backward()
        theirs.step()
        theirs.zero_grad()
    for name, p in net.named_parameters():
        torch.testing.assert_close(ours[name], p.detach(), rtol=0 if fused else 1e-4, atol=0 if fused else 1e-6)


def test_what_decays() -> None:
    """With no gradient but that of the decay, exactly the decayed ones shrink, by 1 - lr * decay."""
    for decay in ("weights", "all"):
        net = build("cifar_resnet(depth=8, width=4, shortcut='B')", size=(8, 8))
        with torch.no_grad():
            for p in net.parameters():
                p.fill_(1.0)
        optimizer = Optimizer.of(net, Sgd.model_validate({"decay": decay, "weight_decay": 0.5, "lr": 0.1}))
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        shrunk = {name for name, p in net.named_parameters() if p.flatten()[0].item() == pytest.approx(0.95)}
        kept = {name for name, p in net.named_parameters() if p.flatten()[0].item() == 1.0}
        names = {name for name, _ in net.named_parameters()}
        assert shrunk | kept == names
        layers = {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
        assert "layer2.0.downsample.0.weight" in layers
        assert shrunk == (layers if decay == "weights" else names)


def test_restored_velocities_go_on() -> None:
    spec = Sgd()
    straight, stopped = Scalar(), Scalar()
    one, two = Optimizer.of(straight, spec), Optimizer.of(stopped, spec)
    for step, lr in enumerate(RATES):
        if step == 4:  # just after a drop: the velocity and the rate it was made with belong together
            before = {name: v.clone() for name, v in two.momentum().items()}
            lr_before = two.lr
            two = Optimizer.of(stopped, spec)
            assert two.momentum() == {}
            two.restore(lr_before, before)
        for net, optimizer in ((straight, one), (stopped, two)):
            optimizer.set_lr(lr)
            net.weight.grad = torch.tensor([1.0 + step])
            optimizer.step()
        assert straight.weight.item() == stopped.weight.item()


def test_muon_orthogonalises() -> None:
    for shape in ((4, 30), (30, 4), (6, 6)):
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        ours = orthogonalised(drawn, 8).float()
        values = torch.linalg.svdvals(ours)
        assert values.min() > 0.6
        assert values.max() < 1.3
        # The same directions: the nearest orthogonal matrix is U V of the singular value decomposition.
        left, _, right = torch.linalg.svd(drawn, full_matrices=False)
        assert float((ours * (left @ right)).sum() / (ours.norm() * (left @ right).norm())) > 0.97


def test_muons_step_by_hand() -> None:
    net = build("cifar_resnet(depth=8, width=4)", size=(8, 8))
    spec = Muon(lr=0.2, momentum=0.5, nesterov=True, steps=3)
    optimizer = MuonOptimizer(net, spec)
    weight, scale = net.get_parameter("layer2.0.conv2.weight"), net.get_parameter("bn1.weight")
    started, scale_started = weight.detach().clone(), scale.detach().clone()
    velocity = torch.zeros_like(weight)
    for step, lr in enumerate((0.2, 0.1)):
        optimizer.set_lr(lr)
        for parameter in net.parameters():
            draw = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(step))
        velocity = 0.5 * velocity + gradient
        rows = len(started)
        started *= rows**0.5 / started.norm()
        update = orthogonalised((gradient + 0.5 * velocity).reshape(rows, -1), 3).view_as(started)
        started -= lr * update.float()
        optimizer.step()
        torch.testing.assert_close(weight.detach(), started, rtol=1e-5, atol=1e-6)
        assert all(parameter.grad is None for parameter in net.parameters())
    assert optimizer.others.lr == pytest.approx(spec.others.lr / 2)
    assert not torch.equal(scale, scale_started), "SGD moves what is no filter"


def test_muon_goes_on_from_saved_velocities() -> None:
    nets = [build("cifar_resnet(depth=8, width=4)", size=(8, 8)) for _ in range(2)]
    one, two = (MuonOptimizer(net, Muon()) for net in nets)
    for step in range(4):
        for net, optimizer in zip(nets, (one, two), strict=True):
            for number, parameter in enumerate(net.parameters()):
                draw = torch.Generator().manual_seed(100 * step + number)
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            optimizer.step()
        saved = {name: tensor.clone() for name, tensor in two.momentum().items()}
        lr = two.lr
        two = MuonOptimizer(nets[1], Muon())
        two.restore(lr, saved)
        one.set_lr(one.lr / 2)
        two.set_lr(two.lr / 2)
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict(), rtol=0, atol=0)


def test_what_is_frozen_stays() -> None:
    for spec in (Sgd(), Muon()):
        net = build("cifar_resnet(depth=8, width=4)", size=(8, 8))
        net.get_parameter("conv1.weight").requires_grad_(False)
        before = net.state_dict()["conv1.weight"].clone()
        net(torch.randn(4, 3, 8, 8)).sum().backward()
        make_optimizer(net, spec).step()
        assert torch.equal(net.state_dict()["conv1.weight"], before)
        assert not torch.equal(net.state_dict()["fc.weight"], build(net.spec).state_dict()["fc.weight"])
