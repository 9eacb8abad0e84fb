import numpy as np

from imgkit.keys import uniforms


def test_uniforms_are_uniform_and_follow_the_reference() -> None:
    draws = np.array([list(uniforms(key, 64)) for key in range(500)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.15
    state, mask = 2**64 - 5, 2**64 - 1  # the generator as published, in Python's integers
    for draw in uniforms(state, 64):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        assert draw == ((z ^ (z >> 31)) >> 11) * 2.0**-53
