// Everyday work of node-postgres, as two tenants at once, the super-admin and the owner.
'use strict'

const assert = require('node:assert')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const copy = require('pg-copy-streams')

const A = 'd0000000-0000-4000-8000-000000000001'
const B = 'e0000000-0000-4000-8000-000000000001'
const sides = [
  { name: 'a', url: process.env.TENANT_A_URL, freed: process.env.FREED_A_URL, session: process.env.SESSION_A_URL, narrow: process.env.NARROW_A_URL, own: A, other: B },
  { name: 'b', url: process.env.TENANT_B_URL, freed: process.env.FREED_B_URL, session: process.env.SESSION_B_URL, narrow: process.env.NARROW_B_URL, own: B, other: A },
]
// Each transaction gets another server connection, and other clients keep them moving.
const TRANSACTION = process.env.POOL_MODE === 'transaction'
const ONLY = 'select distinct tenant_id from projects'
const TWICE =
  'insert into crm_leads (full_name, email) select full_name, email from crm_leads'

let passed = 0

function check(what, got, expected) {
  assert.deepStrictEqual(got, expected, what)
  passed += 1
  console.log(`ok  ${what}`)
}

async function refused(what, code, work) {
  try {
    await work
  } catch (error) {
    check(what, error.code, code)
    return error
  }
  assert.fail(`${what}: accepted`)
}

async function connected(config, work) {
  const client = new Client(typeof config === 'string' ? { connectionString: config } : config)
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}

async function sees(client) {
  return (await client.query(ONLY)).rows.map((row) => row.tenant_id)
}

async function rows({ url, own, other }) {
  await connected(url, async (c) => {
    check('reads its own rows', await sees(c), [own])
    await c.query('begin')
    const insert = 'insert into crm_leads (full_name, email) values ($1, $2) returning tenant_id'
    const inserted = await c.query(insert, ['node', 'node@example.org'])
    check('insert is given its tenant', inserted.rows[0].tenant_id, own)
    const updated = await c.query("update crm_leads set status = 'lost' returning tenant_id")
    check('an update of everything is of its own', updated.rows.every((r) => r.tenant_id === own), true)
    const foreign = await c.query('delete from crm_leads where tenant_id = $1', [other])
    check("nothing of another tenant's can be deleted", foreign.rowCount, 0)
    await c.query('delete from crm_leads')
    const left = await c.query('select count(*)::int as n from crm_leads')
    check('nothing is left', left.rows, [{ n: 0 }])
    await c.query('rollback')
    const back = await c.query('select count(*) >= 3 as back from crm_leads')
    check('a rollback brings it back', back.rows[0].back, true)
    const bad = "insert into crm_leads (tenant_id, full_name, email) values ($1, 'x', 'x')"
    await refused('a foreign tenant_id', '42501', c.query(bad, [other]))
    const several = await c.query(`select 1 as one; ${ONLY}; select 3 as three`)
    check('several statements at once', several.map((r) => r.rows.length), [1, 1, 1])
  })
}

async function transactions({ session, own }) {
  await connected(session, async (c) => {
    await c.query('create temporary table t (n int)')
    await c.query('begin')
    await c.query('insert into t values (1)')
    await c.query('savepoint s')
    await c.query('insert into t values (2)')
    await refused('an error in a transaction', '22012', c.query('select 1 / 0'))
    await refused('a failed transaction', '25P02', c.query('select 1'))
    await c.query('rollback to s')
    await c.query('commit')
    check('savepoints', (await c.query('select sum(n)::int as n from t')).rows[0].n, 1)
    for (const level of ['read committed', 'repeatable read', 'serializable']) {
      await c.query(`begin isolation level ${level} read only`)
      const shown = await c.query('show transaction_isolation')
      check('isolation level', shown.rows[0].transaction_isolation, level)
      await refused('a read-only transaction', '25006', c.query('update projects set name = name'))
      await c.query('rollback')
    }
    check('after transactions', await sees(c), [own])
  })
}

