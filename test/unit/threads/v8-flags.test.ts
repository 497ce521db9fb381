import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const built = fileURLToPath(new URL('../../../dist/threads/v8-flags.js', import.meta.url))

/** A worker that makes garbage; some megabytes live whenever it is collected, which is work for helpers. */
const garbage = `
const live = new Array(50000).fill(null)
for (let round = 0; round < 2_000_000; round++) live[round % live.length] = { round, text: 'x' + round }
`

/** Milliseconds that helpers worked for each collection of young objects in a worker. */
async function helped(): Promise<number[]> {
  const program = `
    import { Worker } from 'node:worker_threads'
    import { setV8Flags } from ${JSON.stringify(built)}
    setV8Flags({ parallelGc: false })
    new Worker(${JSON.stringify(garbage)}, { eval: true })
  `
  const args = ['--trace-gc', '--trace-gc-nvp', '--input-type=module', '--eval', program]
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 64 * 1024 * 1024 })
  return [...stdout.matchAll(/ gc=s .* background\.scavenge\.parallel=([\d.]+)/g)].map(([, ms]) => Number(ms))
}

test('a worker collects its young objects by itself', async () => {
  const collections = await helped()
  expect(collections.length).toBeGreaterThan(5)
  expect(new Set(collections)).toEqual(new Set([0]))
})
