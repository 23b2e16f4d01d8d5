// What every application here has: the switch of its mistake, a partner, and an end.

/** Whether the mistake is mended. */
export const fixed = process.env.FIXED === '1'

/** Somebody else's service. */
export const partner = process.env.PARTNER

/** Nothing more is to be done; like any server, it stays until it is told to end. */
export function rest() {
  console.log('rests')
  process.stdin.resume().on('end', () => process.exit())
}
