// Drizzle: a token for each transaction.
//
//     const db = drizzle(new Pool({ connectionString: 'postgres://app:<service token>@cloison:6432/shop' }))
//
//     const rows = await as(db, requestToken, (tx) => tx.select().from(projects))

const { sql } = require('drizzle-orm')

function as(db, token, work) {
  return db.transaction(async (tx) => {
    await tx.execute(sql`select set_config('cloison.jwt', ${token}, true)`)
    return work(tx)
  })
}

module.exports = { as }
