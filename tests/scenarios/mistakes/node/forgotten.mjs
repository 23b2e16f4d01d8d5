// One connection is taken and never returned. Nothing is open on it, and the others work on.

import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { fixed, rest } from './application.mjs'

const pool = new pg.Pool({ max: 10 })

async function countOpen() {
  const client = await pool.connect()
  const { rows } = await client.query('SELECT count(*) FROM invoices WHERE status = $1', ['open'])
  // The mistake: a connection that was taken by hand has to be given back by hand.
  if (fixed) client.release()
  return rows[0].count
}

await countOpen()
for (let request = 0; request < 20; request++) {
  await pool.query('SELECT customer FROM invoices WHERE id = $1', [request])
  await pause(100)
}
rest()
