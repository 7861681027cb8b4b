// Everyday work of Drizzle, over node-postgres and over postgres.js, as two tenants at once.
'use strict'

const assert = require('node:assert')
const { Pool } = require('pg')
const postgres = require('postgres')
const { and, arrayContains, asc, count, eq, gt, inArray, like, relations, sql } = require('drizzle-orm')
const { bigint, jsonb, pgTable, primaryKey, text, timestamp, unique, uuid } = require('drizzle-orm/pg-core')
const nodePostgres = require('drizzle-orm/node-postgres')
const postgresJs = require('drizzle-orm/postgres-js')

const A = 'd0000000-0000-4000-8000-000000000001'
const B = 'e0000000-0000-4000-8000-000000000001'
const sides = [
  { name: 'a', url: process.env.TENANT_A_URL, freed: process.env.FREED_A_URL, narrow: process.env.NARROW_A_URL, own: A, other: B },
  { name: 'b', url: process.env.TENANT_B_URL, freed: process.env.FREED_B_URL, narrow: process.env.NARROW_B_URL, own: B, other: A },
]
const TRANSACTION = process.env.POOL_MODE === 'transaction'

// The tenant is the database's to fill in: an application that knows nothing of it leaves it out.
const key = () => ({
  tenantId: uuid('tenant_id').notNull().default(sql`current_tenant_id()`),
  id: uuid('id').notNull().defaultRandom(),
})
const projects = pgTable('projects', { ...key(), name: text('name').notNull() }, (t) => [
  primaryKey({ columns: [t.tenantId, t.id] }),
])
const workflows = pgTable('bolt_workflows', {
  ...key(),
  projectId: uuid('project_id'),
  name: text('name').notNull(),
  steps: jsonb('steps').notNull().default([]),
})
const articles = pgTable('knowledge_base', {
  ...key(),
  title: text('title').notNull(),
  body: text('body').notNull(),
  tags: text('tags').array().notNull().default([]),
})
const leads = pgTable('crm_leads', {
  ...key(),
  fullName: text('full_name').notNull(),
  email: text('email').notNull(),
  status: text('status', { enum: ['new', 'qualified', 'won', 'lost'] }).notNull().default('new'),
  createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
}, (t) => [unique().on(t.tenantId, t.email)])
const deals = pgTable('crm_deals', {
  ...key(),
  leadId: uuid('lead_id').notNull(),
  title: text('title').notNull(),
  amountCents: bigint('amount_cents', { mode: 'number' }).notNull(),
  currency: text('currency').notNull(),
})
const leadsRelations = relations(leads, ({ many }) => ({ deals: many(deals) }))
const dealsRelations = relations(deals, ({ one }) => ({
  lead: one(leads, { fields: [deals.tenantId, deals.leadId], references: [leads.tenantId, leads.id] }),
}))
const schema = { projects, workflows, articles, leads, deals, leadsRelations, dealsRelations }

let passed = 0

function check(what, got, expected) {
  assert.deepStrictEqual(got, expected, what)
  passed += 1
  console.log(`ok  ${what}`)
}

// Drizzle wraps the driver's error.
async function refused(what, code, work) {
  try {
    await work
  } catch (error) {
    check(what, (error.cause ?? error).code, code)
    return
  }
  assert.fail(`${what}: accepted`)
}

// Through all tables, so that one without its policy is noticed.
async function sees(db) {
  const seen = new Set()
  for (const table of [projects, workflows, articles, leads, deals]) {
    for (const row of await db.selectDistinct({ tenant: table.tenantId }).from(table)) seen.add(row.tenant)
  }
  return [...seen]
}

