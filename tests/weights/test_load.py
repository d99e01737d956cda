"""Weights of other people's networks in ours: the same output, and every doubt and mistake said."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.catalog import resolve
from reslab.nets.equivalence import same_function
from reslab.nets.network import Network
from reslab.nets.spec import NetSpec, Norm, ReferenceSpec
from reslab.weights.files import to_bytes
from reslab.weights.load import Weights, header_of, load
from reslab.weights.preprocessing import Preprocessing

from .repositories import (
    Akamaster,
    Kuangliu,
    KuangliuBottleneck,
    KuangliuPreActBlock,
    Transformers,
    Weiaicunzai,
    Xternalz,
)
from .sample import assert_same_output, pictures, saved, scrambled

TINY = "cifar_resnet(depth=8, width=4)"
PREPROCESSING = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), crop=(32, 32))


def complaint(source: str | Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load(source, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ours(path: Path, of: str | NetSpec = TINY, **header: Any) -> tuple[Path, Network]:
    """A file of ours and the network whose weights are in it."""
    module = build(of)
    scrambled(module)
    about = header_of(module.spec, PREPROCESSING, tuple("abcdefghij")) | header
    path.write_bytes(to_bytes(module.state_dict(), about))
    return path, module


# --- other people's networks ---


@pytest.mark.parametrize(
    ("make", "size", "name"),
    [
        (Akamaster, 32, "resnet20"),
        (lambda: Akamaster(2, "B"), 32, "unnamed"),
        (lambda: Kuangliu(blocks=(1, 1, 1, 1)), 32, "unnamed"),
        (lambda: Kuangliu(width=8, classes=100), 32, "unnamed"),
        (lambda: Kuangliu(KuangliuBottleneck, (1, 2, 1, 1), width=16), 32, "unnamed"),
        (lambda: Kuangliu(KuangliuPreActBlock, width=8), 32, "unnamed"),
        (lambda: Weiaicunzai((1, 2, 1, 1), width=16), 32, "unnamed"),
        (lambda: Weiaicunzai((1, 1, 2, 1), bottleneck=True, width=8), 32, "unnamed"),
        (lambda: Xternalz(10, 2), 32, "unnamed"),
        (lambda: Xternalz(16, 1), 32, "unnamed"),
        (lambda: Transformers((1, 2, 1, 1), (64, 128, 256, 512), bottleneck=False), 64, "unnamed"),
        (lambda: Transformers((1, 1, 2, 1), (64, 128, 256, 512)), 64, "unnamed"),
        (lambda: models.resnet18(num_classes=7), 64, "resnet18"),
        (lambda: timm.create_model("test_resnet"), 65, "unnamed"),
        (lambda: timm.create_model("resnet10t"), 65, "unnamed"),
        (lambda: timm.create_model("resnetv2_18d", num_classes=5), 65, "unnamed"),
        (lambda: timm.create_model("resnetv2_18", in_chans=1), 64, "unnamed"),
    ],
    ids=[
        "akamaster A",
        "akamaster B",
        "kuangliu",
        "kuangliu thin",
        "kuangliu bottleneck",
        "kuangliu preact",
        "weiaicunzai",
        "weiaicunzai bottleneck",
        "xternalz",
        "xternalz thin",
        "transformers basic",
        "transformers bottleneck",
        "torchvision",
        "timm",
        "timm deep stem",
        "timm v2 D",
        "timm v2 grey",
    ],
)
def test_the_output_is_that_of_the_original(
    make: Callable[[], nn.Module], size: int, name: str, tmp_path: Path
) -> None:
    theirs = scrambled(make())
    weights = load(saved(tmp_path / "theirs.pth", theirs.state_dict()))
    assert weights.spec.name == name
    assert not weights.certain
    assert_same_output(theirs, weights.network(), pictures(2, weights.spec.in_channels, size))


def test_wide_bottlenecks_of_torchvision(tmp_path: Path) -> None:
    """Groups, widths and v1.5 in one small network by torchvision's own code."""
    theirs = scrambled(models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], 11, groups=4, width_per_group=16))
    weights = load(saved(tmp_path / "theirs.pth", theirs.state_dict()))
    assert_same_output(theirs, weights.network(), pictures(2, 3, 64))


def test_as_the_repository_saves_it(tmp_path: Path) -> None:
    """akamaster's files: a dictionary with the state dict of DataParallel, in the old format."""
    theirs = scrambled(Akamaster())
    state = {f"module.{name}": tensor.clone() for name, tensor in theirs.state_dict().items()}
    path = saved(tmp_path / "resnet20.th", {"state_dict": state, "best_prec1": torch.tensor(91.73)}, legacy=True)
    weights = load(path)
    assert weights.spec.name == "resnet20"
    assert weights.said[:2] == ("taken from its 'state_dict'", "prefix 'module.' removed from its names")
    assert "assumed: option A shortcuts, zeros on both sides (a plain network has the same names)" in weights.said
    assert_same_output(theirs, weights.network(), pictures())