// The application picks the names, so both tenants' are the same.
async function statements({ url, own, name }) {
  await connected(url, async (c) => {
    for (let n = 0; n < 20; n += 1) {
      const one = await c.query({ name: 'shared', text: `select '${name}' || $1 as x`, values: [String(n)] })
      check('a statement by name', one.rows, [{ x: name + n }])
      const all = await c.query({ name: 'rows', text: 'select tenant_id from projects where $1', values: [true] })
      check('rows by name', new Set(all.rows.map((r) => r.tenant_id)), new Set([own]))
    }
  })
}

async function parameters({ url, own }) {
  const values = [
    [own, 'uuid'],
    [{ clé: [1, null, { é: 1.5 }] }, 'jsonb'],
    [new Date('2026-02-28T23:59:59.999Z'), 'timestamptz'],
    ['-12345678901234567890.000000000001', 'numeric'],
    [Buffer.from([0, 255, 92, 39]), 'bytea'],
    [[1, null, 3], 'int4[]'],
    [['é', 'q"{,}', null, ''], 'text[]'],
    [[[1, 2], [3, 4]], 'int4[]'],
    ['4611686018427387904', 'int8'],
    [1e-300, 'float8'],
    [true, 'bool'],
    [null, 'text'],
    ["'; drop table projects; --", 'text'],
  ]
  await connected(url, async (c) => {
    for (const [value, type] of values) {
      const got = await c.query(`select $1::${type} as x`, [value])
      check(type, got.rows[0].x, value)
    }
    const binary = await c.query({ text: 'select $1::int4 as x', values: [7], binary: true })
    check('binary results', binary.rows[0].x, 7)
    const arrays = await c.query({ text: 'select 1, tenant_id from projects limit 1', rowMode: 'array' })
    check('rows as arrays', arrays.rows, [[1, own]])
  })
}

async function queued({ url, own }) {
  await connected(url, async (c) => {
    const asked = []
    for (let n = 0; n < 200; n += 1) {
      asked.push(c.query('select $1::int as n, tenant_id from projects limit 1', [n]))
      if (n % 50 === 7) asked.push(c.query('select 1 / 0').catch((error) => error.code))
    }
    const got = (await Promise.all(asked)).filter((r) => r !== '22012').map((r) => r.rows[0])
    check('200 queued queries', got, Array.from({ length: 200 }, (_, n) => ({ n, tenant_id: own })))
    const [, behind] = await Promise.all([c.query('discard all'), c.query(ONLY)])
    check('rows behind DISCARD ALL', behind.rows, [{ tenant_id: own }])
  })
}

async function streams({ url, session, own }) {
  await connected(url, async (c) => {
    const text =
      'select n, tenant_id from generate_series(1, 100000) n, (select tenant_id from projects limit 1) p'
    let count = 0
    for await (const row of c.query(new QueryStream(text, [], { batchSize: 1000 }))) {
      count += 1
      if (row.n !== count || row.tenant_id !== own) check('a stream', row, { n: count, tenant_id: own })
    }
    check('a stream of 100,000 rows', count, 100000)
    check('a large result', (await c.query(text)).rows.length, 100000)
    const cursor = c.query(new Cursor(text))
    check('a cursor', (await cursor.read(7)).length, 7)
    check('more of it', (await cursor.read(3))[2].n, 10)
    await cursor.close()

    let out = ''
    for await (const chunk of c.query(copy.to('copy (select tenant_id from projects) to stdout'))) out += chunk
    check('COPY TO', new Set(out.trim().split('\n')), new Set([own]))
  })
  await connected(session, async (c) => {
    await c.query('create temporary table t (n int, x text)')
    const lines = Array.from({ length: 50000 }, (_, n) => `${n}\té\n`)
    await pipeline(Readable.from(lines), c.query(copy.from('copy t from stdin')))
    check('COPY FROM', (await c.query('select count(*)::int as n from t')).rows, [{ n: 50000 }])
    await c.query('begin')
    await pipeline(Readable.from(['x\n', 'y\n']), c.query(copy.from('copy projects (name) from stdin')))
    const { rows } = await c.query("select min(tenant_id::text) as t, count(*)::int as n from projects where name in ('x', 'y')")
    check('COPY FROM into a table under policies', rows, [{ t: own, n: 2 }])
    await c.query('rollback')
    const foreign = c.query(copy.from('copy projects (tenant_id, name) from stdin'))
    await refused("COPY FROM with another tenant's row", '42501', pipeline(Readable.from([`${own === A ? B : A}\tx\n`]), foreign))
    check('after COPY', await sees(c), [own])
  })
}

