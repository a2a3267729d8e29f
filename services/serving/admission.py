"""Admission control: the slots of a service, and how many of them one caller may hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from talkingface.contract.errors import ServiceError, invalid_field

# Visible ASCII, because names appear in logs and tables; they may be URIs, e-mail addresses or
# subjects of tokens.
_CALLER = re.compile(r"[!-~]{1,128}")


class Slots:
    """A limited number of slots; a call without a slot is refused at once."""

    def __init__(
        self,
        owner: str,
        total: int,
        per_caller: int = 0,
        on_change: Callable[[int, int], None] = lambda in_use, total: None,
    ) -> None:
        """
        :param owner: name of the service, for error messages
        :param total: number of slots
        :param per_caller: slots that one caller may hold; 0: all of them
        :param on_change: called with the number in use and the total at every change
        """
        self._owner = owner
        self._total = total
        self._per_caller = per_caller
        self._on_change = on_change
        self._held: Counter[str] = Counter()  # slots by caller; callers without slots are absent
        on_change(0, total)

    @property
    def in_use(self) -> int:
        """Number of slots that are held."""
        return self._held.total()

    @property
    def total(self) -> int:
        """Number of slots; it may be set below `in_use`: running calls continue."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        if total != self._total:
            self._total = total
            self._on_change(self.in_use, total)

    def take(self, caller: str = "") -> None:
        """Take a slot.

        :param caller: name of the caller; calls without a name count as one caller
        :raises ServiceError: QUOTA_EXCEEDED or NO_CAPACITY
        """
        if self._per_caller and self._held[caller] >= self._per_caller:
            raise ServiceError(
                "QUOTA_EXCEEDED",
                f"this caller already holds {self._per_caller} sessions, the limit for one caller",
                metadata={"limit": str(self._per_caller)},
            )
        if self.in_use >= self._total:
            raise ServiceError(
                "NO_CAPACITY",
                f"all {self._total} slots of {self._owner} are taken",
                metadata={"slots": str(self._total)},
            )
        self._held[caller] += 1
        self._on_change(self.in_use, self._total)

    def free(self, caller: str = "") -> None:
        """Free a slot.

        :param caller: name with which it was taken
        """
        self._held -= Counter({caller: 1})
        self._on_change(self.in_use, self._total)


def check_caller(names: Sequence[str], key: str) -> str:
    """Return the name of the caller, or "" without one.

    :param names: values of the metadata
    :param key: key of the metadata, for errors
    :raises ServiceError: FIELD_INVALID.
    """
    if not names:
        return ""
    if len(names) > 1 or not _CALLER.fullmatch(names[0]):
        raise invalid_field(f"metadata.{key}", "must be one name of 1 to 128 visible characters")
    return names[0]
