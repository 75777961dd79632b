"""What all tests share: how hypothesis searches.

No deadline and no complaint about slow data: speed is no matter of tests, and a busy machine must
not fail one. Under CI the search is the same every time, so that a failure there can be had again;
elsewhere it goes on finding new examples.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "heliograph",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("heliograph")
