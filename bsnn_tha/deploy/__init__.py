"""From a trained network to additions on bits, with proof that it is the same network.

======================  ==========================================================
:mod:`.network`         what a deployed network is: the arrays and what they mean
:mod:`.reference`       it, run in plain NumPy: the specification
:mod:`.fold`            a trained network as such arrays, in floating point
:mod:`.integer`         the same in whole numbers, of proven widths
:mod:`.bits`            ±1 weights as bits
======================  ==========================================================

Only :mod:`.fold` needs torch.
"""
