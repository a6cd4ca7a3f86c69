"""The monitors' figures against scalar loops over a tiny network trained by hand."""

from __future__ import annotations

import copy
import csv
import itertools
import json
import math

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from reference import (
    binary_conv2d_avg_pool,
    binary_linear,
    fast_sigmoid_derivative,
    lif_forward,
    threshold_recurrence,
)
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from bsnn_tha import SpikingNetwork, spike_count_loss
from bsnn_tha.training.callbacks import ThresholdAnnealing, WeightClipping
from bsnn_tha.training.callbacks.monitor import ActivityMonitor, EpochTable
from bsnn_tha.training.callbacks.silencing import SilencingCheck

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

STEPS, BATCH, SAMPLES = 5, 3, 7  # batches of 3, 3 and 1
SHAPE = (1, 6, 6)  # a 5 × 5 map, of which pooling leaves out a border
BETA, SLOPE, LR = 0.9, 2.0, 0.4
THETA_0, THETA_INF, ALPHA = [0.5, 0.9], [2.5, 2.0], [0.2, 0.1]
LAYERS = ("16C2-AP2-3", [(16, 2, 2), (3,)])


def make_network(**changes):
    torch.manual_seed(4)
    settings = {
        "beta": BETA,
        "slope": SLOPE,
        "theta_0": THETA_0,
        "theta_inf": THETA_INF,
        "alpha": ALPHA,
        "norm": "none",
    }
    return SpikingNetwork(LAYERS[0], SHAPE, **(settings | changes))


