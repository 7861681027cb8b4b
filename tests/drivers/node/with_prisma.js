// Everyday work of Prisma's client, which speaks through node-postgres, as two tenants at once.
'use strict'

const assert = require('node:assert')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const A = 'd0000000-0000-4000-8000-000000000001'
const B = 'e0000000-0000-4000-8000-000000000001'
const sides = [
  { url: process.env.TENANT_A_URL, narrow: process.env.NARROW_A_URL, own: A, other: B },
  { url: process.env.TENANT_B_URL, narrow: process.env.NARROW_B_URL, own: B, other: A },
]
const TRANSACTION = process.env.POOL_MODE === 'transaction'

let passed = 0

function check(what, got, expected) {
  assert.deepStrictEqual(got, expected, what)
  passed += 1
  console.log(`ok  ${what}`)
}

// The client is made from the schema, into a folder of this run's own where it finds its runtime.
function generated() {
  const modules = path.join(__dirname, '..', 'node_modules')
  const folder = fs.mkdtempSync(path.join(modules, '.cloison-prisma-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true }))
  const schema = path.join(folder, 'schema.prisma')
  fs.copyFileSync(path.join(__dirname, 'schema.prisma'), schema)
  // Making a client needs no engine, but the command fetches one that it does not find.
  const env = { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: process.execPath, PRISMA_QUERY_ENGINE_LIBRARY: process.execPath, CHECKPOINT_DISABLE: '1', PRISMA_HIDE_UPDATE_MESSAGE: '1' }
  const command = [path.join(modules, 'prisma', 'build', 'index.js'), 'generate', '--schema', schema]
  const made = spawnSync(process.execPath, command, { env, cwd: folder, encoding: 'utf8' })
  assert.strictEqual(made.status, 0, `${made.stdout}${made.stderr}`)
  return require(path.join(folder, 'generated'))
}

const { PrismaClient, Prisma } = generated()
const { PrismaPg } = require('@prisma/adapter-pg')

function connected(url, max) {
  return new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max }) })
}

// Prisma wraps the driver's error, and gives those that it knows a code of its own.
async function refused(what, code, work) {
  try {
    await work
  } catch (error) {
    const cause = error.meta?.driverAdapterError?.cause ?? error.cause ?? {}
    check(what, [error.code, cause.originalCode].includes(code) ? code : `${error.code} ${JSON.stringify(cause)} ${error.message}`, code)
    return
  }
  assert.fail(`${what}: accepted`)
}

// Through all tables, so that one without its policy is noticed.
async function sees(db) {
  const seen = new Set()
  for (const table of ['project', 'workflow', 'article', 'lead', 'deal']) {
    const rows = await db[table].findMany({ distinct: ['tenantId'], select: { tenantId: true } })
    for (const row of rows) seen.add(row.tenantId)
  }
  return [...seen]
}

async function rows(db, { own, other }, email) {
  const mine = { email: { endsWith: email('') } }
  const inserted = await db.lead.create({ data: { fullName: 'Prisma', email: email('one') } })
  check('create is given its tenant', [inserted.tenantId, inserted.status], [own, 'new'])
  check('a timestamp', inserted.createdAt instanceof Date, true)
  const many = Array.from({ length: 20 }, (_, n) => ({ fullName: `Lead ${n}`, email: email(n) }))
  check('createMany', await db.lead.createMany({ data: many }), { count: 20 })
  const updated = await db.lead.updateManyAndReturn({ where: mine, data: { status: 'won' }, select: { tenantId: true, status: true } })
  check('updateManyAndReturn', updated, Array.from({ length: 21 }, () => ({ tenantId: own, status: 'won' })))
  const key = { tenantId_email: { tenantId: own, email: email('one') } }
  const upserted = await db.lead.upsert({ where: key, update: { fullName: 'Again' }, create: { fullName: 'x', email: email('one') } })
  check('an upsert finds its row', [upserted.id, upserted.fullName], [inserted.id, 'Again'])
  await refused('a unique violation', 'P2002', db.lead.create({ data: { fullName: 'x', email: email('one') } }))

  const found = []
  for (let cursor; ;) {
    const page = await db.lead.findMany({ where: mine, orderBy: { email: 'asc' }, take: 8, ...(cursor ? { cursor, skip: 1 } : {}) })
    if (page.length === 0) break
    found.push(...page)
    cursor = { tenantId_id: { tenantId: own, id: page.at(-1).id } }
  }
  check('pages by cursor', [found.length, new Set(found.map((lead) => lead.tenantId))], [21, new Set([own])])
  check('pages by offset', await db.lead.findMany({ where: mine, orderBy: { email: 'asc' }, take: 8, skip: 16 }), found.slice(16))
  check('count', await db.lead.count({ where: mine }), 21)
  check('groupBy', await db.lead.groupBy({ by: ['status'], where: mine, _count: true }), [{ status: 'won', _count: 21 }])

  await refused('a foreign tenant', '42501', db.lead.create({ data: { tenantId: other, fullName: 'x', email: email('x') } }))
  await refused('a row moved to another tenant', '42501', db.lead.updateMany({ data: { tenantId: other } }))
  check('nothing of another tenant is updated', await db.lead.updateMany({ where: { tenantId: other }, data: { status: 'lost' } }), { count: 0 })
  check('nor deleted', await db.lead.deleteMany({ where: { tenantId: other } }), { count: 0 })
  check('nor found', await db.lead.findFirst({ where: { tenantId: other } }), null)
  check('deleteMany', await db.lead.deleteMany({ where: mine }), { count: 21 })
}

