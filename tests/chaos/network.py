"""Roads between one process and one server, each of which can be cut, held up and slowed down."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
_CHUNK_BYTES = 1 << 16


class Road:
    """A listening port whose connections lead to another port of this machine."""

    def __init__(self, name: str, target_port: int) -> None:
        self.name = name
        self.port = 0
        self._target_port = target_port
        self._is_cut = False
        self._delay_seconds = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self) -> asyncio.Server:
        """Start to listen on a free port."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def reset(self) -> None:
        """Break every connection; new ones work."""
        for writer in list(self._open):
            _break(writer)

    async def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._is_cut = True
        await self.reset()

    async def hold(self) -> None:
        """Keep every byte: a peer that is there and says nothing."""
        self._flows.clear()

    async def slow_down(self, seconds: float) -> None:
        """Keep every piece for a while."""
        self._delay_seconds = seconds

    async def heal(self) -> None:
        """Carry again as usual; what was held arrives now."""
        self._is_cut, self._delay_seconds = False, 0.0
        self._flows.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            _break(writer)
            return
        await self._flows.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _break(writer)
            return
        self._open |= {writer, far_writer}
        pumps = (
            asyncio.create_task(self._pump(reader, far_writer)),
            asyncio.create_task(self._pump(far_reader, writer)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._open -= {writer, far_writer}
            writer.close()
            far_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._flows.wait()
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                writer.write(data)
                await writer.drain()


def _break(writer: asyncio.StreamWriter) -> None:
    """Close a connection the hard way, so that its peer is told of a reset and not of an orderly end."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Network:
    """The roads of an installation, driven by one thread."""

    def __init__(self) -> None:
        self.roads: dict[str, Road] = {}
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def road(self, name: str, target_port: int) -> Road:
        """Open a road and return it."""
        road = Road(name, target_port)
        self._servers.append(self._do(road.listen()))
        self.roads[name] = road
        return road

    def reset(self, name: str) -> None:
        """Break the connections of a road."""
        self._do(self.roads[name].reset())

    def cut(self, name: str) -> None:
        """Close a road until it is healed."""
        self._do(self.roads[name].cut())

    def hold(self, name: str) -> None:
        """Make a road a black hole until it is healed."""
        self._do(self.roads[name].hold())

    def slow_down(self, name: str, seconds: float) -> None:
        """Delay each piece on a road until it is healed."""
        self._do(self.roads[name].slow_down(seconds))

    def heal(self, name: str) -> None:
        """Open a road again."""
        self._do(self.roads[name].heal())

    def close(self) -> None:
        """Break everything and end the thread."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            for road in self.roads.values():
                await road.cut()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, action: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(10)
