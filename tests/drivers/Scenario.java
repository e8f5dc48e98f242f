// The shared scenario in pgjdbc.

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

public final class Scenario {
	private static final boolean DIRECT = !System.getenv().getOrDefault("TEST_DIRECT", "").isEmpty();
	private static final String POOLED = "app";
	private static final String SESSION = "app_session";
	private static final ExecutorService THREADS = Executors.newCachedThreadPool(work -> {
		Thread thread = new Thread(work);
		thread.setDaemon(true);
		return thread;
	});

	private interface Step {
		void run() throws Exception;
	}

	private interface Numbered {
		void run(int number) throws Exception;
	}

	private static Connection connect(String database, String... more) throws SQLException {
		Properties settings = new Properties();
		settings.setProperty("user", "app");
		settings.setProperty("password", "app-secret");
		settings.setProperty("sslmode", "verify-full");
		settings.setProperty("sslrootcert", System.getenv("TEST_CA"));
		settings.setProperty("connectTimeout", "20");
		settings.setProperty("socketTimeout", "30");
		for (int i = 0; i < more.length; i += 2)
			settings.setProperty(more[i], more[i + 1]);
		return DriverManager.getConnection("jdbc:postgresql://localhost:" + System.getenv("TEST_PORT") + "/" + database, settings);
	}

	private static Connection connect() throws SQLException {
		return connect(POOLED);
	}

	private static void same(Object got, Object expected, String what) {
		if (!String.valueOf(got).equals(String.valueOf(expected)))
			throw new AssertionError(what + " is \"" + got + "\", not \"" + expected + "\"");
	}

	private static void run(Connection conn, String sql) throws SQLException {
		try (Statement statement = conn.createStatement()) {
			statement.execute(sql);
		}
	}

	private static String value(Connection conn, String sql) throws SQLException {
		try (Statement statement = conn.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
			rows.next();
			return rows.getString(1);
		}
	}

	private static String value(PreparedStatement statement, Object argument) throws SQLException {
		statement.setObject(1, argument);
		try (ResultSet rows = statement.executeQuery()) {
			rows.next();
			return rows.getString(1);
		}
	}

	private static void expect(String state, Step step) throws Exception {
		try {
			step.run();
		} catch (SQLException error) {
			same(error.getSQLState(), state, "the state of \"" + error.getMessage() + "\"");
			return;
		}
		throw new AssertionError("no error, where " + state + " was due");
	}

	private static void sideBySide(List<Callable<Void>> works) throws Exception {
		List<Future<Void>> futures = new ArrayList<>();
		for (Callable<Void> work : works)
			futures.add(THREADS.submit(work));
		for (Future<Void> future : futures) {
			try {
				future.get();
			} catch (ExecutionException error) {
				if (error.getCause() instanceof Exception cause)
					throw cause;
				if (error.getCause() instanceof Error cause)
					throw cause;
				throw error;
			}
		}
	}

	private static void many(int count, Numbered work) throws Exception {
		List<Callable<Void>> works = new ArrayList<>();
		for (int i = 0; i < count; i++) {
			int number = i;
			works.add(() -> {
				work.run(number);
				return null;
			});
		}
		sideBySide(works);
	}

	// ---- steps ----

	private static void connects() throws Exception {
		try (Connection conn = connect()) {
			same(value(conn, "select 'hello ' || current_user"), "hello app", "value");
			if (conn.getMetaData().getDatabaseMajorVersion() < 13)
				throw new AssertionError("version " + conn.getMetaData().getDatabaseProductVersion());
			same(conn.isValid(5), true, "the connection's validity");
		}
	}

	private static void refusals() throws Exception {
		for (String[] more : new String[][] {{"sslrootcert", System.getenv("TEST_OTHER_CA"), "08006"},
				{"password", "wrong", "28P01"}, {"user", "nobody", "28P01"}})
			expect(more[2], () -> connect(POOLED, more[0], more[1]).close());
	}

