"""Make the pictures of the README and of the pages with the program itself: `make pictures`."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from neurobench.runs import waves
from neurobench.runs.figures import draw
from neurobench.runs.launch import launch
from neurobench.runs.request import prepare, request
from neurobench.runs.screen import Learning

IMAGES = Path(__file__).parent / "images"
SHOWN_UPDATE = 5  # a picture from the middle of the training, where something can still be learned


def main() -> None:
    """Run the demonstration's second act; draw its live view as it stood in the middle, and its conductances."""
    views: list[Learning] = []
    picture = Learning("thirty noisy letters on 10 x 6 cells of a measured metal-oxide device (emulated)")

    def watch(name: str, value: Any) -> None:
        if picture.hear(name, value) and picture.update == SHOWN_UPDATE and not views:
            views.append(picture)
            (IMAGES / "demo.svg").write_text(as_svg(picture), encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        path, _ = launch(prepare(request("manhattan", settings=["task=letters"])), Path(folder), watch)
        drawn = draw(path, Path(folder))
        found = next(file for file in drawn if "conductances" in file.name)
        (IMAGES / "conductances.png").write_bytes(found.read_bytes())
    stdp_pictures()


def stdp_pictures() -> None:
    """For docs/stdp.md: what a spike pair puts on lines and cells, and the window of a chip whose devices differ."""
    waves.draw(waves.preview("exponential", [0.01]), IMAGES / "waveforms.png")
    with tempfile.TemporaryDirectory() as folder:
        noisy = ["readout.adc_bits=12", "readout.adc_range_a=2e-6", "chip.step_spread=0.1"]
        path, _ = launch(prepare(request("stdp-window", bench_settings=noisy)), Path(folder))
        (drawn,) = draw(path, Path(folder), ["window"])
        (IMAGES / "window.png").write_bytes(drawn.read_bytes())


def as_svg(picture: Learning) -> str:
    """What a terminal of 110 columns shows."""
    console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(picture)
    drawn = console.export_svg(title="neurobench demo")
    # The picture must stand alone: no font is fetched from anywhere.
    return re.sub(r"@font-face\s*{.*?}", "", drawn, flags=re.DOTALL)


if __name__ == "__main__":
    main()
