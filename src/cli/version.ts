/** Versions of this package and of the uWebSockets.js build. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { UsageError } from '../base/errors.js'

/** Folder of this package, in the sources and after the build. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url))

export interface PackageFacts {
  readonly name: string
  readonly version: string
}

export const version = readFacts(join(packageRoot, 'package.json')).version

/** The package that is installed under the name of the binding. Throws UsageError when there is none. */
export function bindingFacts(binding: string): PackageFacts {
  let entry: string
  try {
    entry = createRequire(import.meta.url).resolve(binding)
  } catch {
    throw new UsageError(`the uWebSockets.js build "${binding}" is not installed; run npm ci in ${packageRoot}`)
  }
  // `exports` of a build may hide its package.json, so it is looked for upward from the entry point.
  for (let folder = dirname(entry); folder !== dirname(folder); folder = dirname(folder)) {
    const file = join(folder, 'package.json')
    if (existsSync(file)) return readFacts(file)
  }
  return { name: binding, version: 'unknown' }
}

function readFacts(file: string): PackageFacts {
  const facts: { name?: string; version?: string } = JSON.parse(readFileSync(file, 'utf8'))
  return { name: facts.name ?? 'unknown', version: facts.version ?? 'unknown' }
}
