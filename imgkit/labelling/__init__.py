"""Labelling by people, in the browser: the images in the order in which their labels teach most."""
