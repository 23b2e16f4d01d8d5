// A pool made by hand: a list of clients. What one request leaves open, the next one finds.

import pg from 'pg'
import { fixed, partner, rest } from './application.mjs'

const idle = []

async function withClient(work) {
  const client = idle.pop() ?? (await connected())
  try {
    return await work(client)
  } catch (error) {
    // The mistake: the client goes back as it is; a pool has to end what was begun.
    if (fixed) await client.query('ROLLBACK')
    throw error
  } finally {
    idle.push(client)
  }
}

async function connected() {
  const client = new pg.Client()
  await client.connect()
  return client
}

function setStatus(invoice, status) {
  return withClient(async (client) => {
    await client.query('BEGIN')
    await client.query('UPDATE invoices SET status = $1 WHERE id = $2', [status, invoice])
    if (status === 'broken') throw new Error('there is no such status')
    await client.query('COMMIT')
  })
}

await setStatus(1, 'broken').catch((error) => console.error(error.message))
await fetch(`${partner}/slow`) // a quiet hour
await setStatus(2, 'paid') // BEGIN is only a warning here, and COMMIT makes 1 broken as well
rest()
