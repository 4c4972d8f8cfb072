"""Random and mutated bytes in short; a million by `python tests/fpga/fuzz.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))

import vector_kit as kit
from fuzz import fuzz

from neurobench.bench.frames import BoardIdentity, BoardStatus, Deframer, LimitRegisters, Reply, Samples
from neurobench.errors import UsageError


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_the_hosts_deframer_takes_any_bytes_and_keeps_no_more_than_it_says(pieces: list[bytes]) -> None:
    deframer = Deframer(longest=64)
    for piece in pieces:
        for reply in deframer.feed(piece):
            assert isinstance(reply, Reply)
        assert len(deframer._kept) <= 64
    assert deframer.feed(b"\0" + kit.framed(kit.u8(0x82) + kit.u16(5) + kit.u32(6) + b"\0")) == [Reply(2, 5, 6, 0, b"")]


@given(st.binary(max_size=120))
def test_layouts_take_their_length_and_refuse_all_others(payload: bytes) -> None:
    for layout in (BoardIdentity, BoardStatus, LimitRegisters):
        if len(payload) == layout.FORMAT.size:
            assert isinstance(layout.unpack(payload), layout)
        else:
            with pytest.raises(UsageError):
                layout.unpack(payload)
    if len(payload) >= 7:
        assert Samples.unpack(payload).data == payload[7:]
    else:
        with pytest.raises(UsageError):
            Samples.unpack(payload)


def test_no_bytes_make_the_simulated_board_fire_but_a_fire_of_an_armed_program() -> None:
    pytest.importorskip("neurobench.sim_instruments.benches.fpga", reason="the simulated board is not there yet")
    tally = fuzz(20_000)
    assert not tally.wrong, str(tally)
    assert tally.pulses > 100, str(tally)
    assert len(tally.replies) >= 10, f"nearly every status was seen:\n{tally}"
