"""The house has floors: a room (a package) imports only from floors below its own.

Rooms of one floor do not import each other; inside a room siblings are free, but never in a circle.
Read from the source; one clip is scored, to count its calls.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from omni_msa.__main__ import main
from omni_msa.model.thinker import Thinker

PACKAGE = Path(__file__).parents[1] / "omni_msa"

FLOORS = (
    ("errors", "values", "options", "environment", "modalities", "foreign"),  # all speak
    ("media",),  # a clip becomes parts
    ("files", "model"),  # what the user names and gets; parts become states
    ("methods",),  # states become a number
    ("scoring",),  # clips become records
    ("evaluation", "training"),  # workflows
    ("display",),  # what people look at: only the commands open it, when needed
    ("commands", "__main__"),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
WITHOUT_TORCH = (*FLOORS[0], "media", "files")
MODEL_LIBRARIES = frozenset(
    "torch torchvision torchaudio transformers peft accelerate bitsandbytes safetensors "
    "qwen_omni_utils".split()
)


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


@cache
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
    """A room of the same floor or above; the modules of the ground floor and of the last one are
    rooms of one module each, and siblings there may import each other."""
    room = own_module(found)
    if room is None or room == found.importer:
        return False
    same_is_free = FLOOR[found.importer] in (0, len(FLOORS) - 1)
    return FLOOR[room] > FLOOR[found.importer] - (not same_is_free)


def opens_display_early(found: Import) -> bool:
    """`display` imported by another room than the commands, or before a command needs it."""
    if own_module(found) != "display" or found.importer == "display":
        return False
    return found.importer != "commands" or found.at_import


def drags_in_the_model(found: Import) -> bool:
    """A model library in a room that needs none, or as soon as a command is imported."""
    if found.target.split(".")[0] not in MODEL_LIBRARIES:
        return False
    leaf = found.importer in ("display", "commands", "__main__")
    typing_only = found.file == "files/labels.py" and not found.at_import
    return (found.importer in WITHOUT_TORCH and not typing_only) or (leaf and found.at_import)


def circles(imports: list[Import]) -> list[list[str]]:
    """Modules that import each other at import time, as the circles they form."""
    edges: dict[str, set[str]] = {}
    for found in imports:
        module = "omni_msa." + found.file.removesuffix(".py").replace("/", ".")
        target = found.target
        if found.at_import and target.startswith("omni_msa."):
            edges.setdefault(module, set()).add(target)
    done: set[str] = set()
    found_circles: list[list[str]] = []

    def walk(module: str, trail: list[str]) -> None:
        if module in trail:
            found_circles.append(trail[trail.index(module) :])
        elif module not in done:
            for target in sorted(edges.get(module, ())):
                walk(target, [*trail, module])
            done.add(module)

    for module in sorted(edges):
        walk(module, [])
    return found_circles


def test_every_room_has_a_floor_and_says_what_it_is_for():
    rooms = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    rooms |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(FLOOR)
    for path in PACKAGE.glob("*/__init__.py"):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert "import" in doc and len(doc.splitlines()) >= 2, path


def test_the_top_of_the_package_fits_on_one_screen():
    entries = [p.name for p in PACKAGE.iterdir() if p.name not in ("__pycache__", "py.typed")]
    assert len(entries) <= 17, sorted(entries)


def test_rooms_import_only_from_below():
    assert [str(found) for found in all_imports() if breaks_floors(found)] == []


def test_siblings_import_each_other_in_no_circle():
    assert circles(all_imports()) == []


def test_display_is_opened_only_by_commands_and_only_when_needed():
    assert [str(found) for found in all_imports() if opens_display_early(found)] == []


def test_media_and_files_need_no_model_library():
    assert [str(found) for found in all_imports() if drags_in_the_model(found)] == []


def test_importing_media_and_files_loads_no_model_library():
    names = [
        path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
        for room in WITHOUT_TORCH
        for path in [PACKAGE / f"{room}.py", *(PACKAGE / room).rglob("*.py")]
        if path.exists()
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted({set(MODEL_LIBRARIES)!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "source", "broken"),
    [
        ("files/results.py", "from omni_msa.values import Clip", None),
        ("files/results.py", "from omni_msa.files.columns import Row", None),
        ("files/results.py", "from omni_msa.media.identity import clip_sha256", None),
        ("commands/app.py", "from omni_msa import __version__", None),
        ("media/readers.py", "from .probe import probe", None),
        ("commands/score.py", "def f():\n    from omni_msa.display.card import card", None),
        ("media/reader.py", "from omni_msa.files.results import x", breaks_floors),
        ("model/inputs.py", "from omni_msa.files import labels", breaks_floors),
        ("files/labels.py", "def f():\n    import omni_msa.model.thinker", breaks_floors),
        ("training/trainer.py", "from ..evaluation.metrics import x", breaks_floors),
        ("values.py", "from .media import reader", breaks_floors),
        ("options.py", "from omni_msa.errors import ConfigError", None),
        ("commands/app.py", "from omni_msa.display.card import card", opens_display_early),
        (
            "scoring/batch.py",
            "def f():\n    from omni_msa.display import card",
            opens_display_early,
        ),
        ("media/sampling.py", "def f():\n    import qwen_omni_utils", drags_in_the_model),
        ("media/readers.py", "def f():\n    import torch.cuda", drags_in_the_model),
        ("commands/app.py", "import torch", drags_in_the_model),
    ],
)
def test_the_checks_see_what_they_are_for(file, source, broken):
    (found,) = imports_of(source, file)
    rules = (breaks_floors, opens_display_early, drags_in_the_model)
    if broken is None:
        assert not any(rule(found) for rule in rules)
    else:
        assert broken(found)


def test_a_circle_is_seen():
    first = Import("media/a.py", 1, "omni_msa.media.b", True)
    second = Import("media/b.py", 1, "omni_msa.media.a", True)
    assert circles([first, second]) == [["omni_msa.media.a", "omni_msa.media.b"]]
    assert circles([first]) == []


def test_a_clip_passes_six_calls_from_its_command_to_the_forward_pass(monkeypatch, capsys):
    stacks = []
    forward = Thinker.forward

    def recorded(self, batch):
        frames = traceback.extract_stack()
        stacks.append([f.name for f in frames if Path(f.filename).is_relative_to(PACKAGE)])
        return forward(self, batch)

    monkeypatch.setattr(Thinker, "forward", recorded)
    assert main(["score", "--transcript", "I love this film.", "-q"]) == 0
    assert capsys.readouterr().out and len(stacks) == 1
    names = stacks[0]
    calls = [*names[names.index("score") + 1 :], "forward"]
    assert calls == ["score_clips", "run_batch", "score", "score", "read", "forward"]
