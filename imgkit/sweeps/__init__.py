"""Sweeps: a search over recipe values, whose trials are ordinary runs."""
