"""The batch and the length of ``reslab train``: as asked for, else the recipe's own where they fit the data."""

from collections.abc import Callable
from typing import Any

from reslab.commands.options.train import Options
from reslab.data.spec import DataInfo
from reslab.nets.spec import AnyNet
from reslab.train.length import ENOUGH, FEWEST, batch_within, iterations_of, proposed
from reslab.train.recipe import Recipe, override


def fitted(
    options: Options, make: Callable[..., Recipe], net: str | AnyNet, info: DataInfo, parts: int
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe that was asked for, and what of its own batch and length was changed to fit the data.

    A batch is worked through in ``parts``, by ranks or one after the other. Raises `InputError` for what the recipe
    refuses.
    """
    images = max(2, info.n_train - (options.holdout or 0))  # more held out than there are is refused later
    arguments: dict[str, Any] = {"holdout": options.holdout or 0, "seed": options.seed or 0}
    if options.batch is not None:
        arguments["batch"] = options.batch
    if options.iterations is not None:
        arguments["iterations"] = options.iterations
    recipe = make(net, info, **arguments)
    changed = {text.partition("=")[0].strip() for text in options.settings}
    said = []
    own = recipe.global_batch
    if own > images and options.batch is None and "global_batch" not in changed:
        arguments["batch"] = batch_within(own, images, parts)
        said.append(
            f"training with a batch of {arguments['batch']}, not the recipe's {own}: there are {images} training "
            "images (--batch-size sets it)"
        )
        recipe = make(net, info, **arguments)
    batch = recipe.global_batch
    if options.epochs is not None:
        arguments["iterations"] = iterations_of(options.epochs, images, batch)
    elif options.iterations is None and "iterations" not in changed and recipe.iterations < FEWEST:
        epochs = proposed(images, batch)
        arguments["iterations"] = iterations_of(epochs, images, batch)
        said.append(
            f"training for {epochs} epochs, not the recipe's {recipe.iterations * batch / images:.3g}: on {images} "
            f"images that would be only {recipe.iterations} steps, and a network needs about {ENOUGH} to learn "
            "anything (--epochs sets it)"
        )
    settings = options.settings
    if options.num_classes is not None:  # the data's own number is a recipe's choice
        settings = (f"net.num_classes={options.num_classes}", *settings)
    return override(make(net, info, **arguments), settings), tuple(said)
