// The shared scenario for MySQL in MariaDB Connector/J: statements as text, and prepared on the server.

import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLTimeoutException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.mariadb.jdbc.MariaDbStatement;

public final class MariaScenario {
	private static final ExecutorService THREADS = Executors.newCachedThreadPool(work -> {
		Thread thread = new Thread(work);
		thread.setDaemon(true);
		return thread;
	});

	private interface Step {
		void run() throws Exception;
	}

	private static final class Skip extends Exception {
		private static final long serialVersionUID = 1;

		Skip(String why) {
			super(why);
		}
	}

	private static Connection connect(String... more) throws SQLException {
		Properties settings = new Properties();
		settings.setProperty("user", "app");
		settings.setProperty("password", "app-secret");
		settings.setProperty("useSsl", "true");
		settings.setProperty("serverSslCert", System.getenv("TEST_CA"));
		settings.setProperty("connectTimeout", "20000");
		settings.setProperty("socketTimeout", "30000");
		settings.setProperty("useServerPrepStmts", "true");
		String database = "app";
		for (int i = 0; i < more.length; i += 2) {
			if (more[i].equals("database"))
				database = more[i + 1];
			else
				settings.setProperty(more[i], more[i + 1]);
		}
		return DriverManager.getConnection("jdbc:mariadb://127.0.0.1:" + System.getenv("TEST_PORT") + "/" + database, settings);
	}

	private static void same(Object got, Object expected, String what) {
		if (!String.valueOf(got).equals(String.valueOf(expected)))
			throw new AssertionError(what + " is \"" + got + "\", not \"" + expected + "\"");
	}

	private static void same(Object got, Object expected) {
		same(got, expected, "value");
	}

	private static void run(Connection conn, String... statements) throws SQLException {
		try (Statement statement = conn.createStatement()) {
			for (String sql : statements)
				statement.execute(sql);
		}
	}

	/** The first row. */
	private static List<String> row(Connection conn, String sql) throws SQLException {
		try (Statement statement = conn.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
			return row(rows);
		}
	}

	private static List<String> row(ResultSet rows) throws SQLException {
		List<String> values = new ArrayList<>();
		if (!rows.next())
			return values;
		for (int i = 1; i <= rows.getMetaData().getColumnCount(); i++)
			values.add(rows.getString(i));
		return values;
	}

	private static String value(Connection conn, String sql) throws SQLException {
		return row(conn, sql).get(0);
	}

	private static String prepared(Connection conn, String sql, Object... arguments) throws SQLException {
		try (PreparedStatement statement = conn.prepareStatement(sql)) {
			for (int i = 0; i < arguments.length; i++)
				statement.setObject(i + 1, arguments[i]);
			try (ResultSet rows = statement.executeQuery()) {
				return row(rows).get(0);
			}
		}
	}

	private static SQLException expect(List<Integer> codes, Step step) throws Exception {
		try {
			step.run();
		} catch (SQLException error) {
			if (!codes.contains(error.getErrorCode()))
				throw new AssertionError("the error is " + error.getErrorCode() + " " + error.getMessage() + ", not " + codes);
			return error;
		}
		throw new AssertionError("no error, where " + codes + " was due");
	}

	private static SQLException expect(int code, Step step) throws Exception {
		return expect(List.of(code), step);
	}

	/** Alone, beside another client that holds a server with settings of its own, and after it. */
	private static void eachWay(Step check) throws Exception {
		check.run();
		try (Connection other = connect()) {
			run(other, "set time_zone = '-03:00', sql_mode = 'ANSI_QUOTES', @mine = 'theirs'", "begin", "select 1");
			check.run();
			run(other, "rollback");
		}
		check.run();
	}

	private static void connectStep() throws Exception {
		// A pooler that has just started may not know yet what its server is.
		try (Connection first = connect()) {
			value(first, "select 1");
		}
		try (Connection conn = connect()) {
			same(value(conn, "select concat('hello ', substring_index(current_user(), '@', 1))"), "hello app");
			same(conn.getMetaData().getDatabaseProductName(), "MariaDB");
			same(prepared(conn, "select ?", "ä€😀"), "ä€😀");
		}
		try (Connection conn = connect("useSsl", "false")) {
			same(value(conn, "select database()"), "app");
		}
	}

