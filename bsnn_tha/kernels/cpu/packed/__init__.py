"""A deployed network over packed bits: pieces of :func:`bsnn_tha.kernels.cpu.packed_window.window`.

Spikes of a place (a row and a column of a map) are units of 16 bits, one bit for each channel:
neurons decide 16 at a time, and what a filter reaches of a row is a run of whole units. Channels
are filled up to units, outputs to as many lanes; lanes left over have no weights and never fire.

Sums of signs are taken in one of three ways:

=============  =================================================================================
:mod:`lists`   spikes are listed, and each place adds up the rows of signs of those it reaches:
               64 outputs an instruction, no work for what did not spike
:mod:`bits`    each place counts common ones of its spikes and of weights: 512 bits an instruction,
               the same work however many spikes there are
:mod:`values`  inputs that are whole numbers, and convolutions in groups: each goes to the places
               that it reaches
=============  =================================================================================

Averages over places are sums over them. A sum over a window's places is one place of a larger
filter, the sum of the filter's shifted copies, so that lists and values never see what lies
between: pooled maps are the only ones that exist.

Nothing here may import torch, which those who run a packed file may not have.
"""
