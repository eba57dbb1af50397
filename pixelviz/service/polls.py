"""The class answers together: polls of a lesson's steps, joined by a short code, counted without a name."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pixelviz.checks import ServiceError

LASTS = 2 * 3600.0  # seconds
MOST_POLLS, MOST_PHONES = 64, 500
LETTERS, LENGTH = "ABCDEFGHJKMNPQRTUVWXY346789", 5  # none that is read as another one
LONGEST_ID = 64  # of a phone's id, which it makes up itself

ERRORS = {
    "gone": "there is no class with this code (any more); codes end after two hours.",
    "full": "this class is full.",
    "many": "too many classes are open just now; each ends after two hours.",
    "owner": "only the page that opened this class can do that.",
    "answer": "this answer does not belong to the lesson; reload the page.",
}


class PollError(ServiceError):
    """What is wrong with a poll. `key` is that of ERRORS, for whoever says it in another language."""

    def __init__(self, key: str) -> None:
        super().__init__(ERRORS[key])
        self.key = key


@dataclass
class _Poll:
    secret: str
    ends: float
    phones: set[str] = field(default_factory=set)
    votes: dict[str, dict[str, str]] = field(default_factory=dict)  # step to phone to option
    revealed: set[str] = field(default_factory=set)


class Polls:
    """All polls that are open. Thread-safe; nothing here waits, and nothing is written down.

    Args: options, the answers of each step that can be asked; clock, seconds that only grow. Whatever is wrong raises
    PollError. A phone is an id that it made up; its first answer to a step counts, once.
    """

    def __init__(self, options: Mapping[str, Sequence[str]], clock: Callable[[], float]) -> None:
        self.options, self.clock = options, clock
        self._lock = threading.Lock()
        self._polls: dict[str, _Poll] = {}

    def _clean(self) -> None:
        now = self.clock()
        for code in [code for code, poll in self._polls.items() if poll.ends <= now]:
            del self._polls[code]

    def _find(self, code: Any) -> tuple[str, _Poll]:
        self._clean()
        code = str(code).strip().upper()
        if code not in self._polls:
            raise PollError("gone")
        return code, self._polls[code]

    def _owned(self, code: Any, secret: Any) -> tuple[str, _Poll]:
        code, poll = self._find(code)
        if not hmac.compare_digest(str(secret).encode(), poll.secret.encode()):
            raise PollError("owner")
        return code, poll

    def _step(self, step: Any) -> str:
        if not isinstance(step, str) or step not in self.options:
            raise PollError("answer")
        return step

    def _seat(self, poll: _Poll, phone: Any) -> str:
        if not isinstance(phone, str) or not 0 < len(phone) <= LONGEST_ID:
            raise PollError("answer")
        if phone not in poll.phones and len(poll.phones) >= MOST_PHONES:
            raise PollError("full")
        poll.phones.add(phone)
        return phone

    def open(self) -> dict[str, str]:
        """A new poll: its code, and the secret that its owner shows to reveal or end it."""
        with self._lock:
            self._clean()
            if len(self._polls) >= MOST_POLLS:
                # One that nobody has joined gives way, the oldest first: whoever opens many closes no class.
                empty = next((code for code, poll in self._polls.items() if not poll.phones), None)
                if empty is None:
                    raise PollError("many")
                del self._polls[empty]
            code = self._code()
            while code in self._polls:
                code = self._code()
            self._polls[code] = _Poll(secrets.token_urlsafe(16), self.clock() + LASTS)
            return {"code": code, "secret": self._polls[code].secret}

    @staticmethod
    def _code() -> str:
        return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))

    def join(self, code: Any, phone: Any) -> dict[str, Any]:
        """Take a seat; returns the code as it is written."""
        with self._lock:
            code, poll = self._find(code)
            self._seat(poll, phone)
            return {"code": code}

    def vote(self, code: Any, phone: Any, step: Any, option: Any) -> dict[str, Any]:
        """Count an answer: the phone's first one of that step, and none once it is revealed. Returns as `look`."""
        with self._lock:
            _, poll = self._find(code)
            if option not in self.options[self._step(step)]:
                raise PollError("answer")
            phone = self._seat(poll, phone)
            if step not in poll.revealed:
                poll.votes.setdefault(step, {}).setdefault(phone, option)
            return self._told(poll, step)

    def look(self, code: Any, step: Any) -> dict[str, Any]:
        """How many phones are here, how many have answered the step, and once it is revealed its counts, by option."""
        with self._lock:
            return self._told(self._find(code)[1], self._step(step))

    def reveal(self, code: Any, secret: Any, step: Any) -> dict[str, Any]:
        """Show a step's counts to all, from now on; returns as `look`."""
        with self._lock:
            _, poll = self._owned(code, secret)
            poll.revealed.add(self._step(step))
            return self._told(poll, step)

    def check(self, code: Any, secret: Any) -> None:
        """Raises PollError for who has not opened this poll."""
        with self._lock:
            self._owned(code, secret)

    def end(self, code: Any, secret: Any) -> dict[str, Any]:
        """End a poll and forget it."""
        with self._lock:
            code, _ = self._owned(code, secret)
            del self._polls[code]
            return {}

    def _told(self, poll: _Poll, step: str) -> dict[str, Any]:
        votes = poll.votes.get(step, {})
        told: dict[str, Any] = {"phones": len(poll.phones), "committed": len(votes), "counts": None}
        if step in poll.revealed:
            counts = Counter(votes.values())
            told["counts"] = {option: counts[option] for option in self.options[step]}
        return told
