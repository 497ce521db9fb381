/** What a rule of `sluice lint` is, and what it looks at. */

import type { ProcessConfig } from '../../schema/process.js'
import type { RouteResource, ServiceResource } from '../../schema/route.js'
import type { UpstreamResource } from '../../schema/upstream.js'
import type { ConfigIssue, DocumentPath, IssueOptions } from '../load-issue.js'
import type { CheckedPlugin, Entry, LoadedConfig } from '../load-types.js'

/** error: open to anybody or certain to go wrong; warning: likely to be regretted; advice: worth a look. */
export type LintSeverity = 'error' | 'warning' | 'advice'
export const lintSeverities: readonly LintSeverity[] = ['error', 'warning', 'advice']

/** Written for the reference page: ids never change their meaning. */
export interface LintRule {
  readonly id: string
  readonly severity: LintSeverity
  readonly group: 'security' | 'reliability' | 'conformance' | 'tidiness'
  /** What it finds, one sentence. */
  readonly finds: string
  /** Why that is a problem. */
  readonly why: string
  readonly find: (subject: LintSubject, report: LintReport) => void
}

/** Tells of one place. `message`: what was found, without values of secrets; `expected`: what would be right. */
export type LintReport = (path: DocumentPath, message: string, expected: string, options?: IssueOptions) => void

export interface LintFinding extends ConfigIssue {
  readonly rule: string
  readonly severity: LintSeverity
}

/** A route with all that belongs to it. */
export interface LintRoute {
  readonly entry: Entry<RouteResource>
  readonly service: Entry<ServiceResource> | null
  /** In force: own ones, those of plugin_config and service, global rules. */
  readonly plugins: readonly CheckedPlugin[]
  readonly upstream: LintUpstream | null
  /** The first plugin that authenticates, or null. */
  readonly authentication: CheckedPlugin | null
  /** Clients from anywhere can reach it. */
  readonly isPublic: boolean
}

export interface LintUpstream {
  readonly value: UpstreamResource
  readonly path: DocumentPath
}

export interface LintSubject {
  readonly config: LoadedConfig
  readonly process: ProcessConfig
  /** In use. */
  readonly routes: readonly LintRoute[]
  readonly upstreams: readonly LintUpstream[]
  /** All plugins of all resources but consumers, those that are switched off excepted. */
  readonly plugins: readonly CheckedPlugin[]
  /** Some listener is reachable from other machines. */
  readonly isExposed: boolean
  /** The value at a path of the configuration, as it was written. */
  readonly written: (path: DocumentPath) => unknown
  /** Whether a text stands in the file itself: no reference to the environment, no change by the Admin API. */
  readonly isLiteral: (path: DocumentPath) => boolean
  readonly nowMs: number
}
