"""Colours: text can be read, maps grow in lightness, and states are told apart also without red and green."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from neurobench.gui import theme
from neurobench.gui.session.states import BenchState

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

Rgb = tuple[float, float, float]


def rgb(color: str) -> Rgb:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]


def linear(color: str) -> np.ndarray:
    c = np.array(rgb(color))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def luminance(color: str) -> float:
    return float(linear(color) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# Vienot, Brettel and Mollon 1999: what a deuteranope sees, in linear RGB.
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(light: np.ndarray) -> np.ndarray:
    t = TO_XYZ @ light / np.array([0.9505, 1.0, 1.089])
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(one: str, other: str, matrix: np.ndarray) -> float:
    """CIE 1976 delta E after a matrix on linear RGB."""
    return float(np.linalg.norm(lab(matrix @ linear(one)) - lab(matrix @ linear(other))))


@pytest.mark.parametrize("tokens", [theme.DARK, theme.LIGHT], ids=lambda t: t.name)
def test_text_can_be_read_on_every_ground(tokens: theme.Tokens) -> None:
    for ground in (tokens.window, tokens.panel, tokens.field):
        for name in ("text", "text_dim", "accent", "ok", "warn", "bad", "simulated"):
            assert contrast(getattr(tokens, name), ground) >= 4.5, (name, ground)
    for mark, share in ((tokens.text, 0.07), (tokens.accent, 0.35), (tokens.warn, 0.08), (tokens.bad, 0.08)):
        assert contrast(tokens.text, theme.mixed(tokens.panel, mark, share)) >= 4.5, mark  # raised, chosen, messages
    for on, ground in (("on_accent", "accent"), ("on_simulated", "simulated"), ("on_abort", "abort")):
        assert contrast(getattr(tokens, on), getattr(tokens, ground)) >= 4.5, on


def test_every_state_has_its_look_and_its_word_can_be_read() -> None:
    for state in BenchState:
        color, word, mark = theme.state_look(state)
        assert word == state.value.upper()
        assert len(mark) == 1
        assert ord(mark) < 0x10000, "an emoji is an empty box on many systems"
        assert contrast(theme.ON_STATE, color) >= 4.5, state


@pytest.mark.parametrize("matrix", [np.eye(3), DEUTERANOPIA], ids=["all colours", "deuteranopia"])
def test_kinds_of_states_are_told_apart(matrix: np.ndarray) -> None:
    kinds = {theme.state_look(state)[0] for state in BenchState}
    assert len(kinds) == 7
    close = {(a, b): difference(a, b, matrix) for a, b in combinations(sorted(kinds), 2)}
    assert min(close.values()) >= 10, min(close, key=lambda pair: close[pair])


def test_on_off_and_unknown_outputs_differ_in_more_than_colour(qt: str) -> None:
    from neurobench.gui.frame.facts import outputs_words

    seen = [outputs_words({"on": on, "how": "read back", "age_s": 0.2})[:2] for on in (True, False, None)]
    assert len({mark for mark, _ in seen}) == len({word for _, word in seen}) == 3


@pytest.mark.parametrize("name", ["viridis", "cividis", "grey"])
def test_maps_of_magnitudes_grow_in_lightness(qt: str, name: str) -> None:
    colors = theme.map_of(name).getLookupTable(0.0, 1.0, 64, alpha=False) / 255
    light = [lab(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4))[0] for c in colors]
    assert np.all(np.diff(light) > 0)


def test_the_signed_map_is_lightest_in_the_middle(qt: str) -> None:
    table = theme.map_of("vik").getLookupTable(0.0, 1.0, 65, alpha=False).astype(float).sum(axis=1)
    assert table.argmax() == 32
    assert np.all(np.diff(table[:33]) > 0)
    assert np.all(np.diff(table[32:]) < 0)
    with pytest.raises(ValueError, match="viridis"):
        theme.map_of("jet")


def test_traces_differ_and_stay_thin(window_app: QApplication) -> None:
    pens = [theme.trace_pen(i) for i in range(8)]
    assert len({pen.color().name() for pen in pens}) == 8
    assert {pen.style() for pen in pens[:4]} != {pen.style() for pen in pens[4:]}
    assert all(pen.width() == 1 and pen.isCosmetic() for pen in pens)


def test_scaling_twice_does_not_add_up(window_app: QApplication) -> None:
    small = theme.em()
    for _ in range(3):
        theme.apply(window_app, "light", 2.0)
    large = theme.em()
    assert 1.8 * small <= large <= 2.2 * small
    theme.apply(window_app, "dark", 99.0)
    assert theme.em() == large, "200 % is the largest"
    theme.apply(window_app, "dark", 1.0)
    assert (theme.em(), theme.tokens().name) == (small, "dark")
