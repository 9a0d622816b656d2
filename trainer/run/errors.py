"""Errors that a command line shows as one message, without a traceback."""


class TrainerError(Exception):
    """What the user can mend: the message names the option or field, its value, and what to do."""


class NonFiniteError(TrainerError):
    """A network call gave a value that is not finite."""


class CheckpointError(TrainerError):
    """A checkpoint can't be found, or is not what the trainer needs."""
