// The shared scenario for MySQL in mysql2: text by query(), prepared statements of the binary protocol by execute().
'use strict';

const fs = require('node:fs');
const { Readable } = require('node:stream');
const mysql = require('mysql2/promise');

function settings(more) {
	return {
		host: '127.0.0.1',
		port: Number(process.env.TEST_PORT),
		user: 'app',
		password: 'app-secret',
		database: 'app',
		// Verifies chain and name.
		ssl: { ca: fs.readFileSync(process.env.TEST_CA), rejectUnauthorized: true, verifyIdentity: true },
		connectTimeout: 20000,
		rowsAsArray: true,
		infileStreamFactory: () => Readable.from(Array.from({ length: 30000 }, (_, i) => Buffer.from(`${i},row ${i}\n`))),
		...more,
	};
}

async function connected(more, use) {
	const client = await mysql.createConnection(settings(more));
	client.on('error', () => {});
	try {
		return await use(client);
	} finally {
		await client.end().catch(() => {});
	}
}

// Several clients at once.
async function clients(count, use) {
	const all = [];
	try {
		for (let i = 0; i < count; i++) all.push(await mysql.createConnection(settings()));
		return await use(...all);
	} finally {
		for (const client of all) await client.end().catch(() => {});
	}
}

function same(got, expected, what = 'value') {
	const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
	if (a !== b) throw new Error(`${what} is ${String(a).slice(0, 200)}, not ${String(b).slice(0, 200)}`);
}

async function expect(codes, promise) {
	let error;
	await promise.catch((e) => (error = e));
	if (!error) throw new Error(`no error, where ${codes} was due`);
	if (![codes].flat().some((code) => code === error.errno || code === error.code || code === error.message))
		throw new Error(`the error is ${error.errno} ${error.code} ${error.message}, not ${codes}`);
	return error;
}

const rows = async (client, sql, values) => (await client[values ? 'execute' : 'query'](sql, values))[0];
const row = async (client, sql, values) => (await rows(client, sql, values))[0];
const value = async (client, sql, values) => (await row(client, sql, values))[0];

async function execute(client, ...statements) {
	for (const sql of statements) await client.query(sql);
}

// Another client holds a server, with settings of its own: what we do then runs on another, unless it is pinned.
async function anotherAtWork(use) {
	await connected({}, async (other) => {
		await execute(other, "set time_zone = '-03:00', sql_mode = 'ANSI_QUOTES', @mine = 'theirs'", 'begin', 'select 1');
		await use();
		await execute(other, 'rollback');
	});
}

async function eachWay(check) {
	await check();
	await anotherAtWork(check);
	await check();
}

async function connect() {
	await connected({}, async (client) => {
		same(await value(client, "select concat('hello ', substring_index(current_user(), '@', 1))"), 'hello app');
		same(client.connection.stream.encrypted, true, 'TLS');
		same(await value(client, 'select ?', ['ä€😀']), 'ä€😀');
	});
	await connected({ ssl: undefined }, async (client) => same(await value(client, 'select database()'), 'app'));
}

async function refusals() {
	for (const more of [{ password: 'wrong' }, { user: 'nobody' }, { password: '' }])
		await expect(1045, connected(more, () => {}));
	await expect([1044, 1049], connected({ database: 'no_such_schema' }, (client) => client.query('select 1')));
	const ssl = { ca: fs.readFileSync(process.env.TEST_OTHER_CA), rejectUnauthorized: true };
	const error = await connected({ ssl }, () => {}).catch((e) => e);
	if (!/certificate/.test(error?.message)) throw new Error(`an authority that is not trusted: ${error}`);
}

