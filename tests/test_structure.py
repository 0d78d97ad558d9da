"""Imports point one way."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import taskcluster

ROOT = Path(taskcluster.__file__).parent
COMMANDS = {"train", "analyze", "export", "report", "dashboard"}


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__").removesuffix("__init__")


MODULES = {_module(file): file for file in sorted(ROOT.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """Modules of the package that a module imports, at its top or in a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "taskcluster":
            of = ".".join((node.module or "").split(".")[1:])
            names = {f"{of}.{alias.name}".strip(".") for alias in node.names}
            found |= names & MODULES.keys() or {of}
    return found - {""}


def test_no_circles_between_modules() -> None:
    TopologicalSorter({module: imports(module) for module in MODULES}).prepare()


def test_no_circles_between_packages() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        own = module.split(".")[0]
        graph.setdefault(own, set()).update({name.split(".")[0] for name in imports(module)} - {own})
    TopologicalSorter(graph).prepare()


def test_nothing_imports_a_command() -> None:
    assert {module: imports(module) & COMMANDS for module in MODULES if imports(module) & COMMANDS} == {}


def test_packages_hold_no_logic_in_their_init() -> None:
    for module, file in MODULES.items():
        if file.name == "__init__.py" and module:  # that of the package itself names the library
            assert [type(node) for node in ast.parse(file.read_text()).body] == [ast.Expr], module


@pytest.mark.parametrize("part", ["metrics", "results", "pages", "watch"])
def test_reading_needs_no_torch(part: str) -> None:
    modules = ", ".join(f"taskcluster.{name}" for name in MODULES if name.split(".")[0] == part)
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
