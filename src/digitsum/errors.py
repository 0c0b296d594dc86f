"""The error of a user's mistake, which the command line ends with exit code 2 and the service answers 422."""


class InputError(ValueError):
    """What came isn't what was expected: one sentence that says both, and what to do.

    Whatever else goes wrong keeps its own class: a failure of the system's is an `OSError`, and an error that
    nobody foresaw isn't mistaken for the user's.
    """
