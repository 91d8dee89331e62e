"""The servers the fixtures promise are real ones, and the tests cannot leave the machine."""

import socket

import psycopg
import pytest
import redis
import sqlalchemy


def test_redis_answers_and_never_evicts(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("key", "value")

        assert client.get("key") == b"value"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_postgres_gives_each_test_an_empty_database(postgres_url: str) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    try:
        with engine.connect() as connection:
            tables = sqlalchemy.inspect(connection).get_table_names()
    finally:
        engine.dispose()

    assert tables == []


def test_postgres_database_is_dropped_afterwards(postgres_server_url: str) -> None:
    with psycopg.connect(postgres_server_url) as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'").fetchall()

    assert names == []


def test_a_connection_to_another_machine_is_refused() -> None:
    with socket.socket() as client, pytest.raises(RuntimeError, match="tests stay on this machine"):
        client.connect(("192.0.2.1", 80))
