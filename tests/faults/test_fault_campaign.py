"""The fault campaign in short: kinds of faults at every twenty-ninth line; the whole of it with `make faults`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from campaign import FULL_RATE, Table, campaign, dialogue_length, main
from neurobench.sim_instruments.serve.faults import Fault
from visa_bench import PARTS

STEP = 29


@pytest.mark.parametrize("name", list(PARTS))
def test_chip_and_ledger_agree_whatever_is_lost(name: str) -> None:
    table = Table()
    campaign(table, [name], STEP, range(2), FULL_RATE)
    assert not table.wrong, str(table)
    lines = dialogue_length(PARTS[name])
    assert table.faults >= (lines // STEP) * (len(Fault) - 3), "the faults of replies need a reply, all others happen"
    assert table.rows["reply lost", "finished"], "a lost reply is lived with"
    for fault in ("reply lost", "reply late", "reply garbled", "command lost", "queue overflow"):
        assert table.rows[fault, "unknown"] == 0, f"{fault} leaves no doubt:\n{table}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_more_than_ten_thousand_faults() -> None:
    assert main() == 0
