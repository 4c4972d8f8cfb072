"""The selection as a model: whatever is done to it, it is what a set of cells would be; text means cells and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neurobench.gui.selection import Selection, name_of, parse, words_of

from neurobench.errors import UsageError

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
CELLS = st.tuples(st.integers(0, 5), st.integers(0, 5))
STEPS = st.one_of(
    st.tuples(st.just("toggle"), CELLS),
    st.tuples(st.just("begin"), CELLS),
    st.tuples(st.just("add"), CELLS),
    st.tuples(st.just("extend"), CELLS),
    st.tuples(st.just("all"), st.none()),
    st.tuples(st.just("clear"), st.none()),
    st.tuples(st.just("set"), st.lists(CELLS, max_size=4)),
    st.tuples(st.just("shape"), SHAPES),
)


def block(a: tuple[int, int], b: tuple[int, int]) -> set[tuple[int, int]]:
    rows, cols = sorted((a[0], b[0])), sorted((a[1], b[1]))
    return {(r, c) for r in range(rows[0], rows[1] + 1) for c in range(cols[0], cols[1] + 1)}


class Model:
    """What a selection should be, as sets."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape, self.cells, self.base = shape, set[tuple[int, int]](), set[tuple[int, int]]()
        self.anchor = (0, 0)

    def inside(self, cell: tuple[int, int]) -> bool:
        return cell[0] < self.shape[0] and cell[1] < self.shape[1]

    def clip(self, cell: tuple[int, int]) -> tuple[int, int]:
        return min(cell[0], self.shape[0] - 1), min(cell[1], self.shape[1] - 1)

    def do(self, what: str, arg: object) -> None:
        kept: set[tuple[int, int]] = set()
        if what == "toggle" and self.inside(arg):
            self.cells ^= {arg}
            self.anchor = arg
        elif what in ("begin", "add") and self.inside(arg):
            kept = self.cells if what == "add" else set()
            self.anchor, self.cells = arg, kept | {arg}
        elif what == "extend":
            kept = self.base
            self.cells = kept | block(self.anchor, self.clip(arg))
        elif what == "all":
            self.cells = block((0, 0), (self.shape[0] - 1, self.shape[1] - 1))
        elif what == "clear":
            self.cells = set()
        elif what == "set":
            inside = [cell for cell in arg if self.inside(cell)]
            self.cells = set(inside)
            self.anchor = inside[-1] if inside else self.anchor
        elif what == "shape" and arg != self.shape:
            self.shape = arg
            self.cells = {cell for cell in self.cells if self.inside(cell)}
            self.anchor = self.clip(self.anchor)
        else:
            return
        self.base = kept


def do(selection: Selection, what: str, arg: object) -> None:
    calls = {
        "toggle": selection.toggle, "begin": selection.begin, "extend": selection.extend, "set": selection.set,
        "shape": selection.set_shape, "add": lambda cell: selection.begin(cell, add=True),
    }  # fmt: skip
    if arg is None:
        selection.all() if what == "all" else selection.clear()
    else:
        calls[what](arg)


@settings(max_examples=200, deadline=None)
@given(SHAPES, st.lists(STEPS, max_size=12))
def test_a_selection_is_what_a_set_of_cells_would_be(shape: tuple[int, int], steps: list[tuple[str, object]]) -> None:
    selection, model = Selection(shape), Model(shape)
    for what, arg in steps:
        do(selection, what, arg)
        model.do(what, arg)
        assert selection.cells == tuple(sorted(model.cells)), (what, arg)
        assert selection.count == len(model.cells)
        assert selection.inside(selection.cursor)
        assert selection.shape == model.shape


@settings(max_examples=200, deadline=None)
@given(SHAPES.flatmap(lambda shape: st.tuples(st.just(shape), st.sets(CELLS))))
def test_the_text_of_a_selection_means_the_same_cells(given: tuple[tuple[int, int], set[tuple[int, int]]]) -> None:
    shape, cells = given
    selection = Selection(shape)
    selection.set(cells)
    assert (parse(words_of(selection.mask), shape) == selection.mask).all()


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("W0-3 B1", [(0, 1), (1, 1), (2, 1), (3, 1)]),
        ("w2 b3", [(2, 3)]),
        ("W1", [(1, 0), (1, 1), (1, 2), (1, 3)]),
        ("B0,B2; W3 B3", [(0, 0), (0, 2), (1, 0), (1, 2), (2, 0), (2, 2), (3, 0), (3, 2), (3, 3)]),
        ("W3-2 B0", [(2, 0), (3, 0)]),
        ("", []),
    ],
)
def test_what_can_be_typed(text: str, cells: list[tuple[int, int]]) -> None:
    assert [tuple(cell) for cell in np.argwhere(parse(text, (4, 4))).tolist()] == cells


def test_all_is_every_cell_also_behind_other_words() -> None:
    assert parse("all", (2, 3)).all()
    assert parse("W0 B1, all", (2, 3)).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [("W4", "W4 is outside: this array has word lines W0 to W3"), ("B0-9", "B9 is outside.*bit lines B0 to B3"),
     ("row 3", "'row' names no cells: write W0-3 B1"), ("W1-B2", "'W1-B2' names no cells")],
)  # fmt: skip
def test_what_means_no_cells_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(text, (4, 4))


def test_every_change_is_told_once() -> None:
    selection, told = Selection((4, 4)), []
    selection.changed.connect(lambda: told.append(selection.cells))
    selection.begin((1, 1))
    selection.extend((2, 2))
    selection.move_cursor(1, 0)
    selection.set_shape((4, 4))
    assert told == [((1, 1),), ((1, 1), (1, 2), (2, 1), (2, 2)), ((3, 2),)]
    assert name_of(selection.cursor) == "W3 B2"


def test_another_array_keeps_what_lies_in_both() -> None:
    selection = Selection((4, 4))
    selection.set([(0, 0), (3, 3)])
    selection.set_shape((2, 6))
    assert selection.cells == ((0, 0),)
    assert selection.cursor == (1, 3)
