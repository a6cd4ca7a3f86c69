"""The temporal coding experiment of Section 4.1, over seeds and over settings.

``python -m bsnn_tha.campaigns.temporal_coding report`` trains every case over ten seeds
and writes the report; ``python -m bsnn_tha.campaigns.temporal_coding search`` looks for a
setting that solves the task.
"""
