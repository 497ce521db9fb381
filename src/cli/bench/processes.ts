/** The processes of one bench: gateways, an upstream, load generators. All end with it, however it ends. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { UsageError } from '../../base/errors.js'

const startTimeoutMs = 20_000
const stopTimeoutMs = 5_000
const rememberedLogBytes = 2_000

const programs = {
  gateway: fileURLToPath(new URL('../../main.js', import.meta.url)),
  upstream: fileURLToPath(new URL('./upstream.js', import.meta.url)),
  load: fileURLToPath(new URL('./load.js', import.meta.url)),
} as const

export interface RunningGateway {
  readonly pid: number
  /** Its proxy listener. */
  readonly origin: string
  readonly readyLine: string
  stop(): Promise<void>
}

/** A child that is asked by lines on its stdin and answers each by a line on its stdout. */
export interface AskedProcess {
  /** @throws Error when the process has ended; never answers while the bench is being closed. */
  ask(question: object): Promise<string>
}

/** Until it is closed, SIGINT and SIGTERM end this process together with what it started, with 128 + the signal's number. */
export class BenchProcesses {
  readonly #folder: string
  readonly #children = new Set<ChildProcess>()
  #closing: Promise<void> | null = null
  #files = 0
  readonly #interrupted = (signal: 'SIGINT' | 'SIGTERM'): void => {
    const end = (): never => process.exit(signal === 'SIGINT' ? 130 : 143)
    this.close().then(end, end)
  }

  private constructor(folder: string) {
    this.#folder = folder
    process.once('SIGINT', this.#interrupted)
    process.once('SIGTERM', this.#interrupted)
  }

  static async open(): Promise<BenchProcesses> {
    return new BenchProcesses(await mkdtemp(join(tmpdir(), 'sluice-bench-')))
  }

  /** Ends all processes and removes what they left. */
  close(): Promise<void> {
    this.#closing ??= this.#closeAll()
    return this.#closing
  }

  async #closeAll(): Promise<void> {
    process.off('SIGINT', this.#interrupted)
    process.off('SIGTERM', this.#interrupted)
    await Promise.all([...this.#children].map(stop))
    await rm(this.#folder, { recursive: true, force: true })
  }

  /**
   * Starts the built-in upstream.
   *
   * @param processes how many share its port.
   * @returns the port on the loopback.
   * @throws UsageError (exit code 1) when it does not come up; the message carries the end of its log.
   */
  async startUpstream(processes: number): Promise<number> {
    return Number(await firstLine(this.#launch([programs.upstream, String(processes)]), 'the bench upstream', () => true))
  }

  /**
   * Starts a gateway on free loopback ports.
   *
   * @param workers 0 = its default, the cores available.
   * @throws UsageError (exit code 1) when it does not come up; the message carries the end of its log.
   */
  async startGateway(document: object, workers: number): Promise<RunningGateway> {
    const file = join(this.#folder, `bench-${this.#files++}.json`)
    // The configuration of a user may hold secrets.
    await writeFile(file, JSON.stringify(document), { mode: 0o600 })
    const args = ['start', '-c', file, '--listen', '127.0.0.1:0', '--metrics', '127.0.0.1:0']
    if (workers > 0) args.push('--workers', String(workers))
    const child = this.#launch([programs.gateway, ...args])
    const readyLine = await firstLine(child, 'the gateway', (line) => line.includes(' ready: '))
    return {
      pid: child.pid ?? 0,
      origin: originOf(readyLine),
      readyLine,
      stop: async () => {
        await stop(child)
        this.#children.delete(child)
      },
    }
  }

  /** Starts a load generator. @throws UsageError (exit code 1) when it does not come up. */
  async startLoad(): Promise<AskedProcess> {
    const child = this.#launch([programs.load])
    await firstLine(child, 'the load generator', () => true)
    return { ask: (question) => this.#ask(child, question) }
  }

  #ask(child: ChildProcess, question: object): Promise<string> {
    return new Promise((resolve, reject) => {
      const { stdin, stdout } = child
      if (stdin === null || stdout === null || child.exitCode !== null || child.signalCode !== null) {
        return this.#fail(reject, 'the load generator has ended')
      }
      const lines = createInterface({ input: stdout })
      const ended = (): void => this.#fail(reject, 'the load generator ended in the middle of its work')
      child.once('exit', ended)
      lines.once('line', (line) => {
        child.off('exit', ended)
        lines.close()
        resolve(line)
      })
      stdin.write(`${JSON.stringify(question)}\n`)
    })
  }

  /** While everything is being ended, whoever waits is not told that it ended: the exit code is decided elsewhere. */
  #fail(reject: (error: Error) => void, message: string): void {
    if (this.#closing === null) reject(new UsageError(message, 1))
  }

  #launch(args: readonly string[]): ChildProcess {
    // What is started now would outlive the bench.
    if (this.#closing !== null) throw new UsageError('the bench is being ended', 1)
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    // A question to a process that is just ending; its end is what is told.
    child.stdin.on('error', () => {})
    this.#children.add(child)
    return child
  }
}

/** The first plain HTTP address that a ready line names: the proxy listener. Public for its test. */
export function originOf(readyLine: string): string {
  const origin = /http:\/\/[^\s,]+/.exec(readyLine)?.[0]
  if (origin === undefined) throw new UsageError(`the ready line of the gateway names no http:// address: ${readyLine}`, 1)
  return origin
}

function firstLine(child: ChildProcess, what: string, wanted: (line: string) => boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    let log = ''
    const timer = setTimeout(() => reject(notUp(`was not ready within ${startTimeoutMs / 1000} s`)), startTimeoutMs)
    const notUp = (how: string): UsageError => {
      clearTimeout(timer)
      return new UsageError(`${what} ${how}${log === '' ? '' : `; the end of its log:\n${log.trimEnd()}`}`, 1)
    }
    child.stderr?.on('data', (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-rememberedLogBytes)
    })
    child.once('error', (error) => reject(notUp(`could not be started: ${error.message}`)))
    child.once('exit', (code, signal) => reject(notUp(`ended with ${signal ?? `exit code ${code}`} before it was ready`)))
    if (child.stdout === null) return
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (!wanted(line)) return
      clearTimeout(timer)
      resolve(line)
    })
  })
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs)
  await ended
  clearTimeout(timer)
}
