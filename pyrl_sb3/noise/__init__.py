"""Exploration noise."""
