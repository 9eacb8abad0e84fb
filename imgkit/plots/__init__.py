"""Curves of a run or of an imported history, and the pictures that a run gets wrong."""
