"""Colours, fonts and pens: one table of tokens for each theme, from which palette, style sheet and plots are made.

Views ask for `tokens()` and draw again when `restyle` is called; nothing keeps a colour of its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from string import Template
from typing import TYPE_CHECKING, Any, Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QFontMetrics, QPalette, QPen
from PySide6.QtWidgets import QApplication, QStyleFactory

from .session.states import BenchState

if TYPE_CHECKING:
    from pyqtgraph import ColorMap

ThemeName = Literal["dark", "light", "system"]
THEMES: tuple[ThemeName, ...] = ("system", "dark", "light")
SCALES = (1.0, 1.25, 1.5, 1.75, 2.0)
MAPS = ("viridis", "cividis", "grey", "vik")


@dataclass(frozen=True)
class Tokens:
    """The colours of one theme as hex strings; `on_...` is text that stands on that colour."""

    name: str
    text: str
    text_dim: str
    window: str
    panel: str
    field: str
    line: str
    accent: str
    on_accent: str
    ok: str
    warn: str
    bad: str
    simulated: str
    on_simulated: str
    abort: str
    on_abort: str


DARK = Tokens(
    name="dark", text="#e8eaed", text_dim="#a9b1bb", window="#16191d", panel="#1f2329", field="#14171a",
    line="#3a4149", accent="#58a6ff", on_accent="#0b1420", ok="#3fc9a0", warn="#f2b134", bad="#ff8066",
    simulated="#c7a6ff", on_simulated="#1c1033", abort="#c62828", on_abort="#ffffff",
)  # fmt: skip
LIGHT = Tokens(
    name="light", text="#1b1f24", text_dim="#525a64", window="#eceff2", panel="#ffffff", field="#ffffff",
    line="#c2c9d1", accent="#0a5fb4", on_accent="#ffffff", ok="#006b50", warn="#7d5200", bad="#b3261e",
    simulated="#6538b0", on_simulated="#ffffff", abort="#c62828", on_abort="#ffffff",
)  # fmt: skip

# The state's badge: one colour for each kind of state, told apart also by people who see no red or no green, and
# always beside a word and a mark. Text on all of them is dark, in both themes.
ON_STATE = "#101418"
IDLE, BUSY, GOOD, GOING, HELD, ENDING, WRONG = (
    "#aeb6c0", "#d9c9f2", "#2fbf9b", "#6cb6ff", "#f5d04c", "#f09a3a", "#ff7a5c",
)  # fmt: skip
_LOOKS: dict[BenchState, tuple[str, str, str]] = {
    BenchState.DISCONNECTED: (IDLE, "DISCONNECTED", "○"),
    BenchState.CONNECTING: (BUSY, "CONNECTING", "◌"),
    BenchState.READY: (GOOD, "READY", "●"),
    BenchState.STARTING: (BUSY, "STARTING", "▷"),
    BenchState.RUNNING: (GOING, "RUNNING", "►"),
    BenchState.PAUSING: (HELD, "PAUSING", "‖"),
    BenchState.PAUSED: (HELD, "PAUSED", "‖"),
    BenchState.STOPPING: (ENDING, "STOPPING", "■"),
    BenchState.ABORTING: (ENDING, "ABORTING", "✕"),
    BenchState.FAULT: (WRONG, "FAULT", "▲"),
}

# Okabe and Ito's colours, told apart by nearly everybody; their yellow is darkened where it would stand on white.
_TRACES = {
    "dark": ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00", "#e8eaed"),
    "light": ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#9c8f00", "#1b1f24"),
}
_DASHES = (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine, Qt.PenStyle.DotLine, Qt.PenStyle.DashDotLine)
# F. Crameri's "vik": from blue through white to red, even in lightness on both sides.
_VIK = ("#001261", "#033e7d", "#1e6f9d", "#71a8c4", "#c9dde7", "#f0ebe8", "#eacebd", "#d39774", "#be6533", "#8b2706",
        "#590008")  # fmt: skip

_current = DARK
_scale = 1.0


def tokens() -> Tokens:
    """The colours of now."""
    return _current


def scale() -> float:
    """The font scale of now: 1 is the system's size."""
    return _scale


