import { describe, expect, test } from 'vitest'
import { type MachineFacts, machineChecks } from '../../src/doctor/machine-checks.js'

const LIMITS = 'Limit Soft Limit Hard Limit Units\nMax open files            1024                 1048576              files     \n'

function facts(files: Record<string, string>, binding: Partial<MachineFacts['binding']> = {}): MachineFacts {
  return {
    nodeVersion: '20.0.0',
    parallelism: 8,
    cores: 8,
    binding: { name: 'uWebSockets.js', version: '1.5.0', childApps: false, tls: true, ...binding },
    readText: (path) => files[path],
  }
}

const levels = (given: MachineFacts): Record<string, string> =>
  Object.fromEntries(machineChecks(given).map((check) => [check.name, check.level]))

describe('machineChecks', () => {
  test('says what is too small and how to change it', () => {
    const given = facts({
      '/proc/self/limits': LIMITS,
      '/proc/sys/net/core/somaxconn': '128\n',
      '/proc/sys/net/ipv4/tcp_migrate_req': '0\n',
    })
    const checks = machineChecks(given)
    const files = checks.find((check) => check.name.startsWith('open files'))
    expect(files).toMatchObject({ level: 'warning', found: '1024 (hard limit 1048576)' })
    expect(files?.advice).toContain('131072')
    expect(checks.find((check) => check.name === 'net.core.somaxconn')).toMatchObject({ level: 'warning', found: '128' })
    expect(checks.find((check) => check.name === 'net.ipv4.tcp_migrate_req')?.advice).toContain('tcp_migrate_req=1')
  })

  test('is content with a machine that was set up', () => {
    const given = facts({
      '/proc/self/limits': LIMITS.replace('1024 ', '1048576 '),
      '/proc/sys/net/core/somaxconn': '4096\n',
      '/proc/sys/net/ipv4/tcp_migrate_req': '1\n',
    })
    expect(levels(given)).toMatchObject({
      'open files (ulimit -n)': 'good',
      'net.core.somaxconn': 'good',
      'net.ipv4.tcp_migrate_req': 'good',
    })
  })

  test('does not invent what it cannot read', () => {
    const found = machineChecks(facts({})).filter((check) => check.found === 'unknown')
    expect(found.map((check) => check.level)).toEqual(['note', 'note', 'note'])
  })

  test('states the known limits of the bundled build only for that build', () => {
    expect(levels(facts({}))).toMatchObject({ 'chunk extensions': 'warning', 'request trailers': 'note', 'uWebSockets.js': 'note' })
    const official = levels(facts({}, { name: 'uws-unofficial', childApps: true, tls: false }))
    expect(official['chunk extensions']).toBeUndefined()
    expect(official).toMatchObject({ 'uWebSockets.js': 'good', 'TLS listeners': 'note' })
  })

  test('notes a CPU quota', () => {
    expect(levels({ ...facts({}), cores: 2 })['cores']).toBe('note')
  })
})
