// Call sites for node-postgres: import this once, before the first query.

import { AsyncLocalStorage } from 'node:async_hooks'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'

const HERE = fileURLToPath(import.meta.url)
const APPLICATION = path.dirname(HERE) // the directory of your own code
const PASSED_OVER = /^\.\.|node_modules/ // what is not yours, and a database layer that all statements pass through
const FRAMES = 50 // how far up the stack to look; libraries have many

// What the program is doing: doing.run({ route: '/hooks/:partner', traceparent }, () => ...)
export const doing = new AsyncLocalStorage()

/** The innermost frame of the application's own code; behind an await, that of the function that awaits. */
export function place() {
  for (const frame of stack()) {
    const file = (frame.getFileName() ?? '').replace(/^file:.*/, fileURLToPath)
    const name = path.relative(APPLICATION, file)
    if (path.isAbsolute(file) && file !== HERE && !PASSED_OVER.test(name)) {
      return { source_location: `${name}:${frame.getLineNumber()}`, function: frame.getFunctionName() ?? 'anonymous' }
    }
  }
  return {}
}

function stack() {
  const { prepareStackTrace, stackTraceLimit } = Error
  Error.prepareStackTrace = (_, frames) => frames
  Error.stackTraceLimit = FRAMES
  try {
    return new Error().stack
  } finally {
    Object.assign(Error, { prepareStackTrace, stackTraceLimit })
  }
}

/** A text with its tags in front of it. One that begins with a comment has them, or has a hint for the planner. */
function commented(text) {
  const tags = Object.entries({ ...place(), ...doing.getStore() })
  if (!tags.length || text.startsWith('/*')) return text
  const encode = (value) => encodeURIComponent(value).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`)
  return `/*${tags.map(([name, value]) => `${name}='${encode(value)}'`).join()}*/ ${text}`
}

/** A query with its tags. One with a name is left alone: it is prepared, and its name stands for one text only. */
function tagged(query) {
  if (typeof query === 'string') return commented(query)
  const plain = typeof query?.text === 'string' && !query.name && !query.submit
  return plain ? { ...query, text: commented(query.text) } : query
}

for (const { prototype } of [pg.Pool, pg.Client]) {
  const { query } = prototype
  prototype.query = function (first, ...rest) {
    return query.call(this, tagged(first), ...rest)
  }
}
