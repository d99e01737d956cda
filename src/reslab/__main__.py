"""The command ``reslab``, also as ``python -m reslab``."""

import gc
import sys


def main() -> None:
    """Runs `reslab.cli`; Ctrl-C while it is still being imported ends in the same line as later."""
    try:
        from reslab import cli
    except KeyboardInterrupt:
        sys.stderr.write("reslab: interrupted\n")
        raise SystemExit(130) from None
    try:
        cli.main()
    finally:
        gc.freeze()  # as it exits, Python would look for cycles in all of PyTorch, which takes 0.2 seconds


if __name__ == "__main__":
    main()