	private static void refusalsStep() throws Exception {
		expect(1045, () -> connect("password", "wrong").close());
		expect(1045, () -> connect("user", "nobody").close());
		expect(1045, () -> connect("password", "").close());
		expect(List.of(1044, 1049), () -> {
			try (Connection conn = connect("database", "no_such_schema")) {
				value(conn, "select 1");
			}
		});
		try {
			connect("serverSslCert", System.getenv("TEST_OTHER_CA")).close();
			throw new AssertionError("connected by an authority that is not trusted");
		} catch (SQLException error) {
			if (!String.valueOf(error).toLowerCase().matches("(?s).*(certificat|ssl|path).*"))
				throw error;
		}
	}

	private static void preparedStep() throws Exception {
		try (Connection conn = connect()) {
			try (PreparedStatement add = conn.prepareStatement("select ? + 1, ?, ?")) {
				eachWay(() -> {
					add.setInt(1, 5);
					add.setString(2, "x");
					add.setNull(3, Types.VARCHAR);
					try (ResultSet rows = add.executeQuery()) {
						same(row(rows), Arrays.asList("6", "x", null));
					}
				});
			}
			expect(1064, () -> prepared(conn, "selec ?", 1));
			expect(1146, () -> prepared(conn, "select * from no_such_table where a = ?", 1));
			// By a cursor, a few rows at a time.
			conn.setAutoCommit(false);
			try (PreparedStatement many = conn.prepareStatement("select seq from seq_1_to_1000 where seq > ?")) {
				many.setFetchSize(10);
				many.setInt(1, 500);
				int sum = 0;
				try (ResultSet rows = many.executeQuery()) {
					while (rows.next())
						sum += rows.getInt(1);
				}
				same(sum, 375250, "the sum over rows of a cursor");
			}
			conn.commit();
		}
		List<Future<?>> works = new ArrayList<>();
		for (int n = 0; n < 6; n++) {
			int client = n;
			works.add(THREADS.submit(() -> {
				try (Connection conn = connect()) {
					for (int i = 0; i < 60; i++)
						same(prepared(conn, "select ? + " + i % 30 + ", " + client, i), i + i % 30);
				}
				return null;
			}));
		}
		for (Future<?> work : works)
			await(work);
	}

	private static void await(Future<?> work) throws Exception {
		try {
			work.get();
		} catch (ExecutionException error) {
			if (error.getCause() instanceof Exception cause)
				throw cause;
			throw error;
		}
	}

	private static void transactionsStep() throws Exception {
		try (Connection conn = connect(); Connection other = connect()) {
			run(conn, "create or replace table j_account (id int primary key, amount int)");
			conn.setAutoCommit(false);
			run(conn, "insert into j_account values (1, 100)");
			same(value(other, "select count(*) from j_account"), 0, "rows seen before the commit");
			conn.rollback();
			same(value(conn, "select count(*) from j_account"), 0, "rows after the rollback");
			run(conn, "insert into j_account values (1, 1)");
			Savepoint savepoint = conn.setSavepoint();
			run(conn, "update j_account set amount = 2");
			conn.rollback(savepoint);
			conn.commit();
			same(value(other, "select amount from j_account"), 1);
			conn.setAutoCommit(true);
			conn.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
			conn.setAutoCommit(false);
			same(value(conn, "select amount from j_account"), 1);
			run(other, "update j_account set amount = 3");
			same(value(conn, "select amount from j_account"), 3, "the amount read again in read committed");
			conn.rollback();
			conn.setAutoCommit(true);
			// Batches, as text in one and prepared.
			try (PreparedStatement insert = conn.prepareStatement("insert into j_account values (?, ?)")) {
				for (int i = 10; i < 30; i++) {
					insert.setInt(1, i);
					insert.setInt(2, i);
					insert.addBatch();
				}
				same(insert.executeBatch().length, 20, "the length of a batch");
			}
			same(value(other, "select sum(amount) from j_account"), 3 + 390);
			run(conn, "drop table j_account");
		}
	}

	private static void errorsStep() throws Exception {
		try (Connection conn = connect()) {
			expect(1064, () -> run(conn, "selec 1"));
			run(conn, "create or replace table j_once (a int primary key)");
			conn.setAutoCommit(false);
			run(conn, "insert into j_once values (1)");
			expect(1062, () -> run(conn, "insert into j_once values (1)"));
			same(value(conn, "select count(*) from j_once"), 1, "rows in the transaction that goes on");
			conn.rollback();
			same(value(conn, "select count(*) from j_once"), 0, "rows after an error and a rollback");
			conn.setAutoCommit(true);
			SQLException error = expect(1644, () -> run(conn, "signal sqlstate '45000' set message_text = 'take note'"));
			same(error.getSQLState(), "45000");
			run(conn, "drop table j_once");
		}
	}

