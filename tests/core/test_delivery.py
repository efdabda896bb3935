from __future__ import annotations

import pytest

from gateway.core.delivery import Outcome, Stage


@pytest.mark.parametrize(
    ("stage", "status", "expected"),
    [
        (Stage.ANSWERED, 199, False),
        (Stage.ANSWERED, 200, True),
        (Stage.ANSWERED, 204, True),
        (Stage.ANSWERED, 299, True),
        (Stage.ANSWERED, 301, False),
        (Stage.ANSWERED, 500, False),
        (Stage.ANSWERED, None, False),
        (Stage.TIMEOUT, None, False),
        (Stage.TIMEOUT, 200, False),
        (Stage.PROTOCOL, 200, False),
    ],
)
def test_only_a_complete_2xx_is_success(stage: Stage, status: int | None, expected: bool) -> None:
    assert Outcome(stage, 1.0, status=status).is_success is expected
