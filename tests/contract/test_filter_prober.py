"""A prober sends packets without a pause while access changes. It counts those that arrive where they must not."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.policing import device, policy, tables
from tests.routed import SECONDS, Gateway
from tests.wait import until
from wgsyncd.core.policies.model import PolicyTables

ALICE, THIRD, BOB = device(2, "10.8.0.2"), device(3, "10.8.0.2"), device(4, "10.9.0.2", interface="wg1")
FIRST_SERVER, SECOND_SERVER = "10.1.0.1", "10.2.0.1"


class Prober:
    """Sends from every socket to its address, and counts what each receiver gets, by receiver and content."""

    def __init__(self) -> None:
        self.content = b""  # what is sent: who has the address of the sender now. Empty: nothing is sent
        self.sending: list[tuple[socket.socket, tuple[str, int]]] = []
        self.receivers: dict[socket.socket, str] = {}
        self.got: Counter[tuple[str, bytes]] = Counter()
        self.rounds = 0

    @contextmanager
    def run(self) -> Iterator[None]:
        stopped, bell = os.pipe()
        sender = threading.Thread(target=self._work, args=(stopped,))
        sender.start()
        try:
            yield
        finally:
            os.close(bell)
            sender.join()
            os.close(stopped)

    def _work(self, stopped: int) -> None:
        while not select.select([stopped], [], [], 0)[0]:
            content = self.content
            for one, address in self.sending if content else ():
                one.sendto(content, address)
            for one in select.select(list(self.receivers), [], [], 0.001)[0]:
                self.got[self.receivers[one], one.recv(100)] += 1
            self.rounds += 1

    def whole_rounds(self, count: int = 2) -> None:
        """Wait until so many rounds have begun and ended."""
        before = self.rounds
        until(lambda: self.rounds > before + count, SECONDS, "rounds of the prober", every=0.001)

    def begin(self) -> None:
        """Forget what was counted, once no packet is under way any more."""
        self.whole_rounds()
        self.got.clear()

    def belongs_to(self, content: bytes) -> None:
        """The address of the sender passes to another device: no packet of the former one is under way after this."""
        self.content = b""
        self.whole_rounds()
        self.content = content


def both() -> PolicyTables:
    return tables(
        policy(1, "allow", f"{FIRST_SERVER}/32", to=[("device", "dev-2")]),
        policy(2, "allow", f"{SECOND_SERVER}/32", to=[("device", "dev-3")]),
    )


def test_an_address_that_changes_hands_to_and_fro_serves_each_device_its_own_server_alone(router: Gateway) -> None:
    prober, client = Prober(), router.socket(router.alice, "10.8.0.2")
    for name, address in (("first", FIRST_SERVER), ("second", SECOND_SERVER)):
        server = router.socket(router.server, address)
        prober.receivers[server] = name
        prober.sending.append((client, server.getsockname()))
    with prober.run():
        for one, content in [(ALICE, b"alice"), (THIRD, b"third")] * 5:
            router.cycle([one], both(), between=partial(prober.belongs_to, content))
            prober.whole_rounds()
    assert set(prober.got) == {("first", b"alice"), ("second", b"third")}


def test_no_answer_of_the_former_device_reaches_the_next_one(router: Gateway) -> None:
    """Both servers go on sending to the address. Each device gets only what it has asked for itself."""
    prober, client = Prober(), router.socket(router.alice, "10.8.0.2")
    prober.receivers[client] = "client"
    servers = [router.socket(router.server, address) for address in (FIRST_SERVER, SECOND_SERVER)]
    prober.sending = [(server, client.getsockname()) for server in servers]
    prober.content = b"answer"
    unasked = 0
    with prober.run():
        for number in range(10):
            router.cycle([ALICE, THIRD][number % 2 :][:1], both(), between=prober.begin)
            prober.whole_rounds()
            unasked += prober.got["client", b"answer"]
            client.sendto(b"x", servers[number % 2].getsockname())
            until(lambda: prober.got["client", b"answer"] > 5, SECONDS, "answers")
    assert unasked == 0


def test_access_goes_and_comes_under_a_stream_and_no_packet_passes_while_it_is_gone(router: Gateway) -> None:
    prober, client = Prober(), router.socket(router.alice, "10.8.0.2")
    server = router.socket(router.server, FIRST_SERVER)
    prober.receivers[server] = "server"
    prober.sending.append((client, server.getsockname()))
    prober.content = b"open"
    with prober.run():
        for _ in range(10):
            prober.belongs_to(b"")
            router.cycle([ALICE], both())
            prober.content = b"open"
            until(lambda: prober.got["server", b"open"], SECONDS, "packets pass")
            router.cycle([ALICE], tables())
            prober.content = b"closed"
            prober.whole_rounds()
            prober.got.pop(("server", b"open"), None)
    assert not prober.got["server", b"closed"]


def test_a_flush_is_noticed_by_its_news_and_put_right_while_packets_are_sent(router: Gateway) -> None:
    prober, client = Prober(), router.socket(router.alice, "10.8.0.2")
    server = router.socket(router.server, SECOND_SERVER)
    prober.receivers[server] = "server"
    prober.sending.append((client, server.getsockname()))
    router.cycle([ALICE, BOB], both())
    with prober.run():
        for _ in range(5):
            router.nft.run("flush ruleset\n")
            assert select.select([router.netfilter], [], [], SECONDS)[0]
            assert router.filter.mend()
            prober.content = b"after"
            prober.whole_rounds()
            prober.content = b""
            prober.whole_rounds()
    assert not prober.got["server", b"after"] and router.filter.status.restorations == 5
