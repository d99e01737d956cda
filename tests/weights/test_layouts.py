"""Checkpoints as other programs write them: loaded with the right numbers and a word on each choice, or refused."""

import argparse
import collections
import pickle
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchvision import models

from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.network import Network
from reslab.nets.spec import NetSpec
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of, load

from .layouts import ARGS, PAIRS, PLAIN, class_of, lightning, other, prefixed, timm_script, torchvision_script
from .sample import armed, assert_same_output, pictures, saved, scrambled

NET = "cifar_resnet(depth=8, width=4, shortcut='B')"


@pytest.fixture(scope="module")
def net() -> Network:
    made = scrambled(build(NET))
    assert isinstance(made, Network)
    return made


def the_same(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    return tensors.keys() == state.keys() and all(torch.equal(tensors[name], state[name]) for name in state)


def complaint(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- one set of weights ---


@pytest.mark.parametrize("layout", PLAIN)
def test_what_programs_save_loads_with_the_same_output(layout: str, net: Network, tmp_path: Path) -> None:
    weights = load(saved(tmp_path / "theirs.pth", PLAIN[layout](net.state_dict())))
    assert the_same(weights.tensors, net.state_dict())
    assert weights.head == "own"
    assert_same_output(net, weights.network(), pictures())


def test_what_is_left_aside_is_named(net: Network, tmp_path: Path) -> None:
    weights = load(saved(tmp_path / "lightning.ckpt", lightning(net.state_dict())))
    assert "ignored, not part of the network: criterion.weight" in weights.said
    assert "taken from its 'state_dict'" in weights.said
    bare = net.state_dict() | {"criterion.weight": torch.ones(10)}
    assert "ignored, not part of the network: criterion.weight" in load(saved(tmp_path / "bare.pth", bare)).said
    mixed = load(saved(tmp_path / "mixed.pth", net.state_dict() | {"epoch": 7, "acc": 0.5}))
    assert "ignored, not part of the network: epoch, acc" in mixed.said


def test_what_has_a_part_in_the_output_is_not_left_aside(net: Network, tmp_path: Path) -> None:
    """A layer between the stages, or a second convolution in the stem, would be missed in every output."""
    for name in ("conv2.weight", "layer1.0.se.fc1.weight", "attnpool.q_proj.weight", "mean"):
        path = saved(tmp_path / "more.pth", net.state_dict() | {name: torch.ones(4)})
        assert f"has parameters named {name}" in complaint(path)


def test_safetensors_have_layouts_too(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file(prefixed(net.state_dict(), "model.backbone.") | {"criterion.weight": torch.ones(10)}, path)
    weights = load(path)
    assert the_same(weights.tensors, net.state_dict())
    assert weights.said[:2] == (
        "taken from the names that begin with 'model.backbone.'",
        "ignored, not part of the network: criterion.weight",
    )


def test_several_networks_are_not_chosen_from(net: Network, tmp_path: Path) -> None:
    state = prefixed(net.state_dict(), "left.") | prefixed(net.state_dict(), "right.")
    path = saved(tmp_path / "two.pth", state)
    with pytest.raises(InputError, match=r"expected one network, found 2, under 'left\.', 'right\.'"):
        load(path)


# --- averages ---


@pytest.mark.parametrize("layout", PAIRS)
def test_the_average_and_the_weights_of_the_last_step(layout: str, net: Network, tmp_path: Path) -> None:
    named, make = PAIRS[layout]
    raw, ema = net.state_dict(), other(net.state_dict())
    path = saved(tmp_path / "both.pth", make(raw, ema))
    by_default, averaged, plain = load(path), load(path, which="ema"), load(path, which="raw")
    assert the_same(averaged.tensors, ema)
    assert the_same(plain.tensors, raw)
    assert by_default.fingerprint() == averaged.fingerprint()
    assert (by_default.which, averaged.which, plain.which) == ("ema", "ema", "raw")
    [said] = [text for text in by_default.said if "their average over the training" in text]
    assert named in said
    assert said.endswith("using the average; --which raw uses the other")
    assert any(text.endswith("using those of the last step") for text in plain.said)


def test_an_average_alone(net: Network, tmp_path: Path) -> None:
    for layout in ("AveragedModel", "torchvision's average alone"):
        path = saved(tmp_path / "average.pth", PLAIN[layout](net.state_dict()))
        assert load(path).which == "ema"
        assert any("the average of the weights over the training" in text for text in load(path).said)
        assert the_same(load(path, which="ema").tensors, net.state_dict())
        assert "holds only the average of the weights" in complaint(path, which="raw")


def test_what_torch_averages_is_what_is_read(tmp_path: Path) -> None:
    """Not a dictionary like it, but `AveragedModel`'s own, of a network of torchvision."""
    theirs = scrambled(models.resnet18(num_classes=5))
    average = AveragedModel(theirs)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(0.5)
    average.update_parameters(theirs)
    weights = load(saved(tmp_path / "average.pth", average.state_dict()))
    assert weights.spec.name == "resnet18"
    assert_same_output(average.module, weights.network(), pictures(1, 3, 64))


def test_no_average_to_take(net: Network, tmp_path: Path) -> None:
    path = saved(tmp_path / "plain.pth", net.state_dict())
    assert "holds one set of weights, without an average" in complaint(path, which="ema")
    assert the_same(load(path, which="raw").tensors, net.state_dict())
    ours = tmp_path / "ours.safetensors"
    ours.write_bytes(to_bytes(net.state_dict(), header_of(net.spec, None, None)))
    assert "holds one set of weights, without an average" in complaint(ours, which="ema")
    with pytest.raises(InputError, match="reslab:resnet20-cifar10 holds one set of weights"):
        load("reslab:resnet20-cifar10", which="ema")


def test_a_run_of_ours_in_mid_training(net: Network, tmp_path: Path) -> None:
    raw = net.state_dict()
    ema = {name: tensor for name, tensor in other(raw).items() if tensor.is_floating_point()}
    tensors = prefixed(raw, "model.") | prefixed(ema, "average.") | {"momentum.fc.weight": torch.zeros(1)}
    path = tmp_path / "iteration-00000007.safetensors"
    path.write_bytes(to_bytes(tensors, {"iteration": 7, **header_of(net.spec, None, None)}))
    assert the_same(load(path, which="raw").tensors, raw)
    assert the_same(load(path).tensors, other(raw))
    assert "using the average" in load(path).said[0]


# --- what stands beside the weights ---


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("script", [torchvision_script, timm_script])
def test_arguments_beside_the_weights(script: Any, legacy: bool, net: Network, tmp_path: Path) -> None:
    path = saved(tmp_path / "checkpoint.pth", script(net.state_dict()), legacy=legacy)
    before = torch.serialization.get_safe_globals()
    assert the_same(load(path).tensors, net.state_dict())
    assert set(torch.serialization.get_safe_globals()) == set(before), "for others nothing became safe"
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("legacy", [False, True])
def test_arguments_that_would_run_code_are_refused(legacy: bool, net: Network, tmp_path: Path) -> None:
    payload, marker = armed(tmp_path)
    for args in (argparse.Namespace(lr=payload), argparse.Namespace(hook=[payload])):
        path = saved(tmp_path / "evil.pth", {"model": net.state_dict(), "args": args}, legacy=legacy)
        assert "could run code when opened: it was refused, and none of it was run" in complaint(path)
        assert not marker.exists()


class Reaching:
    """Would have a class that is let pass call something: by its arguments, its state, or as a function."""

    def __init__(self, how: Any) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return self.how


@pytest.mark.parametrize(
    "how",
    [
        (getattr, (argparse.Namespace, "__init__")),
        (eval, ("1 + 1",)),
        (collections.defaultdict, (eval,)),
        (argparse.Namespace, (), {"__class__": argparse.Namespace}),
        (type, ("X", (), {})),
        (pickle.loads, (b"N.",)),
    ],
    ids=["getattr", "eval", "defaultdict of eval", "state", "type", "loads"],
)
def test_what_is_let_pass_calls_nothing(how: Any, net: Network, tmp_path: Path) -> None:
    """Either it is refused, or an inert value stands in its place: nothing that a file names is called."""
    path = saved(tmp_path / "reaching.pth", {"model": net.state_dict(), "args": Reaching(how)})
    if how[0] in (argparse.Namespace, type):
        assert the_same(load(path).tensors, net.state_dict())
    else:
        assert "could run code" in complaint(path)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("lightning.fabric.utilities.data.AttributeDict", dict),
        ("pytorch_lightning.utilities.parsing.AttributeDict", dict),
        ("mmengine.config.config.ConfigDict", dict),
        ("yacs.config.CfgNode", dict),
        ("fastcore.foundation.L", object),
        ("omegaconf.dictconfig.DictConfig", object),
        ("mmengine.logging.history_buffer.HistoryBuffer", object),
    ],
)
def test_configurations_of_libraries_that_are_not_there(name: str, base: type, net: Network, tmp_path: Path) -> None:
    with class_of(name, base) as kind:
        value = kind()
        if base is dict:
            value |= {"lr": 0.1}
        else:
            value.items = [{"lr": 0.1}]
        path = saved(tmp_path / "theirs.ckpt", {"state_dict": net.state_dict(), "hyper_parameters": value})
    assert the_same(load(path).tensors, net.state_dict())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fastai.learner.Learner", "call learn.save('weights', with_opt=False)"),
        ("torchvision.models.resnet.Mine", "holds a whole network as a Python object"),
        ("timm.models.resnet.Mine", "torch.save(model.state_dict(), 'weights.pth')"),
        ("transformers.training_args.TrainingArguments", "(transformers.training_args.TrainingArguments)"),
        ("mycode.models.Net", "(mycode.models.Net)"),
    ],
)
def test_objects_are_refused_by_name_with_what_to_do(name: str, said: str, tmp_path: Path) -> None:
    with class_of(name) as kind:
        torch.save(kind(), tmp_path / "object.pth")
    text = complaint(tmp_path / "object.pth")
    assert name in text
    assert said in text
    assert "none of it was run" in text