async function rows(db, { own, other }, email) {
  const [inserted] = await db.insert(leads).values({ fullName: 'Drizzle', email: email('one') }).returning()
  check('insert is given its tenant', [inserted.tenantId, inserted.status], [own, 'new'])
  check('a timestamp', inserted.createdAt instanceof Date, true)
  const many = Array.from({ length: 20 }, (_, n) => ({ fullName: `Lead ${n}`, email: email(n) }))
  check('insert of many', (await db.insert(leads).values(many).returning({ id: leads.id })).length, 20)
  const updated = await db.update(leads).set({ status: 'won' }).where(like(leads.email, email('%')))
    .returning({ tenant: leads.tenantId, status: leads.status })
  check('update', updated, Array.from({ length: 21 }, () => ({ tenant: own, status: 'won' })))
  const [upserted] = await db.insert(leads).values({ fullName: 'Again', email: email('one') })
    .onConflictDoUpdate({ target: [leads.tenantId, leads.email], set: { fullName: sql`excluded.full_name` } }).returning()
  check('an upsert finds its row', [upserted.id, upserted.fullName], [inserted.id, 'Again'])

  const found = []
  for (let after = '', page; (page = await db.select().from(leads)
    .where(and(like(leads.email, email('%')), gt(leads.email, after))).orderBy(asc(leads.email)).limit(8)).length > 0;) {
    found.push(...page)
    after = page.at(-1).email
  }
  check('pages by key', [found.length, new Set(found.map((lead) => lead.tenantId))], [21, new Set([own])])
  const page = await db.select().from(leads).where(like(leads.email, email('%'))).orderBy(leads.email).limit(8).offset(16)
  check('pages by offset', page, found.slice(16))
  check('$count', await db.$count(leads, like(leads.email, email('%'))), 21)
  const [grouped] = await db.select({ status: leads.status, n: count() }).from(leads)
    .where(like(leads.email, email('%'))).groupBy(leads.status)
  check('groups', grouped, { status: 'won', n: 21 })

  await refused('a foreign tenant', '42501', db.insert(leads).values({ tenantId: other, fullName: 'x', email: email('x') }))
  await refused('a row moved to another tenant', '42501', db.update(leads).set({ tenantId: other }))
  check('nothing of another tenant is updated', await db.update(leads).set({ status: 'lost' }).where(eq(leads.tenantId, other)).returning(), [])
  check('nor deleted', await db.delete(leads).where(eq(leads.tenantId, other)).returning(), [])
  const deleted = await db.delete(leads).where(inArray(leads.id, found.map((lead) => lead.id))).returning({ tenant: leads.tenantId })
  check('delete', deleted, Array.from({ length: 21 }, () => ({ tenant: own })))
}

async function transactions(db, { own }, email) {
  await db.transaction(async (tx) => {
    await tx.insert(leads).values({ fullName: 'kept', email: email('kept') })
    const twice = tx.transaction((inner) => inner.insert(leads).values({ fullName: 'twice', email: email('kept') }))
    await refused('a unique violation in a savepoint', '23505', twice)
    const undone = tx.transaction(async (inner) => {
      await inner.insert(leads).values({ fullName: 'undone', email: email('undone') })
      inner.rollback()
    })
    await assert.rejects(undone, /Rollback/)
    check('the savepoint is undone', await tx.$count(leads, like(leads.email, email('%'))), 1)
    check('and the transaction goes on', await sees(tx), [own])
  })
  check('a commit', (await db.delete(leads).where(eq(leads.email, email('kept'))).returning()).length, 1)
  const failed = db.transaction(async (tx) => {
    await tx.insert(leads).values({ fullName: 'x', email: email('failed') })
    await tx.execute(sql`select 1 / 0`)
  })
  await refused('an error', '22012', failed)
  check('a rollback', await db.$count(leads, eq(leads.email, email('failed'))), 0)
  for (const isolationLevel of ['read committed', 'repeatable read', 'serializable']) {
    await db.transaction(async (tx) => {
      const shown = await tx.execute(sql`show transaction_isolation`)
      check('isolation level', (shown.rows ?? shown)[0].transaction_isolation, isolationLevel)
      const write = tx.transaction((inner) => inner.update(projects).set({ name: 'x' }))
      await refused('a read-only transaction', '25006', write)
    }, { isolationLevel, accessMode: 'read only' })
  }
}

async function prepared(db, { own }) {
  // The same names for both tenants, and one server connection after another.
  const byName = db.select().from(projects).where(like(projects.name, sql.placeholder('name'))).prepare('by_name')
  const relational = db.query.leads.findMany({ limit: sql.placeholder('limit'), with: { deals: true } }).prepare('leads_with_deals')
  const limits = []
  for (let n = 0; n < 20; n += 1) {
    const found = await byName.execute({ name: '%' })
    check('a prepared select', new Set(found.map((project) => project.tenantId)), new Set([own]))
    limits.push((await relational.execute({ limit: n % 3 })).length)
  }
  check('a prepared relational query', limits, Array.from({ length: 20 }, (_, n) => n % 3))
}