async function cancelling({ url, own }) {
  await connected({ connectionString: url, statement_timeout: 200 }, async (c) => {
    await refused('statement_timeout at startup', '57014', c.query('select pg_sleep(60)'))
    await c.query('set statement_timeout = 0')
    await c.query('reset statement_timeout')
    const shown = await c.query('show statement_timeout')
    check('RESET goes back to it', shown.rows[0].statement_timeout, '200ms')
  })
  await connected(url, async (c) => {
    const asleep = refused('a cancelled query', '57014', c.query('select pg_sleep(60)'))
    let over = false
    asleep.finally(() => { over = true }).catch(() => {})
    while (!over) {
      await new Promise((resolve) => setTimeout(resolve, 200))
      if (!over) await cancel(c)
    }
    await asleep
    for (;;) {
      try {
        check('after a cancel', await sees(c), [own])
        break
      } catch (error) {
        if (error.code !== '57014') throw error
      }
    }
  })
}

// As the driver's own Client.cancel does it, which is for queries of its own queue.
function cancel(client) {
  return new Promise((resolve, reject) => {
    const canceller = new (require('pg').Connection)({})
    canceller.connect(client.port, client.host)
    canceller.on('connect', () => canceller.cancel(client.processID, client.secretKey))
    canceller.on('end', resolve)
    canceller.on('error', reject)
    canceller.stream.on('close', resolve)
  })
}

async function notifications({ freed, session, name }) {
  await connected(session, (listener) =>
    connected(freed, async (sender) => {
      const channel = `node_${name}`
      const told = new Promise((resolve) => listener.on('notification', resolve))
      await listener.query(`listen ${channel}`)
      await sender.query('select pg_notify($1, $2)', [channel, 'salut'])
      const got = await told
      check('a notification', [got.channel, got.payload], [channel, 'salut'])
      if (!TRANSACTION) check('its sender', got.processId, sender.processID)
    }),
  )
}

async function errors({ url, freed, own }) {
  await connected(url, async (c) => {
    const column = await refused('an unknown column', '42703', c.query('select no_such from projects'))
    check('its position', column.position, '8')
    const twice = await refused('a unique violation', '23505', c.query(TWICE))
    check('its table', [twice.table, twice.detail], ['crm_leads', undefined])
    check('after errors', await sees(c), [own])
  })
  await connected(freed, async (c) => {
    const other = 'create temporary table t (n int primary key) on commit drop; insert into t values (1), (1)'
    const detailed = await refused('another', '23505', c.query(other))
    check('its detail', detailed.detail, 'Key (n)=(1) already exists.')
    const notices = []
    c.on('notice', (notice) => notices.push(notice.message))
    await c.query("do $$ begin raise notice 'hello'; end $$")
    check('a notice', notices, ['hello'])
    check('after errors', await sees(c), [own])
  })
}

async function settings({ url, own }) {
  const config = {
    connectionString: url,
    application_name: 'node',
    lock_timeout: 4321,
    idle_in_transaction_session_timeout: 54321,
    options: '-c datestyle=German -c timezone=Asia/Tokyo',
    client_encoding: 'UTF8',
  }
  await connected(config, async (c) => {
    for (const undo of ['reset all', 'discard all']) {
      await c.query("set datestyle = 'ISO, YMD'; set application_name = 'other'; set lock_timeout = 0")
      await c.query(undo)
      const names = ['application_name', 'lock_timeout', 'datestyle', 'timezone']
      const got = []
      for (const name of names) got.push((await c.query(`select current_setting('${name}') as x`)).rows[0].x)
      check(`${undo}: the client's own`, got, ['node', '4321ms', 'German, DMY', 'Asia/Tokyo'])
      check(`${undo}: the tenant stays`, await sees(c), [own])
    }
  })
  const client = new Client({ connectionString: url, options: '-c role=postgres' })
  await refused('a role at startup', '0A000', client.connect())
}