	// Makes a client's statement run on each of the two servers, by holding the other one in a transaction.
	private static void onBothServers(Callable<String> execute) throws Exception {
		try (Connection one = connect(); Connection two = connect()) {
			Set<String> seen = new HashSet<>();
			for (int turn = 0; turn < 2; turn++) {
				Map<String, Connection> pids = new LinkedHashMap<>();
				for (Connection conn : List.of(one, two)) {
					conn.setAutoCommit(false);
					pids.put(value(conn, "select pg_backend_pid()"), conn);
				}
				same(pids.size(), 2, "the number of servers of two transactions");
				String free = pids.keySet().stream().filter(pid -> DIRECT || !seen.contains(pid)).findFirst().get();
				seen.add(free);
				pids.get(free).commit();
				String got = execute.call();
				for (Connection conn : pids.values())
					conn.commit();
				if (!DIRECT)
					same(got, free, "where the statement ran");
			}
		}
	}

	private static void prepared() throws Exception {
		try (Connection conn = connect();
				PreparedStatement statement = conn.prepareStatement("select pg_backend_pid(), ?::int")) {
			for (int i = 0; i < 6; i++)
				value(statement, i);
			same(statement.unwrap(PGStatement.class).isUseServerPrepare(), true, "use of a server's statement");
			onBothServers(() -> value(statement, 7));
			onBothServers(() -> value(statement, 7));
		}
		// pgjdbc names its statements alike in every client (S_1, S_2, …), whatever their texts.
		many(6, number -> {
			try (Connection conn = connect(POOLED, "prepareThreshold", number % 2 == 0 ? "5" : "1", "preparedStatementCacheQueries",
					"8")) {
				for (int i = 0; i < 60; i++) {
					conn.setAutoCommit(i % 3 == 0);
					String token = "client" + number + "-" + i;
					try (PreparedStatement mine = conn.prepareStatement("select ?::text || '!" + number + "'");
							PreparedStatement plus = conn.prepareStatement("select ?::int + " + i % 12)) {
						same(value(mine, token), token + "!" + number, "value");
						same(value(plus, i), i + i % 12, "value");
						same(value(mine, token), token + "!" + number, "value");
					}
					if (i == 40)
						same(value(conn, "select count(*) > 0 from pg_prepared_statements where not from_sql"), "t",
								"that something is prepared");
					if (!DIRECT)
						same(value(conn, "select count(*) <= 2 from pg_stat_activity where datname = 'app' "
								+ "and backend_type = 'client backend'"), "t", "the bound of two servers");
					if (!conn.getAutoCommit())
						conn.commit();
				}
			}
		});
	}

	private static void transactions() throws Exception {
		try (Connection conn = connect(); Connection other = connect()) {
			run(conn, "drop table if exists jd_account; create table jd_account (id int, amount int)");
			conn.setAutoCommit(false);
			run(conn, "insert into jd_account values (1, 100)");
			same(value(other, "select count(*) from jd_account"), 0, "the number of rows seen before the commit");
			conn.rollback();
			same(value(conn, "select count(*) from jd_account"), 0, "the number of rows after the rollback");
			conn.commit();
			conn.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
			same(value(conn, "show transaction_isolation"), "serializable", "the isolation");
			run(conn, "insert into jd_account values (1, 1)");
			Savepoint savepoint = conn.setSavepoint();
			run(conn, "update jd_account set amount = 2");
			conn.rollback(savepoint);
			// Fetched in portions: a portal of the transaction.
			try (Statement statement = conn.createStatement()) {
				statement.setFetchSize(50);
				int sum = 0;
				try (ResultSet rows = statement.executeQuery("select generate_series(1, 1000)")) {
					while (rows.next())
						sum += rows.getInt(1);
				}
				same(sum, 500500, "the sum over a cursor's rows");
			}
			conn.commit();
			same(value(other, "select amount from jd_account"), 1, "the amount after the savepoint's rollback");
			run(other, "drop table jd_account");
		}
	}

