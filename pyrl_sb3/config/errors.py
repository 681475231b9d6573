"""What is wrong with a config: all of it at once, one line for each mistake."""


class ConfigError(ValueError):
    """
    A config that cannot be used as it stands; `problems` has one line for each mistake.

    A line names the file, the line in it where there is one, the key, and the nearest valid choice.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
