"""The proxy `sql` on a real Postgres server: what the server refuses, and roles that are too strong."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

import lllm
from lllm.errors import (
    ConfigError,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRejected,
    EndpointTimeout,
    EndpointUnreachable,
    LLMError,
)
from lllm.proxies import Proxy
from tests.servers.postgres import PASSWORD

STATEMENTS = """
    CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, since date);
    CREATE TABLE "or""der" (id int PRIMARY KEY, customer int REFERENCES customer (id), total numeric);
    CREATE TABLE hidden (secret text);
    CREATE VIEW names AS SELECT name FROM customer;
    INSERT INTO customer (name, since) VALUES ('Ada', '2020-01-02'), ('Bob', 'infinity');
    INSERT INTO "or""der" VALUES (1, 1, 9.50), (2, 1, 'NaN');
"""


@contextmanager
def database(server: str, folder: Path) -> Iterator[dict[str, str]]:
    """The address of a database of its own, for roles that may read, write, and everything."""
    name = "sql_" + hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    with psycopg.connect(server, autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {name}")
        for role in ("reader", "writer"):
            owner.execute(f"CREATE ROLE {name}_{role} LOGIN PASSWORD '{PASSWORD}'")
        made = {
            role: server.replace("//owner@/postgres", f"//{name}_{role}@/{name}")
            for role in ("reader", "writer")
        }
        made["owner"] = server.replace("/postgres?", f"/{name}?")
        with psycopg.connect(made["owner"], autocommit=True) as inside:
            inside.execute(STATEMENTS)
            inside.execute(f'GRANT SELECT ON customer, "or""der", names TO {name}_reader')
            inside.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON customer, "or""der" TO {name}_writer')
        try:
            yield made
        finally:
            owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
            for role in ("reader", "writer"):
                owner.execute(f"DROP ROLE {name}_{role}")


@pytest.fixture(scope="module")
def urls(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A database that nothing changes."""
    with database(postgres_url, tmp_path_factory.mktemp("sql")) as made:
        yield made


