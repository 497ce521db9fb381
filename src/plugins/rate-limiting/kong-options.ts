/** Options that Kong's two rate-limit plugins have in common. */
import { fieldNameProblem, nullable, type PluginProblem, Type } from '../plugin.js'

export const KONG_REDIS_TIMEOUT_MS = 2000
/** Shorter periods of `sync_rate` are refused: they would be calls for each request, only with larger errors. */
const SYNC_RATE_MIN = 0.02

export const kongAnswer = {
  hide_client_headers: nullable(Type.Boolean(), {
    description: 'Send no rate headers. Retry-After is sent with refusals all the same.',
    default: false,
  }),
  error_code: nullable(Type.Integer({ minimum: 200, maximum: 599 }), { description: 'Status of refusals.', default: 429 }),
  error_message: nullable(Type.String({ minLength: 1 }), { description: 'Text of refusals.', default: 'API rate limit exceeded' }),
}

export const identifierOptions = {
  header_name: nullable(Type.String({ minLength: 1, maxLength: 256 }), { description: 'The header that identifies clients.' }),
  path: nullable(Type.String({ minLength: 1, pattern: '^/' }), {
    description: 'The path whose requests count together; requests of other paths count per client address.',
  }),
}

interface IdentifierConf {
  readonly header_name?: string | null
  readonly path?: string | null
}

/** What is missing for these identifiers, which `option` chose. */
export function identifierProblems(option: string, identifiers: readonly string[], conf: IdentifierConf): PluginProblem[] {
  const problems: PluginProblem[] = []
  const header = conf.header_name ?? null
  const wrongName = header === null ? null : fieldNameProblem(header)
  if (wrongName !== null) problems.push({ path: 'header_name', message: wrongName })
  if (header === null && identifiers.includes('header')) {
    problems.push({ path: 'header_name', message: `${option} header needs the name of the header in header_name` })
  }
  if ((conf.path ?? null) === null && identifiers.includes('path')) {
    problems.push({ path: 'path', message: `${option} path needs the path in path` })
  }
  return problems
}

/** Periods that neither plugin takes. */
export function syncRateProblem(rate: number | null | undefined): PluginProblem[] {
  if (rate === null || rate === undefined || rate === -1 || rate === 0 || rate >= SYNC_RATE_MIN) return []
  return [{ path: 'sync_rate', message: `sync_rate is ${rate}; expected -1, 0, or at least ${SYNC_RATE_MIN} seconds` }]
}
