/** The example and the page about the rate-limit plugins: what they show passes the check, as do the files of other gateways. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { checkConfiguration } from '../../src/controlplane/check.js'
import { formatIssue } from '../../src/controlplane/load-issue.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'sluice-limits-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Errors and warnings of a configuration, without their places. */
async function issuesOf(file: string): Promise<{ readonly errors: string[]; readonly warnings: string[] }> {
  const result = await checkConfiguration(file, {})
  return { errors: result.ok ? [] : result.errors.map(formatIssue), warnings: result.warnings.map(formatIssue) }
}

/** A block `plugins:` as part of a route. */
async function issuesOfPlugins(block: string, process = ''): Promise<{ readonly errors: string[]; readonly warnings: string[] }> {
  const file = join(folder, 'plugins.yaml')
  const indented = block.replace(/^(?=.)/gm, '    ')
  writeFileSync(file, `routes:\n  - uri: /*\n    upstream: { nodes: { '127.0.0.1:8080': 1 } }\n${indented}\n${process}\n`)
  return issuesOf(file)
}

/** These snippets have no authentication; whole configurations of users do. */
const unauthenticated = expect.stringContaining('counts consumers, but no plugin authenticates them here')
const reading = expect.stringContaining('read as 200 requests per second and 50 more at once')

test('config/examples/rate-limit.yaml is right', async () => {
  expect(await issuesOf(join(ROOT, 'config/examples/rate-limit.yaml'))).toEqual({ errors: [], warnings: [reading, unauthenticated] })
})

test('docs/images/limits.svg is what the engine does', () => {
  const drawn = join(folder, 'limits.svg')
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'scripts/draw-limits.mjs'), drawn], { encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, ''])
  expect(readFileSync(drawn, 'utf8')).toBe(readFileSync(join(ROOT, 'docs/images/limits.svg'), 'utf8'))
})

describe('docs/rate-limiting-plugins.md', () => {
  const page = readFileSync(join(ROOT, 'docs/rate-limiting-plugins.md'), 'utf8')
  const snippets = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map((match) => match[1] ?? '')

  test('there are some', () => {
    expect(snippets.length).toBeGreaterThanOrEqual(5)
  })
  test.each(snippets)('%s', async (snippet) => {
    // The page names the Redis of the process in a snippet of its own.
    const process = snippet.startsWith('sluice:') ? snippet : "sluice: { redis: { url: 'redis://127.0.0.1:6379' } }"
    const { errors, warnings } = await issuesOfPlugins(snippet.startsWith('sluice:') ? '' : snippet, process)
    expect(errors).toEqual([])
    const expected = [...(snippet.includes('rate: 200') ? [reading] : []), ...(snippet.includes('consumer') ? [unauthenticated] : [])]
    expect(warnings).toEqual(expected)
  })
})

describe('confs of the guide', () => {
  test('all that Kong writes out, with nulls', async () => {
    const { errors, warnings } = await issuesOfPlugins(`plugins:
  rate-limiting:
    second: null
    minute: 100
    hour: 1000
    limit_by: consumer
    header_name: null
    policy: redis
    fault_tolerant: true
    redis:
      host: redis-cluster
      port: 6379
      password: null
      database: 0
    hide_client_headers: false`)
    expect([errors, warnings]).toEqual([[], [unauthenticated]])
    expect(warnings[0]).toContain('plugins.yaml:9:19: routes[0].plugins.rate-limiting.limit_by:')
  })
  test('rate and burst by consumer or by variable', async () => {
    for (const [key, more] of [
      ['key_type: consumer_name', [unauthenticated]],
      ['key_type: var\n    key: remote_addr', []],
    ] as const) {
      const { errors, warnings } = await issuesOfPlugins(`plugins:\n  rate-limiting:\n    rate: 200\n    burst: 50\n    ${key}`)
      expect([errors, warnings]).toEqual([[], [reading, ...more]])
    }
  })
  test('errors name file, line and option', async () => {
    const { errors } = await issuesOfPlugins('plugins:\n  rate-limiting:\n    minute: 100\n    hour: 10')
    expect(errors).toHaveLength(1)
    expect(errors[0]).toContain('plugins.yaml:7:')
    expect(errors[0]).toContain('The limit for hour(10.0) cannot be lower than the limit for minute(100.0)')
    const both = await issuesOfPlugins('plugins:\n  rate-limiting:\n    minute: 100\n    rate: 10')
    expect(both.errors[0]).toContain('belong to different shapes')
    const wrong = await issuesOfPlugins('plugins:\n  rate-limiting:\n    minute: 100\n    limit_by: planet')
    expect(wrong.errors[0]).toContain('limit_by')
  })
  test('confs that share counters keep them in one store', async () => {
    const file = join(folder, 'shared.yaml')
    const route = (id: string, more: object) => ({
      id,
      uri: `/${id}`,
      upstream: { nodes: { '127.0.0.1:8080': 1 } },
      plugins: { 'rate-limit': { limits: [{ limit: 5, window: 60 }], share: 'both', ...more } },
    })
    const redis = { store: 'redis', redis: { address: '127.0.0.1:6379' } }
    writeFileSync(file, JSON.stringify({ routes: [route('a', {}), route('b', { headers: 'ietf' })] }))
    expect((await issuesOf(file)).errors).toEqual([])
    writeFileSync(file, JSON.stringify({ routes: [route('a', {}), route('b', redis)] }))
    const { errors } = await issuesOf(file)
    expect(errors).toHaveLength(1)
    expect(errors[0]).toContain('the counters "both" are shared with routes/a, which keeps them in another store')
  })
  test('options that have no meaning here are said, not swallowed', async () => {
    const { errors, warnings } = await issuesOfPlugins(
      'plugins:\n  rate-limiting-advanced:\n    limit: [1]\n    window_size: [1]\n    dictionary_name: kong_rate_limiting_counters',
    )
    expect(errors).toEqual([])
    expect(warnings[0]).toContain('unknown option "dictionary_name" of plugin rate-limiting-advanced, it has no effect')
  })
})