async function prepared() {
	await connected({}, async (client) => {
		const add = async () => {
			same(await row(client, 'select ? + 1, ?, ?', [5, 'x', null]), [6, 'x', null]);
			same(await row(client, 'select cast(? as datetime), cast(? as decimal(20,5)), ?', ['2024-02-29 12:34:56', '1.5', 1 / 3]),
				[new Date('2024-02-29T12:34:56'), '1.50000', 1 / 3]);
		};
		await eachWay(add);
		const statement = await client.prepare('select ? * 2');
		await eachWay(async () => same((await statement.execute([21]))[0][0][0], 42));
		await statement.close();
		await expect(1064, client.prepare('selec ?'));
		await expect(1146, client.execute('select * from no_such_table where a = ?', [1]));
		// A table that changes under a prepared statement.
		await execute(client, 'create or replace table changing (a int)', 'insert into changing values (1)');
		same(await row(client, 'select * from changing where a < ?', [10]), [1]);
		await execute(client, "alter table changing add b varchar(10) default 'new'");
		same(await row(client, 'select * from changing where a < ?', [10]), [1, 'new']);
		await execute(client, 'drop table changing');
	});
	// More statements than a server keeps, of more clients than there are servers.
	await Promise.all(Array.from({ length: 6 }, (_, n) => connected({}, async (client) => {
		for (let i = 0; i < 60; i++) same(await value(client, `select ? + ${i % 30}, ${n}`, [i]), i + (i % 30));
	})));
}

async function transactions() {
	await clients(2, async (client, other) => {
		await execute(client, 'create or replace table js_account (id int primary key, amount int)');
		await client.beginTransaction();
		await client.execute('insert into js_account values (?, ?)', [1, 100]);
		same(await value(other, 'select count(*) from js_account'), 0, 'rows seen before the commit');
		await client.rollback();
		same(await value(client, 'select count(*) from js_account'), 0, 'rows after the rollback');
		await client.beginTransaction();
		await client.execute('insert into js_account values (?, ?)', [1, 1]);
		await execute(client, 'savepoint s', 'update js_account set amount = 2', 'rollback to savepoint s');
		await client.commit();
		same(await value(other, 'select amount from js_account where id = ?', [1]), 1);
		// By prepared statements alone.
		for (const sql of ['begin', 'update js_account set amount = 3', 'rollback']) await client.execute(sql);
		same(await value(other, 'select amount from js_account'), 1);
		await execute(client, 'drop table js_account');
	});
}

async function errors() {
	await connected({}, async (client) => {
		await expect(1064, client.query('selec 1'));
		await execute(client, 'create or replace table js_once (a int primary key)', 'begin', 'insert into js_once values (1)');
		await expect(1062, client.execute('insert into js_once values (?)', [1]));
		same(await value(client, 'select count(*) from js_once'), 1, 'rows in the transaction that goes on');
		await execute(client, 'rollback');
		same(await value(client, 'select count(*) from js_once'), 0, 'rows after an error and a rollback');
		const error = await expect(1644, client.query("signal sqlstate '45000' set message_text = 'take note'"));
		same([error.sqlState, error.sqlMessage], ['45000', 'take note']);
		await execute(client, 'drop table js_once');
	});
}

async function largeValues() {
	await connected({}, async (client) => {
		const data = Buffer.alloc(3 << 20, Buffer.from(Array.from({ length: 256 }, (_, i) => i)));
		if (!(await value(client, 'select cast(? as binary)', [data])).equals(data)) throw new Error('3 MiB came back changed');
		same((await value(client, "select repeat('x', 20000000)")).length, 20000000);
		same(await value(client, `select length('${'y'.repeat(20000000)}')`), 20000000);
		same(await value(client, 'select length(?)', ['z'.repeat(20000000)]), 20000000);
		const got = await rows(client, "select seq, repeat('z', 100) from seq_1_to_30000 where seq > ?", [0]);
		same(got.reduce((sum, [n, text]) => sum + n + text.length, 0), 30000 * 30001 / 2 + 3000000);
	});
}

async function schema() {
	await connected({}, async (client) => {
		await execute(client, 'create or replace table other.js_here (a int)', 'use other');
		await eachWay(async () => {
			same(await value(client, 'select database()'), 'other');
			same(await value(client, 'select count(*) + ? from js_here', [1]), 1);
		});
		await execute(client, 'use app');
		// A statement belongs to the schema in which it was prepared; mysql2 keeps it.
		await eachWay(async () => same(await value(client, 'select count(*) + ? from js_here', [2]), 2));
		await expect(1146, client.query('select * from js_here'));
		await expect(1146, client.execute('select count(*) - ? from js_here', [2]));
		await execute(client, 'drop table other.js_here');
	});
}

