"""What a machine may lack: its tests are skipped with a word on the remedy, or fail where nothing may be skipped."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

#: set to 1 where the whole set must run; not called RAWPUSH_*, for the gateway asks what such a variable means
STRICT = "TESTS_SKIP_NOTHING"


def program(*names: str, package: str) -> str:
    """Return the path of the first of these programs; where there is none, skip the test, or fail it if `STRICT` is 1."""
    # Debian keeps servers where only root looks
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return lacking(f"{names[0]} is missing: apt-get install {package}")


def lacking(sentence: str) -> NoReturn:
    """Skip the test, or fail it if `STRICT` is 1; the sentence says what is missing and what to do."""
    if os.environ.get(STRICT) == "1":
        pytest.fail(f"{sentence} ({STRICT}=1)", pytrace=False)
    pytest.skip(sentence)
