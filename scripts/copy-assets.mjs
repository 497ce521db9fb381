#!/usr/bin/env node
// Second half of `npm run build`: what the compiler does not copy into dist/.
// Lua scripts (src/cluster/lua/*.lua) are read from beside the compiled modules; the entry point must be executable for `bin`.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const source = join(root, 'src')
const target = join(root, 'dist')
const copied = ['.lua', '.proto']

for (const entry of readdirSync(source, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !copied.some((ending) => entry.name.endsWith(ending))) continue
  const from = join(entry.parentPath, entry.name)
  const to = join(target, relative(source, from))
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, to)
}

const main = join(target, 'main.js')
if (existsSync(main)) chmodSync(main, 0o755)
