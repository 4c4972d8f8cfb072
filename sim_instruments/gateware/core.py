"""The core of the gateware: bodies of requests in, bodies of replies out, and the pins that drive the lines."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .engine import Engine
from .executor import ENGINE, Executor
from .hardware import Hardware
from .ports import BODY, PinsSignature


class Core(wiring.Component):
    """Executor and engine. `good` and `bad` count frames; `divisor` is the ticks of a bit of the line.

    `sent` is a strobe when everything that was given to `replies` has left the board.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        streams = {"bodies": In(BODY), "replies": Out(BODY)}
        line = {"good": In(32), "bad": In(32), "sent": In(1), "divisor": Out(16)}
        super().__init__({**streams, **line, "pins": Out(PinsSignature())})

    def elaborate(self, _platform: object) -> Module:
        """Wires only."""
        m = Module()
        m.submodules.executor = executor = Executor(self.hardware)
        m.submodules.engine = engine = Engine(self.hardware)
        wiring.connect(m, wiring.flipped(self.bodies), executor.bodies)
        wiring.connect(m, executor.replies, wiring.flipped(self.replies))
        wiring.connect(m, engine.pins, wiring.flipped(self.pins))
        m.d.comb += [executor.good.eq(self.good), executor.bad.eq(self.bad), executor.sent.eq(self.sent)]
        m.d.comb += self.divisor.eq(executor.divisor)
        for name, port in ENGINE.members.items():
            inner, outer = getattr(engine, name), getattr(executor.engine, name)
            m.d.comb += inner.eq(outer) if port.flow == wiring.In else outer.eq(inner)
        return m
