"""Raises an error without a message that could be shown."""


class Unprintable(Exception):  # noqa: N818
    def __str__(self):
        return self.nothing_like_it


raise Unprintable
