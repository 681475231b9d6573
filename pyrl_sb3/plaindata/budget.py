"""What reading a file may cost, so that a small one takes neither much memory nor much time."""


class RefusedError(ValueError):
    """A pickle that would do more than hold data; the message says what."""


class Budget:
    """
    What may still be spent on a file. It is charged wherever a file makes more of its bytes.

    Args:
        most: that may be spent, by the size of the file: bytes, or comparisons of keys.
        why: the file is refused when more would be, for messages.
    """

    def __init__(self, most: int, why: str) -> None:
        self.left, self.why = most, why

    def spend(self, cost: int, why: str = "") -> None:
        """Charge it; raise RefusedError where not as much is left, with another reason if given."""
        self.left -= cost
        if self.left < 0:
            raise RefusedError(why or self.why)
