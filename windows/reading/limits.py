"""How much may be fetched and how politely, and what a call would fetch."""

from dataclasses import dataclass

from windows.errors import ConfigError

# A sample of 30,000 instances of 8,192 tokens, where a window of OLMo 3 32B has a million.
MOST_REMOTE_BYTES = 1 << 30


@dataclass(frozen=True)
class ReadLimits:
    """Bounds of what one call may ask of servers.

    Attributes
    ----------
    connections
        Requests under way at once.
    attempts
        Tries of a request before it is given up.
    max_remote_bytes
        Most bytes that one call may fetch; more are refused before the first request.
    timeout
        Seconds that a server has to answer one request in full.
    first_delay, longest_delay
        Seconds to wait before the second attempt, twice as long before the next, and so on up to
        the longest. A server that asks for a longer wait than that is taken at its word: the call
        ends.

    Raises
    ------
    ConfigError
        A bound is not one.
    """

    connections: int = 16
    attempts: int = 5
    max_remote_bytes: int = MOST_REMOTE_BYTES
    timeout: float = 60.0
    first_delay: float = 0.5
    longest_delay: float = 60.0

    def __post_init__(self) -> None:
        for name, least in (("connections", 1), ("attempts", 1), ("max_remote_bytes", 0)):
            if getattr(self, name) < least:
                raise _senseless(name, getattr(self, name), f"use {least} or more")
        if not self.timeout > 0:
            raise _senseless("timeout", self.timeout, "use a positive number of seconds")
        if not 0 <= self.first_delay <= self.longest_delay:
            raise _senseless("first_delay", self.first_delay, "use 0 up to longest_delay")


@dataclass(frozen=True)
class ReadCost:
    """What a call would ask of servers; nothing for files on local disks.

    Attributes
    ----------
    requests
        Ranges that have to be fetched: one an instance, and one more wherever an instance ends in
        another file than it begins in.
    bytes
        Their length.
    cached
        Ranges that are in the cache already.
    """

    requests: int = 0
    bytes: int = 0
    cached: int = 0

    def check(self, limits: ReadLimits) -> None:
        """Refuse what is too much.

        Raises
        ------
        ConfigError
            More bytes would be fetched than `limits` allow.
        """
        if self.bytes > limits.max_remote_bytes:
            raise ConfigError(
                f"this reads {self.bytes:,} bytes in {self.requests:,} requests over the network",
                where="max_remote_bytes",
                got=f"{limits.max_remote_bytes:,} bytes allowed",
                do="ask for fewer instances, or raise max_remote_bytes",
            )


def _senseless(name: str, value: float, do: str) -> ConfigError:
    return ConfigError("not a limit of reading", where=name, got=str(value), do=do)
