/**
 * rate-limiting: two plugins in one name, told apart by their options.
 *
 *   second, minute, hour, day, month, year   Kong's plugin: fixed windows on the wall clock, all decided together
 *   rate, burst                              a token bucket: `rate` per second, `burst` more at once
 *   rate, burst, window_size                 a sliding window: `rate` + `burst` per `window_size` seconds
 *
 * Runs on workers, access phase. State: the counters of the store, changed in one atomic step per request. If Redis fails: the request
 * passes without rate headers (`fault_tolerant`), or is answered with 500.
 */
import { definePlugin, type LinkKit, type PluginInstance, type PluginProblem, type PrepareKit } from './plugin.js'
import { bucketTimes, clockTimes, periodNames } from './rate-limiting/clock-windows.js'
import { identifierKey } from './rate-limiting/identity.js'
import { linkPeriods } from './rate-limiting/period-limit.js'
import { type Periods, periodProblems, preparePeriods } from './rate-limiting/periods-conf.js'
import { prepareRate, type Rate, rateProblems } from './rate-limiting/rate-conf.js'
import { type Conf, periodOptions, rateOptions, schema } from './rate-limiting/schema.js'
import { linkSimple } from './rate-limiting/simple-limit.js'

export const rateLimiting = definePlugin<Conf, Periods | Rate>({
  name: 'rate-limiting',
  priority: 910,
  description: 'Limits requests per second, minute, hour, day, month and year, or by a rate with a burst.',
  schema,
  check,
  prepare: (conf: Conf, kit: PrepareKit) => (isRate(conf) ? prepareRate(conf, kit) : preparePeriods(conf, kit)),
  link,
})

function isRate(conf: Conf): boolean {
  return (conf.rate ?? null) !== null
}

function check(conf: Conf): PluginProblem[] {
  const entries: { readonly [name: string]: unknown } = conf
  const given = (options: object): string[] => Object.keys(options).filter((name) => (entries[name] ?? null) !== null)
  const ofPeriods = given(periodOptions)
  const ofRate = given(rateOptions)
  const problems: PluginProblem[] = []
  if (conf.policy === 'cluster') {
    problems.push({ path: 'policy', message: 'policy cluster needs a database, which this gateway does not have; expected local or redis' })
  }
  if (ofPeriods.length > 0 && ofRate.length > 0) {
    const message = `${ofRate.join(', ')} and ${ofPeriods.join(', ')} belong to different shapes of this plugin; expected the options of one`
    return [...problems, { path: '', message }]
  }
  if (ofRate.length > 0) return [...problems, ...rateProblems(conf)]
  if (!periodNames.some((name) => ofPeriods.includes(name))) {
    const message = `at least one of these fields must be non-empty: ${periodNames.join(', ')}, or rate`
    return [...problems, { path: '', message }]
  }
  return [...problems, ...periodProblems(conf)]
}

function link(prepared: Periods | Rate, kit: LinkKit): PluginInstance {
  if (prepared.shape === 'rate') return linkSimple(prepared.limit, kit)
  const { limit, names, isBucket, identifier, headerName, path } = prepared
  return linkPeriods(limit, isBucket ? bucketTimes : clockTimes(names), identifierKey(identifier, { headerName, path }, kit), kit)
}
