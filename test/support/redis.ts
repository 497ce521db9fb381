/**
 * Real Redis servers for tests: on free loopback ports, without persistence unless asked, each in a folder of its own that is removed
 * afterwards. Every process that is started here is ended here, by its id.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { ownPort } from './ports.js'
import { crash } from './server-process.js'

const HOST = '127.0.0.1'
/** Longest wait for anything, on a machine that is busy with other things. */
const WAIT_MS = 60_000
const POLL_MS = 20

/** Null when there is a redis-server; else why the tests that need one are skipped. */
export const redisMissing: string | null = spawnSync('redis-server', ['--version']).status === 0 ? null : 'redis-server is not installed'

/** Resolves when `isTrue` says so; rejects with `what` after the timeout. */
export async function eventually(what: string, isTrue: () => Promise<boolean> | boolean, timeoutMs = WAIT_MS): Promise<void> {
  const endMs = performance.now() + timeoutMs
  for (;;) {
    if (await isTrue()) return
    if (performance.now() > endMs) throw new Error(`${what}: not within ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

export interface RedisServerOptions {
  /** Further lines of the configuration file. */
  readonly config?: readonly string[]
  readonly sentinel?: boolean
}

export class RedisServer {
  private child: ChildProcess | null = null
  private admin: Redis | null = null
  private readonly folder: string
  private readonly file: string
  private output = ''

  private constructor(
    readonly port: number,
    private readonly options: RedisServerOptions,
  ) {
    this.folder = mkdtempSync(join(tmpdir(), 'redis-test-'))
    this.file = join(this.folder, 'redis.conf')
    const lines = [`port ${port}`, `bind ${HOST}`, `dir ${this.folder}`, 'save ""', 'daemonize no', ...(options.config ?? [])]
    writeFileSync(this.file, `${lines.filter((line) => !(options.sentinel && line.startsWith('save'))).join('\n')}\n`)
  }

  /** Starts a server and resolves when it accepts commands. */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const port = await ownPort()
    const server = new RedisServer(port, options)
    await server.run()
    return server
  }

  readonly host = HOST

  get address(): { host: string; port: number } {
    return { host: HOST, port: this.port }
  }

  /** A connection for the test itself: preparing, and looking at what is stored. */
  get client(): Redis {
    if (this.admin === null) throw new Error('the server is not running')
    return this.admin
  }

  /** SIGKILL: as a crash. Data is gone, without persistence. */
  async kill(): Promise<void> {
    const { child } = this
    this.child = null
    this.admin?.disconnect()
    this.admin = null
    await crash(child)
  }

  /** Starts it again on the same port. */
  async restart(): Promise<void> {
    await this.kill()
    await this.run()
  }

  pause(): void {
    this.child?.kill('SIGSTOP')
  }

  resume(): void {
    this.child?.kill('SIGCONT')
  }

  async close(): Promise<void> {
    this.resume()
    await this.kill()
    rmSync(this.folder, { recursive: true, force: true })
  }

  private async run(): Promise<void> {
    const child = spawn('redis-server', [this.file, ...(this.options.sentinel ? ['--sentinel'] : [])], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.child = child
    this.output = ''
    const keep = (chunk: Buffer): void => {
      this.output = `${this.output}${chunk}`.slice(-4000)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    const admin = new Redis({
      host: HOST,
      port: this.port,
      protocol: 2,
      disableClientInfo: true,
      enableReadyCheck: false,
      maxRetriesPerRequest: null,
      retryStrategy: () => POLL_MS,
    })
    admin.on('error', () => undefined)
    this.admin = admin
    await eventually(`redis-server on port ${this.port}`, async () => {
      if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode}:\n${this.output}`)
      // With a password the test authenticates by itself; that it is asked for one means that the server is there.
      const answer = admin.status === 'ready' ? await admin.ping().catch((error: Error) => error.message) : ''
      return answer === 'PONG' || answer.startsWith('NOAUTH')
    })
  }
}

/** Three masters that share all slots, without replicas. */
export class RedisClusterServers {
  private constructor(readonly masters: readonly [RedisServer, RedisServer, RedisServer]) {}

