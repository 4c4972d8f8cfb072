"""The whole gateware: the serial line, the frames, and the core that answers them and drives the pins."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .core import Core
from .framing import RxFrames, TxFrames
from .hardware import Hardware
from .ports import BYTES, PinsSignature
from .uart import UartRx, UartTx


class Bridge(wiring.Component):
    """Frames and core: everything but the bits of the line, for which `divisor` says how many ticks each has.

    `line_busy`: a byte that was taken from `replies` is still on the line.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        super().__init__(
            {
                "requests": In(BYTES),
                "replies": Out(BYTES),
                "line_busy": In(1),
                "divisor": Out(16),
                "pins": Out(PinsSignature()),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """Wires only, but for the moment when all that was answered has left."""
        m = Module()
        m.submodules.rx = rx = RxFrames(self.hardware)
        m.submodules.core = core = Core(self.hardware)
        m.submodules.tx = tx = TxFrames()
        wiring.connect(m, wiring.flipped(self.requests), rx.bytes)
        wiring.connect(m, rx.bodies, core.bodies)
        wiring.connect(m, core.replies, tx.bodies)
        wiring.connect(m, tx.bytes, wiring.flipped(self.replies))
        wiring.connect(m, core.pins, wiring.flipped(self.pins))
        m.d.comb += [core.good.eq(rx.good), core.bad.eq(rx.bad), self.divisor.eq(core.divisor)]
        busy = Signal()
        m.d.sync += busy.eq(tx.busy | self.line_busy)
        m.d.comb += core.sent.eq(busy & ~(tx.busy | self.line_busy))
        return m


class Top(wiring.Component):
    """The gateware between its serial line and its pins, on a clock of `hardware.clock_hz`."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "pins": Out(PinsSignature())})

    def elaborate(self, _platform: object) -> Module:
        """Wires only."""
        m = Module()
        m.submodules.uart_rx = rx = UartRx()
        m.submodules.bridge = bridge = Bridge(self.hardware)
        m.submodules.uart_tx = tx = UartTx()
        m.d.comb += [rx.rx.eq(self.rx), self.tx.eq(tx.tx), bridge.line_busy.eq(tx.busy)]
        m.d.comb += [rx.divisor.eq(bridge.divisor), tx.divisor.eq(bridge.divisor)]
        wiring.connect(m, rx.bytes, bridge.requests)
        wiring.connect(m, bridge.replies, tx.bytes)
        wiring.connect(m, bridge.pins, wiring.flipped(self.pins))
        return m
