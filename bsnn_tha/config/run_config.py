"""A run's configuration: read, changed, written, and what is built from it."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import tomli_w

from bsnn_tha.config.axes import check_allowed, check_names, code_in
from bsnn_tha.config.dotted import flat, put
from bsnn_tha.config.history import in_todays_keys
from bsnn_tha.config.rules import check_uses, drop_orphaned, drop_unused, with_loss_defaults
from bsnn_tha.config.sections import Tables
from bsnn_tha.config.validation import validated
from bsnn_tha.data.augment import Augmentation
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.losses import LOSSES, Loss, mean_threshold
from bsnn_tha.nn.network import SpikingNetwork

_BYTE_ORDER_MARK = "\ufeff"
"""Some editors begin a UTF-8 file with it; TOML has no such character."""


class RunConfig(Tables):
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
        check_allowed(values, allow_code, where)
        config = _validated(values)
        check_names(config)
        check_uses(config)
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
        for _, name in code_in(values):
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
        drop_unused(values, self)
        for table in values.values():
            if isinstance(table, dict):
                for key in [key for key, value in table.items() if value == {}]:
                    del table[key]
        return tomli_w.dumps(values)

    def code_named(self) -> list[str]:
        """What outside this package the configuration names, ``module:Class`` each."""
        return [name for _, name in code_in(self.model_dump())]

    def with_changes(self, changes: dict[str, Any]) -> RunConfig:
        """A copy with dotted keys replaced, e.g. ``{"neuron.beta": 0.9}``.

        None removes an optional value. The copy is validated as a whole.
        """
        values = self.model_dump(exclude_none=True, mode="json")
        if changes.get("loss.name", self.loss.name) != self.loss.name:
            for key in self.loss.options:  # they go with the loss that had them
                values["loss"].pop(key, None)  # one that is None was not dumped
        for key, value in changes.items():
            put(values, key, value)
        # What a choice had goes with it, where the changes make another.
        drop_orphaned(values, self, _validated(values), changes)
        # This configuration was allowed to name what it names, and who changes it knows.
        return RunConfig.from_dict(values, allow_code=True)

    def flat(self) -> dict[str, Any]:
        """Every setting by its dotted key, as :meth:`with_changes` takes them; None is left out.

        Example:
            >>> from bsnn_tha.presets import load_preset
            >>> load_preset("mnist", "tha").flat()["neuron.beta"]
            0.99
        """
        return flat(self.model_dump(exclude_none=True, mode="json"))

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
            output=network.output,
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
        """The loss that ``[loss]`` names, on what this network gives.

        Raises:
            InvalidValueError: it reads spikes of an output layer that does not fire.
        """
        loss: Loss = LOSSES.make(
            self.loss.name,
            self.loss.options,
            given={
                "mean_threshold": lambda: mean_threshold(network.thresholds()),
                "outputs": network.output_shape,
            },
        )
        if network.output == "membrane" and not loss.needs_membranes:
            key = "readout" if "readout" in self.loss.options else "name"
            value = self.loss.options.get("readout", self.loss.name)
            raise InvalidValueError(
                f"loss.{key} = {value!r} reads output spikes, but network.output = 'membrane' "
                "does not fire; choose one that reads membranes, as cross_entropy with "
                "mean_membrane, or network.output = 'spikes'"
            )
        return loss


def _validated(values: dict[str, Any]) -> RunConfig:
    """The configuration, its types and keys checked, but not what goes with what."""
    return validated(RunConfig, with_loss_defaults(in_todays_keys(values)))
