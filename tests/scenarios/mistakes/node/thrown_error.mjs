// Mark an invoice as sent, and tell the partner, who refuses.

import pg from 'pg'
import { fixed, partner, rest } from './application.mjs'

const pool = new pg.Pool({ max: 10 })

async function tellPartner() {
  const answer = await fetch(`${partner}/refuses`)
  if (!answer.ok) throw new Error(`the partner answered ${answer.status}`)
}

async function send(invoice) {
  const client = await pool.connect()
  await client.query('BEGIN')
  await client.query('UPDATE invoices SET status = $1 WHERE id = $2', ['sent', invoice])
  await tellPartner()
  await client.query('COMMIT')
  // The mistake: what throws above goes past this line, and the connection never comes back to the pool.
  client.release()
}

async function sendOrRollBack(invoice) {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await client.query('UPDATE invoices SET status = $1 WHERE id = $2', ['sent', invoice])
    await tellPartner()
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

try {
  await (fixed ? sendOrRollBack(1) : send(1))
} catch (error) {
  console.error(error.message) // the request is answered with 500, and all looks well
}
rest()
