"""Forms made from the declarations of all protocols: values, units, tips, mistakes, keys and wheel."""

from __future__ import annotations

import math
import shlex
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("PySide6")
pytest.importorskip("pytestqt")

from neurobench.gui.parts import fields, forms
from neurobench.gui.parts.fields import REQUIRED, Spec
from neurobench.gui.parts.forms import AutoEditor, Form, NumberEditor, TableEditor, TextEditor
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QComboBox, QFrame, QLabel, QScrollArea, QWidget

from neurobench import registry
from neurobench.errors import ConfigError
from neurobench.runs.request import Request, pairs, protocol_class, validated

PROTOCOLS = tuple(registry.find("protocols"))
# What a form cannot be left without: fields that have no default, of a protocol that forms real cells.
NEEDED: dict[str, dict[str, Any]] = {
    "form": {"stop_v": 3.0, "stop_current_a": 1e-4, "stop_conductance_s": 1e-3},
}
UNITS = {"_v": "V", "_a": "A", "_hz": "Hz", "_ohm": "Ω"}


def made(name: str, qtbot: Any, values: dict[str, Any] | None = None) -> Form:
    form = Form(protocol_class(name), name)
    qtbot.addWidget(form)
    form.set_values(NEEDED.get(name, {}) | (values or {}))
    return form


def all_specs() -> list[tuple[str, Spec]]:
    return [(name, spec) for name in PROTOCOLS for spec in fields.specs(protocol_class(name))]


def shown(form: QWidget) -> None:
    form.show()
    form.activateWindow()
    QApplication.processEvents()


def focused(widget: QWidget, qtbot: Any) -> None:
    widget.setFocus()
    qtbot.waitUntil(widget.hasFocus)


# ---------------------------------------------------------------------------------------------- every protocol


def test_every_protocol_has_a_form_that_says_nothing_at_first(window_app: QApplication, qtbot: Any) -> None:
    for name in PROTOCOLS:
        _every_protocol_has_a_form_that_says_nothing_at_first(made(name, qtbot), name)


def _every_protocol_has_a_form_that_says_nothing_at_first(form: Form, name: str) -> None:
    assert form.values() == NEEDED.get(name, {})
    assert form.problems() == []
    assert set(form.rows) == set(protocol_class(name).model_fields)
    # what stands in every editor, taken for a choice, is what the protocol has where nothing is said
    everything = {key: row.value() for key, row in form.rows.items()}
    assert validated(protocol_class(name), everything, name) == validated(protocol_class(name), form.values(), name)


def test_every_field_has_a_tip_a_name_and_the_unit_of_its_name(window_app: QApplication, qtbot: Any) -> None:
    for name in PROTOCOLS:
        _every_field_has_a_tip_a_name_and_the_unit_of_its_name(made(name, qtbot), name)


def takes_keys(widget: QWidget) -> bool:
    """Whether the user meets it; the list and the line within a combo box bear its name."""
    inside = isinstance(widget.parent(), QComboBox | QFrame) or isinstance(widget, QLabel)
    return widget.focusPolicy() != Qt.FocusPolicy.NoFocus and not inside


def _every_field_has_a_tip_a_name_and_the_unit_of_its_name(form: Form, name: str) -> None:
    for key, row in form.rows.items():
        tip = row.editor.toolTip()
        assert row.spec.description[1:] in tip.replace("&lt;", "<").replace("&gt;", ">").replace("&#x27;", "'"), key
        assert f"--set {key}=" in tip
        assert "Default:" in tip or "no default" in tip
        controls = [one for one in row.editor.findChildren(QWidget) if takes_keys(one)]
        assert controls, key
        assert [type(one).__name__ for one in controls if not one.accessibleName()] == [], key
        if key.endswith("_s"):
            assert row.spec.unit in ("s", "S", "px/s"), key
        assert row.spec.unit == "" or row.spec.unit in f"{row.words} {row.spec.help_words()} {row.spec.unit}"


def test_bounds_are_kept_as_the_command_line_keeps_them(window_app: QApplication, qtbot: Any) -> None:
    for name in PROTOCOLS:
        _bounds_are_kept_as_the_command_line_keeps_them(made(name, qtbot), name)


