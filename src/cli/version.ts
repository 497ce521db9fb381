/** This package: where it lies and which version it is. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Folder of this package, in the sources and after the build. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url))

const facts: { readonly version: string } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'))

export const version = facts.version
