"""What a person sees in the terminal: endings, tables, and a chip that learns, drawn with rich.

Nothing here decides anything; every function is given the values that `--json` would print.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from neurobench.bench.stimulus import FloatArray
from neurobench.runs.drawing import si_scale

BARS = "▁▂▃▄▅▆▇█"
SHOWN_ROWS, SHOWN_COLS = 24, 20  # of a grid, in a terminal
NUMBERS = 6  # columns up to which a cell shows its number
SHOWN_PATTERNS = 12
PACE_S = 0.25  # of the demonstration: an emulated update takes 0.1 ms, which nobody sees
SLOW_UPDATES = 4  # the first updates change most, and stay four times as long
COLOURS = {"finished": "green", "not_converged": "yellow", "aborted": "magenta", "fault": "red", "refused": "red"}

# ---------------------------------------------------------------------------------------------- words and numbers


def si(value: Any, unit: str) -> str:
    """A number with an SI prefix, three digits: 3.27e-9, "A" -> 3.27 nA."""
    if value is None or not math.isfinite(value):
        return "unknown"
    if value == 0:
        return f"0 {unit}"
    power = min(max(math.floor(math.log10(abs(value)) / 3), -5), 3)
    return f"{value / 1000**power:.3g} {'fpnµm kMG'[power + 5].strip()}{unit}"


def spark(values: Sequence[float], width: int = 50) -> str:
    """Values as a row of blocks, from zero to the largest; the last `width` of them."""
    shown = list(values)[-width:]
    top = max([*shown, 1e-300])
    return "".join(BARS[min(int(max(value, 0.0) / top * len(BARS)), len(BARS) - 1)] for value in shown)


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def state(text: str) -> Text:
    """A status in its colour."""
    return Text(text.replace("_", " "), style=COLOURS.get(text, "default"))


def word(value: Any) -> str:
    """One value in a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {word(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return _list(value)
    return str(value)


def _list(value: Sequence[Any]) -> str:
    grid = np.shape(value) if value and isinstance(value[0], list) else (len(value),)
    if len(grid) > 1 or len(value) > 12:
        return f"{' x '.join(map(str, grid))} values"
    return ", ".join(word(item) for item in value) or "none"


def table(console: Console, values: Mapping[str, Any], title: str = "") -> None:
    """Names and values, one to a line."""
    grid = Table(box=None, show_header=False, title=title or None, title_justify="left", pad_edge=False)
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(name.replace("_", " "), Text(word(value)))  # an instrument may answer what looks like markup
    console.print(grid)


def listing(console: Console, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], none: str) -> None:
    """Rows under headings; `none` is said where there are no rows."""
    if not rows:
        console.print(none)
        return
    grid = Table(box=None, pad_edge=False, header_style="cyan")
    for n, column in enumerate(columns):
        grid.add_column(column.replace("_", " "), overflow="fold", no_wrap=n == 0)
    for row in rows:
        cells = (state(row[c]) if c == "status" and row[c] in COLOURS else Text(word(row[c])) for c in columns)
        grid.add_row(*cells)
    console.print(grid)


def waveforms_seen(console: Console, found: Mapping[str, Any]) -> None:
    """What `waveform preview` found: lines and cells of every pair as a table, then limits and a refusal."""
    seen = [
        (pair["dt_s"], one, curve)
        for pair in found["pairs"]
        for one in pair["stimuli"]
        for curve in (*one["lines"], *one["cells"])
    ]
    rows = [
        {
            "dt": f"{dt_s * 1e3:.4g} ms",
            "what": curve.get("line") or curve["cell"],
            "lowest": f"{curve['min_v']:.4g} V",
            "highest": f"{curve['max_v']:.4g} V",
            "for": f"{one['duration_s']:.4g} s",
            "times": one["repeat"],
        }
        for dt_s, one, curve in seen
    ]
    listing(console, rows, ("dt", "what", "lowest", "highest", "for", "times"), "no pair sends anything")
    told = ("bench", "peak_v", "reach_s", "refused", "figure")
    table(console, {name: found[name] for name in told if found[name] is not None} | found["limits"])


def bench_checked(console: Console, found: Mapping[str, Any]) -> None:
    """What `check` found: the instruments as a table, then everything else."""
    if rows := found.get("instruments"):
        listing(console, rows, ("role", "model", "resource", "answers", "self_test", "verdict"), "")
        for row in rows:
            if "link" in row:
                console.print(_link_words(row["link"]))
        console.print()
    rest = {name: value for name, value in found.items() if name != "instruments"}
    if rows and "details" in rest:  # who is there stands in the table above
        rest["details"] = {k: v for k, v in rest["details"].items() if k not in ("instruments", "resources")}
    table(console, rest)


def _link_words(link: Mapping[str, Any]) -> str:
    less = "" if link["baud"] == link["baud_asked"] else f" ({link['baud_asked']} were asked for)"
    return (
        f"link: {link['baud']} baud{less}, round trip {1e3 * link['round_trip_s']:.3g} ms; {link['requests']} "
        f"requests, {link['repeated']} repeated; unreadable frames: {link['bad_here']} here, "
        f"{link['bad_at_the_board']} there"
    )


# ---------------------------------------------------------------------------------------------- endings


def run_ended(console: Console, said: Mapping[str, Any]) -> None:
    """What a run did, in a few lines."""
    result = said["result"] or {}
    mark = Text(" (simulated)" if said["simulated"] else "", style="dim")
    console.print(Text.assemble(f"{said['protocol']} on {said['bench']}", mark, ": ", state(said["status"])))
    if said["error"]:
        console.print(Text(str(said["error"]), style="red"))
    for sentence in said["harm"]:
        console.print(Text(f"the chip was hurt: {sentence}", style="red"))
    for line in _result_lines(result):
        console.print(line)
    energy = f"{si(said['energy_j'], 'J')} ({said['energy_basis']})" if said["energy_j"] is not None else "unknown"
    console.print(f"{said['pulses']} pulses, energy {energy}, {si(said['wall_s'], 's')}")
    console.print(Text(f"run file: {said['run_file']}", style="dim"))


def run_shown(console: Console, said: Mapping[str, Any]) -> None:
    """All of a run: how it ended, what it was asked, and every value of its result."""
    run_ended(console, said)
    about = {name: said[name] for name in ("created", "command", "chip", "multiply")}
    table(console, about, "\nasked")
    table(console, said["parameters"], "\nparameters")
    table(console, said["result"] or {}, "\nresult")


def compared(console: Console, said: Mapping[str, Any]) -> None:
    """Runs side by side: the settings that differ, then the results."""
    runs = said["runs"]
    results = {name: {run: said["results"][run].get(name) for run in runs} for name in _names(said["results"])}
    for title, values in ((f"settings that differ ({said['same']} do not)", said["settings"]), ("results", results)):
        rows = [{title: name, **found} for name, found in values.items()]
        listing(console, rows, (title, *runs), "settings: no difference")
        console.print()


def _names(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for values in results.values() for name in values))


