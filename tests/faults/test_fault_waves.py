"""The fault campaign with waveforms as steps, in short; the whole of it with `make faults`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from campaign import FULL_RATE, WITH_WAVES, Table, WaveScript, campaign, dialogue_length
from visa_bench import PARTS

STEP = 13


def test_a_lost_answer_costs_no_waveform_and_plays_none_twice() -> None:
    table = Table()
    name = WITH_WAVES[0]
    campaign(table, [name], STEP, range(3), FULL_RATE, WaveScript)
    assert not table.wrong, str(table)
    assert table.faults >= dialogue_length(PARTS[name], WaveScript) // STEP
    assert table.rows["reply lost", "finished"], "a lost reply is lived with"
    for fault in ("reply lost", "reply late", "reply garbled", "command lost", "queue overflow"):
        assert table.rows[fault, "unknown"] == 0, f"{fault} leaves no doubt:\n{table}"
