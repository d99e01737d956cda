"""Maps that add up to the logit, and features as the network has them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reslab.errors import InputError
from reslab.probes.attribution import Attribution, class_activation, features, grad_cam

from .tiny import PREACTIVATION, RESIDUAL, chain, logits, network, sample, vectors


@pytest.mark.parametrize("name", [RESIDUAL, PREACTIVATION])
def test_the_map_is_all_of_the_logit(name: str) -> None:
    net, data = network(name), sample(9, batch=4)
    classes = torch.arange(9)
    found = class_activation(net, data, classes)
    bias = net.fc.bias[classes].detach().numpy()
    assert found.maps.mean((1, 2)) + bias == pytest.approx(found.score, rel=1e-4, abs=1e-5)
    scores = logits(net, data)
    assert found.score == pytest.approx(scores.gather(1, classes[:, None])[:, 0].numpy(), rel=1e-5)
    best = class_activation(net, data)
    assert list(best.label) == scores.argmax(1).tolist()
    assert found.images.shape == (9, 8, 8, 3)
    assert found.images.min() == 0
    assert found.images.max() == 1


def test_grad_cam_at_the_end_is_the_positive_part_of_the_map() -> None:
    net, data = network(), sample(9, batch=4)
    whole, positive = class_activation(net, data), grad_cam(net, data)
    positions = whole.maps.shape[1] * whole.maps.shape[2]
    assert positive.maps == pytest.approx(np.maximum(whole.maps, 0) / positions, rel=1e-4, abs=1e-6)
    early = grad_cam(net, data, block="layer1.0")
    assert early.maps.shape == (9, 8, 8)
    assert early.maps.min() >= 0
    assert list(early.score) == list(positive.score)


def test_the_scale_of_the_logits_counts() -> None:
    net, data = network(), sample(5)
    plain = class_activation(net, data)
    net.spec = net.spec.model_copy(update={"logit_scale": 0.5})
    scaled = class_activation(net, data)
    assert scaled.maps == pytest.approx(plain.maps / 2)
    assert scaled.score == pytest.approx(plain.score / 2)


def test_features_by_stage() -> None:
    net, data = network(), sample(20, batch=7)
    found = features(net, data, ("stem", "layer2", "pool", "logits"))
    with torch.no_grad():
        expected = net.features(data.x)
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name])
    assert found["layer2"].shape == (20, 8, 4, 4)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="has no stage 'layer4'; it has stem, layer1, layer2, layer3, pool, logits"):
        features(network(), sample(), ("layer4",))
    with pytest.raises(InputError, match=r"has no block 'layer9.0'; it has layer1.0, "):
        grad_cam(network(), sample(), block="layer9.0")
    with pytest.raises(InputError, match="needs the global average pool"):
        class_activation(network("cifar_fast(widths=(8, 8), blocks=(1, 1))"), sample())
    with pytest.raises(InputError, match="needs positions"):
        grad_cam(chain(2, 0.5), vectors())


def test_classes_by_name() -> None:
    """Of the class that was chosen; without names by number, as in results of before there were names."""
    net, images = network(), sample(4)
    named = class_activation(net, replace(images, classes=tuple("abcdefghij"[: net.spec.num_classes])))
    assert named.called == tuple("abcdefghij"[label] for label in named.label)
    plain = class_activation(net, images)
    assert plain.called == tuple(str(label) for label in plain.label)
    old = plain.to_dict()
    del old["name"]
    assert Attribution.from_dict(old).called == plain.called
    with pytest.raises(KeyError):
        Attribution.from_dict({key: value for key, value in old.items() if key != "score"})
