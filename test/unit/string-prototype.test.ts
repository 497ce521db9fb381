import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const script = fileURLToPath(new URL('../support/string-prototype.natives', import.meta.url))

async function ask(what: 'class' | 'redis'): Promise<unknown> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--allow-natives-syntax', script, what], { timeout: 20_000 })
  return JSON.parse(stdout)
}

it('finds the methods of strings quickly again after a class was put on top of String', async () => {
  expect(await ask('class')).toEqual([false, true])
})

it('leaves it so when the Redis client is loaded', async () => {
  expect(await ask('redis')).toEqual([true])
})