	private static void largeValuesStep() throws Exception {
		try (Connection conn = connect()) {
			byte[] data = new byte[3 << 20];
			for (int i = 0; i < data.length; i++)
				data[i] = (byte) i;
			try (PreparedStatement statement = conn.prepareStatement("select cast(? as binary)")) {
				statement.setBytes(1, data);
				try (ResultSet rows = statement.executeQuery()) {
					rows.next();
					if (!Arrays.equals(rows.getBytes(1), data))
						throw new AssertionError("3 MiB came back changed");
				}
			}
			same(value(conn, "select repeat('x', 20000000)").length(), 20000000);
			same(value(conn, "select length('" + "y".repeat(20000000) + "')"), 20000000);
			same(prepared(conn, "select length(?)", "z".repeat(20000000)), 20000000);
			long sum = 0;
			try (Statement statement = conn.createStatement()) {
				statement.setFetchSize(100);
				try (ResultSet rows = statement.executeQuery("select seq, repeat('z', 100) from seq_1_to_30000")) {
					while (rows.next())
						sum += rows.getInt(1) + rows.getString(2).length();
				}
			}
			same(sum, 30000L * 30001 / 2 + 3000000, "the sum over streamed rows");
		}
	}

	private static void schemaStep() throws Exception {
		try (Connection conn = connect()) {
			run(conn, "create or replace table other.j_here (a int)");
			conn.setCatalog("other");
			eachWay(() -> {
				same(row(conn, "select database(), count(*) from j_here"), List.of("other", "0"));
				same(prepared(conn, "select count(*) + ? from j_here", 1), 1);
			});
			conn.setCatalog("app");
			eachWay(() -> same(value(conn, "select database()"), "app"));
			expect(1146, () -> value(conn, "select * from j_here"));
			run(conn, "drop table other.j_here");
		}
	}

	private static void settingsStep() throws Exception {
		try (Connection conn = connect("sessionVariables", "time_zone='+05:00',group_concat_max_len=4711"); Connection other = connect()) {
			String sql = "select @@time_zone, @@group_concat_max_len";
			eachWay(() -> same(row(conn, sql), List.of("+05:00", "4711")));
			same(row(other, sql), List.of("SYSTEM", "1048576"));
			run(conn, "set sql_mode = 'PIPES_AS_CONCAT'");
			eachWay(() -> same(prepared(conn, "select 'a' || ?", "b"), "ab"));
			run(conn, "set session transaction read only");
			eachWay(() -> expect(1792, () -> run(conn, "create table j_never (a int)")));
			run(conn, "set session transaction read write");
		}
	}

	private static void variablesStep() throws Exception {
		try (Connection conn = connect(); Connection other = connect()) {
			run(conn, "set @a = 'ours'", "select @b := 5", "select 6 into @c");
			eachWay(() -> same(row(conn, "select @a, @b, @c"), List.of("ours", "5", "6")));
			same(row(other, "select @a, @b, @c, @mine"), Arrays.asList(null, null, null, null));
		}
	}

	private static void temporaryStep() throws Exception {
		try (Connection conn = connect(); Connection other = connect()) {
			run(conn, "create temporary table t (a int)", "insert into t values (1), (2)");
			eachWay(() -> same(prepared(conn, "select count(*) + ? from t", 0), 2));
			expect(1146, () -> value(other, "select * from t"));
			run(conn, "drop temporary table t");
			expect(1146, () -> value(conn, "select * from t"));
		}
	}

	private static void insertIdStep() throws Exception {
		try (Connection one = connect(); Connection two = connect()) {
			run(one, "create or replace table j_ids (id int auto_increment primary key, who text)");
			for (int i = 0; i < 4; i++) {
				for (Connection conn : List.of(one, two)) {
					String name = conn == one ? "a" : "b", id;
					try (PreparedStatement insert = conn.prepareStatement("insert into j_ids (who) values (?)",
							Statement.RETURN_GENERATED_KEYS)) {
						insert.setString(1, name);
						insert.executeUpdate();
						try (ResultSet keys = insert.getGeneratedKeys()) {
							id = row(keys).get(0);
						}
					}
					value(conn == one ? two : one, "select 1");
					same(value(conn, "select last_insert_id()"), id, "the last insert id");
					same(prepared(conn, "select who from j_ids where id = last_insert_id() and 1 = ?", 1), name);
				}
			}
			run(one, "drop table j_ids");
		}
	}