	private static void errors() throws Exception {
		try (Connection conn = connect()) {
			expect("42601", () -> run(conn, "selec 1"));
			try (PreparedStatement quotient = conn.prepareStatement("select 6 / ?::int")) {
				for (int i = 0; i < 8; i++) {
					expect("22012", () -> value(quotient, 0));
					same(value(quotient, 3), 2, "value");
				}
			}
			expect("42P01", () -> value(conn, "select * from no_such_table"));
			conn.setAutoCommit(false);
			expect("22012", () -> run(conn, "select 1 / 0"));
			expect("25P02", () -> run(conn, "select 1"));
			conn.rollback();
			same(value(conn, "select 1"), 1, "value");
			conn.commit();
			conn.setAutoCommit(true);
			try (Statement statement = conn.createStatement()) {
				statement.execute("do $$ begin raise notice 'take note'; end $$");
				same(statement.getWarnings().getMessage(), "take note", "the notice");
			}
			// A table that changes under a prepared statement: pgjdbc itself prepares it anew, or Forebay does.
			run(conn, "drop table if exists jd_changes; create table jd_changes as select 1 as a");
			try (PreparedStatement changes = conn.prepareStatement("select * from jd_changes where a = ?")) {
				for (int i = 0; i < 8; i++) {
					if (i == 6)
						run(conn, "alter table jd_changes add b int");
					same(value(changes, 1), 1, "value");
				}
			}
			run(conn, "drop table jd_changes");
		}
	}

	private static void largeValues() throws Exception {
		byte[] data = new byte[3 << 20];
		for (int i = 0; i < data.length; i++)
			data[i] = (byte) (i * 7);
		try (Connection conn = connect(); PreparedStatement echo = conn.prepareStatement("select ?::bytea")) {
			echo.setBytes(1, data);
			try (ResultSet rows = echo.executeQuery()) {
				rows.next();
				if (!Arrays.equals(rows.getBytes(1), data))
					throw new AssertionError("3 MiB of bytea came back changed");
			}
			same(value(conn, "select repeat('x', 5000000)").length(), 5000000, "the length");
			long sum = 0;
			try (Statement statement = conn.createStatement(); ResultSet rows = statement.executeQuery(
					"select i, repeat('y', 100) from generate_series(1, 20000) i")) {
				while (rows.next())
					sum += rows.getInt(1) + rows.getString(2).length();
			}
			same(sum, 20000L * 20001 / 2 + 2000000, "the sum over many rows");
		}
	}

	private static void copy() throws Exception {
		StringBuilder lines = new StringBuilder();
		for (int i = 0; i < 20000; i++)
			lines.append(i).append("\trow ").append(i).append('\n');
		try (Connection conn = connect()) {
			CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
			run(conn, "drop table if exists jd_copy; create table jd_copy (a int, b text)");
			same(copy.copyIn("copy jd_copy from stdin", new StringReader(lines.toString())), 20000, "the number of rows in");
			ByteArrayOutputStream out = new ByteArrayOutputStream();
			same(copy.copyOut("copy (select * from jd_copy order by a) to stdout", out), 20000, "the number of rows out");
			if (!out.toString(StandardCharsets.UTF_8).equals(lines.toString()))
				throw new AssertionError("other rows came out than went in");
			expect("22P02", () -> copy.copyIn("copy jd_copy from stdin", new StringReader("not a number\tx\n")));
			copy.copyIn("copy jd_copy from stdin").cancelCopy();
			same(value(conn, "select count(*) from jd_copy"), 20000, "the number of rows after two failed copies");
			run(conn, "drop table jd_copy");
		}
	}

