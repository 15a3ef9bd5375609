"""Judges what clients wrote down against what the hub holds in the end. Pure: histories and facts in, violations out."""

from .facts import Facts, Violation, events_of
from .verdict import judge

__all__ = ["Facts", "Violation", "events_of", "judge"]
