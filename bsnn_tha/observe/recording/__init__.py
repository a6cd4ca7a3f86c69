"""What a network does, as arrays: recorded from a network or read from a run.

:func:`record` runs any network once and returns the traces of chosen neurons.
:class:`Recording` reads the snapshots that a training run took, also while it is
still running; :func:`read_activity` what every neuron did over the test set;
:func:`read_output_recording` the output of every iteration, where that was kept.

Time is counted in time steps from 0, neurons by their flat index within a layer,
training iterations from 0 (iteration γ ran with the threshold θ(γ) of Eq. 4),
layers from 1, as in ``metrics.csv``; L is their number. Files hold plain arrays,
so that :func:`numpy.load` reads them without this package:

``RUN/snapshots/probe.npz``: what does not change from snapshot to snapshot

=========================  =================================================
``inputs``                 of the probe, as the network sees them: still images
                           ``[samples, ...]`` or frames ``[time, samples, ...]``
``static``                 whether they are still images
``num_steps``              T
``step_ms``                one time step in ms, NaN if unknown
``targets``                class of each sample, ``[samples]``; the target trace,
                           ``[time, samples, outputs]``; or of a detector true boxes,
                           ``[samples, boxes, 5]``
``samples``, ``split``     which samples of which split
``dataset``                its name
``class_names``            ``[classes]``, empty if unknown
``layer_names``            ``[L]``, e.g. ``16C5``
``surrogate``              its name
``surrogate_centre``       ``clamped`` or ``moving``
``slopes``                 of the surrogate, ``[L]``
``theta_0``, ``theta_inf``, ``alpha``  of the schedule, ``[L]``; infinite where a layer
                           does not fire
``planned_iterations``     of the whole run
``epoch_iterations``       of an epoch
``shape_1``, ...           of the layer's output for one sample
``neurons_1``, ...         the n neurons whose traces are kept
``rate_neurons_1``, ...    the m neurons whose firing rates are kept
=========================  =================================================

``RUN/snapshots/iteration-000000123.npz``: one training iteration

=========================  =================================================
``iteration``, ``epoch``   from 0
``loss``                   of the iteration's batch
``thresholds``, ``centres``  θ and the surrogate's centre, ``[L]``, as the
                           iteration ran with
``thresholds_1``, ``centres_1``, ...  of each recorded neuron, ``[n]``, where it
                           has its own; ``[L]`` has their mean
``membranes_1``, ...       of the probe, in eval mode with the iteration's
                           weights, ``[time, samples, n]``, float32
``spikes_1``, ...          likewise, uint8
``histograms``             ``[L, bins]``: of the training batch's membranes; the
                           first and the last bin also count what lies beyond
``edges``                  of the bins, ``[L, bins + 1]``
``rates_1``, ...           spikes per time step in the training batch, ``[m]``
``dead_shares``            neurons that never fired in it, ``[L]``; NaN, as the masses
                           are, of a layer without a threshold
``surrogate_masses``       mean surrogate gradient in it, ``[L]``
``found``                  of a detector, boxes in the probe, ``[boxes, 7]``, float32: which
                           sample, x, y, width, height in shares of the frame, the score,
                           and the class
=========================  =================================================

The training batch's figures are those of its first 16 samples in the forward
pass that was trained on; histograms and surrogate masses are of at most 65,536
of a layer's membrane potentials, evenly spread over time, samples and neurons.

``RUN/activity.npz``: the test set and the selected checkpoint, when a run ends

=========================  =================================================
``samples``, ``time_steps``  of the test set
``layer_names``            ``[L]``
``thresholds``             ``[L]``, infinite where a layer does not fire
``shape_1``, ...           of the layer's output for one sample
``mean_counts_1``, ...     spikes per sample of every neuron, float32
=========================  =================================================
"""

from bsnn_tha.observe.recording.contents import (
    FoundBoxes,
    LayerActivity,
    Probe,
    ProbeLayer,
    Snapshot,
    SnapshotLayer,
)
from bsnn_tha.observe.recording.runs import Recording, read_activity, read_output_recording
from bsnn_tha.observe.recording.traces import (
    LayerTrace,
    evaluating,
    record,
    record_answer,
    spread,
)

__all__ = [
    "FoundBoxes",
    "LayerActivity",
    "LayerTrace",
    "Probe",
    "ProbeLayer",
    "Recording",
    "Snapshot",
    "SnapshotLayer",
    "evaluating",
    "read_activity",
    "read_output_recording",
    "record",
    "record_answer",
    "spread",
]
