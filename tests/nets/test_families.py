"""The families of the papers: published counts, parity with torchvision, and the formulas that they rest on."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
import torchvision.models as reference
from pydantic import ValidationError
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.cifar import Skip, cifar_resnet
from reslab.nets.cost import cost
from reslab.nets.network import Network, build
from reslab.nets.spec import NetSpec, Order

PARAMETERS = {
    # He 2015, Table 1 (as torchvision counts them) and Table 6
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet50-v1": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
    # torchvision's counts of ResNeXt and wide networks
    "resnext50-32x4d": 25_028_904,
    "resnext101-32x8d": 88_791_336,
    "resnext101-64x4d": 83_455_272,
    "wide-resnet50-2": 68_883_240,
    "wide-resnet101-2": 126_886_696,
}
MILLIONS = {
    "preresnet164": 1.7,  # He 2016, Table 4 and section 4.1
    "preresnet1001": 10.2,  # He 2016, Table 4 (10.3 exactly counted)
    "resnext29-8x64d": 34.4,  # Xie 2016, Table 7
    "resnext29-16x64d": 68.1,
    "wrn28-10": 36.5,  # Zagoruyko 2016, Table 5
    "wrn16-8": 11.0,
    "wrn40-4": 8.9,
    "highway19": 2.3,  # He 2015, Table 6
}
GMACS = {
    # He 2015, Table 1
    "resnet18": 1.8,
    "resnet34": 3.6,
    "resnet50-v1": 3.8,
    "resnet101-v1": 7.6,
    "resnet152-v1": 11.3,
}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameters_are_the_published_ones(name: str, parameters: int) -> None:
    assert cost(resolve(name)).params == parameters


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_rounded_parameters_agree_with_the_papers(name: str, millions: float) -> None:
    assert cost(resolve(name)).params / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize(("name", "gmacs"), GMACS.items())
def test_multiply_adds_agree_with_table_1(name: str, gmacs: float) -> None:
    assert cost(resolve(name)).macs / 1e9 == pytest.approx(gmacs, rel=0.02)


@pytest.mark.parametrize("name", CATALOG)
def test_every_network_has_the_parameters_that_it_costs(name: str) -> None:
    spec = resolve(name)
    with torch.device("meta"):
        network = Network(spec)
    assert sum(p.numel() for p in network.parameters()) == cost(spec).params
    assert NetSpec.model_validate_json(spec.model_dump_json()) == spec


PAIRS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": reference.resnet18,
    "resnet50": reference.resnet50,
    "resnext50-32x4d": reference.resnext50_32x4d,
    "wide-resnet50-2": reference.wide_resnet50_2,
}


@pytest.mark.parametrize("name", PAIRS)
def test_parity_with_torchvision(name: str) -> None:
    """Weights copied both ways, BN never the identity: outputs to 1e-5, gradients to 1e-4."""
    torch.manual_seed(0)
    theirs = PAIRS[name](weights=None, num_classes=7).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    ours = build(name, num_classes=7).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 3, 65, 65)
    outputs = []
    for network in (theirs, ours):
        y = network(x)
        y.square().sum().backward()
        outputs.append(y.detach())
    assert (outputs[0] - outputs[1]).norm() <= 1e-5 * outputs[0].norm()
    gradients = {key: p.grad for key, p in theirs.named_parameters()}
    for key, parameter in ours.named_parameters():
        expected = gradients[key]
        assert parameter.grad is not None
        assert expected is not None
        assert (parameter.grad - expected).norm() <= 1e-4 * expected.norm() + 1e-6


SMALL = [
    *(f"cifar_resnet(depth=8, width=4, order='{order}')" for order in get_args(Order)),
    *(f"cifar_resnet(depth=14, width=4, skip='{skip}')" for skip in get_args(Skip)),
    *(f"cifar_bottleneck(depth=11, width=4, order='{order}')" for order in get_args(Order)),
    "cifar_resnet(depth=14, width=4, drop_path=0.5)",
    "cifar_wide(depth=10, factor=1, dropout=0.3)",
    "cifar_resnext(depth=11, cardinality=2, base_width=4)",
    "cifar_highway(widths=(4, 6, 8), gated=(1, 2, 1))",
    "imagenet_resnet(depth=18, stem='deep', downsample='pool', num_classes=10, size=(33, 33))",
    "imagenet_resnet(depth=18, order='full-preactivation', num_classes=10, size=(33, 33))",
]


@pytest.mark.parametrize("name", SMALL)
def test_it_trains_and_costs_what_it_has(name: str) -> None:
    spec = resolve(name)
    network = build(spec).train()
    assert sum(p.numel() for p in network.parameters()) == cost(spec).params
    loss = network(torch.randn(4, 3, *spec.size)).square().sum()
    loss.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("residual", [True, False])
def test_a_network_for_vectors(residual: bool) -> None:
    network = build(f"mlp(depth=10, width=8, residual={residual}, layers=2, in_channels=5)")
    y = network(torch.randn(6, 5))
    assert y.shape == (6, 10)
    y.sum().backward()
    assert sum(p.numel() for p in network.parameters()) == cost(network.spec).params
    assert [type(m) for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)] == [nn.Linear] * 10


def test_pre_activation_adds_up_and_passes_the_gradient_on() -> None:
    """He 2016, eq. 4 and 5: x_L = x_l + sum F, and dE/dx_l = dE/dx_L (1 + d/dx_l sum F)."""
    network = build("cifar_resnet(depth=20, width=4, order='full-preactivation')").double().eval()
    stage = network.stages[0]
    start = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    sums: list[Tensor] = []
    y = start
    for block in list(stage)[1:]:
        handle = block.add.register_forward_hook(lambda _, inputs, __: sums.append(inputs[0]))  # type: ignore[union-attr]
        y = block(y)
        handle.remove()
    torch.testing.assert_close(y, start + torch.stack(sums).sum(0))
    arriving = torch.randn_like(y)
    (whole,) = torch.autograd.grad(y, start, arriving, retain_graph=True)
    (through,) = torch.autograd.grad(torch.stack(sums).sum(0), start, arriving)
    torch.testing.assert_close(whole, arriving + through)


def test_gates_start_by_carrying() -> None:
    """With bias b the gate starts near sigmoid(b): at -6 almost the whole shortcut passes (He 2016, section 3.1)."""
    for kind, of_branch in (("exclusive-gating", 0.0025), ("shortcut-only-gating", 1.0)):
        network = build(f"cifar_resnet(depth=8, width=4, skip='{kind}')").eval()
        block = network.blocks[0]
        assert block.gate is not None
        nn.init.zeros_(block.gate.conv.weight)
        x = torch.randn(2, 4, 8, 8)
        plain = block.bn2(block.conv2(block.relu1(block.bn1(block.conv1(x)))))  # type: ignore[operator]
        joined = block._join(x, plain, x)
        torch.testing.assert_close(joined, of_branch * plain + (1 - 0.0025) * x, rtol=0.05, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("imagenet_resnet(depth=20)", "depth 18, 34, 50, 101, 152, 200, got 20"),
        ("resnet50(shortcut='D')", "options are A, B, C"),
        ("cifar_bottleneck(depth=21)", r"9n\+2, got depth 21; try 20 or 29"),
        ("mlp(depth=9, layers=2)", r"depth 2n\+2, got 9"),
        ("cifar_resnet(depth=8, skip='nothing')", "skip is one of"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(name: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        resolve(name)


def test_groups_must_divide_the_widths() -> None:
    spec = resolve("cifar_resnext(depth=11, cardinality=2, base_width=4)").model_dump()
    spec["stages"][0][0]["branch"]["groups"] = 3
    with pytest.raises(ValidationError, match="3 groups divide neither 8 into 8 channels"):
        NetSpec.model_validate(spec)


def test_stochastic_depth_grows_linearly_and_rests_in_evaluation() -> None:
    spec = cifar_resnet(20, drop_path=0.5)
    assert [round(block.drop_path, 6) for block in spec.blocks] == [round(0.5 * i / 9, 6) for i in range(1, 10)]
    network = build(spec).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(x), build(cifar_resnet(20)).eval()(x))
