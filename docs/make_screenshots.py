"""Make the pictures of the window with the window itself, from real runs: `make screenshots`.

On the emulator, and on simulated instruments where instruments are shown. Everything happens in a folder that is gone
afterwards, so no path and no name of this computer is in a picture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from neurobench.gui import app as program
from neurobench.gui.characterise.characterise_page import CharacterisePage
from neurobench.gui.connect.connect_page import ConnectPage
from neurobench.gui.frame.preferences import Preferences
from neurobench.gui.frame.window import MainWindow
from neurobench.gui.lab.lab_page import LabPage
from neurobench.gui.runs.runs_page import RunsPage
from neurobench.gui.session.states import LIVE, BenchState
from PIL import Image
from PySide6.QtCore import QEventLoop
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QDockWidget, QTabWidget

from neurobench.runs.request import Request, request

IMAGES = Path(__file__).resolve().parent / "images"
SIZE = (1280, 720)
PATIENCE_S = 90.0
# What stands in the table of runs: small runs of several kinds, made by the command line.
RUNS = (
    ["run", "manhattan", "--seed", "1"],
    ["run", "manhattan", "--seed", "2", "--set", "beta_per_a=5e7"],
    ["run", "manhattan", "--set", "task=letters"],
    ["run", "stdp-window", "--bench-set", "chip.step_spread=0.1"],
    ["run", "measure-curve", "--bench", "visa-sim"],
    ["run", "read-all", "--bench", "fpga-sim"],
    ["run", "stdp-network"],
    ["sweep", "manhattan", "--seeds", "0:20", "--workers", "1"],
)
CELLS = ((0, 0), (0, 1), (1, 2), (2, 3), (4, 4), (7, 0))


class Camera:
    """The window, and pictures of it."""

    def __init__(self, window: MainWindow, app: QApplication) -> None:
        self.window, self.app = window, app
        window.resize(*SIZE)

    def wait(self, until: Callable[[], bool]) -> None:
        """Let the window live until something is so."""
        end = time.monotonic() + PATIENCE_S
        while not until():
            if time.monotonic() > end:
                raise TimeoutError(f"the window did not get there; it is {self.window.session.state.value}")
            self.app.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)

    def rest(self, seconds: float = 0.7) -> None:
        """Let everything that is on its way be drawn."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def go(self, mode: str) -> None:
        """Show a mode by its action, as a user does."""
        self.window.actions_of.by_name(f"mode.{mode}").trigger()
        self.rest(0.3)

    def look(self, theme_name: str, scale: float = 1.0) -> None:
        """Another theme or text size."""
        self.window.set_look(theme_name, scale)
        self.rest(2.5)  # the status bar measures over seconds, and changing the look is slow

    def shoot(self, name: str) -> None:
        """Take a picture: 256 colours of its own, chosen so that none is off by more than what nobody sees."""
        self.window.strip.hide()  # what was said on the way here
        self.rest(0.2)
        seen = self.window.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
        path = IMAGES / f"window-{name}.png"
        size = seen.width(), seen.height()
        picture = Image.frombuffer("RGB", size, bytes(seen.constBits()), "raw", "RGB", seen.bytesPerLine(), 1)
        few = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        print(f"{path.name}: {size[0]} x {size[1]}, {path.stat().st_size / 1000:.0f} kB")

    def both(self, name: str) -> None:
        """Dark and light."""
        for theme_name in ("light", "dark"):
            self.look(theme_name)
            self.shoot(f"{name}-{theme_name}")

    def front(self, *views: str) -> None:
        """Bring these views to the front of their stacks."""
        for dock in self.window.findChildren(QDockWidget):
            if dock.objectName().split(".")[-1] in views:
                dock.show()
                dock.raise_()
        self.rest(0.3)


