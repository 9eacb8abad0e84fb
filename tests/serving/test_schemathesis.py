"""Requests made from the description of the interface, right ones and wrong ones: each is answered as described."""

import base64
from typing import Any

import hypothesis
import pytest
import schemathesis
from corpus import encoded
from hypothesis import strategies as st
from pictures import square
from served_models import colours

from imgkit.serving.app import Limits, make_app

PICTURES = [encoded(square(number, code=number), kind) for number, kind in enumerate(("PNG", "JPEG", "BMP", "GIF"))]
schemathesis.openapi.media_type("image/png", st.sampled_from(PICTURES))
schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(one).decode() for one in PICTURES]))
pytestmark = pytest.mark.slow
SERVED = [colours(), colours(several=True), colours(reject_at=0.5)]


@pytest.fixture(params=range(len(SERVED)))
def described(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401
    app = make_app(SERVED[request.param], limits=Limits(body_bytes=1_000_000, images=4))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@hypothesis.settings(max_examples=60, deadline=None)
def test_every_request_is_answered_as_the_description_says(case: Any) -> None:  # noqa: ANN401
    case.call_and_validate()