def test_what_the_caller_says_is_not_assumed(tmp_path: Path) -> None:
    theirs = scrambled(Akamaster())
    path = saved(tmp_path / "x.pth", theirs.state_dict())
    plain = load(path, net="plain20")
    assert isinstance(plain.spec, NetSpec)
    assert not plain.spec.is_residual
    assert plain.said == plain.assumed == ()
    with pytest.raises(AssertionError):
        assert_same_output(theirs, plain.network(), pictures())
    other = load(path, net="cifar_resnet(depth=20, zeros='end')")
    with pytest.raises(AssertionError):
        assert_same_output(theirs, other.network(), pictures())


def test_files_from_before_the_counters(tmp_path: Path) -> None:
    theirs = scrambled(Akamaster(1))
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    weights = load(saved(tmp_path / "old.th", state))
    assert weights.tensors.keys() == build(weights.spec).state_dict().keys()  # type: ignore[arg-type]
    assert_same_output(theirs, weights.network(), pictures())


def test_half_precision(tmp_path: Path) -> None:
    theirs = scrambled(Akamaster(1))
    state = {k: v.half() if v.is_floating_point() else v for k, v in theirs.state_dict().items()}
    weights = load(saved(tmp_path / "half.pth", state))
    assert weights.tensors["conv1.weight"].dtype == torch.float16
    net = weights.network()
    assert net.conv1.weight.dtype == torch.float32
    theirs.load_state_dict(state)
    assert_same_output(theirs, net, pictures())


# --- our own files ---


def test_all_that_travels_with_the_weights(tmp_path: Path) -> None:
    path, net = ours(tmp_path / "w.safetensors", recipe="he2015_cifar", test_error=8.75)
    weights = load(path)
    assert weights.spec == net.spec
    assert weights.certain
    assert weights.preprocessing == PREPROCESSING
    assert weights.classes == tuple("abcdefghij")
    assert weights.header == {"recipe": "he2015_cifar", "test_error": 8.75}
    assert (weights.dialect, weights.said, weights.look_alikes) == ("Reslab", (), ())
    assert_same_output(net, weights.network(), pictures())
    again = tmp_path / "again.safetensors"
    again.write_bytes(to_bytes(weights.tensors, weights.as_header()))
    assert again.read_bytes() == path.read_bytes()


def test_the_folder_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    assert "expected a file of weights or a finished run, found a folder" in complaint(run)
    (run / "recipe.json").write_text("{}")
    assert "found a run that has not ended (no final weights yet)" in complaint(run)
    path, net = ours(run / "checkpoints" / "iteration-00000004.safetensors")
    midway = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    about = header_of(net.spec, PREPROCESSING, None) | {"iteration": 4}
    path.write_bytes(
        to_bytes(midway | {"momentum.conv1.weight": torch.zeros(1), "window.loss": torch.zeros(())}, about)
    )
    assert "found a run that has not ended" in complaint(run)
    assert_same_output(net, load(path).network(), pictures())
    ours(run / "checkpoints" / "final.safetensors")
    assert_same_output(net, load(run).network(), pictures())
    assert load(str(run)).spec == net.spec


def test_v1_and_v15_are_carried_and_loading_one_into_the_other_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = "cifar_bottleneck(depth=11, width=4{})"
    for stride_on, other in (("first", "middle"), ("middle", "first")):
        spec = striding(resolve(small.format("")), stride_on)
        path, _ = ours(tmp_path / f"{stride_on}.safetensors", spec)
        assert load(path).spec == spec
        assert not caplog.records
        wrong = load(path, net=striding(resolve(small.format("")), other))
        assert wrong.spec != spec
        [warning] = caplog.records
        assert warning.levelno == logging.WARNING
        assert "has the same names and shapes, but computes something else: branch bottleneck" in warning.getMessage()
        assert f"stride_on={stride_on}) became bottleneck" in warning.getMessage()
        assert "(first in layer2.0)" in warning.getMessage()
        caplog.clear()


def striding(spec: NetSpec, where: str) -> NetSpec:
    value = json.loads(spec.model_dump_json())
    for stage in value["stages"]:
        for block in stage:
            block["branch"]["stride_on"] = where
    return NetSpec.model_validate(value)


def test_other_things_with_the_same_names_warn_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, _ = ours(tmp_path / "w.safetensors")
    load(path, net="cifar_plain(depth=8, width=4)")
    assert "shortcut identity became none" in caplog.text
    caplog.clear()
    tuned = resolve(TINY, norm=Norm(momentum=0.01), name="tuned")
    assert load(path, net=tuned).spec == tuned
    assert not caplog.records, "momentum is training's affair"
    load(path, net=resolve(TINY, norm=Norm(eps=0.1)))
    assert "eps" in caplog.text


