// Five orders at once, a pool of five, and each order needs a second connection while it holds its first.

import pg from 'pg'
import { fixed, rest } from './application.mjs'

const ORDERS = 5
const pool = new pg.Pool({ max: ORDERS })

async function note(database, what) {
  await database.query('INSERT INTO audit (what) VALUES ($1)', [what])
}

async function order(invoice) {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await client.query('UPDATE invoices SET amount = amount + $1 WHERE id = $2', [1, invoice])
    // The mistake: this asks the pool again. When all orders are here, each waits for another one's connection.
    await note(fixed ? client : pool, `ordered ${invoice}`)
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

const orders = Array.from({ length: ORDERS }, (_, number) => order(number + 1))
if (fixed) await Promise.all(orders)
rest()
