"""The shared scenario in asyncpg."""
import asyncio
import faulthandler
import io
import ssl
import sys
import time

import asyncpg

from report import CA, DIRECT, HANGS_AFTER, HOST, OTHER_CA, PASSWORD, POOLED, PORT, SESSION, USER, Report, same


async def connect(database=POOLED, ca=CA, **more):
    # Verifies chain and name, as libpq's verify-full.
    settings = dict(host=HOST, port=PORT, user=USER, password=PASSWORD, database=database,
                    ssl=ssl.create_default_context(cafile=ca), timeout=20)
    settings.update(more)
    return await asyncpg.connect(**settings)


class Connected:
    """async with Connected(…) as conn."""

    def __init__(self, *arguments, **more):
        self.arguments, self.more = arguments, more

    async def __aenter__(self):
        self.conn = await connect(*self.arguments, **self.more)
        return self.conn

    async def __aexit__(self, kind, error, trace):
        if kind:
            self.conn.terminate()
        else:
            await self.conn.close(timeout=10)


async def expect(sqlstate, awaitable):
    try:
        await awaitable
    except asyncpg.PostgresError as error:
        same(error.sqlstate, sqlstate, f"the state of \"{error}\"")
        return
    raise AssertionError(f"no error, where {sqlstate} was due")


async def connect_step():
    async with Connected() as conn:
        same(await conn.fetchval("select 'hello ' || current_user"), "hello app")
        assert conn._transport.get_extra_info("ssl_object") is not None, "no TLS"
        assert conn.get_server_version().major >= 13
        same(conn.get_settings().client_encoding, "UTF8")


async def refusals_step():
    for more, kind in ((dict(ca=OTHER_CA), ssl.SSLCertVerificationError),
                       (dict(password="wrong"), asyncpg.InvalidPasswordError),
                       (dict(user="nobody"), asyncpg.InvalidPasswordError)):
        try:
            await (await connect(**more)).close()
        except kind:
            continue
        raise AssertionError(f"connected with {more}")


async def both_servers(execute):
    """Makes a client's statement run on each of the two servers, by holding the other one in a transaction."""
    async with Connected() as one, Connected() as two:
        seen = set()
        for _ in range(2):
            # Both servers are held; which one is let go decides where the statement has to run.
            pids = {}
            for conn in (one, two):
                await conn.execute("begin")
                pids[await conn.fetchval("select pg_backend_pid()")] = conn
            same(len(pids), 2, "the number of servers of two transactions")
            free = next(pid for pid in pids if DIRECT or pid not in seen)
            seen.add(free)
            await pids[free].execute("commit")
            got = await execute()
            await pids[next(pid for pid in pids if pid != free)].execute("commit")
            assert DIRECT or got == free, f"the statement ran on {got}, and only {free} was free"


async def prepared_step():
    async with Connected() as conn:
        statement = await conn.prepare("select pg_backend_pid(), $1::int")

        async def execute():
            return (await statement.fetchrow(1))[0]

        # asyncpg ends prepare() with Flush, so that the server is its own until the Sync of an execution.
        await execute()
        await both_servers(execute)
        await both_servers(execute)

    async def work(name):
        # asyncpg names its statements alike in every client, whatever their texts.
        async with Connected(statement_cache_size=10) as conn:
            for i in range(40):
                token = f"{name}-{i}"
                async with conn.transaction():
                    same(await conn.fetchval("select $1::text || '!'", token), token + "!")
                    same(await conn.fetchval(f"select $1::int + {i % 15}", i), i + i % 15)
                    if i == 20:
                        assert await conn.fetchval("select count(*) from pg_prepared_statements where not from_sql")
                same(await conn.fetchval(f"select $1::text || '{name}'", token), token + name)
                if not DIRECT:
                    servers = await conn.fetchval("select count(*) from pg_stat_activity where datname = $1 and "
                                                  "backend_type = 'client backend'", POOLED)
                    assert servers <= 2, f"{servers} server connections"

    await asyncio.gather(*[work(f"client{n}") for n in range(6)])
    # Types of one's own are looked up by statements that asyncpg prepares on its own.
    async with Connected() as conn:
        await conn.execute("drop type if exists ap_mood; create type ap_mood as enum ('glad', 'sad')")
        same(await conn.fetchval("select $1::ap_mood[]", ["sad", "glad"]), ["sad", "glad"])
        await conn.execute("drop type ap_mood")


