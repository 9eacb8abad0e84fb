"""A run's network in formats that other programs read, each compared with the source before it gets its name."""
