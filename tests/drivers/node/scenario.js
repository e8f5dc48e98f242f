// The shared scenario in node-postgres.
'use strict';

const dns = require('node:dns');
const fs = require('node:fs');
const { once } = require('node:events');
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const { Client, Pool } = require('pg');
const copyStreams = require('pg-copy-streams');

// Forebay listens on 127.0.0.1 here, and older releases of Node try one address only.
dns.setDefaultResultOrder('ipv4first');

const PORT = Number(process.env.TEST_PORT);
const DIRECT = Boolean(process.env.TEST_DIRECT);
const POOLED = 'app';
const SESSION = 'app_session';

function settings(more) {
	// Verifies chain and name, as libpq's verify-full.
	return {
		host: 'localhost',
		port: PORT,
		user: 'app',
		password: 'app-secret',
		database: POOLED,
		ssl: { ca: fs.readFileSync(process.env.TEST_CA), rejectUnauthorized: true },
		connectionTimeoutMillis: 20000,
		...more,
	};
}

async function connected(more, use) {
	const client = new Client(settings(more));
	await client.connect();
	try {
		return await use(client);
	} finally {
		await client.end();
	}
}

function same(got, expected, what = 'value') {
	const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
	if (a !== b) throw new Error(`${what} is ${String(a).slice(0, 200)}, not ${String(b).slice(0, 200)}`);
}

async function expect(code, promise) {
	try {
		await promise;
	} catch (error) {
		same(error.code, code, `the code of "${error.message}"`);
		return error;
	}
	throw new Error(`no error, where ${code} was due`);
}

