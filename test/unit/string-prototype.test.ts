import { spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const script = fileURLToPath(new URL('../support/string-prototype.natives', import.meta.url))
const root = fileURLToPath(new URL('../..', import.meta.url))

async function ask(what: 'class' | 'redis'): Promise<unknown> {
  const child = spawn(process.execPath, ['--allow-natives-syntax', '-'], {
    cwd: root,
    env: { ...process.env, PACKED_BY: what },
    stdio: ['pipe', 'pipe', 'inherit'],
    timeout: 150_000,
  })
  createReadStream(script).pipe(child.stdin)
  return JSON.parse(await text(child.stdout))
}

it('finds the methods of strings quickly again after a class was put on top of String', async () => {
  expect(await ask('class')).toEqual([false, true])
})

it('leaves it so when the Redis client is loaded', async () => {
  expect(await ask('redis')).toEqual([true])
})