async function related(db, { own }, email) {
  const [lead] = await db.insert(leads).values({ fullName: 'Related', email: email('related') }).returning()
  const values = ['small', 'large'].map((title, n) => ({ leadId: lead.id, title, amountCents: 10 ** n, currency: 'EUR' }))
  await db.insert(deals).values(values)
  const found = await db.query.leads.findFirst({
    where: eq(leads.id, lead.id),
    columns: { tenantId: true },
    with: { deals: { columns: { tenantId: true, title: true }, orderBy: asc(deals.amountCents) } },
  })
  check('many', found, { tenantId: own, deals: [{ tenantId: own, title: 'small' }, { tenantId: own, title: 'large' }] })
  const back = await db.query.deals.findMany({ where: eq(deals.leadId, lead.id), with: { lead: true } })
  check('one', back.map((deal) => deal.lead), [lead, lead])
  const everything = await db.query.leads.findMany({ with: { deals: true } })
  const tenants = everything.flatMap((row) => [row.tenantId, ...row.deals.map((deal) => deal.tenantId)])
  check('relations stay within the tenant', new Set(tenants), new Set([own]))
  const big = db.$with('big').as(db.select().from(deals).where(gt(deals.amountCents, 5)))
  const joined = await db.with(big).select({ tenant: leads.tenantId, title: big.title }).from(leads)
    .innerJoin(big, eq(big.leadId, leads.id)).where(eq(leads.id, lead.id))
  check('WITH and a join', joined, [{ tenant: own, title: 'large' }])
  await db.delete(leads).where(eq(leads.id, lead.id))
  check('the cascade', await db.$count(deals, eq(deals.leadId, lead.id)), 0)
}

async function types(db, { own }, email) {
  const steps = [{ do: 'é "quoted"', with: [1, null, { n: 1.5 }] }]
  const [workflow] = await db.insert(workflows).values({ name: email('json'), steps }).returning()
  check('JSON comes back', workflow.steps, steps)
  const inside = db.select({ tenant: workflows.tenantId }).from(workflows)
    .where(and(eq(workflows.name, email('json')), sql`${workflows.steps} -> 0 -> 'with' ->> 0 = ${'1'}`))
  check('JSON is looked into', await inside, [{ tenant: own }])
  await db.delete(workflows).where(eq(workflows.id, workflow.id))
  const tags = ['a', 'b,"c"', '']
  const [article] = await db.insert(articles).values({ title: email('array'), body: '', tags }).returning()
  check('an array comes back', article.tags, tags)
  const holding = await db.select({ tenant: articles.tenantId }).from(articles)
    .where(and(eq(articles.title, email('array')), arrayContains(articles.tags, ['b,"c"'])))
  check('and is looked into', holding, [{ tenant: own }])
  await db.delete(articles).where(eq(articles.id, article.id))
  const raw = await db.execute(sql`select ${"'; drop table projects; --"}::text as t, get_current_tenant() as tenant`)
  check('a template', { ...(raw.rows ?? raw)[0] }, { t: "'; drop table projects; --", tenant: own })
}

async function everyday(kind, db, side) {
  // Both tenants use the same values, which are unique within one only; both pool modes run at once.
  const email = (name) => `${name}@${kind}.${process.env.POOL_MODE}.example.org`
  check('reads its own rows', await sees(db), [side.own])
  for (const part of [rows, transactions, prepared, related, types]) await part(db, side, email)
  check('reads its own rows in the end', await sees(db), [side.own])
  if (!TRANSACTION) return
  const pids = new Set()
  for (let n = 0; n < 2000 && pids.size < 2; n += 1) {
    const raw = await db.execute(sql`select pg_backend_pid() as pid`)
    pids.add((raw.rows ?? raw)[0].pid)
  }
  check('the server connection changes', pids.size > 1, true)
}

async function overNodePostgres(side) {
  const pool = new Pool({ connectionString: side.url, max: 3 })
  await everyday('pg', nodePostgres.drizzle(pool, { schema }), side)
  await pool.end()
  // One server connection for both tenants.
  for (let round = 0; round < 4; round += 1) {
    const narrow = new Pool({ connectionString: side.narrow, max: 1 })
    const db = nodePostgres.drizzle(narrow, { schema })
    check('one server connection: its own rows', await sees(db), [side.own])
    await prepared(db, side)
    await narrow.end()
  }
}

async function overPostgresJs(side) {
  const client = postgres(side.url, { max: 3, onnotice: () => {} })
  await everyday('postgres', postgresJs.drizzle(client, { schema }), side)
  await client.end()
}

Promise.all(sides.flatMap((side) => [overNodePostgres(side), overPostgresJs(side)])).then(
  () => console.log(`passed ${passed}`),
  (error) => {
    console.log(`FAILED  ${error.stack} ${error.cause?.stack ?? ''}`)
    process.exit(1)
  },
)
