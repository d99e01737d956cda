"""Weights made ready to say what images show, for the commands that do it."""

from typing import Literal, Protocol

import torch

from reslab.commands.execution import start
from reslab.commands.options.common import Given
from reslab.commands.preprocessing import preprocessing_of
from reslab.evaluate.classify import Classifying
from reslab.nets.network import Network
from reslab.train.device import keep_freed_memory, resolve_precision, use_exact_fp32
from reslab.weights.load import Weights, load


class Asked(Protocol):
    """The options that it takes."""

    @property
    def weights(self) -> str:
        """A file, a run's folder, or a hub's name."""

    @property
    def net(self) -> str | None:
        """The network, where the weights do not tell."""

    @property
    def which(self) -> Literal["ema", "raw"] | None:
        """The average over the training, or the last step."""

    @property
    def given(self) -> Given:
        """Preprocessing in place of what the weights say."""

    @property
    def oriented(self) -> bool | None:
        """Whether photographs are turned upright; None: as the weights say."""

    @property
    def batch(self) -> int:
        """Images computed at a time."""

    @property
    def precision(self) -> Literal["auto", "bf16", "fp32"]:
        """What is computed in."""

    @property
    def device(self) -> str | None:
        """Where."""

    @property
    def threads(self) -> int | None:
        """CPU threads."""


def classifying(options: Asked, purpose: str) -> tuple[Classifying, Weights]:
    """The network on its device, with all that turns an image into its input. Raises `InputError`."""
    execution = start(options.device, options.threads)
    use_exact_fp32(execution.device)
    if execution.device.type == "cpu":
        keep_freed_memory()
    weights = load(options.weights, net=options.net, which=options.which)
    weights.check_head(purpose)
    how = preprocessing_of(options.given, weights)
    if options.oriented is not None:
        how = how.model_copy(update={"oriented": options.oriented})
    net = weights.module().to(execution.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    if isinstance(net, Network):
        net.fuse(execution.fuses)
    made = Classifying(
        net, how, weights.spec.in_channels, execution.device, resolve_precision(options.precision, execution.device),
        options.batch, temperature=float(weights.header.get("temperature") or 1.0),
    )  # fmt: skip
    return made, weights
