/** `GET /v1/explain` of the status server: from query parameters to the router's explanation. */
import { isIP } from 'node:net'
import { UsageError } from '../base/errors.js'
import { explain } from '../dataplane/router/explain.js'
import type { CompiledRoute, Json, RouterOptions } from '../schema/compiled.js'
import type { RouterBlocks } from '../shared/router-tables.js'
import type { ExplainQuery } from '../telemetry/status-server.js'

const headerPrefix = 'header.'

/**
 * Explains by the configuration that serves. Besides method, host and path: `remote_addr`, `scheme` and `header.<name>`.
 * Throws UsageError for anything else.
 */
export function explainQuery(
  query: ExplainQuery,
  routes: readonly (CompiledRoute | null)[],
  router: RouterOptions,
  tables: RouterBlocks,
): Json {
  const headers: { [name: string]: string } = {}
  let remoteAddress = '127.0.0.1'
  let scheme: 'http' | 'https' = 'http'
  for (const [name, value] of query.parameters) {
    if (name.startsWith(headerPrefix) && name.length > headerPrefix.length) headers[name.slice(headerPrefix.length)] = value
    else if (name === 'remote_addr' && isIP(value) !== 0) remoteAddress = value
    else if (name === 'scheme' && (value === 'http' || value === 'https')) scheme = value
    else
      throw new UsageError(
        `parameter "${name}" with this value is not understood; expected remote_addr=ADDRESS, scheme=http|https or header.NAME=VALUE`,
      )
  }
  const { method, host, path } = query
  const found = explain(tables, routes, router, { method, host, path, headers, remoteAddress, scheme })
  return {
    matched: found.matched && { ...found.matched, params: { ...found.matched.params } },
    path: { ...found.path },
    candidates: found.candidates.map((candidate) => ({ ...candidate })),
    routes: found.routes,
    omitted: found.omitted,
  }
}
