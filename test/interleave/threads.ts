/** Starts real threads that race on shared memory. The thread's module is compiled once per test file, next to what it imports. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import type { SharedRegions } from '../../src/shared/regions.js'
import type { RacerJob, RacerReport, RacerStart } from './jobs.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

/**
 * Threads do not run TypeScript in Node 20: the compiler of the project makes JavaScript of the racer and all it imports. `module`: the
 * thread's module in this folder.
 */
export async function compileRacer(module = 'racer'): Promise<{ readonly file: string; remove(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'interleave-'))
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  const options = '--ignoreConfig --noCheck --target es2023 --module nodenext --moduleResolution nodenext --types node'
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const racer = join(root, `test/interleave/${module}.ts`)
  await promisify(execFile)(process.execPath, [tsc, ...options.split(' '), '--rootDir', root, '--outDir', folder, racer], {
    cwd: root,
    timeout: 150_000,
  })
  return { file: join(folder, `test/interleave/${module}.js`), remove: () => rmSync(folder, { recursive: true, force: true }) }
}

export class Racers {
  private readonly threads: Worker[] = []
  private readonly gate = new SharedArrayBuffer(4)
  private readonly ended: Promise<unknown>[] = []

  constructor(
    private readonly file: string,
    private readonly regions: SharedRegions,
    private readonly onReport: (index: number, report: RacerReport) => void,
  ) {}

  /** Starts one thread in this slot and resolves when it stands at the gate. */
  async add(index: number, job: RacerJob): Promise<Worker> {
    const start: RacerStart = { index, regions: this.regions, gate: this.gate, job }
    const thread = new Worker(this.file, { workerData: start })
    this.threads.push(thread)
    const ready = new Promise<void>((resolve, reject) => {
      thread.once('error', reject)
      thread.on('message', (report: RacerReport) => {
        if (report.type === 'ready') resolve()
        else this.onReport(index, report)
      })
    })
    this.ended.push(once(thread, 'exit'))
    await ready
    return thread
  }

  /** Opens the gate for those who wait and those who come. */
  go(): void {
    const cells = new Int32Array(this.gate)
    Atomics.store(cells, 0, 1)
    Atomics.notify(cells, 0)
  }

  /** Tells every thread one thing. */
  tell(message: number): void {
    for (const thread of this.threads) thread.postMessage(message)
  }

  /** Resolves when all threads have ended by themselves. */
  async finished(): Promise<void> {
    await Promise.all(this.ended)
  }
}