@pytest.fixture
def fresh(postgres_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A database to be changed."""
    with database(postgres_url, tmp_path) as made:
        yield made


def sql(url: str, **options: Any) -> Callable[..., Any]:
    proxy = Proxy(["sql"], variables={"THE_URL": url}, options={"sql": {"url_env": "THE_URL", **options}})
    return lambda name, **arguments: proxy(f"sql.{name}", **arguments)


def names(urls: dict[str, str]) -> list[Any]:
    with psycopg.connect(urls["owner"]) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM customer ORDER BY id").fetchall()]


def test_a_query_with_parameters(urls: dict[str, str]) -> None:
    call = sql(urls["reader"])
    assert call("query", sql="SELECT id, name, since FROM customer WHERE name = $1", parameters=["Ada"]) == {
        "columns": ["id", "name", "since"],
        "rows": [[1, "Ada", "2020-01-02"]],
    }
    kinds = """SELECT 'infinity'::date, 'NaN'::numeric, 'Infinity'::float8, '\\x00ff'::bytea, '{1,2}'::int[],
        '{"a": [1.5]}'::jsonb, '12345-01-01'::date, NULL, true,
        interval '1 day', 'a'::"char", '10.0.0.1'::inet, gen_random_uuid() IS NULL"""
    assert call("query", sql=kinds)["rows"] == [
        [
            "infinity", "NaN", "inf", "<blob, 2 bytes: 00ff>", [1, 2], {"a": [1.5]},
            "12345-01-01", None, True, "1 day", "a", "10.0.0.1", False,
        ]
    ]  # fmt: skip
    assert call("query", sql="SELECT $1::text, $2::int, $3::bool", parameters=["'; --", None, True])[
        "rows"
    ] == [["'; --", None, True]]
    assert call("query", sql="SELECT '100%' || '%s' -- ;")["rows"] == [["100%%s"]]
    assert call("query", sql="SELECT 1; -- done")["rows"] == [[1]]
    assert call("query", sql="SELECT 1 AS a, 2 AS a")["rows"] == [[1, 2]]
    many = call("query", sql="SELECT i FROM generate_series(1, 5000) i", limit=10)
    assert (len(many["rows"]), many["more_rows"]) == (10, 4990)
    long = call("query", sql="SELECT repeat('x', 100000) FROM generate_series(1, 500)", limit=1000)
    assert len(str(long)) < 60_000
    assert len(long["rows"]) + long["more_rows"] == 500


def test_the_schema_shows_what_the_role_may_read(urls: dict[str, str]) -> None:
    call = sql(urls["reader"])
    tables = {one["name"]: one for one in call("schema")["tables"]}
    assert sorted(tables) == ["customer", "names", 'or"der']
    assert tables["customer"]["columns"] == [
        "id integer not null primary key",
        "name text not null",
        "since date",
    ]
    order = call("schema", table='public.or"der')
    assert any("FOREIGN KEY" in one for one in order["constraints"])
    assert len(order["sample"]) == 2
    with pytest.raises(EndpointNotFound, match="no table 'hidden'; known: customer"):
        call("schema", table="hidden")


HOSTILE = [
    "SELECT 1; DELETE FROM customer",
    "SELECT 1; COMMIT; DELETE FROM customer",
    "COMMIT; DELETE FROM customer",
    "COMMIT",
    "ROLLBACK",
    "BEGIN",
    "END",
    "DELETE FROM customer",
    "WITH gone AS (DELETE FROM customer RETURNING *) SELECT * FROM gone",
    "WITH gone AS (INSERT INTO customer (name) VALUES ('Eve') RETURNING *) SELECT * FROM gone",
    "SELECT * INTO stolen FROM customer",
    "SELECT * FROM customer FOR UPDATE",
    "DO $$ BEGIN DELETE FROM customer; END $$",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "SET ROLE owner",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT set_config('role', 'owner', false)",
    "SELECT nextval('customer_id_seq')",
    "SELECT setval('customer_id_seq', 99)",
    "SELECT secret FROM hidden",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/lllm-stolen')",
    "SELECT pg_reload_conf()",
    "SELECT rolpassword FROM pg_authid",
    "COPY customer TO PROGRAM 'cat > /tmp/lllm-stolen'",
    "COPY customer TO '/tmp/lllm-stolen'",
    "COPY customer TO STDOUT",
    "COPY customer FROM STDIN",
    "CREATE TABLE t (a int)",
    "CREATE TEMP TABLE t (a int)",
    "DROP TABLE customer",
    "TRUNCATE customer",
    "VACUUM",
    "LISTEN x",
    "NOTIFY x",
    "PREPARE p AS DELETE FROM customer",
    "EXECUTE p",
    "DECLARE c CURSOR FOR SELECT 1",
    "CLOSE ALL",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "LOCK TABLE customer",
    "LOAD 'evil'",
    "EXPLAIN ANALYZE DELETE FROM customer",
    "CALL x()",
    "",
    "   ",
    "-- only a comment",
    "/* not closed",
    "SELECT 'not closed",
    "SELECT $1",
    "SELECT 1\0",
    "SELEKT 1",
]


@pytest.mark.parametrize("statement", HOSTILE)
@pytest.mark.parametrize("role", ["reader", "writer"])
def test_a_query_changes_nothing(urls: dict[str, str], statement: str, role: str) -> None:
    with pytest.raises((EndpointDenied, EndpointRejected)):
        sql(urls[role])("query", sql=statement)
    assert names(urls) == ["Ada", "Bob"]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELECT 1; DELETE FROM customer", "cannot insert multiple commands into a prepared statement"),
        (
            "WITH x AS (DELETE FROM customer RETURNING 1) SELECT 1",
            "must not contain data-modifying statements",
        ),
        ("SELECT nextval('customer_id_seq')", "read-only transaction"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied for function pg_read_file"),
        ("COMMIT", "syntax error"),
    ],
)
def test_it_is_the_server_that_refuses(urls: dict[str, str], statement: str, words: str) -> None:
    with pytest.raises((EndpointDenied, EndpointRejected)) as caught:
        sql(urls["owner" if "nextval" in statement else "reader"], allow_superuser=True)(
            "query", sql=statement
        )
    assert words in str(caught.value)


def test_words_are_only_words(urls: dict[str, str]) -> None:
    found = sql(urls["reader"])("query", sql="SELECT 'x; DROP TABLE customer; --' AS \"update\"")
    assert found == {"columns": ["update"], "rows": [["x; DROP TABLE customer; --"]]}


def test_a_superuser_cannot_write_by_a_query_either(urls: dict[str, str]) -> None:
    """Where the role does not hold it back, the transaction and the protocol do."""
    for statement in HOSTILE:
        # what reads files and what configures the server is the role's to refuse, and lo_import only makes an object
        if any(word in statement for word in ("pg_", "lo_", "secret FROM", "'role'")):
            continue
        with pytest.raises((EndpointDenied, EndpointRejected)):
            sql(urls["owner"], allow_superuser=True)("query", sql=statement)
    assert names(urls) == ["Ada", "Bob"]


def test_a_role_that_is_too_strong_is_refused(urls: dict[str, str], postgres_url: str) -> None:
    with pytest.raises(EndpointDenied, match="may act as superuser") as caught:
        sql(urls["owner"])("query", sql="SELECT 1")
    assert "CREATE ROLE reader" in str(caught.value)
    assert sql(urls["owner"], allow_superuser=True)("query", sql="SELECT 1")["rows"] == [[1]]
    reader = urls["reader"].partition("//")[2].partition("@")[0]
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        for strong in ("pg_read_server_files", "pg_execute_server_program", "owner"):
            owner.execute(f"GRANT {strong} TO {reader}")
            with pytest.raises(EndpointDenied, match="may act as"):
                sql(urls["reader"])("query", sql="SELECT 1")
            owner.execute(f"REVOKE {strong} FROM {reader}")
    assert sql(urls["reader"])("query", sql="SELECT 1")["rows"] == [[1]]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_sleep(600)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        # lifts the limit of its own session with the first row, and sleeps with the second
        "SELECT CASE i WHEN 1 THEN set_config('statement_timeout', '0', false) ELSE pg_sleep(600)::text END "
        "FROM generate_series(1, 2) i",
    ],
)
def test_a_query_that_never_ends_is_stopped(urls: dict[str, str], statement: str) -> None:
    started = time.monotonic()
    with pytest.raises(EndpointTimeout, match="longer than 1 s"):
        sql(urls["reader"], seconds=1.0)("query", sql=statement)
    assert time.monotonic() - started < 60


def test_a_lock_of_somebody_else_is_not_waited_for(urls: dict[str, str]) -> None:
    with psycopg.connect(urls["owner"]) as other:
        other.execute("LOCK TABLE customer")
        with pytest.raises(EndpointTimeout):
            sql(urls["reader"], seconds=0.5)("query", sql="SELECT * FROM customer")


def test_execute_commits_one_statement_or_nothing(fresh: dict[str, str]) -> None:
    call = sql(fresh["writer"], writable=True)
    made = call(
        "execute",
        sql="INSERT INTO customer (name) VALUES ($1), ($2) RETURNING name",
        parameters=["Eve", "Fay"],
    )
    assert made == {"columns": ["name"], "rows": [["Eve"], ["Fay"]], "rows_changed": 2}
    assert call("execute", sql="UPDATE customer SET name = upper(name) WHERE name = 'Eve'") == {
        "rows_changed": 1
    }
    assert names(fresh) == ["Ada", "Bob", "EVE", "Fay"]
    for statement in (
        "DELETE FROM customer; SELECT 1",
        "DELETE FROM customer; COMMIT",
        "COMMIT",
        "ROLLBACK",
        "COPY customer FROM STDIN",
        "INSERT INTO customer (name) VALUES ('New'), ('Ada')",
        "DELETE FROM hidden",
        "DROP TABLE customer",
    ):
        with pytest.raises(EndpointError):
            call("execute", sql=statement)
    with pytest.raises(EndpointTimeout):
        sql(fresh["writer"], writable=True, seconds=0.5)(
            "execute", sql="WITH w AS (SELECT pg_sleep(600)) UPDATE customer SET name = 'x' FROM w"
        )
    assert names(fresh) == ["Ada", "Bob", "EVE", "Fay"]


@pytest.mark.parametrize(
    ("statement", "done"),
    [
        ("CREATE TABLE made (a int)", "CREATE TABLE"),
        ("CREATE TEMP TABLE made (a int)", "CREATE TABLE"),
        ("SELECT * INTO made FROM customer", "SELECT INTO"),
        ("TRUNCATE customer CASCADE", "TRUNCATE TABLE"),
        ("DROP VIEW names", "DROP VIEW"),
        ("ALTER TABLE customer ADD COLUMN a int", "ALTER TABLE"),
        ("GRANT ALL ON customer TO PUBLIC", "GRANT"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE FUNCTION"),
        ("CREATE RULE r AS ON INSERT TO customer DO INSTEAD NOTHING", "CREATE RULE"),
        ("DO $$ BEGIN DELETE FROM hidden; INSERT INTO hidden VALUES ('x'); END $$", "DO"),
        ("EXPLAIN ANALYZE INSERT INTO customer (name) VALUES ('x')", "EXPLAIN"),
        ("COMMIT AND CHAIN", "COMMIT"),
        ("ROLLBACK AND CHAIN", "ROLLBACK"),
        ("SET SESSION search_path = x", "SET"),
        ("LISTEN x", "LISTEN"),
        ("NOTIFY x", "NOTIFY"),
        ("LOCK TABLE customer", "LOCK TABLE"),
        ("DECLARE c CURSOR FOR SELECT 1", "DECLARE CURSOR"),
        ("SAVEPOINT s", "SAVEPOINT"),
    ],
)
def test_execute_changes_rows_and_nothing_else(urls: dict[str, str], statement: str, done: str) -> None:
    """Whatever the role may do: this one owns everything."""
    with pytest.raises(EndpointRejected, match=f"{done} is not possible here, and was undone"):
        sql(urls["owner"], writable=True, allow_superuser=True)("execute", sql=statement)
    assert names(urls) == ["Ada", "Bob"]
    with psycopg.connect(urls["owner"]) as connection:
        assert connection.execute("SELECT to_regclass('made'), to_regclass('names')::text").fetchone() == (
            None,
            "names",
        )


def test_execute_takes_every_way_to_change_rows(fresh: dict[str, str]) -> None:
    call = sql(fresh["writer"], writable=True)
    merge = """MERGE INTO customer c USING (VALUES ('Ada')) v (name) ON c.name = v.name
        WHEN MATCHED THEN UPDATE SET name = 'Eve'"""
    assert call("execute", sql=merge)["rows_changed"] == 1
    gone = "WITH gone AS (DELETE FROM customer WHERE name = 'Bob' RETURNING name) SELECT * FROM gone"
    assert call("execute", sql=gone)["rows"] == [["Bob"]]
    assert names(fresh) == ["Eve"]


def test_large_values_are_shown_by_their_beginning(urls: dict[str, str]) -> None:
    """A JSON value or an array of many megabytes is not made into Python's: that would hold everybody up."""
    call = sql(urls["reader"])
    many = "repeat('1,', 4000000) || '1'"
    began = time.process_time()
    found = call(
        "query",
        sql=f"SELECT ('[' || {many} || ']')::json, ('{{' || {many} || '}}')::int[], 1, NULL, "
        "decode(repeat('00', 500000), 'hex')",
    )
    assert time.process_time() - began < 5
    (row,) = found["rows"]
    assert row[0].startswith("[1,1")
    assert "more characters" in row[0]
    assert row[1].startswith("{1,1")
    assert row[2:4] == [1, None]
    assert row[4].startswith("<blob, 500000 bytes: 00")


def test_two_systems_have_their_own_databases(urls: dict[str, str]) -> None:
    who = "SELECT session_user::text"
    found: dict[str, Any] = {}
    threads = [
        threading.Thread(
            target=lambda role=role: found.update({role: sql(urls[role])("query", sql=who)["rows"][0][0]})
        )
        for role in ("reader", "writer")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {role: name.rpartition("_")[2] for role, name in found.items()} == {
        "reader": "reader",
        "writer": "writer",
    }


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2hunter2@127.0.0.1:1/x",
        "postgresql://user:hunter2hunter2@[bad",
        "postgresql://user:hunter2hunter2@127.0.0.1:notaport/x",
        "host=127.0.0.1 port=1 password=hunter2hunter2",
        "hunter2hunter2",
    ],
)
def test_no_password_is_in_an_error(url: str) -> None:
    with pytest.raises(LLMError) as caught:
        sql(url)("query", sql="SELECT 1")
    assert isinstance(caught.value, ConfigError | EndpointUnreachable)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__


def test_no_password_is_in_a_log(urls: dict[str, str]) -> None:
    with psycopg.connect(urls["owner"]) as connection:
        port, name = connection.info.port, connection.info.dbname
    call = sql(f"postgresql://{name}_reader:{PASSWORD}@127.0.0.1:{port}/{name}")
    store = lllm.MemoryLog()
    with lllm.record("look", store=store):
        call("query", sql="SELECT $1::text || '!'", parameters=[PASSWORD])
        call("query", sql="SELECT session_user")
    written = b"".join(store.read(store.sessions(1)[0].id)).decode()
    assert "session_user" in written
    assert PASSWORD not in written


def test_a_wrong_password_is_refused(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        port = connection.info.port
    with pytest.raises((EndpointDenied, EndpointUnreachable)) as caught:
        sql(f"postgresql://owner:wrong-hunter2@127.0.0.1:{port}/postgres")("query", sql="SELECT 1")
    assert "hunter2" not in str(caught.value)


def test_a_variable_that_is_not_set_is_named() -> None:
    proxy = Proxy(["sql"], variables={}, options={"sql": {"url_env": "THE_URL"}})
    with pytest.raises(ConfigError, match="needs the variable THE_URL"):
        proxy("sql.schema")
