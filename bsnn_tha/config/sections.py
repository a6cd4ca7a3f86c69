"""The tables of a configuration and their keys, each with its type and its default."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bsnn_tha.choices import names_code
from bsnn_tha.equations.lif import Reset
from bsnn_tha.equations.quantizers import Quantizer, choose_quantizer
from bsnn_tha.equations.threshold_gradient import Window
from bsnn_tha.functional.running import Route
from bsnn_tha.nn.neurons import Sharing
from bsnn_tha.nn.neurons.neuron import Emission, SurrogateCentre
from bsnn_tha.nn.per_layer import PerLayer
from bsnn_tha.nn.weights.init import WeightInit
from bsnn_tha.nn.window import Output

Options = dict[str, Any]
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

    With ``output = "membrane"`` the last layer integrates and does not fire: lists of
    thresholds, of their rules, of surrogates and resets have no value for it.
    Here and below, a setting of layers is one value, a list, or a table by kind of layer:
    see :mod:`bsnn_tha.nn.per_layer`.
    """

    notation: str
    weights: str = "binary"
    weight_bits: int | None = None
    weight_options: Options = {}
    norm: PerLayer[str] = "per-step"
    norm_options: Options = {}
    dropout: PerLayer[float] = 0.0
    moderate_dropout: float = 0.0
    init: PerLayer[WeightInit] = "glorot"
    output: Output = "spikes"
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

    Nothing by default. With ``mixup`` a > 0 still images are blended in pairs, by a share that
    is Beta(a, a) distributed, and so are the losses of their classes (:mod:`bsnn_tha.data.mixup`).
    """

    shift: int = 0
    flip: bool = False
    cutout: int = 0
    drop: float = 0.0
    jitter: int = 0
    mixup: float = 0.0


class SnapshotsSection(Section):
    """``[snapshots]``: of how many iterations, samples and neurons per layer.

    They shape no result. See :mod:`bsnn_tha.training.callbacks.snapshots`.
    """

    count: int = Field(default=50, ge=0)
    samples: int = Field(default=4, ge=1)
    neurons: int = Field(default=8, ge=1)


class Tables(Section):
    """All tables of a run's configuration."""

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
