/** Asks the admin server of a running gateway. */
import { readFileSync } from 'node:fs'
import { Agent, request } from 'undici'
import { UsageError } from '../../base/errors.js'
import { parseAddress } from '../address.js'

export interface AdminTarget {
  /** `http://127.0.0.1:9180`, or `host:port`. */
  readonly admin: string
  /** File that holds the key; null = SLUICE_ADMIN_KEY. */
  readonly keyFile: string | null
  /** PEM file of the authority of an HTTPS server; null = those of the system. */
  readonly caFile: string | null
}

export interface AdminReply {
  readonly status: number
  readonly body: unknown
}

/** A gateway may take long over a very large configuration. */
const REPLY_TIMEOUT_MS = 120_000
const CONNECT_TIMEOUT_MS = 5_000

export class AdminClient {
  private readonly agent: Agent
  private readonly origin: string
  private readonly key: string

  /** Throws UsageError when there is no key, or a file cannot be read. */
  constructor(target: AdminTarget, environment: NodeJS.ProcessEnv) {
    this.origin = originOf(target.admin)
    this.key = keyOf(target.keyFile, environment)
    const ca = target.caFile === null ? {} : { ca: readText(target.caFile, '--ca') }
    this.agent = new Agent({
      connect: { timeout: CONNECT_TIMEOUT_MS, ...ca },
      headersTimeout: REPLY_TIMEOUT_MS,
      bodyTimeout: REPLY_TIMEOUT_MS,
    })
  }

  /** Rejects with UsageError when there is no answer, or one that says that the key is wrong. */
  async ask(method: 'GET' | 'POST', path: string, body?: object): Promise<AdminReply> {
    try {
      const reply = await request(`${this.origin}${path}`, {
        method,
        dispatcher: this.agent,
        headers: { 'x-api-key': this.key, ...(body !== undefined && { 'content-type': 'application/json' }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      })
      const answer: AdminReply = { status: reply.statusCode, body: parse(await reply.body.text()) }
      if (answer.status === 401 || answer.status === 403) {
        throw new UsageError(`${this.origin}: ${textOf(answer)}; expected the key of an admin in SLUICE_ADMIN_KEY or --key-file`)
      }
      return answer
    } catch (error) {
      if (error instanceof UsageError) throw error
      const reason = error instanceof Error ? error.message : String(error)
      throw new UsageError(`${this.origin}: no answer (${reason}); expected the admin server of a running gateway, see --admin`, 1)
    }
  }

  async close(): Promise<void> {
    await this.agent.close()
  }
}

/** Runs `use` with a client, which is closed afterwards. */
export async function withClient<T>(target: AdminTarget, use: (client: AdminClient) => Promise<T>): Promise<T> {
  const client = new AdminClient(target, process.env)
  try {
    return await use(client)
  } finally {
    await client.close()
  }
}

/** What an answer says that is no success. */
export function textOf({ status, body }: AdminReply): string {
  const text = typeof body === 'object' && body !== null && 'error_msg' in body ? String(body.error_msg) : ''
  const more = typeof body === 'object' && body !== null && 'description' in body ? ` (${String(body.description)})` : ''
  return text === '' ? `answered ${status}` : `${text}${more}`
}

function originOf(admin: string): string {
  if (/^https?:\/\/[^/]+\/?$/.test(admin)) return admin.replace(/\/$/, '')
  const { host, port } = parseAddress(admin, '--admin')
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}

function keyOf(file: string | null, environment: NodeJS.ProcessEnv): string {
  const key = file === null ? (environment['SLUICE_ADMIN_KEY'] ?? '') : readText(file, '--key-file').trim()
  if (key === '') throw new UsageError('no admin key; expected one in SLUICE_ADMIN_KEY, or the file that holds it in --key-file')
  return key
}

function readText(file: string, flag: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new UsageError(`${flag} ${file}: ${error instanceof Error ? error.message : String(error)}; expected a file that can be read`)
  }
}

function parse(text: string): unknown {
  try {
    return text === '' ? null : JSON.parse(text)
  } catch {
    return null
  }
}
