// Prisma Migrate, up to a migration: the same SQL as for others, laid out as Prisma wants it.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const sql = path.join(__dirname, 'sql');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'migrations-'));
fs.writeFileSync(path.join(folder, 'migration_lock.toml'), 'provider = "postgresql"\n');
for (const file of fs.readdirSync(sql).filter((name) => Number(name[0]) <= Number(process.argv[2]))) {
  const migration = path.join(folder, path.parse(file).name);
  fs.mkdirSync(migration);
  fs.copyFileSync(path.join(sql, file), path.join(migration, 'migration.sql'));
}
const program = path.join(__dirname, '../node_modules/prisma/build/index.js');
const config = path.join(__dirname, 'prisma/prisma.config.mjs');
const done = spawnSync(process.execPath, [program, 'migrate', 'deploy', '--config', config], {
  stdio: 'inherit',
  env: {
    ...process.env,
    MIGRATIONS: folder,
    CHECKPOINT_DISABLE: '1',
    // Neither is run; without a file in their place it would try to download them.
    PRISMA_QUERY_ENGINE_LIBRARY: __filename,
    PRISMA_SCHEMA_ENGINE_BINARY: __filename,
  },
});
fs.rmSync(folder, { recursive: true });
process.exitCode = done.status ?? 1;
