"""What is said of a pulse by hand before it is fired: what it would do, why it is refused, what forming has instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurobench.runs.screen import si

from ..views.quantities import plural
from .hand import Answer

if TYPE_CHECKING:
    from neurobench.bench.limits import ChipLimits

UNTRIED = (
    "A pulse cannot be tried on this chip: its energy, and what the device itself refuses, are known once it is fired."
)
FORM_WHY = (
    "forming has limits of its own, measures every pulse and is kept in the passport: only the protocol form does it"
)


def preview_words(answer: Answer, *, soft: str = "") -> str:
    """What would happen, in short lines; `soft`: what is asked of the operator besides, since it is near the limit."""
    limits = answer["limits"]
    pulses, cells = int(answer["pulses"]), len(answer["cells"])
    lines = [
        f"{_volts(answer['cell_v'])} on {plural(cells, 'cell')} "
        f"({_share(answer['cell_v'], limits['max_cell_v'])} of {si(limits['max_cell_v'], 'V')}), "
        f"{plural(pulses, 'pulse')}, {si(answer['duration_s'], 's')}",
        *_others(answer),
        _cost(answer),
        *(f"! {one}" for one in answer.get("warnings") or ()),
    ]
    if soft:
        lines.insert(0, f"! {soft}")
    return "\n".join(lines)


def _others(answer: Answer) -> list[str]:
    """Who else sees volts: cells that are not chosen, and the chosen ones, of the pulses for each other."""
    limits, half = answer["limits"], int(answer.get("half_selected", 0))
    victims, times = int(answer.get("victims", 0)), int(answer.get("in_turn", 0))
    of = f"of {si(limits['max_victim_v'], 'V')}"
    chosen = f"{plural(times, 'time')} on each other" if times else ""
    if victims:
        whose = "on their lines" if half == victims else f"{half} of them on their lines"
        return [f"up to {_seen(answer)} on {', '.join(filter(None, (plural(victims, 'cell'), whose, chosen)))}, {of}"]
    if answer.get("others") == 0:
        none = "there is no other cell"
    else:
        none = "no other cell sees a volt" + (": each stands alone" if answer.get("isolated") else "")
    return [f"{none}; up to {_seen(answer)} {chosen}, {of}" if chosen else none]


def _seen(answer: Answer) -> str:
    return si(answer["max_victim_v"], "V")


def _cost(answer: Answer) -> str:
    """What it takes of the cells' lives, and what is known of its energy."""
    left, energy_j = answer.get("pulses_left"), answer.get("energy_j")
    life = "pulses per cell are not limited" if left is None else f"{left:,} pulses left in a cell's life"
    return life if energy_j is None else f"{life}, about {si(energy_j, 'J')} ({answer.get('energy_basis', 'unknown')})"


def forming_words(volts: float | None, limits: ChipLimits | None) -> str:
    """What to do with a pulse that is more than the usual limits allow; "" where it is not."""
    if limits is None or volts is None or volts <= limits.max_cell_v:
        return ""
    if limits.forming is None:
        return ". The bench file has no [limits.forming]: this chip is not formed here"
    if volts > limits.forming.max_cell_v:
        return f". That is beyond [limits.forming] too: {si(limits.forming.max_cell_v, 'V')}"
    return f". Not by hand: {FORM_WHY}"


def may_form(volts: float | None, limits: ChipLimits | None) -> bool:
    """Whether the protocol `form` may go so high, and nothing else may."""
    most = limits.forming if limits is not None else None
    return limits is not None and most is not None and volts is not None and (
        limits.max_cell_v < volts <= most.max_cell_v
    )  # fmt: skip


def _volts(volts: float) -> str:
    return f"{'+' if volts > 0 else ''}{si(volts, 'V')}"


def _share(volts: float, limit_v: float) -> str:
    return f"{abs(volts) / limit_v:.0%}"