async function sessionSettings() {
	await clients(2, async (client, other) => {
		await execute(client, "set time_zone = '+05:00', sql_mode = '', group_concat_max_len = 4711");
		await eachWay(async () => same(await row(client, 'select @@time_zone, @@sql_mode, @@group_concat_max_len'), ['+05:00', '', 4711]));
		same(await row(other, 'select @@time_zone, @@group_concat_max_len'), ['SYSTEM', 1048576]);
		// A prepared statement means what it meant when it was prepared.
		await execute(client, "set sql_mode = 'PIPES_AS_CONCAT'");
		await eachWay(async () => same(await value(client, "select 'a' || ?", ['b']), 'ab'));
		same(await value(other, "select 'a' || ?", ['b']), 0);
	});
}

async function variables() {
	await clients(2, async (client, other) => {
		await execute(client, "set @a = 'ours'", 'select @b := 5', 'select 6 into @c');
		await client.execute('set @d = ?', [7]);
		await eachWay(async () => same(await row(client, 'select @a, @b, @c, @d'), ['ours', 5, 6, 7]));
		same(await row(other, 'select @a, @b, @c, @d, @mine'), [null, null, null, null, null]);
	});
}

async function temporary() {
	await clients(2, async (client, other) => {
		await execute(client, 'create temporary table t (a int)', 'insert into t values (1), (2)');
		await eachWay(async () => same(await value(client, 'select count(*) + ? from t', [0]), 2));
		await expect(1146, other.query('select * from t'));
		await execute(client, 'drop temporary table t');
		await expect(1146, client.query('select * from t'));
	});
}

async function insertId() {
	await clients(2, async (one, two) => {
		await execute(one, 'create or replace table js_ids (id int auto_increment primary key, who text)');
		for (let i = 0; i < 4; i++) {
			for (const [client, name] of [[one, 'a'], [two, 'b']]) {
				const [done] = await client.execute('insert into js_ids (who) values (?)', [name]);
				await value(client === one ? two : one, 'select 1');
				same(await value(client, 'select last_insert_id()'), done.insertId, 'the last insert id');
				same(await value(client, 'select who from js_ids where id = last_insert_id() and 1 = ?', [1]), name);
			}
		}
		await execute(one, 'drop table js_ids');
	});
}

async function foundRows() {
	await clients(2, async (one, two) => {
		for (let i = 0; i < 3; i++) {
			await rows(one, 'select sql_calc_found_rows seq from seq_1_to_30 limit ?', [1]);
			await rows(two, 'select sql_calc_found_rows seq from seq_1_to_7 limit 1');
			same(await value(one, 'select found_rows()'), 30);
			same(await value(two, 'select found_rows()'), 7);
		}
		await execute(one, 'create or replace table js_counted (a int)', 'insert into js_counted values (1), (1), (2)');
		// mysql2 asks for CLIENT_FOUND_ROWS unless it is told not to.
		same((await one.query('update js_counted set a = a'))[0].affectedRows, 3);
		await connected({ flags: ['-FOUND_ROWS'] }, async (client) =>
			same((await client.query('update js_counted set a = a'))[0].affectedRows, 0));
		await execute(one, 'drop table js_counted');
	});
}

async function warnings() {
	await clients(2, async (one, two) => {
		// One that has asked before is given more time to ask: however slow the machine, that is enough.
		await rows(one, 'show warnings');
		for (let i = 0; i < 3; i++) {
			await rows(one, "select cast('x' as signed)");
			await rows(two, 'select 1');
			same((await rows(one, 'show warnings')).map((r) => r[1]), [1292]);
			same(await rows(two, 'show warnings'), []);
			await rows(one, 'select cast(? as signed)', ['x']);
			same(await value(one, 'select @@warning_count'), 1);
		}
	});
}

async function locks() {
	await clients(2, async (one, two) => {
		same(await value(one, 'select get_lock(?, 1)', ['l']), 1);
		await eachWay(async () => same(await row(two, "select is_free_lock('l'), get_lock('l', 0)"), [0, 0]));
		same(await value(one, "select release_lock('l')"), 1);
		await execute(one, 'create or replace table js_locked (a int)', 'lock tables js_locked write');
		await execute(two, 'set lock_wait_timeout = 1');
		await expect(1205, two.query('select * from js_locked'));
		await execute(one, 'unlock tables');
		same(await value(two, 'select count(*) from js_locked'), 0);
		await execute(one, 'drop table js_locked');
	});
}

