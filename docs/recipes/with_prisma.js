// Prisma: a token for each transaction.
//
//     const adapter = new PrismaPg({ connectionString: 'postgres://app:<service token>@cloison:6432/shop' })
//     const db = new PrismaClient({ adapter })
//
//     const rows = await as(db, requestToken, (tx) => tx.project.findMany())

function as(db, token, work, options) {
  return db.$transaction(async (tx) => {
    await tx.$executeRaw`select set_config('cloison.jwt', ${token}, true)`
    return work(tx)
  }, options)
}

module.exports = { as }
