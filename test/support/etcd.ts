/** A real etcd server of its own for tests, on loopback, in a folder that is removed afterwards. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ownPort } from './ports.js'
import { eventually } from './redis.js'
import { crash } from './server-process.js'

/** Null when there is an etcd; else why the tests that need one are skipped. */
export const etcdMissing: string | null =
  spawnSync('etcd', ['--version']).status === 0 ? null : 'etcd is not installed (Debian: etcd-server)'

const base64 = (text: string) => Buffer.from(text).toString('base64')

export class EtcdServer {
  private child: ChildProcess | null = null
  private readonly folder = mkdtempSync(join(tmpdir(), 'etcd-test-'))
  private output = ''

  private constructor(
    readonly port: number,
    private readonly peerPort: number,
  ) {}

  static async start(): Promise<EtcdServer> {
    const server = new EtcdServer(await ownPort(), await ownPort())
    await server.run()
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** A call of the version 3 API, as others make them. */
  async call(path: string, body: object): Promise<{ readonly [name: string]: unknown }> {
    const response = await fetch(`${this.url}/v3/${path}`, { method: 'POST', body: JSON.stringify(body) })
    const answer = (await response.json()) as { readonly [name: string]: unknown }
    if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`)
    return answer
  }

  /** As the Admin API of another gateway does. */
  async put(key: string, value: object | string): Promise<number> {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    const { header } = await this.call('kv/put', { key: base64(key), value: base64(text) })
    return Number((header as { revision: string }).revision)
  }

  async delete(key: string): Promise<void> {
    await this.call('kv/deleterange', { key: base64(key) })
  }

  /** Everything that begins with the text, which ends with a slash. */
  async deleteAll(start: string): Promise<void> {
    await this.call('kv/deleterange', { key: base64(start), range_end: base64(`${start.slice(0, -1)}0`) })
  }

  /** Revision of the whole server. */
  async revision(): Promise<number> {
    const { header } = await this.call('kv/range', { key: base64('/') })
    return Number((header as { revision: string }).revision)
  }

  /** Value of a key as text; null = there is none. */
  async get(key: string): Promise<string | null> {
    const { kvs } = (await this.call('kv/range', { key: base64(key) })) as { kvs?: { value: string }[] }
    const value = kvs?.[0]?.value
    return value === undefined ? null : Buffer.from(value, 'base64').toString()
  }

  /** SIGKILL; the data stays. */
  async kill(): Promise<void> {
    const { child } = this
    this.child = null
    await crash(child)
  }

  async restart(): Promise<void> {
    await this.kill()
    await this.run()
  }

  async close(): Promise<void> {
    await this.kill()
    rmSync(this.folder, { recursive: true, force: true })
  }

  private async run(): Promise<void> {
    const peer = `http://127.0.0.1:${this.peerPort}`
    const own = ['--name', 'test', '--data-dir', this.folder, '--listen-client-urls', this.url, '--advertise-client-urls', this.url]
    const peers = ['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`]
    const child = spawn('etcd', [...own, ...peers], { stdio: ['ignore', 'ignore', 'pipe'] })
    this.child = child
    this.output = ''
    child.stderr.on('data', (chunk: Buffer) => {
      this.output = `${this.output}${chunk}`.slice(-4000)
    })
    await eventually(`etcd on port ${this.port}`, async () => {
      if (child.exitCode !== null) throw new Error(`etcd ended with ${child.exitCode}:\n${this.output}`)
      return this.get('/').then(
        () => true,
        () => false,
      )
    })
  }
}
