// Everyday work of postgres.js, as two tenants at once.
'use strict'

const assert = require('node:assert')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const postgres = require('postgres')

const sides = ['A', 'B'].map((name, n) => ({
  name,
  url: process.env[`TENANT_${name}_URL`],
  // Where tenants are given back what is tested for its own sake; `session`: and what needs a session.
  freed: process.env[`FREED_${name}_URL`],
  session: process.env[`SESSION_${name}_URL`],
  own: ['d0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000001'][n],
}))
const TRANSACTION = process.env.POOL_MODE === 'transaction'

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

async function everyday({ name, url, freed, session, own }) {
  const sql = postgres(url, { max: 2, onnotice: () => {}, connection: { application_name: 'postgres.js', TimeZone: 'Asia/Tokyo' } })
  const sees = async (sql) => (await sql`select distinct tenant_id from projects`).map((row) => row.tenant_id)
  check('reads its own rows', await sees(sql), [own])
  for (let n = 0; n < 30; n += 1) {
    // Prepared under a name of the driver's, and looked up in the catalogue before it.
    const [row] = await sql`select ${n}::int as n, ${name} || tenant_id as tenant, ${[1, 2]}::int[] as list from projects limit 1`
    check('a prepared statement', { ...row }, { n, tenant: name + own, list: [1, 2] })
    const [settings] = await sql`select current_setting('timezone') as zone, current_setting('application_name') as name`
    check('settings', { ...settings }, { zone: 'Asia/Tokyo', name: 'postgres.js' })
  }
  const [emails, ids] = [Array.from({ length: 10 }, (_, n) => `${n}@postgres.example.org`), []]
  for (const email of emails) {
    await sql.begin(async (sql) => {
      const [row] = await sql`insert into crm_leads ${sql({ full_name: 'postgres.js', email })} returning id, tenant_id`
      check('insert is given its tenant', row.tenant_id, own)
      ids.push(row.id)
      const twice = sql.savepoint((sql) => sql`insert into crm_leads ${sql({ full_name: 'x', email })}`)
      await refused('a unique violation in a savepoint', '23505', twice)
    })
    const updated = await sql`update crm_leads set status = 'won' where email = ${email} returning tenant_id`
    check('a committed row', updated.map((row) => row.tenant_id), [own])
  }
  check('and deleted', (await sql`delete from crm_leads where id = any(${ids})`).count, 10)
  await refused('an error', '22012', sql`select 1 / 0`)
  const failed = sql.begin(async (sql) => {
    await sql`insert into crm_leads (full_name, email) values ('x', 'rolled-back@postgres.example.org')`
    await sql`select 1 / 0`
  })
  await refused('an error in a transaction', '22012', failed)
  check('a rollback', (await sql`select from crm_leads where email like 'rolled-back@postgres%'`).count, 0)
  const many = await Promise.all(Array.from({ length: 100 }, (_, n) => sql`select ${n}::int as n, tenant_id from projects limit 1`))
  check('100 at once', many.map(([row]) => ({ ...row })), Array.from({ length: 100 }, (_, n) => ({ n, tenant_id: own })))
  let count = 0
  for await (const rows of sql`select n, tenant_id from generate_series(1, 5000) n, (select tenant_id from projects limit 1) p`.cursor(100)) {
    count += rows.filter((row) => row.tenant_id === own).length
  }
  check('a cursor', count, 5000)
  const several = await sql`select 1 as one; select tenant_id from projects limit 1`.simple()
  check('several statements', several.map(([row]) => ({ ...row })), [{ one: 1 }, { tenant_id: own }])
  const asleep = sql`select pg_sleep(60)`
  const cancelled = refused('a cancelled query', '57014', asleep)
  for (let over = false; !over; ) {
    await new Promise((resolve) => setTimeout(resolve, 300))
    asleep.cancel()
    over = await Promise.race([cancelled.then(() => true), new Promise((resolve) => setTimeout(resolve, 2000, false))])
  }
  check('after a cancel', await sees(sql), [own])
  await sql.begin(async (sql) => {
    let out = ''
    for await (const chunk of await sql`copy (select tenant_id from projects) to stdout`.readable()) out += chunk
    check('COPY TO', new Set(out.trim().split('\n')), new Set([own]))
  })
  const free = postgres(freed, { max: 1, onnotice: () => {} })
  await free.begin(async (sql) => {
    await sql`create temporary table t (n int) on commit drop`
    await pipeline(Readable.from(Array.from({ length: 1000 }, (_, n) => `${n}\n`)), await sql`copy t from stdin`.writable())
    check('COPY FROM', (await sql`select from t`).count, 1000)
  })
  if (TRANSACTION) {
    const pids = new Set()
    for (let n = 0; n < 2000 && pids.size < 2; n += 1) pids.add((await sql`select pg_backend_pid() as pid`)[0].pid)
    check('the server connection changes', pids.size > 1, true)
    const error = await refused('LISTEN', '0A000', free.listen('news', () => {}))
    assert.match(error.hint, /session_statements/)
  }
  await free.end()
  await sql.end()

  const listening = postgres(session, { max: 1 })
  const told = new Promise((resolve) => listening.listen(`postgres_js_${name}`, resolve).then(() => listening.notify(`postgres_js_${name}`, 'salut')))
  check('a notification', await told, 'salut')
  await listening.end()

  const unprepared = postgres(url, { max: 1, prepare: false })
  for (let n = 0; n < 5; n += 1) check('without prepared statements', (await unprepared`select ${n}::int as n`)[0].n, n)
  await unprepared.end()
}

Promise.all(sides.map(everyday)).then(
  () => console.log(`passed ${passed}`),
  (error) => {
    console.log(`FAILED  ${error.stack}`)
    process.exit(1)
  },
)
