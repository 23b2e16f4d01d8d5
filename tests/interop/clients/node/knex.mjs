// knex: its pool, with node-postgres below it.

import knex from 'knex'
import { address, LARGE_ROWS, main, ROLLED_BACK, sqlstateOf, tlsOptions, version } from './script.mjs'

await main({
  driver: 'knex',
  version: `${version('knex')} (node-postgres ${version('pg')})`,

  async connect() {
    const connection = { ...address(), ssl: tlsOptions(), application_name: process.env.PGAPPNAME }
    this.knex = knex({ client: 'pg', connection, pool: { min: 0, max: 2 } })
    return (await this.knex.raw("SELECT current_setting('application_name') AS name")).rows[0].name
  },

  async count(step) {
    return Number((await this.knex('items').where({ step }).count())[0].count)
  },

  async parameters() {
    const { rows } = await this.knex.raw('SELECT ?::int + 1 AS number, ?::text AS text', [41, "naïve 'quoted'"])
    return Object.values(rows[0])
  },

  async commit() {
    await this.knex.transaction((trx) => trx('items').insert({ step: 'commit' }))
    return this.count('commit')
  },

  async rollback() {
    const work = async (trx) => {
      await trx('items').insert({ step: 'rollback' })
      await trx.raw('SELECT 1 / 0')
    }
    const error = await this.knex.transaction(work).catch((reason) => reason)
    return [sqlstateOf(error), await this.count('rollback')]
  },

  async savepoint() {
    const inner = async (trx) => {
      await trx('items').insert({ step: 'savepoint' })
      await trx.raw('SELECT 1 / 0')
    }
    await this.knex.transaction(async (trx) => {
      await trx('items').insert({ step: 'savepoint' })
      await trx.transaction(inner).catch(() => {})
    })
    return this.count('savepoint')
  },

  async large() {
    return (await this.knex.raw(LARGE_ROWS)).rows.length
  },

  // It has no other way: after this time it cancels with pg_cancel_backend, from a second connection.
  async cancel() {
    const error = await this.knex.raw('SELECT pg_sleep(60)').timeout(500, { cancel: true }).catch((reason) => reason)
    if (error.name !== 'KnexTimeoutError') throw error
    return (await this.knex.raw('SELECT 1 AS one')).rows[0].one
  },

  async beginLeak() {
    this.leaked = await this.knex.transaction()
    await this.leaked('items').insert({ step: 'leak' })
  },

  async useLeaked() {
    try {
      await this.leaked.raw('SELECT 1')
    } finally {
      // Its pool waits for ever for a transaction that nobody has ended.
      if (!ROLLED_BACK) await this.leaked.rollback().catch(() => {})
    }
  },

  // Its commit() resolves, whatever COMMIT has raised; this rejects, as a transaction with a callback does.
  commitLeaked() {
    this.leaked.commit()
    return this.leaked.executionPromise
  },

  goOn() {
    return this.knex.transaction(async (trx) => {
      await trx('items').insert({ step: 'after' })
      return (await trx.raw('SELECT pg_backend_pid() AS pid')).rows[0].pid
    })
  },

  async again() {
    return (await this.knex.raw('SELECT 1 AS one')).rows[0].one
  },

  close() {
    return this.knex.destroy()
  },
})
