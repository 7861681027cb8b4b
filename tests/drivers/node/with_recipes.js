// The recipes of docs/recipes: one pool, a token for every request, many requests at once.

'use strict'

const assert = require('node:assert')
const path = require('node:path')
const { Module } = require('node:module')

// The recipes take their libraries from here.
process.env.NODE_PATH = path.join(__dirname, '..', 'node_modules')
Module._initPaths()

const { Pool } = require('pg')
const { sql } = require('drizzle-orm')
const { drizzle } = require('drizzle-orm/node-postgres')

const A = 'd0000000-0000-4000-8000-000000000001'
const B = 'e0000000-0000-4000-8000-000000000001'

const recipes = path.join(__dirname, '..', '..', '..', 'docs', 'recipes')
const { NOBODY_URL, TOKEN_A, TOKEN_B, TOKEN_EXPIRED } = process.env
const ONLY = 'select distinct tenant_id::text as tenant from projects'

let passed = 0
function check(what, got, expected) {
  assert.deepStrictEqual(got, expected, what)
  passed += 1
  console.log(`ok  ${what}`)
}

const code = (error) => error.code

const visits = Array.from({ length: 60 }, () => [[TOKEN_A, A], [TOKEN_B, B]]).flat()

async function withPg() {
  const { as } = require(path.join(recipes, 'with_pg.js'))
  const pool = new Pool({ connectionString: NOBODY_URL, max: 3 })
  const seen = await Promise.all(visits.map(async ([token, tenant]) => {
    const { rows } = await as(pool, token, (client) => client.query(ONLY))
    return rows.length === 1 && rows[0].tenant === tenant
  }))
  check('node-postgres', seen.every(Boolean), true)
  check('node-postgres: nobody', await pool.query(ONLY).catch(code), '42501')
  const refused = await as(pool, TOKEN_EXPIRED, (client) => client.query(ONLY)).catch(code)
  check('node-postgres: an expired token', refused, '28P01')
  const failed = await as(pool, TOKEN_A, () => Promise.reject(new Error('of the application'))).catch((e) => e.message)
  check('node-postgres: an error of the application', failed, 'of the application')
  check('node-postgres: nobody after it', await pool.query(ONLY).catch(code), '42501')
  await pool.end()
}

async function withDrizzle() {
  const { as } = require(path.join(recipes, 'with_drizzle.js'))
  const pool = new Pool({ connectionString: NOBODY_URL, max: 3 })
  const db = drizzle(pool)
  const seen = await Promise.all(visits.map(async ([token, tenant]) => {
    const { rows } = await as(db, token, (tx) => tx.execute(sql.raw(ONLY)))
    return rows.length === 1 && rows[0].tenant === tenant
  }))
  check('Drizzle', seen.every(Boolean), true)
  check('Drizzle: nobody', await pool.query(ONLY).catch(code), '42501')
  await pool.end()
}

async function withPrisma() {
  const { connected } = require('./prisma_client.js')
  const { as } = require(path.join(recipes, 'with_prisma.js'))
  const db = connected(NOBODY_URL, 3)
  // Prisma gives up who waits for longer than two seconds.
  const patient = { maxWait: 60_000, timeout: 60_000 }
  const seen = await Promise.all(visits.map(async ([token, tenant]) => {
    const rows = await as(db, token, (tx) => tx.project.findMany(), patient)
    return rows.length > 0 && rows.every((row) => row.tenantId === tenant)
  }))
  check('Prisma', seen.every(Boolean), true)
  const refused = await db.project.findMany().catch((error) => error.message)
  check('Prisma: nobody', /no tenant was chosen/.test(refused) || refused, true)
  await db.$disconnect()
}

async function main() {
  await withPg()
  await withDrizzle()
  await withPrisma()
  console.log(`passed ${passed}`)
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