def make_data(kind):
    """Images that stay the same, with grey values; or sequences of spikes."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (SAMPLES,), generator=generator)
    if kind == "images":
        images = torch.rand(SAMPLES, *SHAPE, generator=generator)
        return images * (images > 0.4), labels
    spikes = (torch.rand(SAMPLES, STEPS, *SHAPE, generator=generator) < 0.3).float()
    spikes[..., :3, :3] = 1  # a corner that saturates some neurons
    return spikes, labels


class Module(LightningModule):
    """A network, trained on counts of spikes."""

    def __init__(self, network, chunk_steps=None, optimizer=torch.optim.SGD, lr=LR):
        super().__init__()
        self.network = network
        self.options = {"chunk_steps": chunk_steps}
        self.optimizer, self.lr = optimizer, lr

    def forward(self, input):
        if input.dim() == 5:
            return self.network(input.transpose(0, 1), **self.options)
        return self.network(input, STEPS, **self.options)

    def training_step(self, batch, index):
        loss = spike_count_loss(self(batch[0]).spikes, batch[1])
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=len(batch[1]))
        return loss

    def validation_step(self, batch, index):
        self(batch[0])

    def test_step(self, batch, index):
        self(batch[0])

    def configure_optimizers(self):
        return self.optimizer(self.parameters(), lr=self.lr)


def loader(data, batch=BATCH):
    return DataLoader(TensorDataset(*data), batch_size=batch)


def make_trainer(folder, callbacks, **options):
    defaults = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return Trainer(**(defaults | options), callbacks=callbacks)


def fit(folder, network, data, *, check=False, module=None, loaders=None, **options):
    """Train with everything watched; the table and its monitor."""
    monitor = ActivityMonitor()
    checks = [SilencingCheck()] if check else []
    table = EpochTable(folder / "metrics.csv", monitor, *checks)
    trainer = make_trainer(folder, [monitor, ThresholdAnnealing(), *checks, table], **options)
    trainer.fit(module or Module(network), *(loaders or [loader(data)]))
    return table, monitor


# The same by hand


def by_hand(network, data, epochs=2, accumulate=1, lr=LR):
    """Train without Lightning: per epoch, what each batch met and what the epoch did."""
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    splits = [slice(start, start + BATCH) for start in range(0, SAMPLES, BATCH)]
    history = []
    for _ in range(epochs):
        met, norms, before = [], [], latents(network)
        for number, split in enumerate(splits, start=1):
            thetas = [layer.neuron.threshold.item() for layer in network.layers]
            met.append((latents(network), biases(network), thetas, data[0][split]))
            loss = spike_count_loss(run(network, data[0][split]).spikes, data[1][split])
            (loss / accumulate).backward()
            if number % accumulate == 0 or number == len(splits):
                squares = [p.grad.square().sum().item() for p in network.parameters()]
                norms.append(math.sqrt(sum(squares)))
                optimizer.step()
                optimizer.zero_grad()
            for layer in network.layers:
                layer.neuron.anneal()
        history.append({"met": met, "norms": norms, "before": before, "after": latents(network)})
    return history


def run(network, input):
    if input.dim() == 5:
        return network(input.transpose(0, 1))
    return network(input, STEPS)


def latents(network):
    return [layer.synapse.latent_weight.detach().clone() for layer in network.layers]


def biases(network):
    return [b if b is None else b.tolist() for b in (m.synapse.bias for m in network.layers)]


def frames_of(sample):
    """The T images of a sample."""
    return [sample] * STEPS if sample.dim() == 3 else list(sample)


def watch_layer(frames, latent, bias, theta):
    """Membranes and spikes of every neuron of a layer, as lists over neurons of lists over time."""
    currents = []
    for frame in frames:
        if latent.dim() == 4:
            maps = binary_conv2d_avg_pool(frame.tolist(), latent.tolist(), 2)
            currents.append([value for rows in maps for row in rows for value in row])
        else:
            currents.append(binary_linear(frame.flatten().tolist(), latent.tolist(), bias))
    return [lif_forward(trace, BETA, theta) for trace in zip(*currents, strict=True)]


def products(frame, latent):
    """Pairs of a nonzero value and a weight that a layer multiplies, one by one."""
    total = 0
    if latent.dim() == 2:
        return sum(latent.shape[0] for value in frame.flatten().tolist() if value != 0)
    outputs, channels, height, width = latent.shape
    rows, columns = frame.shape[1] - height + 1, frame.shape[2] - width + 1
    for y, x in itertools.product(range(rows), range(columns)):
        for c, dy, dx in itertools.product(range(channels), range(height), range(width)):
            if frame[c, y + dy, x + dx] != 0:
                total += outputs
    return total


def figures_of(epoch, thetas_after):
    """Every column that the table should hold, from loops over single neurons."""
    shapes = LAYERS[1]
    counts = [[0] * math.prod(shape) for shape in shapes]
    masses, operations = [[], []], [0, 0]
    for position, (weights, bias, thetas, inputs) in enumerate(epoch["met"]):
        for sample in inputs:
            frames = frames_of(sample)
            for index, shape in enumerate(shapes):
                operations[index] += sum(products(frame, weights[index]) for frame in frames)
                traces = watch_layer(frames, weights[index], bias[index], thetas[index])
                for neuron, (membranes, spikes) in enumerate(traces):
                    counts[index][neuron] += sum(spikes)
                    if position == len(epoch["met"]) - 1:
                        masses[index] += [
                            fast_sigmoid_derivative(u, THETA_0[index], SLOPE) for u in membranes
                        ]
                spikes = torch.tensor([spikes for _, spikes in traces]).T
                frames = [step.view(shape) for step in spikes]
    shown = SAMPLES * STEPS
    neurons = [len(layer) for layer in counts]
    columns = {
        "dead": sum(c == 0 for layer in counts for c in layer) / sum(neurons),
        "activation_sparsity": 1 - sum(map(sum, counts)) / (shown * sum(neurons)),
        "grad_norm": sum(epoch["norms"]) / len(epoch["norms"]),
        # 25 places of 16 kernels of 4 weights; 64 · 3 weights; 5 steps.
        "dense_operations": STEPS * (25 * 16 * 4 + 64 * 3),
    }
    for i in range(2):
        flips = [
            (a >= 0) != (b >= 0)
            for a, b in zip(
                epoch["before"][i].flatten().tolist(),
                epoch["after"][i].flatten().tolist(),
                strict=True,
            )
        ]
        columns |= {
            f"threshold_{i + 1}": thetas_after[i],
            f"rate_{i + 1}": sum(counts[i]) / (shown * neurons[i]),
            f"dead_{i + 1}": sum(c == 0 for c in counts[i]) / neurons[i],
            f"saturated_{i + 1}": sum(c == shown for c in counts[i]) / neurons[i],
            f"surrogate_mass_{i + 1}": sum(masses[i]) / len(masses[i]),
            f"flipped_{i + 1}": sum(flips) / len(flips),
        }
    return columns, [count / SAMPLES for count in operations]


def figures_by_hand(history):
    iteration, expected = 0, []
    for epoch in history:
        iteration += len(epoch["met"])
        schedules = zip(THETA_0, THETA_INF, ALPHA, strict=True)
        thetas = [threshold_recurrence(iteration, *schedule)[-1] for schedule in schedules]
        expected.append(figures_of(epoch, thetas))
    return expected


def energy_by_hand(additions, neurons):
    """nJ: each addition 0.1 pJ and a bit from memory, 10 pJ for 64; each update a product of
    3.1 pJ, an addition, a comparison, and 4 bytes of state read and written."""
    return (additions * (0.1 + 10 / 64) + STEPS * neurons * (3.1 + 2 * 0.1 + 8 * 10 / 8)) / 1000


@pytest.fixture(scope="module", params=["images", "spikes"])
def trained_by_hand(request):
    data = make_data(request.param)
    return request.param, data, figures_by_hand(by_hand(make_network(), data))


@pytest.mark.parametrize("chunk_steps", [None, 2], ids=["whole", "chunks"])
def test_every_column_equals_the_loop(trained_by_hand, chunk_steps, tmp_path):
    kind, data, expected = trained_by_hand
    network = make_network()
    table, monitor = fit(tmp_path, network, data, module=Module(network, chunk_steps))
    for row, (columns, (first, second)) in zip(table.rows, expected, strict=True):
        macs, acs = (first, second) if kind == "images" else (0, first + second)
        once = STEPS if kind == "images" else 1
        energy = energy_by_hand(first / once, 64) + energy_by_hand(second, 3)
        columns = columns | {"effective_macs": macs, "effective_acs": acs, "energy_nj": energy}
        assert {k: row[k] for k in columns} == pytest.approx(columns, rel=1e-5)
        others = {"epoch", "iteration", "train_loss", "lr"}
        assert set(row) == others | set(columns)
    # What could hide a wrong formula: every figure takes a value of its own.
    assert 0 < expected[-1][0]["dead"] < 1
    assert any(0 < columns["saturated_1"] < 1 for columns, _ in expected)
    assert all(expected[0][0][f"flipped_{i}"] > 0 for i in (1, 2))
    rows = monitor.layers()
    assert [row["effective_macs"] + row["effective_acs"] for row in rows] == pytest.approx(
        expected[-1][1]
    )
    assert monitor.workload() == pytest.approx(
        {k: table.rows[-1][k] for k in monitor.workload()}, rel=1e-9
    )


def test_validation_between_is_not_counted(tmp_path):
    data = make_data("spikes")
    alone, _ = fit(tmp_path, make_network(), data)
    ones = torch.ones(4, STEPS, *SHAPE), torch.zeros(4, dtype=torch.long)
    loaders = [loader(data), loader(ones)]
    between, _ = fit(tmp_path, make_network(), data, loaders=loaders, val_check_interval=1)
    assert between.rows == alone.rows


# The gradient norm


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_gradient_norm_is_that_of_each_step_before_clipping(accumulate, tmp_path):
    data = make_data("images")
    fixed = {"theta_inf": None, "alpha": None}
    # A rate of 0: clipping changes nothing but the gradients.
    history = by_hand(make_network(**fixed), data, epochs=1, accumulate=accumulate, lr=0.0)
    norms = history[0]["norms"]
    assert len(norms) == (3 if accumulate == 1 else 2)
    network = make_network(**fixed)
    table, _ = fit(
        tmp_path,
        network,
        data,
        module=Module(network, lr=0.0),
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=min(norms) / 10,
    )
    assert table.rows[0]["grad_norm"] == pytest.approx(sum(norms) / len(norms), rel=1e-5)


# What is measured, and when


def test_full_precision_weights_have_no_signs_to_flip(tmp_path):
    table, monitor = fit(tmp_path, make_network(weights="float"), make_data("images"))
    assert not any(name.startswith("flipped") for name in table.rows[0])
    assert all("flipped_share" not in row for row in monitor.layers())


def test_an_evaluation_has_activity_and_cost_but_no_training_figures(tmp_path):
    monitor, data = ActivityMonitor(), make_data("images")
    make_trainer(tmp_path, [monitor]).test(Module(make_network()), loader(data), verbose=False)
    epoch = by_hand(make_network(), data, epochs=1, lr=0.0)[0]
    epoch["met"] = [(w, b, THETA_0, inputs) for w, b, _, inputs in epoch["met"]]
    columns, operations = figures_of(epoch, THETA_0)
    for index, row in enumerate(monitor.layers(), start=1):
        assert row == pytest.approx(
            {
                "neurons": (64, 3)[index - 1],
                "threshold": THETA_0[index - 1],
                "firing_rate": columns[f"rate_{index}"],
                "dead_share": columns[f"dead_{index}"],
                "saturated_share": columns[f"saturated_{index}"],
                "spikes_per_sample": columns[f"rate_{index}"] * STEPS * (64, 3)[index - 1],
                "effective_macs": operations[0] if index == 1 else 0,
                "effective_acs": operations[1] if index == 2 else 0,
                "dense_operations": STEPS * (1600, 192)[index - 1],
                # An image meets its weights once.
                "energy_nj": energy_by_hand(
                    operations[index - 1] / (STEPS, 1)[index - 1], (64, 3)[index - 1]
                ),
            },
            rel=1e-5,
        )
    json.dumps(monitor.layers())


def test_an_epoch_cut_short_has_no_surrogate_mass(tmp_path):
    table, _ = fit(tmp_path, make_network(), make_data("images"), max_steps=4, max_epochs=-1)
    assert "surrogate_mass_1" in table.rows[0]
    assert all("surrogate_mass_1" not in row for row in table.rows[1:])


class Boom(Callback):
    """Fails on the epoch's last batch."""

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.is_last_batch:
            raise ZeroDivisionError


