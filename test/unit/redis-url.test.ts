import { describe, expect, test } from 'vitest'
import { parseRedisUrl, redisUrlDefaults } from '../../src/schema/redis-url.js'

const parse = (url: string) => parseRedisUrl(url, redisUrlDefaults)
const plain = { username: null, password: null, database: 0, tls: null, timeoutMs: 1000, sentinel: null }

test.each([
  ['redis://h', { kind: 'redis', connection: { ...plain, nodes: [{ host: 'h', port: 6379 }] } }],
  ['redis://[::1]:7/3', { kind: 'redis', connection: { ...plain, nodes: [{ host: '::1', port: 7 }], database: 3 } }],
  ['redis://:p%40ss@h/', { kind: 'redis', connection: { ...plain, nodes: [{ host: 'h', port: 6379 }], password: 'p@ss' } }],
  [
    'rediss://u:p:q@h:1',
    {
      kind: 'redis',
      connection: { ...plain, nodes: [{ host: 'h', port: 1 }], username: 'u', password: 'p:q', tls: { verify: true, serverName: null } },
    },
  ],
  [
    'redis+cluster://a:1,b',
    {
      kind: 'redis-cluster',
      connection: {
        ...plain,
        nodes: [
          { host: 'a', port: 1 },
          { host: 'b', port: 6379 },
        ],
      },
    },
  ],
  [
    'redis+sentinel://a,b:2/my%20master/4',
    {
      kind: 'redis-sentinel',
      connection: {
        ...plain,
        nodes: [
          { host: 'a', port: 26_379 },
          { host: 'b', port: 2 },
        ],
        database: 4,
        sentinel: { masterName: 'my master', role: 'master', username: null, password: null },
      },
    },
  ],
])('%s', (url, settings) => expect(parse(url)).toEqual(settings))

describe('refuses, without repeating a password', () => {
  test.each([
    ['http://h', /no URL of Redis/],
    ['redis://', /no URL of Redis/],
    ['redis://:geheim@h:x', /not host:port/],
    ['redis://:geheim@h:70000', /not host:port/],
    ['redis://:geheim@a,b', /2 hosts are named/],
    ['redis://:geheim@h/one', /database is not a number/],
    ['redis://:geheim@h/1/2', /database is not a number/],
    ['redis+cluster://:geheim@h/1', /a cluster has no databases/],
    ['redis+sentinel://:geheim@h', /name of the master is missing/],
    ['redis://:geheim%zz@h', /percent-encoding/],
  ])('%s', (url, problem) => {
    const found = parse(url)
    expect(found).toMatch(problem)
    expect(found).not.toContain('geheim')
  })
})
