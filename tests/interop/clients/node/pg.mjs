// node-postgres: one client.

import { once } from 'node:events'
import { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from, to } from 'pg-copy-streams'
import { COPIED, HANDLES_EVENTS, LARGE_ROWS, main, ROLLED_BACK, sqlstateOf, tlsOptions, version } from './script.mjs'

// It reads libpq's variables, but not PGSSLROOTCERT.
const settings = { ssl: tlsOptions() }

async function connected() {
  const client = new pg.Client(settings)
  await client.connect()
  return client
}

await main({
  driver: 'node-postgres',
  version: `${version('pg')} (Node.js ${process.versions.node})`,
  events: [],

  async connect() {
    this.client = await connected()
    if (HANDLES_EVENTS) this.client.on('error', (error) => this.events.push(error))
    return (await this.row("SELECT current_setting('application_name')"))[0]
  },

  async row(text, values = [], name = undefined) {
    return (await this.client.query({ text, values, name, rowMode: 'array' })).rows[0]
  },

  async count(step) {
    return (await this.row('SELECT count(*)::int FROM items WHERE step = $1', [step]))[0]
  },

  insert(step) {
    return this.client.query('INSERT INTO items VALUES ($1)', [step])
  },

  parameters() {
    return this.row('SELECT $1::int + 1, $2::text', [41, "naïve 'quoted'"])
  },

  async prepared() {
    const double = async (number) => (await this.row('SELECT $1::int * 2', [number], 'double'))[0]
    return [await double(21), await double(4)]
  },

  async commit() {
    await this.client.query('BEGIN')
    await this.insert('commit')
    await this.client.query('COMMIT')
    return this.count('commit')
  },

  async rollback() {
    await this.client.query('BEGIN')
    await this.insert('rollback')
    const error = await this.client.query('SELECT 1 / 0').catch((reason) => reason)
    await this.client.query('ROLLBACK')
    return [sqlstateOf(error), await this.count('rollback')]
  },

  async savepoint() {
    await this.client.query('BEGIN')
    await this.insert('savepoint')
    await this.client.query('SAVEPOINT here')
    await this.insert('savepoint')
    await this.client.query('SELECT 1 / 0').catch(() => this.client.query('ROLLBACK TO here'))
    await this.client.query('COMMIT')
    return this.count('savepoint')
  },

  async copy() {
    const rows = Array.from({ length: COPIED }, (_, number) => `${number}\tcopied\n`)
    let lines = 0
    const counter = new Writable({
      write(chunk, _, done) {
        lines += chunk.toString().split('\n').length - 1
        done()
      },
    })
    await pipeline(Readable.from(rows), this.client.query(from('COPY copied FROM STDIN')))
    await pipeline(this.client.query(to('COPY copied TO STDOUT')), counter)
    return lines
  },

  async large() {
    return (await this.client.query(LARGE_ROWS)).rows.length
  },

  async cancel() {
    const query = new pg.Query('SELECT pg_sleep(60)')
    const ended = new Promise((resolve) => query.once('error', resolve).once('end', resolve))
    this.client.query(query)
    const other = await connected()
    await other.query('SELECT wait_for_sleeper()')
    await other.end()
    new pg.Client(settings).cancel(this.client, query)
    const error = await ended
    if (sqlstateOf(error) !== '57014') throw error
    return (await this.row('SELECT 1'))[0]
  },

  async notify() {
    await this.client.query('LISTEN news')
    const heard = once(this.client, 'notification')
    const other = await connected()
    await other.query("NOTIFY news, 'hello'")
    await other.end()
    return (await heard)[0].payload
  },

  async beginLeak() {
    await this.client.query('BEGIN')
    await this.insert('leak')
    this.ended = ROLLED_BACK || new Promise((resolve) => this.client.once('end', resolve))
  },

  async useLeaked() {
    await this.ended
    await this.client.query('SELECT 1')
  },

  commitLeaked() {
    return this.client.query('COMMIT')
  },

  async goOn() {
    await this.client.query('BEGIN')
    await this.insert('after')
    const [pid] = await this.row('SELECT pg_backend_pid()')
    await this.client.query('COMMIT')
    return pid
  },

  async again() {
    this.client = await connected()
    return (await this.row('SELECT 1'))[0]
  },

  close() {
    return this.client.end()
  },
})
