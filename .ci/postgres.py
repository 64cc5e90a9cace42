"""A database of one's own on the PostgreSQL server of this machine.

postgres.py create NAME   makes it and prints its URL; without a server: status 3 and the reason
postgres.py drop NAME     removes it, and the one that the test runner makes beside it
"""

from __future__ import annotations

import sys

import psycopg
from psycopg import sql

USERS = ("postgres", "root")
NO_SERVER = 3


def connect() -> psycopg.Connection:
    """As an administrator who needs no password here. Raises psycopg.OperationalError."""
    for user in USERS[:-1]:
        try:
            return _connect(user)
        except psycopg.OperationalError:
            pass
    return _connect(USERS[-1])


def _connect(user: str) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1", user=user, dbname="postgres", connect_timeout=5, autocommit=True
    )


def main(action: str, name: str) -> None:
    try:
        connection = connect()
    except psycopg.OperationalError as error:
        print(str(error).strip().splitlines()[-1], file=sys.stderr)
        sys.exit(NO_SERVER)
    with connection:
        if action == "create":
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            print(f"postgres://{connection.info.user}@127.0.0.1:5432/{name}")
        else:
            for database in (name, f"test_{name}"):
                statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                connection.execute(statement.format(sql.Identifier(database)))


if __name__ == "__main__":
    main(*sys.argv[1:])
