"""The engine: drives the lines for programs and reads that the executor has checked."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring

from .acquirer import Acquirer
from .chains import AdcChain, Chains
from .hardware import Hardware
from .ports import EngineSignature
from .sequencer import Sequencer


class Engine(wiring.Component):
    """See EngineSignature. Every pin leaves through a register, so that none glitches.

    `since` must have begun anew a tick before `fire` and `acquire`. Two ticks after `rest` the outputs say what came of
    it. `firing`, `acquiring` and the counters are one tick ahead of the pins. Fire and acquire one at a time: `acquire`
    replaces an acquisition under way, `fire` wants none under way.
    """

    def __init__(self, hardware: Hardware) -> None:
        super().__init__(EngineSignature())
        self._hardware = hardware
        self._sequencer, self._acquirer = Sequencer(hardware), Acquirer(hardware)
        self._chains, self._adc = Chains(hardware), AdcChain(hardware)

    def elaborate(self, _platform: object) -> Module:
        """Sequencer and acquirer share the chains, one at a time."""
        m = Module()
        m.submodules.sequencer, m.submodules.acquirer = self._sequencer, self._acquirer
        m.submodules.chains, m.submodules.adc = self._chains, self._adc
        silent = Signal()
        m.d.sync += silent.eq(self.since >= self.watchdog)
        m.d.comb += [self._sequencer.silent.eq(silent), self._acquirer.silent.eq(silent)]
        self._connect(m, self._sequencer)
        self._connect(m, self._acquirer)
        m.d.comb += self.tripped.eq(self._sequencer.tripped | self._acquirer.tripped)
        self._connect_chains(m)
        self._connect_pins(m)
        return m

    def _connect(self, m: Module, part: wiring.Component) -> None:
        """What has the same name here and there, but what both have a share in."""
        shared = {"pins", "tripped"}
        for name, member in self.signature.members.items():
            if name in part.signature.members and name not in shared:
                inner, outer = getattr(part, name), getattr(self, name)
                m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)

    def _connect_chains(self, m: Module) -> None:
        with m.If(self._acquirer.acquiring):
            wiring.connect(m, self._acquirer.load, self._chains.load)
        with m.Else():
            wiring.connect(m, self._sequencer.load, self._chains.load)
        m.d.comb += [
            self._adc.start.eq(self._acquirer.adc_start),
            self._acquirer.adc_idle.eq(self._adc.idle),
            self._acquirer.adc_valid.eq(self._adc.valid),
            self._acquirer.adc_word.eq(self._adc.word),
            self._adc.data.eq(self.pins.adc_data),
        ]

    def _connect_pins(self, m: Module) -> None:
        for name, value in self._outputs().items():
            m.d.sync += getattr(self.pins, name).eq(value)

    def _outputs(self) -> dict[str, Value]:
        acquirer, chains = self._acquirer, self._chains
        return {
            "gate": self._sequencer.gate | acquirer.gate,
            "reading": acquirer.acquiring,
            "float_idle": acquirer.float_idle,
            "adc_convert": acquirer.convert,
            "adc_clk": self._adc.clk,
            **{name: getattr(chains, name) for name in chains.signature.members if name != "load"},
        }
