"""The command ``reslab``, also as ``python -m reslab``."""

import sys


def main() -> None:
    """Runs `reslab.cli`; Ctrl-C while it is still being imported ends in the same line as later."""
    try:
        from reslab import cli
    except KeyboardInterrupt:
        sys.stderr.write("reslab: interrupted\n")
        raise SystemExit(130) from None
    cli.main()


if __name__ == "__main__":
    main()
