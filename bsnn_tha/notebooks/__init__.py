"""Five notebooks that run from the installed package alone, on a CPU, in under three minutes each.

``bsnn-tha notebooks`` copies them to a folder. A cell tagged ``parameters`` has the numbers
that their time depends on.
"""
