// A report over HTTP, read in a transaction that ends when the answer has been taken. The second visitor does not wait.

import http from 'node:http'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { fixed, rest } from './application.mjs'

const pool = new pg.Pool({ max: 1 })

async function report(request, response) {
  const early = once(response, 'close')
  const client = await pool.connect() // under load, this takes a while
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
  // The mistake: who has gone while the pool was awaited has closed already, and 'close' is emitted once.
  const closed = fixed ? early : once(response, 'close')
  closed.then(async () => {
    await client.query('COMMIT')
    client.release()
  })
  const { rows } = await client.query('SELECT status, sum(amount), pg_sleep(0.2) FROM invoices GROUP BY status')
  response.end(JSON.stringify(rows))
}

const server = http.createServer(report).listen(0, '127.0.0.1')
await once(server, 'listening')
const { port } = server.address()

const first = fetch(`http://127.0.0.1:${port}/report`)
await pause(50)
const second = http.get(`http://127.0.0.1:${port}/report`).on('error', () => {})
await pause(50)
second.destroy()
await (await first).text()
rest()