async function introspection({ url }) {
  await connected(url, async (c) => {
    const text = "select column_name from information_schema.columns where table_name = 'projects' order by ordinal_position limit 2"
    check('information_schema', (await c.query(text)).rows.map((r) => r.column_name), ['tenant_id', 'id'])
    check('fields', (await c.query('select * from projects')).fields[0].name, 'tenant_id')
  })
}

async function pooled({ url, narrow, own }) {
  const wide = new Pool({ connectionString: url, max: 3 })
  const used = await Promise.all(Array.from({ length: 30 }, () => wide.query(ONLY)))
  check('a pool', used.every((r) => r.rows.length === 1 && r.rows[0].tenant_id === own), true)
  await wide.end()
  // One server connection for both tenants: they take turns.
  for (let round = 0; round < 4; round += 1) {
    const pool = new Pool({ connectionString: narrow, max: 1 })
    for (let use = 0; use < 3; use += 1) {
      const client = await pool.connect()
      check('one server connection: its own rows', await sees(client), [own])
      const left = await client.query(
        `select (select count(*) from pg_class where relname = 'left_behind' and pg_table_is_visible(oid))
          + (select count(*) from pg_listening_channels()) as n, current_setting('application_name') as name`,
      )
      check('nothing left behind', left.rows, [{ n: '0', name: '' }])
      await client.query("create temporary table left_behind (); listen left_behind; set application_name = 'left'")
      await client.query({ name: 'left_behind', text: 'select tenant_id from projects' })
      if (use < 2) {
        // What an application may do between two uses; the last one leaves it to the proxy.
        await client.query('discard all')
        client.connection.parsedStatements = {}
      }
      client.release()
    }
    await pool.end()
  }
}

async function logins() {
  const attempt = (config) => new Client(config).connect()
  const url = sides[0].url
  const forged = await refused('a forged token', '28P01', attempt({ connectionString: process.env.FORGED_URL }))
  check('its severity', forged.severity, 'FATAL')
  const expired = await refused('an expired token', '28P01', attempt({ connectionString: process.env.EXPIRED_URL }))
  check('an expired token is told', expired.message, 'token has expired')
  const road = url.replace('//cloison_app:', '//cloison_owner:')
  await refused('a token on another road', '28000', attempt({ connectionString: road }))
  await refused('an unknown database', '3D000', attempt({ connectionString: url.replace(/app$/, 'other') }))
}

async function otherRoads() {
  await connected(process.env.SUPERADMIN_URL, async (c) => {
    check('the super-admin before', await sees(c), [])
    await c.query('select enable_superadmin_mode()')
    check('the super-admin after', (await sees(c)).length, 3)
  })
  await connected(process.env.OWNER_URL, async (c) => {
    await c.query('create table node_owned (n int)')
    await pipeline(Readable.from(['1\n', '2\n']), c.query(copy.from('copy node_owned from stdin')))
    check("the owner's COPY", (await c.query('select sum(n)::int as n from node_owned')).rows, [{ n: 3 }])
    await c.query('drop table node_owned')
  })
}

