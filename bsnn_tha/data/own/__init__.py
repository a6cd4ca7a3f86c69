"""Data of one's own, by name in a configuration: no code is needed.

================  ==========================================  ==============================
``data.name``     what ``data.options.path`` leads to         module
================  ==========================================  ==============================
``image-folder``  a folder of images, one folder a class      :mod:`~.image_folder`
``arrays``        an ``.npz``, or a folder of ``.npy``        :mod:`~.arrays`
``event-table``   a table of event files with their classes   :mod:`~.event_table`
``tonic``         (``data.options.dataset``: one of tonic's)  :mod:`~.tonic_sets`
================  ==========================================  ==============================

Anything else is a function of one's own, ``module:function`` (:mod:`bsnn_tha.data`).
:func:`~bsnn_tha.data.own.detect.detect` finds out which of them a path is.
"""
