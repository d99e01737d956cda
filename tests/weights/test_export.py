"""Our weights in other people's code: names, shapes and output, with strict loading."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.network import Network
from reslab.nets.spec import Norm, ReferenceSpec
from reslab.weights.export import PEERS, Library, exported, peer_of
from reslab.weights.files import pickled, to_bytes
from reslab.weights.load import Weights, load

from .sample import assert_same_output, on_nothing, pictures, saved, scrambled


def theirs(library: Library, name: str, classes: int = 1000) -> nn.Module:
    if library == "timm":
        made: nn.Module = timm.create_model(name, num_classes=classes)
    else:
        made = models.get_model(name, num_classes=classes)
    return made


@pytest.mark.parametrize(("library", "ours", "name"), [(k, a, b) for k in PEERS for a, b in PEERS[k].items()])
def test_all_names_and_shapes_are_the_librarys(library: Library, ours: str, name: str) -> None:
    spec = resolve(ours)
    assert peer_of(spec, library) == name
    tensors, found = exported(Weights(spec, dict(on_nothing(lambda: Network(spec))), "here"), library)
    assert found == name
    with torch.device("meta"):
        peer = theirs(library, name)
    peer.load_state_dict(tensors, strict=True, assign=True)


@pytest.mark.parametrize(
    ("library", "ours", "classes"),
    [("torchvision", "resnet18", 9), ("timm", "preresnet50", 6)],
)
def test_what_is_written_loads_there_and_computes_the_same(
    library: Library, ours: str, classes: int, tmp_path: Path
) -> None:
    net = build(ours, num_classes=classes)
    scrambled(net)
    tensors, name = exported(Weights(net.spec, net.state_dict(), "here"), library)
    (tmp_path / "w.pth").write_bytes(pickled(tensors))
    peer = theirs(library, name, classes)
    peer.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True), strict=True)
    assert_same_output(net, peer, pictures(1, 3, 64))
    # And back: theirs is recognised as what it came from.
    back = load(saved(tmp_path / "back.pth", peer.state_dict()))
    assert back.spec.name == ours
    assert all(torch.equal(back.tensors[key], value) for key, value in net.state_dict().items())
    (tmp_path / "w.safetensors").write_bytes(to_bytes(tensors, {}))
    assert load(tmp_path / "w.safetensors").spec.name == ours


def test_who_has_no_peer() -> None:
    known = {name for library in PEERS for name in PEERS[library]}
    assert known <= CATALOG.keys()
    for name in ("plain34", "resnet20", "resnet18-A", "resnet34-C", "resnet152-v1", "preresnet56", "preresnet200"):
        assert name not in known
        for library in PEERS:
            assert peer_of(resolve(name), library) is None, name


def test_what_computes_something_else_has_no_peer() -> None:
    spec = resolve("resnet50")
    assert peer_of(spec, "torchvision") == "resnet50"
    assert peer_of(spec.model_copy(update={"norm": Norm(momentum=0.01)}), "torchvision") == "resnet50"
    assert peer_of(spec.model_copy(update={"norm": Norm(eps=1e-3)}), "torchvision") is None
    assert peer_of(resolve("resnet50", activation="silu"), "timm") is None
    assert peer_of(resolve("resnet50", num_classes=7), "torchvision") == "resnet50"
    grey = resolve("resnet50", in_channels=1)
    assert peer_of(grey, "timm") == "resnet50"
    assert peer_of(grey, "torchvision") is None  # whose networks take three


@pytest.mark.parametrize("library", PEERS)
def test_without_a_peer_it_is_an_error(library: Library) -> None:
    vit = ReferenceSpec(library="timm", model="vit", name="timm:vit")
    for spec in (resolve("resnet50-v1"), resolve("resnet20"), vit):
        with pytest.raises(
            InputError, match=f"{library} has no network that computes what '{spec.name}' does"
        ) as caught:
            exported(Weights(spec, {}, "here"), library)
        assert "resnet18" in str(caught.value)
        assert "Convert to 'reslab' instead" in str(caught.value)
