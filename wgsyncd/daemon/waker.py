"""A thread that wakes the main thread when another program has changed a part of the data plane."""

import os
import select
import threading
from collections.abc import Callable, Collection


class Waker:
    """Calls ``wake`` in a thread each time news come in at one of some descriptors. It reads none of them."""

    def __init__(self, descriptors: Collection[int], wake: Callable[[], None]) -> None:
        self._end = os.eventfd(0)
        self._poll = select.epoll()
        self._poll.register(self._end, select.EPOLLIN)
        for one in descriptors:
            # Edge-triggered: the main thread reads what came in, and until then the thread must not spin.
            self._poll.register(one, select.EPOLLIN | select.EPOLLET)
        self._thread = threading.Thread(target=self._wait, args=(wake,), name="waker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.eventfd_write(self._end, 1)
        self._thread.join()
        self._poll.close()
        os.close(self._end)

    def _wait(self, wake: Callable[[], None]) -> None:
        while True:
            if any(descriptor == self._end for descriptor, _ in self._poll.poll()):
                return
            wake()
