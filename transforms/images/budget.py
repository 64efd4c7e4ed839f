"""Room in bytes that all threads of this process share: what is read ahead stays within it."""

from __future__ import annotations

import collections
import gc
import threading

# When nothing was released for so long, what was lost may be the cause: a bundle that failed lives
# on in the frames of its traceback, until Python looks for such circles.
_LOST_SECONDS = 5.0


class ByteBudget:
    """A number of bytes, acquired and released as a semaphore is.

    Who waits gets its bytes in turn, so that many small ones do not hold up a large one for ever.
    What is larger than the whole budget gets in when nobody has any.

    Args:
      limit: in bytes.

    >>> budget = ByteBudget(100)
    >>> budget.acquire(60), budget.acquire(60, blocking=False), budget.acquire(40)
    (True, False, True)
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._acquired = 0
        self._waiting: collections.deque[object] = collections.deque()
        self._changed = threading.Condition()

    def acquire(self, size: int, blocking: bool = True) -> bool:
        """Acquires bytes: as soon as they are there, or now or not at all.

        Returns:
          whether they were acquired.
        """
        turn = object()
        with self._changed:
            if not blocking and (self._waiting or not self._fits(size)):
                return False
            self._waiting.append(turn)
        while not self._acquired_in_turn(turn, size):
            gc.collect()
        return True

    def release(self, size: int) -> None:
        """Gives bytes back; of a negative number, as many more are in use as if they were there."""
        with self._changed:
            self._acquired -= size
            self._changed.notify_all()

    def _acquired_in_turn(self, turn: object, size: int) -> bool:
        """Waits a while for the bytes."""

        def is_my_turn() -> bool:
            return self._waiting[0] is turn and self._fits(size)

        with self._changed:
            if not self._changed.wait_for(is_my_turn, _LOST_SECONDS):
                return False
            self._waiting.popleft()
            self._acquired += size
            self._changed.notify_all()
            return True

    def _fits(self, size: int) -> bool:
        return not self._acquired or self._acquired + size <= self._limit
