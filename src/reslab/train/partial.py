"""Which parts of a network are trained, how fast each, and which BN layers stay as they are: for fine-tuning."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.train.recipe import Transfer

HEAD, BODY = "head", "body"


def last_layer(net: nn.Module) -> str:
    """The name of the linear layer that gives the logits: the last one. Raises `InputError` where there is none."""
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError("the network has no linear layer that could be its head; it cannot be fine-tuned")
    return str(linear[-1])


def parts_of(net: nn.Module) -> dict[str, tuple[str, ...]]:
    """The names of a network's modules (those directly below it) by part, from the images on: stem, stages, head.

    Of another library's network there are two: the body and the head, which is all that holds the last linear layer.
    """
    children = [name for name, _ in net.named_children()]
    if not isinstance(net, Network):
        head = last_layer(net).split(".")[0]
        return {BODY: tuple(name for name in children if name != head), HEAD: (head,)}
    stages = net.stage_names
    found: dict[str, tuple[str, ...]] = {"stem": (), **{name: (name,) for name in stages}, HEAD: ("fc",)}
    for name in children:  # what stands behind the last stage is trained with it
        if name not in (*stages, "fc"):
            behind = children.index(name) > children.index(stages[-1])
            part = stages[-1] if behind else "stem"
            found[part] = (*found[part], name)
    return found


class Partial:
    """A rule of what is trained, applied to a network."""

    def __init__(self, net: nn.Module, rule: Transfer) -> None:
        self.net, self.rule = net, rule
        self.parts = [
            [net.get_submodule(name) for name in names] for names in parts_of(net).values()
        ]  # from the images on
        if rule.trains == "last" and not isinstance(net, Network):
            raise InputError("the stages of another library's network are not known here; train 'head' or 'all'")
        if rule.trains == "last" and rule.stages > len(self.parts) - 2:
            raise InputError(f"the network has {len(self.parts) - 2} stages, got {rule.stages} to train")
        self._fixed = {p for p in net.parameters() if not p.requires_grad}  # as whitening's filters

    def first(self, progress: float) -> int:
        """The first part that is trained, counted from the images on, at a share of the length."""
        last = len(self.parts) - 1
        match self.rule.trains:
            case "head":
                return last
            case "last":
                return last - self.rule.stages
            case "all":
                return 0
            case "gradual":
                return max(0, last - int(progress / self.rule.unfrozen * last + 1e-9))

    def apply(self, progress: float) -> None:
        """Sets what takes part in gradients, and the mode of each module, for a share of the length (0 to 1)."""
        first = self.first(progress)
        for number, modules in enumerate(self.parts):
            trained = number >= first
            for module in modules:
                for parameter in module.parameters():
                    parameter.requires_grad_(trained and parameter not in self._fixed)
                # A part that is not trained has no dropout either, and its BN keeps its statistics.
                module.train(trained)
                if self.rule.freeze_bn:
                    for norm in module.modules():
                        if isinstance(norm, _BatchNorm):
                            norm.eval()

    def rates(self) -> dict[str, float]:
        """The learning rate of each trained parameter, relative to the head's."""
        first = self.first(1.0)
        names = {parameter: name for name, parameter in self.net.named_parameters()}
        return {
            names[parameter]: self.rule.decay ** (len(self.parts) - 1 - number)
            for number, modules in enumerate(self.parts)
            if number >= first
            for module in modules
            for parameter in module.parameters()
            if parameter not in self._fixed
        }
