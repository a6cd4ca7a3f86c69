"""Everything that is to be known of a GPU, in one command that fits into ten minutes.

    python -m benchmarks.gpu --seconds 540 --out gpu-results

Stages run in the order of what they are worth, each in a process of its own, and write what
they have after every row, so that a run that is cut off leaves the most:

============  =====================================================================
``kernels``   every kernel against tensor operations, values and gradients, all dtypes
``bandwidth`` the neurons' GB/s beside a measured copy
``steps``     training steps of MNIST, SHD and DVS Gesture beside the published step
              loop and SpikingJelly, outputs compared first; memory
``training``  five epochs of MNIST with the published setting: accuracy and seconds
``campaign``  the next unfinished runs of ``bsnn-tha reproduce best``, for the time left
============  =====================================================================

``--dry-run`` tries the same code on a machine without a GPU: Triton's interpreter, tiny sizes.
What it measures then means nothing.
"""