def test_nothing_is_left_on_the_network_after_training_or_an_error(tmp_path):
    for callbacks in ([], [Boom()]):
        network, monitor = make_network(), ActivityMonitor()
        trainer = make_trainer(tmp_path, [monitor, SilencingCheck(), *callbacks])
        if callbacks:
            with pytest.raises(ZeroDivisionError):
                trainer.fit(Module(network), loader(make_data("images")))
        else:
            trainer.fit(Module(network), loader(make_data("images")))
        for layer in network.layers:
            assert not layer.show_membranes
            assert not layer._forward_hooks


class Windows(Callback):
    """Whether training steps saw recorded membranes of the output."""

    def __init__(self):
        self.recorded = []

    def setup(self, trainer, pl_module, stage):
        pl_module.network.register_forward_hook(
            lambda network, args, window: self.recorded.append(window.membranes is not None)
        )


@pytest.mark.parametrize("chunk_steps", [None, 2])
def test_membranes_are_shown_to_the_monitor_only(chunk_steps, tmp_path):
    windows, network = Windows(), make_network()
    trainer = make_trainer(tmp_path, [windows, ActivityMonitor()])
    trainer.fit(Module(network, chunk_steps), loader(make_data("images")))
    assert windows.recorded == [False] * 6


def test_watching_changes_nothing(tmp_path):
    networks = []
    for watched in (False, True):
        network = make_network(norm="per-step", dropout=0.5)
        module, data = Module(network, optimizer=torch.optim.Adam, lr=0.05), make_data("spikes")
        seed_everything(3, verbose=False)
        if watched:
            fit(tmp_path, network, data, module=module, check=True)
        else:
            make_trainer(tmp_path, [ThresholdAnnealing()]).fit(module, loader(data))
        networks.append(network.state_dict() | {"random": torch.get_rng_state()})
    for name, value in networks[0].items():
        assert torch.equal(value, networks[1][name]), name


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_are_watched_exactly(precision, tmp_path):
    """Batch norm gives float32 under autocast, which would round a product to bfloat16."""
    data = torch.ones(300, *SHAPE), torch.zeros(300, dtype=torch.long)
    network = make_network(theta_0=1e-3, theta_inf=2e-3, norm="per-step", weights="binary")
    with torch.no_grad():
        network.layers[0].norm.weight.zero_()
        network.layers[0].norm.bias.fill_(5.0)
    table, monitor = fit(
        tmp_path,
        network,
        data,
        module=Module(network, lr=0.0),
        loaders=[loader(data, 150)],
        precision=precision,
        check=True,
        max_epochs=1,
    )
    assert monitor.meters[0].counts.unique().tolist() == [300 * STEPS]
    assert table.rows[0]["saturated_1"] == 1.0
    assert table.rows[0]["effective_acs"] == STEPS * (25 * 16 * 4 + 64 * 3)
    assert table.rows[0]["silenced_next_1"] == 0


