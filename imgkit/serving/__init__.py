"""A run's model over HTTP: `imgkit serve`. The packages of the extra `serve` are imported inside functions."""
