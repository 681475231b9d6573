"""What checks insist on."""


def require(condition: bool, problem: str) -> None:
    """
    Insist on `condition`, under ``python -O`` as well.

    :raises AssertionError: with `problem`, when it does not hold.
    """
    if not condition:
        raise AssertionError(problem)
