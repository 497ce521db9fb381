/** rate-limiting with second … year: what may be wrong with it, and what it becomes. */
import type { PluginProblem, PrepareKit } from '../plugin.js'
import { bucketRule, type PeriodName, periodNames, periodSeconds, windowRule } from './clock-windows.js'
import type { KongIdentifier } from './identity.js'
import { identifierProblems, syncRateProblem } from './kong-options.js'
import { periodOf } from './kong-periods.js'
import type { PeriodLimit } from './period-limit.js'
import type { Conf } from './schema.js'
import { ownScope } from './scope.js'
import { storeOf } from './store.js'

export interface Periods {
  readonly shape: 'periods'
  readonly limit: PeriodLimit
  /** In the order of the rules. */
  readonly names: readonly PeriodName[]
  readonly isBucket: boolean
  readonly identifier: KongIdentifier
  readonly headerName: string
  readonly path: string
}

/** The periods that have a limit, shortest first. */
export function limitsOf(conf: Conf): { readonly name: PeriodName; readonly limit: number }[] {
  return periodNames.flatMap((name) => {
    const limit = conf[name] ?? null
    return limit === null ? [] : [{ name, limit }]
  })
}

export function periodProblems(conf: Conf): PluginProblem[] {
  const identifier = conf.limit_by ?? 'consumer'
  return [
    ...orderProblems(conf),
    ...identifierProblems('limit_by', [identifier], conf),
    ...syncRateProblem(conf.sync_rate),
    ...combinationProblems(conf),
  ]
}

function orderProblems(conf: Conf): PluginProblem[] {
  const limits = limitsOf(conf)
  return limits.flatMap((longer, index) =>
    limits
      .slice(0, index)
      .filter((shorter) => longer.limit < shorter.limit)
      .map((shorter) => ({
        path: longer.name,
        message:
          `The limit for ${longer.name}(${longer.limit.toFixed(1)}) cannot be lower than ` +
          `the limit for ${shorter.name}(${shorter.limit.toFixed(1)})`,
      })),
  )
}

function combinationProblems(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  const isLocal = (conf.policy ?? 'local') === 'local'
  const isPeriodic = (conf.sync_rate ?? -1) > 0
  if (conf.sync_rate === 0) problems.push({ path: 'sync_rate', message: 'sync_rate is 0; expected -1, or at least 0.02 seconds' })
  if (isLocal && isPeriodic)
    problems.push({ path: 'sync_rate', message: 'sync_rate is for policy redis; there is nothing to synchronise with local' })
  if (conf.count_rejected !== true) return problems
  if (conf.algorithm === 'token-bucket') {
    problems.push({ path: 'count_rejected', message: 'count_rejected is not possible with algorithm token-bucket; expected fixed-window' })
  }
  if (!isLocal && isPeriodic) {
    problems.push({ path: 'count_rejected', message: 'count_rejected needs Redis on every request; expected sync_rate -1 with it' })
  }
  return problems
}

export function preparePeriods(conf: Conf, kit: PrepareKit): Periods {
  const limits = limitsOf(conf)
  const isBucket = conf.algorithm === 'token-bucket'
  const spec = {
    rules: limits.map(({ name, limit }) => (isBucket ? bucketRule(name, limit) : windowRule(name, limit))),
    countRefused: conf.count_rejected ?? false,
    dryRun: false,
    store: storeOf(conf, (conf.sync_rate ?? -1) > 0 ? 'lease' : 'exact', kit),
  }
  return {
    shape: 'periods',
    limit: {
      scoped: ownScope('rate-limiting', spec, kit),
      periods: limits.map(({ name }) => periodOf(periodSeconds[name])),
      hideHeaders: conf.hide_client_headers ?? false,
      code: conf.error_code ?? 429,
      message: conf.error_message ?? 'API rate limit exceeded',
    },
    names: limits.map(({ name }) => name),
    isBucket,
    identifier: conf.limit_by ?? 'consumer',
    headerName: conf.header_name ?? '',
    path: conf.path ?? '',
  }
}
