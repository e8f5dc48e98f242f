"""The shared scenario in psycopg 3."""
import faulthandler
import logging
import sys
import threading
import time

import psycopg

from report import CA, DIRECT, HANGS_AFTER, HOST, OTHER_CA, PASSWORD, POOLED, PORT, SESSION, USER, Report, same


def connect(dbname=POOLED, autocommit=True, prepare_threshold=5, **more):
    settings = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=dbname, sslmode="verify-full",
                    sslrootcert=CA, connect_timeout=20, autocommit=autocommit)
    settings.update(more)
    return psycopg.connect(prepare_threshold=prepare_threshold, **settings)


def value(conn, sql, args=None, **more):
    return conn.execute(sql, args, **more).fetchone()[0]


def threads(functions):
    """Runs them side by side; raises the first error."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:  # handed to the main thread
            errors.append(error)

    running = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


def expect(sqlstate, function):
    try:
        function()
    except psycopg.Error as error:
        same(error.sqlstate, sqlstate, f"the state of \"{error}\"")
        return error
    raise AssertionError(f"no error, where {sqlstate} was due")


def connect_step():
    # Channel binding makes it SCRAM-SHA-256-PLUS.
    for binding in ("disable", "require"):
        with connect(channel_binding=binding) as conn:
            same(value(conn, "select 'hello ' || current_user"), "hello app")
            same(conn.pgconn.ssl_in_use, True, "TLS")
            assert conn.info.server_version >= 130000
            same(conn.info.parameter_status("client_encoding"), "UTF8")


def refusals_step():
    for more in (dict(sslrootcert=OTHER_CA), dict(password="wrong"), dict(user="nobody")):
        try:
            connect(**more).close()
        except psycopg.OperationalError as error:
            text = str(error)
            assert ("certificate verify failed" in text) == ("sslrootcert" in more), text
            assert "sslrootcert" in more or "authentication failed" in text, text
        else:
            raise AssertionError(f"connected with {more}")


def both_servers(execute):
    """Makes a client's statement run on each of the two servers, by holding the other one in a transaction."""
    with connect() as one, connect() as two:
        seen = set()
        for _ in range(2):
            # Both servers are held; which one is let go decides where the statement has to run.
            pids = {}
            for conn in (one, two):
                conn.execute("begin")
                pids[value(conn, "select pg_backend_pid()")] = conn
            same(len(pids), 2, "the number of servers of two transactions")
            free = next(pid for pid in pids if DIRECT or pid not in seen)
            seen.add(free)
            pids[free].execute("commit")
            got = execute()
            pids[next(pid for pid in pids if pid != free)].execute("commit")
            assert DIRECT or got == free, f"the statement ran on {got}, and only {free} was free"


def prepared_step():
    def work(name):
        with connect(prepare_threshold=2) as conn:
            for i in range(40):
                token = f"{name}-{i}"
                with conn.transaction():
                    same(value(conn, "select %s::text || '!'", (token,)), token + "!")
                    same(value(conn, f"select %s::int + {i % 12}", (i,)), i + i % 12)
                    if i == 20:
                        count = value(conn, "select count(*) from pg_prepared_statements where not from_sql")
                        assert count > 0, "nothing is prepared"
                same(value(conn, "select %s::text || '!'", (token,)), token + "!")
                if not DIRECT:
                    servers = value(conn, "select count(*) from pg_stat_activity where datname = %s "
                                    "and backend_type = 'client backend'", (POOLED,))
                    assert servers <= 2, f"{servers} server connections"

    with connect() as conn:
        def execute():
            return conn.execute("select pg_backend_pid(), %s::int", (1,), prepare=True).fetchone()[0]

        both_servers(execute)
        both_servers(execute)
    threads([lambda n=n: work(f"client{n}") for n in range(6)])
    with connect() as conn:
        for i in range(150):
            # More than psycopg keeps (100): it sends DEALLOCATE for the oldest.
            same(value(conn, f"select {i} + %s::int", (1,), prepare=True), i + 1)
        conn.execute("deallocate all")


def transactions_step():
    with connect(autocommit=False) as conn, connect() as other:
        conn.execute("drop table if exists ps_account")
        conn.execute("create table ps_account (id int primary key, amount int)")
        conn.commit()
        conn.execute("insert into ps_account values (1, 100)")
        same(value(other, "select count(*) from ps_account"), 0, "rows seen by another before the commit")
        conn.rollback()
        same(value(conn, "select count(*) from ps_account"), 0, "rows after the rollback")
        conn.execute("insert into ps_account values (1, 100)")
        conn.commit()
        same(value(other, "select amount from ps_account"), 100)
        with conn.transaction():
            conn.execute("update ps_account set amount = 1")
            try:
                with conn.transaction():
                    conn.execute("update ps_account set amount = 2")
                    raise psycopg.Rollback()
            except psycopg.Rollback:
                pass
        conn.commit()
        same(value(other, "select amount from ps_account"), 1, "the amount after the savepoint's rollback")
        conn.execute("drop table ps_account")
        conn.commit()


