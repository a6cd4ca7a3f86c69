"""From a trained network to additions on bits, with proof that it is the same network.

======================  ==========================================================
:mod:`.network`         what a deployed network is: the arrays and what they mean
:mod:`.reference`       it, run in plain NumPy: the specification
:mod:`.fold`            a trained network as such arrays, in floating point
:mod:`.integer`         the same in whole numbers, of proven widths
:mod:`.bounds`          why those widths hold
:mod:`.bits`            ±1 weights as bits
:mod:`.packed`          a file of it, whose layout is :mod:`.manifest`
:mod:`.restore`         from such a file back to the trained network
:mod:`.infer`           compiled inference over packed bits, also step by step
:mod:`.deployment`      what a target (packed, C, NIR) is given, and which there are
======================  ==========================================================

and, with torch, what leads there: :mod:`.fold`, :mod:`.encode` (samples in whole numbers),
:mod:`.measure` (beside the trained network, on the test set), :mod:`.report` (what it needs),
:mod:`.export` (all of that, into a folder), :mod:`.restore`.
"""
