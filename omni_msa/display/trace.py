"""The picture of `score --trace`: a heart's leads, shaded by what mattered over time."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from omni_msa.display.pictures import new_figure, save_picture
from omni_msa.foreign import printable
from omni_msa.values import TRACE_RATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from omni_msa.scoring.occlusion import Occlusion

LEAD_INCHES, EFFECT_INCHES, AROUND_INCHES = 0.75, 1.1, 1.4
LETTERS_A_LINE = 80
SHADES = ("#ffffff", "#e08214")  # from light to dark, also in grey; a black line shows on both
MARGIN = 0.05  # above and below the leads, as a share of their height
STRONGEST = 2


def draw_trace(occlusion: Occlusion, path: Path) -> str:
    """Writes the picture, whose name says the format; gives a line of what it shows.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    message = describe(occlusion)
    save_picture(trace_figure(occlusion), path, "--trace", message)
    return message


def describe(occlusion: Occlusion) -> str:
    """`the score is 1.42; what mattered most: 2.25 to 2.75 s (adds +0.3), ...`."""
    stretches = []
    for place in occlusion.strongest(STRONGEST):
        start = occlusion.starts[place] / TRACE_RATE
        stop = start + occlusion.width / TRACE_RATE
        stretches.append(f"{start:g} to {stop:g} s (adds {occlusion.effects[place]:+.2g})")
    value = f"the {occlusion.watched} is {occlusion.value:.2f}"
    return f"{value}; what mattered most: {', '.join(stretches)}"


def trace_figure(occlusion: Occlusion) -> Figure:
    """A panel a lead, and one of what each window adds.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    traces = occlusion.traces
    count = len(traces.leads)
    figure = new_figure(LEAD_INCHES * count + EFFECT_INCHES + AROUND_INCHES)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    bounds, sizes = occlusion.sizes()
    highest = float(sizes.max()) or 1.0
    shades = ScalarMappable(
        Normalize(0.0, highest), LinearSegmentedColormap.from_list("shades", SHADES)
    )
    ratios = [*[LEAD_INCHES] * count, EFFECT_INCHES]
    axes = figure.subplots(count + 1, 1, sharex=True, height_ratios=ratios)
    low, high = float(traces.values.min()), float(traces.values.max())
    margin = MARGIN * (high - low) or MARGIN
    height = low - margin, high + margin
    seconds = np.arange(traces.size) / TRACE_RATE
    for axis, lead, values in zip(axes, traces.leads, traces.values.T, strict=False):
        axis.pcolormesh(bounds / TRACE_RATE, height, sizes[None], cmap=shades.cmap,
                        norm=shades.norm)  # fmt: skip
        axis.plot(seconds, values, color="black", linewidth=0.7)
        axis.set_ylim(*height)
        axis.set_ylabel(lead, rotation="horizontal", ha="right", va="center")
    _draw_effects(axes[-1], occlusion)
    axes[-1].set_xlim(0, traces.duration_seconds)
    bar = figure.colorbar(shades, ax=list(axes[:-1]), aspect=40)
    bar.set_label(_plain(f"change of the {occlusion.watched}, up or down"))
    figure.suptitle(_title(occlusion), fontsize="medium")
    figure.supylabel("mV", fontsize="medium")
    figure.supxlabel(_explanation(occlusion), fontsize="small")
    return figure


def _draw_effects(axis: Axes, occlusion: Occlusion) -> None:
    """What each window adds, at its middle."""
    middles = (occlusion.starts + occlusion.width / 2) / TRACE_RATE
    axis.axhline(0.0, color="gray", linewidth=0.7)
    axis.plot(middles, occlusion.effects, color="black", marker=".", linewidth=0.7)
    axis.set_ylabel("adds", rotation="horizontal", ha="right", va="center")
    axis.set_xlabel("seconds of the clip")


def _title(occlusion: Occlusion) -> str:
    """What was watched, of which clip and by which model."""
    model = occlusion.model
    name = Path(model["checkpoint"]).name if model["checkpoint"] else model["base"]
    lines = (
        f"What mattered to the {occlusion.watched}: {occlusion.value:.2f}",
        f"{Path(occlusion.clip).name}, by {model['readout']} ({name})",
    )
    return "\n".join(fill(_plain(text), LETTERS_A_LINE) for text in lines)


def _explanation(occlusion: Occlusion) -> str:
    width, hop = occlusion.width / TRACE_RATE, occlusion.hop / TRACE_RATE
    text = (
        f"Shaded by how much the {occlusion.watched} changes when {width:g} s are zero on all "
        f"leads, a window every {hop:g} s; below, what each window adds to it."
    )
    return fill(_plain(text), LETTERS_A_LINE)


def _plain(text: str) -> str:
    """No formula, and nothing that a file cannot hold."""
    return printable(text).replace("$", r"\$")
