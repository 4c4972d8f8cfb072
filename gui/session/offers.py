"""What a run that ended leaves to the operator: to go on with a doubt, or from cells that have moved. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neurobench.errors import BaselineMoved, PulseUnknown
from neurobench.runs.runfile import RunFile

What = Literal["doubt", "baseline"]
MEANS: dict[What, str] = {
    "doubt": "Accepting the doubt: go on although nobody knows whether one pulse was fired. It is not fired again; "
    "only shots that are certain count, all are booked in the life of the chip, and the cells are read again.",
    "baseline": "Accepting the new baseline: go on although cells have moved since the record. Where they are now is "
    "recorded, and the run goes on from there.",
}  # fmt: skip
WITH: dict[str, What] = {PulseUnknown.__name__: "doubt", BaselineMoved.__name__: "baseline"}


@dataclass(frozen=True)
class Offer:
    """A run that can go on if something is accepted: what, why, and on which chip."""

    path: Path
    what: What
    why: str
    chip_id: str
    simulated: bool

    @property
    def means(self) -> str:
        """What accepting it means."""
        return MEANS[self.what]

    @property
    def command(self) -> str:
        """The same, as a command."""
        return f"neurobench resume {self.path} --accept-{self.what}"

    def accepted_by(self, typed: str) -> bool:
        """Whether what was typed is enough: on a real chip its own name, on a simulated one nothing."""
        return self.simulated or (bool(self.chip_id) and typed.strip() == self.chip_id)


def offer_of(run: RunFile) -> Offer | None:
    """What the end of a run leaves to be accepted; None if nothing."""
    kind, _, why = str(run.value("error") or "").partition(": ")
    what = WITH.get(kind)
    if what is None or (what == "doubt" and run.value("doubt") is None):  # a loop that was cut off is beyond accepting
        return None
    chip = run.value("chip_id") or (run.value("config") or {}).get("chip", {}).get("id")
    return Offer(run.path, what, why, str(chip or ""), bool(run.value("simulated")))
