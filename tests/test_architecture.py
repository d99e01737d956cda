"""The plan of the house, enforced: imports go one way, heavy libraries stay in their rooms.

Everything is read from the source text with ``ast``; nothing is imported. A rule is a function from
a source tree to a list of complaints, each beginning with ``file:line``. Rooms that do not exist yet
are no complaint; a new room at the top of ``reslab`` has to be given a step in ``STEPS``.
"""

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

import pytest

SRC = Path(__file__).parents[1] / "src"

STEPS: tuple[tuple[str, ...], ...] = (
    ("errors", "processes", "__version__"),
    ("processor",),
    ("compiled",),
    ("kernels",),
    ("nets", "data", "runs", "published"),
    ("weights",),
    ("evaluate", "report"),
    ("train",),
    ("bench",),
    ("probes",),
    ("transfer",),
    ("deploy",),
    ("detect",),
    ("recipes",),
    ("studies",),
    ("commands",),
    ("cli", "reslab"),  # the two front doors: the command, and `import reslab`
    ("__main__",),
)
"""A room imports itself and rooms of earlier steps; rooms of one step never import each other."""

NARROWER = {
    "kernels": ("errors", "compiled", "processor"),
    "nets": ("errors", "kernels"),
    "data": ("errors", "processes", "compiled", "kernels"),
    "runs": ("errors", "__version__"),
    "published": ("errors",),
    "weights": ("errors", "nets"),
    "report": ("errors", "__version__", "runs", "published"),
}
"""Rooms that may import less than their step would let them."""

KNOWN_CIRCLES: set[frozenset[str]] = set()
"""Modules that import each other in a circle, still to be untangled. One that is gone has to leave this list."""

MOST_LINES = 450
LONG: dict[str, str] = {}
"""Modules that may be longer, and why."""

TORCH = ("torch", "torchvision", "timm", "safetensors.torch")
WITHOUT_TORCH = (
    "reslab",
    "reslab.__main__",
    "reslab.cli",
    "reslab.errors",
    "reslab.nets.spec",
    "reslab.nets.catalog",
    "reslab.nets.cost",
    "reslab.nets.describe",
    "reslab.nets.diagram",
    "reslab.nets.svg.*",
    "reslab.weights",
    "reslab.weights.preprocessing",
    "reslab.data.decode.modes",
    "reslab.data.decode.whole",
    "reslab.data.spec",
    "reslab.deploy",
    "reslab.deploy.artefact",
    "reslab.deploy.runtimes",
    "reslab.evaluate",
    "reslab.deploy.serve",
    "reslab.deploy.serve.app",
    "reslab.deploy.serve.decoding",
    "reslab.deploy.serve.server",
    "reslab.evaluate.protocols",
    "reslab.train.recipe",
    "reslab.recipes",
    "reslab.recipes.*",
    "reslab.report.summary",
    "reslab.report.claims",
    "reslab.studies",
    "reslab.studies.design",
    "reslab.studies.*20*",  # a paper's table or figure
    "reslab.studies.plan",
    "reslab.studies.verdict",
    "reslab.studies.ledger",
    "reslab.commands.claims",
    "reslab.commands.names",
    "reslab.commands.options",
    "reslab.commands.options.*",
    "reslab.commands.published",
    "reslab.commands.runs",
    "reslab.commands.serve",
    "reslab.commands.studies",
    "reslab.runs",
    "reslab.runs.*",
)
"""Plain data and the command line: importing these, with all that they import in turn, leaves torch alone."""

STANDARD_LIBRARY_ONLY = ("reslab.runs", "reslab.runs.*")

HOMES: dict[str, tuple[str, ...]] = {
    "torchvision": (
        "reslab.data.download",
        "reslab.data.decode.jpeg",  # its decoder, where libjpeg's header is missing
        "reslab.data.sources",
        "reslab.data.transforms",
        "reslab.nets.catalog",
        "reslab.nets.reference",
        "reslab.weights",
        "reslab.bench",
        "reslab.detect",
    ),
    "onnx": ("reslab.deploy",),
    "onnxscript": ("reslab.deploy",),
    "onnxruntime": ("reslab.deploy",),
    "openvino": ("reslab.deploy",),
    "nncf": ("reslab.deploy",),
    "fastapi": ("reslab.deploy.serve",),
    "starlette": ("reslab.deploy.serve",),
    "uvicorn": ("reslab.deploy.serve",),
    "prometheus_client": ("reslab.deploy.serve",),
    "ray": ("reslab.studies.on_ray",),
    "fsspec": ("reslab.studies.store",),
}
"""Which modules (with all below them) may import a library, at any level. The others go through them."""


