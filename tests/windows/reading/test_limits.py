import pytest

from windows.errors import ConfigError
from windows.reading.limits import ReadCost, ReadLimits


@pytest.mark.parametrize(
    "change",
    [
        {"connections": 0},
        {"attempts": 0},
        {"max_remote_bytes": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"first_delay": -1},
        {"first_delay": 2, "longest_delay": 1},
    ],
)
def test_what_is_no_limit_is_refused(change: dict[str, float]):
    with pytest.raises(ConfigError, match=f"{next(iter(change))}: not a limit of reading"):
        ReadLimits(**change)  # type: ignore[arg-type]


def test_a_cost_is_within_its_limit_or_refused():
    limits = ReadLimits(max_remote_bytes=100)
    ReadCost(3, 100, 0).check(limits)
    with pytest.raises(ConfigError, match=r"101 bytes in 3 requests.*100 bytes allowed"):
        ReadCost(3, 101, 0).check(limits)
