// Book a payment, with callbacks; it was booked before.

import pg from 'pg'
import { fixed, rest } from './application.mjs'

const pool = new pg.Pool({ max: 10 })

function book(payment, done) {
  pool.connect((error, client, release) => {
    if (error) return done(error)
    const fail = (reason) => {
      // The mistake: the error is passed on, the connection is not.
      if (!fixed) return done(reason)
      client.query('ROLLBACK', (broken) => {
        release(broken) // with an error, the pool closes the connection
        done(reason)
      })
    }
    client.query('BEGIN', (error) => {
      if (error) return fail(error)
      client.query('UPDATE invoices SET status = $1 WHERE id = $2', ['paid', payment], (error) => {
        if (error) return fail(error)
        client.query('INSERT INTO payments VALUES ($1, $2, $3)', [payment, payment, 10], (error) => {
          if (error) return fail(error)
          client.query('COMMIT', (error) => {
            release(error)
            done(error)
          })
        })
      })
    })
  })
}

book(1, (error) => {
  console.error(error.message)
  rest()
})
