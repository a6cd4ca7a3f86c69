"""What can go wrong with a study that its user can mend."""

from bsnn_tha.errors import BsnnThaError


class StudyError(BsnnThaError):
    """A study or its storage cannot be opened, or does not fit what was asked."""


class TrialFailedError(Exception):
    """A trial cannot go on; the study can. The message is recorded as the reason."""


class TrialPausedError(Exception):
    """A trial stops for now, to be gone on with; ``epochs`` are behind it.

    With ``time_is_up`` its worker begins nothing else.
    """

    def __init__(self, epochs: int, time_is_up: bool = False) -> None:
        super().__init__(f"paused after {epochs} epochs")
        self.epochs, self.time_is_up = epochs, time_is_up
