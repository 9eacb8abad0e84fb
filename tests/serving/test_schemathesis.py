"""Requests made from the description of the interface, right ones and wrong ones: each is answered as described."""

import base64

import hypothesis
import pytest
import schemathesis
from corpus import encoded
from hypothesis import strategies as st
from pictures import square
from schemathesis import GenerationMode
from served_models import colours

from imgkit.serving.app import Limits, make_app
from imgkit.serving.served import Served

PICTURES = [encoded(square(number, code=number), kind) for number, kind in enumerate(("PNG", "JPEG", "BMP", "GIF"))]
schemathesis.openapi.media_type("image/png", st.sampled_from(PICTURES))
schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(one).decode() for one in PICTURES]))
pytestmark = pytest.mark.slow
SERVED = [colours(), colours(several=True), colours(reject_at=0.5)]


WAYS = [("/predict", "POST"), ("/predict/batch", "POST"), ("/healthz", "GET")]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("path", "method"), WAYS)
@pytest.mark.parametrize("served", SERVED, ids=["single", "several", "left open"])
def test_every_request_is_answered_as_the_description_says(
    served: Served, path: str, method: str, mode: GenerationMode
) -> None:
    app = make_app(served, limits=Limits(body_bytes=1_000_000, images=4))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    assert {(one.ok().path, one.ok().method.upper()) for one in schema.get_all_operations()} == set(WAYS)
    if path == "/healthz" and mode is GenerationMode.NEGATIVE:
        pytest.skip("it takes nothing that could be wrong")

    @hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=schema[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate()

    check()
