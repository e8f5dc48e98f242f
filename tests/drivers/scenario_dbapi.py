"""The shared scenario for MySQL in drivers of Python's database interface: PyMySQL and mysqlclient, named on the command line."""
import contextlib
import faulthandler
import importlib
import os
import sys
import tempfile
import threading
import time

from report import CA, HANGS_AFTER, OTHER_CA, PASSWORD, POOLED, PORT, USER, Report, same

driver = importlib.import_module(sys.argv[1])
IS_PYMYSQL = sys.argv[1] == "pymysql"
CLIENT = importlib.import_module(sys.argv[1] + ".constants.CLIENT")


class Skip(Exception):
    pass


@contextlib.contextmanager
def connect(ca=CA, autocommit=True, **more):
    settings = dict(host="127.0.0.1", port=PORT, user=USER, password=PASSWORD, database=POOLED, charset="utf8mb4",
                    connect_timeout=20, autocommit=autocommit, local_infile=True)
    if IS_PYMYSQL:
        settings.update(ssl_ca=ca, ssl_verify_cert=True, ssl_verify_identity=True, max_allowed_packet=1 << 26)
    else:
        settings.update(ssl={"ca": ca})
    settings.update(more)
    conn = driver.connect(**settings)
    try:
        yield conn
    finally:
        with contextlib.suppress(driver.Error):
            conn.close()


def rows(conn, sql, args=None):
    with contextlib.closing(conn.cursor()) as cursor:
        cursor.execute(sql, args)
        return [tuple(row) for row in cursor.fetchall()]


def value(conn, sql, args=None):
    return rows(conn, sql, args)[0][0]


def execute(conn, *statements):
    for sql in statements:
        rows(conn, sql)


def expect(codes, function):
    codes = codes if isinstance(codes, tuple) else (codes,)
    try:
        function()
    except driver.Error as error:
        assert error.args[0] in codes, f"the error is {error.args}, not {codes}"
        return error
    raise AssertionError(f"no error, where {codes} was due")


@contextlib.contextmanager
def another_at_work(statements=()):
    """Another client holds one of the servers, with settings of its own: what we do then runs on another, unless it is pinned."""
    with connect() as other:
        execute(other, "set time_zone = '-03:00', sql_mode = 'ANSI_QUOTES', @mine = 'theirs'", *statements)
        execute(other, "begin", "select count(*) from dual")
        yield other
        execute(other, "rollback")


def each_way(*checks):
    """Runs each check alone, beside another at work, and after it: on whichever server."""
    for check in checks:
        check()
    with another_at_work():
        for check in checks:
            check()
    for check in checks:
        check()


def connect_step():
    # A pooler that has just started may not know yet what its server is.
    with connect() as conn:
        value(conn, "select 1")
    with connect() as conn:
        same(value(conn, "select concat('hello ', substring_index(current_user(), '@', 1))"), "hello app")
        assert "MariaDB" in conn.get_server_info(), conn.get_server_info()
        same(value(conn, "select database()"), POOLED)
        if IS_PYMYSQL:
            assert conn._secure, "no TLS"
    # Without TLS, as the listener permits it.
    without = dict(ssl=None, ssl_ca=None, ssl_verify_cert=None, ssl_verify_identity=None) if IS_PYMYSQL else {"ssl": {}}
    with connect(**without) as conn:
        same(value(conn, "select 'ä€😀'"), "ä€😀")


def refusals_step():
    for more in (dict(password="wrong"), dict(user="nobody"), dict(password="")):
        expect(1045, lambda m=more: connect(**m).__enter__())

    def no_such_schema():
        # A pooler that does not wait for a server at login tells it at the first statement.
        with connect(database="no_such_schema") as conn:
            value(conn, "select 1")
    expect((1044, 1049), no_such_schema)
    if IS_PYMYSQL:
        error = expect(2003, lambda: connect(ca=OTHER_CA).__enter__())
        assert "certificate verify failed" in str(error), error


def prepared_step():
    # As text; these drivers do not speak the binary protocol.
    with connect() as conn:
        execute(conn, "prepare s from 'select ? + 1'")

        def run(n):
            execute(conn, f"set @n = {n}")
            same(int(value(conn, "execute s using @n")), n + 1)
        each_way(lambda: run(5), lambda: run(41))
        execute(conn, "deallocate prepare s")
        expect(1243, lambda: execute(conn, "execute s using @n"))
        same(value(conn, "execute immediate 'select 7'"), 7)
    with connect() as conn:
        expect(1243, lambda: execute(conn, "execute s using @n"))