def _result_lines(result: Mapping[str, Any]) -> list[str]:
    lines = []
    if result.get("updates") is not None:
        how = "converged" if result.get("converged") else "not converged"
        lines.append(f"{how} after {_counted(result['updates'], 'update')}")
    if result.get("error_per_epoch"):
        lines.append(f"error {spark(result['error_per_epoch'])} {result['error_per_epoch'][-1]:.3g}")
    right = [f"{name} {100 * result[key]:.0f} %" for name, key in ACCURACIES if result.get(key) is not None]
    lines += [f"accuracy: {', '.join(right)}"] if right else []
    lines += [f"preflight: {result['preflight']}"] if result.get("preflight") else []
    return lines


ACCURACIES = (("train", "train_accuracy"), ("test", "test_accuracy"))


def sweep_ended(console: Console, said: Mapping[str, Any]) -> None:
    """The statistics of a sweep, in a few lines."""
    found = said["result"]
    if not found["chips"]:
        console.print(f"no chip has run yet; go on with: neurobench resume {said['run_id']}")
        return
    low, high = (100 * end for end in found["interval"])
    rate = 100 * found["convergence_rate"]
    console.print(
        f"{found['converged']} of {found['chips']} {'simulated ' if said['simulated'] else ''}chips reached the goal: "
        f"{rate:.1f} % ({low:.1f} to {high:.1f} %, {found['interval_kind']})"
    )
    for name, unit in (("updates", ""), ("reads", ""), ("pulses", ""), ("bench_s", "s"), ("wall_s", "s")):
        spread = found["updates"] if name == "updates" else found["cost_per_chip"][name]
        if name != "updates" or spread["median"] is not None or not found["converged"]:
            console.print(_spread_line(name, spread, unit))
    for why, chips in found["reasons"].items():
        console.print(Text(f"{chips} chips: {why}", style="red"))
    if found["chips"] < found["asked"]:
        console.print(f"{found['asked'] - found['chips']} chips to go: neurobench resume {said['run_id']}")
    console.print(Text(f"one of them again: {said['example']}\nsweep file: {said['run_file']}", style="dim"))