async function transactions(db, { own }, email) {
  const mine = { email: { endsWith: email('') } }
  await db.$transaction(async (tx) => {
    await tx.lead.create({ data: { fullName: 'kept', email: email('kept') } })
    check('the transaction sees its own', await tx.lead.count({ where: mine }), 1)
    check('and its tenant alone', await sees(tx), [own])
  })
  check('a commit', await db.lead.deleteMany({ where: mine }), { count: 1 })
  const failed = db.$transaction(async (tx) => {
    await tx.lead.create({ data: { fullName: 'x', email: email('failed') } })
    await tx.$queryRaw`select 1 / 0`
  })
  await refused('an error', '22012', failed)
  check('a rollback', await db.lead.count({ where: mine }), 0)
  const data = { fullName: 'x', email: email('twice') }
  await refused('a batch fails as a whole', 'P2002', db.$transaction([db.lead.create({ data }), db.lead.create({ data })]))
  check('and leaves nothing', await db.lead.count({ where: mine }), 0)
  for (const isolationLevel of ['ReadCommitted', 'RepeatableRead', 'Serializable']) {
    const shown = await db.$transaction((tx) => tx.$queryRaw`show transaction_isolation`, { isolationLevel })
    check('isolation level', shown[0].transaction_isolation.replaceAll(' ', ''), isolationLevel.toLowerCase())
  }
}

async function related(db, { own }, email) {
  const lead = await db.lead.create({ data: { fullName: 'Related', email: email('related') } })
  const deals = ['small', 'large'].map((title, n) => ({ leadId: lead.id, title, amountCents: BigInt(10 ** n), currency: 'EUR' }))
  await db.deal.createMany({ data: deals })
  const found = await db.lead.findFirst({
    where: { id: lead.id },
    select: { tenantId: true, deals: { select: { tenantId: true, title: true, amountCents: true }, orderBy: { amountCents: 'asc' } } },
  })
  check('many', found, { tenantId: own, deals: [{ tenantId: own, title: 'small', amountCents: 1n }, { tenantId: own, title: 'large', amountCents: 10n }] })
  const back = await db.deal.findMany({ where: { leadId: lead.id }, include: { lead: true } })
  check('one', back.map((deal) => deal.lead), [lead, lead])
  const everything = await db.lead.findMany({ include: { deals: true } })
  const tenants = everything.flatMap((row) => [row.tenantId, ...row.deals.map((deal) => deal.tenantId)])
  check('relations stay within the tenant', new Set(tenants), new Set([own]))
  check('a filter by relation', await db.lead.count({ where: { id: lead.id, deals: { some: { amountCents: { gt: 5 } } } } }), 1)
  await db.lead.delete({ where: { tenantId_id: { tenantId: own, id: lead.id } } })
  check('the cascade', await db.deal.count({ where: { leadId: lead.id } }), 0)
}

async function types(db, { own }, email) {
  const steps = [{ do: 'é "quoted"', with: [1, null, { n: 1.5 }] }]
  const workflow = await db.workflow.create({ data: { name: email('json'), steps } })
  check('JSON comes back', [workflow.steps, workflow.isEnabled], [steps, true])
  check('JSON is looked into', await db.workflow.count({ where: { name: email('json'), steps: { path: ['0', 'do'], string_contains: 'quoted' } } }), 1)
  await db.workflow.deleteMany({ where: { id: workflow.id } })
  const tags = ['a', 'b,"c"', '']
  const article = await db.article.create({ data: { title: email('array'), body: '', tags } })
  check('an array comes back', article.tags, tags)
  check('and is looked into', await db.article.count({ where: { id: article.id, tags: { has: 'b,"c"' } } }), 1)
  await db.article.deleteMany({ where: { id: article.id } })
  const dueOn = new Date('2026-02-28T00:00:00Z')
  const project = await db.project.create({ data: { name: email('types'), budgetCents: 2n ** 62n, dueOn } })
  check('a bigint and a date', [project.budgetCents, project.dueOn], [2n ** 62n, dueOn])
  await db.project.deleteMany({ where: { id: project.id } })
  const raw = await db.$queryRaw`select ${"'; drop table projects; --"}::text as t, get_current_tenant()::text as tenant`
  check('a template', raw, [{ t: "'; drop table projects; --", tenant: own }])
  const names = await db.$queryRaw(Prisma.sql`select distinct tenant_id::text as t from projects where name in (${Prisma.join(['x', 'y'])}) or true`)
  check('a joined template', names, [{ t: own }])
}

async function everyday(side) {
  const db = connected(side.url, 3)
  // Both tenants use the same values, which are unique within one only; both pool modes run at once.
  const email = (name) => `${name}@prisma.${process.env.POOL_MODE}.example.org`
  check('reads its own rows', await sees(db), [side.own])
  for (const part of [rows, transactions, related, types]) await part(db, side, email)
  const all = await Promise.all(Array.from({ length: 40 }, () => db.project.findMany()))
  check('forty at once', new Set(all.flat().map((project) => project.tenantId)), new Set([side.own]))
  check('reads its own rows in the end', await sees(db), [side.own])
  if (TRANSACTION) {
    const pids = new Set()
    for (let n = 0; n < 2000 && pids.size < 2; n += 1) {
      pids.add((await db.$queryRaw`select pg_backend_pid() as pid`)[0].pid)
    }
    check('the server connection changes', pids.size > 1, true)
  }
  await db.$disconnect()
  // One server connection for both tenants.
  for (let round = 0; round < 4; round += 1) {
    const narrow = connected(side.narrow, 1)
    check('one server connection: its own rows', await sees(narrow), [side.own])
    await narrow.$disconnect()
  }
}

Promise.all(sides.map(everyday)).then(
  () => console.log(`passed ${passed}`),
  (error) => {
    console.log(`FAILED  ${error.stack} ${error.cause?.stack ?? ''}`)
    process.exit(1)
  },
)
