// The common script, as every client for Node.js runs it: its steps, and what it prints of them.
// What a step has to do and to return is told in ../python/script.py.

import fs from 'node:fs'
import readline from 'node:readline'

const STEPS = [
  'connect', 'parameters', 'prepared', 'commit', 'rollback', 'savepoint', 'copy', 'large', 'cancel', 'notify',
]
export const COPIED = 100_000
export const LARGE_ROWS = "SELECT g, repeat('x', 100) FROM generate_series(1, 100000) AS g"
export const ROLLED_BACK = process.env.INTEROP_SCRIPT === 'rolled back'
export const HANDLES_EVENTS = process.env.INTEROP_HANDLER !== 'none'

/** The client has nothing for this step. */
export class Unsupported extends Error {}

/** The version of an installed package. */
export function version(name) {
  return JSON.parse(fs.readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url))).version
}

/** What PGSSLMODE and PGSSLROOTCERT say, for `tls.connect`. */
export function tlsOptions() {
  const { PGSSLMODE: mode, PGSSLROOTCERT: ca } = process.env
  return mode === 'disable' ? false : { ca: fs.readFileSync(ca, 'utf8'), rejectUnauthorized: true }
}

/** Where the database is, for the libraries that do not read libpq's variables. */
export function address() {
  const { PGHOST: host, PGPORT: port, PGUSER: user, PGPASSWORD: password, PGDATABASE: database } = process.env
  return { host, port: Number(port), user, password, database }
}

function say(line) {
  console.log(JSON.stringify(line))
}

async function step(name, client, work = client[name]) {
  try {
    if (!work) throw new Unsupported('it has none')
    say({ step: name, ok: true, result: (await work.call(client)) ?? null })
  } catch (error) {
    if (error instanceof Unsupported) return say({ step: name, unsupported: error.message })
    console.error(error)
    say({ step: name, ok: false, error: `${nameOf(error)}: ${error.message}` })
  }
}

export const nameOf = (error) => error.constructor.name

/** The SQLSTATE that an application can read from an error; other codes are Node's. */
export const sqlstateOf = (error) => (/^[0-9A-Z]{5}$/.test(error?.code ?? '') ? error.code : null)

/** Returns when the runner answers, which it does when pgleash has acted. */
async function leaking() {
  say({ step: 'leaking' })
  const input = readline.createInterface({ input: process.stdin })
  await new Promise((resolve) => input.once('line', resolve))
  input.close()
}

/**
 * Run the whole script, without a handler for events only the leak; or the script of leaks that are rolled back.
 *
 * What arrived as an event is in the client's `events`.
 */
export async function main(client) {
  say({ driver: client.driver, version: client.version })
  if (ROLLED_BACK) return rolledBack(client)
  if (HANDLES_EVENTS) for (const name of STEPS) await step(name, client)
  else await client.connect()
  await leak(client)
  for (const name of ['again', 'close']) await step(name, client)
}

async function rolledBack(client) {
  await step('connect', client)
  await hold(client)
  await step('statement', client, () => attempt(client.useLeaked()))
  await step('commit', client, () => attempt(client.commitLeaked()))
  await step('go on', client, client.goOn)
  await hold(client)
  await step('commit at once', client, () => attempt(client.commitLeaked()))
  await step('go on again', client, client.goOn)
  await step('close', client)
}

async function hold(client) {
  await client.beginLeak()
  await leaking()
}

/** What this raises. */
async function attempt(work) {
  try {
    await work
    return { raised: null }
  } catch (error) {
    return { raised: nameOf(error), sqlstate: sqlstateOf(error), text: error.message }
  }
}

async function leak(client) {
  await hold(client)
  const line = await attempt(client.useLeaked())
  const events = (client.events ?? []).map((error) => {
    const who = [nameOf(error), sqlstateOf(error)].filter(Boolean).join(' ')
    return `${who}: ${error.message}`
  })
  say({ step: 'leak', ...line, events })
}