# The table


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_resumed_table_has_the_rows_up_to_the_checkpoint_then_its_own(tmp_path):
    def train(epochs, ckpt_path=None, check=False):
        monitor = ActivityMonitor()
        checks = [SilencingCheck()] if check else []
        table = EpochTable(tmp_path / "metrics.csv", monitor, *checks)
        keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        callbacks = [monitor, ThresholdAnnealing(), *checks, table, keep]
        trainer = make_trainer(tmp_path, callbacks, max_epochs=epochs, enable_checkpointing=True)
        torch.manual_seed(0)
        trainer.fit(
            Module(make_network()),
            loader(make_data("images")),
            ckpt_path=ckpt_path,
            weights_only=True,
        )
        return read(tmp_path / "metrics.csv")

    whole = train(4)
    assert [row["epoch"] for row in whole] == ["0", "1", "2", "3"]
    checkpoint = tmp_path / "epoch=1.ckpt"
    # The file is ahead of the checkpoint by two rows.
    assert train(4, checkpoint) == whole
    assert train(2, checkpoint) == whole[:2]
    more = train(3, checkpoint, check=True)
    assert [row["silenced_next_1"] != "" for row in more] == [False, False, True]
    assert [{k: row[k] for k in whole[0]} for row in more] == whole[:3]
    json.dumps(torch.load(checkpoint, weights_only=True)["callbacks"]["EpochTable"])


