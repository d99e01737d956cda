"""Reslab: the residual networks of the papers, trained, proved, taken apart and shipped.

From Python there are four ways in: `build` makes a network, `load` reads weights of any residual network, `Classifier`
fine-tunes one on images and asks it, and `ImageClassifier` is that for scikit-learn. The rest is the command
``reslab``; ``reslab --help`` lists what it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reslab.processor import limit_libraries

if TYPE_CHECKING:
    from pathlib import Path

    from reslab.nets.network import Network
    from reslab.nets.spec import AnyNet, NetSpec
    from reslab.transfer.classifier import Classifier
    from reslab.transfer.estimator import ImageClassifier
    from reslab.weights.load import Weights
    from reslab.weights.names import Which

__version__ = "0.1.0"
__all__ = ["Classifier", "ImageClassifier", "__version__", "build", "load"]

limit_libraries()


def build(net: str | NetSpec, *, seed: int = 0, **overrides: Any) -> Network:
    """Builds a network and draws its weights: a `torch.nn.Module` with torchvision's parameter names.

    Args:
        net: a name that ``reslab nets`` lists (``"resnet20"``), torchvision's or timm's name of one of them
            (``"wide_resnet50_2"``), ``"cifar_resnet(depth=38)"``, or a specification.
        seed: random seed of the initial weights.
        overrides: fields of the network: ``num_classes=100``, ``in_channels=1``, ``shortcut="B"``, ...

    Raises:
        InputError: the name is unknown, or the combination cannot be built.

    Example:
        >>> import torch, reslab
        >>> net = reslab.build("resnet20", num_classes=5).eval()
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
        >>> {name: tuple(y.shape[1:]) for name, y in net.features(torch.zeros(2, 3, 32, 32)).items()}["layer3"]
        (64, 8, 8)
    """
    from reslab.nets.network import build  # torch takes seconds to import; `reslab --help` must not wait for it

    return build(net, seed=seed, **overrides)


def load(
    source: str | Path,
    *,
    net: str | AnyNet | None = None,
    num_classes: int | None = None,
    which: Which | None = None,
) -> Weights:
    """Reads weights, finds out which network they are of, and says what it had to assume.

    Args:
        source: a file (``.safetensors``, ``.pth``, ``.ckpt``, ...), the folder of a run, or a name:
            ``"reslab:resnet20-cifar10"``, ``"torchvision:resnet50/IMAGENET1K_V2"``, ``"timm:resnet50.a1_in1k"``,
            ``"hf:ORG/NAME"``.
        net: the network to load them into, where names and shapes cannot tell, or for another on purpose.
        num_classes: of the network; a new last layer is drawn where the weights have another or none.
        which: ``"ema"`` or ``"raw"``, where a file holds the weights of the last step and their average. By default
            the average.

    Returns:
        The weights: ``.network()`` is the network with them, ``.preprocessing`` what its input is, ``.classes`` the
        names of its outputs, and ``.said`` what was unwrapped, chosen, left aside or assumed.

    Raises:
        InputError: nothing there, not whole, refused as unsafe, or of no known network.

    Example:
        >>> import torch, reslab
        >>> weights = reslab.load("reslab:resnet20-cifar10")
        >>> weights.spec.name, weights.classes[:3]
        ('resnet20', ('airplane', 'automobile', 'bird'))
        >>> weights.network().eval()(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """
    from reslab.weights.load import load

    return load(source, net=net, num_classes=num_classes, which=which)


def __getattr__(name: str) -> Any:
    """Classes are imported when they are first named: torch takes seconds, for which `reslab --help` must not wait."""
    if name == "Classifier":
        from reslab.transfer.classifier import Classifier

        return Classifier
    if name == "ImageClassifier":
        from reslab.transfer.estimator import ImageClassifier

        return ImageClassifier
    raise AttributeError(f"module 'reslab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | {*__all__})
