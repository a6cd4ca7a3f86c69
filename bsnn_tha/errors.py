"""The errors a user can cause, told apart from bugs.

Every message is one line that states the rule, the value that broke it and the
way out. The command line prints that line and exits with status 2; anything
else that is raised is a bug, and exits with status 1.
"""


class BsnnThaError(Exception):
    """Base of all errors that name something the caller can put right."""


class InvalidValueError(BsnnThaError, ValueError):
    """An argument or a configured value breaks a stated rule."""


class DataError(BsnnThaError):
    """A data file is missing, truncated, corrupt or could not be downloaded."""


class RunError(BsnnThaError):
    """A run folder or checkpoint cannot be written, read or matched."""


class TrainingError(BsnnThaError):
    """Training cannot go on, for example because the loss is not a number."""


class DeployError(BsnnThaError):
    """A deployed network cannot be written, or a file of one cannot be read."""


class FilmError(BsnnThaError):
    """A film cannot be written."""
