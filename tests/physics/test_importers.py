"""Curve files: the measured ones with their traps, and what a wrong file is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurobench.errors import ConfigError, CurveError
from neurobench.physics import library
from neurobench.physics.card import load_card, write_card
from neurobench.physics.importers import ImportOptions, import_curve, plot_card


def said(lines: tuple[str, ...], pattern: str) -> bool:
    return any(re.search(pattern, line) for line in lines)


# ---- the measured files ------------------------------------------------------------------------------------------


def test_the_pulse_log_and_its_traps(shared_data: Path) -> None:
    report = import_curve(shared_data / "cateru" / "SP291D1NR100.dat")
    (curve,) = report.card.curve
    assert (curve.direction, curve.amplitude_v, curve.width_s) == ("potentiate", 2.0, 1e-3)
    read = report.card.read
    assert (read.voltage_v, read.delay_s, read.period_s) == pytest.approx((0.05, 2.703, 3.203), abs=2e-3)
    golden = np.loadtxt(shared_data / "cateru" / "datafile.csv", skiprows=1)
    np.testing.assert_allclose(curve.points(), golden, rtol=1e-15)
    in_pulse = report.arrays["in_pulse_s"]
    assert in_pulse.size == 51
    np.testing.assert_allclose(in_pulse[:2], [706.5e-6, 908.5e-6], rtol=1e-4)
    offset = report.arrays["read_offset_a"]
    assert (offset.mean(), offset.std()) == pytest.approx((1.62e-9, 0.12e-9), abs=0.005e-9)
    for pattern in (
        "lag the R column by one read in 50 of 50 rows; R is used",
        r"\+1.62 \+- 0.12 nA.*wrong by 32 nS",
        r"1555 \.\. 1999 times",
        "tON = 0.001 s and is used.*50 ms",
        "51 rows at 0 V",
        "first write is -2 V",
        "18 of 50 steps go the other way",
        "2.70 s after the pulse, every 3.20 s",
    ):
        assert said(report.lines, pattern), pattern


def test_the_log_gives_the_current_while_writing(shared_data: Path) -> None:
    report = import_curve(shared_data / "cateru" / "SP291D1NR100.dat")
    law = report.card.write_current
    assert law is not None
    ratio = report.arrays["in_pulse_s"][1:] / report.arrays["potentiate_s"][:-1]
    assert law.factor(2.0, 0.05) == pytest.approx(np.exp(np.mean(np.log(ratio))), rel=1e-9)
    current_a = 2.0 * law.factor(2.0, 0.05) * report.arrays["potentiate_s"][:-1]
    np.testing.assert_allclose(current_a, 2.0 * report.arrays["in_pulse_s"][1:], rtol=0.08)


def test_the_one_column_file_is_the_same_curve(shared_data: Path) -> None:
    report = import_curve(shared_data / "cateru" / "datafile.csv")
    (curve,) = report.card.curve
    assert (curve.direction, curve.amplitude_v, curve.width_s) == ("potentiate", None, None)
    assert said(report.lines, "amplitude and width not stated in the file")
    stated = import_curve(shared_data / "cateru" / "datafile.csv", ImportOptions(amplitude_v=2.0, width_s=0.05))
    assert (stated.card.curve[0].amplitude_v, stated.card.curve[0].width_s) == (2.0, 0.05)
    assert not said(stated.lines, "not stated")


def test_two_columns_in_arbitrary_units_need_a_declared_window(shared_data: Path) -> None:
    path = shared_data / "aihwkit" / "gong_et_al.csv"
    with pytest.raises(CurveError, match=r"gong_et_al.csv:1: -0.84444 S is not a conductance.*declare the window"):
        import_curve(path)
    report = import_curve(path, ImportOptions(window_s=(5e-6, 25e-6)))
    raw = np.loadtxt(path, delimiter=",")
    low, high = raw.min(), raw.max()
    for k, direction in enumerate(("potentiate", "depress")):
        want = 5e-6 + (raw[:, k] - low) / (high - low) * 20e-6
        np.testing.assert_allclose(report.arrays[f"{direction}_s"], want, rtol=1e-12)
    shipped = library.card("gong-rram")
    for curve in shipped.curve:
        np.testing.assert_allclose(curve.points(), report.arrays[f"{curve.direction}_s"], rtol=1e-4)


def test_pulse_number_tables_and_a_depression_stored_upwards(shared_data: Path) -> None:
    up = import_curve(shared_data / "neurosim_agsi" / "ag_si_ltp.csv")
    assert (up.card.curve[0].direction, up.card.curve[0].points().size) == ("potentiate", 98)
    down = import_curve(shared_data / "neurosim_agsi" / "ag_si_ltd.csv")
    (curve,) = down.card.curve
    assert curve.direction == "depress"
    assert curve.points()[0] > 10 * curve.points()[-1]
    assert said(down.lines, "stored in rising order.*turned round")


def test_y_flash_cycles_and_their_wear(shared_data: Path) -> None:
    report = import_curve(shared_data / "yflash" / "data_cycle2cycle.txt")
    erase, program = report.card.curve
    assert (erase.direction, erase.width_s, program.direction, program.width_s) == ("potentiate", 1e-4, "depress", 2e-4)
    counts = report.arrays["Gerase_pulses"]
    assert counts.size == 400
    assert counts[-40:].mean() > 2 * counts[:40].mean()
    assert said(report.lines, "Gerase: .* pulses in the first 40 cycles, .* in the last .wear.")
    assert 36 <= program.points().size <= 42
    assert report.card.noise.step_sigma_relative > 0.05


def test_y_flash_devices_and_their_spread(shared_data: Path) -> None:
    report = import_curve(shared_data / "yflash" / "data_device2device_prog_erase.txt")
    # the data README counts points, this counts pulses: one less
    assert report.arrays["Gprog_pulses"].mean() + 1 == pytest.approx(37.8, abs=0.05)
    assert report.arrays["Gerase_pulses"].std() == pytest.approx(6.1, abs=0.05)
    assert report.card.spread.step_lognormal == pytest.approx(0.232, abs=0.002)
    model = library.build_model(report.card)
    u = np.array(model.state(report.card.curve[0].points()[0]))
    response = model.response(1, 5.0, 1e-4)
    for _ in range(report.card.curve[0].points().size - 1):
        u = response.step(u)
    assert model.level(u) == pytest.approx(report.card.curve[0].points()[-1], rel=1e-9)


@pytest.mark.parametrize(
    "name",
    ["cateru/SP291D1NR100.dat", "cateru/datafile.csv", "neurosim_agsi/ag_si_ltd.csv", "yflash/data_cycle2cycle.txt"],
)
def test_an_imported_card_survives_its_file_and_plots(shared_data: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    card = import_curve(shared_data / name).card
    write_card(card, tmp_path / "curve.toml")
    assert load_card(tmp_path / "curve.toml") == card
    assert library.load_model(tmp_path / "curve.toml").name == card.name
    plot_card(card, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("1e-6\n2e-6\n")
    assert library.load_model(path).g_max_s == pytest.approx(2e-6, rel=1e-12)
    path.write_text("1e-6\n2.5e-6\n")
    assert library.load_model(path).g_max_s == pytest.approx(2.5e-6, rel=1e-12)


# ---- wrong files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("G(S)\n", "0 data rows"),
        ("1e-6\n", "1 data rows"),
        ("1e-6\nnan\n", r":2: 'nan' is not a finite number"),
        ("1e-6\n2e-6\ninf\n", r":3: 'inf' is not a finite number"),
        ("G\n1e-6\n-2e-6\n", r":3: -2e-06 S is not a conductance"),
        ("1e-6\n0\n", r":2: 0 S is not a conductance"),
        ("1e-6\ntwo\n", r":2: 'two' is not a number"),
        ("1e-6,2e-6\n1e-6\n", r":2: 1 columns where the first row has 2"),
        ("1e-6,2e-6,3e-6\n1e-6,2e-6,3e-6\n", "3 columns; a curve file has one"),
        ("1e-6,2e-6\n,2e-6\n1e-6,2e-6\n", r":2: 'empty field' is not a number"),
        ("1e-6,2e-6\n,2e-6\n", "a column with 1 values"),
        ("Resistance (Ohm)\n1e6\n2e6\n", "announces resistances"),
        ("Conductance (uS)\n0.5\n0.6\n", r"announces uS; give conductances in S"),
        ("pulse_number,conductance_nS\n0,0.5\n1,0.6\n", "announces nS; give"),
        ("pulse_number,current_A\n0,1e-6\n1,2e-6\n", "announces A; give"),
        ("I [mA]\n0.5\n0.6\n", "announces mA; give"),
        ("Leitwert\n1,5e-6\n1,6e-6\n", r":2: '1,5e-6' is two columns here; if its comma is a decimal one"),
        ("0,5\n0,6\n", "write a point"),
        ("450\n460\n", r":1: 450 S is not a conductance in \(0, 1 S\]"),
        ("pulse_number,conductance_S\n0,1e-6\n2,2e-6\n1,3e-6\n", r":4: pulse number 1 follows 2; the rows must ascend"),
        ("pulse_number,conductance_S\n0,1e-6\n0,2e-6\n", r":3: pulse number 0 follows 0"),
        ("pulse_number,conductance_S\n0.2,1e-6\n0.7,2e-6\n", "less than one whole pulse"),
        ("pulse_number,conductance_S\n0,1e-6\n1,\n", "a column with 1 values"),
        ("Number of Pulses: 50\n", "no `Time stamp"),
        ("(U2,2,4) tprog: 1e-4\n", "expected `tprog: ..., terase: ...`"),
        ("(U2,2,4) tprog: 1e-4, terase: 1e-4\nGread, 1e-6\n", r":2: the line begins with 'Gread'"),
        ("(U2,2,4) tprog: 1e-4, terase: 1e-4\nGprog, 1e-6, 1e-7\n", "needs both"),
        ("(U2,0,0),tprog=1e-4,Gprog, 1e-6\n", r":1: 1 conductances"),
        ("(U2,0,0),nonsense\n", r":1: expected"),
    ],
)
def test_a_wrong_file_is_told_what_and_where(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(CurveError, match=says) as caught:
        import_curve(path)
    assert str(caught.value).startswith(str(path))


LOG = """Number of Pulses: 1
ON Voltage (V):2.0E+0
tON (ms):1
Time stamp (s), Voltage (V), Current (A), Voltage (V), Current (A),Resistance (Ohm)
0.1,-2.0,-001.413E-03,,,1.4E+3
2.0,5.0E-2,2.4E-8,-5.0E-2,-2.1E-8,2.2E+6
3.1,2.0,+001.817E-03,,,1.1E+3
5.0,5.0E-2,2.4E-8,-5.0E-2,-2.1E-8,2.0E+6
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("2.0E+6", "0.0E+6", r":8: resistance 0 Ohm in a row that is not at 0 V"),
        ("2.0E+6", "-2.0E+6", r":8: resistance -2e\+06 Ohm"),
        ("2.0E+6", "nan", r":8: 'nan' is not a finite number"),
        ("tON (ms)", "toff (ms)", "the header has no entry 'tON"),
        (",,,1.1E+3", ",,1.1E+3", r":7: 5 columns; a row of the log has 6"),
        ("3.1,2.0,", "3.1,1.0,", "do not all show the header's ON voltage"),
        ("5.0,5.0E-2,2.4E-8,-5.0E-2,-2.1E-8,2.0E+6\n", "", "2 write and 1 read rows"),
    ],
)
def test_a_damaged_log(old: str, new: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "log.dat"
    path.write_text(LOG)
    assert import_curve(path).card.curve[0].points() == pytest.approx([1 / 2.2e6, 1 / 2.0e6], rel=1e-12)
    assert LOG.count(old) == 1
    path.write_text(LOG.replace(old, new))
    with pytest.raises(CurveError, match=says):
        import_curve(path)


def test_other_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(CurveError, match="cannot read it as a text file"):
        import_curve(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CurveError, match="cannot read it as a text file"):
        import_curve(binary)
    good = tmp_path / "good.csv"
    good.write_text("1e-6\n2e-6\n")
    with pytest.raises(ConfigError, match="amplitude_v is 0 V"):
        import_curve(good, ImportOptions(amplitude_v=0.0))
    with pytest.raises(ConfigError, match="name"):
        import_curve(good, ImportOptions(name="a/b"))
    with pytest.raises(CurveError, match="cannot map"):
        import_curve(good, ImportOptions(window_s=(2e-6, 1e-6)))


def test_a_falling_column_is_a_depression_unless_declared(tmp_path: Path) -> None:
    path = tmp_path / "fall.csv"
    path.write_text("G\n3e-6\n2e-6\n1e-6\n")
    assert import_curve(path).card.curve[0].direction == "depress"
    assert import_curve(path, ImportOptions(direction="potentiate")).card.curve[0].direction == "potentiate"


# ---- any file ----------------------------------------------------------------------------------------------------

values = st.floats(1e-12, 1.0, allow_subnormal=False)
writers = st.sampled_from([repr, "{:.17g}".format, "{:+.16e}".format, lambda x: f"{x!r} "])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    up=st.lists(values, min_size=2, max_size=30),
    down=st.none() | st.lists(values, min_size=2, max_size=30),
    header=st.booleans(),
    write=writers,
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_as_csv_is_read_back(
    tmp_path: Path, up: list[float], down: list[float] | None, header: bool, write: Any, newline: str
) -> None:
    columns = [up] if down is None else [up, down]
    rows = [
        ",".join(write(column[k]) if k < len(column) else "" for column in columns)
        for k in range(max(len(column) for column in columns))
    ]
    path = tmp_path / "curve.csv"
    path.write_bytes(newline.join([*(["Conductance (S)"] if header else []), *rows, ""]).encode())
    report = import_curve(path, ImportOptions(direction="potentiate") if down is None else None)
    assert [list(curve.points()) for curve in report.card.curve] == columns


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200) | st.text("0123456789.,-+eE\nG(U:=tprogase ", max_size=200))
def test_any_text_is_a_card_or_a_curve_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.csv"
    path.write_text(text, encoding="utf-8")
    found: Any
    try:
        found = import_curve(path).card
    except CurveError as error:
        found = error
    if isinstance(found, CurveError):
        assert str(path) in str(found)
    else:
        assert all(np.all(curve.points() > 0) for curve in found.curve)


