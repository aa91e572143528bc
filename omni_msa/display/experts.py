"""How much each expert of a run was used, epoch after epoch, by its training log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni_msa.display.curves import epochs_of
from omni_msa.display.pictures import new_figure
from omni_msa.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, PANEL_INCHES = 2, 1.7


def expert_figure(folder: Path) -> Figure:
    """A panel a router: the shares of its experts in each epoch's validation, one upon the other;
    the task's own expert is on top.

    Raises:
        ConfigError: the log is not there, or its method has no experts; or matplotlib is not
            installed.
    """
    rows = [row for row in epochs_of(folder) if _loads(row)]
    if not rows:
        raise ConfigError(f"{folder}: its log has no expert_load; only mmolre has experts")
    routers = list(_loads(rows[-1]))
    height = PANEL_INCHES * -(-len(routers) // COLUMNS)
    figure = new_figure(height)
    axes = figure.subplots(-(-len(routers) // COLUMNS), COLUMNS, sharex=True, squeeze=False)
    epochs = [row["epoch"] for row in rows]
    for axis, router in zip(axes.flat, routers, strict=False):
        shares = [[float(share) for share in _loads(row)[router]] for row in rows]
        axis.stackplot(epochs, *zip(*shares, strict=True), alpha=0.8)
        axis.set_title(router.replace("/", ", block ", 1).replace("/", ", "), fontsize="small")
        axis.set_ylim(0, 1)
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    return figure


def _loads(row: dict[str, Any]) -> dict[str, list[float]]:
    loads = row.get("expert_load")
    return loads if isinstance(loads, dict) else {}
