/** A gateway as a child process on loopback ports: started, awaited until ready, ended. */
import { type ChildProcess, spawn } from 'node:child_process'
import { ChangeSignal } from './change-signal.js'

export interface GatewayProcessOptions {
  /** The command line to run: `dist/main.js`. */
  readonly entry: string
  /** Configuration file. */
  readonly file: string
  /** Default 1. */
  readonly workers?: number
  /** Listen address of the proxy, default `127.0.0.1:0`; null = what the file says. */
  readonly listen?: string | null
  /** Admin address; absent = off unless the file has one. */
  readonly admin?: string
  /** Name of another uWebSockets.js package. */
  readonly binding?: string
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Longest wait for the ready line. Default 20 s. */
  readonly readyTimeoutMs?: number
}

export interface GatewayExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

const READY = /^sluice \S+ ready: (.*)$/m
/** Longer than the shutdown of the gateway itself may take. */
const STOP_TIMEOUT_MS = 60_000

export class GatewayProcess {
  /** Everything on stderr so far: the process log. */
  stderr = ''
  stdout = ''
  exit: GatewayExit | null = null
  readonly signal = new ChangeSignal()

  private constructor(private readonly child: ChildProcess) {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
      this.signal.notify()
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
      this.signal.notify()
    })
    child.once('close', (code: number | null, signal: NodeJS.Signals | null) => {
      this.exit = { code, signal }
      this.signal.notify()
    })
  }

  /** Starts a gateway and waits for its ready line. Rejects with what it wrote when it ends or is not ready in time. */
  static async start(options: GatewayProcessOptions): Promise<GatewayProcess> {
    const listen = options.listen === undefined ? '127.0.0.1:0' : options.listen
    const args = [options.entry, 'start', '-c', options.file, '--workers', String(options.workers ?? 1), '--metrics', '127.0.0.1:0']
    if (listen !== null) args.push('--listen', listen)
    if (options.admin !== undefined) args.push('--admin', options.admin)
    if (options.binding !== undefined) args.push('--binding', options.binding)
    const child = spawn(process.execPath, [...args, ...(options.args ?? [])], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
    })
    const gateway = new GatewayProcess(child)
    const limit = options.readyTimeoutMs ?? 20_000
    await gateway.signal.holds(() => READY.test(gateway.stdout) || gateway.exit !== null, limit)
    if (!READY.test(gateway.stdout)) {
      const what = gateway.exit === null ? `was not ready within ${limit} ms` : `ended with ${describeExit(gateway.exit)}`
      await gateway.kill()
      throw new Error(`the gateway ${what}\nstdout: ${gateway.stdout}\nstderr: ${gateway.stderr}`)
    }
    return gateway
  }

  /** The ready line. */
  get readyLine(): string {
    return READY.exec(this.stdout)?.[0] ?? ''
  }

  /** URLs of the proxy listeners, without a trailing slash, in the order of the ready line. */
  get urls(): string[] {
    return this.readyParts().filter((part) => /^https?:\/\//.test(part))
  }

  /** URL of the first proxy listener. */
  get url(): string {
    return this.urls[0] ?? ''
  }

  /** Port of the first proxy listener. */
  get port(): number {
    return Number(new URL(this.url).port)
  }

  get metricsUrl(): string {
    return this.part('metrics ')
  }

  get adminUrl(): string {
    return this.part('admin ')
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  send(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  /** Drains and ends it (SIGTERM); kills it when that takes longer than 60 s. */
  async stop(): Promise<GatewayExit> {
    if (this.exit === null) this.child.kill('SIGTERM')
    if (!(await this.signal.holds(() => this.exit !== null, STOP_TIMEOUT_MS))) await this.kill()
    return this.exit ?? { code: null, signal: null }
  }

  /** Ends it at once, in order but without draining: a second signal behind the first. Kills it when that takes longer than 60 s. */
  end(): Promise<GatewayExit> {
    if (this.exit === null) this.child.kill('SIGINT')
    return this.stop()
  }

  async kill(): Promise<void> {
    if (this.exit === null) this.child.kill('SIGKILL')
    await this.signal.until(() => this.exit !== null, STOP_TIMEOUT_MS, 'the end of a killed gateway')
  }

  private readyParts(): string[] {
    return (READY.exec(this.stdout)?.[1] ?? '').split(', ')
  }

  private part(prefix: string): string {
    return (
      this.readyParts()
        .find((part) => part.startsWith(prefix))
        ?.slice(prefix.length) ?? ''
    )
  }
}

function describeExit(exit: GatewayExit): string {
  return exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`
}