def test_a_whole_network_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(models.resnet18(), tmp_path / "whole.pth")
    assert "holds a whole network as a Python object (torchvision.models.resnet.ResNet)" in complaint(
        tmp_path / "whole.pth"
    )


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
def test_other_kinds_of_files_are_named(net: Network, tmp_path: Path) -> None:
    script = tmp_path / "script.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), script)
    assert "is a TorchScript program rather than weights" in complaint(script)
    import numpy as np

    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    assert "is an archive of numpy arrays" in complaint(tmp_path / "arrays.npz")
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    assert "is an HDF5 file (Keras, TensorFlow)" in complaint(tmp_path / "keras.h5")
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08" + bytes(50))
    assert "is an ONNX model" in (said := complaint(tmp_path / "net.onnx"))
    assert "name its folder" not in said
    (tmp_path / "metadata.json").write_text("{}")  # as in a folder that `reslab export` wrote
    assert f"name its folder, {tmp_path}" in complaint(tmp_path / "net.onnx")
    optimizer = saved(tmp_path / "optimizer.pt", torch.optim.SGD(net.parameters(), lr=0.1).state_dict())
    assert "found what an optimizer or a schedule keeps" in complaint(optimizer)


# --- without the head ---


def headless(net: Network) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("fc.")}


def test_a_backbone_gives_features(net: Network, tmp_path: Path) -> None:
    weights = load(saved(tmp_path / "backbone.pth", headless(net)))
    assert weights.head == "none"
    assert "no head (fc.weight, fc.bias): a backbone, whose outputs are its features" in weights.said
    out = weights.network().eval()(pictures())
    torch.testing.assert_close(out, net.features(pictures())["pool"])
    with pytest.raises(InputError, match="holds a backbone without a head") as caught:
        weights.check_head("an evaluation")
    assert "an evaluation needs one" in str(caught.value)
    assert "reslab train --weights" in str(caught.value)