def resolved(theme: str, app: QApplication) -> Tokens:
    """The tokens that a theme's name means; "system" follows the desktop, and is dark where that does not say."""
    if theme == "system":
        theme = "light" if app.styleHints().colorScheme() == Qt.ColorScheme.Light else "dark"
    return LIGHT if theme == "light" else DARK


def apply(app: QApplication, theme: str, scale: float = 1.0) -> None:
    """Give the whole program a theme and a font scale. Open windows then have to be told by `restyle`."""
    global _current, _scale
    _current, _scale = resolved(theme, app), min(max(scale, SCALES[0]), SCALES[-1])
    if not app.styleSheet():  # once: with a sheet, the style is one of Qt's own around it
        app.setStyle(QStyleFactory.create("Fusion"))
    app.setPalette(_palette(_current))
    for kind in ("QComboBox", "QAbstractSpinBox", "QCheckBox", "QRadioButton"):
        app.setPalette(_framed(_current), kind)  # type: ignore[arg-type]  # the stubs say bytes, which it refuses
    app.setFont(_font(app))
    app.setStyleSheet(_sheet(_current))


def _font(app: QApplication) -> QFont:
    """The system's font, scaled; its own size is kept, so that scaling twice does not add up."""
    font = QFont(app.font())
    base = app.property("neurobench_base_pt")
    if base is None:
        base = font.pointSizeF() if font.pointSizeF() > 0 else 10.0
        app.setProperty("neurobench_base_pt", base)
    font.setPointSizeF(float(base) * _scale)
    return font


def _palette(t: Tokens) -> QPalette:
    palette, role = QPalette(), QPalette.ColorRole
    for roles, color in (
        ((role.Window, role.Button), t.panel),
        ((role.Base, role.ToolTipBase), t.field),
        ((role.AlternateBase, role.Midlight), t.window),
        ((role.WindowText, role.Text, role.ButtonText, role.ToolTipText, role.BrightText), t.text),
        ((role.Mid, role.Light), t.line),
        ((role.PlaceholderText,), t.text_dim),
        ((role.Highlight, role.Link, role.LinkVisited), t.accent),
        ((role.HighlightedText,), t.on_accent),
    ):
        for one in roles:
            palette.setColor(one, QColor(color))
    for one in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, one, QColor(mixed(t.text_dim, t.panel, 0.35)))
    palette.setColor(QPalette.ColorGroup.Disabled, role.Highlight, QColor(t.line))
    return palette


def _framed(t: Tokens) -> QPalette:
    """For what Fusion draws a frame around: a darker shade of the window's colour, on a dark ground nothing at all."""
    palette = _palette(t)
    palette.setColor(QPalette.ColorRole.Window, QColor(t.line).lighter(140))
    return palette


