"""Property tests are the same on a slow machine: no deadline for one example, and the same examples on every run but
those of `make fuzz`."""

from hypothesis import HealthCheck, settings

from tests.support.fuzzing import FACTOR, cases

settings.register_profile(
    "core",
    deadline=None,
    derandomize=FACTOR == 1,
    max_examples=cases(60),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("core")