def test_a_header_of_other_units_may_be_declared_and_siemens_need_not(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("G (uS)\n1\n2\n")
    assert import_curve(file, ImportOptions(window_s=(1e-6, 2e-6))).card.curve[0].points() == pytest.approx(
        [1e-6, 2e-6]
    )
    for header in ("pulse_number,conductance_S", "pulse number, G (S) after 3 ms", "pulse_number,device_A"):
        file.write_text(f"{header}\n0,1e-6\n1,2e-6\n")
        assert import_curve(file).card.curve[0].points() == pytest.approx([1e-6, 2e-6])
    file.write_text("\ufeffG\n1e-6\n1e-6\n", encoding="utf-8")
    assert any("no pulse moves this device" in line for line in import_curve(file).lines)


def test_what_is_too_large_for_a_curve_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    with file.open("wb") as large:
        large.truncate(2_000_000_000)
    with pytest.raises(CurveError, match="2000 MB; a curve is a table of pulses"):
        import_curve(file)
    with pytest.raises(CurveError, match="is not a file"):
        import_curve(tmp_path)


def test_a_file_with_other_separators_is_told_about_commas(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("pulse;G\n1;1e-7\n2;2e-7\n3;3e-7\n")
    with pytest.raises(CurveError, match="columns are separated by commas"):
        import_curve(file)