class Recording(DummyLogger):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, *args, **kwargs):
        metrics = dict(args[0] if args else kwargs["metrics"])
        step = args[1] if len(args) > 1 else kwargs["step"]
        self.logged += [(name, step, value) for name, value in metrics.items()]


def test_loggers_get_every_figure_once_per_epoch_at_the_step_of_the_loss(tmp_path):
    logger = Recording()
    options = {"logger": logger, "accumulate_grad_batches": 2, "log_every_n_steps": 1}
    table, _ = fit(tmp_path, make_network(), make_data("images"), check=True, **options)
    steps = {name: [s for n, s, _ in logger.logged if n == name] for name, _, _ in logger.logged}
    names = set(table.rows[0]) - {"epoch", "iteration"}
    assert {name: steps[name] for name in names} == {name: [1, 3] for name in names}
    values = {(name, step): value for name, step, value in logger.logged}
    assert values["rate_1", 3] == table.rows[1]["rate_1"]


# Several processes


class SilentSecond(Module):
    """The second process is given silence."""

    def training_step(self, batch, index):
        images, labels = batch
        return super().training_step((images * (1 - self.global_rank), labels), index)


class Rank(Callback):
    """Gives each process a file of its own, and writes down the row it has."""

    def __init__(self, table):
        self.table, self.folder = table, table.path.parent

    def setup(self, trainer, pl_module, stage):
        self.table.path = self.folder / f"rank-{trainer.global_rank}.csv"

    def on_train_epoch_end(self, trainer, pl_module):
        path = self.folder / f"rank-{trainer.global_rank}.json"
        path.write_text(json.dumps(self.table.rows[0]))


def test_processes_give_joint_figures_and_one_file(tmp_path):
    images, labels = torch.ones(4, *SHAPE), torch.zeros(4, dtype=torch.long)
    halves = torch.cat([images, 0 * images]), torch.cat([labels, labels])

    def train(data, module, **options):
        monitor, check = ActivityMonitor(), SilencingCheck()
        table = EpochTable(tmp_path / "metrics.csv", monitor, check)
        callbacks = [monitor, ThresholdAnnealing(), check, table, Rank(table)]
        trainer = make_trainer(tmp_path, callbacks, max_epochs=1, **options)
        network = make_network(theta_inf=[10.0, 2.0])
        trainer.fit(module(network, lr=0.0), loader(data, len(data[0])))
        return table

    # The same samples in one process; in two, each process steps with its own.
    alone = train(halves, Module).rows[0]
    (tmp_path / "rank-0.csv").unlink()
    options = {"strategy": "ddp_fork", "devices": 2, "use_distributed_sampler": False}
    train((images, labels), SilentSecond, **options)
    joint = {k: v for k, v in alone.items() if k not in ("train_loss", "grad_norm")}
    for rank in (0, 1):
        row = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        assert {k: row[k] for k in joint} == pytest.approx(joint, rel=1e-5)
    assert 0 < joint["dead_1"] < 1
    assert joint["silenced_final_1"] > 0
    assert joint["saturated_1"] == 0  # to fire always in one process is not enough
    assert len(read(tmp_path / "rank-0.csv")) == 1
    assert not (tmp_path / "rank-1.csv").exists()


