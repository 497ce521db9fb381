/** What forward-auth and opa have in common: the options of the service that decides, and the client that asks it. */
import { fieldNameProblem, type HttpSettings, itemProblems, type PluginProblem, Type } from '../plugin.js'

/** Options of the HTTP call. */
export const serviceOptions = {
  ssl_verify: Type.Boolean({ default: true, description: 'Verify the certificate of the service.' }),
  timeout: Type.Integer({
    minimum: 1,
    maximum: 60_000,
    default: 3000,
    description: 'Milliseconds within which the whole answer must be there.',
  }),
  keepalive: Type.Boolean({ default: true, description: 'Keep connections for later requests.' }),
  keepalive_timeout: Type.Integer({
    minimum: 1000,
    maximum: 86_400_000,
    default: 60_000,
    description: 'Milliseconds for which an unused connection is kept.',
  }),
  keepalive_pool: Type.Integer({
    minimum: 1,
    maximum: 1024,
    default: 5,
    description: 'Connections that a worker may open and keep. Below 64, 64 may be opened: questions must not wait for one another.',
  }),
}

interface ServiceConf {
  readonly ssl_verify: boolean
  readonly timeout: number
  readonly keepalive: boolean
  readonly keepalive_timeout: number
  readonly keepalive_pool: number
}

const CONNECTIONS_MIN = 64
/** Longest answer: a decision, or a page that the client is shown instead. */
const ANSWER_BYTES_MAX = 1_048_576

/** Plain JSON, so that `prepare` may return it. */
export interface Service {
  readonly settings: HttpSettings
  /** Path and query. */
  readonly path: string
}

/** The text of what is wrong with the address of a service, or null. */
export function addressProblemOf(text: string): string | null {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || !/^https?:$/.test(url.protocol))
    return `${JSON.stringify(text)} is no address; expected http://host:port/path or https://…`
  if (url.username !== '' || url.password !== '') return 'user names and passwords in addresses are not supported; expected extra_headers'
  return url.hash === '' ? null : 'the part from # on is never sent; expected an address without it'
}

/** The service at an address that `addressProblemOf` accepts; `suffix` is put behind its path. */
export function serviceAt(address: string, conf: ServiceConf, suffix = ''): Service {
  const url = new URL(address)
  const path = suffix === '' ? url.pathname : `${url.pathname.replace(/\/$/, '')}${suffix}`
  return {
    path: `${path}${url.search}`,
    settings: {
      origin: url.origin,
      timeoutMs: conf.timeout,
      connections: Math.max(CONNECTIONS_MIN, conf.keepalive_pool),
      keepaliveMs: conf.keepalive ? conf.keepalive_timeout : 0,
      verifyTls: conf.ssl_verify,
      maxResponseBytes: ANSWER_BYTES_MAX,
    },
  }
}

/** Problems of a list of names of header fields. */
export function nameProblems(path: string, names: readonly string[] | undefined): PluginProblem[] {
  return itemProblems(path, names, fieldNameProblem)
}

export const fieldNames = (description: string) => Type.Array(Type.String({ minLength: 1, maxLength: 256 }), { default: [], description })
