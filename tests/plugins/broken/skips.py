"""Ends what imports it, as tests are skipped."""


class Skipped(BaseException):
    pass


raise Skipped("no tests here")