async def transactions_step():
    async with Connected() as conn, Connected() as other:
        await conn.execute("drop table if exists ap_account; create table ap_account (id int, amount int)")
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("insert into ap_account values ($1, $2)", 1, 100)
        same(await other.fetchval("select count(*) from ap_account"), 0, "rows seen by another before the commit")
        await transaction.rollback()
        same(await conn.fetchval("select count(*) from ap_account"), 0, "rows after the rollback")
        async with conn.transaction(isolation="serializable"):
            await conn.execute("insert into ap_account values ($1, $2)", 1, 1)
            try:
                async with conn.transaction():
                    await conn.execute("update ap_account set amount = 2")
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            rows = [row[0] async for row in conn.cursor("select generate_series(1, 500)", prefetch=50)]
            same(rows, list(range(1, 501)), "a cursor's rows")
        same(await other.fetchval("select amount from ap_account"), 1, "the amount after the savepoint's rollback")
        await conn.execute("drop table ap_account")


async def errors_step():
    async with Connected() as conn:
        await expect("42601", conn.execute("selec 1"))
        for _ in range(5):
            await expect("22012", conn.fetchval("select 1 / $1::int", 0))
            same(await conn.fetchval("select 6 / $1::int", 3), 2)
        await expect("42P01", conn.fetch("select * from no_such_table where a = $1", 1))
        await conn.execute("begin")
        await expect("22012", conn.execute("select 1 / 0"))
        await expect("25P02", conn.fetchval("select 1"))
        await conn.execute("rollback")
        same(await conn.fetchval("select 1"), 1)
        notices = []
        conn.add_log_listener(lambda _conn, message: notices.append(message.message))
        await conn.execute("do $$ begin raise notice 'take note'; end $$")
        await conn.fetchval("select 1")
        same(notices, ["take note"], "notices")
        # A table that changes under a prepared statement.
        await conn.execute("drop table if exists ap_changes; create table ap_changes as select 1 as a")
        same(len(await conn.fetchrow("select * from ap_changes")), 1)
        await conn.execute("alter table ap_changes add b int")
        same(len(await conn.fetchrow("select * from ap_changes")), 2, "columns after ALTER TABLE")
        await conn.execute("drop table ap_changes")