@dataclass(frozen=True)
class Import:
    """One imported name. ``when``: as the module is imported, when a function is called, for types only."""

    target: str
    line: int
    when: Literal["import", "call", "typing"]


@dataclass(frozen=True)
class Module:
    name: str
    file: str
    imports: tuple[Import, ...]
    lines: int


Tree = dict[str, Module]


class _Reader(ast.NodeVisitor):
    """Collects the imports of one module, relative ones resolved."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.when: Literal["import", "call", "typing"] = "import"
        self.found: list[Import] = []

    def _add(self, target: str, node: ast.expr | ast.stmt) -> None:
        self.found.append(Import(target, node.lineno, self.when))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        for alias in node.names:
            self._add(base if alias.name == "*" else f"{base}.{alias.name}", node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self._add(name.value, node)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            self._visit_all(node.body, "typing")
            self._visit_all(node.orelse, self.when)
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list, self.when)
        self._visit_all(node.body, "call")

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all([node.body], "call")

    def _visit_all(self, nodes: list[ast.stmt] | list[ast.expr], when: Literal["import", "call", "typing"]) -> None:
        outer, self.when = self.when, when if self.when == "import" else self.when
        for node in nodes:
            self.visit(node)
        self.when = outer


def read(src: Path) -> Tree:
    """All modules of the package under ``src``, by dotted name."""
    tree = {}
    for path in sorted((src / "reslab").rglob("*.py")):
        parts = path.relative_to(src).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        reader = _Reader(name if is_package else name.rpartition(".")[0])
        text = path.read_text(encoding="utf-8")
        reader.visit(ast.parse(text, filename=str(path)))
        tree[name] = Module(name, path.relative_to(src.parent).as_posix(), tuple(reader.found), text.count("\n"))
    return tree


@functools.cache
def source() -> Tree:
    """This package, which does not change meanwhile."""
    return read(SRC)


def room(name: str) -> str:
    """``reslab.nets.spec`` -> ``nets``; the package itself is the room ``reslab``."""
    return name.split(".")[1] if "." in name else name


def is_ours(target: str) -> bool:
    return target.split(".")[0] == "reslab"


def is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def every_room_has_a_step(tree: Tree) -> list[str]:
    placed = {name for step in STEPS for name in step}
    return [
        f"{module.file}:1: '{room(module.name)}' is no room of the plan; give it a step in STEPS"
        for module in tree.values()
        if room(module.name) not in placed
    ]


def imports_go_one_way(tree: Tree) -> list[str]:
    allowed: dict[str, tuple[str, ...]] = {}
    earlier: tuple[str, ...] = ()
    for step in STEPS:
        allowed |= {name: NARROWER.get(name, earlier) for name in step}
        earlier += step
    complaints = []
    for module in tree.values():
        here = room(module.name)
        for used in module.imports:
            there = room(used.target)
            if is_ours(used.target) and there != here and there not in allowed.get(here, ()):
                known = ", ".join(name for name in allowed.get(here, ()) if name != "__version__")
                complaints.append(
                    f"{module.file}:{used.line}: imports {used.target}, "
                    f"but '{here}' may import only: {known or 'nothing of reslab'}"
                )
    return complaints


def _loaded_with(name: str, tree: Tree) -> Iterator[tuple[Module, str]]:
    """The modules that run when ``name`` is imported, each with the chain of names that leads to it."""
    waiting, seen = [(name, name)], set()
    while waiting:
        target, chain = waiting.pop(0)
        parts = target.split(".")
        for end in range(1, len(parts) + 1):  # importing a.b.c runs a, a.b and a.b.c
            module = tree.get(".".join(parts[:end]))
            if module is None or module.name in seen:
                continue
            seen.add(module.name)
            link = chain if module.name == target else f"{chain} -> {module.name}"
            yield module, link
            for used in module.imports:
                if used.when == "import" and is_ours(used.target):
                    waiting.append((used.target, f"{link} -> {used.target}"))


def plain_data_is_without_torch(tree: Tree) -> list[str]:
    return [
        f"{module.file}:{used.line}: imports {used.target} at module level, "
        f"so '{name}' cannot be imported without torch ({chain})"
        for name in tree
        if matches(name, WITHOUT_TORCH)
        for module, chain in _loaded_with(name, tree)
        for used in module.imports
        if used.when == "import" and is_in(used.target, TORCH)
    ]


def runs_is_standard_library_only(tree: Tree) -> list[str]:
    return [
        f"{module.file}:{used.line}: imports {used.target}, but '{module.name}' is standard library only"
        for module in tree.values()
        if matches(module.name, STANDARD_LIBRARY_ONLY)
        for used in module.imports
        if not is_ours(used.target) and used.target.split(".")[0] not in sys.stdlib_module_names
    ]


def libraries_stay_at_home(tree: Tree) -> list[str]:
    return [
        f"{module.file}:{used.line}: imports {used.target}, but {library} belongs in: "
        f"{', '.join(homes) or 'no module yet; choose one and name it in HOMES'}"
        for module in tree.values()
        for used in module.imports
        for library, homes in HOMES.items()
        if is_in(used.target, (library,)) and not is_in(module.name, homes)
    ]


def _used_by(module: Module, tree: Tree) -> dict[str, int]:
    """The modules that one needs to do its work, each with the line that first says so.

    Functions' imports count, and those for types: two modules that know each other are one, whenever they say so. A
    package does not count for the sake of its modules.
    """
    found: dict[str, int] = {}
    for used in module.imports:
        if not is_ours(used.target) or used.target == "reslab.__version__":
            continue
        name = used.target
        while name not in tree and "." in name:
            name = name.rpartition(".")[0]
        if name != module.name and name in tree:
            found.setdefault(name, used.line)
    return found


def circles(tree: Tree) -> set[frozenset[str]]:
    """The sets of modules of which each reaches each by way of imports."""
    edges = {module.name: _used_by(module, tree) for module in tree.values()}
    reached: dict[str, set[str]] = {}
    for name in tree:
        waiting, seen = [name], set[str]()
        while waiting:
            for target in edges[waiting.pop()]:
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        reached[name] = seen
    return {
        frozenset(other for other in reached[name] if name in reached[other]) for name in tree if name in reached[name]
    }


def no_module_needs_itself(tree: Tree) -> list[str]:
    complaints = []
    for circle in circles(tree) - KNOWN_CIRCLES:
        for name in sorted(circle):
            for used, line in _used_by(tree[name], tree).items():
                if used in circle:
                    complaints.append(f"{tree[name].file}:{line}: imports {used}, which needs {name} in turn")
    return complaints


def modules_are_of_a_size_to_read(tree: Tree) -> list[str]:
    return [
        f"{module.file}:{module.lines}: longer than {MOST_LINES} lines; divide it"
        for module in tree.values()
        if module.lines > MOST_LINES and module.name.removeprefix("reslab.") not in LONG
    ]


Rule = Callable[[Tree], list[str]]
RULES: tuple[Rule, ...] = (
    every_room_has_a_step,
    imports_go_one_way,
    plain_data_is_without_torch,
    runs_is_standard_library_only,
    libraries_stay_at_home,
    no_module_needs_itself,
    modules_are_of_a_size_to_read,
)


def test_the_source_is_found() -> None:
    assert "reslab.errors" in source()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule: Rule) -> None:
    complaints = rule(source())
    assert not complaints, "\n" + "\n".join(complaints)


def test_what_is_excepted_needs_it() -> None:
    tree = source()
    gone = KNOWN_CIRCLES - circles(tree)
    assert not gone, f"no circles any more: take them out of KNOWN_CIRCLES: {[sorted(circle) for circle in gone]}"
    short = [name for name in LONG if tree[f"reslab.{name}"].lines <= MOST_LINES]
    assert not short, f"no longer than others: take them out of LONG: {short}"


# That the rules can fail: small trees, each with one thing wrong.


def plant(where: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        path = where / "src/reslab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read(where / "src")


@pytest.mark.parametrize(
    ("rule", "file", "text", "line", "complaint"),
    [
        (every_room_has_a_step, "utils.py", "", 1, "'utils' is no room"),
        (imports_go_one_way, "nets/a.py", "import reslab.data.spec", 1, "'nets' may import only: errors"),
        (imports_go_one_way, "data/a.py", "\nfrom reslab import nets", 2, "imports reslab.nets"),
        (imports_go_one_way, "runs/a.py", "from ..nets.spec import S", 1, "imports reslab.nets.spec"),
        (imports_go_one_way, "runs/__init__.py", "from ..data import spec", 1, "imports reslab.data"),
        (imports_go_one_way, "train/a.py", "def f():\n from ..recipes import x", 2, "imports reslab.recipes"),
        (imports_go_one_way, "train/a.py", "f = lambda: __import__('reslab.cli')", 1, "imports reslab.cli"),
        (imports_go_one_way, "train/a.py", "from reslab import build", 1, "imports reslab.build"),
        (imports_go_one_way, "train/a.py", "import reslab", 1, "imports reslab,"),
        (imports_go_one_way, "probes/a.py", "import reslab.deploy.fold", 1, "imports reslab.deploy.fold"),
        (imports_go_one_way, "report/a.py", "from reslab.nets import S", 1, "only: errors, runs, published"),
        (imports_go_one_way, "errors.py", "from reslab.runs import a", 1, "only: nothing of reslab"),
        (plain_data_is_without_torch, "nets/spec.py", "import torch.nn as nn", 1, "imports torch.nn"),
        (plain_data_is_without_torch, "cli.py", "try:\n import torch\nfinally: ...", 2, "imports torch"),
        (runs_is_standard_library_only, "runs/a.py", "import json\nimport numpy as np", 2, "imports numpy"),
        (libraries_stay_at_home, "train/a.py", "def f():\n import torchvision", 2, "belongs in: reslab.data"),
        (imports_go_one_way, "kernels/a.py", "from reslab.nets import S", 1, "only: errors, compiled, processor"),
        (imports_go_one_way, "nets/a.py", "from ..weights import load", 1, "imports reslab.weights"),
        (imports_go_one_way, "data/a.py", "from reslab.weights import load", 1, "imports reslab.weights"),
        (modules_are_of_a_size_to_read, "nets/a.py", "\n" * 451, 451, "longer than 450 lines"),
        (libraries_stay_at_home, "cli.py", "from ray import tune", 1, "belongs in: reslab.studies.on_ray"),
    ],
)
def test_a_violation_is_caught(tmp_path: Path, rule: Rule, file: str, text: str, line: int, complaint: str) -> None:
    [found] = rule(plant(tmp_path, {file: text}))
    assert found.startswith(f"src/reslab/{file}:{line}: ")
    assert complaint in found


@pytest.mark.parametrize(
    ("files", "culprit", "chain"),
    [
        (
            {
                "cli.py": "from reslab.studies import a",
                "studies/a.py": "from . import b",
                "studies/b.py": "import torch",
            },
            "src/reslab/studies/b.py:1: ",
            "reslab.cli -> reslab.studies.a -> reslab.studies.b",
        ),
        (  # a package runs before its modules
            {
                "nets/spec.py": "",
                "nets/__init__.py": "from .blocks import B",
                "nets/blocks.py": "import torch",
            },
            "src/reslab/nets/blocks.py:1: ",
            "reslab.nets.spec -> reslab.nets -> reslab.nets.blocks",
        ),
    ],
)
def test_torch_is_found_at_the_end_of_a_chain(tmp_path: Path, files: dict[str, str], culprit: str, chain: str) -> None:
    [found] = plain_data_is_without_torch(plant(tmp_path, files))
    assert found.startswith(culprit)
    assert chain in found


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"train/a.py": "from . import b", "train/b.py": "from .a import f"}, {"a", "b"}),
        ({"train/a.py": "def f():\n from . import b", "train/b.py": "from reslab.train.a import f"}, {"a", "b"}),
        ({"train/a.py": "from . import b", "train/b.py": "import reslab.train.c", "train/c.py": "from .a import f",
          "train/d.py": "from . import a"}, {"a", "b", "c"}),
        ({"train/__init__.py": "from .a import f", "train/a.py": "from reslab.train import g"}, {"train", "a"}),
        ({"train/a.py": "from . import b", "train/b.py": "from reslab import __version__"}, set()),
        ({"train/a.py": "from . import b",
          "train/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n from .a import T"}, {"a", "b"}),
    ],
    ids=["two", "in a function", "three", "its own package", "none", "for types"],
)  # fmt: skip
def test_circles_between_modules_are_found(tmp_path: Path, files: dict[str, str], expected: set[str]) -> None:
    tree = plant(tmp_path, {"__init__.py": "def build():\n from reslab.train import a", **files})
    assert {name.rpartition(".")[2] for circle in circles(tree) for name in circle} == expected
    complaints = no_module_needs_itself(tree)
    assert len({complaint.partition(":")[0] for complaint in complaints}) == len(expected)


def test_what_is_allowed_passes(tmp_path: Path) -> None:
    tree = plant(
        tmp_path,
        {
            "__init__.py": "def __getattr__(name):\n from reslab.nets import build",
            "__main__.py": "from reslab.cli import main",
            "cli.py": "from typing import TYPE_CHECKING\nfrom reslab.recipes import he\n"
            "if TYPE_CHECKING:\n import torch\ndef train():\n import torch\n from reslab.train import loop",
            "errors.py": "",
            "nets/build.py": "import torch\nfrom . import spec",
            "nets/spec.py": "import pydantic\nfrom ..errors import InputError",
            "data/sources.py": "import torchvision",
            "runs/env.py": "import json, os.path\nfrom reslab import __version__, errors",
            "report/summary.py": "from reslab.runs import env",
            "train/loop.py": "import torch\nfrom ..evaluate import metrics\nfrom ..nets.build import build",
            "train/recipe.py": "from reslab.nets.spec import NetSpec",
            "recipes/he.py": "from reslab.train.recipe import Recipe",
        },
    )
    assert [complaint for rule in RULES for complaint in rule(tree)] == []
