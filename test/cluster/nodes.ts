/** Starts node processes (node.ts) from one compilation, and ends them. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { NodeJob, NodeReport, NodeStart } from './node-jobs.js'

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
  private readonly lines: AsyncIterator<string>
  private errors = ''

  private constructor(private readonly child: ChildProcess) {
    if (child.stdout === null || child.stderr === null) throw new Error('the node process has no output')
    this.lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    child.stderr.on('data', (chunk: Buffer) => {
      this.errors = `${this.errors}${chunk}`.slice(-4000)
    })
  }

  static async start(file: string, start: NodeStart): Promise<NodeProcess> {
    const node = new NodeProcess(spawn(process.execPath, [file, JSON.stringify(start)], { stdio: ['pipe', 'pipe', 'pipe'] }))
    await node.line()
    return node
  }

  async run(job: NodeJob): Promise<NodeReport> {
    this.child.stdin?.write(`${JSON.stringify(job)}\n`)
    return JSON.parse(await this.line())
  }

  /** SIGKILL, as a crash or a power cut of the node. */
  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await ended
  }

  private async line(): Promise<string> {
    const next = await this.lines.next()
    if (next.done === true) throw new Error(`the node process ended:\n${this.errors}`)
    return next.value
  }
}
