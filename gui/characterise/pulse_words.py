"""What is said of a pulse by hand before it is fired: what it would do, why it is refused, what forming has instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurobench.runs.screen import si

from ..views.quantities import plural
from .hand import Answer

if TYPE_CHECKING:
    from neurobench.bench.limits import ChipLimits

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
    """Who else sees volts: cells that are not chosen, and the chosen ones of the pulses for each other."""
    limits, half = answer["limits"], int(answer.get("half_selected", 0))
    victims, times = int(answer.get("victims", 0)), int(answer.get("in_turn", 0))
    most_v = si(answer["max_victim_v"], "V")
    said = []
    if victims:
        whose = "on their lines" if half == victims else f"{half} of them on their lines"
        said = [f"up to {most_v} on {plural(victims, 'cell')} ({whose}), of {si(limits['max_victim_v'], 'V')}"]
    elif answer.get("others") == 0:
        said = ["there is no other cell"]
    elif answer.get("isolated"):
        said = ["no other cell sees a volt: each stands alone"]
    else:
        said = ["no other cell sees a volt"]
    if times:
        said.append(f"up to {most_v} on the chosen ones too, {plural(times, 'time')}, while others of them are pulsed")
    return said


def _cost(answer: Answer) -> str:
    """What it takes of the cells' lives, and what is known of its energy."""
    left, energy_j = answer.get("pulses_left"), answer.get("energy_j")
    life = "pulses per cell are not limited" if left is None else f"{left:,} pulses left in a cell's life"
    if energy_j is not None:
        return f"{life}, about {si(energy_j, 'J')} (tried on a copy of the emulated chip)"
    return f"{life}; energy, and whether the device itself takes it, are known once it is fired"


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
