"""The house has floors: a module imports only from below. Read from the source, nothing is run.

On its own floor a module may import what stands to its left in the table, so that no two modules
ever import each other; inside a sub-package, siblings are free.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "omni_msa"

FLOORS = (
    ("errors", "values", "config"),  # words
    # files
    ("transcripts", "locks", "rows", "manifest", "results", "metrics", "sources", "media", "cache",
     "feed"),
    ("prompt", "datasets"),  # formats
    ("inputs", "packing"),  # tensors
    # model
    ("architecture", "memory", "thinker", "readouts", "methods", "self_check", "checkpoint"),
    ("scorer",),  # product
    # workflows
    ("batch", "processes", "run_folder", "training_data", "validation", "train", "calibrate",
     "evaluate", "comparison", "inspection", "footprint", "plan"),
    ("render", "tables", "report", "bench", "web"),  # leaves: only the door opens them, when needed
    ("flags", "study_flags", "scoring", "study", "cli", "__main__"),  # door
)  # fmt: skip
LAST_FILE_FLOOR, LEAVES, DOOR = 1, 7, 8
PLACE = {
    name: (floor, position)
    for floor, names in enumerate(FLOORS)
    for position, name in enumerate(names)
}
MODEL_LIBRARIES = frozenset(
    "torch torchvision torchaudio transformers peft accelerate bitsandbytes safetensors "
    "qwen_omni_utils".split()
)
# Sizing of frames is the model's own function, fetched when the first clip is read.
EXCEPTIONS = {("media/sampling.py", "qwen_omni_utils")}


@dataclass(frozen=True)
class Import:
    """One import statement: who imports what, and whether it runs when the module is imported."""

    file: str  # relative to the package
    line: int
    target: str  # dotted, absolute
    at_import: bool

    @property
    def importer(self) -> str:
        return Path(self.file).parts[0].removesuffix(".py")

    def __str__(self) -> str:
        return f"omni_msa/{self.file}:{self.line} imports {self.target}"


def imports_of(source: str, file: str) -> Iterator[Import]:
    """Every import in a module, those inside functions and type-checking blocks included."""
    package = ["omni_msa", *Path(file).parts[:-1]]

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, alias.name, at_import)
            elif isinstance(child, ast.ImportFrom):
                above = package[: len(package) - child.level + 1] if child.level else []
                module = ".".join([*above, *([child.module] if child.module else [])])
                for alias in child.names:
                    whole = f"{module}.{alias.name}" if module == "omni_msa" else module
                    yield Import(file, child.lineno, whole, at_import)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from visit(child, False)
            else:
                is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from visit(child, at_import and not is_function)

    yield from visit(ast.parse(source), True)


def all_imports() -> list[Import]:
    files = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return [
        found
        for file in files
        if str(file) != "__init__.py"
        for found in imports_of((PACKAGE / file).read_text(encoding="utf-8"), file.as_posix())
    ]


def own_module(found: Import) -> str | None:
    """The module of ours that is imported: `media` for `omni_msa.media.probe`; None for others."""
    parts = found.target.split(".")
    if parts[0] != "omni_msa" or len(parts) < 2 or parts[1].startswith("__version"):
        return None
    return parts[1]


def breaks_floors(found: Import) -> bool:
    module = own_module(found)
    if module is None or module == found.importer:
        return False
    return PLACE[module] >= PLACE[found.importer]


def opens_leaf_early(found: Import) -> bool:
    """A leaf imported by another floor than the door, or before a command needs it."""
    module = own_module(found)
    if module not in FLOORS[LEAVES] or found.importer in FLOORS[LEAVES]:
        return False
    return found.importer not in FLOORS[DOOR] or found.at_import


def drags_in_the_model(found: Import) -> bool:
    """A model library on the floors of words and files, or at the import of the door."""
    library = found.target.split(".")[0]
    floor = PLACE[found.importer][0]
    if library not in MODEL_LIBRARIES:
        return False
    if (found.file, library) in EXCEPTIONS and not found.at_import:
        return False
    return floor <= LAST_FILE_FLOOR or (floor >= LEAVES and found.at_import)


def test_every_module_has_a_floor():
    found = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py"}
    found |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    missing = sorted(found - set(PLACE) - {"__init__"})
    assert not missing, f"give these modules a floor in FLOORS: {missing}"


def test_modules_import_only_from_below():
    assert [str(found) for found in all_imports() if breaks_floors(found)] == []


def test_leaves_are_opened_only_by_the_door_and_only_when_needed():
    assert [str(found) for found in all_imports() if opens_leaf_early(found)] == []


def test_words_and_files_need_no_model_library():
    assert [str(found) for found in all_imports() if drags_in_the_model(found)] == []


def test_importing_words_and_files_loads_no_model_library():
    names = [n for floor in FLOORS[: LAST_FILE_FLOOR + 1] for n in floor]
    here = [n for n in names if (PACKAGE / f"{n}.py").exists() or list(PACKAGE.glob(f"{n}/*.py"))]
    program = (
        "import importlib, sys\n"
        f"for name in {here!r}: importlib.import_module('omni_msa.' + name)\n"
        f"print(sorted({set(MODEL_LIBRARIES)!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "source", "broken"),
    [
        ("results.py", "from omni_msa.values import Clip", None),
        ("results.py", "from omni_msa.rows import Row", None),
        ("results.py", "from omni_msa import __version__", None),
        ("media/pool.py", "from omni_msa.media.probe import probe", None),
        ("media/pool.py", "from .probe import probe", None),
        ("media/sampling.py", "def f():\n    import qwen_omni_utils", None),
        ("cli.py", "def f():\n    from omni_msa.report import write", None),
        ("rows.py", "from omni_msa.results import x", breaks_floors),
        ("rows.py", "from omni_msa import results", breaks_floors),
        ("rows.py", "def f():\n    import omni_msa.scorer", breaks_floors),
        ("media/pool.py", "from ..scorer import Scorer", breaks_floors),
        ("media/pool.py", "from .. import scorer", breaks_floors),
        ("cli.py", "from omni_msa.report import write", opens_leaf_early),
        ("scorer.py", "def f():\n    from omni_msa.report import write", opens_leaf_early),
        ("media/sampling.py", "import qwen_omni_utils", drags_in_the_model),
        ("media/pool.py", "def f():\n    import torch.cuda", drags_in_the_model),
        ("cli.py", "import torch", drags_in_the_model),
    ],
)
def test_the_checks_see_what_they_are_for(file, source, broken):
    (found,) = imports_of(source, file)
    rules = (breaks_floors, opens_leaf_early, drags_in_the_model)
    if broken is None:
        assert not any(rule(found) for rule in rules)
    else:
        assert broken(found)
