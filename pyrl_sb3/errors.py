"""What every layer may raise."""


class NotANumberError(ValueError):
    """A loss or an action is NaN: there is nothing to learn from, or to do. One line says which."""