_SHEET = Template("""
QMainWindow, QMainWindow::separator { background: $window; }
QFrame#topbar, QFrame#rail { background: $panel; }
QFrame#topbar { border-bottom: 1px solid $line; }
QFrame#rail { border-right: 1px solid $line; }
QFrame#timebar, QFrame#statusbar { background: $window; border-top: 1px solid $line; }
QMainWindow::separator { width: 5px; height: 5px; }
QMainWindow::separator:hover { background: $accent; }
QToolTip { background: $field; color: $text; border: 1px solid $line; padding: 4px; }
QDockWidget { font-weight: 600; }
QDockWidget::title { background: $window; padding: 3px 8px 2px; border-bottom: 1px solid $line; }
QGroupBox { border: 1px solid $line; border-radius: 4px; margin-top: 1.2em; padding-top: 0.3em; }
QGroupBox::title { subcontrol-origin: margin; left: 8px; padding: 0 4px; color: $text_dim; }
QPushButton, QToolButton { border: 1px solid $line; border-radius: 4px; padding: 4px 10px; background: $raised; }
QPushButton:hover, QToolButton:hover { border-color: $accent; }
QPushButton:pressed, QPushButton:checked, QToolButton:pressed, QToolButton:checked {
    background: $chosen; border-color: $accent; }
QPushButton:focus, QToolButton:focus { border: 2px solid $accent; padding: 3px 9px; }
QPushButton:disabled, QToolButton:disabled { color: $disabled; background: $panel; }
QPushButton[role="primary"] { background: $accent; color: $on_accent; border-color: $accent; font-weight: 600; }
QPushButton[role="primary"]:focus { border: 2px solid $text; }
QPushButton[role="primary"]:disabled { background: $panel; color: $disabled; border-color: $line; }
QPushButton[role="abort"], QToolButton[role="abort"] { background: $abort; color: $on_abort; border: 2px solid $abort;
    font-weight: 700; padding: 2px 10px; }
QPushButton[role="abort"]:hover { border-color: $text; }
QPushButton[role="abort"]:focus { border-color: $text; }
QPushButton[role="abort"]:disabled { background: $panel; color: $disabled; border: 1px solid $line; }
QPushButton::menu-indicator, QToolButton::menu-indicator { subcontrol-origin: padding;
    subcontrol-position: right center; right: 2px; }
QToolButton[popupMode="2"] { padding-right: 20px; }
QToolButton[popupMode="2"]:focus { padding-right: 19px; }
QPushButton[role="flat"], QToolButton[role="flat"] { background: transparent; border-color: transparent; }
QPushButton[role="flat"]:checked, QToolButton[role="flat"]:checked { background: $chosen; border-color: $accent; }
QPushButton[role="flat"]:hover, QToolButton[role="flat"]:hover { border-color: $line; }
QPushButton[role="flat"]:focus, QToolButton[role="flat"]:focus { border-color: $accent; }
QLineEdit, QPlainTextEdit, QTextEdit {
    border: 1px solid $line; border-radius: 3px; background: $field; selection-background-color: $accent;
    selection-color: $on_accent; padding: 2px 4px; }
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus { border-color: $accent; }
QComboBox QAbstractItemView { border: 1px solid $line; background: $field; }
QHeaderView::section { background: $window; color: $text_dim; border: none; border-bottom: 1px solid $line;
    padding: 4px; }
QTableView, QTreeView, QListView { border: 1px solid $line; background: $field; alternate-background-color: $panel;
    gridline-color: $line; }
QTableView::item:selected, QTreeView::item:selected, QListView::item:selected {
    background: $accent; color: $on_accent; }
QTabWidget::pane { border: 1px solid $line; }
QTabBar::tab { background: $window; color: $text_dim; border: 1px solid $line; padding: 4px 8px; }
QTabBar::tab:selected { background: $panel; color: $text; border-bottom-color: $accent; }
QTabBar QToolButton { padding: 0; background: $panel; }
QScrollArea { border: none; background: transparent; }
QStatusBar { background: $window; border-top: 1px solid $line; }
QStatusBar::item { border: none; }
QMenuBar { background: $window; }
QMenuBar::item:selected, QMenu::item:selected { background: $accent; color: $on_accent; }
QMenu { border: 1px solid $line; background: $panel; }
QMenu::item { padding: 4px 24px; }
QMenu::item:disabled { color: $disabled; background: transparent; }
QMenu::separator { height: 1px; background: $line; margin: 4px 8px; }
QProgressBar { border: 1px solid $line; border-radius: 3px; background: $field; text-align: center; }
QProgressBar::chunk { background: $chosen; }
QToolButton[role="fact"] { padding: 2px; background: transparent; border: 1px solid transparent; }
QToolButton[role="fact"]:hover { border-color: $line; }
QToolButton[role="fact"]:focus { border: 1px solid $accent; padding: 2px; }
QLabel[role="dim"] { color: $text_dim; }
QLabel[role="heading"] { font-weight: 600; font-size: 120%; }
QLabel[role="ok"] { color: $ok; }
QLabel[role="warn"] { color: $warn; }
QLabel[role="bad"] { color: $bad; }
QLabel[role="simulated"] { color: $simulated; font-weight: 700; }
""")


