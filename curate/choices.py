"""What an option chooses among a study's mixtures, arms and seeds: one, or all."""

from collections.abc import Collection

from windows.errors import ConfigError


def chosen_names(name: str | None, known: Collection[str], what: str) -> list[str]:
    """Return the one that is named, or all.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    if name is None:
        return list(known)
    if name not in known:
        raise ConfigError(
            f"the study has no {what} of that name",
            where=f"--{what}",
            got=repr(name),
            do=f"use one of {', '.join(known)}",
        )
    return [name]


def chosen_seeds(number: int, seed: int | None) -> list[int]:
    """Return the one seed, or all `number` of them.

    Raises
    ------
    ConfigError
        There is no such seed.
    """
    if seed is None:
        return list(range(number))
    if not 0 <= seed < number:
        raise ConfigError(
            "no arm has that seed", where="--seed", got=str(seed), do=f"use 0 to {number - 1}"
        )
    return [seed]
