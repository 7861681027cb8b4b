// node-postgres: a token for each transaction.
//
//     const pool = new Pool({ connectionString: 'postgres://app:<service token>@cloison:6432/shop' })
//
//     const rows = await as(pool, requestToken, (client) => client.query('select * from projects'))

async function as(pool, token, work) {
  const client = await pool.connect()
  try {
    await client.query('begin')
    // To the end of this transaction: the next one to have the connection starts with nobody.
    await client.query("select set_config('cloison.jwt', $1, true)", [token])
    const result = await work(client)
    await client.query('commit')
    client.release()
    return result
  } catch (error) {
    await client.query('rollback').then(() => client.release(), (lost) => client.release(lost))
    throw error
  }
}

module.exports = { as }
