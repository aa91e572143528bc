"""How the code reads is kept by a test: budgets, one broad except, no drawers, no private paths."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "omni_msa"
MAX_LINES = {"omni_msa": 400, "scripts": 500, "tests": 500}  # of a file
MAX_CLASS_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 250, 60, 8
# Names are nouns: these say what was done to a thing, not what it is.
PARTICIPLES = set(
    "again asked fed found given heard held kept known made named said seen taken told "
    "wanted".split()
)
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc", "tools"}
BROAD = {"Exception", "BaseException"}
SPEAKERS = ("display/", "commands/", "__main__.py")  # they may write to the terminal

# Put together from parts, so that this file does not match itself.
TRACES = (
    rb"(?<![\w.~])/" + rb"work/\w",
    rb"/tmp/" + rb"\w",
    rb"(?<![\w.])/" + rb"root/\w",
    rb"(?<![\w.])/" + rb"home/\w",
    rb"/" + rb"Users/\w",
    rb"://" + rb"\d+\.\d+\.\d+\.\d+",
    rb"://" + rb"[\w.-]+\.(internal|local|lan|corp|intra)\b",
)


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([a for a in named if a.arg not in ("self", "cls")])


def broad_handlers(source: str) -> list[int]:
    """Lines that catch everything: bare `except`, `except Exception`, `suppress(Exception)`."""

    def names_broad(node: ast.AST) -> bool:
        return any(isinstance(n, ast.Name) and n.id in BROAD for n in ast.walk(node))

    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or names_broad(node.type)):
            lines.append(node.lineno)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            lines += [node.lineno for argument in node.args if names_broad(argument)]
    return lines


def test_files_stay_within_budget():
    long = {
        str(path.relative_to(ROOT)): lines
        for folder, most in MAX_LINES.items()
        for path in python_files(folder)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > most
    }
    assert not long, f"over {MAX_LINES} lines: {long}"


def test_classes_stay_within_budget():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in python_files("omni_msa", "scripts")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        if (node.end_lineno or 0) - node.lineno + 1 > MAX_CLASS_LINES
    ]
    assert not long, f"over {MAX_CLASS_LINES} lines: {long}"


def bound_names(source: str) -> list[str]:
    """Every variable, parameter and attribute that is given a value."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            names.append(node.arg)
    return names


def test_variables_are_named_by_the_noun_they_hold():
    assert bound_names("def f(given, *, a): self.found: int = a") == ["given", "a", "found"]
    participles = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in python_files("omni_msa")
        for name in bound_names(path.read_text(encoding="utf-8"))
        if name.strip("_") in PARTICIPLES
    ]
    assert not participles


def test_functions_stay_within_budget():
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path in python_files("omni_msa", "scripts")
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES
        or num_parameters(function) > MAX_PARAMETERS
    ]
    assert not long, f"over {MAX_FUNCTION_LINES} lines or {MAX_PARAMETERS} parameters: {long}"


def test_one_broad_except_in_the_package_where_a_bad_clip_becomes_a_row():
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in python_files("omni_msa")
        for _ in broad_handlers(path.read_text(encoding="utf-8"))
    ]
    assert found == ["scoring/guarded.py"]


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("try: f()\nexcept: pass", 1),
        ("try: f()\nexcept Exception: pass", 1),
        ("try: f()\nexcept (OSError, BaseException): raise", 1),
        ("with contextlib.suppress(Exception): f()", 1),
        ("try: f()\nexcept OSError: pass", 0),
        ("def f(error: Exception): raise Exception", 0),
    ],
)
def test_broad_handlers_are_seen(source, number):
    assert len(broad_handlers(source)) == number


def test_no_drawers():
    names = {path.stem for path in python_files("omni_msa", "scripts")}
    names |= {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert not names & DRAWERS


def test_the_library_never_prints():
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files("omni_msa")
        if not path.relative_to(PACKAGE).as_posix().startswith(SPEAKERS)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "print"
    ]
    assert not calls


def test_public_names_have_docstrings():
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in python_files("omni_msa")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        if not node.name.startswith("_") and ast.get_docstring(node) is None
    ]
    assert not bare


@pytest.mark.slow
def test_no_file_speaks_of_the_machine_it_was_written_on():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    trace = re.compile(b"|".join(TRACES))
    paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode(errors='replace')}"
        for path in paths
        if path.is_file() and (match := trace.search(path.read_bytes()))
    ]
    assert not found