	private static void foundRowsStep() throws Exception {
		try (Connection one = connect(); Connection two = connect()) {
			for (int i = 0; i < 3; i++) {
				prepared(one, "select sql_calc_found_rows seq from seq_1_to_30 limit ?", 1);
				value(two, "select sql_calc_found_rows seq from seq_1_to_7 limit 1");
				same(value(one, "select found_rows()"), 30);
				same(value(two, "select found_rows()"), 7);
			}
			run(one, "create or replace table j_counted (a int)", "insert into j_counted values (1), (1), (2)");
			// The driver asks for CLIENT_FOUND_ROWS unless it is told not to.
			for (String affected : List.of("false", "true")) {
				try (Connection conn = connect("useAffectedRows", affected); Statement statement = conn.createStatement()) {
					same(statement.executeUpdate("update j_counted set a = a"), affected.equals("true") ? 0 : 3);
				}
			}
			run(one, "drop table j_counted");
		}
	}

	private static void warningsStep() throws Exception {
		try (Connection one = connect(); Connection two = connect()) {
			// One that has asked before is given more time to ask: however slow the machine, that is enough.
			same(row(one, "show warnings"), List.of());
			for (int i = 0; i < 3; i++) {
				try (Statement statement = one.createStatement()) {
					statement.executeQuery("select cast('x' as signed)").close();
					value(two, "select 1");
					// The driver asks by SHOW WARNINGS.
					SQLWarning warning = statement.getWarnings();
					same(warning == null ? null : warning.getErrorCode(), 1292, "the warning");
				}
				same(row(two, "show warnings"), List.of());
			}
		}
	}

	private static void locksStep() throws Exception {
		try (Connection one = connect(); Connection two = connect()) {
			same(prepared(one, "select get_lock(?, 1)", "l"), 1);
			eachWay(() -> same(row(two, "select is_free_lock('l'), get_lock('l', 0)"), List.of("0", "0")));
			same(value(one, "select release_lock('l')"), 1);
			run(one, "create or replace table j_locked (a int)", "lock tables j_locked write");
			run(two, "set lock_wait_timeout = 1");
			expect(1205, () -> value(two, "select * from j_locked"));
			run(one, "unlock tables");
			same(value(two, "select count(*) from j_locked"), 0);
			run(one, "drop table j_locked");
		}
	}

	private static void proceduresStep() throws Exception {
		try (Connection one = connect(); Connection two = connect()) {
			run(one, "create or replace procedure j_two(in n int, out o int) begin select n; select n + 1; set o = n * 2; end");
			for (int n = 0; n < 3; n++) {
				try (CallableStatement call = one.prepareCall("{call j_two(?, ?)}")) {
					call.setInt(1, n);
					call.registerOutParameter(2, Types.INTEGER);
					call.execute();
					same(call.getInt(2), n * 2);
					List<String> got = new ArrayList<>();
					do {
						try (ResultSet rows = call.getResultSet()) {
							if (rows != null)
								got.addAll(row(rows));
						}
					} while (call.getMoreResults());
					same(got.subList(0, 2), List.of(n, n + 1));
				}
				value(two, "select 1");
			}
			run(one, "drop procedure j_two");
		}
	}

	private static void severalStep() throws Exception {
		try (Connection conn = connect("allowMultiQueries", "true"); Statement statement = conn.createStatement()) {
			for (int i = 0; i < 3; i++) {
				List<String> got = new ArrayList<>();
				boolean rows = statement.execute("select 1; select 2, 'x;y'; set @a = 3; select @a");
				while (rows || statement.getUpdateCount() != -1) {
					if (rows) {
						try (ResultSet result = statement.getResultSet()) {
							got.addAll(row(result));
						}
					}
					rows = statement.getMoreResults();
				}
				same(got, List.of("1", "2", "x;y", "3"));
			}
			expect(1064, () -> {
				boolean more = statement.execute("select 1; selec 2; select 3");
				while (more || statement.getUpdateCount() != -1)
					more = statement.getMoreResults();
			});
			same(value(conn, "select 4"), 4);
		}
		try (Connection conn = connect()) {
			expect(1064, () -> run(conn, "select 1; select 2"));
		}
	}

