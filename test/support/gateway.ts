/** A real gateway for a test: its configuration in a temporary folder, its process, and what tests do with it. */
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type GatewayExit, GatewayProcess } from '../../src/doctor/gateway-process.js'

const ENTRY = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
export const ADMIN_KEY = 'admin-key-of-the-tests'
/** Longest wait for a start or a reload, on a machine that is busy with other things. */
const WAIT_MS = 60_000

export interface GatewayOptions {
  /** The configuration: an object (written as JSON, which is YAML) or YAML text. */
  readonly config: object | string
  readonly workers?: number
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly binding?: string
  /** Default `127.0.0.1:0`; null = the listeners of the configuration. */
  readonly listen?: string | null
  /** Start the admin server with ADMIN_KEY. */
  readonly admin?: boolean
}

export interface ReloadStatus {
  readonly epoch: number
  readonly lastError: string | null
}

export class Gateway {
  private constructor(
    private readonly folder: string,
    readonly process: GatewayProcess,
  ) {}

  static async start(options: GatewayOptions): Promise<Gateway> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await Gateway.startOnce(options)
      } catch (error) {
        // A free port may be somebody else's a moment later; one that the test has chosen stays its own affair.
        const isStolen = String(error).includes('the port is in use by another process') && typeof options.listen !== 'string'
        if (!isStolen || attempt === 5) throw error
      }
    }
  }

  private static async startOnce(options: GatewayOptions): Promise<Gateway> {
    if (!existsSync(ENTRY)) throw new Error(`${ENTRY} does not exist; run "npm run build" before tests that start a gateway`)
    const folder = await mkdtemp(join(tmpdir(), 'sluice-test-'))
    const file = join(folder, 'sluice.yaml')
    await writeFile(file, textOfConfig(options.config))
    try {
      const process = await GatewayProcess.start({
        entry: ENTRY,
        file,
        workers: options.workers ?? 1,
        readyTimeoutMs: WAIT_MS,
        env: { ...(options.admin === true ? { SLUICE_ADMIN_KEY: ADMIN_KEY } : {}), ...options.env },
        ...(options.listen === undefined ? {} : { listen: options.listen }),
        ...(options.admin === true ? { admin: '127.0.0.1:0' } : {}),
        ...(options.binding === undefined ? {} : { binding: options.binding }),
        ...(options.args === undefined ? {} : { args: options.args }),
      })
      return new Gateway(folder, process)
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw error
    }
  }

  get url(): string {
    return this.process.url
  }

  get port(): number {
    return this.process.port
  }

  get metricsUrl(): string {
    return this.process.metricsUrl
  }

  get adminUrl(): string {
    return this.process.adminUrl
  }

  /** Path of the configuration. */
  get file(): string {
    return join(this.folder, 'sluice.yaml')
  }

  get stderr(): string {
    return this.process.stderr
  }

  /** Writes a new configuration without telling the gateway. */
  async write(config: object | string): Promise<void> {
    await writeFile(join(this.folder, 'sluice.yaml'), textOfConfig(config))
  }

  /** SIGHUP without waiting for the outcome. */
  hangUp(): void {
    this.process.send('SIGHUP')
  }

  /** Writes the configuration, reloads, and waits until the reload succeeded or was refused. */
  async reload(config: object | string): Promise<ReloadStatus> {
    const before = await this.reloadStatus()
    await this.write(config)
    this.hangUp()
    for (const endMs = performance.now() + WAIT_MS; performance.now() < endMs; await pause(10)) {
      const now = await this.reloadStatus()
      if (now.at !== before.at) return now
    }
    throw new Error(`no outcome of the reload within ${WAIT_MS} ms\n${this.stderr}`)
  }

  async reloadStatus(): Promise<ReloadStatus & { readonly at: unknown }> {
    const response = await fetch(`${this.metricsUrl}/status`)
    const status = (await response.json()) as { epoch: number; reload: { last_error: string | null; at: unknown } }
    return { epoch: status.epoch, lastError: status.reload.last_error, at: status.reload.at }
  }

  /** Resident memory in bytes. */
  async residentBytes(): Promise<number> {
    const text = await readFile(`/proc/${this.process.pid}/status`, 'latin1')
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) * 1024
  }

  /** Value of a metric line, found by the beginning of the line; 0 when there is none. */
  async metric(beginning: string): Promise<number> {
    const text = await (await fetch(`${this.metricsUrl}/metrics`)).text()
    const lines = text.split('\n').filter((line) => line.startsWith(beginning))
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
  }

  /** Drains. */
  async stop(): Promise<GatewayExit> {
    const exit = await this.process.stop()
    await rm(this.folder, { recursive: true, force: true })
    return exit
  }

  /** Ends it without draining, which takes half a second. */
  async discard(): Promise<void> {
    await this.process.end()
    await rm(this.folder, { recursive: true, force: true })
  }
}

/** A configuration with one route for every path to one upstream on 127.0.0.1. */
export function proxyTo(port: number, upstream: object = {}, sluice: object = {}): object {
  return { routes: [{ id: 'all', uri: '/*', upstream: { nodes: { [`127.0.0.1:${port}`]: 1 }, ...upstream } }], sluice }
}

function textOfConfig(config: object | string): string {
  return typeof config === 'string' ? config : JSON.stringify(config, null, 2)
}