def errors_step():
    with connect() as conn:
        expect("42601", lambda: conn.execute("selec 1"))
        for i in range(8):
            # Past the threshold, so in the prepared statement too.
            expect("22012", lambda: conn.execute("select 1 / %s::int", (0,)))
            same(value(conn, "select 6 / %s::int", (3,)), 2)
        expect("42P01", lambda: conn.execute("select * from no_such_table where a = %s", (1,)))
        conn.execute("begin")
        expect("23505", lambda: conn.execute("create temp table u (a int primary key) on commit drop; "
                                             "insert into u values (1), (1)"))
        expect("25P02", lambda: conn.execute("select 1"))
        conn.execute("rollback")
        same(value(conn, "select 1"), 1)
        notices = []
        conn.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
        conn.execute("do $$ begin raise notice 'take note'; end $$")
        same(notices, ["take note"], "notices")


def large_values_step():
    with connect() as conn:
        data = bytes(range(256)) * (3 << 12)
        same(value(conn, "select %b::bytea", (data,)), data, "3 MiB of bytea")
        same(len(value(conn, "select repeat('x', 5000000)")), 5000000, "length")
        total = 0
        for row in conn.cursor().stream("select i, repeat('y', 100) from generate_series(1, 30000) i"):
            total += row[0] + len(row[1])
        same(total, 30000 * 30001 // 2 + 3000000, "the sum over a stream of rows")


def copy_step():
    with connect() as conn, conn.cursor() as cur:
        cur.execute("drop table if exists ps_copy")
        cur.execute("create table ps_copy (a int, b text)")
        with cur.copy("copy ps_copy from stdin") as copy:
            for i in range(20000):
                copy.write_row((i, f"row {i}\t\\"))
        same(value(conn, "select count(*) from ps_copy"), 20000, "rows copied in")
        with cur.copy("copy (select * from ps_copy order by a) to stdout") as copy:
            copy.set_types(["int4", "text"])
            for i, row in enumerate(copy.rows()):
                same(row, (i, f"row {i}\t\\"), "row")
        same(i, 19999)

        def broken_in():
            with cur.copy("copy ps_copy from stdin") as copy:
                copy.write("not a number\tx\n")

        def given_up():
            with cur.copy("copy ps_copy from stdin") as copy:
                copy.write_row((1, "x"))
                raise ZeroDivisionError

        expect("22P02", broken_in)
        expect("57014", given_up)
        same(value(conn, "select count(*) from ps_copy"), 20000, "rows after two failed copies")
        conn.execute("drop table ps_copy")


def large_object_step():
    with connect(autocommit=False) as conn:
        data = bytes(range(256)) * 2048
        oid = value(conn, "select lo_create(0)")
        fd = value(conn, "select lo_open(%s, %s)", (oid, 0x60000))
        for at in range(0, len(data), 65536):
            same(value(conn, "select lowrite(%s, %s)", (fd, data[at:at + 65536])), 65536, "bytes written")
        same(value(conn, "select lo_lseek(%s, 0, 0)", (fd,)), 0)
        got = b"".join(value(conn, "select loread(%s, 100000)", (fd,)) for _ in range(6))
        same(got, data, "the large object")
        conn.execute("select lo_close(%s)", (fd,))
        conn.commit()
        same(value(conn, "select length(lo_get(%s))", (oid,)), len(data))
        conn.execute("select lo_unlink(%s)", (oid,))
        conn.commit()


def cancel_step():
    stop = threading.Event()

    def bystander():
        with connect() as conn:
            i = 0
            while not stop.is_set():
                i += 1
                same(conn.execute("select %s::int, pg_sleep(0.01)", (i,)).fetchone()[0], i)

    def cancels():
        try:
            with connect() as conn:
                for _ in range(5):
                    began = time.monotonic()
                    timer = threading.Timer(0.1, conn.cancel)
                    timer.start()
                    expect("57014", lambda: conn.execute("select pg_sleep(20)"))
                    timer.join()
                    assert time.monotonic() - began < 10, "the cancel came late"
                    same(value(conn, "select 1"), 1)
                conn.cancel()  # with nothing to cancel
                same(value(conn, "select 2"), 2)
        finally:
            stop.set()

    threads([bystander, cancels])


def listen_step():
    with connect(SESSION) as listener, connect(SESSION) as notifier:
        listener.execute("listen ps_channel")
        notifications = listener.notifies()
        timer = threading.Timer(0.1, lambda: notifier.execute("select pg_notify('ps_channel', 'while idle')"))
        timer.start()
        got = next(notifications)
        timer.join()
        same((got.channel, got.payload), ("ps_channel", "while idle"))
        same(got.pid, value(notifier, "select pg_backend_pid()"), "the notifier's process")
        notifications.close()
        heard = []
        listener.add_notify_handler(lambda notify: heard.append(notify.payload))
        for i in range(5):
            notifier.execute(f"notify ps_channel, '{i}'")
        deadline = time.monotonic() + 10
        while len(heard) < 5 and time.monotonic() < deadline:
            listener.execute("select 1")
        same(heard, list("01234"), "notifications")
        # What a session holds stays with it.
        listener.execute("create temp table kept (a int)")
        listener.execute("insert into kept values (7)")
        same(value(listener, "select a from kept"), 7)


def pipeline_step():
    if not psycopg.Pipeline.is_supported():
        raise AssertionError("this libpq has no pipeline mode")

    def work(name):
        with connect(prepare_threshold=2) as conn:
            for turn in range(5):
                with conn.pipeline() as pipeline:
                    cursors = [conn.execute("select %s::text, %s::int", (name, turn * 100 + i)) for i in range(30)]
                    pipeline.sync()
                    cursors += [conn.execute("select %s::text, %s::int", (name, turn * 100 + 30 + i))
                                for i in range(30)]
                    for i, cursor in enumerate(cursors):
                        same(cursor.fetchone(), (name, turn * 100 + i), "row")
            cur = conn.cursor()
            cur.executemany("select %s::text || %s::text", [(name, str(i)) for i in range(50)], returning=True)
            for i in range(50):
                same(cur.fetchone()[0], f"{name}{i}")
                cur.nextset()
            # An error ends what follows up to the Sync, and no more.
            good, after = conn.cursor(), conn.cursor()

            def failing():
                with conn.pipeline():
                    good.execute("select 1")
                    conn.execute("select 1 / %s::int", (0,))
                    after.execute("select 2")

            expect("22012", failing)
            same(good.fetchone()[0], 1)
            try:
                after.fetchone()
                raise AssertionError("a row after the error")
            except psycopg.Error:
                pass
            same(value(conn, "select 3"), 3)
            with conn.pipeline(), conn.transaction():
                rows = [conn.execute("select %s::int", (i,)) for i in range(10)]
                same([row.fetchone()[0] for row in rows], list(range(10)))
            same(value(conn, "select %s::text", (name,)), name)

    threads([lambda n=n: work(f"client{n}") for n in range(4)])


def settings_step():
    zones = ("Asia/Tokyo", "Europe/Paris", "America/Lima", "Africa/Cairo")

    def work(zone):
        name = "ps " + zone
        with connect(application_name=name, options=f"-c TimeZone={zone} -c statement_timeout=54321") as conn:
            same(conn.info.parameter_status("TimeZone"), zone)
            for _ in range(15):
                same(conn.execute("select current_setting('TimeZone'), current_setting('application_name'), "
                                  "current_setting('statement_timeout')").fetchone(), (zone, name, "54321ms"))
            conn.execute("set time zone 'Pacific/Auckland'")
            conn.execute(f"set application_name = '{name} ''later'''")
            for _ in range(15):
                same(conn.execute("select current_setting('TimeZone'), current_setting('application_name')")
                     .fetchone(), ("Pacific/Auckland", f"{name} 'later'"))
            same(conn.info.parameter_status("TimeZone"), "Pacific/Auckland")
            conn.execute("begin")
            conn.execute("set local time zone 'Etc/UTC'")
            same(value(conn, "show time zone"), "Etc/UTC")
            conn.execute("rollback")
            same(value(conn, "show time zone"), "Pacific/Auckland")

    threads([lambda z=z: work(z) for z in zones])


def reset_step():
    def work(zone):
        name = "ps " + zone
        query = "select current_setting('TimeZone'), current_setting('application_name'), current_setting('DateStyle')"
        with connect(application_name=name, options=f"-c TimeZone={zone} -c DateStyle=German,DMY") as conn:
            for how in ("reset all", "discard all"):
                conn.execute("set time zone 'Pacific/Auckland'")
                conn.execute("set application_name = 'another'; set datestyle = 'ISO, MDY'")
                conn.execute(how)
                for _ in range(5):
                    same(conn.execute(query).fetchone(), (zone, name, "German, DMY"), f"the settings after {how}")

    threads([lambda z=z: work(z) for z in ("Asia/Tokyo", "Europe/Paris", "America/Lima", "Africa/Cairo")])


def main():
    # Says where it hangs, before it is ended.
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
    # It warns of what the pipeline's step does on purpose.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    report = Report()
    for step in (connect_step, refusals_step, prepared_step, transactions_step, errors_step, large_values_step,
                 copy_step, large_object_step, cancel_step, listen_step, pipeline_step, settings_step, reset_step):
        name = step.__name__[:-len("_step")]
        try:
            step()
            report.ok(name)
        except Exception as error:
            report.wrong(name, error)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
