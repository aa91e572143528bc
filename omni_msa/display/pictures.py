"""Pictures as files, drawn by matplotlib, which is imported when one is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omni_msa.errors import ConfigError
from omni_msa.files.atomic import check_replaceable, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
WIDTH_INCHES = 7.0
DOTS_PER_INCH = 200  # of a .png: sharp on a slide, and in a paper's column


def check_picture(path: Path, flag: str = "-o") -> None:
    """What can be said before anything is read.

    Raises:
        ConfigError: it cannot be written, as far as its name and its folder say.
    """
    check_replaceable(path, flag, "a picture", SUFFIXES)


def new_figure(height_inches: float = WIDTH_INCHES, width_inches: float = WIDTH_INCHES) -> Figure:
    """An empty one.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            'a picture needs matplotlib; pip install "omni-msa[plot]" installs it'
        ) from error
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def save_picture(figure: Figure, path: Path, flag: str = "-o", description: str = "") -> None:
    """Writes it; the name says the format. Of an .svg, its text stays text.

    Args:
        flag: by which it was named.
        description: of what it shows, for those who cannot see it; kept in the file.

    Raises:
        ConfigError: it cannot be written.
    """
    from matplotlib import rc_context

    kind = path.suffix.lower().removeprefix(".")
    about = {"Title": figure.get_suptitle(), "Description": description}
    about = {name: text for name, text in about.items() if text}
    try:
        with replacing(path) as temporary, rc_context({"svg.fonttype": "none"}):
            figure.savefig(temporary, format=kind, dpi=DOTS_PER_INCH, metadata=about)
    except OSError as error:
        raise ConfigError(f"{flag} {path}: cannot be written ({error.strerror})") from error