async function value(client, text, values, name) {
	const result = await client.query({ text, values, name, rowMode: 'array' });
	return result.rows[0][0];
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const range = (n) => Array.from({ length: n }, (_, i) => i);

async function connect() {
	// Channel binding makes it SCRAM-SHA-256-PLUS.
	for (const enableChannelBinding of [false, true]) {
		await connected({ enableChannelBinding }, async (client) => {
			same(await value(client, "select 'hello ' || current_user"), 'hello app');
			same(client.connection.stream.encrypted, true, 'TLS');
			same(client.connection.stream.authorized, true, 'the verification');
		});
	}
}

async function refusals() {
	for (const [more, code] of [
		[{ ssl: { ca: fs.readFileSync(process.env.TEST_OTHER_CA) } }, null],
		[{ password: 'wrong' }, '28P01'],
		[{ user: 'nobody' }, '28P01'],
	]) {
		const client = new Client(settings(more));
		client.on('error', () => {});
		let error;
		await client.connect().catch((e) => (error = e));
		if (!error) throw new Error(`connected with ${Object.keys(more)}`);
		if (code) same(error.code, code, `the code of "${error.message}"`);
		else if (!/certificate/.test(error.message)) throw error;
		await client.end().catch(() => {});
	}
}

// Makes a client's statement run on each of the two servers, by holding the other one in a transaction.
async function bothServers(execute) {
	await connected({}, (one) => connected({}, async (two) => {
		const seen = new Set();
		for (let turn = 0; turn < 2; turn++) {
			// Both servers are held; which one is let go decides where the statement has to run.
			const pids = new Map();
			for (const client of [one, two]) {
				await client.query('begin');
				pids.set(await value(client, 'select pg_backend_pid()'), client);
			}
			same(pids.size, 2, 'the number of servers of two transactions');
			const free = [...pids.keys()].find((pid) => DIRECT || !seen.has(pid));
			seen.add(free);
			await pids.get(free).query('commit');
			const got = await execute();
			await pids.get([...pids.keys()].find((pid) => pid !== free)).query('commit');
			if (!DIRECT) same(got, free, 'where the statement ran');
		}
	}));
}

async function prepared() {
	await connected({}, async (client) => {
		const execute = () => value(client, 'select pg_backend_pid(), $1::int', [1], 'where');
		await bothServers(execute);
		await bothServers(execute);
	});
	await Promise.all(range(6).map((n) => connected({}, async (client) => {
		for (let i = 0; i < 40; i++) {
			const token = `client${n}-${i}`;
			await client.query('begin');
			// The same name means another text in each client.
			same(await value(client, `select $1::text || '${n}'`, [token], 'mine'), token + n);
			const k = i % 12;
			same(await value(client, `select $1::int + ${k}`, [i], `plus ${k}`), i + k);
			if (i === 20 && await value(client, 'select count(*) from pg_prepared_statements where not from_sql') === '0')
				throw new Error('nothing is prepared');
			await client.query('commit');
			same(await value(client, `select $1::text || '${n}'`, [token], 'mine'), token + n);
			if (!DIRECT) {
				const servers = Number(await value(client, "select count(*) from pg_stat_activity where datname = $1 " +
					"and backend_type = 'client backend'", [POOLED], 'servers'));
				if (servers > 2) throw new Error(`${servers} server connections`);
			}
		}
	})));
}

async function transactions() {
	await connected({}, (client) => connected({}, async (other) => {
		await client.query('drop table if exists no_account; create table no_account (id int, amount int)');
		await client.query('begin');
		await client.query('insert into no_account values ($1, $2)', [1, 100]);
		same(await value(other, 'select count(*)::int from no_account'), 0, 'rows seen before the commit');
		await client.query('rollback');
		same(await value(client, 'select count(*)::int from no_account'), 0, 'rows after the rollback');
		await client.query('begin isolation level serializable');
		await client.query('insert into no_account values ($1, $2)', [1, 1]);
		await client.query('savepoint s');
		await client.query('update no_account set amount = 2');
		await client.query('rollback to s');
		await client.query('commit');
		same(await value(other, 'select amount from no_account'), 1, "the amount after the savepoint's rollback");
		await client.query('drop table no_account');
	}));
}

async function errors() {
	await connected({}, async (client) => {
		await expect('42601', client.query('selec 1'));
		for (let i = 0; i < 5; i++) {
			await expect('22012', client.query({ name: 'quotient', text: 'select 6 / $1::int', values: [0] }));
			same(await value(client, 'select 6 / $1::int', [3], 'quotient'), 2);
		}
		await expect('42P01', client.query({ name: 'bad', text: 'select * from no_such_table where a = $1', values: [1] }));
		await client.query('begin');
		await expect('22012', client.query('select 1 / 0'));
		await expect('25P02', client.query('select 1'));
		await client.query('rollback');
		same(await value(client, 'select 1'), 1);
		const notices = [];
		client.on('notice', (notice) => notices.push(notice.message));
		await client.query("do $$ begin raise notice 'take note'; end $$");
		same(notices, ['take note'], 'notices');
		const several = await client.query('select 1 as a; select 2 as a; select 3 as a');
		same(several.map((result) => result.rows[0].a), [1, 2, 3], 'three answers to one simple query');
	});
}

async function largeValues() {
	await connected({}, async (client) => {
		const data = Buffer.alloc(3 << 20, Buffer.from(range(256)));
		const got = await value(client, 'select $1::bytea', [data]);
		if (!got.equals(data)) throw new Error('3 MiB of bytea came back changed');
		same((await value(client, "select repeat('x', 5000000)")).length, 5000000, 'length');
		const { rows } = await client.query("select i, repeat('y', 100) as y from generate_series(1, 20000) i");
		same(rows.reduce((sum, row) => sum + row.i + row.y.length, 0), 20000 * 20001 / 2 + 2000000, 'the sum over many rows');
	});
}

async function copy() {
	await connected({}, async (client) => {
		await client.query('drop table if exists no_copy; create table no_copy (a int, b text)');
		const lines = range(20000).map((i) => `${i}\trow ${i}\n`);
		await pipeline(Readable.from(lines), client.query(copyStreams.from('copy no_copy from stdin')));
		same(await value(client, 'select count(*)::int from no_copy'), 20000, 'rows copied in');
		const out = [];
		await pipeline(client.query(copyStreams.to('copy (select * from no_copy order by a) to stdout')),
			async (chunks) => {
				for await (const chunk of chunks) out.push(chunk);
			});
		if (Buffer.concat(out).toString() !== lines.join('')) throw new Error('other rows came out than went in');
		await expect('22P02', pipeline(Readable.from(['not a number\tx\n']),
			client.query(copyStreams.from('copy no_copy from stdin'))));
		same(await value(client, 'select count(*)::int from no_copy'), 20000, 'rows after a failed copy');
		await client.query('drop table no_copy');
	});
}

async function largeObject() {
	await connected({}, async (client) => {
		const data = Buffer.alloc(512 << 10, Buffer.from(range(256)));
		await client.query('begin');
		const oid = await value(client, 'select lo_create(0)');
		const fd = await value(client, 'select lo_open($1, $2)', [oid, 0x60000]);
		for (let at = 0; at < data.length; at += 65536)
			same(await value(client, 'select lowrite($1, $2)', [fd, data.subarray(at, at + 65536)]), 65536, 'bytes written');
		same(await value(client, 'select lo_lseek($1, 0, 0)', [fd]), 0);
		const parts = [];
		for (let i = 0; i < 6; i++) parts.push(await value(client, 'select loread($1, 100000)', [fd]));
		if (!Buffer.concat(parts).equals(data)) throw new Error('the large object came back changed');
		await client.query('commit');
		same(await value(client, 'select length(lo_get($1))', [oid]), data.length);
		await client.query('select lo_unlink($1)', [oid]);
	});
}

async function cancel() {
	let done = false;
	const bystander = connected({}, async (client) => {
		for (let i = 0; !done; i++) same(await value(client, 'select $1::int, pg_sleep(0.01)', [i]), i);
	});
	const cancels = connected({}, async (client) => {
		for (let i = 0; i < 5; i++) {
			const began = Date.now();
			const query = client.query('select pg_sleep(20)');
			const failed = expect('57014', query);
			await pause(100);
			const canceller = new Client(settings());
			canceller.connection.on('error', () => {});
			// It takes the query's own object, which a client of promises keeps to itself.
			canceller.cancel(client, client._activeQuery);
			await failed;
			if (Date.now() - began > 10000) throw new Error('the cancel came late');
			same(await value(client, 'select 1'), 1);
		}
	}).finally(() => (done = true));
	await Promise.all([bystander, cancels]);
}

async function listen() {
	await connected({ database: SESSION }, (listener) => connected({ database: SESSION }, async (notifier) => {
		const heard = [];
		listener.on('notification', (message) => {
			heard.push(message.payload);
			if (heard.length === 5) listener.emit('all');
		});
		await listener.query('listen no_channel');
		const all = once(listener, 'all', { signal: AbortSignal.timeout(10000) });
		for (let i = 0; i < 5; i++) await notifier.query('select pg_notify($1, $2)', ['no_channel', String(i)]);
		await all;
		same(heard, ['0', '1', '2', '3', '4'], 'notifications');
		await listener.query('create temp table kept as select 7 as a');
		same(await value(listener, 'select a from kept'), 7);
	}));
}

async function pipelined() {
	await Promise.all(range(4).map((n) => connected({ pipeline: true }, async (client) => {
		for (let turn = 0; turn < 5; turn++) {
			const answers = await Promise.all(range(50).map((i) => i % 2
				? value(client, `select $1::int, ${n}`, [turn * 100 + i])
				: value(client, `select $1::int, ${n}`, [turn * 100 + i], `number ${i % 7}`)));
			same(answers, range(50).map((i) => turn * 100 + i), 'answers');
		}
		// An error of one query leaves the others alone: each has a Sync of its own.
		const mixed = await Promise.allSettled([value(client, 'select 1'), value(client, 'select 1 / $1::int', [0]),
			value(client, 'select $1::int', [3]), value(client, 'selec 4'), value(client, 'select 5')]);
		same(mixed.map((each) => each.value ?? each.reason.code), [1, '22012', 3, '42601', 5], 'answers with errors');
		const whole = await Promise.all([client.query('begin'), value(client, 'select $1::int', [7]), client.query('commit')]);
		same(whole[1], 7);
	})));
}

async function kept() {
	const query = "select current_setting('TimeZone') || ', ' || current_setting('application_name')";
	await Promise.all(['Asia/Tokyo', 'Europe/Paris', 'America/Lima', 'Africa/Cairo'].map((zone) => {
		const name = `no ${zone}`;
		const more = { application_name: name, statement_timeout: 54321, options: `-c TimeZone=${zone}` };
		return connected(more, async (client) => {
			for (let i = 0; i < 15; i++) {
				same(await value(client, query, [], 'settings'), `${zone}, ${name}`);
				same(await value(client, 'show statement_timeout'), '54321ms');
			}
			await client.query("set time zone 'Pacific/Auckland'");
			await client.query(`set application_name = '${name} ''later'''`);
			for (let i = 0; i < 15; i++)
				same(await value(client, query, [], 'settings'), `Pacific/Auckland, ${name} 'later'`);
		});
	}));
	const pool = new Pool(settings({ application_name: 'no pool', max: 8 }));
	const names = await Promise.all(range(100).map(() => pool.query("select current_setting('application_name') as name")));
	same([...new Set(names.map((result) => result.rows[0].name))], ['no pool'], "the pool's names");
	await pool.end();
}

async function reset() {
	await Promise.all(['Asia/Tokyo', 'Europe/Paris', 'America/Lima', 'Africa/Cairo'].map((zone) =>
		connected({ application_name: `no ${zone}`, options: `-c TimeZone=${zone}` }, async (client) => {
			for (const how of ['reset all', 'discard all']) {
				await client.query("set time zone 'Pacific/Auckland'; set application_name = 'another'");
				await client.query(how);
				for (let i = 0; i < 5; i++)
					same(await value(client, "select current_setting('TimeZone') || ', ' || current_setting('application_name')"),
						`${zone}, no ${zone}`, `what is set after ${how}`);
			}
		})));
}

async function main() {
	let failed = 0;
	const steps = { connect, refusals, prepared, transactions, errors, large_values: largeValues, copy,
		large_object: largeObject, cancel, listen, pipeline: pipelined, settings: kept, reset };
	for (const [name, step] of Object.entries(steps)) {
		let timer;
		const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error('no answer within 15 s')), 15000)));
		try {
			await Promise.race([step(), late]);
			console.log(`ok - ${name}`);
		} catch (error) {
			failed++;
			const trace = String(error.stack).split('\n').filter((line) => line.includes('scenario.js')).slice(0, 3);
			console.log(`not ok - ${name}: ${error.message || error.code}\n${trace.join('\n')}`);
		}
		clearTimeout(timer);
	}
	process.exit(failed ? 1 : 0);
}

process.on('unhandledRejection', (error) => console.log(`unhandled: ${error && error.message}`));
main();
