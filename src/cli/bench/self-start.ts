/** Starts a gateway and an upstream on free loopback ports for one bench, and ends them again. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { UsageError } from '../../base/errors.js'
import { type SuiteTargets, selfStartDocument } from './suites.js'

export interface SelfStarted {
  readonly origin: string
  readonly targets: SuiteTargets
  /** The ready line of the gateway: what is being measured. */
  readonly readyLine: string
  close(): Promise<void>
}

const startTimeoutMs = 20_000
const stopTimeoutMs = 5_000
const rememberedLogBytes = 2_000

/**
 * Until it is closed, SIGINT and SIGTERM end the bench together with what it started, with 128 + the signal's number.
 *
 * @param workers worker threads of the gateway; 0 = its default, the cores available.
 * @throws UsageError (exit code 1) when the gateway or the upstream does not come up; the message carries the end of its log.
 */
export async function selfStart(workers: number): Promise<SelfStarted> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-bench-'))
  const children: ChildProcess[] = []
  const closeAll = async (): Promise<void> => {
    process.off('SIGINT', interrupted)
    process.off('SIGTERM', interrupted)
    await Promise.all(children.map(stop))
    await rm(folder, { recursive: true, force: true })
  }
  let closing: Promise<void> | null = null
  const close = (): Promise<void> => {
    closing ??= closeAll()
    return closing
  }
  const interrupted = (signal: 'SIGINT' | 'SIGTERM'): void => {
    const end = (): never => process.exit(signal === 'SIGINT' ? 130 : 143)
    close().then(end, end)
  }
  process.once('SIGINT', interrupted)
  process.once('SIGTERM', interrupted)
  try {
    const upstream = launch(children, [fileURLToPath(new URL('./upstream.js', import.meta.url))])
    const port = Number(await firstLine(upstream, 'the bench upstream', () => true))
    const { document, targets } = selfStartDocument(port)
    const file = join(folder, 'bench.json')
    await writeFile(file, JSON.stringify(document))
    const args = ['start', '-c', file, '--listen', '127.0.0.1:0', '--metrics', '127.0.0.1:0']
    if (workers > 0) args.push('--workers', String(workers))
    const gateway = launch(children, [fileURLToPath(new URL('../../main.js', import.meta.url)), ...args])
    const readyLine = await firstLine(gateway, 'the gateway', (line) => line.includes(' ready: '))
    return { origin: originOf(readyLine), targets, readyLine, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** The first plain HTTP address that a ready line names: the proxy listener. Public for its test. */
export function originOf(readyLine: string): string {
  const origin = /http:\/\/[^\s,]+/.exec(readyLine)?.[0]
  if (origin === undefined) throw new UsageError(`the ready line of the gateway names no http:// address: ${readyLine}`, 1)
  return origin
}

function launch(children: ChildProcess[], args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  children.push(child)
  return child
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
