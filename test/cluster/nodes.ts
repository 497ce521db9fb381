/** Starts node processes (node.ts) from one compilation, and ends them. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { NodeAnswer, NodeJob, NodeOrder, NodeReport, NodeStart } from './node-jobs.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Node 20 runs no TypeScript: the compiler of the project makes JavaScript of the node and all it imports, where packages are found. */
export async function compileNode(): Promise<{ readonly file: string; remove(): void }> {
  const cache = join(root, 'node_modules/.cache/sluice')
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, 'node-'))
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  const options = '--ignoreConfig --noCheck --target es2023 --module nodenext --moduleResolution nodenext --types node'
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const main = join(root, 'test/cluster/node.ts')
  await promisify(execFile)(process.execPath, [tsc, ...options.split(' '), '--rootDir', root, '--outDir', folder, main], {
    cwd: root,
    timeout: 150_000,
  })
  cpSync(join(root, 'src/cluster/lua'), join(folder, 'src/cluster/lua'), { recursive: true })
  return { file: join(folder, 'test/cluster/node.js'), remove: () => rmSync(folder, { recursive: true, force: true }) }
}

export class NodeProcess {
  private readonly waiting = new Map<number, { resolve(report: NodeReport): void; reject(error: Error): void }>()
  private nextNumber = 0
  private errors = ''

  private constructor(private readonly child: ChildProcess) {
    child.stderr?.on('data', (chunk: Buffer) => {
      this.errors = `${this.errors}${chunk}`.slice(-4000)
    })
    child.once('close', () => {
      for (const { reject } of this.waiting.values()) reject(new Error(`the node process ended:\n${this.errors}`))
      this.waiting.clear()
    })
  }

  static async start(file: string, start: NodeStart): Promise<NodeProcess> {
    const child = spawn(process.execPath, [file, JSON.stringify(start)], { stdio: ['pipe', 'pipe', 'pipe'] })
    const node = new NodeProcess(child)
    const lines = createInterface({ input: child.stdout })
    await new Promise<void>((resolve, reject) => {
      child.once('close', () => reject(new Error(`the node process ended:\n${node.errors}`)))
      lines.once('line', () => {
        lines.on('line', (line) => node.answered(JSON.parse(line)))
        resolve()
      })
    })
    return node
  }

  /** Rejects when the process ends before it has answered. */
  run(job: NodeJob): Promise<NodeReport> {
    const order: NodeOrder = { number: this.nextNumber++, job }
    return new Promise((resolve, reject) => {
      this.waiting.set(order.number, { resolve, reject })
      this.child.stdin?.write(`${JSON.stringify(order)}\n`)
    })
  }

  /** SIGKILL, as a crash or a power cut of the node. */
  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await ended
  }

  private answered({ number, report }: NodeAnswer): void {
    this.waiting.get(number)?.resolve(report)
    this.waiting.delete(number)
  }
}
