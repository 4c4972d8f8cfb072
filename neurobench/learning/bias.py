"""Which bias scheme a protocol writes with: the one asked for, or the one that disturbs least."""

from __future__ import annotations

from typing import Literal

from neurobench.bench.steps import BenchView
from neurobench.bench.stimulus import Bias
from neurobench.errors import CapabilityMissing

Select = Literal["auto", "half", "third", "grounded", "isolated"]


def choose_bias(select: Select, view: BenchView) -> Bias:
    """The bias asked for, or the one that disturbs least; `grounded` is never chosen by itself."""
    if select != "auto":
        return Bias(select)
    if view.capabilities.isolation != "passive" and Bias.ISOLATED in view.capabilities.biases:
        return Bias.ISOLATED
    for bias in (Bias.HALF, Bias.THIRD, Bias.ISOLATED):
        if bias in view.capabilities.biases:
            return bias
    raise CapabilityMissing("this bench has no bias scheme for single cells of an array: half, third or isolated")