async function procedures() {
	await clients(2, async (one, two) => {
		await execute(one, 'create or replace procedure js_two(in n int, out o int) begin select n; select n + 1; set o = n * 2; end');
		for (let n = 0; n < 3; n++) {
			const [results] = await one.query(`call js_two(${n}, @o)`);
			same(results.slice(0, 2), [[[n]], [[n + 1]]]);
			same([await value(one, 'select @o'), await value(two, 'select @o')], [n * 2, null]);
			const [binary] = await one.execute('call js_two(?, @o)', [n]);
			same(binary.slice(0, 2), [[[n]], [[n + 1]]]);
		}
		await execute(one, 'drop procedure js_two');
	});
}

async function several() {
	await connected({ multipleStatements: true }, async (client) => {
		for (let i = 0; i < 3; i++) {
			const [results] = await client.query("select 1; select 2, 'x;y'; set @a = 3; select @a");
			same([results[0], results[1], results[3]], [[[1]], [[2, 'x;y']], [[3]]]);
		}
		await expect(1064, client.query('select 1; selec 2; select 3'));
		same(await value(client, 'select 4'), 4);
	});
	await connected({}, (client) => expect(1064, client.query('select 1; select 2')));
}

async function localInfile() {
	await connected({}, async (client) => {
		await execute(client, 'create or replace table js_loaded (a int, b text)',
			"load data local infile 'stream' into table js_loaded fields terminated by ','");
		same(await row(client, 'select count(*), max(b) from js_loaded'), [30000, 'row 9999']);
		await execute(client, 'drop table js_loaded');
	});
}

async function kill() {
	await clients(3, async (client, killer, bystander) => {
		const long = 'select count(*) from seq_1_to_1000000 a, seq_1_to_1000000 b where a.seq + b.seq < ?';
		for (const values of [undefined, [0]]) {
			const ended = expect(1317, values ? client.execute(long, values) : client.query(long.replace('?', '0')));
			for (let i = 0; i < 200; i++) {
				if (await value(killer, "select count(*) from information_schema.processlist where info like '%a.seq + b.seq <%' " +
					"and info not like '%processlist%'")) break;
				await new Promise((done) => setTimeout(done, 10));
			}
			await killer.query(`kill query ${client.threadId}`);
			await ended;
			same(await value(client, 'select 1'), 1);
		}
		same(await value(bystander, 'select 2'), 2);
		await expect(1094, killer.query('kill query 999999999'));
		await killer.query(`kill ${client.threadId}`);
		await expect([1927, 'PROTOCOL_CONNECTION_LOST', 'ECONNRESET', 'EPIPE', "Can't add new command when connection is in closed state"],
			client.query('select 1'));
	});
}

async function reset() {
	await connected({}, async (client) => {
		await execute(client, "set @a = 1, time_zone = '+05:00'", 'create temporary table t (a int)', 'begin');
		await client.changeUser({ user: 'app', password: 'app-secret', database: 'other' });
		await eachWay(async () => same(await row(client, 'select @a, @@time_zone, database()'), [null, 'SYSTEM', 'other']));
		await expect(1146, client.query('select * from t'));
		await execute(client, 'set @a = 2', 'create temporary table t (a int)');
		await client.reset();
		await eachWay(async () => same(await row(client, 'select @a, database()'), [null, 'other']));
		await expect(1146, client.query('select * from t'));
	});
}

const steps = { connect, refusals, prepared, transactions, errors, large_values: largeValues, schema, settings: sessionSettings,
	variables, temporary, insert_id: insertId, found_rows: foundRows, warnings, locks, procedures, several,
	local_infile: localInfile, kill, reset };

(async () => {
	const wanted = (process.env.STEPS ?? '').split(' ').filter(Boolean);
	let failed = 0;
	for (const [name, step] of Object.entries(steps)) {
		if (wanted.length && !wanted.includes(name)) continue;
		try {
			await step();
			console.log(`ok - ${name}`);
		} catch (error) {
			failed++;
			console.log(`not ok - ${name}: ${String(error.message).replace(/\s+/g, ' ')}`);
			console.log(String(error.stack).split('\n').filter((line) => /scenario\.js/.test(line)).join('\n'));
		}
	}
	process.exit(failed ? 1 : 0);
})();
