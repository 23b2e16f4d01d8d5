// The application's own code, on node-postgres and Sequelize; what it does is its argument.

import './callsite.mjs'
import pg from 'pg'
import { DataTypes, Sequelize } from 'sequelize'
import { doing } from './callsite.mjs'

const EXECUTIONS = 20
const MARK = 'UPDATE invoices SET status = $1 WHERE id = $2'
const SEEN = 'SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()'
const PREPARED = "SELECT statement, generic_plans + custom_plans AS plans FROM pg_prepared_statements WHERE name = 'mark'"

const pool = new pg.Pool()

async function markSent(client) {
  await client.query(MARK, ['sent', 1]) // marks
}

const named = (client, status) => client.query({ name: 'mark', text: MARK, values: [status, 1] })

const scripts = {
  /** A transaction that nobody ends. */
  async leak() {
    const client = await pool.connect()
    await client.query('BEGIN')
    await markSent(client)
  },

  /** Two places that use one prepared statement. */
  async prepares() {
    const client = await pool.connect()
    for (let execution = 0; execution < EXECUTIONS; execution++) {
      await named(client, 'sent')
      await named(client, 'paid')
    }
    const { rows } = await client.query(PREPARED)
    client.release()
    return rows
  },

  /** What the server sees of statements that are sent in other ways. */
  async texts() {
    const client = await pool.connect()
    const called = await new Promise((resolve) => client.query(SEEN, (_, result) => resolve(result))) // calls
    client.release()
    const pooled = await pool.query({ text: `${SEEN} AND pid > $1`, values: [0] }) // pools
    const hinted = await pool.query(`/*+ SeqScan(a) */ ${SEEN}`)
    return [called, pooled, hinted].map(({ rows }) => rows[0].query)
  },

  /** The same of Sequelize. */
  async sequelize() {
    const { PGHOST: host, PGPORT: port, PGUSER: user, PGPASSWORD: password, PGDATABASE: database } = process.env
    const sequelize = new Sequelize(database, user, password, { host, port, dialect: 'postgres', logging: false })
    const Activity = sequelize.define('activity', { query: DataTypes.TEXT }, { tableName: 'pg_stat_activity' })
    Activity.removeAttribute('id')
    const own = sequelize.literal('pid = pg_backend_pid()')
    const { query } = await Activity.findOne({ attributes: ['query'], where: own }) // finds
    await sequelize.close()
    return [query]
  },
}

const [, , script, traceparent] = process.argv
const result = await doing.run({ route: '/hooks/:partner', traceparent }, scripts[script])
console.log(JSON.stringify(result ?? null))
console.log('rests')
process.stdin.on('end', () => process.exit()).resume()
