"""Labelling by people, in the browser: the images in the order in which their labels teach most."""

from typing import Literal

Order = Literal["margin", "entropy", "folder"]
"""Which images come first; see `order.informative`."""