	private static void largeObject() throws Exception {
		byte[] data = new byte[512 << 10];
		for (int i = 0; i < data.length; i++)
			data[i] = (byte) (i * 11);
		try (Connection conn = connect()) {
			conn.setAutoCommit(false);
			// Function calls of the protocol.
			LargeObjectManager manager = conn.unwrap(PGConnection.class).getLargeObjectAPI();
			long oid = manager.createLO();
			try (LargeObject object = manager.open(oid, LargeObjectManager.READWRITE)) {
				for (int at = 0; at < data.length; at += 65536)
					object.write(data, at, 65536);
				object.seek(0);
				byte[] got = object.read(data.length);
				if (!Arrays.equals(got, data))
					throw new AssertionError("the large object came back changed");
			}
			conn.commit();
			manager.delete(oid);
			conn.commit();
		}
	}

	private static void cancel() throws Exception {
		AtomicBoolean done = new AtomicBoolean();
		Callable<Void> bystander = () -> {
			try (Connection conn = connect();
					PreparedStatement statement = conn.prepareStatement("select ?::int, pg_sleep(0.01)")) {
				for (int i = 0; !done.get(); i++)
					same(value(statement, i), i, "value");
			}
			return null;
		};
		Callable<Void> cancels = () -> {
			try (Connection conn = connect(); Statement statement = conn.createStatement()) {
				for (int i = 0; i < 5; i++) {
					long began = System.nanoTime();
					Future<Void> canceller = THREADS.submit(() -> {
						Thread.sleep(100);
						statement.cancel();
						return null;
					});
					expect("57014", () -> statement.execute("select pg_sleep(20)"));
					canceller.get();
					if (System.nanoTime() - began > 10_000_000_000L)
						throw new AssertionError("the cancel came late");
					same(value(conn, "select 1"), 1, "value");
				}
				statement.setQueryTimeout(1);
				expect("57014", () -> statement.execute("select pg_sleep(20)"));
				same(value(conn, "select 2"), 2, "value");
			} finally {
				done.set(true);
			}
			return null;
		};
		sideBySide(List.of(bystander, cancels));
	}

	private static void listen() throws Exception {
		try (Connection listener = connect(SESSION); Connection notifier = connect(SESSION)) {
			run(listener, "listen jd_channel");
			for (int i = 0; i < 5; i++)
				run(notifier, "notify jd_channel, '" + i + "'");
			List<String> heard = new ArrayList<>();
			long deadline = System.nanoTime() + 10_000_000_000L;
			while (heard.size() < 5 && System.nanoTime() < deadline) {
				PGNotification[] notifications = listener.unwrap(PGConnection.class).getNotifications(1000);
				for (PGNotification each : notifications == null ? new PGNotification[0] : notifications)
					heard.add(each.getParameter());
			}
			same(heard, "[0, 1, 2, 3, 4]", "what was heard");
			run(listener, "create temp table kept as select 7 as a");
			same(value(listener, "select a from kept"), 7, "value");
		}
	}

	private static void batches() throws Exception {
		many(4, number -> {
			String table = "jd_batch_" + number;
			try (Connection conn = connect(POOLED, "reWriteBatchedInserts", number % 2 == 0 ? "false" : "true")) {
				run(conn, "drop table if exists " + table + "; create table " + table + " (a int primary key, b text)");
				for (int turn = 0; turn < 3; turn++) {
					try (PreparedStatement insert = conn.prepareStatement("insert into " + table + " values (?, ?)")) {
						for (int i = 0; i < 400; i++) {
							insert.setInt(1, turn * 1000 + i);
							insert.setString(2, "client" + number);
							insert.addBatch();
						}
						same(insert.executeBatch().length, 400, "the length of the batch's answer");
					}
				}
				same(value(conn, "select count(*) from " + table + " where b = 'client" + number + "'"), 1200, "the number of rows");
				conn.setAutoCommit(false);
				try (PreparedStatement insert = conn.prepareStatement("insert into " + table + " values (?, 'x')")) {
					for (int i : new int[] {5000, 5001, 7, 5002}) {
						insert.setInt(1, i);
						insert.addBatch();
					}
					expect("23505", insert::executeBatch);
				}
				conn.rollback();
				conn.setAutoCommit(true);
				try (Statement statement = conn.createStatement()) {
					for (int i = 0; i < 50; i++)
						statement.addBatch("update " + table + " set b = 'changed' where a = " + i);
					int updated = Arrays.stream(statement.executeBatch()).sum();
					same(updated, 50, "the number of rows changed");
				}
				same(value(conn, "select count(*) from " + table + " where b = 'changed'"), 50, "the number of rows changed");
				run(conn, "drop table " + table);
			}
		});
	}

