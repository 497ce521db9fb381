/** `sluice lint`: what is allowed and yet better otherwise. Works on a configuration that passed the check of a start. */

import type { RouteResource } from '../../schema/route.js'
import type { UpstreamResource } from '../../schema/upstream.js'
import type { CheckResult } from '../check.js'
import { type ConfigIssue, type DocumentPath, IssueList, sortIssues } from '../load-issue.js'
import type { Entry, LoadedConfig } from '../load-types.js'
import { mergePlugins, mergeRoute } from '../merge.js'
import { conformanceRules } from './conformance-rules.js'
import { exposureRules } from './exposure-rules.js'
import type { LintFinding, LintRoute, LintRule, LintSeverity, LintSubject, LintUpstream } from './lint-rule.js'
import { authenticates, isOn, isOptions } from './plugin-kinds.js'
import { isLoopback } from './reach.js'
import { reliabilityRules } from './reliability-rules.js'
import { secretRules } from './secret-rules.js'
import { trafficRules } from './traffic-rules.js'

/** Every rule, in the order of the reference page. */
export const lintRules: readonly LintRule[] = [...exposureRules, ...secretRules, ...trafficRules, ...reliabilityRules, ...conformanceRules]

/** Of the warnings that every check gives. */
export const CHECK_RULE = 'check-warning'

export interface LintOptions {
  /** The text of the file. */
  readonly text: string
  /** Rules that are not asked. */
  readonly ignored: ReadonlySet<string>
  readonly nowMs: number
}

/** What the rules find, in the order of the file. */
export function lintConfiguration(checked: Extract<CheckResult, { ok: true }>, options: LintOptions): LintFinding[] {
  const subject = subjectOf(checked, options)
  const found: LintFinding[] = options.ignored.has(CHECK_RULE) ? [] : asFindings(checked.warnings, CHECK_RULE, 'warning')
  for (const rule of lintRules) {
    if (options.ignored.has(rule.id)) continue
    const issues = new IssueList(checked.config.source)
    rule.find(subject, (path, message, expected, more) => issues.warn(path, message, expected, more))
    found.push(...asFindings(sortIssues(issues.warnings), rule.id, rule.severity))
  }
  return found.sort((a, b) => a.line - b.line || a.col - b.col)
}

function asFindings(issues: readonly ConfigIssue[], rule: string, severity: LintSeverity): LintFinding[] {
  return issues.map((issue) => ({ rule, severity, ...issue }))
}

function subjectOf({ config, process }: Extract<CheckResult, { ok: true }>, { text, nowMs }: LintOptions): LintSubject {
  const isExposed = process.listeners.some(({ host }) => !isLoopback(host))
  const written = (path: DocumentPath): unknown =>
    path.reduce<unknown>(
      (value, part) => (typeof value === 'object' && value !== null ? Reflect.get(value, part) : undefined),
      config.source.value,
    )
  const entries = [
    ...config.routes,
    ...config.services.values(),
    ...config.pluginConfigs.values(),
    ...config.globalRules,
    ...config.consumerGroups.values(),
  ]
  const lines = text.split('\n')
  return {
    config,
    process,
    isExposed,
    written,
    nowMs,
    plugins: entries.flatMap(({ plugins }) => [...plugins.values()]).filter(isOn),
    upstreams: [...config.upstreams.values(), ...inlineUpstreams(config)].map(({ value, path }) => ({ value, path })),
    routes: config.routes.filter(({ value }) => value.status !== 0).map((entry) => routeOf(entry, config, isExposed)),
    isLiteral: (path) => {
      if (String(config.source.originOf(path)[1] ?? '').endsWith(' (Admin API)')) return false
      const { line, col } = config.source.locate(path)
      return !(lines[line - 1] ?? '').slice(col - 1).includes('${{')
    },
  }
}

function inlineUpstreams(config: LoadedConfig): LintUpstream[] {
  return [...config.routes, ...config.services.values()].flatMap(({ value, path }) =>
    value.upstream === undefined ? [] : [{ value: value.upstream, path: [...path, 'upstream'] }],
  )
}

function routeOf(entry: Entry<RouteResource>, config: LoadedConfig, isExposed: boolean): LintRoute {
  const { service_id: serviceId, plugin_config_id: pluginConfigId, remote_addr: address, remote_addrs: addresses } = entry.value
  const service = (serviceId === undefined ? undefined : config.services.get(String(serviceId))) ?? null
  const pluginConfig = (pluginConfigId === undefined ? undefined : config.pluginConfigs.get(String(pluginConfigId))) ?? null
  const merged = mergeRoute(entry, pluginConfig, service)
  const own = mergePlugins(merged.layers).map(({ plugin }) => plugin)
  const plugins = [...own, ...config.globalRules.flatMap((rule) => [...rule.plugins.values()])].filter(isOn)
  const isFenced = plugins.some(({ name, conf }) => name === 'ip-restriction' && isOptions(conf) && conf['whitelist'] !== undefined)
  return {
    entry,
    service,
    plugins,
    upstream: upstreamOf(merged.upstream, entry, service, config),
    authentication: plugins.find(({ name }) => authenticates(name, config.registry)) ?? null,
    isPublic: isExposed && address === undefined && addresses === undefined && !isFenced,
  }
}

function upstreamOf(
  target: ReturnType<typeof mergeRoute>['upstream'],
  entry: LintRoute['entry'],
  service: LintRoute['service'],
  config: LoadedConfig,
): LintUpstream | null {
  if (target === null) return null
  if ('id' in target) {
    const named: Entry<UpstreamResource> | undefined = config.upstreams.get(target.id)
    return named === undefined ? null : { value: named.value, path: named.path }
  }
  const owner = entry.value.upstream === undefined ? service : entry
  return { value: target.inline, path: [...(owner?.path ?? entry.path), 'upstream'] }
}
