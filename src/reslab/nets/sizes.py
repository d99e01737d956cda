"""Computes the size of the signal after each part of a network, and checks that the parts fit together."""

from reslab.nets.parts import (
    SAME_SHAPE,
    WEIGHTED,
    Block,
    Conv,
    ConvStem,
    Dense,
    Dropout,
    Identity,
    MaxPool,
    NoShortcut,
    Scale,
    Size,
    WhiteningStem,
    ZeroPad,
    branch_layers,
)


def check_whitening(stem: WhiteningStem, channels: int, size: Size) -> None:
    """Raises ValueError if a patch does not fit in the image, or has fewer components than are asked for."""
    components = channels * stem.kernel**2
    if stem.width > 2 * components:
        raise ValueError(
            f"stem: patches of {stem.kernel}x{stem.kernel} pixels and {channels} channels have {components} "
            f"components, so the whitening stem has at most {2 * components} filters, got {stem.width}"
        )
    if min(size) + 2 * stem.padding < stem.kernel:
        raise ValueError(f"stem: {size[0]}x{size[1]} pixels are too few for patches of {stem.kernel}x{stem.kernel}")


def check_block(where: str, width: int, block: Block, dense: bool) -> None:
    """Raises ValueError if a block cannot take what comes in."""
    layers = branch_layers(block)
    if any(isinstance(layer, Conv | MaxPool) if dense else isinstance(layer, Dense) for layer in layers):
        raise ValueError(f"{where}: images take convolutions and pools, vectors fully connected layers only")
    if isinstance(block.shortcut, SAME_SHAPE) and (block.stride != 1 or block.width != width):
        raise ValueError(
            f"{where}: a shortcut of kind '{block.shortcut.kind}' needs equal shapes, but the block maps {width} "
            f"channels to {block.width} with stride {block.stride}; use zero-pad or projection"
        )
    if isinstance(block.shortcut, ZeroPad) and block.width < width:
        raise ValueError(f"{where}: zero-pad cannot go from {width} channels down to {block.width}")
    if dense and not isinstance(block.shortcut, NoShortcut | Identity | Scale | Dropout):
        raise ValueError(
            f"{where}: for vectors a shortcut is none, identity, scale or dropout, not '{block.shortcut.kind}'"
        )
    for layer in layers:
        if not isinstance(layer, WEIGHTED):
            continue
        if isinstance(layer, Conv) and (width % layer.groups or layer.width % layer.groups):
            raise ValueError(
                f"{where}: a convolution of {layer.groups} groups cannot go from {width} to {layer.width} channels; "
                "choose widths that are multiples of the groups"
            )
        width = layer.width
    if width != block.width:
        raise ValueError(f"{where}: the branch leaves {width} channels, but the block's width is {block.width}")


def layer_size(size: Size, layer: Conv | MaxPool) -> Size:
    """The size of what a layer puts out."""
    if isinstance(layer, Conv):
        size = shortcut_size(size, layer.stride)  # padded so that it rounds up too
        return size[0] // layer.pool, size[1] // layer.pool
    return (size[0] - layer.kernel) // layer.stride + 1, (size[1] - layer.kernel) // layer.stride + 1


def stem_size(size: Size, stem: ConvStem | WhiteningStem) -> Size:
    """The size of what enters the first block."""
    if isinstance(stem, WhiteningStem):
        height, width = ((side + 2 * stem.padding - stem.kernel) // stem.stride + 1 for side in size)
        return height, width
    return shortcut_size(shortcut_size(size, stem.stride), 2 if stem.pool else 1)


def shortcut_size(size: Size, stride: int) -> Size:
    """The size that every shortcut leaves: it keeps each ``stride``-th pixel, the first among them."""
    return -(-size[0] // stride), -(-size[1] // stride)


def check_sizes(where: str, size: Size, block: Block) -> Size:
    """The size that leaves a block; raises ValueError if a pool has too few pixels, or the two ways to the addition
    end in different sizes: pools round down, shortcuts up."""
    layers = branch_layers(block)
    summed = len(layers) - 1
    if block.order in ("original", "bn-after-addition"):  # where layers behind the last weights work on the sum
        summed = max((i for i, layer in enumerate(layers) if isinstance(layer, WEIGHTED)), default=summed)
    beside = shortcut_size(size, block.stride)
    for i, layer in enumerate(layers):
        pool = layer.kernel if isinstance(layer, MaxPool) else layer.pool if isinstance(layer, Conv) else 1
        left = shortcut_size(size, layer.stride) if isinstance(layer, Conv) else size
        if min(left) < pool:
            raise ValueError(
                f"{where}: {left[0]}x{left[1]} pixels are left for a {pool}x{pool} max pool; choose a "
                "larger size of the input"
            )
        if isinstance(layer, Conv | MaxPool):
            size = layer_size(size, layer)
        if i == summed and size != beside and not isinstance(block.shortcut, NoShortcut):
            raise ValueError(
                f"{where}: at the addition the branch has {size[0]}x{size[1]} pixels, the shortcut "
                f"{beside[0]}x{beside[1]}; a pool needs sizes that its stride divides, and comes before the addition"
            )
    return size