def _sheet(t: Tokens) -> str:
    made = {
        "raised": mixed(t.panel, t.text, 0.07),
        "chosen": mixed(t.panel, t.accent, 0.35),
        "disabled": mixed(t.text_dim, t.panel, 0.35),
    }
    return _SHEET.substitute(asdict(t) | made)


def mixed(one: str, other: str, share: float) -> str:
    """A colour between two: `share` of the other."""
    a, b = QColor(one), QColor(other)
    parts = [round(x + (y - x) * share) for x, y in ((a.red(), b.red()), (a.green(), b.green()), (a.blue(), b.blue()))]
    return QColor(*parts).name()


def em() -> int:
    """Height of a line of text in pixels, as scaled now: what sizes are measured in."""
    return QFontMetrics(QApplication.font()).height()


@cache
def _mono_families() -> list[str]:
    """Those of the usual ones that are there, and the system's own."""
    there = set(QFontDatabase.families())
    wanted = ("DejaVu Sans Mono", "Menlo", "Consolas", "Noto Sans Mono", "Liberation Mono", "Courier New")
    own = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont).family()
    return [*(name for name in wanted if name in there), own]


def mono() -> QFont:
    """A font in which columns stand under each other, in the size of now."""
    font = QFont(QApplication.font())
    font.setFamilies(_mono_families())
    font.setStyleHint(QFont.StyleHint.Monospace)
    return font


def state_look(state: BenchState) -> tuple[str, str, str]:
    """Colour, word and mark of a state; text on the colour is `ON_STATE`."""
    return _LOOKS[state]


def trace_color(i: int) -> str:
    """Colour of the i-th trace of a plot."""
    colors = _TRACES[_current.name]
    return colors[i % len(colors)]


def trace_pen(i: int, width: int = 1) -> QPen:
    """Pen of the i-th trace: its colour, and from the fifth on also dashed. Wider than 1 is several times slower."""
    pen = QPen(QColor(trace_color(i)), width)
    pen.setCosmetic(True)
    pen.setStyle(_DASHES[(i // 4) % len(_DASHES)])
    return pen


@cache
def map_of(name: str) -> ColorMap:
    """A colour map by name: viridis, cividis or grey for magnitudes, vik for what has a sign."""
    import numpy as np
    import pyqtgraph as pg

    if name in ("viridis", "cividis"):
        return pg.colormap.get(name)
    if name == "grey":
        return pg.ColorMap(np.array([0.0, 1.0]), ["#101010", "#f5f5f5"], name="grey")
    if name == "vik":
        return pg.ColorMap(np.linspace(0.0, 1.0, len(_VIK)), list(_VIK), name="vik")
    raise ValueError(f"no colour map {name!r}; there are {', '.join(MAPS)}")


def style_plot(plot_item: Any) -> None:
    """Give a pyqtgraph PlotItem the colours and the font of now."""
    t = tokens()
    for side in ("left", "bottom", "right", "top"):
        axis = plot_item.getAxis(side)
        axis.setPen(QPen(QColor(t.line), 1))
        axis.setTextPen(QPen(QColor(t.text_dim), 1))
        axis.label.setFont(QApplication.font())
        axis.setStyle(tickFont=QApplication.font())
        axis.label.setDefaultTextColor(QColor(t.text_dim))
    if plot_item.titleLabel.text:
        plot_item.setTitle(plot_item.titleLabel.text, color=t.text)
    if plot_item.legend is not None:
        plot_item.legend.setLabelTextColor(t.text)
        plot_item.legend.setLabelTextSize(f"{QApplication.font().pointSizeF():g}pt")
    scene = plot_item.scene()
    for view in scene.views() if scene is not None else ():
        view.setBackgroundBrush(QColor(t.panel))
