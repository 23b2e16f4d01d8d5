// Sequelize: its models and its pool, with node-postgres below it.

import { DataTypes, QueryTypes, Sequelize } from 'sequelize'
import { address, LARGE_ROWS, main, tlsOptions, version } from './script.mjs'

await main({
  driver: 'Sequelize',
  version: `${version('sequelize')} (node-postgres ${version('pg')})`,

  async connect() {
    const { host, port, user, password, database } = address()
    const dialectOptions = { ssl: tlsOptions(), application_name: process.env.PGAPPNAME }
    const settings = { dialect: 'postgres', host, port, dialectOptions, logging: false }
    this.sequelize = new Sequelize(database, user, password, settings)
    this.Item = this.sequelize.define('Item', { step: DataTypes.TEXT }, { tableName: 'items', timestamps: false })
    return (await this.row("SELECT current_setting('application_name') AS name")).name
  },

  async row(text, bind = []) {
    return (await this.sequelize.query(text, { bind, type: QueryTypes.SELECT }))[0]
  },

  count(step) {
    return this.Item.count({ where: { step } })
  },

  async parameters() {
    return Object.values(await this.row('SELECT $1::int + 1 AS number, $2::text AS text', [41, "naïve 'quoted'"]))
  },

  async commit() {
    await this.sequelize.transaction((transaction) => this.Item.create({ step: 'commit' }, { transaction }))
    return this.count('commit')
  },

  async rollback() {
    const work = async (transaction) => {
      await this.Item.create({ step: 'rollback' }, { transaction })
      await this.sequelize.query('SELECT 1 / 0', { transaction })
    }
    const error = await this.sequelize.transaction(work).catch((reason) => reason)
    return [error.original.code, await this.count('rollback')]
  },

  async savepoint() {
    await this.sequelize.transaction(async (transaction) => {
      await this.Item.create({ step: 'savepoint' }, { transaction })
      const inner = async (nested) => {
        await this.Item.create({ step: 'savepoint' }, { transaction: nested })
        await this.sequelize.query('SELECT 1 / 0', { transaction: nested })
      }
      await this.sequelize.transaction({ transaction }, inner).catch(() => {})
    })
    return this.count('savepoint')
  },

  async large() {
    return (await this.sequelize.query(LARGE_ROWS, { type: QueryTypes.SELECT })).length
  },

  async beginLeak() {
    this.leaked = await this.sequelize.transaction()
    await this.Item.create({ step: 'leak' }, { transaction: this.leaked })
  },

  async useLeaked() {
    await this.sequelize.query('SELECT 1', { transaction: this.leaked })
  },

  commitLeaked() {
    return this.leaked.commit()
  },

  goOn() {
    return this.sequelize.transaction(async (transaction) => {
      await this.Item.create({ step: 'after' }, { transaction })
      const [row] = await this.sequelize.query('SELECT pg_backend_pid() AS pid', { transaction, type: QueryTypes.SELECT })
      return row.pid
    })
  },

  async again() {
    return (await this.row('SELECT 1 AS one')).one
  },

  close() {
    return this.sequelize.close()
  },
})
