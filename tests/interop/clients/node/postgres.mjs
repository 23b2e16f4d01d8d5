// postgres.js: its pool, with a single connection.

import { once } from 'node:events'
import { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import postgres from 'postgres'
import { COPIED, HANDLES_EVENTS, LARGE_ROWS, main, ROLLED_BACK, sqlstateOf, tlsOptions, version } from './script.mjs'

// It reads libpq's variables, but of those about TLS none.
const settings = {
  max: 1,
  ssl: tlsOptions(),
  fetch_types: false,
  connection: { application_name: process.env.PGAPPNAME },
}

await main({
  driver: 'postgres.js',
  version: `${version('postgres')} (Node.js ${process.versions.node})`,

  events: [],

  async connect() {
    if (HANDLES_EVENTS) process.on('uncaughtException', (error) => this.events.push(error))
    this.sql = postgres(settings)
    return (await this.sql`SELECT current_setting('application_name') AS name`)[0].name
  },

  async elsewhere(query) {
    const sql = postgres(settings)
    await sql.unsafe(query)
    await sql.end()
  },

  async count(step) {
    return (await this.sql`SELECT count(*)::int FROM items WHERE step = ${step}`)[0].count
  },

  async parameters() {
    const rows = await this.sql`SELECT ${41}::int + 1, ${"naïve 'quoted'"}::text`.values()
    return rows[0]
  },

  // It prepares every statement with a tag of its own, and keeps it.
  async prepared() {
    const double = async (number) => (await this.sql`SELECT ${number}::int * 2 AS doubled`)[0].doubled
    return [await double(21), await double(4)]
  },

  async commit() {
    await this.sql.begin((sql) => sql`INSERT INTO items VALUES (${'commit'})`)
    return this.count('commit')
  },

  async rollback() {
    const work = async (sql) => {
      await sql`INSERT INTO items VALUES (${'rollback'})`
      await sql`SELECT 1 / 0`
    }
    const error = await this.sql.begin(work).catch((reason) => reason)
    return [sqlstateOf(error), await this.count('rollback')]
  },

  async savepoint() {
    const inner = async (sql) => {
      await sql`INSERT INTO items VALUES (${'savepoint'})`
      await sql`SELECT 1 / 0`
    }
    await this.sql.begin(async (sql) => {
      await sql`INSERT INTO items VALUES (${'savepoint'})`
      await sql.savepoint(inner).catch(() => {})
    })
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
    await pipeline(Readable.from(rows), await this.sql`COPY copied FROM STDIN`.writable())
    await pipeline(await this.sql`COPY copied TO STDOUT`.readable(), counter)
    return lines
  },

  async large() {
    return (await this.sql.unsafe(LARGE_ROWS)).length
  },

  async cancel() {
    const sleeping = this.sql`SELECT pg_sleep(60)`.execute()
    await this.elsewhere('SELECT wait_for_sleeper()')
    sleeping.cancel()
    const error = await sleeping.catch((reason) => reason)
    if (sqlstateOf(error) !== '57014') throw error
    return (await this.sql`SELECT 1 AS one`)[0].one
  },

  async notify() {
    let heard
    const news = new Promise((resolve) => (heard = resolve))
    const listening = await this.sql.listen('news', heard)
    await this.elsewhere("NOTIFY news, 'hello'")
    const payload = await news
    await listening.unlisten()
    return payload
  },

  // Its block is left, which is what commits it, as soon as `leaveBlock` is called.
  beginLeak() {
    return new Promise((opened, failed) => {
      const work = async (sql) => {
        this.leaked = sql
        await sql`INSERT INTO items VALUES (${'leak'})`
        const left = new Promise((resolve) => (this.leaveBlock = resolve))
        opened()
        await left
      }
      this.block = this.sql.begin(work)
      this.block.catch(failed)
    })
  },

  async useLeaked() {
    // It writes to a socket that is no more, where nobody can catch what comes of it; it is the block that rejects.
    const thrown = HANDLES_EVENTS && !ROLLED_BACK && once(process, 'uncaughtException')
    await Promise.race([this.leaked`SELECT 1`, this.block]).finally(() => thrown)
  },

  // After a statement that has failed its block rolls back, and raises what that has raised.
  commitLeaked() {
    this.leaveBlock()
    return this.block
  },

  goOn() {
    return this.sql.begin(async (sql) => {
      await sql`INSERT INTO items VALUES (${'after'})`
      return (await sql`SELECT pg_backend_pid() AS pid`)[0].pid
    })
  },

  // Another pool: the first thing that this one would write to its next connection is what is left of that ROLLBACK.
  async again() {
    this.broken = this.sql
    this.sql = postgres(settings)
    return (await this.sql`SELECT 1 AS one`)[0].one
  },

  async close() {
    await this.broken?.end({ timeout: 0 })
    await this.sql.end()
  },
})