# Silenced neurons


def silenced_by_hand(network, data, optimizer, weight_clip):
    """Neurons of each layer that fire on the last batch of an epoch, and not after its step."""
    for start in range(0, len(data[0]), BATCH):
        split, seen = slice(start, start + BATCH), []
        hooks = [
            layer.register_forward_hook(lambda m, args, window, seen=seen: seen.append(args[0]))
            for layer in network.layers
        ]
        before = copy.deepcopy([layer.state_dict() for layer in network.layers])
        loss = spike_count_loss(run(network, data[0][split]).spikes, data[1][split])
        for hook in hooks:
            hook.remove()
        optimizer.zero_grad()
        loss.backward()
        if weight_clip is not None:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.clamp_(-weight_clip, weight_clip)
        optimizer.step()
        for layer in network.layers:
            layer.neuron.anneal()
    counts = {}
    for index, layer in enumerate(network.layers):
        old, new = before[index], layer.state_dict()
        fired = fires(seen[index], old, old["neuron.rule.threshold"].item())
        for name, theta in (("next", "neuron.rule.threshold"), ("final", "neuron.rule.theta_inf")):
            fire = fires(seen[index], new, new[theta].item())
            lost = [a and not b for a, b in zip(fired, fire, strict=True)]
            counts[f"silenced_{name}_{index + 1}"] = sum(lost)
    return counts


def fires(inputs, state, theta):
    """Which neurons of a layer fire at θ, from complete traces with reset."""
    signs = torch.where(state["synapse.latent_weight"] >= 0, 1.0, -1.0)
    currents = []
    for frame in [inputs] * STEPS if inputs.dim() == 4 else inputs:
        if signs.dim() == 2:
            current = frame.flatten(1) @ signs.T + state["synapse.bias"]
        else:
            current = F.avg_pool2d(F.conv2d(frame, signs), 2)
        if "norm.weight" in state and signs.dim() == 4:
            scale = state["norm.weight"], state["norm.bias"]
            current = F.batch_norm(current, None, None, *scale, training=True)
        currents.append(current.flatten(1))
    traces = torch.stack(currents).permute(2, 1, 0).tolist()  # [neuron][sample][time]
    return [any(sum(lif_forward(t, BETA, theta)[1]) > 0 for t in neuron) for neuron in traces]


SILENCING = {
    "plain": {},
    "batch_norm": {"norm": "per-step"},
    "large_steps": {"alpha": [0.6, 0.6]},
}


@pytest.mark.parametrize("kind", ["images", "spikes"])
@pytest.mark.parametrize("changes", SILENCING.values(), ids=SILENCING.keys())
@pytest.mark.parametrize("chunk_steps", [None, 2], ids=["whole", "chunks"])
@pytest.mark.parametrize("clip", [None, 0.8], ids=["free", "clipped"])
def test_silenced_neurons_are_those_of_the_traces(kind, changes, chunk_steps, clip, tmp_path):
    data, lr = make_data(kind), 0.4
    network = make_network(**changes)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    expected = silenced_by_hand(network, data, optimizer, clip)
    network, check = make_network(**changes), SilencingCheck()
    clipping = [] if clip is None else [WeightClipping(clip)]
    callbacks = [*clipping, ThresholdAnnealing(), check]
    module = Module(network, chunk_steps, torch.optim.Adam, lr)
    make_trainer(tmp_path, callbacks, max_epochs=1).fit(module, loader(data))
    assert check.columns() == expected