def transactions_step():
    with connect(autocommit=False) as conn, connect() as other:
        execute(conn, "drop table if exists account", "create table account (id int primary key, amount int)")
        execute(conn, "insert into account values (1, 100)")
        same(value(other, "select count(*) from account"), 0, "rows seen by another before the commit")
        conn.rollback()
        same(value(conn, "select count(*) from account"), 0, "rows after the rollback")
        execute(conn, "insert into account values (1, 100)")
        conn.commit()
        same(value(other, "select amount from account"), 100)
        execute(conn, "update account set amount = 1", "savepoint s", "update account set amount = 2",
                "rollback to savepoint s")
        conn.commit()
        same(value(other, "select amount from account"), 1, "the amount after the savepoint's rollback")
        # Autocommit is the client's own.
        execute(other, "update account set amount = 3")
        conn.rollback()
        same(value(conn, "select amount from account"), 3)
        conn.rollback()
        execute(conn, "set session transaction isolation level read committed")
        same(value(conn, "select amount from account"), 3)
        execute(other, "update account set amount = 4")
        same(value(conn, "select amount from account"), 4, "the amount read again in read committed")
        conn.rollback()
        execute(other, "set transaction read only", "begin")
        expect(1792, lambda: execute(other, "update account set amount = 5"))
        execute(other, "rollback", "update account set amount = 6")
        conn.rollback()
        execute(conn, "drop table account")


def errors_step():
    with connect() as conn:
        expect(1064, lambda: execute(conn, "selec 1"))
        expect(1146, lambda: execute(conn, "select * from no_such_table"))
        execute(conn, "create or replace table once (a int primary key)", "begin", "insert into once values (1)")
        expect(1062, lambda: execute(conn, "insert into once values (1)"))
        # The transaction goes on.
        same(value(conn, "select count(*) from once"), 1)
        execute(conn, "rollback")
        same(value(conn, "select count(*) from once"), 0, "rows after an error and a rollback")
        error = expect(1644, lambda: execute(conn, "signal sqlstate '45000' set message_text = 'take note'"))
        same(error.args[1], "take note")
        execute(conn, "drop table once")


