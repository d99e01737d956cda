"""What weights can be called: a hub's name or a path. Importable without torch."""

PREFIXES = ("reslab:", "torchvision:", "timm:", "hf:")


def is_hub(source: str) -> bool:
    """Whether this names weights on a hub rather than a file."""
    return source.startswith(PREFIXES)