def test_a_backbone_with_a_new_head(net: Network, tmp_path: Path) -> None:
    path = saved(tmp_path / "backbone.pth", headless(net))
    weights = load(path, num_classes=7)
    assert (weights.head, weights.spec.num_classes) == ("new", 7)
    assert any("a new head: 7 classes (fc.weight, fc.bias drawn)" in text for text in weights.said)
    assert weights.network().eval()(pictures()).shape == (2, 7)
    weights.check_head("an evaluation")


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "preresnet50", "resnet50d", "wide-resnet50-2", "resnet20"])
def test_backbones_are_recognised_like_whole_networks(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = build(name).state_dict()
    state = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in shapes.items() if not name.startswith("fc.")}
    weights = load(saved(tmp_path / "backbone.pth", state))
    assert weights.spec.name == name
    assert weights.head == "none"
    assert isinstance(weights.spec, NetSpec)
    assert weights.spec.num_classes == (10 if name == "resnet20" else 1000)


def test_a_backbone_in_our_own_file_stays_one(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    first = load(saved(tmp_path / "backbone.pth", headless(net)))
    path.write_bytes(to_bytes(first.tensors, first.as_header()))
    again = load(path)
    assert (again.head, again.spec) == ("none", first.spec)
    assert the_same(again.tensors, headless(net))


def test_layers_in_a_sequence_are_a_backbone(tmp_path: Path) -> None:
    """fastai's Learner.save: the body is a sequence of torchvision's layers, the head is fastai's own."""
    theirs = scrambled(models.resnet18())
    body = nn.Sequential(*list(theirs.children())[:-2])
    whole = nn.Sequential(
        body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 8), nn.Linear(8, 3))
    )
    path = saved(tmp_path / "stage-1.pth", {"model": whole.state_dict(), "opt": {"state": [], "hypers": [{"lr": 0.1}]}})
    weights = load(path)
    assert (weights.spec.name, weights.head, weights.dialect) == ("resnet18", "none", "layers in a sequence")
    assert any("ignored, not part of the network: 1.2.weight, 1.2.bias" in text for text in weights.said)
    theirs.fc = nn.Identity()
    assert_same_output(theirs, weights.network(), pictures(1, 3, 64))


def test_heads_of_several_layers_are_left_aside(net: Network, tmp_path: Path) -> None:
    projection = {"fc.0.weight": torch.zeros(16, 16), "fc.0.bias": torch.zeros(16), "fc.2.weight": torch.zeros(8, 16)}
    weights = load(saved(tmp_path / "moco2.pth", headless(net) | projection))
    assert weights.head == "none"
    assert "ignored, not part of the network: fc.0.weight, fc.0.bias, fc.2.weight" in weights.said


def test_what_else_is_missing_is_said(net: Network, tmp_path: Path) -> None:
    state = headless(net)
    del state["layer2.0.conv2.weight"]
    assert "layer2.0" in complaint(saved(tmp_path / "less.pth", state))
    half = net.state_dict()
    del half["fc.bias"]
    assert "1 missing (fc.bias)" in complaint(saved(tmp_path / "half.pth", half), net=NET)


def test_namespace_of_another_kind_is_let_pass(net: Network, tmp_path: Path) -> None:
    path = saved(tmp_path / "simple.pth", {"model": net.state_dict(), "args": types.SimpleNamespace(**vars(ARGS))})
    assert the_same(load(path).tensors, net.state_dict())