def _bounds_are_kept_as_the_command_line_keeps_them(form: Form, name: str) -> None:
    kind = protocol_class(name)
    for spec in fields.specs(kind):
        if spec.kind not in ("int", "float"):
            continue
        for value in at_the_bounds(spec):
            form.rows[spec.name].editor.put(value)
            asked = form.values()
            if value != form.rows[spec.name].basis:
                assert asked[spec.name] == value
                assert math.isclose(float(asked[spec.name]), float(value), rel_tol=0)
            assert bool(form.problems()) == (refusal(kind, asked, name) != ""), (spec.name, value)
            assert "\n".join(form.problems()) == refusal(kind, asked, name)
        form.rows[spec.name].editor.put(NEEDED.get(name, {}).get(spec.name, form.rows[spec.name].basis))
    assert form.values() == NEEDED.get(name, {})


def test_a_ramp_without_end_is_refused_at_once(window_app: QApplication, qtbot: Any) -> None:
    form = made("form", qtbot, {"step_v": 5e-324})
    assert "choose a larger step_v" in form.problems()[0]


def at_the_bounds(spec: Spec) -> list[float]:
    step = 1 if spec.kind == "int" else 1e-9
    low = [] if spec.low is None else [spec.low, spec.low - step, spec.low + step]
    high = [] if spec.high is None else [spec.high, spec.high + step]
    return [int(one) if spec.kind == "int" else float(one) for one in (*low, *high)]


def refusal(kind: Any, settings: dict[str, Any], name: str) -> str:
    try:
        validated(kind, settings, name)
    except ConfigError as error:
        return str(error)
    return ""


def test_what_a_form_says_can_be_typed_on_the_command_line(window_app: QApplication, qtbot: Any) -> None:
    for name in PROTOCOLS:
        _what_a_form_says_can_be_typed_on_the_command_line(made(name, qtbot), name)


def _what_a_form_says_can_be_typed_on_the_command_line(form: Form, name: str) -> None:
    for spec in fields.specs(protocol_class(name)):
        row = form.rows[spec.name]
        if spec.kind == "choice":
            row.editor.put(spec.choices[-1])
        elif spec.kind == "numbers":
            row.editor.put((0.25, 0.5))
        elif spec.kind == "table":
            row.editor.put({"kind": "triangular", "tail_v": 0.125})
    asked = form.values()
    words = shlex.split(Request(name, settings=asked).command())
    typed = pairs([one for flag, one in pairwise(words) if flag == "--set"], "--set")
    assert typed.keys() == asked.keys()
    assert refusal(protocol_class(name), typed, name) == refusal(protocol_class(name), asked, name)
    if not form.problems():
        kind = protocol_class(name)
        assert validated(kind, typed, name) == validated(kind, asked, name)


# ---------------------------------------------------------------------------------------------- numbers


