/** The frame of a program: command line values (a wrong one ends the program with exit code 2) and exit codes. */

import { parseArgs } from 'node:util'

function wrong(text) {
  console.error(text)
  process.exit(2)
}

/** A whole number of at least 1. */
export function count(name, text, fallback) {
  if (text === undefined) return fallback
  const value = Number(text)
  return Number.isInteger(value) && value >= 1 ? value : wrong(`${name}: found "${text}"; expected a whole number of at least 1`)
}

/** A number above 0, not necessarily whole. */
export function amount(name, text, fallback) {
  if (text === undefined) return fallback
  const value = Number(text)
  return Number.isFinite(value) && value > 0 ? value : wrong(`${name}: found "${text}"; expected a number above 0`)
}

/** Comma-separated names out of `known`; without a text all of them. */
export function list(name, text, known) {
  if (text === undefined) return [...known]
  const items = text.split(',').filter((item) => item !== '')
  for (const item of items) {
    if (!known.includes(item)) wrong(`${name}: found "${item}"; expected one or more of ${known.join(', ')}`)
  }
  return items
}

/**
 * What stands on the command line: `texts` are options with a value, `flags` those without, beside `--force`. `--help` prints the usage and
 * ends the program. Throws for options that are not known.
 */
export function programValues(usage, texts, flags = []) {
  const options = Object.fromEntries([
    ...texts.map((name) => [name, { type: 'string' }]),
    ...[...flags, 'force', 'help'].map((name) => [name, { type: 'boolean', default: false }]),
  ])
  const { values } = parseArgs({ options })
  if (values.help) {
    console.log(usage)
    process.exit(0)
  }
  return values
}

/** Runs `main` and ends the process with the code it returns; 1 when it fails, the signal's code when it was interrupted. */
export async function runProgram(main) {
  try {
    process.exit(await main())
  } catch (error) {
    // After a signal the code is set already, and what fails then fails because of it.
    if (process.exitCode !== undefined) process.exit()
    console.error(error instanceof Error ? error.message : error)
    process.exit(1)
  }
}
