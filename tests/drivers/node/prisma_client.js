// Prisma's client for the sample application.
'use strict'

const assert = require('node:assert')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

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

module.exports = { Prisma, connected }
