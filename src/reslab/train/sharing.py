"""Whether a batch can be worked through in parts, by ranks or one after the other, and be the same training."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reslab.nets.spec import ReferenceSpec
from reslab.train.recipe import Recipe


def why_not_shared(recipe: Recipe, net: nn.Module, parts: int, *, ranks: int = 1, synced: bool = False) -> str:
    """Why a batch cannot be worked through in so many parts (``{how}``) without another result; nothing if it can.

    ``ranks`` of the parts are there at the same time; ``synced``: they tell each other BN's statistics (--sync-bn).
    """
    if parts == 1:
        return ""
    if recipe.global_batch % parts:
        return (
            f"a batch of {recipe.global_batch} cannot be divided evenly among {{how}}; choose a number of them that "
            "divides it, or another --batch-size"
        )
    own = recipe.global_batch // parts
    if not any(isinstance(module, _BatchNorm) for module in net.modules()):
        return ""
    if isinstance(recipe.net, ReferenceSpec):
        return (
            f"{recipe.net.name} computes BN's statistics over all images it is given, and with {{how}} that would be "
            f"{own} images instead of the whole batch of {recipe.global_batch}; train it without dividing the batch"
        )
    if recipe.bn_group is None or recipe.bn_group > own or own % recipe.bn_group:
        group = "the whole batch" if recipe.bn_group is None else f"groups of {recipe.bn_group} images"
        even = recipe.bn_group is None or recipe.bn_group >= recipe.global_batch or recipe.bn_group % own == 0
        if synced and ranks < parts:
            return (
                f"the recipe computes BN's statistics over {group}, and --sync-bn combines them across ranks, not "
                "across the parts of --accumulate; leave out --accumulate, or use more ranks"
            )
        if synced and even:
            return ""
        if ranks == parts and even:
            return (
                f"the recipe computes BN's statistics over {group}, but each of {{how}} sees {own} images; use "
                f"--sync-bn to compute them across ranks, or --set bn_group={own}, which is a different training"
            )
        return (
            f"the recipe computes BN's statistics over {group}, but each of {{how}} sees {own} images; use --set "
            f"bn_group={own}, which is a different training"
        )
    return ""


def ranks_of_group(recipe: Recipe, ranks: int) -> int:
    """How many consecutive ranks, each with an equal share of the batch, one group of BN's images is spread over."""
    group = recipe.global_batch if recipe.bn_group is None else min(recipe.bn_group, recipe.global_batch)
    return max(1, group * ranks // recipe.global_batch)
