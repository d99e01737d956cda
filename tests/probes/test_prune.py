"""Pruning: what does nothing goes first, and what is left is a network of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reslab.data.images import ImageSet
from reslab.data.spec import Augment, DataSpec
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.evaluate.recalibrate import recalibrate
from reslab.nets import build, edit
from reslab.nets.cost import cost
from reslab.nets.network import Network
from reslab.probes.lesions import lesions
from reslab.probes.prune import Images, candidates, finetune, prune
from reslab.probes.seam import Sample
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of, load

from .tiny import PLAIN, PREACTIVATION, RESIDUAL, logits, network, sample, silence

TWENTY = "cifar_resnet(depth=20, width=4)"


def images(*, calibrate: bool = False) -> Images:
    return Images.of(sample(40, seed=1), sample(41, seed=2), calibrate=calibrate)


@torch.no_grad()
def sure(net: Network) -> Images:
    """Makes the network sure of itself, and right about all images, and what each branch adds large: it is missed."""
    for block in net.blocks:
        last = block.last_norm if block.last_norm is not None else block.last_layer
        last.weight.mul_(4)  # type: ignore[operator]
    net.fc.weight.mul_(100)
    use = images()

    def right(part: Sample) -> Sample:
        return replace(part, labels=logits(net, part).argmax(1))

    return Images(right(use.choosing), right(use.deciding), right(use.reporting))


def test_which_images_do_what() -> None:
    test = sample(41, seed=2)
    found = Images.of(sample(40, seed=1), test)
    assert (len(found.deciding), len(found.reporting)) == (21, 20)
    both = torch.cat([found.deciding.x, found.reporting.x])
    assert {float(image.sum()) for image in both} == {float(image.sum()) for image in test.x}, "each in one of the two"
    apart = found.deciding.labels.bincount() - found.reporting.labels.bincount()
    assert int(apart.abs().max()) == 1
    assert found.calibrating is not None
    assert len(found.calibrating) == len(found.choosing)
    with pytest.raises(InputError, match="takes 2 images or more, got 1"):
        Images.of(test, test.some(1))


def test_which_blocks_can_go() -> None:
    assert candidates(network(RESIDUAL)) == (0, 1, 3, 5)
    one = edit.without(network(RESIDUAL), "layer1.0")
    assert candidates(one) == (2, 4)


def test_silent_blocks_of_a_pre_activation_network_go_too() -> None:
    net = network(PREACTIVATION)
    silent = {"layer1.1", "layer2.2", "layer3.1"}
    silence(net, *silent)
    found = prune(net, sure(net), drop=4, rounds=0)
    assert silent <= set(found.removed)


def test_silent_blocks_go_first_and_nothing_changes() -> None:
    net = network(TWENTY)
    silent = {"layer1.1", "layer2.2", "layer3.1"}
    silence(net, *silent)
    use = sure(net)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = prune(net, use, drop=3, rounds=0)
    assert set(found.removed) == silent
    data = sample()
    torch.testing.assert_close(logits(found.net, data), logits(net, data), rtol=1e-4, atol=1e-2)
    assert list(found.curve.error) == [found.curve.error[0]] * 4
    assert found.curve.choosing_loss == pytest.approx(found.curve.choosing_loss[0], abs=1e-3)
    assert found.curve.macs[-1] == cost(found.net.spec, (8, 8)).macs
    assert (np.diff(found.curve.macs) < 0).all()
    assert found.net.spec.name == f"{net.spec.name} without 3 blocks"
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert np.isnan(found.curve.seconds).all()


def test_the_first_to_go_is_the_cheapest_lesion() -> None:
    net, use = network(RESIDUAL), images()
    found = prune(net, use, drop=1, rounds=0)
    each = lesions(net, use.choosing)
    able = [each.block[i] for i in candidates(net)]
    losses = {name: loss for name, loss in zip(each.block, each.loss, strict=True) if name in able}
    assert found.removed == (min(losses, key=lambda name: losses[name]),)
    assert found.curve.choosing_loss[1] == pytest.approx(min(losses.values()), rel=1e-5)
    cut = edit.without(net, found.removed[0])
    reporting = use.reporting
    wrong = (logits(cut, reporting).argmax(1) != reporting.labels).double().mean()
    assert found.curve.error[1] == pytest.approx(100 * float(wrong))


def test_it_is_measured_again_after_each() -> None:
    """Names are of the whole network, and the second choice is that of the network that is left."""
    net, use = network(TWENTY), images()
    found = prune(net, use, drop=4, rounds=0)
    assert len(set(found.removed)) == 4
    cut = edit.without(net, *found.removed)
    data = sample()
    torch.testing.assert_close(logits(found.net, data), logits(cut, data))
    first = edit.without(net, found.removed[0])
    names = [name for name in net.named_blocks if name != found.removed[0]]
    each = lesions(first, use.choosing)
    able = candidates(first)
    best = min(able, key=lambda i: float(each.loss[i]))
    assert found.removed[1] == names[best]


def test_a_bound_for_the_error() -> None:
    net = network(TWENTY)
    silence(net, "layer1.1", "layer2.2", "layer3.1")
    use = sure(net)
    none = prune(net, use, max_error=0, rounds=0)
    assert set(none.removed) >= {"layer1.1", "layer2.2", "layer3.1"}
    assert none.curve.deciding_error[none.curve.chosen] == 0
    all_of_them = prune(net, use, max_error=100, rounds=0)
    assert len(all_of_them.removed) == 6
    assert len(none.curve.removed) <= len(all_of_them.curve.removed)


def test_recalibration_takes_the_average_over_the_batches() -> None:
    net, data = network(), sample(30, batch=10)
    data = replace(data, x=3 * data.x + 1)
    recalibrate(net, data, device=data.x.device)
    y = net.conv1(data.x)
    parts = y.split(10)
    torch.testing.assert_close(net.bn1.running_mean, torch.stack([p.mean((0, 2, 3)) for p in parts]).mean(0))
    variance = torch.stack([p.var((0, 2, 3)) for p in parts]).mean(0)
    torch.testing.assert_close(net.bn1.running_var, variance, rtol=1e-4, atol=1e-5)
    assert net.bn1.momentum == 0.1
    assert not net.training
    # A short last batch is left out.
    twin = network()
    longer = Sample(torch.cat([data.x, data.x[:3] + 5]), torch.cat([data.labels, data.labels[:3]]), 10)
    recalibrate(twin, longer, device=data.x.device)
    torch.testing.assert_close(twin.state_dict(), net.state_dict())


def test_recalibrated_networks_are_measured() -> None:
    found = prune(network(), images(calibrate=True), drop=1, rounds=0)
    plain = prune(network(), images(), drop=1, rounds=0)
    assert found.removed == plain.removed
    mean = found.net.get_submodule("bn1").running_mean
    assert not torch.equal(mean, network().get_submodule("bn1").running_mean)  # type: ignore[arg-type]


def test_latency_falls() -> None:
    net = build("cifar_resnet(depth=38, width=8)", size=(16, 16)).eval()
    x = torch.randn(8, 3, 16, 16)
    data = Sample(x, torch.arange(8), batch=8)
    found = prune(net, Images.of(data, data, calibrate=False), drop=15, rounds=3)
    assert (found.curve.seconds > 0).all()
    assert found.curve.speedup[-1] > 1.5
    assert found.curve.speedup[0] == 1


def test_plain_networks_too() -> None:
    found = prune(network(PLAIN), images(), drop=2, rounds=0)
    assert len(found.net.blocks) == 4


def test_it_saves_and_loads(tmp_path: Path) -> None:
    found = prune(network(), images(), drop=2, rounds=0)
    path = tmp_path / "small.safetensors"
    path.write_bytes(to_bytes(dict(found.net.state_dict()), header_of(found.net.spec, None, None)))
    again = load(path).network().eval()
    data = sample()
    assert torch.equal(logits(again, data), logits(found.net, data))


def test_training_on_for_a_little() -> None:
    net = network(RESIDUAL)
    pixels = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = (pixels.float().mean((1, 2, 3)) > 127.5).long()
    data = DataSpec(name="bright", num_classes=2, channels=3, size=(8, 8), augment=Augment(pad=1, flip=True))
    normalizer = Normalizer.of("per-channel", pixels)
    losses: list[float] = []
    frozen = net.fc.weight.clone()
    finetune(
        net, ImageSet(pixels, labels), data, normalizer, iterations=30, batch=32, lr=0.05,
        tell=lambda _, loss: losses.append(loss),
    )  # fmt: skip
    assert len(losses) == 30
    assert losses[-1] < losses[0]
    assert not torch.equal(net.fc.weight, frozen)
    assert not net.training
    again = network(RESIDUAL)
    finetune(again, ImageSet(pixels, labels), data, normalizer, iterations=30, batch=32, lr=0.05)
    torch.testing.assert_close(again.state_dict(), net.state_dict(), rtol=0, atol=0)
    with pytest.raises(InputError, match="1 iteration or more at a rate above 0, got 0 at"):
        finetune(net, ImageSet(pixels, labels), data, normalizer, iterations=0, lr=0.05)
    assert F.cross_entropy(net(normalizer(pixels)), labels).isfinite()


def test_without_removal_the_result_is_a_copy() -> None:
    net = network()
    found = prune(net, images(), drop=0, rounds=0)
    assert found.net is not net
    assert found.removed == ()
    assert found.curve.chosen == 0
    torch.testing.assert_close(found.net.state_dict(), net.state_dict(), rtol=0, atol=0)


def test_bad_input() -> None:
    net, use = network(), images()
    with pytest.raises(InputError, match="has 4 blocks that keep the shape, of which 3 can go together, got 4"):
        prune(net, use, drop=4)
    with pytest.raises(InputError, match="give one of the two"):
        prune(net, use)
    with pytest.raises(InputError, match="give one of the two"):
        prune(net, use, drop=1, max_error=1.0)
    with pytest.raises(InputError, match="0 to 100 points, got -1"):
        prune(net, use, max_error=-1.0)
    with pytest.raises(InputError, match="has no block that can go"):
        prune(network("cifar_resnet(depth=8, width=4)"), use, max_error=1.0)
    with pytest.raises(InputError, match="pruning needs a network in Reslab's grammar"):
        prune(torch.nn.Linear(1, 1), use, drop=1)


def test_each_half_has_every_class() -> None:
    """Also where classes take turns, or lie one after the other."""
    x = torch.randn(40, 3, 8, 8)
    for labels in (torch.arange(40) % 2, torch.arange(40) // 10):
        found = Images.of(Sample(x, labels), Sample(x, labels))
        for half in (found.deciding, found.reporting):
            assert len(half) == 20
            assert torch.equal(half.labels.bincount() * 2, labels.bincount())
        both = torch.cat([found.deciding.x, found.reporting.x])
        assert torch.equal(both.sum((1, 2, 3)).sort().values, x.sum((1, 2, 3)).sort().values)


def test_statistics_are_of_mixed_images() -> None:
    """Of batches of one class each the variance between classes would be lost."""
    x = torch.randn(40, 3, 8, 8)
    x[20:] += 10
    sorted_by_class = Sample(x, torch.arange(40) // 20, batch=20)
    calibrating = Images.of(sorted_by_class, sorted_by_class).calibrating
    assert calibrating is not None
    net = network()
    recalibrate(net, calibrating, device=x.device)
    whole = net.conv1(x).var((0, 2, 3))
    torch.testing.assert_close(net.bn1.running_var, whole, rtol=0.3, atol=0)
    assert torch.equal(calibrating.x.sum((1, 2, 3)).sort().values, x.sum((1, 2, 3)).sort().values)


def test_modes_are_left_as_they_were() -> None:
    net = network().train()
    net.stages[1].eval()
    before = [module.training for module in net.modules()]
    prune(net, images(), drop=1, rounds=1)
    assert [module.training for module in net.modules()] == before
