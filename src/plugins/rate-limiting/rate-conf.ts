/** rate-limiting with rate and burst: what may be wrong with it, and what it becomes. */
import { fieldNameProblem, type LimitRule, type PluginProblem, type PrepareKit, templateProblem, variableProblem } from '../plugin.js'
import { missingHeader, variableName } from './identity.js'
import type { Conf } from './schema.js'
import { ownScope } from './scope.js'
import { type SimpleLimit, slidingRule } from './simple-limit.js'
import { storeOf } from './store.js'

export interface Rate {
  readonly shape: 'rate'
  readonly limit: SimpleLimit
}

export function rateProblems(conf: Conf): PluginProblem[] {
  const problems = keyProblems(conf)
  const rate = conf.rate ?? null
  if (rate === null) problems.push({ path: 'rate', message: 'burst, window_size, key_type and key belong to rate, which is not set' })
  else if ((conf.window_size ?? null) !== null && !Number.isInteger(rate)) {
    problems.push({ path: 'rate', message: `rate is ${rate}; with window_size it counts requests, expected a whole number` })
  } else if ((conf.window_size ?? null) === null) problems.push(reading(rate, conf.burst ?? 0))
  return problems
}

/** No reference gateway has this shape, so that its users cannot know which of the two readings it is. */
function reading(rate: number, burst: number): PluginProblem {
  const message = `read as ${rate} requests per second and ${burst} more at once; with window_size it would be ${rate + burst} requests per window`
  return { path: 'rate', message, isWarning: true }
}

function keyProblems(conf: Conf): PluginProblem[] {
  const type = conf.key_type ?? 'remote_addr'
  const key = conf.key ?? null
  const header = conf.header_name ?? null
  const problems: PluginProblem[] = []
  const wrongName = header === null ? null : fieldNameProblem(header)
  if (wrongName !== null) problems.push({ path: 'header_name', message: wrongName })
  if (type === 'header' && header === null) problems.push(missingHeader('header_name'))
  const needsKey = type === 'var' || type === 'var_combination' || type === 'constant'
  if (needsKey && key === null) problems.push({ path: 'key', message: `key_type ${type} needs a key` })
  if (!needsKey && key !== null) problems.push({ path: 'key', message: `key has no meaning with key_type ${type}; expected no key` })
  const message =
    key === null ? null : type === 'var' ? variableProblem(variableName(key)) : type === 'var_combination' ? templateProblem(key) : null
  if (message !== null) problems.push({ path: 'key', message })
  return problems
}

export function prepareRate(conf: Conf, kit: PrepareKit): Rate {
  const rate = conf.rate ?? 1
  const burst = conf.burst ?? 0
  const windowSize = conf.window_size ?? null
  const rule: LimitRule = windowSize === null ? { algorithm: 'token-bucket', rate, burst } : slidingRule(rate, burst, windowSize)
  const isOneForAll = conf.key_type === 'constant'
  const spec = { rules: [rule], countRefused: false, dryRun: false, store: storeOf(conf, 'exact', kit), isOneForAll }
  return {
    shape: 'rate',
    limit: {
      scoped: ownScope('rate-limiting', spec, kit),
      key: { type: conf.key_type ?? 'remote_addr', key: conf.key ?? '', headerName: conf.header_name ?? '' },
      shownLimit: windowSize === null ? rate : rate + burst,
      showHeaders: conf.hide_client_headers !== true,
      code: conf.error_code ?? 429,
      message: conf.error_message ?? 'Rate limit exceeded',
    },
  }
}
