"""The roads of the chaos suite do what they say, so that a run that holds has really met its faults."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.chaos.network import Network

ROAD = "a-b"


class Echo:
    """A server that sends back what it is sent."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                threading.Thread(target=self._answer, args=(self._listener.accept()[0],), daemon=True).start()
        except OSError:
            return

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionResetError):
            while data := connection.recv(1024):
                connection.sendall(data)


@pytest.fixture
def network() -> Iterator[Network]:
    echo, network = Echo(), Network()
    network.road(ROAD, echo.port)
    yield network
    network.close()
    echo.close()


@pytest.fixture
def connection(network: Network) -> Iterator[socket.socket]:
    with _connect(network) as connection:
        yield connection


def _connect(network: Network) -> socket.socket:
    return socket.create_connection(("127.0.0.1", network.roads[ROAD].port), timeout=10)


def _asks(connection: socket.socket, question: bytes = b"hello") -> bytes:
    connection.sendall(question)
    return connection.recv(1024)


def test_an_open_road_carries_both_ways(connection: socket.socket) -> None:
    assert _asks(connection) == b"hello"


def test_a_reset_breaks_what_is_open_and_lets_the_next_through(network: Network, connection: socket.socket) -> None:
    _asks(connection)

    network.reset(ROAD)

    with pytest.raises(ConnectionResetError):
        connection.recv(1024)
    with _connect(network) as another:
        assert _asks(another) == b"hello"


def test_a_cut_road_refuses_until_it_is_healed(network: Network) -> None:
    network.cut(ROAD)
    with pytest.raises(ConnectionResetError), _connect(network) as refused:  # at the first byte, or before that
        refused.recv(1024)

    network.heal(ROAD)

    with _connect(network) as another:
        assert _asks(another) == b"hello"


def test_a_held_road_says_nothing_and_delivers_when_it_is_healed(network: Network, connection: socket.socket) -> None:
    _asks(connection)
    network.hold(ROAD)
    connection.sendall(b"late")
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1024)

    network.heal(ROAD)

    connection.settimeout(10)
    assert connection.recv(1024) == b"late"
