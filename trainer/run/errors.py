"""Errors that a command line shows as one message, without a traceback."""


class TrainerError(Exception):
    """An error that the user can fix: the message names the option or field, its value, and what to do.

    Of those that the nodes show, the values stand apart for its {fields}, so that the page can translate the message.
    """

    def __init__(self, message: str, **values: object) -> None:
        super().__init__(message.format(**values) if values else message)
        self.message, self.values = message, values

    def with_values(self, **values: object) -> "TrainerError":
        """The same with other values for some of its {fields}."""
        return type(self)(self.message, **{**self.values, **values})


class NonFiniteError(TrainerError):
    """A network call gave a value that is not finite."""


class CheckpointError(TrainerError):
    """A checkpoint is missing, or is not what the trainer needs."""


class NotFoundError(CheckpointError):
    """A kind of checkpoint has none of this name."""
