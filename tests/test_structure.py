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


def _is_text_without_encoding(call: ast.Call) -> bool:
    """Whether a call opens text in the encoding that the locale happens to have."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in keywords:
        return False
    if name in ("read_text", "write_text", "NamedTemporaryFile"):
        return True
    if name in ("run", "Popen", "check_output"):
        return bool({"text", "universal_newlines"} & keywords.keys())
    if name not in ("open", "fdopen"):
        return False
    of_path = isinstance(call.func, ast.Attribute) and name == "open"
    if of_path and isinstance(call.func.value, ast.Name) and call.func.value.id in ("os", "self", "Image"):
        return False
    modes = [mode for mode in [*call.args[0 if of_path else 1 :][:1], keywords.get("mode")] if mode]
    return not any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("file.read_text()", True),
        ("file.write_text(text)", True),
        ("open(file)", True),
        ("open(file, 'w')", True),
        ("file.open('a')", True),
        ("os.fdopen(3, 'w')", True),
        ("subprocess.run(words, text=True)", True),
        ("file.read_text(encoding='utf-8')", False),
        ("open(file, 'rb')", False),
        ("file.open(mode='wb')", False),
        ("os.open(file, flags)", False),
        ("subprocess.run(words)", False),
    ],
)
def test_text_without_an_encoding_is_recognised(code: str, expected: bool) -> None:
    (statement,) = ast.parse(code).body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Call)
    assert _is_text_without_encoding(statement.value) is expected


def test_every_text_file_is_opened_with_its_encoding() -> None:
    found = [
        f"{module}:{node.lineno}"
        for module, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _is_text_without_encoding(node)
    ]
    assert found == []
