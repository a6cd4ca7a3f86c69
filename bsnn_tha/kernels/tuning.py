"""Every number that speed hangs on: where one way is faster than another, and sizes of blocks.

Whoever changes one measures the two ways that it decides between. ``python -m
benchmarks.routes`` does so for the shares of spikes, on the layers of the papers (what stands
here: one thread, seconds of a 2-core Xeon's processor, minima of five); whole
networks are measured by ``python -m benchmarks.peers``. Sizes of which a comment says so
also decide in which order gradients are summed: other ones change their last bits.

Limits that results depend on (what fits 16 bits, say) stand beside the code they are of.
"""

from __future__ import annotations

# Which way a layer goes (:mod:`bsnn_tha.functional.routes`)

SMALL = 1 << 22
"""Multiplications of a window, zeros included, below which it does not matter which way."""

SPARSE_LIF_SHARE = 0.1
"""Of inputs that spike, up to which a dense layer's one pass is faster than its parts. SHD's
1,000 neurons at 5, 10, 15, 20 and 30%: 2.5, 4.2, 3.3, 2.8 and 2.0 times as fast; under
autocast (an EPYC with bfloat16 instructions) 1.7, 3.6, 3.0, 2.4 and 1.8."""
SPARSE_LIF_FEWEST = 64
"""Neurons: fewer leave most of a block of the one pass empty."""

SPARSE_LINEAR_SHARE = 0.05
"""Of inputs that are not zero, up to which skipping zeros is faster than a product of
matrices; with a margin for other shapes. SHD's 1,000 outputs at 2.5, 5, 10, 15, 20 and 30%: 3.1,
2.7, 2.1, 1.6, 1.4 and 1.0 times as fast, neurons included."""
SPARSE_LINEAR_FEWEST = 64
"""Outputs: for fewer, even counting the zeros costs more than a product."""

SPARSE_CONV_SHARE = 0.2
"""Of inputs that spike, up to which going spike by spike is faster than convolutions, both
ways together. DVS Gesture's and MNIST's second layers at 5, 10, 15, 20 and 30%: 2.4, 2.0, 1.7, 1.6,
1.3 and 2.3, 2.0, 1.9, 1.6, 1.3 times as fast; under autocast (that EPYC) 1.9, 1.5, 1.2, 1.1, 0.8
and 2.4, 2.1, 1.8, 1.6, 1.3."""
WINOGRAD = 3
"""Kernels, not pooled, whose gradients there is a faster algorithm for (``functional/winograd``):
with 32 × 32 places and 32 to 64 channels both ways as fast at 8% of spikes, 1.2 times as fast at
18%; with 8 × 8 and 128 to 256 channels 1.2 times as fast at 3%, 1.5 times at 18%."""
MOST_TAPS = 1 << 18
"""Values of a kernel for 64 outputs whose gradients fit a second-level cache."""

SPIKE_CONV_SMALL = 1 << 30
"""Multiplications below which the library's own convolution is taken. With two threads it is
10% faster for DVS Gesture's layers (0.2 and 0.7 · 10⁹), and slower for MNIST's (17 · 10⁹)."""
PADDED_CONV_SMALL = 1 << 27
"""The same of padded convolutions and those whose gradients go by Winograd's algorithm. Of 32 × 64
channels on 8 × 8 places (2²⁶) both ways 1.5 times as fast, with pooling or a stride as fast."""
SHORT_LINE = 48
"""Values in a line of a patch below which copying patches is slow: maps of few channels."""

# What is worked on together: sizes of caches and registers

LIF_BLOCK = 4096
"""Neurons that go through time together: their state fits a second-level cache."""
LIF_SHORT_ROW = 64
"""Rows of neurons shorter than this are copied together first: short loops are slow."""
LIF_GPU_BLOCK = 128
"""Neurons per program on a GPU; never measured on one."""

SPARSE_LIF_BLOCK = 256
"""Neurons: backward, their part of the weights' gradient and their membranes of one sample
have to fit a second-level cache."""
SPARSE_LIF_AHEAD = 4
"""Steps between asking for gradients and using them: the processor does not see the next ones
coming, which are far away in memory."""
SPARSE_LIF_TOGETHER = 4
"""Blocks whose spikes of a step are written together, forward."""

SPARSE_LINEAR_BLOCK = 512
"""Outputs whose sums and weights are worked on together."""
SPARSE_LINEAR_SAMPLES = 256
"""Samples that a thread takes at a time."""

CONV_VECTOR = 16
"""Channels come in multiples of a vector."""
CONV_MOST_LANES = 64
"""Output channels at a time, at most."""
CONV_PARTS = 16
"""Of the samples whose weights' gradients are summed apart, and that threads take. Of the sums."""
CONV_TOGETHER = 1 << 13
"""Gradients of outputs, with margins, that are worked on together: they fit a first-level cache. Of
the sums."""
CONV_MOST_SUMS = 28
"""Sums that stay in registers: of 32, one is for the weights."""

SPIKE_CONV_TOGETHER = 1 << 20
"""Bytes of patches that are worked on together: they fit a second-level cache. Of the sums."""
SPIKE_CONV_PARTS = 16
"""Of the samples that threads take, and whose weights' gradients are summed apart. Of the sums."""
WINOGRAD_TILES = 64
"""Of maps that are worked on together, or all of one map. VGG-9 and ResNet-19 are as fast with 128,
and 5% slower with 256. Of the sums."""
WINOGRAD_KEPT = 1 << 9
"""Rows of all kernels that are transformed once for all groups of samples: of 36 vectors each, they
fit a second-level cache."""
WINOGRAD_PAYS = 2
"""From how many times fewer multiplications on the input's gradient goes so: MNIST's second
layer's, 4 times, is twice as fast, DVS Gesture's, 1.6 times, 0.9 times as fast."""
WINOGRAD_WEIGHTS = 1 << 20
"""Gradients of weights, at most, for all parts of the samples together. Of the sums."""
WIDENED_TOGETHER = 1 << 20
"""Bytes of spikes that become float32 together for a product: they fit a second-level cache. Of the
sums."""
BYTES_TRIED = 1 << 12
"""Values that are tried before all the others are turned into bytes."""
BYTES_RUN = 1 << 16
"""Values that a thread turns into bytes at a time."""

NORM_PIECE = 64
"""Values of a piece, at least. Of the sums."""
NORM_FEW = 128
"""Pieces that are summed in float32. Of the sums."""
NORM_PARTS = 16
"""Of a window that is normalised as a whole, which threads take. Of the sums."""

NORM_LIF_BLOCK = 2048
"""Neurons behind batch norm that go through time together: their state and their channels' scales
fit a first-level cache."""
NORM_LIF_WINDOW = 1 << 16
"""Membranes of a block at all steps, backward: they fit a second-level cache."""

# Work for which waking a thread pays: values, or additions

LIF_THREAD = 1 << 16
SPARSE_LIF_THREAD = 1 << 20
SPARSE_LINEAR_THREAD = 1 << 20
CONV_THREAD = 1 << 16
SPIKE_CONV_THREAD = 1 << 18
EVENTS_THREAD = 1 << 18
DROPOUT_THREAD = 1 << 16
NORM_THREAD = 1 << 16
POOL_THREAD = 1 << 17