def _spread_line(name: str, spread: Mapping[str, Any], unit: str) -> str:
    if spread["median"] is None:
        return f"  {name:8} none"
    low, middle, high = ((si(spread[key], unit) if unit else f"{spread[key]:.4g}") for key in ("p5", "median", "p95"))
    what = "to the goal" if name == "updates" else "per chip"
    return f"  {name:8} median {middle} {what} (5 % {low}, 95 % {high})"


def stepper(step: Callable[[int, str], None]) -> Callable[[str, Any], None]:
    """Turn the notes of a run into the steps of a progress bar."""

    def watch(name: str, value: Any) -> None:
        if name == "epoch" and isinstance(value, Mapping):
            step(int(value.get("index", 0)), f"error {value.get('error', float('nan')):.3g}")

    return watch


# ---------------------------------------------------------------------------------------------- a chip that learns


@dataclass
class Learning:
    """The live view of a training: error so far, conductances as read back, every pattern with its activations."""

    title: str
    targets: FloatArray | None = None
    preflight: str = ""
    update: int = 0
    errors: list[float] = field(default_factory=list)
    activations: FloatArray | None = None
    conductance_s: FloatArray | None = None
    before_s: FloatArray | None = None

    def hear(self, name: str, value: Any) -> bool:
        """Take in a note; True where it changes the picture."""
        if name == "targets":
            self.targets = np.asarray(value)
        elif name == "preflight":
            self.preflight = str(value.get("sentence", ""))
        elif name in ("start", "epoch"):
            self._epoch(value)
        return name in ("preflight", "start", "epoch")

    def _epoch(self, value: Mapping[str, Any]) -> None:
        self.update = int(value.get("index", self.update + 1))
        if "error" in value:
            self.errors.append(float(value["error"]))
        if "activations" in value:
            self.activations = np.array(value["activations"])
        if "conductance_s" in value:
            self.before_s, self.conductance_s = self.conductance_s, np.array(value["conductance_s"])

    def __rich__(self) -> RenderableType:
        sides = Table.grid(padding=(0, 2))
        sides.add_row(self._cells(), self._patterns())
        error = f"{self.errors[-1]:.3g}" if self.errors else ""
        lines = [Text(self.title, style="bold"), Text(self.preflight, style="dim")]
        return Group(*lines, Text(), sides, Text(), Text(f"epoch {self.update:3}   error {spark(self.errors)} {error}"))

    def _cells(self) -> RenderableType:
        """Numbers where they fit a terminal, else coloured blocks."""
        if self.conductance_s is None:
            return Text()
        shown = self.conductance_s[:SHOWN_ROWS, :SHOWN_COLS]
        factor, unit = si_scale(shown)
        grid = Table(title=f"conductances in {unit}, read back", box=None, title_style="cyan", show_header=False)
        low, high = float(shown.min()), float(shown.max())
        span = (high - low) or 1.0
        numbers = shown.shape[1] <= NUMBERS
        if not numbers:
            grid.add_column(no_wrap=True)
        for i, row in enumerate(shown):
            cells = [
                _cell(f"{factor * g:5.0f}{_arrow(self._moved(i, j), g)}" if numbers else "  ", (g - low) / span)
                for j, g in enumerate(row)
            ]
            grid.add_row(*cells if numbers else [Text().join(cells)])
        return grid

    def _moved(self, i: int, j: int) -> float:
        if self.conductance_s is None or self.before_s is None:
            return 0.0
        return float(self.conductance_s[i, j] - self.before_s[i, j])

    def _patterns(self) -> RenderableType:
        if self.activations is None:
            return Text()
        grid = Table(title="patterns: f of every neuron", box=None, title_style="cyan", show_header=False)
        for _ in range(1 + self.activations.shape[1]):
            grid.add_column(no_wrap=True)
        for n, row in enumerate(self.activations[:SHOWN_PATTERNS]):
            asked = np.zeros_like(row) if self.targets is None else self.targets[n]
            right = bool((row * asked > 0).all())
            bars = [_activation(f, target) for f, target in zip(row, asked, strict=True)]
            grid.add_row(f"{n:2}", *bars, Text("✓", style="green") if right else Text("✗", style="red"))
        if len(self.activations) > SHOWN_PATTERNS:
            grid.add_row("…")
        return grid


