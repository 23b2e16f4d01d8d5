// TypeORM: its repositories and its pool, with node-postgres below it.

import 'reflect-metadata'
import { DataSource, EntitySchema } from 'typeorm'
import { address, LARGE_ROWS, main, tlsOptions, version } from './script.mjs'

const Item = new EntitySchema({
  name: 'Item',
  tableName: 'items',
  columns: { id: { type: 'int', primary: true, generated: true }, step: { type: 'text' } },
})

await main({
  driver: 'TypeORM',
  version: `${version('typeorm')} (node-postgres ${version('pg')})`,

  async connect() {
    const { user: username, ...rest } = address()
    const applicationName = process.env.PGAPPNAME
    const settings = { type: 'postgres', ...rest, username, ssl: tlsOptions(), applicationName, entities: [Item] }
    this.source = await new DataSource(settings).initialize()
    return (await this.source.query("SELECT current_setting('application_name') AS name"))[0].name
  },

  count(step) {
    return this.source.getRepository(Item).countBy({ step })
  },

  async parameters() {
    const rows = await this.source.query('SELECT $1::int + 1 AS number, $2::text AS text', [41, "naïve 'quoted'"])
    return Object.values(rows[0])
  },

  async commit() {
    await this.source.transaction((manager) => manager.save(Item, { step: 'commit' }))
    return this.count('commit')
  },

  async rollback() {
    const work = async (manager) => {
      await manager.save(Item, { step: 'rollback' })
      await manager.query('SELECT 1 / 0')
    }
    const error = await this.source.transaction(work).catch((reason) => reason)
    return [error.driverError.code, await this.count('rollback')]
  },

  async savepoint() {
    const inner = async (manager) => {
      await manager.save(Item, { step: 'savepoint' })
      await manager.query('SELECT 1 / 0')
    }
    await this.source.transaction(async (manager) => {
      await manager.save(Item, { step: 'savepoint' })
      await manager.transaction(inner).catch(() => {})
    })
    return this.count('savepoint')
  },

  async large() {
    return (await this.source.query(LARGE_ROWS)).length
  },

  async beginLeak() {
    this.leaked = this.source.createQueryRunner()
    await this.leaked.startTransaction()
    await this.leaked.manager.save(Item, { step: 'leak' })
  },

  async useLeaked() {
    await this.leaked.query('SELECT 1')
  },

  commitLeaked() {
    return this.leaked.commitTransaction()
  },

  // What takes a runner has to give it back.
  async goOn() {
    await this.leaked.release()
    return this.source.transaction(async (manager) => {
      await manager.save(Item, { step: 'after' })
      return (await manager.query('SELECT pg_backend_pid() AS pid'))[0].pid
    })
  },

  async again() {
    return (await this.source.query('SELECT 1 AS one'))[0].one
  },

  close() {
    return this.source.destroy()
  },
})
