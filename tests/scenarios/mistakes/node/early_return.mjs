// Remind the customer of an invoice, if it is overdue.

import pg from 'pg'
import { fixed, rest } from './application.mjs'

const pool = new pg.Pool({ max: 10 })
const STATUS = 'SELECT status FROM invoices WHERE id = $1'
const NOTE = 'INSERT INTO audit (what) VALUES ($1)'

async function remind(invoice) {
  const client = await pool.connect()
  await client.query('BEGIN')
  const { rows } = await client.query(STATUS, [invoice])
  // The mistake: there is nothing to do, and so neither COMMIT nor release() is reached.
  if (rows[0].status !== 'overdue') return
  await client.query(NOTE, [`reminded of ${invoice}`])
  await client.query('COMMIT')
  client.release()
}

async function inTransaction(work) {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await work(client)
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

function remindInTransaction(invoice) {
  return inTransaction(async (client) => {
    const { rows } = await client.query(STATUS, [invoice])
    if (rows[0].status !== 'overdue') return
    await client.query(NOTE, [`reminded of ${invoice}`])
  })
}

await (fixed ? remindInTransaction(100) : remind(100))
rest()
