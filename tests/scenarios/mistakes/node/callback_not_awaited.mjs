// A managed transaction: Sequelize commits when the callback's promise is fulfilled, and rolls back when it is rejected.

import { fixed, partner, rest } from './application.mjs'
import { Invoice, sequelize } from './shop.mjs'

// As every server has it, so that one bad request does not end them all.
process.on('unhandledRejection', (error) => console.error(error.message))

async function tellPartner() {
  const answer = await fetch(`${partner}/refuses`)
  if (!answer.ok) throw new Error(`the partner answered ${answer.status}`)
}

function send(id) {
  return sequelize.transaction(
    (transaction) =>
      new Promise((resolve) => {
        // The mistake: nobody awaits this promise. When it is rejected, the outer one is never settled.
        Invoice.update({ status: 'sent' }, { where: { id }, transaction }).then(tellPartner).then(resolve)
      }),
  )
}

function sendAwaited(id) {
  return sequelize.transaction(async (transaction) => {
    await Invoice.update({ status: 'sent' }, { where: { id }, transaction })
    await tellPartner()
  })
}

const request = fixed ? sendAwaited(1) : send(1)
request.catch((error) => console.error(error.message))
if (fixed) await request.catch(() => {})
rest()