	private static void localInfileStep() throws Exception {
		StringBuilder text = new StringBuilder();
		for (int i = 0; i < 30000; i++)
			text.append(i).append(",row ").append(i).append('\n');
		try (Connection conn = connect("allowLocalInfile", "true"); Statement statement = conn.createStatement()) {
			run(conn, "create or replace table j_loaded (a int, b text)");
			statement.unwrap(MariaDbStatement.class)
				.setLocalInfileInputStream(new ByteArrayInputStream(text.toString().getBytes(StandardCharsets.UTF_8)));
			statement.execute("load data local infile 'stream' into table j_loaded fields terminated by ','");
			same(row(conn, "select count(*), max(b) from j_loaded"), List.of("30000", "row 9999"));
			run(conn, "drop table j_loaded");
		}
	}

	private static void killStep() throws Exception {
		String never = "select count(*) from seq_1_to_1000000 a, seq_1_to_1000000 b where a.seq + b.seq < ";
		try (Connection conn = connect(); Connection bystander = connect(); Statement statement = conn.createStatement()) {
			// The driver sends KILL QUERY with the id of its greeting, from a connection of its own.
			Future<?> canceller = THREADS.submit(() -> {
				String count = "select count(*) from information_schema.processlist where info like '%a.seq + b.seq <%' "
					+ "and info not like '%processlist%'";
				for (int i = 0; i < 500 && value(bystander, count).equals("0"); i++)
					Thread.sleep(10);
				statement.cancel();
				return null;
			});
			expect(1317, () -> statement.executeQuery(never + "0").close());
			await(canceller);
			same(value(conn, "select 1"), 1);
			same(value(bystander, "select 2"), 2);
		}
		// In Connector/J a time limit is the server's: SET STATEMENT max_statement_time.
		try (Connection conn = connect(); Statement statement = conn.createStatement()) {
			statement.setQueryTimeout(1);
			try {
				statement.executeQuery(never + "1").close();
				throw new AssertionError("no timeout");
			} catch (SQLTimeoutException error) {
				same(error.getErrorCode(), 1969);
			}
			eachWay(() -> same(value(conn, "select @@max_statement_time"), "0.000000"));
		}
	}

	private static void resetStep() throws Exception {
		throw new Skip("Connector/J 2.7 resets connections only within pools of its own");
	}

	public static void main(String[] arguments) {
		Map<String, Step> steps = new LinkedHashMap<>();
		steps.put("connect", MariaScenario::connectStep);
		steps.put("refusals", MariaScenario::refusalsStep);
		steps.put("prepared", MariaScenario::preparedStep);
		steps.put("transactions", MariaScenario::transactionsStep);
		steps.put("errors", MariaScenario::errorsStep);
		steps.put("large_values", MariaScenario::largeValuesStep);
		steps.put("schema", MariaScenario::schemaStep);
		steps.put("settings", MariaScenario::settingsStep);
		steps.put("variables", MariaScenario::variablesStep);
		steps.put("temporary", MariaScenario::temporaryStep);
		steps.put("insert_id", MariaScenario::insertIdStep);
		steps.put("found_rows", MariaScenario::foundRowsStep);
		steps.put("warnings", MariaScenario::warningsStep);
		steps.put("locks", MariaScenario::locksStep);
		steps.put("procedures", MariaScenario::proceduresStep);
		steps.put("several", MariaScenario::severalStep);
		steps.put("local_infile", MariaScenario::localInfileStep);
		steps.put("kill", MariaScenario::killStep);
		steps.put("reset", MariaScenario::resetStep);
		String wanted = System.getenv().getOrDefault("STEPS", "");
		boolean failed = false;
		for (Map.Entry<String, Step> step : steps.entrySet()) {
			if (!wanted.isEmpty() && !Arrays.asList(wanted.split(" ")).contains(step.getKey()))
				continue;
			try {
				step.getValue().run();
				System.out.println("ok - " + step.getKey());
			} catch (Skip why) {
				System.out.println("skip - " + step.getKey() + ": " + why.getMessage());
			} catch (Throwable error) {
				failed = true;
				System.out.println("not ok - " + step.getKey() + ": " + String.valueOf(error).replaceAll("\\s+", " "));
				for (StackTraceElement frame : error.getStackTrace())
					if (frame.getClassName().startsWith("MariaScenario"))
						System.out.println("  at " + frame);
			}
		}
		System.exit(failed ? 1 : 0);
	}
}
