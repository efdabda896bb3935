"""How hard the property tests try: quickly by default, thoroughly on demand (HYPOTHESIS_PROFILE=thorough)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A deadline per example says more about the machine than about the code.
settings.register_profile("quick", max_examples=20, stateful_step_count=20, deadline=None)
settings.register_profile("thorough", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
