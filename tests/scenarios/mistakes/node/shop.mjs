// The shop's only model, as Sequelize sees it.

import { DataTypes, Sequelize } from 'sequelize'

const { PGHOST: host, PGPORT: port, PGUSER: user, PGDATABASE: database, PGAPPNAME } = process.env

export const sequelize = new Sequelize(database, user, '', {
  dialect: 'postgres',
  host,
  port,
  dialectOptions: { application_name: PGAPPNAME },
  pool: { max: 30 },
  logging: false,
})

export const Invoice = sequelize.define(
  'Invoice',
  { customer: DataTypes.TEXT, status: DataTypes.TEXT },
  { tableName: 'invoices', timestamps: false },
)
