// Webhooks come one after the other, and each takes a connection out of a pool of thirty for ever.

import { setTimeout as pause } from 'node:timers/promises'
import { fixed, partner, rest } from './application.mjs'
import { Invoice, sequelize } from './shop.mjs'

const HOOKS = 30

async function tellPartner() {
  const answer = await fetch(`${partner}/refuses`)
  if (!answer.ok) throw new Error(`the partner answered ${answer.status}`)
}

async function hook(id) {
  const transaction = await sequelize.transaction()
  try {
    await Invoice.update({ status: 'sent' }, { where: { id }, transaction })
    await tellPartner()
    await transaction.commit()
  } catch (error) {
    // The mistake: what is logged here is not rolled back.
    console.error(`hook ${id}: ${error.message}`)
    if (fixed) await transaction.rollback()
  }
}

// Busy hours: every connection of the pool is in use, and then back in it.
await Promise.all(Array.from({ length: HOOKS }, () => sequelize.query('SELECT pg_sleep(0.1)')))
for (let id = 1; id <= HOOKS; id++) {
  await hook(id)
  await pause(40)
}
rest()