def large_values_step():
    with connect() as conn:
        data = bytes(range(256)) * (3 << 12)
        same(value(conn, "select cast(%s as binary)", (data,)), data, "3 MiB there and back")
        same(len(value(conn, "select repeat('x', 20000000)")), 20000000, "the length of a value of more than 16 MiB")
        same(value(conn, "select length(%s)", ("y" * 20000000,)), 20000000, "the length of a statement of more than 16 MiB")
        got = rows(conn, "select seq, repeat('z', 100) from seq_1_to_30000")
        same(sum(n + len(text) for n, text in got), 30000 * 30001 // 2 + 3000000, "the sum over many rows")


def schema_step():
    with connect() as conn:
        execute(conn, "create or replace table other.here (a int)", "use other")
        each_way(lambda: same(value(conn, "select database()"), "other"),
                 lambda: same(value(conn, "select count(*) from here"), 0))
        conn.select_db(POOLED)
        each_way(lambda: same(value(conn, "select database()"), POOLED))
        expect(1146, lambda: execute(conn, "select * from here"))
        execute(conn, "drop table other.here")
    with connect() as conn:
        same(value(conn, "select database()"), POOLED)


def settings_step():
    with connect() as conn:
        execute(conn, "set time_zone = '+05:00', sql_mode = '', group_concat_max_len = 4711",
                "set session transaction isolation level serializable", "set names latin1 collate latin1_german1_ci")
        each_way(lambda: same(rows(conn, "select @@time_zone, @@sql_mode, @@group_concat_max_len, @@tx_isolation, "
                                   "@@character_set_client, @@character_set_results, @@collation_connection")[0],
                              ("+05:00", "", 4711, "SERIALIZABLE", "latin1", "latin1", "latin1_german1_ci")))
        execute(conn, "set sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'")
        each_way(lambda: same(value(conn, 'select length(\'a\\\') as "length"'), 2))
        with connect() as other:
            same(rows(other, "select @@time_zone, @@group_concat_max_len, @@tx_isolation")[0],
                 ("SYSTEM", 1048576, "REPEATABLE-READ"), "another's settings")
            assert "STRICT_TRANS_TABLES" in value(other, "select @@sql_mode")
    with connect(sql_mode="PIPES_AS_CONCAT", init_command="set group_concat_max_len = 815") as conn:
        each_way(lambda: same(value(conn, "select 'a' || 'b'"), "ab"),
                 lambda: same(value(conn, "select @@group_concat_max_len"), 815))


def variables_step():
    with connect() as conn, connect() as other:
        execute(conn, "set @a = 'ours'")
        each_way(lambda: same(value(conn, "select @a"), "ours"), lambda: same(value(other, "select @a"), None))
        value(conn, "select @b := 5")
        execute(conn, "select 6 into @c")
        each_way(lambda: same(rows(conn, "select @a, @b, @c")[0], ("ours", 5, 6)))
        same(rows(other, "select @b, @c, @mine")[0], (None, None, None), "another's variables")


def temporary_step():
    with connect() as conn, connect() as other:
        execute(conn, "create temporary table t (a int)", "insert into t values (1), (2)")
        each_way(lambda: same(value(conn, "select count(*) from t"), 2),
                 lambda: expect(1146, lambda: execute(other, "select * from t")))
        execute(conn, "drop temporary table t")
        expect(1146, lambda: execute(conn, "select * from t"))


def insert_id_step():
    with connect() as conn, connect() as other:
        execute(conn, "create or replace table ids (id int auto_increment primary key, who text)")
        for i in range(6):
            for who, name in ((conn, "a"), (other, "b")):
                cursor = who.cursor()
                cursor.execute("insert into ids (who) values (%s)", (name,))
                got = cursor.lastrowid
                cursor.close()
                each = conn if who is other else other
                value(each, "select 1")
                same(value(who, "select last_insert_id()"), got, f"the last insert id of {name}")
                same(value(who, "select who from ids where id = last_insert_id()"), name)
        last = value(conn, "insert into ids (who) values ('c') returning id")
        value(other, "insert into ids (who) values ('d') returning id")
        same(value(conn, "select last_insert_id()"), last, "the last insert id behind RETURNING")
        value(conn, "select last_insert_id(4711)")
        each_way(lambda: same(value(conn, "select last_insert_id()"), 4711))
        execute(conn, "drop table ids")


def found_rows_step():
    with connect() as conn, connect() as other:
        for i in range(4):
            value(conn, "select sql_calc_found_rows seq from seq_1_to_30 limit 1")
            value(other, "select sql_calc_found_rows seq from seq_1_to_7 limit 1")
            same(value(conn, "select found_rows()"), 30)
            same(value(other, "select found_rows()"), 7)
        execute(conn, "create or replace table counted (a int)", "insert into counted values (1), (1), (2)")
        for i in range(3):
            execute(conn, "update counted set a = a + 1 where a < 2000")
            value(other, "select 1")
            same(value(conn, "select row_count()"), 3)
        for flag, count in ((0, 0), (CLIENT.FOUND_ROWS, 3)):
            with connect(client_flag=flag) as client, contextlib.closing(client.cursor()) as cursor:
                same(cursor.execute("update counted set a = a"), count, "the number of rows as the client's flag wants it")
        execute(conn, "drop table counted")


def warnings_step():
    with connect() as conn, connect() as other:
        # One that has asked before is given more time to ask: however slow the machine, that is enough.
        rows(conn, "show warnings")
        for i in range(4):
            value(conn, "select cast('x' as signed)")
            value(other, "select 1")
            same([row[1] for row in rows(conn, "show warnings")], [1292])
            same(rows(other, "show warnings"), [])
            value(conn, "select cast('x' as signed), cast('y' as signed)")
            same(value(conn, "select @@warning_count"), 2)
        expect(1146, lambda: execute(conn, "select * from no_such_table"))
        value(other, "select 1")
        same([row[1] for row in rows(conn, "show errors")], [1146])


def locks_step():
    with connect() as conn, connect() as other:
        same(value(conn, "select get_lock('l', 1)"), 1)
        each_way(lambda: same(value(other, "select is_free_lock('l')"), 0),
                 lambda: same(value(other, "select get_lock('l', 0)"), 0))
        same(value(conn, "select release_lock('l')"), 1)
        same(value(other, "select get_lock('l', 0)"), 1)
        same(value(other, "select release_all_locks()"), 1)
        execute(conn, "create or replace table locked (a int)", "lock tables locked write", "insert into locked values (1)")
        execute(other, "set lock_wait_timeout = 1")
        expect(1205, lambda: execute(other, "select * from locked"))
        execute(conn, "unlock tables")
        each_way(lambda: same(value(other, "select count(*) from locked"), 1))
        execute(conn, "drop table locked")


def procedures_step():
    with connect() as conn, connect() as other:
        execute(conn, "create or replace procedure two(in n int, out o int) begin select n; select n + 1, 'x'; "
                "set o = n * 2; set @inside = n; end")
        for n in range(4):
            with contextlib.closing(conn.cursor()) as cursor:
                cursor.execute(f"call two({n}, @o)")
                got = [list(cursor.fetchall())]
                while cursor.nextset():
                    got.append(list(cursor.fetchall()))
            same([[tuple(r) for r in g] for g in got[:2]], [[(n,)], [(n + 1, "x")]], "results")
            same(rows(other, "select @o, @inside")[0], (None, None))
            same(rows(conn, "select @o, @inside")[0], (n * 2, n))
        execute(conn, "drop procedure two")


def several_step():
    with connect(client_flag=CLIENT.MULTI_STATEMENTS) as conn, contextlib.closing(conn.cursor()) as cursor:
        for _ in range(3):
            cursor.execute("select 1; select 2, 'x;y'; set @a = 3; select @a")
            got = []
            while True:
                got += cursor.fetchall()
                if not cursor.nextset():
                    break
            same([tuple(row) for row in got], [(1,), (2, "x;y"), (3,)])

        def broken():
            cursor.execute("select 1; selec 2; select 3")
            while cursor.nextset():
                pass
        expect(1064, broken)
        same(value(conn, "select 4"), 4)
    if IS_PYMYSQL:
        with connect() as conn:
            expect(1064, lambda: execute(conn, "select 1; select 2"))


def local_infile_step():
    with connect() as conn, tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.writelines(f"{i},row {i}\n" for i in range(30000))
        file.flush()
        execute(conn, "create or replace table loaded (a int, b text)")
        execute(conn, f"load data local infile '{file.name}' into table loaded fields terminated by ','")
        same(rows(conn, "select count(*), max(b) from loaded")[0], (30000, "row 9999"))
        expect((2, 1017, 29), lambda: execute(conn, "load data local infile '/no/such/file' into table loaded"))
        same(value(conn, "select 1"), 1)
        execute(conn, "drop table loaded")


def kill_step():
    with connect() as conn, connect() as killer, connect() as bystander:
        for what, sql in (("query", "kill query {}"), ("query", "KILL /* it */ QUERY {};")):
            ended = []

            def long_query():
                try:
                    value(conn, "select count(*) from seq_1_to_1000000 a, seq_1_to_1000000 b where a.seq + b.seq < 0")
                    ended.append("no error")
                except driver.Error as error:
                    ended.append(error.args[0])

            thread = threading.Thread(target=long_query, daemon=True)
            thread.start()
            for _ in range(200):
                if value(killer, "select count(*) from information_schema.processlist where info like '%b.seq < 0' "
                         "and info not like '%processlist%'"):
                    break
                time.sleep(0.01)
            execute(killer, sql.format(conn.thread_id()))
            thread.join()
            same(ended, [1317], "how the query ended")
            same(value(conn, "select 1"), 1)
        same(value(bystander, "select 2"), 2)
        expect(1094, lambda: execute(killer, "kill query 999999999"))
        execute(killer, f"kill {conn.thread_id()}")
        expect((2006, 2013, 2026, 1927, 0), lambda: execute(conn, "select 1"))


def reset_step():
    if IS_PYMYSQL:
        raise Skip("it has neither COM_CHANGE_USER nor COM_RESET_CONNECTION")
    with connect() as conn:
        execute(conn, "set @a = 1, time_zone = '+05:00'", "create temporary table t (a int)", "begin")
        conn.change_user(USER, PASSWORD, "other")
        each_way(lambda: same(rows(conn, "select @a, @@time_zone, database()")[0], (None, "SYSTEM", "other")))
        expect(1146, lambda: execute(conn, "select * from t"))
        expect(1045, lambda: conn.change_user(USER, "wrong", POOLED))


STEPS = (("connect", connect_step), ("refusals", refusals_step), ("prepared", prepared_step),
         ("transactions", transactions_step), ("errors", errors_step), ("large_values", large_values_step),
         ("schema", schema_step), ("settings", settings_step), ("variables", variables_step),
         ("temporary", temporary_step), ("insert_id", insert_id_step), ("found_rows", found_rows_step),
         ("warnings", warnings_step), ("locks", locks_step), ("procedures", procedures_step), ("several", several_step),
         ("local_infile", local_infile_step), ("kill", kill_step), ("reset", reset_step))


def main():
    faulthandler.dump_traceback_later(HANGS_AFTER)
    report = Report()
    only = os.environ.get("STEPS", "").split()
    for name, step in STEPS:
        if only and name not in only:
            continue
        try:
            step()
        except Skip as why:
            print(f"skip - {name}: {why}", flush=True)
        except Exception as error:
            report.wrong(name, error)
        else:
            report.ok(name)
    faulthandler.cancel_dump_traceback_later()
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