def _arrow(moved_s: float, conductance_s: float) -> str:
    """Which way a cell moved, where it moved by more than 1 %."""
    threshold = 0.01 * abs(conductance_s)
    return "▲" if moved_s > threshold else "▼" if moved_s < -threshold else " "


def _cell(text: str, share: float) -> Text:
    """One cell on a background from dark (lowest) to bright (highest)."""
    red, green, blue = (int(a + share * (b - a)) for a, b in ((20, 60), (40, 160), (70, 220)))
    return Text(text, style=f"white on rgb({red},{green},{blue})")


def _activation(f: float, target: float) -> Text:
    """An activation from -1 to 1 as a bar that grows from the middle, green where its sign is the target's."""
    half = 5
    filled = round(min(abs(f), 1.0) * half)
    left, right = (" " * (half - filled) + "█" * filled, " " * half) if f < 0 else (" " * half, "█" * filled)
    return Text(f"{left}│{right:<{half}}{f:+.2f}", style="green" if f * target > 0 else "red")


def live(console: Console, title: str, pace_s: float) -> tuple[Live, Callable[[str, Any], None]]:
    """A live picture, and what to call with every note; `pace_s`: how long each picture stays."""
    picture = Learning(title)
    shown = Live(picture, console=console, auto_refresh=False, transient=False)

    def watch(name: str, value: Any) -> None:
        if picture.hear(name, value) and shown.is_started:
            shown.refresh()
            time.sleep(pace_s * (4 if picture.update <= SLOW_UPDATES else 1))

    return shown, watch


def lines(console: Console) -> Callable[[str, Any], None]:
    """The same for an output that is no terminal: one plain line for each update."""

    def watch(name: str, value: Any) -> None:
        if name == "preflight":
            console.print(f"preflight: {value.get('sentence', '')}")
        if name == "epoch":
            right = f", accuracy {100 * value['accuracy']:.0f} %" if "accuracy" in value else ""
            console.print(f"epoch {value['index']:3}: error {value['error']:.3g}{right}")

    return watch


def lesson(console: Console, acts: Sequence[Mapping[str, Any]]) -> None:
    """What happened in the demonstration, and what to try next."""
    for n, said in enumerate(acts, start=1):
        console.print(f"\n{n}. {_learned(said)}")
        console.print(f"   Before the first pulse it said: {(said['result'] or {}).get('preflight')}.")
    extra = "none, they need: pip install 'neurobench-hil[plot]'"
    console.print("\nNothing here was measured on a chip: both chips are emulated from published measurements.")
    for said in acts:
        console.print(f"Run file: {said['run_file']}   figures: {said['figures'] or extra}")
    console.print(
        "\nTry next:  neurobench run manhattan --set preset=seed    (the published settings, which rarely converge)\n"
        "           neurobench sweep manhattan --seeds 0:100      (100 chips: how often, not whether)\n"
        f"           neurobench show {acts[-1]['run_id']}"
    )


def _learned(said: Mapping[str, Any]) -> str:
    result = said["result"] or {}
    learned = "learned" if result.get("converged") else "did not learn"
    margin, needed = si(result.get("margin_a"), "A"), si(result.get("required_a"), "A")
    right = result.get("train_accuracy")
    named = f"; it names {100 * right:.0f} % of the patterns rightly" if right is not None else ""
    return (
        f"The chip {learned} its patterns in {_counted(result.get('updates', 0), 'update')} and {said['pulses']} "
        f"pulses{named}.\n   Learned means: every pattern {needed} clear of zero on three fresh reads; the worst one "
        f"has {margin}."
    )