async def large_values_step():
    async with Connected() as conn:
        data = bytes(range(256)) * (3 << 12)
        same(await conn.fetchval("select $1::bytea", data), data, "3 MiB of bytea")
        same(len(await conn.fetchval("select repeat('x', 5000000)")), 5000000, "length")
        rows = await conn.fetch("select i, repeat('y', 100) from generate_series(1, 20000) i")
        same(sum(row[0] + len(row[1]) for row in rows), 20000 * 20001 // 2 + 2000000, "the sum over many rows")


async def copy_step():
    async with Connected() as conn:
        await conn.execute("drop table if exists ap_copy; create table ap_copy (a int, b text)")
        rows = [(i, f"row {i}\t\\") for i in range(20000)]
        same(await conn.copy_records_to_table("ap_copy", records=rows), "COPY 20000")
        out = io.BytesIO()
        same(await conn.copy_from_query("select a from ap_copy where a < $1 order by a", 10000, output=out),
             "COPY 10000")
        same(out.getvalue(), b"".join(b"%d\n" % i for i in range(10000)), "what was copied out")
        await expect("22P02", conn.copy_to_table("ap_copy", source=io.BytesIO(b"not a number\tx\n")))

        async def breaks():
            yield b"1\tx\n"
            raise ZeroDivisionError

        try:
            await conn.copy_to_table("ap_copy", source=breaks())
            raise AssertionError("a COPY without its end succeeded")
        except (ZeroDivisionError, asyncpg.QueryCanceledError):
            pass
        same(await conn.fetchval("select count(*) from ap_copy"), 20000, "rows after two failed copies")
        same(await conn.fetch("select * from ap_copy order by a"), rows, "rows")
        await conn.execute("drop table ap_copy")


async def large_object_step():
    async with Connected() as conn:
        data = bytes(range(256)) * 2048
        async with conn.transaction():
            oid = await conn.fetchval("select lo_create(0)")
            fd = await conn.fetchval("select lo_open($1, $2)", oid, 0x60000)
            for at in range(0, len(data), 65536):
                same(await conn.fetchval("select lowrite($1, $2)", fd, data[at:at + 65536]), 65536)
            same(await conn.fetchval("select lo_lseek($1, 0, 0)", fd), 0)
            got = b"".join([await conn.fetchval("select loread($1, 100000)", fd) for _ in range(6)])
            same(got, data, "the large object")
            await conn.execute(f"select lo_close({fd})")
        same(await conn.fetchval("select length(lo_get($1))", oid), len(data))
        await conn.execute(f"select lo_unlink({oid})")


async def cancel_step():
    stop = asyncio.Event()

    async def bystander():
        async with Connected() as conn:
            i = 0
            while not stop.is_set():
                i += 1
                same((await conn.fetchrow("select $1::int, pg_sleep(0.01)", i))[0], i)

    async def cancels():
        try:
            async with Connected() as conn:
                for _ in range(5):
                    began = time.monotonic()
                    try:
                        await conn.execute("select pg_sleep(20)", timeout=0.1)
                        raise AssertionError("the query was not cancelled")
                    except asyncio.TimeoutError:
                        pass
                    same(await conn.fetchval("select 1"), 1)
                    assert time.monotonic() - began < 10, "the cancel came late"
                task = asyncio.ensure_future(conn.fetchval("select pg_sleep(20)"))
                await asyncio.sleep(0.1)
                task.cancel()
                try:
                    await task
                    raise AssertionError("the query was not cancelled")
                except asyncio.CancelledError:
                    pass
                same(await conn.fetchval("select 2"), 2)
        finally:
            stop.set()

    await asyncio.gather(bystander(), cancels())


async def listen_step():
    async with Connected(SESSION) as listener, Connected(SESSION) as notifier:
        heard = asyncio.Queue()
        await listener.add_listener("ap_channel", lambda _conn, pid, _channel, payload: heard.put_nowait(
            (pid, payload)))
        pid = await notifier.fetchval("select pg_backend_pid()")
        for i in range(5):
            await notifier.execute("select pg_notify('ap_channel', $1)", str(i))
        for i in range(5):
            same(await asyncio.wait_for(heard.get(), 10), (pid, str(i)), "notification")
        await listener.execute("create temp table kept as select 7 as a")
        same(await listener.fetchval("select a from kept"), 7)
        await listener.reset()
        await notifier.execute("notify ap_channel, 'to nobody'")
        same(await listener.fetchval("select 1"), 1)
        assert heard.empty(), "a notification after UNLISTEN"


async def pipeline_step():
    # asyncpg sends executemany's Bind and Execute messages without waiting in between.
    async def work(name):
        async with Connected() as conn:
            table = f"ap_batch_{name}"
            await conn.execute(f"drop table if exists {table}; create table {table} (a int primary key, b text)")
            await conn.executemany(f"insert into {table} values ($1, $2)", [(i, name) for i in range(1000)])
            same(await conn.fetchval(f"select count(*) from {table} where b = $1", name), 1000)
            # All of it or none.
            await expect("23505", conn.executemany(f"insert into {table} values ($1, $2)",
                                                   [(2000 + i, name) for i in range(500)] + [(5, name)]))
            same(await conn.fetchval(f"select count(*) from {table} where b = $1", name), 1000)
            await conn.execute(f"drop table {table}")

    await asyncio.gather(*[work(f"client{n}") for n in range(4)])


async def settings_step():
    async def work(zone):
        name = "ap " + zone
        async with Connected(server_settings={"TimeZone": zone, "application_name": name,
                                              "statement_timeout": "54321"}) as conn:
            query = ("select current_setting('TimeZone'), current_setting('application_name'), "
                     "current_setting('statement_timeout')")
            for _ in range(15):
                same(tuple(await conn.fetchrow(query)), (zone, name, "54321ms"))
            await conn.execute("set time zone 'Pacific/Auckland'")
            await conn.execute(f"set application_name = '{name} ''later'''")
            for _ in range(15):
                same(tuple(await conn.fetchrow(query))[:2], ("Pacific/Auckland", f"{name} 'later'"))
            same(conn.get_settings().TimeZone, "Pacific/Auckland")

    await asyncio.gather(*[work(zone) for zone in ("Asia/Tokyo", "Europe/Paris", "America/Lima", "Africa/Cairo")])


async def reset_step():
    # What asyncpg's pool does between two users of a connection; RESET ALL is part of it.
    async def work(zone):
        name = "ap " + zone
        async with Connected(server_settings={"TimeZone": zone, "application_name": name}) as conn:
            query = "select current_setting('TimeZone'), current_setting('application_name')"
            await conn.execute("set time zone 'Pacific/Auckland'; set application_name = 'another'")
            await conn.reset()
            for _ in range(5):
                same(tuple(await conn.fetchrow(query)), (zone, name), "settings after RESET ALL")

    await asyncio.gather(*[work(zone) for zone in ("Asia/Tokyo", "Europe/Paris", "America/Lima", "Africa/Cairo")])
    pool = await asyncpg.create_pool(host=HOST, port=PORT, user=USER, password=PASSWORD, database=POOLED,
                                     ssl=ssl.create_default_context(cafile=CA), min_size=1, max_size=8,
                                     server_settings={"application_name": "ap pool"})

    async def one(i):
        same(await pool.fetchval("select current_setting('application_name') || $1::int", i), f"ap pool{i}")

    await asyncio.gather(*[one(i) for i in range(100)])
    await asyncio.wait_for(pool.close(), 10)


def main():
    # Says where it hangs, before it is ended.
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
    report = Report()
    for step in (connect_step, refusals_step, prepared_step, transactions_step, errors_step, large_values_step,
                 copy_step, large_object_step, cancel_step, listen_step, pipeline_step, settings_step, reset_step):
        name = step.__name__[:-len("_step")]
        try:
            asyncio.run(asyncio.wait_for(step(), 15))
            report.ok(name)
        except Exception as error:
            report.wrong(name, error)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
