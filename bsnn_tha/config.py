"""The full description of a run: validated, frozen, and TOML in both directions.

A preset, a ``--config`` file and the ``config.toml`` in a run folder are the
same thing. Types and unknown keys are checked here; the rules of the values
(θ∞ > θ0, β in [0, 1], …) have their home in the classes that use them, which
:meth:`RunConfig.build_network` and friends construct before a run starts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterator
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bsnn_tha.choices import Axis, names_code, parameters
from bsnn_tha.config_history import in_todays_keys
from bsnn_tha.data import LOADERS
from bsnn_tha.data.augment import Augmentation
from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.quantizers import QUANTIZERS, Quantizer, choose_quantizer
from bsnn_tha.equations.surrogate import SURROGATES
from bsnn_tha.equations.threshold_gradient import Window
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.routes import Route
from bsnn_tha.losses import LOSSES, Loss, mean_threshold
from bsnn_tha.losses.readouts import READOUTS
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.nn.neurons import NEURONS, Sharing
from bsnn_tha.nn.neurons.neuron import Emission, SurrogateCentre
from bsnn_tha.nn.norms import NORMS
from bsnn_tha.nn.per_layer import PerLayer
from bsnn_tha.nn.thresholds import RULES
from bsnn_tha.nn.weights.init import WeightInit
from bsnn_tha.suggest import broken_rule, did_you_mean, quoted

_BYTE_ORDER_MARK = "\ufeff"
"""Some editors begin a UTF-8 file with it; TOML has no such character."""

Options = dict[str, Any]
Share = Annotated[float, Field(ge=0, lt=1)]

AXES: dict[str, Axis[Any]] = {
    "data.name": LOADERS,
    "network.weights": QUANTIZERS,
    "network.norm": NORMS,
    "neuron.model": NEURONS,
    "neuron.surrogate": SURROGATES,
    "threshold.rule": RULES,
    "loss.name": LOSSES,
    "loss.readout": READOUTS,
}
"""Keys that take a name of a table, or ``module:Class``; no other key runs code."""


class Section(BaseModel):
    """A table of the file: no unknown keys, no changes after reading."""

    # Strict: "3" is not 3 and true is not 1.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataSection(Section):
    """``[data]``: which samples, how many time steps, in what batches."""

    name: str
    num_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    validation: float = Field(0.1, ge=0, lt=1)
    subset: int | None = Field(None, gt=0)
    options: Options = {}

    @property
    def label(self) -> str:
        """The data set's name as part of a file's name.

        Example:
            >>> DataSection(name="my_data:load", num_steps=1, batch_size=1).label
            'my_data-load'
        """
        return re.sub(r"[^\w.-]+", "-", self.name)


class NetworkSection(Section):
    """``[network]``: see :class:`bsnn_tha.SpikingNetwork`.

    Here and below, a setting of layers is one value, a list, or a table by kind of layer:
    see :mod:`bsnn_tha.nn.per_layer`.
    """

    notation: str
    weights: str = "binary"
    weight_bits: int | None = None
    weight_options: Options = {}
    norm: str = "per-step"
    norm_options: Options = {}
    dropout: PerLayer[float] = 0.0
    moderate_dropout: float = 0.0
    init: PerLayer[WeightInit] = "glorot"
    route: Route = "auto"

    def quantizer(self) -> Quantizer | None:
        """What the weights are computed with; None for full precision."""
        return choose_quantizer(self.weights, self.weight_bits, self.weight_options)

    def weights_in_words(self) -> str:
        """As tables and titles call the weights: ``binary``, ``4-bit``, ``full-precision``.

        Those of a quantizer of one's own are called by its name; its code is not run.
        """
        if names_code(self.weights):
            return self.weights.rpartition(":")[2]
        quantizer = self.quantizer()
        if quantizer is None:
            return "full-precision"
        return "binary" if quantizer.bits == 1 else f"{quantizer.bits}-bit"


class NeuronSection(Section):
    """``[neuron]``: see :func:`bsnn_tha.nn.neurons.make_neuron`; values per layer or for all."""

    model: str = "leaky"
    model_options: Options = {}
    beta: PerLayer[float]
    synaptic_decay: PerLayer[float] | None = None
    surrogate: str = "fast_sigmoid"
    surrogate_options: Options = {}
    slope: PerLayer[float] | None = None
    surrogate_scale: PerLayer[float] | None = None
    surrogate_centre: SurrogateCentre = "clamped"
    reset_mechanism: Reset = "subtract"
    learn_beta: bool = False
    lateral_width: PerLayer[int] = 0
    emits: PerLayer[Emission] = "spikes"


class ThresholdSection(Section):
    """``[threshold]``: the rule (:mod:`bsnn_tha.nn.thresholds`) and its numbers per layer.

    Without a rule θ is annealed if θ∞ and α are given, else it stays at θ0.
    ``per`` gives each neuron a threshold of its own; ``penalty_window`` and
    ``fired_only`` shape the gradient of a learned one
    (:mod:`bsnn_tha.equations.threshold_gradient`). Other keys are arguments of
    the rule, which checks them.
    """

    model_config = ConfigDict(extra="allow")

    rule: str | None = None
    theta_0: PerLayer[float]
    theta_inf: PerLayer[float] | None = None
    alpha: PerLayer[float] | None = None
    per: Sharing = "layer"
    penalty_window: Window = "none"
    fired_only: bool = False

    @property
    def rule_options(self) -> Options:
        """The other keys: arguments of the rule."""
        return dict(self.model_extra or {})


class LossSection(Section):
    """``[loss]``, see :mod:`bsnn_tha.losses`.

    With ``divergence`` γ > 0 each batch makes two passes, and γ times their symmetric
    divergence is added (LTMD, Eq. 12). Other keys are arguments of the loss, which checks
    them.
    """

    model_config = ConfigDict(extra="allow")

    name: str = "spike_count"
    divergence: float = Field(default=0.0, ge=0)

    @property
    def options(self) -> Options:
        """The other keys: arguments of the loss."""
        return dict(self.model_extra or {})


class OptimizerSection(Section):
    """``[optimizer]``: Adam, AdamW or SGD, and the schedule of the learning rate.

    ``schedule`` is ``"cosine"`` (Eq. 28, with ``period``), ``"cosine-to-zero"`` and
    ``"one-cycle"``, which rise over the first ``warmup`` share of the training and end at zero
    with it, ``"steps"`` or ``"none"``. ``steps`` is a table: after so many epochs, this rate.
    ``threshold_lr`` is for learned thresholds; without it they share ``lr``, and with it they
    keep their proportion to it. ``weight_decay`` times each parameter is added to its gradient,
    or, with AdamW, taken off the parameter itself.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(gt=0, le=1e37)
    threshold_lr: float | None = Field(None, ge=0, le=1e37)
    betas: tuple[Share, Share] = Field((0.9, 0.999), strict=False)
    momentum: Share = 0.0
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "cosine-to-zero", "one-cycle", "steps", "none"] = "cosine"
    period: float = Field(10.0, gt=0)
    warmup: Share = 0.05
    steps: dict[str, float] | None = None


