"""The proxy `sql` on SQLite: the database decides what a statement may do, and nothing runs for ever."""

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lllm.errors import (
    ConfigError,
    EndpointAnswerInvalid,
    EndpointDenied,
    EndpointError,
    EndpointNotFound,
    EndpointRejected,
    EndpointTimeout,
    ToolError,
)
from lllm.proxies import Proxy
from lllm.proxies.builtin import sqlite_worker


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "sh?p#1.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE customer (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, photo BLOB);
            CREATE TABLE "or""der" (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customer (id), total REAL);
            CREATE UNIQUE INDEX by_name ON customer (name);
            CREATE VIEW totals AS SELECT name, sum(total) AS total FROM customer JOIN "or""der" o ON o.customer = customer.id
                GROUP BY name;
            CREATE VIEW broken AS SELECT * FROM gone;
            CREATE VIRTUAL TABLE notes USING fts5 (text);
            INSERT INTO customer (name, photo) VALUES ('Ada', x'00ff'), ('Bob', NULL);
            INSERT INTO "or""der" VALUES (1, 1, 9.5), (2, 1, 3), (3, 2, 1e999);
            INSERT INTO notes VALUES ('measure twice'), ('cut once');
            """
        )
    connection.close()
    return path


def sql(database: Path, **options: Any) -> Callable[..., Any]:
    proxy = Proxy(["sql"], options={"sql": {"database": str(database), **options}})
    return lambda name, **arguments: proxy(f"sql.{name}", **arguments)


def contents(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        found = list(connection.iterdump())
    connection.close()
    return found


# --- reading


def test_a_query_with_parameters(database: Path) -> None:
    call = sql(database)
    assert call("query", sql="SELECT id, name, photo FROM customer WHERE name = ?", parameters=["Ada"]) == {
        "columns": ["id", "name", "photo"],
        "rows": [[1, "Ada", "<blob, 2 bytes: 00ff>"]],
    }
    assert call("query", sql="SELECT ?, ?, ?, ?", parameters=["'; --", None, 1.5, True])["rows"] == [
        ["'; --", None, 1.5, 1]
    ]
    assert call("query", sql='SELECT total FROM "or""der" ORDER BY id DESC LIMIT 1')["rows"] == [["inf"]]
    assert call("query", sql="-- why\nSELECT 1 /* ; */ ;  -- done")["rows"] == [[1]]
    assert call("query", sql="VALUES (1), (2)")["rows"] == [[1], [2]]
    assert call("query", sql="SELECT text FROM notes WHERE notes MATCH 'twice'")["rows"] == [
        ["measure twice"]
    ]
    assert call("query", sql="SELECT value FROM json_each('[1,2]')")["rows"] == [[1], [2]]
    assert call("query", sql="SELECT name FROM pragma_table_info('customer')")["rows"] == [
        ["id"],
        ["name"],
        ["photo"],
    ]
    assert call("query", sql="EXPLAIN QUERY PLAN SELECT * FROM customer")["rows"]
    with pytest.raises(ToolError, match="parameters"):
        call("query", sql="SELECT ?", parameters=[{"a": 1}])
    with pytest.raises(EndpointRejected, match="number of bindings"):
        call("query", sql="SELECT ?", parameters=[])
    with pytest.raises(EndpointRejected, match="too large"):
        call("query", sql="SELECT ?", parameters=[2**70])


def test_words_are_only_words(database: Path) -> None:
    found = sql(database)(
        "query", sql="SELECT 'x; DROP TABLE customer; --' AS \"update\", 'DELETE' AS \"insert\""
    )
    assert found == {"columns": ["update", "insert"], "rows": [["x; DROP TABLE customer; --", "DELETE"]]}


def test_rows_are_limited_and_the_rest_is_counted(database: Path) -> None:
    call = sql(database)
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) SELECT i, ? FROM n"
    found = call("query", sql=rows, parameters=["x"], limit=10)
    assert (len(found["rows"]), found["more_rows"]) == (10, 4990)
    found = call("query", sql=rows, parameters=["x" * 3000], limit=1000)
    assert len(found["rows"]) + found["more_rows"] == 5000
    assert len(str(found)) < 60_000
    found = call("query", sql=rows, parameters=["x" * 100_000], limit=1)
    assert found["rows"][0][1].endswith("(96000 more characters)")


def test_the_schema_says_what_there_is(database: Path) -> None:
    call = sql(database)
    tables = {one["name"]: one for one in call("schema")["tables"]}
    assert list(tables) == ["broken", "customer", "notes", 'or"der', "totals"]
    assert tables["customer"]["columns"] == ["id INTEGER primary key", "name TEXT not null", "photo BLOB"]
    order = call("schema", table='OR"DER')
    assert order["foreign_keys"] == ["customer -> customer.id"]
    assert len(order["sample"]) == 3
    assert call("schema", table="customer")["indexes"] == ["by_name (name) unique"]
    assert "gone" in call("schema", table="broken")["columns"][0]
    with pytest.raises(EndpointNotFound, match="no table 'custmer'; known: broken, customer"):
        call("schema", table="custmer")
    with pytest.raises(EndpointNotFound):
        call("schema", table='customer"; DROP TABLE customer; --')


def test_a_schema_of_any_size_is_cut(tmp_path: Path) -> None:
    database = tmp_path / "large.db"
    with sqlite3.connect(database) as connection:
        wide = ", ".join(f'"{"c" * 900}{number}"' for number in range(150))
        connection.execute(f"CREATE TABLE wide ({wide}, UNIQUE (c1))".replace("c1)", f'"{"c" * 900}1")'))
        connection.execute(f'CREATE TABLE "{"t" * 100_000}" (a)')
        connection.executescript(";".join(f"CREATE TABLE t{n} ({wide})" for n in range(20)))
        many = ", ".join(f"c{number} INTEGER" for number in range(500))
        connection.execute(f"CREATE TABLE many ({many})")
    connection.close()
    call = sql(database)
    assert len(str(call("schema"))) < 200_000
    found = call("schema", table="wide")
    assert len(str(found)) < 100_000
    assert found["columns"][-1].startswith("... and ")
    assert len(call("schema", table="many")["columns"]) == 500
    with pytest.raises(EndpointNotFound) as caught:
        call("schema", table="none")
    assert len(str(caught.value)) < 20_000


def test_the_schema_of_an_older_sqlite(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_worker, "_TABLES", "SELECT * FROM pragma_no_such_thing")
    connection = sqlite_worker.opened(str(database), False, 5.0)
    names = [one["name"] for one in sqlite_worker.schema(connection, "")["tables"]]
    connection.close()
    assert {"customer", "notes", "notes_data"} <= set(names)


# --- what reading may not do

WRITING = [
    "INSERT INTO customer (name) VALUES ('Eve')",
    "UPDATE customer SET name = 'Eve'",
    "DELETE FROM customer",
    "REPLACE INTO customer VALUES (1, 'Eve', NULL)",
    "WITH x AS (SELECT 1) DELETE FROM customer WHERE id IN (SELECT * FROM x)",
    "INSERT INTO customer (name) VALUES ('Eve') RETURNING id",
    "/* SELECT */ DELETE FROM customer",
    "DROP TABLE customer",
    "CREATE TABLE t (a)",
    "CREATE TEMP TABLE t (a)",
    "CREATE TEMP VIEW t AS SELECT 1",
    "CREATE TABLE t AS SELECT * FROM customer",
    "ALTER TABLE customer RENAME TO client",
    "CREATE TRIGGER t AFTER INSERT ON customer BEGIN DELETE FROM customer; END",
    "CREATE VIRTUAL TABLE v USING fts5(a)",
    "INSERT INTO notes VALUES ('x')",
    "VACUUM",
    "VACUUM INTO '{folder}/stolen.db'",
    "ATTACH '{folder}/other.db' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "REINDEX",
    "ANALYZE",
    "UPDATE sqlite_master SET sql = ''",
    "UPDATE sqlite_master SET type = 'x', name = 'x', tbl_name = 'x', rootpage = 1, sql = 'x'",
    "DELETE FROM sqlite_master",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA query_only = 0",
    "PRAGMA trusted_schema = ON",
    "PRAGMA hard_heap_limit = 1",
    "PRAGMA database_list",
    "SELECT * FROM pragma_database_list",
    "PRAGMA data_version = 1",
    "PRAGMA temp_store_directory = '{folder}'",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "RELEASE s",
    "SELECT load_extension('/tmp/evil.so')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('{folder}/x', 'x')",
    "SELECT edit('x')",
    "SELECT sqlite_log(1, 'x')",
]


@pytest.mark.parametrize("statement", WRITING)
def test_a_query_changes_nothing(database: Path, statement: str) -> None:
    before, names = contents(database), sorted(os.listdir(database.parent))
    with pytest.raises((EndpointDenied, EndpointRejected)):
        sql(database)("query", sql=statement.format(folder=database.parent))
    assert contents(database) == before
    assert sorted(os.listdir(database.parent)) == names


@pytest.mark.parametrize(
    "statement", ["DELETE FROM customer", "ATTACH ':memory:' AS x", "PRAGMA writable_schema = 1"]
)
def test_it_is_the_authorizer_that_refuses(database: Path, statement: str) -> None:
    with pytest.raises(EndpointDenied, match=r"^(DELETE|ATTACH|PRAGMA writable_schema) is not allowed here"):
        sql(database)("query", sql=statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; DELETE FROM customer",
        "SELECT 1; SELECT 2",
        "SELECT 1;; SELECT 2",
        "COMMIT; DELETE FROM customer",
        "",
        "   ",
        "-- only a comment",
        ";",
        "SELECT 'not closed",
        "SELECT 1\0; DELETE FROM customer",
        "\ud800",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT 1" + " " * 100_000,
        "SELEKT 1",
        "SELECT * FROM no_such_table",
    ],
)
@pytest.mark.parametrize("verb", ["query", "execute"])
def test_what_is_not_one_statement_is_an_error(database: Path, statement: str, verb: str) -> None:
    before = contents(database)
    if verb == "execute" and not statement.strip("; \n").removeprefix("-- only a comment"):
        assert sql(database, writable=True)(verb, sql=statement) == {"rows_changed": 0}
    else:
        with pytest.raises((EndpointRejected, EndpointDenied)):
            sql(database, writable=True)(verb, sql=statement)
    assert contents(database) == before


@pytest.mark.parametrize(
    "statement",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n) SELECT i FROM n ORDER BY i DESC",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT a.i FROM n a, n b WHERE a.i + b.i = 0",
        "WITH RECURSIVE n(i) AS (SELECT randomblob(1000000) UNION SELECT randomblob(1000000) FROM n) SELECT count(*) FROM n",
    ],
)
def test_a_query_that_never_ends_is_stopped(database: Path, statement: str) -> None:
    started = time.monotonic()
    with pytest.raises((EndpointTimeout, EndpointRejected, EndpointError), match=r"stopped|full|memory"):
        sql(database, seconds=0.5)("query", sql=statement)
    assert time.monotonic() - started < 20


def test_rows_that_never_end_are_counted_up_to_a_limit(database: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    found = sql(database)("query", sql=endless, limit=3)
    assert (found["rows"], found["more_rows"]) == ([[1], [2], [3]], "at least 100000")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT randomblob(1000000000)",
        "SELECT zeroblob(2000000000)",
        "SELECT hex(zeroblob(16000000))",
        "SELECT group_concat(hex(zeroblob(5000000))) FROM (VALUES (1), (2), (3))",
        "SELECT replace(hex(zeroblob(4000000)), '0', 'xxxxxxxxxx')",
    ],
)
def test_a_value_that_is_too_large_is_an_error(database: Path, statement: str) -> None:
    with pytest.raises(EndpointAnswerInvalid, match="larger than 16,777,216 bytes"):
        sql(database)("query", sql=statement)


def test_many_large_values_in_one_row_stay_within_the_memory_of_the_process(database: Path) -> None:
    columns = ", ".join(f"hex(zeroblob(8000000)) AS c{number}" for number in range(200))
    with pytest.raises(EndpointError, match="memory"):
        sql(database, seconds=30.0)("query", sql=f"SELECT {columns}")


def test_a_query_that_takes_long_to_compile_is_killed(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lllm.proxies.builtin.sqlite._GRACE", 0.5)
    layers = ["a0 AS (SELECT 1 AS x)"]
    layers += [f"a{n} AS (SELECT x FROM a{n - 1} UNION ALL SELECT x FROM a{n - 1})" for n in range(1, 40)]
    with pytest.raises((EndpointTimeout, EndpointRejected, EndpointError)):
        sql(database, seconds=0.5)("query", sql=f"WITH {', '.join(layers)} SELECT count(*) FROM a39")


def test_a_database_that_is_hostile_itself(tmp_path: Path) -> None:
    path = tmp_path / "evil.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("CREATE VIEW v AS SELECT load_extension('/tmp/evil.so') AS a")
    connection.execute("CREATE VIEW w AS SELECT file FROM pragma_database_list")
    connection.commit()
    connection.close()
    for name in ("v", "w"):
        with pytest.raises((EndpointDenied, EndpointRejected)):
            sql(path)("query", sql=f"SELECT * FROM {name}")
    assert {one["name"] for one in sql(path)("schema")["tables"]} == {"t", "v", "w"}
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(EndpointError, match="not a database"):
        sql(path)("query", sql="SELECT 1")


def test_a_database_in_wal_mode_and_one_that_is_busy(database: Path) -> None:
    with sqlite3.connect(database, isolation_level=None) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM customer")
        assert sql(database)("query", sql="SELECT count(*) FROM customer")["rows"] == [[2]]
        with pytest.raises(EndpointError, match="in use by somebody else"):
            sql(database, writable=True, seconds=0.2)("execute", sql="DELETE FROM customer")
        other.execute("ROLLBACK")
    other.close()


# --- writing


def test_execute_changes_rows_and_says_how_many(database: Path) -> None:
    call = sql(database, writable=True)
    assert call("execute", sql="UPDATE customer SET name = name || ?", parameters=["!"]) == {
        "rows_changed": 2
    }
    made = call("execute", sql="INSERT INTO customer (name) VALUES ('Eve') RETURNING id")
    assert made == {"columns": ["id"], "rows": [[3]], "rows_changed": 1}
    assert call("execute", sql="INSERT INTO notes VALUES ('sand')")["rows_changed"]
    assert call("query", sql="SELECT name FROM customer")["rows"] == [["Ada!"], ["Bob!"], ["Eve"]]
    with pytest.raises(EndpointRejected, match="FOREIGN KEY"):
        call("execute", sql='INSERT INTO "or""der" VALUES (9, 99, 1)')
    with pytest.raises(EndpointRejected, match="UNIQUE"):
        call("execute", sql="INSERT INTO customer (name) VALUES ('New'), ('Eve')")
    assert call("query", sql="SELECT count(*) FROM customer")["rows"] == [[3]]


@pytest.mark.parametrize(
    "statement",
    [
        one
        for one in WRITING
        if not ("customer" in one or "INTO notes" in one) or one.startswith(("DROP", "CREATE", "ALTER"))
    ]
    + ["INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 1, 'x')", "UPDATE sqlite_sequence SET seq = 1"],
)
def test_execute_changes_rows_only(database: Path, statement: str) -> None:
    before, names = contents(database), sorted(os.listdir(database.parent))
    with pytest.raises((EndpointDenied, EndpointRejected)):
        sql(database, writable=True)("execute", sql=statement.format(folder=database.parent))
    assert contents(database) == before
    assert sorted(os.listdir(database.parent)) == names


@pytest.mark.parametrize("killed", [False, True])
def test_a_change_that_takes_too_long_is_undone(
    database: Path, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(database)
    endless = """
        INSERT INTO customer (name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT hex(randomblob(2000)) FROM n
    """
    with monkeypatch.context() as patch:
        # killed in the middle of writing by the clock of the parent, or interrupted by its own
        patch.setattr("lllm.proxies.builtin.sqlite._GRACE", -29.0 if killed else 60.0)
        with pytest.raises(EndpointTimeout) as caught:
            sql(database, writable=True, seconds=30.0 if killed else 1.0)("execute", sql=endless)
    assert ("look whether it took effect" in str(caught.value)) is killed
    assert sorted(os.listdir(database.parent)) == [database.name]  # and no journal is left
    assert contents(database) == before
    assert sql(database)("query", sql="SELECT count(*) FROM customer")["rows"] == [[2]]


def test_writing_is_there_only_where_it_is_allowed(database: Path) -> None:
    proxy = Proxy(["sql"], options={"sql": {"database": str(database)}})
    assert sorted(proxy.endpoints) == ["sql.query", "sql.schema"]
    assert {one.effect for one in proxy.endpoints.values()} == {"pure"}
    allowed = Proxy(["sql"], options={"sql": {"database": str(database), "writable": True}})
    assert allowed.endpoints["sql.execute"].approval
    assert allowed.endpoints["sql.execute"].effect == "ask"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of the options 'database'"),
        ({"database": "a.db", "url_env": "URL"}, "one of the options 'database'"),
        ({"database": "/no/such.db"}, "no SQLite database at"),
        ({"database": "/"}, "no SQLite database at"),
        ({"url_env": "postgresql://u:secret@h/d"}, "no address in its options"),
        ({"database": "postgresql://u:secret@h/d"}, "no address in its options"),
        ({"url_env": "host=h password=secret"}, "no address in its options"),
        ({"database": "a.db", "seconds": 0}, "must be seconds above 0"),
    ],
)
def test_options_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Proxy(["sql"], options={"sql": options})
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
