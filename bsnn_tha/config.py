"""The full description of a run: validated, frozen, and TOML in both directions.

A preset, a ``--config`` file and the ``config.toml`` in a run folder are the
same thing. Types and unknown keys are checked here; the rules of the values
(θ∞ > θ0, β in [0, 1], …) have their home in the classes that use them, which
:meth:`RunConfig.build_network` and friends construct before a run starts.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bsnn_tha.config_history import in_todays_keys
from bsnn_tha.data.augment import Augmentation
from bsnn_tha.equations.quantizers import Quantizer, Weights, choose_quantizer
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import (
    Loss,
    MeanMembraneLoss,
    MembraneLoss,
    SpikeCountLoss,
    TemporalEfficientLoss,
    mean_threshold,
)
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.nn.norms.batch_norm import Norm
from bsnn_tha.nn.per_layer import PerLayer
from bsnn_tha.nn.weights.init import WeightInit
from bsnn_tha.suggest import broken_rule, did_you_mean, quoted

Emission = Literal["spikes", "membrane"]
_BYTE_ORDER_MARK = "\ufeff"
"""Some editors begin a UTF-8 file with it; TOML has no such character."""
Share = Annotated[float, Field(ge=0, lt=1)]


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
    options: dict[str, Any] = {}


class NetworkSection(Section):
    """``[network]``: see :class:`bsnn_tha.SpikingNetwork`.

    Here and below, a setting of layers is one value, a list, or a table by kind of layer:
    see :mod:`bsnn_tha.nn.per_layer`.
    """

    notation: str
    weights: Weights = "binary"
    weight_bits: int | None = None
    norm: Norm = "per-step"
    dropout: PerLayer[float] = 0.0
    moderate_dropout: float = 0.0
    init: PerLayer[WeightInit] = "glorot"

    def quantizer(self) -> Quantizer | None:
        """What the weights are computed with; None for full precision."""
        return choose_quantizer(self.weights, self.weight_bits)

    def weights_in_words(self) -> str:
        """As tables and titles call the weights: ``binary``, ``4-bit``, ``full-precision``."""
        quantizer = self.quantizer()
        if quantizer is None:
            return "full-precision"
        return "binary" if quantizer.bits == 1 else f"{quantizer.bits}-bit"


class NeuronSection(Section):
    """``[neuron]``: see :func:`bsnn_tha.nn.neurons.make_neuron`; values per layer or for all."""

    model: Literal["leaky", "synaptic"] = "leaky"
    beta: PerLayer[float]
    synaptic_decay: PerLayer[float] | None = None
    surrogate: str = "fast_sigmoid"
    slope: PerLayer[float]
    surrogate_scale: PerLayer[float] | None = None
    surrogate_centre: Literal["clamped", "moving"] = "clamped"
    reset_mechanism: Literal["subtract", "zero", "none"] = "subtract"
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
    per: Literal["layer", "neuron"] = "layer"
    penalty_window: Literal["none", "sigmoid", "arctan", "triangle", "piecewise"] = "none"
    fired_only: bool = False


class LossSection(Section):
    """``[loss]``, see :mod:`bsnn_tha.losses`.

    ``spike_count`` (Eq. 30), ``membrane`` (Eq. 29), ``mean_membrane`` (LTMD) or
    ``tet`` (LT-SNN, Eq. 12). With ``divergence`` γ > 0 each batch makes two
    passes, and γ times their symmetric divergence is added (LTMD, Eq. 12).
    """

    name: Literal["spike_count", "membrane", "mean_membrane", "tet"] = "spike_count"
    correct_rate: float = 0.8
    incorrect_rate: float = 0.2
    reduction: Literal["mean", "sum"] = "mean"
    beta: float = 0.45
    divergence: float = Field(default=0.0, ge=0)


class OptimizerSection(Section):
    """``[optimizer]``: Adam or SGD, and the schedule of the learning rate.

    ``schedule`` is ``"cosine"`` (Eq. 28, with ``period``), ``"steps"`` or ``"none"``.
    ``steps`` is a table: after so many epochs, this rate. ``threshold_lr`` is for learned
    thresholds; without it they share ``lr``, and with it they keep their proportion to it.
    ``weight_decay`` times each parameter is added to its gradient.
    """

    name: Literal["adam", "sgd"] = "adam"
    lr: float = Field(gt=0, le=1e37)
    threshold_lr: float | None = Field(None, ge=0, le=1e37)
    betas: tuple[Share, Share] = Field((0.9, 0.999), strict=False)
    momentum: Share = 0.0
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "steps", "none"] = "cosine"
    period: float = Field(10.0, gt=0)
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
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """Validate nested tables; keys of earlier versions are read as today's.

        Raises:
            InvalidValueError: one line on the first thing that is wrong.
        """
        try:
            return cls.model_validate(in_todays_keys(values))
        except ValidationError as error:
            raise InvalidValueError(_one_line(cls, error)) from None

    @classmethod
    def from_toml(cls, text: str, where: str = "configuration") -> RunConfig:
        """Read a configuration from TOML text; ``where`` names it in errors."""
        try:
            values = tomllib.loads(text.removeprefix(_BYTE_ORDER_MARK))
        except tomllib.TOMLDecodeError as error:
            raise InvalidValueError(f"{where} is not valid TOML: {error}") from None
        return cls.from_dict(values)

    @classmethod
    def from_file(cls, path: Path) -> RunConfig:
        """Read a configuration file, e.g. the ``config.toml`` of a run."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise InvalidValueError(f"cannot read configuration {path}: {reason}") from None
        return cls.from_toml(text, str(path))

    def to_toml(self) -> str:
        """The configuration as TOML, complete: every default is written out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True, mode="json"))

    def with_changes(self, changes: dict[str, Any]) -> RunConfig:
        """A copy with dotted keys replaced, e.g. ``{"neuron.beta": 0.9}``.

        None removes an optional value. The copy is validated as a whole.
        """
        values = self.model_dump(exclude_none=True, mode="json")
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
        return RunConfig.from_dict(values)

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
        return SpikingNetwork(
            **self.network.model_dump(),
            input_shape=input_shape,
            **self.neuron.model_dump(),
            **self.threshold.model_dump(),
        )

    def build_augmentation(self) -> Augmentation:
        """What ``[augment]`` does to the batches of training."""
        return Augmentation(**self.augment.model_dump())

    def build_loss(self, network: SpikingNetwork) -> Loss:
        """The loss that ``[loss]`` names, on what this network gives."""
        settings = self.loss
        match settings.name:
            case "spike_count":
                return SpikeCountLoss(settings.correct_rate, settings.incorrect_rate)
            case "membrane":
                return MembraneLoss(settings.reduction)
            case "mean_membrane":
                return MeanMembraneLoss()
            case "tet":
                return TemporalEfficientLoss(
                    lambda: mean_threshold(network.thresholds()),
                    settings.beta,
                )


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
