// Prisma Migrate with the engine that its package holds, in WebAssembly, over node-postgres: the
// binary one is downloaded from elsewhere.
import pg from 'pg';
import { PrismaPg } from '@prisma/adapter-pg';

// The adapter does not know Postgres' type `name`, which the engine reads (prisma/orm#27403).
const NAME = 19;
const TEXT = 25;
for (const { prototype } of [pg.Pool, pg.Client]) {
  const { query } = prototype;
  prototype.query = function (...words) {
    const answer = words.at(-1);
    if (typeof answer === 'function') {
      words[words.length - 1] = (error, result) => answer(error, known(result));
    }
    const done = query.apply(this, words);
    return done?.then ? done.then(known) : done;
  };
}

function known(result) {
  for (const field of result?.fields ?? []) {
    if (field.dataTypeID === NAME) field.dataTypeID = TEXT;
  }
  return result;
}

export default {
  experimental: { adapter: true },
  engine: 'js',
  schema: 'schema.prisma',
  migrations: { path: process.env.MIGRATIONS },
  adapter: async () => new PrismaPg({ connectionString: process.env.DATABASE_URL }),
};
