"""What can go wrong with a study that its user can mend."""

from bsnn_tha.errors import BsnnThaError


class StudyError(BsnnThaError):
    """A study or its storage cannot be opened, or does not fit what was asked."""


class TrialFailedError(Exception):
    """A trial cannot go on; the study can. The message is recorded as the reason."""
