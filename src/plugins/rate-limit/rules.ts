/** The limits of rate-limit as rules, and what may be wrong with them. */
import { type LimitRule, type PluginProblem, templateProblem } from '../plugin.js'
import type { AlgorithmName, Conf, LimitConf } from './schema.js'

const TTL_SECONDS = 3600

type Field = 'limit' | 'window' | 'start' | 'rate' | 'burst' | 'ttl'
const fields: readonly Field[] = ['limit', 'window', 'start', 'rate', 'burst', 'ttl']

const required: { readonly [name in AlgorithmName]: readonly Field[] } = {
  'fixed-window': ['limit'],
  'sliding-window': ['limit', 'window'],
  'sliding-log': ['limit', 'window'],
  'token-bucket': ['rate'],
  'leaky-bucket': ['rate'],
  concurrency: ['limit'],
}

const optional: { readonly [name in AlgorithmName]: readonly Field[] } = {
  'fixed-window': ['window', 'start'],
  'sliding-window': [],
  'sliding-log': [],
  'token-bucket': ['burst'],
  'leaky-bucket': ['burst'],
  concurrency: ['ttl'],
}

/** Algorithms in which a refused request can be counted. */
const countsRefused: ReadonlySet<AlgorithmName> = new Set(['fixed-window', 'sliding-window', 'sliding-log'])
/** Algorithms whose units can be taken before they are spent. */
const leasable: ReadonlySet<AlgorithmName> = new Set(['fixed-window', 'sliding-window', 'token-bucket'])

export function limitProblems(limits: readonly LimitConf[], conf: Conf, path: string): PluginProblem[] {
  const names = new Set<string>()
  return limits.flatMap((limit, index) => {
    const at = `${path}.${index}`
    const problems = [...fieldProblems(limit, conf.algorithm, at), ...comboProblems(limit.algorithm ?? conf.algorithm, conf, at)]
    const name = limitName(limits, index)
    if (names.has(name)) problems.push({ path: `${at}.name`, message: `two limits are called "${name}"; expected different names` })
    names.add(name)
    const template = limit.key === undefined ? null : templateProblem(limit.key)
    if (template !== null) problems.push({ path: `${at}.key`, message: template })
    return problems
  })
}

function fieldProblems(limit: LimitConf, fallback: AlgorithmName, path: string): PluginProblem[] {
  const algorithm = limit.algorithm ?? fallback
  const isCalendar = limit.start === 'month' || limit.start === 'year'
  const needs = algorithm === 'fixed-window' && !isCalendar ? (['limit', 'window'] as const) : required[algorithm]
  const takes = [...required[algorithm], ...optional[algorithm]].filter((field) => !(isCalendar && field === 'window'))
  const problems: PluginProblem[] = []
  for (const field of needs) {
    if (limit[field] === undefined) problems.push({ path, message: `a ${algorithm} limit needs ${field}` })
  }
  for (const field of fields) {
    if (limit[field] === undefined || takes.includes(field)) continue
    const where = isCalendar && field === 'window' ? `a window of start ${limit.start}` : `a ${algorithm} limit`
    problems.push({ path: `${path}.${field}`, message: `${field} has no meaning for ${where}; expected ${takes.join(', ')}` })
  }
  return problems
}

function comboProblems(algorithm: AlgorithmName, conf: Conf, path: string): PluginProblem[] {
  const problems: PluginProblem[] = []
  if (conf.count_rejected && !countsRefused.has(algorithm)) {
    problems.push({ path, message: `count_rejected is not possible with ${algorithm}; expected ${[...countsRefused].join(', ')}` })
  }
  if (conf.store === 'lease' && !leasable.has(algorithm)) {
    problems.push({ path, message: `store lease is not possible with ${algorithm}; expected ${[...leasable].join(', ')}` })
  }
  return problems
}

export function limitName(limits: readonly LimitConf[], index: number): string {
  return limits[index]?.name ?? (limits.length === 1 ? 'default' : `limit-${index + 1}`)
}

export function ruleOf(limit: LimitConf, fallback: AlgorithmName): LimitRule {
  const algorithm = limit.algorithm ?? fallback
  const windowMs = Math.round((limit.window ?? 0) * 1000)
  const size = limit.limit ?? 0
  switch (algorithm) {
    case 'fixed-window':
      return { algorithm, limit: size, windowMs, start: limit.start ?? 'clock' }
    case 'sliding-window':
    case 'sliding-log':
      return { algorithm, limit: size, windowMs }
    case 'token-bucket':
    case 'leaky-bucket':
      return { algorithm, rate: limit.rate ?? 1, burst: limit.burst ?? 0 }
    case 'concurrency':
      return { algorithm, limit: size, ttlMs: Math.round((limit.ttl ?? TTL_SECONDS) * 1000) }
  }
}
