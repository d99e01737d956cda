"""``python -m reslab`` is the command ``reslab``."""

from reslab.cli import main

main()
