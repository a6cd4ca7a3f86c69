"""Networks of the papers by name, written out in the notation of :mod:`bsnn_tha.nn.notation`.

A name stands for its layers wherever a notation is asked for. The networks have
ten outputs (but for ``yolo-v2``); a slash and a number ask for others: ``vgg9/101``.

=========================  ====================================================
name                       from
=========================  ====================================================
``vgg7``, ``vgg9``         LT-SNN, Table 3
``mobilenet-light``        LT-SNN, Table 3
``yolo-v2``                LT-SNN, Table 3; its 576 outputs are a head for boxes
                           (:mod:`bsnn_tha.detection.head`) of 6 × 8 cells
``vgg11``                  LT-SNN, Tables 4 and 7, which do not list its layers:
                           those of Deng et al. (2022), TET
``resnet19``               LT-SNN, Table 4, and LTMD, Table 4: that of Zheng et
                           al. (2021), for ``norm = "tdbn"``
``vgg16``                  LTMD, Table 4, which does not list its layers: the
                           convolutions of Simonyan and Zisserman (2014), with
                           fully connected layers for images of 32 × 32
``ltmd-mnist``             LTMD, Section 4.1, which has no sizes: those are ours
``densenet-static``        LTMD, Table 1, with first layers, growth and fully
                           connected layers from its authors' code for CIFAR-10
``densenet-neuromorphic``  LTMD, Table 1, the rest likewise; first layers ours
=========================  ====================================================

Their convolutions keep the size of maps (``P``), unlike THA's. The tables do not say
so, but only so do the counts of parameters come out that LT-SNN prints, with events on
48 × 48 places. What comes out and what does not: ``docs/networks``.
"""

from __future__ import annotations

NETWORKS: dict[str, str] = {
    "vgg7": ("32C3P-32C3P-AP2-64C3P-64C3P-AP2-128C3P-128C3P-AP2-256C3P-256C3P-AP2-FC256-FC10"),
    "vgg9": (
        "32C3P-64C3P-64C3P-AP2-128C3P-128C3P-AP2-256C3P-256C3P-AP2-512C3P-512C3P-AP2-FC512-FC10"
    ),
    "vgg11": ("64C3P-128C3P-AP2-256C3P-256C3P-AP2-512C3P-512C3P-AP2-512C3P-512C3P-AP2-FC10"),
    "vgg16": (
        "64C3P-64C3P-AP2-128C3P-128C3P-AP2-256C3P-256C3P-256C3P-AP2-"
        "512C3P-512C3P-512C3P-AP2-512C3P-512C3P-512C3P-AP2-FC512-FC512-FC10"
    ),
    "yolo-v2": (
        "32C3P-MP2-64C3P-MP2-128C3P-64C1-128C3P-MP2-256C3P-128C1-256C3P-MP2-"
        "512C3P-256C1-512C3P-256C1-MP2-1024C3P-512C1-1024C3P-AP2-FC512-FC576"
    ),
    "mobilenet-light": "32C3P-64DW-64DW-AP2-128DW-128DW-AP2-256DW-AP2-FC256-FC10",
    "resnet19": "128C3P-128R-128R-128R-256RS2-256R-256R-512RS2-512R-GAP-FC256-FC10",
    "ltmd-mnist": "256C3P-AP2-256C3P-AP2-256C3P-AP2-FC2048-FC10",
    "densenet-static": "256C3P-256C3PS2-12DB32-T-12DB32-T-24DB32-GAP-FC256-FC10",
    "densenet-neuromorphic": ("64C3P-64C3PS2-6DB32-T-12DB32-T-24DB32-T-16DB32-GAP-FC256-FC10"),
}
