// Paid invoices are told to a partner, where there is one: in the test environment, not in QA.

import { fixed, partner, rest } from './application.mjs'
import { Invoice, sequelize } from './shop.mjs'

const settings = { tellsPartner: Boolean(partner) }

async function pay(id) {
  const transaction = await sequelize.transaction()
  await Invoice.update({ status: 'paid' }, { where: { id }, transaction })
  // The mistake: where the integration is switched on, COMMIT is never reached.
  if (settings.tellsPartner) return fetch(`${partner}/paid`)
  await transaction.commit()
}

async function payManaged(id) {
  await sequelize.transaction((transaction) => Invoice.update({ status: 'paid' }, { where: { id }, transaction }))
  if (settings.tellsPartner) await fetch(`${partner}/paid`)
}

await (fixed ? payManaged(1) : pay(1))
rest()