  static async start(): Promise<RedisClusterServers> {
    const begin = async (): Promise<RedisServer> => {
      const bus = await ownPort()
      return RedisServer.start({
        config: ['cluster-enabled yes', `cluster-port ${bus}`, 'cluster-node-timeout 1000', 'cluster-require-full-coverage no'],
      })
    }
    const masters = await Promise.all([begin(), begin(), begin()])
    const cluster = new RedisClusterServers([masters[0], masters[1], masters[2]])
    try {
      await cluster.join()
    } catch (error) {
      await cluster.close()
      throw error
    }
    return cluster
  }

  get nodes(): { host: string; port: number }[] {
    return this.masters.map((master) => master.address)
  }

  /** Index of the master that serves a slot. */
  async ownerOf(slot: number): Promise<number> {
    const [asked] = this.masters
    const ranges = await asked.client.cluster('SLOTS')
    const range = ranges.find(([from, to]) => slot >= from && slot <= to)
    return this.masters.findIndex((master) => master.port === range?.[2]?.[1])
  }

  async idOf(index: number): Promise<string> {
    return String(await this.at(index).client.cluster('MYID'))
  }

  at(index: number): RedisServer {
    const master = this.masters[index]
    if (master === undefined) throw new RangeError(`no master ${index}`)
    return master
  }

  async close(): Promise<void> {
    await Promise.all(this.masters.map((master) => master.close()))
  }

  private async join(): Promise<void> {
    const bounds = [0, 5461, 10_923, 16_384]
    for (const [index, master] of this.masters.entries()) {
      await master.client.call('CLUSTER', 'ADDSLOTSRANGE', bounds[index] ?? 0, (bounds[index + 1] ?? 0) - 1)
      await master.client.call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)
    }
    const [first, ...others] = this.masters
    for (const other of others) {
      const info = String(await other.client.call('CONFIG', 'GET', 'cluster-port')).split(',')
      await first.client.call('CLUSTER', 'MEET', HOST, other.port, info[1] ?? '')
    }
    for (const master of this.masters) {
      await eventually('the cluster', async () => {
        const info = String(await master.client.cluster('INFO'))
        return info.includes('cluster_state:ok') && info.includes('cluster_slots_assigned:16384') && info.includes('cluster_known_nodes:3')
      })
    }
    // A short one joins quickly. From here on a server that a slow machine does not let run is not taken for one that is gone.
    for (const master of this.masters) await master.client.config('SET', 'cluster-node-timeout', 120_000)
  }
}

/** One master, one replica, one sentinel that watches them. */
export class RedisSentinelServers {
  static readonly masterName = 'limits'

  private constructor(
    readonly master: RedisServer,
    readonly replica: RedisServer,
    readonly sentinel: RedisServer,
  ) {}

  static async start(): Promise<RedisSentinelServers> {
    const master = await RedisServer.start()
    const replica = await RedisServer.start({ config: [`replicaof ${HOST} ${master.port}`, 'repl-diskless-sync-delay 0'] })
    const name = RedisSentinelServers.masterName
    const sentinel = await RedisServer.start({
      sentinel: true,
      config: [
        `sentinel monitor ${name} ${HOST} ${master.port} 1`,
        // Nobody is taken for dead because a slow machine does not let him run: failovers begin when a test says so.
        `sentinel down-after-milliseconds ${name} 120000`,
        `sentinel failover-timeout ${name} 60000`,
      ],
    })
    const servers = new RedisSentinelServers(master, replica, sentinel)
    await eventually('the replica', async () => String(await replica.client.info('replication')).includes('master_link_status:up'))
    await eventually('the sentinel', async () => String(await sentinel.client.info('sentinel')).includes('slaves=1'))
    return servers
  }

  /** Tells the sentinel to make the replica the master, whether the old one is alive or not. */
  async failOver(): Promise<void> {
    await eventually('the order to fail over', async () => {
      const answer = await this.sentinel.client.call('SENTINEL', 'FAILOVER', RedisSentinelServers.masterName).catch(String)
      // NOGOODSLAVE: it has not heard of the replica for a moment. INPROG: an answer to the order before that was lost.
      return answer === 'OK' || String(answer).includes('INPROG')
    })
  }

  /** Resolves when the sentinel names this server as the master. */
  async promoted(server: RedisServer): Promise<void> {
    await eventually('the failover', async () => {
      const named = await this.sentinel.client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', RedisSentinelServers.masterName)
      const role = String(await server.client.call('ROLE'))
      return Array.isArray(named) && Number(named[1]) === server.port && role.startsWith('master')
    })
  }

  async close(): Promise<void> {
    await Promise.all([this.sentinel.close(), this.replica.close(), this.master.close()])
  }
}