// What a transaction finds on the next server connection.
async function moving({ url, freed, own }) {
  await connected(url, async (c) => {
    const pids = new Set()
    for (let n = 0; n < 2000 && pids.size < 2; n += 1) pids.add((await c.query('select pg_backend_pid() as pid')).rows[0].pid)
    check('the server connection changes', pids.size > 1, true)
  })
  await connected(freed, async (c) => {
    const statements = [
      'listen news', 'create temporary table t (n int)', 'prepare p as select 1',
      'declare c cursor with hold for select 1', 'select pg_advisory_lock(1)',
    ]
    for (const statement of statements) {
      const error = await refused(statement, '0A000', c.query(statement))
      assert.match(error.hint, /session_statements/)
      await refused('as a prepared statement, too', '0A000', c.query({ text: statement, queryMode: 'extended' }))
      check('and goes on', await sees(c), [own])
    }
  })
  await connected(url, async (c) => {
    const insert = { name: 'insert', text: 'insert into crm_leads (full_name, email) values ($1, $2) returning id' }
    const update = { name: 'update', text: "update crm_leads set status = 'won' where id = $1 returning tenant_id" }
    const ids = []
    for (let n = 0; n < 20; n += 1) {
      await c.query('begin')
      const inserted = await c.query({ ...insert, values: [`moving${n}`, `moving${n}@node.example.org`] })
      ids.push(inserted.rows[0].id)
      await c.query('savepoint s')
      await refused('a unique violation', '23505', c.query({ ...insert, values: ['x', `moving${n}@node.example.org`] }))
      await c.query('rollback to s')
      await c.query('commit')
      const updated = await c.query({ ...update, values: [ids[n]] })
      check('found on the next connection', updated.rows, [{ tenant_id: own }])
    }
    check('and deleted', (await c.query('delete from crm_leads where id = any($1)', [ids])).rowCount, 20)
    await c.query('begin')
    const cursor = c.query(new Cursor('select generate_series(1, 100) as n, tenant_id from projects'))
    for (let n = 0; n < 5; n += 1) check('a cursor', (await cursor.read(10))[0].tenant_id, own)
    await cursor.close()
    await c.query('commit')
  })
  await connected(freed, async (c) => {
    await c.query('begin')
    await c.query('create temporary table t (n int) on commit drop')
    await pipeline(Readable.from(Array.from({ length: 5000 }, (_, n) => `${n}\n`)), c.query(copy.from('copy t from stdin')))
    check('COPY FROM in a transaction', (await c.query('select count(*)::int as n from t')).rows, [{ n: 5000 }])
    await c.query('commit')
  })
  const names = ['statement_timeout', 'lock_timeout', 'application_name', 'datestyle', 'timezone', 'search_path']
  const show = `select ${names.map((name) => `current_setting('${name}') as ${name}`).join(', ')}`
  const config = {
    connectionString: url, statement_timeout: 54321, lock_timeout: 4321, application_name: 'node',
    options: '-c datestyle=German -c timezone=Asia/Tokyo -c search_path=public',
  }
  await connected(config, async (c) => {
    const wishes = ['54321ms', '4321ms', 'node', 'German, DMY', 'Asia/Tokyo', 'public']
    const changed = ['12345ms', '1234ms', 'changed', 'SQL, MDY', 'America/Lima', 'cloison, public']
    const change =
      "set statement_timeout = '12345ms'; set lock_timeout = '1234ms'; set application_name = 'changed';" +
      "set datestyle = 'SQL, MDY'; set timezone = 'America/Lima'; set search_path = cloison, public"
    for (const [statement, expected] of [['select 1', wishes], [change, changed], ['reset all', wishes]]) {
      await c.query(statement)
      for (let n = 0; n < 20; n += 1) {
        const got = (await c.query({ name: 'show', text: show, rowMode: 'array' })).rows[0]
        check(`settings after ${statement.slice(0, 10)}`, got, expected)
      }
    }
  })
}

const parts = [
  rows, transactions, statements, parameters, queued, streams, cancelling, notifications, errors,
  settings, introspection, pooled,
]

async function everyday(side) {
  for (const part of parts) await part(side)
  if (TRANSACTION) await moving(side)
}

async function main() {
  await Promise.all(sides.map(everyday))
  await logins()
  if (!TRANSACTION) await otherRoads()
  console.log(`passed ${passed}`)
}

main().catch((error) => {
  console.log(`FAILED  ${error.stack}`)
  process.exit(1)
})
