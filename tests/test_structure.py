"""Imports point one way: the science never imports operations, and what is read needs no torch."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import taskcluster

ROOT = Path(taskcluster.__file__).parent

CORE = {"tasks", "data", "models", "objectives", "measures", "metrics", "results"}
COMMANDS = {"train", "analyze", "export", "report", "dashboard"}
OUTSIDE = {"operations", "training", "pages", *COMMANDS}  # which the core does not know

# The private parts of libraries that are used, which may change with any version.
PRIVATE = {
    "objectives.objective": {"_dynamo"},
    "models.training_module": {"_step_supports_amp_scaling"},
    "operations.command_line.cli": {"_internal"},
    "tasks.language": {"_parser"},
}
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make", "_exit"}  # of named tuples, of os


def _name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


TREES = {_name(file): ast.parse(file.read_text(encoding="utf-8")) for file in sorted(ROOT.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """Modules of the package that a module imports, at its top or in a function."""
    imported: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "taskcluster":
            source = ".".join((node.module or "").split(".")[1:])
            names = {f"{source}.{alias.name}".strip(".") for alias in node.names}
            imported |= names & TREES.keys() or {source}
    return imported - {""}


def room(module: str) -> str:
    """The folder of a module, or the module itself at the top; operations have a folder for each subject."""
    return ".".join(module.split(".")[: 2 if module.startswith("operations.") else 1])


def _defined(tree: ast.AST) -> Iterator[str]:
    """Functions and attributes that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


OURS = DOCUMENTED.union(*map(_defined, TREES.values()))


def private_parts(module: str) -> set[str]:
    """Names with one leading underscore that a module imports or reads from a library."""
    names: list[str] = []
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Attribute) and node.attr not in OURS:
            names.append(node.attr)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("taskcluster"):
            names += [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [part for alias in node.names for part in alias.name.split(".")]
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_no_circles_between_modules() -> None:
    TopologicalSorter({module: imports(module) for module in TREES}).prepare()


def test_no_circles_between_folders() -> None:
    graph: dict[str, set[str]] = {}
    for module in TREES:
        graph.setdefault(room(module), set()).update({room(name) for name in imports(module)} - {room(module)})
    TopologicalSorter(graph).prepare()


def test_the_core_never_imports_operations() -> None:
    core = [module for module in TREES if room(module) in CORE]
    assert [(m, name) for m in core for name in imports(m) if name.split(".")[0] in OUTSIDE] == []


def test_nothing_imports_a_command() -> None:
    assert [(module, name) for module in TREES for name in imports(module) if name in COMMANDS] == []


def test_no_two_modules_have_one_name() -> None:
    names = Counter(module.split(".")[-1] for module in TREES if not (ROOT / Path(*module.split("."))).is_dir())
    assert {name for name, n in names.items() if n > 1} == set()


def test_private_parts_of_libraries_are_those_listed() -> None:
    assert {m: names for m in TREES if (names := private_parts(m))} == PRIVATE


def test_packages_hold_no_logic_in_their_init() -> None:
    for file in {*ROOT.rglob("*/__init__.py")} - {ROOT / "results" / "__init__.py"}:  # which is also a function
        assert [type(node) for node in TREES[_name(file)].body] == [ast.Expr], file


def test_results_is_a_function_after_any_import() -> None:
    for before in ("taskcluster.results.claims", "taskcluster"):
        code = (
            f"import {before}, taskcluster; assert callable(taskcluster.results); import taskcluster.results.frame as f"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("part", ["metrics", "results", "pages", "operations.live"])
def test_reading_needs_no_torch(part: str) -> None:
    modules = ", ".join(f"taskcluster.{name}" for name in TREES if f"{name}.".startswith(f"{part}."))
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
