"""Finding variables: by name as people type it, and by pattern. It knows names only, no values."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from callisto_telnetd.errors import UnknownVariableError, UsageError, listed, quoted
from callisto_telnetd.variables.variable import Edition, Variable

_LONGEST_NAME = 64  # of a variable; nothing longer is compared
_MOST_NAMED = 6  # candidates that an error names


class Directory:
    """The variables that an edition has, in the catalogue's order, and the names of those that it has not."""

    def __init__(self, catalogue: Sequence[Variable], edition: Edition) -> None:
        self.variables = tuple(variable for variable in catalogue if edition in variable.editions)
        self._edition = edition
        self._by_name = {variable.name: variable for variable in self.variables}
        self._by_lower = {variable.name.lower(): variable for variable in self.variables}
        self._elsewhere = {v.name.lower(): v for v in catalogue if edition not in v.editions}
        if len(self._by_lower) + len(self._elsewhere) < len(catalogue):
            raise ValueError("two variables of the catalogue have one name")

    def find(self, name: str) -> Variable:
        """Return the variable of that name: exact, else in upper or lower case, else by an unambiguous beginning.

        Raises:
            UnknownVariableError: there is none; names one that is written much the same.
            UsageError: several begin so, or only another edition has it.
        """
        lower = name.lower()
        if found := self._by_name.get(name) or self._by_lower.get(lower):
            return found
        if other := self._elsewhere.get(lower):
            raise self._not_here(other)
        begin = [variable for key, variable in self._by_lower.items() if key.startswith(lower)] if name else []
        if len(begin) == 1:
            return begin[0]
        if begin:
            names = [variable.name for variable in begin[:_MOST_NAMED]]
            more = ["others"] if len(begin) > _MOST_NAMED else []
            raise UsageError(f"{quoted(name)} may be {listed(names + more)}")
        if name and (others := [other for key, other in self._elsewhere.items() if key.startswith(lower)]):
            raise self._not_here(others[0])
        near = get_close_matches(lower, self._by_lower, n=1) if len(name) <= _LONGEST_NAME else []
        raise UnknownVariableError(name, [self._by_lower[key].name for key in near])

    def find_whole(self, name: str) -> Variable:
        """Return the variable of that whole name, in upper or lower case: for texts that no person is watching.

        Raises:
            UsageError: as :meth:`find`.
        """
        found = self.find(name)
        if found.name.lower() != name.lower():
            raise UnknownVariableError(name, [found.name])
        return found

    def select(self, pattern: str) -> tuple[Variable, ...]:
        """Return the variables whose names hold ``pattern``, or match it where it has ``*`` or ``?``, in any case."""
        lower = pattern.lower()
        if len(lower) > _LONGEST_NAME:
            return ()
        if "*" in lower or "?" in lower:
            return tuple(variable for key, variable in self._by_lower.items() if fnmatchcase(key, lower))
        return tuple(variable for key, variable in self._by_lower.items() if lower in key)

    def fault_of(self, name: str) -> str:
        """Return why a value that is stored under a name of no variable here is not used."""
        if other := self._elsewhere.get(name.lower()):
            return f"{self._not_here(other)}; its value is kept"
        return f"no variable is named {quoted(name)}; its value is kept"

    def _not_here(self, other: Variable) -> UsageError:
        return UsageError(
            f"{other.name} exists only in the edition {other.edition_names()}, and this is {self._edition}"
        )