class TrainingSection(Section):
    """``[training]``: how long, how clipped, from which seed.

    ``protocol`` says which samples select the checkpoint and stop training: a
    validation split, or, as in the published code, the test set itself.
    ``norm_batches`` training batches measure batch norm's running statistics again
    after each epoch (:mod:`bsnn_tha.training.callbacks.norm_statistics`).
    """

    epochs: int = Field(ge=1)
    protocol: Literal["validation", "paper"] = "validation"
    patience: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    grad_clip: float | None = Field(None, gt=0)
    weight_clip: float | None = Field(None, gt=0)
    accumulate: int = Field(1, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    record_output: bool = False
    check_silencing: bool = False
    chunk_steps: int | None = Field(None, ge=1)
    norm_batches: int | None = Field(None, ge=1)


class AugmentSection(Section):
    """``[augment]``: how training samples are changed (:mod:`bsnn_tha.data.augment`).

    Nothing by default.
    """

    shift: int = 0
    flip: bool = False
    cutout: int = 0
    drop: float = 0.0
    jitter: int = 0


class SnapshotsSection(Section):
    """``[snapshots]``: of how many iterations, samples and neurons per layer.

    They shape no result. See :mod:`bsnn_tha.training.callbacks.snapshots`.
    """

    count: int = Field(default=50, ge=0)
    samples: int = Field(default=4, ge=1)
    neurons: int = Field(default=8, ge=1)


class RunConfig(Section):
    """Everything that shapes a result or is recorded of a run, and nothing else.

    Devices, threads, folders and the data root are left out: they belong to
    the machine, not to the experiment.

    Example:
        >>> config = RunConfig.from_toml('''
        ... variant = "bsnn"
        ... data = {name = "digits", num_steps = 10, batch_size = 32}
        ... network = {notation = "64-10"}
        ... neuron = {beta = 0.9, slope = 5.0}
        ... threshold = {theta_0 = [5.0, 8.0]}
        ... optimizer = {lr = 1e-3}
        ... training = {epochs = 2}
        ... ''')
        >>> RunConfig.from_toml(config.to_toml()) == config
        True
        >>> config.with_changes({"neuron.beat": 0.5})
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: neuron has no key 'beat'; did you mean 'beta'?
    """

    variant: str
    source: str = ""
    data: DataSection
    network: NetworkSection
    neuron: NeuronSection
    threshold: ThresholdSection
    loss: LossSection = LossSection()
    optimizer: OptimizerSection
    training: TrainingSection
    augment: AugmentSection = AugmentSection()
    snapshots: SnapshotsSection = SnapshotsSection()

    @classmethod
    def from_dict(
        cls,
        values: dict[str, Any],
        where: str = "the configuration",
        *,
        allow_code: bool | Collection[str] = False,
    ) -> RunConfig:
        """Validate nested tables; keys of earlier versions are read as today's.

        Args:
            values: the tables.
            where: they come from, for errors.
            allow_code: whether they may name code outside this package, as in
                ``threshold.rule = "my_rules:Rising"``, which building the run will import;
                or the names that they may.

        Raises:
            InvalidValueError: one line on the first thing that is wrong.
        """
        for key, name in _code_in(values):
            if allow_code is False or (allow_code is not True and name not in allow_code):
                raise InvalidValueError(_not_allowed(where, key, name))
        config = _validated(values)
        _check_choices(config)
        return config

    @classmethod
    def from_toml(
        cls,
        text: str,
        where: str = "configuration",
        *,
        allow_code: bool | Collection[str] = False,
    ) -> RunConfig:
        """Read a configuration from TOML text; ``where`` names it in errors."""
        try:
            values = tomllib.loads(text.removeprefix(_BYTE_ORDER_MARK))
        except tomllib.TOMLDecodeError as error:
            raise InvalidValueError(f"{where} is not valid TOML: {error}") from None
        for _, name in _code_in(values):
            lines = (n for n, line in enumerate(text.splitlines(), start=1) if name in line)
            where = f"{where}, line {next(lines, '?')}"
            break
        return cls.from_dict(values, where, allow_code=allow_code)

    @classmethod
    def from_file(cls, path: Path, *, allow_code: bool | Collection[str] = False) -> RunConfig:
        """Read a configuration file, e.g. the ``config.toml`` of a run."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise InvalidValueError(f"cannot read configuration {path}: {reason}") from None
        return cls.from_toml(text, str(path), allow_code=allow_code)

    def to_toml(self) -> str:
        """The configuration as TOML, with every default of what it uses written out."""
        values = self.model_dump(exclude_none=True, mode="json")
        for key, _, used in _USES:
            if not used(self):
                table, leaf = key.split(".")
                values[table].pop(leaf, None)
        for table in values.values():
            if isinstance(table, dict):
                for key in [key for key, value in table.items() if value == {}]:
                    del table[key]
        return tomli_w.dumps(values)

    def code_named(self) -> list[str]:
        """What outside this package the configuration names, ``module:Class`` each."""
        return [name for _, name in _code_in(self.model_dump())]

    def with_changes(self, changes: dict[str, Any]) -> RunConfig:
        """A copy with dotted keys replaced, e.g. ``{"neuron.beta": 0.9}``.

        None removes an optional value. The copy is validated as a whole.
        """
        values = self.model_dump(exclude_none=True, mode="json")
        if changes.get("loss.name", self.loss.name) != self.loss.name:
            for key in self.loss.options:  # they go with the loss that had them
                del values["loss"][key]
        for key, value in changes.items():
            *tables, leaf = key.split(".")
            table = values
            for depth, name in enumerate(tables):
                if not isinstance(table.setdefault(name, {}), dict):
                    raise InvalidValueError(
                        f"{'.'.join(tables[: depth + 1])} is a value, not a table, in {key!r}"
                    )
                table = table[name]
            if value is None:
                table.pop(leaf, None)
            else:
                table[leaf] = value
        # What a choice had goes with it, where the changes make another.
        changed = _validated(values)
        for setting, _, used in _USES:
            if used(self) and setting not in changes and not used(changed):
                section, name = setting.split(".")
                values[section].pop(name, None)
        # This configuration was allowed to name what it names, and who changes it knows.
        return RunConfig.from_dict(values, allow_code=True)

    def flat(self) -> dict[str, Any]:
        """Every setting by its dotted key, as :meth:`with_changes` takes them; None is left out.

        Example:
            >>> from bsnn_tha.presets import load_preset
            >>> load_preset("mnist", "tha").flat()["neuron.beta"]
            0.99
        """
        return _flat(self.model_dump(exclude_none=True, mode="json"))

    def build_network(self, input_shape: tuple[int, ...]) -> SpikingNetwork:
        """The untrained network; weights come from torch's global generator."""
        network, neuron, threshold = self.network, self.neuron, self.threshold
        return SpikingNetwork(
            network.notation,
            input_shape,
            weights=network.weights,
            weight_bits=network.weight_bits,
            weight_options=network.weight_options,
            norm=network.norm,
            norm_options=network.norm_options,
            dropout=network.dropout,
            moderate_dropout=network.moderate_dropout,
            init=network.init,
            route=network.route,
            model=neuron.model,
            model_options=neuron.model_options,
            beta=neuron.beta,
            synaptic_decay=neuron.synaptic_decay,
            surrogate=neuron.surrogate,
            surrogate_options=neuron.surrogate_options,
            slope=neuron.slope,
            surrogate_scale=neuron.surrogate_scale,
            surrogate_centre=neuron.surrogate_centre,
            reset_mechanism=neuron.reset_mechanism,
            learn_beta=neuron.learn_beta,
            lateral_width=neuron.lateral_width,
            emits=neuron.emits,
            rule=threshold.rule,
            rule_options=threshold.rule_options,
            theta_0=threshold.theta_0,
            theta_inf=threshold.theta_inf,
            alpha=threshold.alpha,
            per=threshold.per,
            penalty_window=threshold.penalty_window,
            fired_only=threshold.fired_only,
        )

    def build_augmentation(self) -> Augmentation:
        """What ``[augment]`` does to the batches of training."""
        return Augmentation(**self.augment.model_dump())

    def build_loss(self, network: SpikingNetwork) -> Loss:
        """The loss that ``[loss]`` names, on what this network gives."""
        loss: Loss = LOSSES.make(
            self.loss.name,
            self.loss.options,
            given={"mean_threshold": lambda: mean_threshold(network.thresholds())},
        )
        return loss


# Arguments that no table of their own checks: what they are for, and whether it is there.
_USES: tuple[tuple[str, str, Callable[[RunConfig], bool]], ...] = (
    ("optimizer.momentum", "optimizer.name = 'sgd'", lambda c: c.optimizer.name == "sgd"),
    ("optimizer.betas", "optimizer.name = 'adam' or 'adamw'",
     lambda c: c.optimizer.name in ("adam", "adamw")),
    ("optimizer.period", "optimizer.schedule = 'cosine'",
     lambda c: c.optimizer.schedule == "cosine"),
    ("optimizer.warmup", "optimizer.schedule = 'cosine-to-zero' or 'one-cycle'",
     lambda c: c.optimizer.schedule in ("cosine-to-zero", "one-cycle")),
    ("snapshots.samples", "snapshots.count above 0", lambda c: c.snapshots.count > 0),
    ("snapshots.neurons", "snapshots.count above 0", lambda c: c.snapshots.count > 0),
)  # fmt: skip

_LOSS_GETS = ("mean_threshold",)
"""What a loss is given rather than configured with."""


def _loss_defaults(name: str) -> dict[str, Any]:
    """The arguments of a loss in the table and their defaults; none of one's own."""
    if name not in LOSSES:
        return {}
    known = parameters(LOSSES.find(name)).items()
    return {key: parameter.default for key, parameter in known if key not in _LOSS_GETS}


def _with_loss_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The tables with all arguments of their loss, and of no other.

    Configurations used to be written with the arguments of every loss. One that the named
    loss does not have says nothing where it is the default of another: it is left out.
    """
    loss = values.get("loss", {})
    if not isinstance(loss, dict):
        return values
    named = loss.get("name", LossSection().name)
    if not isinstance(named, str) or named not in LOSSES:
        return values
    own = _loss_defaults(named)
    of_others = [pair for name in LOSSES for pair in _loss_defaults(name).items()]
    given = {k: v for k, v in loss.items() if k in own or (k, v) not in of_others}
    filled = {k: v for k, v in own.items() if v is not Parameter.empty}
    return {**values, "loss": filled | given}


def _validated(values: dict[str, Any]) -> RunConfig:
    """The configuration, its types and keys checked, but not what goes with what."""
    try:
        return RunConfig.model_validate(_with_loss_defaults(in_todays_keys(values)))
    except ValidationError as error:
        raise InvalidValueError(_one_line(RunConfig, error)) from None


def _code_in(values: Any) -> Iterator[tuple[str, str]]:
    """Keys of :data:`AXES` whose value names code, and the names."""
    for key in AXES:
        table, leaf = key.split(".")
        section = values.get(table)
        if isinstance(section, dict):
            yield from ((key, name) for name in _leaves(section.get(leaf)) if names_code(name))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)


def _not_allowed(where: str, key: str, name: str) -> str:
    return (
        f"{where}: {key} = {name!r} names code that is not part of bsnn-tha and would be run; "
        "look at it, then allow it with --allow-code (in Python allow_code=True)"
    )


def _check_choices(config: RunConfig) -> None:
    """Refuse unknown names, and settings that nothing uses, but for their defaults."""
    for key, axis in AXES.items():
        table, leaf = key.split(".")
        for name in _leaves(getattr(getattr(config, table), leaf, None)):
            axis.check_name(name)
    for key, purpose, used in _USES:
        table, leaf = key.split(".")
        section = getattr(config, table)
        value, default = getattr(section, leaf), type(section).model_fields[leaf].default
        if value != default and not used(config):
            raise InvalidValueError(
                f"{key} is for {purpose}, but got {key} = {value!r} without it; leave it out"
            )
    loss = config.loss
    if not names_code(loss.name):
        LOSSES.check(loss.name, loss.options, given=_LOSS_GETS)
        _check_types(LOSSES.find(loss.name), loss.options, "loss")


def _check_types(maker: Any, settings: Options, table: str) -> None:
    """Refuse values of another type than the argument's annotation."""
    hints = get_type_hints(maker)
    for key, value in settings.items():
        rule = TypeAdapter(hints[key], config=ConfigDict(strict=True, allow_inf_nan=False))
        try:
            rule.validate_python(value)
        except ValidationError as error:
            raise InvalidValueError(broken_rule(f"{table}.{key}", error.errors()[0])) from None


def _flat(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _one_line(model: type[BaseModel], error: ValidationError) -> str:
    """The first problem in a validation error, in this project's words."""
    problems = error.errors()
    # A misspelt key is also a missing one: name what was written.
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    # Unions add their branch to the location ("beta", "float"): keep the keys.
    path: list[str] = []
    known: dict[str, Any] = {}
    for part in first["loc"]:
        known = dict(model.model_fields)
        path.append(str(part))
        annotation = known[path[-1]].annotation if path[-1] in known else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        table = ".".join(path[:-1]) or "the configuration"
        return f"{table} has no key {path[-1]!r}{did_you_mean(path[-1], known)}"
    if first["type"] == "missing" and len(path) == len(first["loc"]):
        return f"{key} is missing; add it to the configuration"
    annotation = known[path[-1]].annotation if path[-1] in known else None
    if list[float] in get_args(annotation) and first["type"] != "finite_number":
        return (
            f"{key} must be a number, a list of numbers or a table of numbers by kind of layer, "
            f"but got {quoted(first['input'])}"
        )
    return broken_rule(key, first)