def main() -> None:
    """All pictures."""
    with tempfile.TemporaryDirectory() as folder, in_folder(Path(folder)):
        for words in RUNS:
            subprocess.run([sys.executable, "-m", "neurobench", *words], check=False, capture_output=True)
        app = program.application()
        window = program.opened(program.Asked(theme="dark", scale=1.0, folder=Path("runs")), Preferences())
        camera = Camera(window, app)
        try:
            for scene in (training, instruments, by_hand, all_runs, lab, twice):
                scene(camera)
        finally:
            window.session.close_all(lambda: None)
            camera.wait(lambda: window.session.state not in LIVE)
            window.close()


@contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Work there, with settings of its own."""
    before = Path.cwd()
    os.environ["NEUROBENCH_HOME"] = str(folder / "home")
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run_to_the_end(camera: Camera, asked: Request) -> None:
    """Start a run and wait until all of it is shown."""
    session = camera.window.session
    camera.wait(lambda: session.state is BenchState.READY)
    assert session.start(asked)
    camera.wait(lambda: session.state is BenchState.READY and session.snapshot is not None)
    camera.wait(lambda: session.snapshot is not None and not session.snapshot.live)


def training(camera: Camera) -> None:
    """Thirty noisy letters have been learned; some cells are chosen; shown as it stood in the middle."""
    run_to_the_end(camera, request("manhattan", settings=["task=letters"]))
    session = camera.window.session
    camera.window.selection.set(CELLS)
    assert session.snapshot is not None
    session.show_at(session.snapshot.last_seq * 2 // 3)
    camera.front("crossbar", "traces", "progress", "schedule")
    camera.both("bench")
    session.show_at(None)
    camera.front("activations", "energy")
    camera.rest()


def instruments(camera: Camera) -> None:
    """Simulated instruments: who they are and what their self-test found."""
    camera.go("connect")
    page = camera.window.mode("connect").page
    assert isinstance(page, ConnectPage)
    page.choose("visa-sim")
    page.connect_bench()
    camera.wait(lambda: camera.window.session.state is BenchState.READY)
    camera.both("connect")


def by_hand(camera: Camera) -> None:
    """The simulated bench by hand: all cells read, some pulsed."""
    session, window = camera.window.session, camera.window
    camera.go("characterise")
    page = window.mode("characterise").page
    assert isinstance(page, CharacterisePage)
    assert session.hand_open()
    camera.wait(lambda: session.state is BenchState.RUNNING)

    def ask(**asked: Any) -> None:
        page.hand.ask(asked)
        camera.wait(lambda: not page.hand.busy)

    ask(do="read", cells="all", averages=4)
    chosen = [(0, 0), (1, 1), (2, 2)]
    for count in (1, 2, 4, 8):
        ask(do="pulse", cells=chosen, sign=1, count=count, amplitude_v=2.0, width_s=1e-3, preview=False)
        ask(do="read", cells="all", averages=4)
    window.selection.set(chosen)
    camera.rest(1.0)
    camera.both("characterise")
    session.hand_close()
    camera.wait(lambda: session.state is BenchState.READY)


def all_runs(camera: Camera) -> None:
    """The table of runs, two of them laid over each other."""
    camera.go("runs")
    page = camera.window.mode("runs").page
    assert isinstance(page, RunsPage)
    camera.rest(2.0)
    runs = sorted(camera.window.session.runs_folder.glob("*-manhattan-s*.nbr"))
    page.select(runs[:2])
    for tabs in page.findChildren(QTabWidget):
        titles = [tabs.tabText(at) for at in range(tabs.count())]
        if "Overlay" in titles:
            tabs.setCurrentIndex(titles.index("Overlay"))
    camera.rest(3.0)
    camera.both("runs")


def lab(camera: Camera) -> None:
    """A device of the library with its fit."""
    camera.go("lab")
    page = camera.window.mode("lab").page
    assert isinstance(page, LabPage)
    camera.rest(3.0)
    page.devices.choose("ag-a-si")
    camera.rest(2.5)
    camera.both("lab")


def twice(camera: Camera) -> None:
    """The Connect page at twice the text size."""
    camera.go("connect")
    camera.look("dark", 2.0)
    camera.shoot("connect-200")
    camera.look("dark", 1.0)


if __name__ == "__main__":
    main()