def test_a_step_that_changes_nothing_silences_nobody(tmp_path):
    """With dropout on one side of the comparison only, it would."""
    network = make_network(dropout=0.5, norm="per-step", alpha=1e-12)
    check = SilencingCheck()
    trainer = make_trainer(tmp_path, [ThresholdAnnealing(), check])
    trainer.fit(Module(network, lr=0.0), loader(make_data("images")))
    assert check.columns()["silenced_next_1"] == check.columns()["silenced_next_2"] == 0
    assert check.columns()["silenced_final_1"] > 0


def test_only_annealed_layers_are_checked(tmp_path):
    check = SilencingCheck()
    network = make_network(theta_inf=None, alpha=None)
    make_trainer(tmp_path, [ThresholdAnnealing(), check]).fit(
        Module(network), loader(make_data("images"))
    )
    assert check.columns() == {}


# Networks with branches

BRANCHES = "4C3P-4DW-4RS2-4R-2DB2-GAP-3"


def branched(**changes):
    settings = {"theta_0": 0.3, "theta_inf": 0.6, "alpha": 0.1, "weights": "float"}
    torch.manual_seed(4)
    return SpikingNetwork(BRANCHES, SHAPE, **({"beta": BETA, "slope": SLOPE} | settings | changes))


def inputs_by_hand(network, frames):
    """Spikes that each layer's weights read, and those that its shortcut's read."""
    met, spikes = [], []
    for layer in network.layers:
        read, skipped = (
            None if reads is None else torch.cat([spikes[i] for i in reads], 2)
            for reads in (layer.reads or None, layer.shortcut and layer.shortcut.reads)
        )
        met.append((frames if read is None else read, skipped))
        spikes.append(layer.forward(met[-1][0], skipped=skipped).spikes)
    return met


def products_of(synapse, inputs):
    """Products of nonzero inputs ``[time, batch, ...]`` and nonzero weights."""
    present, weight = (inputs != 0).double().flatten(0, 1), (synapse.weight != 0).double()
    if weight.dim() == 2:
        places = present[0].numel() // weight.shape[1]  # of the maps whose mean is read
        return (present.flatten(1) @ weight.repeat_interleave(places, 1).T).sum().item()
    settings = {"stride": synapse.stride, "padding": synapse.padding, "groups": synapse.groups}
    return F.conv2d(present, weight, **settings).sum().item()


def test_operations_of_branches_are_those_of_what_each_connection_reads(tmp_path):
    network, (inputs, labels) = branched(norm="none"), make_data("spikes")
    monitor = ActivityMonitor()
    make_trainer(tmp_path, [monitor]).test(Module(network), loader((inputs, labels)), verbose=False)
    rows = monitor.layers()
    met = inputs_by_hand(network.eval(), inputs.transpose(0, 1))
    projections = 0
    for layer, row, (read, skipped) in zip(network.layers, rows, met, strict=True):
        expected = products_of(layer.synapse, read)
        dense = products_of(layer.synapse, torch.ones_like(read))
        if layer.shortcut is not None and layer.shortcut.connection is not None:
            projections += 1
            expected += products_of(layer.shortcut.connection.synapse, skipped)
            dense += products_of(layer.shortcut.connection.synapse, torch.ones_like(skipped))
        assert 0 < expected < dense
        assert row["effective_acs"] == pytest.approx(expected / SAMPLES)
        assert row["dense_operations"] == pytest.approx(dense / SAMPLES)
    assert projections == 1 and all(row["spikes_per_sample"] > 0 for row in rows)


@pytest.mark.parametrize("norm", ["per-step", "tdbn"])
def test_a_step_that_changes_nothing_silences_nobody_behind_a_shortcut(norm, tmp_path):
    network, check = branched(norm=norm, alpha=1e-12), SilencingCheck()
    trainer = make_trainer(tmp_path, [ThresholdAnnealing(), check])
    trainer.fit(Module(network, lr=0.0), loader(make_data("spikes")))
    twin = branched(norm=norm, alpha=1e-12)
    make_trainer(tmp_path, [ThresholdAnnealing()]).fit(
        Module(twin, lr=0.0), loader(make_data("spikes"))
    )
    columns = check.columns()
    assert len(columns) == 2 * len(network.layers)
    assert all(not lost for name, lost in columns.items() if "next" in name)
    assert sum(columns.values()) > 0
    for actual, expected in zip(network.buffers(), twin.buffers(), strict=True):
        assert torch.equal(actual, expected)  # running statistics did not see the check