	private static void settings() throws Exception {
		String[] zones = {"Asia/Tokyo", "Europe/Paris", "America/Lima", "Africa/Cairo"};
		many(4, number -> {
			String zone = zones[number], name = "jd " + zone;
			try (Connection conn = connect(POOLED, "ApplicationName", name, "options",
					"-c TimeZone=" + zone + " -c statement_timeout=54321")) {
				// pgjdbc itself sends the time zone of its Java at the start, which PostgreSQL applies after "options".
				run(conn, "set time zone '" + zone + "'");
				for (int i = 0; i < 15; i++) {
					same(value(conn, "show time zone"), zone, "the time zone");
					same(value(conn, "show application_name"), name, "the name");
					same(value(conn, "show statement_timeout"), "54321ms", "the timeout");
				}
				conn.setClientInfo("ApplicationName", name + " 'later'");
				run(conn, "set time zone 'Pacific/Auckland'");
				for (int i = 0; i < 15; i++) {
					same(value(conn, "show time zone"), "Pacific/Auckland", "the time zone");
					same(value(conn, "show application_name"), name + " 'later'", "the name");
				}
				same(conn.unwrap(PGConnection.class).getParameterStatus("TimeZone"), "Pacific/Auckland", "what was reported");
			}
		});
	}

	private static void resets() throws Exception {
		many(4, number -> {
			try (Connection conn = connect(number % 2 == 0 ? POOLED : SESSION)) {
				// The time zone of Java, which pgjdbc sends at the start. It sets the application's name afterwards.
				String zone = value(conn, "show time zone");
				for (String how : List.of("reset all", "discard all")) {
					run(conn, "set time zone 'Pacific/Auckland'");
					run(conn, how);
					for (int i = 0; i < 5; i++)
						same(value(conn, "show time zone"), zone, "the time zone after " + how);
				}
			}
		});
	}

	public static void main(String[] args) {
		Map<String, Step> steps = new LinkedHashMap<>();
		steps.put("connect", Scenario::connects);
		steps.put("refusals", Scenario::refusals);
		steps.put("prepared", Scenario::prepared);
		steps.put("transactions", Scenario::transactions);
		steps.put("errors", Scenario::errors);
		steps.put("large_values", Scenario::largeValues);
		steps.put("copy", Scenario::copy);
		steps.put("large_object", Scenario::largeObject);
		steps.put("cancel", Scenario::cancel);
		steps.put("listen", Scenario::listen);
		steps.put("pipeline", Scenario::batches);
		steps.put("settings", Scenario::settings);
		steps.put("reset", Scenario::resets);
		int failed = 0;
		for (Map.Entry<String, Step> step : steps.entrySet()) {
			try {
				step.getValue().run();
				System.out.println("ok - " + step.getKey());
			} catch (Exception | AssertionError error) {
				failed++;
				System.out.println("not ok - " + step.getKey() + ": " + String.valueOf(error).replaceAll("\\s+", " "));
				for (StackTraceElement frame : error.getStackTrace())
					if (frame.getClassName().startsWith("Scenario"))
						System.out.println("  " + frame);
			}
		}
		System.exit(failed == 0 ? 0 : 1);
	}
}
