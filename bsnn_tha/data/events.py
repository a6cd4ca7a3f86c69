"""Event data sets of the papers, and two synthetic stand-ins.

Each is an :class:`~bsnn_tha.data.event_set.EventSet`, a few facts in one place; all share
its :meth:`~bsnn_tha.data.event_set.EventSet.load`, the readers of
:mod:`bsnn_tha.data.recordings` and the cache of :mod:`bsnn_tha.data.event_cache`. Folders
and files are those of :mod:`tonic`, which also knows where to download the first three sets
and their checksums. (N-Cars is not in tonic: its files are as they come in Prophesee's
archive.)

==================  ===========  ==========  ===================  ==========
name                folder       sensor      bins                 classes
==================  ===========  ==========  ===================  ==========
``dvs-gesture``     DVSGesture   2×128×128   5 ms, 2×32×32        11
``shd``             SHD          700         3 ms                 20
``nmnist``          NMNIST       2×34×34     1 ms                 10
``dvs-cifar10``     CIFAR10DVS   2×128×128   43 ms, 2×48×48       10
``n-caltech101``    NCALTECH101  2×180×240   10 ms, 2×48×48       101
``n-cars``          NCARS        2×100×120   10 ms, 2×48×48       2
``spoken-digits``   SpokenDigits as ``shd``, synthetic speech
``saccade-digits``  SaccadeDigits as ``nmnist``, simulated camera
==================  ===========  ==========  ===================  ==========

Bins of ``dvs-gesture``, ``shd`` and ``nmnist`` are those of the papers. LT-SNN and
LTMD give numbers of time steps only: bins here are such that LT-SNN's 30 steps span
a recording of DVS-CIFAR10 (1.3 s; 43 ms) or N-Caltech101 (300 ms), and ten steps one
of N-Cars (100 ms). For T steps of DVS-CIFAR10 set ``bin_ms`` to about 1300 / T: 128
for 10 steps, 160 for 8, 185 for 7. Frames of 48 × 48 are what LT-SNN's counts of
parameters tell. Its frames are binary: ``counted = false``.

Files may also lie there as their authors published them: ``DvsGesture`` with its AEDAT 3.1
files and lists of trials, CIFAR10-DVS as ``.aedat``, ``shd_train.h5.gz``.

DVS-CIFAR10 and N-Caltech101 come in one part; a tenth of every class, the same
recordings whatever the seed, is the test part. The published files of these last
three sets were not at hand: their readers are tested on files made here after their
formats' descriptions.
"""

from __future__ import annotations

from functools import partial as bound

from bsnn_tha.data.class_names import CLASS_NAMES
from bsnn_tha.data.event_set import EventSet
from bsnn_tha.data.folders import (
    AedatRecordings,
    BinRecordings,
    DatRecordings,
    NamedBinRecordings,
)
from bsnn_tha.data.gestures import find_published, read_gestures
from bsnn_tha.data.recordings import HDF5Recordings

_HDF5_PARTS = ("shd_train.h5", "shd_test.h5")

DVS_GESTURE = EventSet(
    name="dvs-gesture",
    title="DVSGesture",
    parts=("ibmGestureTrain", "ibmGestureTest"),
    read=read_gestures,
    num_classes=11,
    bin_ms=5.0,
    downsample=4,
    origin="first",
    published=find_published,
    tonic="DVSGesture",
)
SHD = EventSet(
    name="shd",
    title="SHD",
    parts=_HDF5_PARTS,
    read=HDF5Recordings,
    num_classes=20,
    bin_ms=3.0,
    tonic="SHD",
)
NMNIST = EventSet(
    name="nmnist",
    title="NMNIST",
    parts=("Train", "Test"),
    read=BinRecordings,
    num_classes=10,
    bin_ms=1.0,
    tonic="NMNIST",
)
DVS_CIFAR10 = EventSet(
    name="dvs-cifar10",
    title="CIFAR10DVS",
    parts=("",),
    read=bound(AedatRecordings, classes=CLASS_NAMES["dvs-cifar10"]),
    num_classes=10,
    bin_ms=43.0,
    size=48,
    origin="first",
    obtain="tonic.datasets.CIFAR10DVS(save_to=DATA_ROOT) gets it",
)
N_CALTECH101 = EventSet(
    name="n-caltech101",
    title="NCALTECH101",
    parts=("Caltech101",),
    read=NamedBinRecordings,
    num_classes=101,
    bin_ms=10.0,
    size=48,
    origin="first",
    obtain="tonic.datasets.NCALTECH101(save_to=DATA_ROOT) gets it",
)
N_CARS = EventSet(
    name="n-cars",
    title="NCARS",
    parts=("n-cars_train", "n-cars_test"),
    read=bound(DatRecordings, classes=("background", "cars")),
    num_classes=2,
    bin_ms=10.0,
    size=48,
    origin="first",
    obtain="unpack Prophesee's archive there",
)
SPOKEN_DIGITS = EventSet(
    name="spoken-digits",
    title="SpokenDigits",
    parts=_HDF5_PARTS,
    read=HDF5Recordings,
    num_classes=20,
    bin_ms=3.0,
)
SACCADE_DIGITS = EventSet(
    name="saccade-digits",
    title="SaccadeDigits",
    parts=("Train", "Test"),
    read=BinRecordings,
    num_classes=10,
    bin_ms=1.0,
)
