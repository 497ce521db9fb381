/**
 * A load generator as a process of its own, so that several can share the work and none takes a thread from the one that reports. Prints a line
 * when it is up; then every line on stdin is a `LoadQuestion`, answered by a line with a `LoadAnswer`. Ends with its stdin.
 */
import { createInterface } from 'node:readline'
import { type LoadSettings, load, Recorder, type Run } from './measure.js'
import type { BenchCase } from './suites.js'

export interface LoadQuestion {
  readonly benchCase: BenchCase
  readonly settings: LoadSettings
}

export interface LoadAnswer {
  readonly run: Run
  /** `Latencies.encoded`. */
  readonly latencies: string
  readonly statuses: Readonly<Record<string, number>>
}

async function answer(line: string): Promise<void> {
  const { benchCase, settings } = JSON.parse(line) as LoadQuestion
  const recorder = new Recorder()
  const run = await load(benchCase, settings, recorder)
  const found: LoadAnswer = { run, latencies: recorder.latencies.encoded(), statuses: recorder.statuses }
  process.stdout.write(`${JSON.stringify(found)}\n`)
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    answer(line).catch((error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
      process.exit(1)
    })
  })
  // The parent holds the other end: when it is gone, however it went, nobody needs this process.
  .on('close', () => process.exit(0))
process.stdout.write('up\n')
