"""Opening an FPGA bench: who is there, who it is not, what its self-test finds, and that it stays who it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fpga_rig import SETTINGS, SHAPE, Rig, TappedPort, again, rig
from neurobench.drivers import _fpga_open
from neurobench.drivers._fpga_link import Link, open_serial
from neurobench.drivers._fpga_open import FpgaDriver, quality, self_test
from neurobench.drivers.fpga import FpgaCrossbar

from neurobench import registry
from neurobench.bench.config import BenchConfig, load_bench
from neurobench.bench.frames import Op, Request, Status
from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch, shots
from neurobench.errors import ConfigError, InstrumentError, InUse, LinkLost

ALL = np.ones(SHAPE, np.bool_)


@contextmanager
def opened(**overrides: Any) -> Iterator[Rig]:
    bench = rig(**overrides)
    try:
        yield bench
    finally:
        bench.close()


def answering(link: Link, op: Op, answer: Any) -> None:
    """`answer(status, payload)` in place of what the board says to one command."""
    wait = link.wait

    def waited(tag: int, seconds: float) -> Any:
        reply = wait(tag, seconds)
        if reply is None or reply.op != op:
            return reply
        status, payload = answer(reply.status, reply.payload)
        return reply._replace(status=status, payload=payload)

    link.wait = waited  # type: ignore[method-assign]


# -- self-test ---------------------------------------------------------------------------------------------------------


def test_a_board_in_order_passes_fires_nothing_and_keeps_its_counters() -> None:
    with opened() as bench:
        link, before = bench.crossbar.link, bench.crossbar.link.status()
        assert self_test(link) == []
        after = link.status()
        assert (after.fired, after.shots, after.started) == (before.fired, before.shots, before.started)
        assert bench.board.lines_grounded
        assert bench.board.pulses_fired() == 0


def test_a_self_test_between_a_crash_and_its_outcome_does_not_disturb_it() -> None:
    with opened() as bench:
        counts = np.zeros(SHAPE, np.int16)
        counts[0, 0] = 3
        expanded = shots(PulseBatch(counts, Pulse(1.0, 1e-6)), bench.crossbar.capabilities)
        witness = bench.crossbar.stage(0, expanded)
        applied = bench.crossbar.fire(0)
        self_test(bench.crossbar.link)
        found: Any = bench.next_process().outcome(0, witness, expanded)
        assert (found.applied.shots_done, found.applied.pulses) == (applied.shots_done, applied.pulses)


def test_a_line_that_changes_bytes_is_found() -> None:
    with opened() as bench:
        answering(bench.crossbar.link, Op.ECHO, lambda s, p: (s, bytes([p[0] ^ 1]) + p[1:]))
        assert self_test(bench.crossbar.link) == [f"{_fpga_open.ECHOES} of {_fpga_open.ECHOES} echoes were wrong"]


@pytest.mark.parametrize("status", [Status.BAD_CRC, Status.OK])
def test_a_memory_that_forgets_or_a_board_that_takes_anything_for_a_program_is_found(status: Status) -> None:
    with opened() as bench:
        answering(bench.crossbar.link, Op.ARM, lambda s, p: (status, b""))
        assert self_test(bench.crossbar.link) == [f"program memory: {status.name}"]


def test_a_memory_that_refuses_is_found() -> None:
    with opened() as bench:
        answering(bench.crossbar.link, Op.UPLOAD, lambda s, p: (Status.NO_ROOM, b""))
        assert self_test(bench.crossbar.link) == ["UPLOAD: NO_ROOM"]


@pytest.mark.parametrize("cols", [8, 200])
def test_a_converter_off_its_zero_is_found_also_the_last_of_many(cols: int) -> None:
    with opened(chip__cols=cols) as bench:
        link, step_a = bench.crossbar.link, bench.crossbar.link.known.adc_step_a

        def off(status: int, payload: bytes) -> tuple[int, bytes]:
            first = int.from_bytes(payload[2:4], "little")
            here = first + (len(payload) - 7) // 4
            return status, payload[:-4] + (2**20).to_bytes(4, "little") if here == cols else payload

        answering(link, Op.FETCH, off)
        (said,) = self_test(link)
        assert said == f"a converter reads {2**20 * step_a:.3g} A at 0 V"


def test_a_converter_that_never_ends_is_told() -> None:
    with opened() as bench:
        answering(bench.crossbar.link, Op.FETCH, lambda s, p: (s, p[:7]))
        with pytest.raises(InstrumentError, match="does not convert 8 samples in 1 s"):
            self_test(bench.crossbar.link)


# -- rows of `check` ---------------------------------------------------------------------------------------------------


def simulated(config: BenchConfig) -> FpgaDriver:
    return FpgaDriver("fpga-sim", FpgaCrossbar, lambda config, seed: registry.load("simulations", "fpga")(config, seed))  # type: ignore[operator]


def test_a_row_says_who_it_is_how_good_its_line_is_and_that_it_is_simulated() -> None:
    config = load_bench("fpga-sim", SETTINGS)
    (row,) = simulated(config).examine(config, 3)
    assert row["verdict"] == "ok (simulated)"
    assert row["answers"] == "board 1, firmware 1.0.0, 8 x 8 lines"
    assert row["self_test"] == "passed"
    assert row["resource"].startswith("fpgasim://")
    link = row["link"]
    assert (link["baud"], link["repeated"], link["bad_here"], link["bad_at_the_board"]) == (1_000_000, 0, 0, 0)
    assert link["requests"] > _fpga_open.ECHOES
    assert 0 < link["round_trip_s"] < 0.01
    assert simulated(config).find(config)[0]["why"] == ""


def test_a_bad_line_shows_in_its_row() -> None:
    config = load_bench("fpga-sim", {**SETTINGS, "board.simulation.lost": 0.05, "board.simulation.corrupted": 0.05})
    (row,) = simulated(config).examine(config, 3)
    assert row["verdict"] == "ok (simulated)"
    assert row["link"]["repeated"] > 0
    assert row["link"]["bad_here"] > 0
    assert row["link"]["bad_at_the_board"] > 0


def real(url: str) -> BenchConfig:
    config = load_bench("fpga-sim", SETTINGS)
    return config.model_copy(update={"readout": type(config.readout)(), "board": type(config.board)(url=url)})


def verdict_at(url: str) -> str:
    (row,) = FpgaDriver("fpga", FpgaCrossbar).examine(real(url), 0)
    return str(row["verdict"])


def test_a_port_without_a_board_is_a_row_and_no_crash(tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    assert f"no answer: the board at {nothing}" in verdict_at(nothing)
    assert "no answer: the board at no-scheme://x" in verdict_at("no-scheme://x")
    assert verdict_at("").startswith("refused: bench fpga-sim: [board] url is missing")


def test_a_board_that_fails_its_test_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_bench("fpga-sim", SETTINGS)
    monkeypatch.setattr(_fpga_open, "self_test", lambda link: ["a converter reads 1 A at 0 V"])
    (row,) = simulated(config).examine(config, 3)
    assert (row["self_test"], row["verdict"]) == ("a converter reads 1 A at 0 V", "fault (simulated)")


def test_settings_of_a_simulated_board_are_refused_on_a_real_one(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    text = (
        '[bench]\nbackend = "fpga"\n[chip]\nrows = 4\ncols = 4\npotentiating_sign = 1\ntop_electrode = "row"\n'
        "accept_no_compliance = true\n[limits]\nmax_cell_v = 2.5\nmax_read_v = 0.1\nmax_width_s = 1e-2\n"
        '[board]\nurl = "/dev/no-such-port"\n'
    )
    for extra, named in (
        ("[readout]\nideal = true\n", r"readout\.ideal"),
        ("[board.simulation]\nlost = 0.1\n", r"board\.simulation\.lost"),
    ):
        path.write_text(text + extra)
        with pytest.raises(ConfigError, match=f"{named} is for simulated boards"):
            FpgaDriver("fpga", FpgaCrossbar)(load_bench(path), 0)
    path.write_text(text)
    with pytest.raises(LinkLost, match="no-such-port"):
        FpgaDriver("fpga", FpgaCrossbar)(load_bench(path), 0)


def test_two_names_of_one_port_are_one_port(tmp_path: Path) -> None:
    port, by_id = tmp_path / "ttyUSB0", tmp_path / "by-id"
    port.write_text("")
    by_id.symlink_to(port)
    with _fpga_open.Lock(_fpga_open.lock_path(str(port)), "another"), pytest.raises(InUse):
        FpgaDriver("fpga", FpgaCrossbar)(real(str(by_id)), 0)


# -- who it is ---------------------------------------------------------------------------------------------------------


def test_who_a_bench_is_does_not_change_between_opening_and_resuming() -> None:
    with opened() as bench:
        before = bench.crossbar.identity()
        bench.crossbar.sense(CellRead(ALL, 0.1))
        assert bench.crossbar.identity() == before
        bench.board.reboot()
        again(lambda: bench.crossbar.sense(CellRead(ALL, 0.1)))
        assert bench.crossbar.identity() == before
        capabilities = bench.crossbar.capabilities
        after = bench.next_process()
        assert after.identity() == before
        assert after.capabilities == capabilities


def test_another_board_at_the_same_port_gets_no_code_of_the_first_ones() -> None:
    """Its converter reaches further: the same code would be four times the voltage."""
    with opened() as bench, opened(board__simulation__pulse_range_v=32.767) as other:
        counts = np.ones(SHAPE, np.int16)
        expanded = shots(PulseBatch(counts, Pulse(1.0, 1e-6)), bench.crossbar.capabilities)
        link = bench.crossbar.link
        link._open_port = lambda: TappedPort(open_serial(other.simulation.url), bench.tap)
        link._drop_port(link._port)
        with pytest.raises(InstrumentError, match="another board"):
            again(lambda: bench.crossbar.stage(0, expanded))
        assert other.board.pulses_fired() == 0
        bench.crossbar.link._open_port = lambda: TappedPort(open_serial(bench.simulation.url), bench.tap)
        bench.crossbar.link._drop_port(bench.crossbar.link._port)


def test_a_board_that_says_nonsense_is_not_opened() -> None:
    with opened() as bench:
        known = bench.crossbar.link.known
        link = Link(lambda: open_serial(bench.simulation.url), bench.simulation.clock, bench.config.board)
        payload = known.FORMAT.pack(*known._replace(pulse_step_v=0.0))
        answering(link, Op.HELLO, lambda s, p: (s, payload))
        with pytest.raises(InstrumentError, match=r"no board can have: pulse_step_v = 0\.0"):
            link.connect()
        link.close()


# -- the line ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "losses"), [("to", 1), ("to", 2), ("from", 1)])
def test_a_lost_word_about_the_speed_does_not_leave_the_line_slow(way: str, losses: int) -> None:
    with opened() as bench:
        left = [losses]

        def lose(frame: Any) -> list[bytes]:
            if (frame.op, frame.way) == ("SPEED", way) and left[0]:
                left[0] -= 1
                return []
            return [frame.data]

        bench.crossbar.link.close()
        bench.simulation.clock.sleep(3.0)
        bench.tap.set(lose)
        link = Link(lambda: TappedPort(open_serial(bench.simulation.url), bench.tap), bench.simulation.clock,
                    bench.config.board)  # fmt: skip
        link.connect()
        assert left == [0]
        assert link.baud == bench.config.board.baud == bench.board.baud
        assert link.expect(Op.ECHO, b"fast") == b"fast"
        assert quality(link)["baud"] == 1_000_000
        link.close()
        bench.next_process()


def test_a_reply_to_another_command_under_our_tag_is_none() -> None:
    with opened() as bench:
        link = bench.crossbar.link
        tag = link.new_tag(Op.FIRE)
        link._waited[tag] = Op.STATUS
        link.send(Request(Op.STATUS, tag, link.session))
        link._waited[tag] = Op.FIRE
        assert link.wait(tag, 0.05) is None
        link.forget(tag)


class Angry(Exception):
    """What some library raises when a port goes away: no OSError."""


def test_whatever_a_port_raises_is_a_lost_link() -> None:
    with opened() as bench:
        raised: list[int] = []

        def gone(frame: Any) -> list[bytes]:
            if not raised:
                raised.append(1)
                raise Angry("(5, 'Input/output error')")
            return [frame.data]

        bench.tap.set(gone)
        assert bench.crossbar.sense(CellRead(ALL, 0.1)).currents_a.shape == (2, 64)
        assert raised

        def all_gone(frame: Any) -> list[bytes]:
            raise Angry("gone for good")

        bench.tap.set(all_gone)
        with pytest.raises(LinkLost, match="gone for good"):
            bench.crossbar.sense(CellRead(ALL, 0.1))
        bench.tap.set(lambda frame: [frame.data])