@given(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["", "s", "V", "A", "S", "Hz", "Ω", "1/A", "J"])
)
@example(0.0005, "s")
@example(1e-300, "V")
def test_numbers_are_shown_exactly(value: float, unit: str) -> None:
    assert fields.parse_number(fields.number(value, unit), unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [("1.5 m", "s", 1.5e-3), ("1.5ms", "s", 1.5e-3), ("2e-3", "V", 2e-3), ("100u", "A", 1e-4), ("100 µA", "A", 1e-4),
     ("50 µS", "S", 5e-5), ("3 s", "s", 3.0), ("4 k", "Ω", 4e3), ("4 kohm", "Ω", 4e3), (".5", "", 0.5),
     ("5e7", "1/A", 5e7)],
)  # fmt: skip
def test_numbers_are_read_as_people_type_them(text: str, unit: str, value: float) -> None:
    assert fields.parse_number(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit"), [("", "V"), ("fast", "s"), ("1.5 q", "V"), ("1 A", "V"), ("nan", ""), ("1 S", "s")]
)
def test_what_is_no_number_is_refused_with_an_example(text: str, unit: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        fields.parse_number(text, unit)


def test_seconds_and_siemens_are_told_apart() -> None:
    found = {f"{name}.{spec.name}": spec.unit for name, spec in all_specs()}
    assert found["stdp-window.g0_s"] == found["form.stop_conductance_s"] == found["bimodality.g_high_s"] == "S"
    assert found["bimodality.tau_excite_s"] == found["manhattan.width_s"] == found["stdp-window.dt_s"] == "s"
    assert found["manhattan.beta_per_a"] == "1/A"
    assert found["moving-bar.velocity_px_s"] == "px/s"


# ---------------------------------------------------------------------------------------------- by hand


def test_typing_a_value_marks_it_and_the_button_leads_back(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot)
    shown(form)
    row = form.rows["integration_s"]
    box = row.editor.findChild(forms.NumberBox)
    assert box.text() == "1 ms"
    assert not row.reset.isEnabled()
    focused(box, qtbot)
    box.selectAll()
    qtbot.keyClicks(box, "2.5 m")
    assert form.values() == {"integration_s": 2.5e-3}
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert box.text() == "2.5 ms"
    assert forms.CHANGED in row.label.text()
    qtbot.mouseClick(row.reset, Qt.MouseButton.LeftButton)
    assert form.values() == {}
    assert forms.CHANGED not in row.label.text()


def test_a_mistake_is_marked_in_place_and_stays_as_it_was_typed(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot)
    shown(form)
    told: list[bool] = []
    form.valid.connect(told.append)
    row = form.rows["target"]
    box = row.editor.findChild(forms.NumberBox)
    focused(box, qtbot)
    box.selectAll()
    qtbot.keyClicks(box, "2")
    with pytest.raises(ConfigError) as refused:
        validated(protocol_class("manhattan"), {"target": 2.0}, "manhattan")
    assert form.problems() == [str(refused.value)]
    assert row.problem.isVisible()
    assert "less than 1" in row.problem.text()
    box.selectAll()
    qtbot.keyClicks(box, "high")
    qtbot.keyClick(box, Qt.Key.Key_Tab)
    assert box.text() == "high"
    assert form.values() == {"target": "high"}
    assert told == [False]
    row.go_back()
    assert told == [False, True]
    assert not row.problem.isVisible()


def test_a_mistake_of_several_fields_together_is_said_below(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot, {"preflight": False, "auto_zero": False})
    shown(form)
    assert "beta_per_a has to be given" in form.problems()[0]
    assert "beta_per_a has to be given" in form.whole.text()
    assert form.whole.isVisible()


def test_a_field_without_default_is_asked_for(window_app: QApplication, qtbot: Any) -> None:
    form = Form(protocol_class("form"), "form")
    qtbot.addWidget(form)
    assert len(form.problems()) == 3
    assert all("is missing" in words for words in form.problems())
    assert form.rows["stop_v"].value() is REQUIRED
    form.set_values(NEEDED["form"])
    assert form.problems() == []


def test_auto_says_what_it_stands_for_and_gives_way_to_a_value(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot)
    shown(form)
    editor = form.rows["amplitude_v"].editor
    assert isinstance(editor, AutoEditor)
    assert editor.meaning.text() == "as the device was measured"
    focused(editor.check, qtbot)
    qtbot.keyClick(editor.check, Qt.Key.Key_Space)
    assert "amplitude_v" in " ".join(form.problems())  # no value was made up
    box = editor.findChild(forms.NumberBox)
    qtbot.waitUntil(box.hasFocus)
    qtbot.keyClicks(box, "1.5")
    assert form.values() == {"amplitude_v": 1.5}
    qtbot.mouseClick(editor.check, Qt.MouseButton.LeftButton, pos=QPoint(8, editor.check.height() // 2))
    assert form.values() == {}


def test_arrow_keys_of_a_choice_go_on_from_what_is_shown(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot, {"task": "letters"})
    shown(form)
    combo = form.rows["task"].editor.findChild(QComboBox)
    focused(combo, qtbot)
    before = combo.itemText(combo.findText("letters") - 1)
    qtbot.keyClick(combo, Qt.Key.Key_Up)
    assert combo.currentText() == before


def test_arrow_keys_step_and_stay_within_the_range(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot)
    shown(form)
    box = form.rows["read_v"].editor.findChild(forms.NumberBox)
    focused(box, qtbot)
    qtbot.keyClick(box, Qt.Key.Key_Up)
    assert form.values() == {"read_v": 0.11}
    qtbot.keyClick(box, Qt.Key.Key_Down)
    qtbot.keyClick(box, Qt.Key.Key_Down)
    assert form.values() == {"read_v": 0.099}
    most = form.rows["confirm_reads"].editor.findChild(forms.NumberBox)
    for _ in range(5):
        most.step(-1)
    assert form.values()["confirm_reads"] == 1


def test_the_wheel_changes_nothing_that_was_not_chosen(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot)
    area = QScrollArea()
    qtbot.addWidget(area)
    area.setWidget(form)
    area.resize(400, 300)
    shown(area)
    for key in ("preset", "read_v", "select"):
        editor = form.rows[key].editor
        for widget in editor.findChildren(QWidget):
            turn(widget)
    assert form.values() == {}
    box = form.rows["read_v"].editor.findChild(forms.NumberBox)
    focused(box, qtbot)
    turn(box)
    assert form.values() == {"read_v": 0.11}


def turn(widget: QWidget) -> None:
    middle = QPointF(widget.rect().center())
    event = QWheelEvent(
        middle, QPointF(widget.mapToGlobal(middle.toPoint())), QPoint(0, 0), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(widget, event)


def test_a_preset_brings_its_values_and_keeps_what_was_changed(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot, {"target": 0.7})
    form.rows["preset"].editor.put("seed")
    assert form.rows["amplitude_v"].value() == 2.0
    assert form.rows["preflight"].value() is False
    assert form.values() == {"preset": "seed", "target": 0.7}
    form.rows["averages"].editor.put(4)
    assert form.values() == {"preset": "seed", "target": 0.7, "averages": 4}
    form.rows["preset"].editor.put("improved")
    assert form.values() == {"target": 0.7, "averages": 4}
    assert form.rows["amplitude_v"].value() is None
    form.set_values({"preset": "seed", "averages": 3})
    assert form.values() == {"preset": "seed", "averages": 3}


def test_searching_shows_what_fits_wherever_it_hides(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot)
    shown(form)
    assert form.rows["target"].label.isVisible()
    assert not form.rows["checkpoint_every"].label.isVisible()
    focused(form.search, qtbot)
    qtbot.keyClicks(form.search, "epochs checkpoints")
    assert form.rows["checkpoint_every"].label.isVisible()
    assert not form.rows["target"].label.isVisible()
    form.search.clear()
    qtbot.mouseClick(form.more, Qt.MouseButton.LeftButton)
    assert all(row.label.isVisible() for row in form.rows.values())


def test_a_changed_or_wrong_setting_is_never_hidden(window_app: QApplication, qtbot: Any) -> None:
    form = made("manhattan", qtbot, {"refresh_at": 7.0})
    shown(form)
    assert form.rows["refresh_at"].problem.isVisible()
    assert form.rows["refresh_at"].editor.isVisible()


def test_a_scheme_is_a_form_within_the_form(window_app: QApplication, qtbot: Any) -> None:
    form = made("stdp-window", qtbot)
    shown(form)
    editor = form.rows["scheme"].editor
    assert isinstance(editor, TableEditor)
    editor.combo.setCurrentText("triangular")
    assert form.values() == {"scheme": "triangular"}
    box = editor.form.rows["tail_v"].editor.findChild(forms.NumberBox)
    focused(box, qtbot)
    box.selectAll()
    qtbot.keyClicks(box, "600m")
    assert form.values() == {"scheme": {"kind": "triangular", "tail_v": 0.6}}
    editor.combo.setCurrentText("exponential")
    assert form.values() == {}
    editor.combo.setCurrentText("triangular")
    assert form.values() == {"scheme": {"kind": "triangular", "tail_v": 0.6}}


def test_lists_are_typed_with_or_without_brackets(window_app: QApplication, qtbot: Any) -> None:
    form = made("stdp-window", qtbot)
    line = form.rows["dt_s"].editor
    assert isinstance(line, TextEditor)
    line.line.setText("10 ms, -20m")
    assert form.values() == {"dt_s": (0.01, -0.02)}
    line.line.setText("[0.01, 0.02]")
    assert form.values() == {"dt_s": (0.01, 0.02)}
    line.line.setText("soon")
    assert form.problems()
    line.line.setText("")
    form.rows["cells"].editor.put(((0, 1), (2, 3)))
    assert form.values() == {"cells": ((0, 1), (2, 3))}
    assert not form.problems()


def test_a_setting_that_there_is_not_is_refused_with_the_nearest(window_app: QApplication, qtbot: Any) -> None:
    from neurobench.errors import UsageError

    form = made("manhattan", qtbot)
    with pytest.raises(UsageError, match="did you mean target"):
        form.set_values({"targget": 0.7})


def test_tab_leads_through_the_form(window_app: QApplication, qtbot: Any) -> None:
    form = made("read-all", qtbot)
    shown(form)
    focused(form.search, qtbot)
    seen: list[str] = []
    for _ in range(20):
        now = QApplication.focusWidget()
        assert now is not None
        seen.append(now.accessibleName())
        qtbot.keyClick(now, Qt.Key.Key_Tab)
    for row in form.rows.values():
        assert any(name.startswith(row.spec.label) for name in seen), row.spec.label
    assert isinstance(form.rows["read_v"].editor, NumberEditor)
