"""What runs a run: functions with plain arguments that return results.

Nothing is imported here, so that the command line can name what is in this package without
loading torch.
"""