def test_a_guess_does_not_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i, theirs in enumerate((Akamaster(1), Kuangliu(width=4))):
        path = saved(tmp_path / f"{i}.pth", theirs.state_dict())
        guess = load(path).spec
        assert isinstance(guess, NetSpec)
        other = guess.model_copy(update={"activation": "elu"})
        assert load(path, net=other).spec == other
    assert not caplog.records


# --- heads ---


def test_a_new_head(tmp_path: Path) -> None:
    path, net = ours(tmp_path / "w.safetensors")
    weights = load(path, num_classes=3)
    assert weights.spec.num_classes == 3
    assert weights.said == ("a new head: 3 classes instead of 10 (fc.weight, fc.bias drawn)",)
    assert weights.classes is None
    assert weights.preprocessing == PREPROCESSING
    one, again, other = (weights.network(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.fc.weight, again.fc.weight)
    assert not torch.equal(one.fc.weight, other.fc.weight)
    assert one.fc.weight.shape == (3, 16)
    for name, tensor in net.state_dict().items():
        assert name.startswith("fc.") or torch.equal(one.state_dict()[name], tensor)
    kept = load(path, num_classes=10)
    assert (kept.said, kept.classes) == ((), tuple("abcdefghij"))
    assert torch.equal(kept.network().fc.weight, net.fc.weight)


def test_a_new_head_for_a_network_that_was_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", scrambled(Akamaster()).state_dict())
    for net in ("resnet20", "resnet20(num_classes=4)", resolve("resnet20", num_classes=4)):
        weights = load(path, net=net, num_classes=4)
        assert weights.spec.num_classes == 4
        assert "a new head: 4 classes instead of 10" in weights.said[-1]
    said = complaint(path, net="resnet20(num_classes=4)")
    assert "2 of another shape (fc.weight 10x64 instead of 4x64, fc.bias 10 instead of 4)" in said
    assert said.endswith("; --num-classes 4 replaces the head")
    assert load(path, net="plain20").spec.num_classes == 10
    with pytest.raises(InputError, match="num_classes"):
        load(path, num_classes=0)


def test_the_weights_own_channels(tmp_path: Path) -> None:
    path, _ = ours(tmp_path / "grey.safetensors", resolve(TINY, in_channels=1))
    assert load(path, net=TINY).spec.in_channels == 1
    for i, (net, channels) in enumerate(
        (("imagenet_resnet(depth=18, stem='deep', num_classes=3)", 1), ("mlp(depth=4, width=8)", 10))
    ):
        other, _ = ours(tmp_path / f"{i}.safetensors", resolve(net, in_channels=channels))
        assert load(other, net=net).spec.in_channels == channels
    said = complaint(path, net=resolve(TINY))
    assert "1 of another shape (conv1.weight 4x1x3x3 instead of 4x3x3x3)" in said


# --- other libraries' networks ---


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_vit(size=(160, 160))"])
def test_a_network_of_another_library(name: str, tmp_path: Path) -> None:
    theirs = scrambled(timm.create_model(name.partition(":")[2].partition("(")[0]))
    path = saved(tmp_path / "theirs.pth", theirs.state_dict())
    assert "holds weights of a network that Reslab does not know" in complaint(path)
    weights = load(path, net=name)
    assert isinstance(weights.spec, ReferenceSpec)
    assert_same_output(theirs, weights.module(), pictures(1, 3, 160))
    with pytest.raises(InputError, match="another library's network; this takes one of Reslab's own"):
        weights.network()
    fewer = load(path, net=name, num_classes=3)
    with torch.no_grad():
        assert fewer.module().eval()(pictures(1, 3, 160)).shape == (1, 3)
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(to_bytes(weights.tensors, weights.as_header()))
    assert load(kept).spec == weights.spec
    assert_same_output(theirs, load(kept).module(), pictures(1, 3, 160))


def test_names_that_look_like_others_are_kept_for_the_library_that_has_them(tmp_path: Path) -> None:
    theirs = timm.create_model("resnetv2_18").eval()
    path = saved(tmp_path / "theirs.pth", theirs.state_dict())
    weights = load(path, net="timm:resnetv2_18")
    assert weights.tensors.keys() == theirs.state_dict().keys()
    assert_same_output(theirs, weights.module(), pictures(1, 3, 64))


# --- what does not fit ---


def test_the_first_few_are_listed_and_what_would_fit(tmp_path: Path) -> None:
    state = dict(scrambled(Akamaster()).state_dict())

    def said(change: Mapping[str, Tensor | None], **options: object) -> str:
        changed = {name: tensor for name, tensor in (state | dict(change)).items() if tensor is not None}
        return complaint(saved(tmp_path / "x.pth", changed), **options)

    lost = dict.fromkeys([name for name in state if name.startswith("layer3.2.")])
    lost_conv: dict[str, Tensor | None] = {"layer3.2.conv2.weight": None}
    text = said(lost_conv)
    assert "holds weights of a network that Reslab does not know; the nearest, 'resnet20', differs" in text
    assert text.endswith("1 missing (layer3.2.conv2.weight)")
    text = said(lost_conv, net="resnet20")
    assert text.endswith("does not fit 'resnet20': 1 missing (layer3.2.conv2.weight)")
    text = said(lost, net="resnet20")
    assert "10 missing (layer3.2.conv1.weight, layer3.2.bn1.weight, layer3.2.bn1.bias, " in text
    assert ", ...)" in text
    text = said({"surprise.weight": torch.zeros(2)}, net="resnet20")
    assert text.endswith("does not fit 'resnet20': 1 unexpected (surprise.weight)")
    text = said({"layer2.0.bn1.bias": torch.zeros(31)})
    assert "1 of another shape (layer2.0.bn1.bias 31 instead of 32)" in text
    for net, would in (("resnet32", "resnet20"), ("resnet18", "resnet20")):
        assert f"it would fit {would} or plain20" in said({}, net=net)
    text = said({}, net="resnet20(num_classes=4)", num_classes=None)
    assert "--num-classes 4 replaces the head" in text


def test_a_network_without_a_name_is_described(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", Akamaster(2, "B").state_dict())
    assert "are those of a network of 14 layers without a name in Reslab" in complaint(path, net="resnet20")


def test_scalars_where_a_head_should_be(tmp_path: Path) -> None:
    state = dict(scrambled(Akamaster(1)).state_dict())
    path = saved(tmp_path / "x.pth", state | {"linear.weight": torch.tensor(1.0), "conv1.weight": torch.tensor(1.0)})
    for options in ({"net": "resnet20"}, {"num_classes": 3}):
        assert "scalar" in complaint(path, **options) or "fits no network" in complaint(path, **options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"net": {"name": "of tomorrow"}}, "describes its network in a way that this version"),
        ({"net": 7}, "describes its network"),
        ({"net": None}, "describes its network"),
        ({"preprocessing": {"mean": [0.0], "std": [0.0], "crop": [8, 8]}}, "describes its preprocessing"),
        ({"preprocessing": {"mean": [0.0], "std": [1.0, 1.0], "crop": [8, 8]}}, "describes its preprocessing"),
        (
            {"preprocessing": {"mean": [[[0.0, 1.0], [0.0]]], "std": [1.0], "crop": [2, 2]}},
            "describes its preprocessing",
        ),
        ({"preprocessing": "imagenet"}, "describes its preprocessing"),
        ({"classes": 7}, "describes its classes"),
        ({"classes": "abcdefghij"}, "describes its classes"),
        ({"classes": [1, 2]}, "describes its classes"),
    ],
)
def test_odd_headers(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path, _ = ours(tmp_path / "odd.safetensors", **change)
    assert said in complaint(path)


def test_a_header_that_describes_another_network(tmp_path: Path) -> None:
    path, net = ours(tmp_path / "w.safetensors")
    about = header_of(resolve("resnet20"), None, None)
    path.write_bytes(to_bytes(net.state_dict(), about))
    assert "w.safetensors does not fit 'resnet20': " in complaint(path)


@pytest.mark.parametrize("name", ["no/such/file.pth", "~nobody-of-that-name/x.pth", "x" * 300, "", "none.safetensors"])
def test_names_of_nothing(name: str) -> None:
    assert "expected" in complaint(name)


def test_spec_and_header_of_plain_weights() -> None:
    spec = resolve(TINY)
    weights = Weights(spec, {}, "somewhere")
    assert weights.as_header() == {"net": spec.model_dump(mode="json"), "preprocessing": None, "classes": None}
    assert same_function(NetSpec.model_validate(weights.as_header()["net"]), spec)


def test_what_was_assumed_stays_with_converted_weights(tmp_path: Path) -> None:
    net = build("resnet20", size=(8, 8))
    (tmp_path / "bare.safetensors").write_bytes(to_bytes(net.state_dict(), {}))
    bare = load(tmp_path / "bare.safetensors")
    assert bare.assumed
    (tmp_path / "ours.safetensors").write_bytes(to_bytes(bare.tensors, bare.as_header()))
    ours = load(tmp_path / "ours.safetensors")
    assert ours.assumed == bare.assumed
    assert set(bare.said) <= set(ours.said)
    assert ours.fingerprint() == bare.fingerprint()
    told = load(tmp_path / "bare.safetensors", net="resnet20")
    assert not told.assumed
    assert "assumed" not in told.as_header()
