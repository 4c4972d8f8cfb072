"""The FPGA fault campaign in short; the whole of it by `python tests/fpga/fpga_campaign.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("neurobench.sim_instruments.benches.fpga", reason="the simulated board is not there yet")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from fpga_campaign import COMMANDS, RESTARTS, campaign


def test_chip_and_ledger_agree_over_a_bad_line_and_restarts() -> None:
    table = campaign(2_000, 20)
    assert not table.wrong, str(table)
    assert table.commands >= 2_000, str(table)
    assert table.restarts >= 20, str(table)
    assert table.pulses > 0, str(table)
    assert min(table.injected[kind] for kind in ("lost", "corrupted", "duplicated", "delayed")) > 100, str(table)
    assert 0 < table.unknown <= table.restarts, f"some restarts come in a pulse:\n{table}"


def test_without_restarts_nothing_is_ever_unknown() -> None:
    table = campaign(1_000, 0, seed=3)
    assert not table.wrong, str(table)
    assert table.unknown == 0, str(table)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_commands() -> None:
    table = campaign(COMMANDS, RESTARTS)
    assert not table.wrong, str(table)
    assert table.restarts >= RESTARTS, str(table)
