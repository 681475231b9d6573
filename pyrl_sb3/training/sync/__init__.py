"""Copies of one agent that train side by side and are synchronised at intervals.

Nothing is imported here, so that the built-in strategies can be named without loading torch.
"""
