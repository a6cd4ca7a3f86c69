"""The temporal coding experiment of Section 4.1, over seeds and over settings.

``python -m studies.temporal_coding report`` trains every case over ten seeds
and writes the report; ``python -m studies.temporal_coding search`` looks for a
setting that solves the task.
"""
