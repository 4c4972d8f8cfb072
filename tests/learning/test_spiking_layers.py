"""Spiking layers and networks on the crossbar, on all benches: what fires, what is learnt, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobench.bench.config import load_bench
from neurobench.bench.stimulus import Pulse
from neurobench.errors import CapabilityMissing, ConfigError, Refused, UsageError
from neurobench.interchange.network_files import load_network, save_network
from neurobench.learning.hebbian import hebbian_learner
from neurobench.learning.networks import Kept, SpikingConfig, described, feed_forward, shape_of, stack
from neurobench.learning.neurons import LIF
from neurobench.learning.plasticity import PairStdp
from neurobench.learning.quantised import Levels
from neurobench.learning.spiking import SpikingLayer, spiking_layer
from neurobench.runs.session import Session, session

BENCHES = ("emulator", "visa-sim", "fpga-sim")
FINE = "gokmen-vlasov"


@contextmanager
def bench(tmp_path: Path, shape: tuple[int, int], name: str = "emulator", **more: Any) -> Iterator[Session]:
    settings = {"readout.ideal": True} if name == "emulator" else {}
    with session(name, out=tmp_path, rows=shape[0], cols=shape[1], model=FINE, settings=settings, **more) as opened:
        yield opened


@pytest.mark.parametrize("name", BENCHES)
def test_neurons_fire_as_their_weights_say(name: str, tmp_path: Path) -> None:
    """0.4 + 0.4 a tick reaches the threshold of 1 in the second tick; -0.4 never does."""
    with bench(tmp_path, (4, 4), name) as opened:
        layer = spiking_layer(opened.view, 2, 2, neuron=LIF(tau_s=1.0, drive="delta"))
        opened.do(layer.write([[0.4, -0.4], [0.4, -0.4]]))
        raster = opened.do(layer.present(np.ones((6, 2))))
    assert raster[:, 0].tolist() == [False, True] * 3
    assert not raster[:, 1].any()


@pytest.mark.parametrize("name", BENCHES)
def test_the_input_that_comes_before_the_spike_gains_and_the_one_after_it_loses(name: str, tmp_path: Path) -> None:
    rule = PairStdp(a_plus=0.2, a_minus=0.2, w_min=-1.0, w_max=1.0)
    with bench(tmp_path, (4, 4), name) as opened:
        layer = spiking_layer(opened.view, 3, 1, gain=4.0, rule=rule)
        before = opened.do(layer.write([[0.0], [0.5], [0.0]])).weights
        # row 0 two ticks before the spike that row 1 causes, row 2 two ticks after it
        train = np.zeros((6, 3))
        train[0, 0] = train[2, 1] = train[4, 2] = 1
        raster = opened.do(layer.present(train))
        pulses = opened.do(layer.update_weights_stdp(opened.rng))
        after = opened.do(layer.read())
    assert raster[:, 0].tolist() == [False, False, True, False, False, False]
    assert pulses > 0
    assert after[0, 0] - before[0, 0] > 0.05
    assert after[2, 0] - before[2, 0] < -0.05


def test_a_learning_rate_scales_what_is_fired_and_nothing_is_fired_twice(tmp_path: Path) -> None:
    with bench(tmp_path, (20, 20)) as opened:
        layer = spiking_layer(opened.view, 20, 10, gain=2.0)
        opened.do(layer.write(np.full((20, 10), 0.2)))
        train = opened.rng.random((50, 20)) < 0.2
        opened.do(layer.present(train))
        wanted = layer.wanted.copy()
        opened.do(layer.update_weights_stdp(opened.rng, learning_rate=0.5))
        assert opened.do(layer.update_weights_stdp(opened.rng)) == 0
        moved = opened.do(layer.read()) - 0.2
    assert abs(wanted).max() > 0.01
    assert np.corrcoef(moved.ravel(), wanted.ravel())[0, 1] > 0.7


def test_weights_of_few_bits_are_written_to_their_levels(tmp_path: Path) -> None:
    with bench(tmp_path, (10, 10)) as opened:
        layer = spiking_layer(opened.view, 10, 5, bits=2)
        held = opened.do(layer.write(opened.rng.uniform(-1, 1, (10, 5)))).weights
    levels = Levels(-1.0, 1.0, 2).nearest(held)
    assert abs(held - levels).max() < 0.2
    np.testing.assert_allclose(np.unique(levels), [-1, -1 / 3, 1 / 3, 1])


def test_a_recurrent_spike_comes_one_tick_later_and_only_where_there_is_a_synapse(tmp_path: Path) -> None:
    with bench(tmp_path, (8, 8)) as opened:
        layer = spiking_layer(opened.view, 1, 3, gain=3.0, recurrent_prob=0.5, rng=np.random.default_rng(2), rule=None)
        assert layer.connected is not None
        wanted = np.zeros((4, 3))
        wanted[0, 0] = 0.5  # the input makes neuron 0 fire
        wanted[1:] = 0.5  # all recurrent ones asked for; only those that exist are written
        held = opened.do(layer.write(wanted)).weights
        first = opened.do(layer.forward([1.0]))
        second = opened.do(layer.forward([0.0]))
    assert not layer.connected.diagonal().any()
    assert abs(held[1:][~layer.connected]).max() < 0.02
    assert first.tolist() == [True, False, False]
    np.testing.assert_array_equal(second, layer.connected[0])
    assert layer.connections == 3 + layer.connected.sum()


def classes(rng: np.random.Generator, n: int) -> list[tuple[Any, int]]:
    """Three rate patterns on 16 inputs."""
    patterns = np.random.default_rng(0).random((3, 16)) > 0.6
    return [(rng.random((20, 16)) < np.where(patterns[k % 3], 0.5, 0.05), k % 3) for k in range(n)]


def test_a_network_learns_patterns_and_goes_on_from_its_file_on_another_chip(tmp_path: Path) -> None:
    layers = feed_forward(16, [20], 3)
    train, test = classes(np.random.default_rng(1), 30), classes(np.random.default_rng(2), 15)
    with bench(tmp_path, shape_of(layers)) as opened:
        network = stack(layers, opened.view, opened.rng)
        opened.do(network.program())
        untrained = opened.do(network.evaluate(test))
        scores = [opened.do(network.train_epoch(train, rate=0.3)) for _ in range(3)]
        trained = opened.do(network.evaluate(test))
        predicted = opened.do(network.predict(test[1][0]))
        file = save_network(tmp_path / "net.npz", opened.do(network.kept()))
    assert trained.accuracy >= 0.9 > untrained.accuracy
    assert trained.loss < untrained.loss
    assert scores[-1].loss < scores[0].loss
    assert trained.confusion.sum() == 15
    assert predicted == 1
    with bench(tmp_path, shape_of(layers), seed=9) as opened:
        network = stack(layers, opened.view, opened.rng)
        assert opened.do(network.restore(load_network(file))) == 0
        assert opened.do(network.evaluate(test)).accuracy >= 0.9


def test_statistics_are_counted_not_printed_from_constants(tmp_path: Path) -> None:
    """The seed prints 394 neurons and 65,536 connections for 128-256-128-10; it is 128 more and 66,816."""
    layers = feed_forward(128, [256, 128], 10)
    with bench(tmp_path, shape_of(layers)) as opened:
        network = stack(layers, opened.view, opened.rng)
        said, note = network.statistics(), network.note()
    assert (said["inputs"], said["neurons"], said["connections"]) == (128, 394, 66_816)
    assert said["cells"] == 2 * 66_816
    assert [layer["neurons"] for layer in note["layers"]] == [128, 256, 128, 10]
    assert note["connections"][1]["rows"] == [128, 384]
    assert note["connections"][1]["cols"] == [512, 768]


def test_a_mixed_stack_from_a_list_runs(tmp_path: Path) -> None:
    layers = [
        {"type": "spiking", "n_inputs": 12, "n_neurons": 8, "bits": 4},
        {"type": "reservoir", "input_size": 8, "reservoir_size": 15, "output_size": 4},
    ]
    with bench(tmp_path, shape_of(layers)) as opened:
        network = stack(layers, opened.view, opened.rng)
        opened.do(network.program())
        out = opened.do(network.forward(opened.rng.random(12)))
        file = save_network(tmp_path / "mixed.npz", opened.do(network.kept()))
        assert opened.do(network.restore(load_network(file))) >= 0
        with pytest.raises(UsageError, match="train_output"):
            opened.do(network.train_epoch([]))
    assert out.output.shape == (4,)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "at least one layer"),
        ([{"type": "spiking", "n_inputs": 4, "n_neurons": 0}], "n_neurons"),
        ([{"type": "spiking", "n_inputs": 4, "neurons": 3}], "neurons"),
        ([SpikingConfig(n_inputs=4, n_neurons=3), SpikingConfig(n_inputs=4, n_neurons=2)], "takes 4 inputs"),
        ([{"type": "transformer"}], r"^layers\[0\]: .*'transformer'.*'spiking', 'reservoir'$"),
        ([{"n_inputs": 4, "n_neurons": 2}], r"^layers\[0\]: .*'type'$"),
    ],
)
def test_a_wrong_description_says_where(layers: Any, words: str) -> None:
    with pytest.raises((ConfigError, UsageError), match=words) as told:
        described(layers)
    assert "pydantic" not in str(told.value)


def test_sizes_that_no_layer_has_are_told_by_layer() -> None:
    with pytest.raises(ConfigError, match=r"^layers\[0\]: spiking\.n_inputs: .*greater than or equal to 1$"):
        feed_forward(0, [3], 2)


def test_nothing_to_learn_from_is_no_score_of_zero_and_ends_no_session(tmp_path: Path) -> None:
    with bench(tmp_path, (7, 10)) as opened:
        network = stack(feed_forward(4, [3], 2), opened.view, opened.rng)
        for samples, words in (([], "no sample"), ([(np.zeros((0, 4)), 0)], "at least one tick")):
            for asked in (network.train_epoch, network.evaluate):
                with pytest.raises(UsageError, match=words):
                    opened.do(asked(samples))
        assert opened.do(network.evaluate([(np.zeros((2, 4)), 0)])).confusion.sum() == 1


def test_sizes_gains_and_rules_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with bench(tmp_path, (8, 8)) as opened:
        for wrong, words in (({"inputs": 0}, "at least one"), ({"gain": float("nan")}, "gain = nan")):
            with pytest.raises(UsageError, match=words):
                spiking_layer(opened.view, **{"inputs": 2, "neurons": 2, **wrong})
        with pytest.raises(UsageError, match="rule = 'stdp': hebb, oja, sanger"):
            hebbian_learner(opened.view, 2, 2, rule="stdp")  # type: ignore[arg-type]


def test_a_network_that_does_not_fit_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with bench(tmp_path, (8, 8)) as opened, pytest.raises(CapabilityMissing, match="an array of"):
        stack(feed_forward(8, [], 5), opened.view, opened.rng)


def test_neither_predicting_nor_an_epoch_without_it_leaves_anything_to_the_timing_rule(tmp_path: Path) -> None:
    with bench(tmp_path, (8, 10)) as opened:
        network = stack(feed_forward(4, [3], 2), opened.view, opened.rng)
        opened.do(network.program())
        train = np.ones((20, 4))
        hidden = network.layers[0]
        assert isinstance(hidden, SpikingLayer)
        opened.do(network.forward(train))
        asked = hidden.wanted.copy()
        assert asked.any()
        opened.do(network.predict(train))
        opened.do(network.evaluate([(train, 0)]))
        np.testing.assert_array_equal(hidden.wanted, asked)
        opened.do(network.train_epoch([(train, 0)]))
        assert not hidden.wanted.any()


def test_a_refused_update_loses_nothing_of_what_the_rule_has_asked_for(tmp_path: Path) -> None:
    with bench(tmp_path, (4, 4)) as opened:
        layer = spiking_layer(opened.view, 4, 2)
        layer.wanted[:] = 0.5
        layer.weights.using = layer.weights.using._replace(potentiate=Pulse(100.0, 1e-6))
        with pytest.raises(Refused):
            opened.do(layer.update_weights_stdp(opened.rng))
        assert (layer.wanted == 0.5).all()
        assert not layer.held.any()


def npz(**arrays: Any) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy() -> bytes:
    buffer = BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


ABOUT = [
    "[]", "3", "null", "{}", '{"format": "neurobench network 1"}', '{"format": "neurobench network 1", "layers": 3}'
]  # fmt: skip


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_network_is_told_or_read_as_it_was(data: st.DataObject) -> None:
    descriptions = feed_forward(4, [], 2)
    weights = np.linspace(-1, 1, 8).reshape(4, 2)
    with TemporaryDirectory() as folder:
        file = save_network(Path(folder) / "net.npz", Kept(descriptions, [weights], [weights], [weights], [None], {}))
        damaged = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
        try:
            kept = load_network(file)
        except UsageError:
            return
        np.testing.assert_array_equal(kept.weights[0], weights)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 broken", b"not a network" * 50, npy(), *(npz(about=np.array(text)) for text in ABOUT)],
)
def test_a_file_that_is_no_network_is_told(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "wrong.npz"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"wrong\.npz holds no network"):
        load_network(file)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with bench(tmp_path, (8, 8)) as opened:
        kept = opened.do(stack(feed_forward(4, [], 2), opened.view, opened.rng).kept())
    with pytest.raises(UsageError, match="cannot write"):
        save_network(tmp_path / "nowhere" / "net.npz", kept)


def test_a_saved_network_of_another_description_is_refused(tmp_path: Path) -> None:
    with bench(tmp_path, (8, 8)) as opened:
        small = stack(feed_forward(4, [], 2), opened.view, opened.rng)
        opened.do(small.program())
        file = save_network(tmp_path / "small.npz", opened.do(small.kept()))
        with pytest.raises(UsageError, match="this one is"):
            opened.do(stack(feed_forward(3, [], 2), opened.view, opened.rng).restore(load_network(file)))


def test_the_chip_of_a_saved_network_is_in_its_file(tmp_path: Path) -> None:
    with bench(tmp_path, (8, 8), seed=4) as opened:
        network = stack(feed_forward(4, [], 2), opened.view, opened.rng)
        opened.do(network.program())
        kept = load_network(save_network(tmp_path / "net.npz", opened.do(network.kept())))
        truth = opened.truth_s
    assert kept.about["chip_id"] == opened.view.chip_id
    assert kept.about["shape"] == [8, 8]
    read = kept.conductances_s[0]
    np.testing.assert_allclose(read[:4, :4], truth[:4, :4], rtol=1e-6)
    assert np.isnan(read[4:]).all()
    assert abs(kept.asked[0] - kept.weights[0]).max() < 0.05
    assert load_bench("emulator").chip.rows == 4  # the session's settings were its own
