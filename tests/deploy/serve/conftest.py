"""Tests of the server need its libraries: pip install 'reslab[serve]', or the group of developers."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("fastapi") and find_spec("uvicorn") else ["test_*.py"]
