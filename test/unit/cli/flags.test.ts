import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.js'
import { formatAddress, parseAddress, parseInteger, parseSeconds } from '../../../src/cli/address.js'
import { chooseFile } from '../../../src/cli/flags.js'
import { removePidFile, writePidFile } from '../../../src/cli/pid-file.js'
import { readyLine } from '../../../src/cli/ready-line.js'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-flags-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('addresses', () => {
  test.each([
    ['127.0.0.1:9080', '127.0.0.1', 9080],
    ['[::1]:0', '::1', 0],
    ['localhost:80', 'localhost', 80],
    [':8080', '0.0.0.0', 8080],
    ['8080', '0.0.0.0', 8080],
  ])('%s', (text, host, port) => {
    expect(parseAddress(text, '--listen')).toEqual({ host, port })
  })

  test.each(['', 'localhost', '127.0.0.1:', '127.0.0.1:65536', '::1:80', '[localhost]:80', 'a b:80:90', '127.0.0.1:-1'])(
    'refuses %j',
    (text) => {
      expect(() => parseAddress(text, '--listen')).toThrow(UsageError)
      expect(() => parseAddress(text, '--listen')).toThrow(/^--listen: .* is not an address; expected HOST:PORT/)
    },
  )

  test('IPv6 is printed in brackets', () => {
    expect(formatAddress({ host: '::1', port: 80 })).toBe('[::1]:80')
    expect(formatAddress({ host: '127.0.0.1', port: 80 })).toBe('127.0.0.1:80')
  })
})

describe('numbers', () => {
  test('whole numbers within bounds', () => {
    expect(parseInteger('4', '--workers', 1, 512)).toBe(4)
    for (const text of ['0', '513', '1.5', '-1', 'x', '', '1e2']) expect(() => parseInteger(text, '--workers', 1, 512)).toThrow(/--workers/)
  })

  test('seconds become milliseconds', () => {
    expect(parseSeconds('0.25', '--drain-timeout')).toBe(250)
    expect(parseSeconds('30', '--drain-timeout')).toBe(30_000)
    for (const text of ['-1', 'x', '', '86401', 'Infinity']) expect(() => parseSeconds(text, '--drain-timeout')).toThrow(/--drain-timeout/)
  })
})

test('the file: the named one, then sluice.yaml, then apisix.yaml, then the fallback, else a usage error', () => {
  expect(chooseFile('x.yaml', null, folder)).toBe(join(folder, 'x.yaml'))
  expect(chooseFile(undefined, '/demo.yaml', folder)).toBe('/demo.yaml')
  expect(() => chooseFile(undefined, null, folder)).toThrow(/neither sluice.yaml nor apisix.yaml is in /)
  writeFileSync(join(folder, 'apisix.yaml'), '')
  expect(chooseFile(undefined, '/demo.yaml', folder)).toBe(join(folder, 'apisix.yaml'))
  writeFileSync(join(folder, 'sluice.yaml'), '')
  expect(chooseFile(undefined, null, folder)).toBe(join(folder, 'sluice.yaml'))
})

describe('pid file', () => {
  test('replaces a stale one, leaves no draft behind, and is removed by its owner only', () => {
    const file = join(folder, 'gateway.pid')
    writeFileSync(file, '1\n')
    writePidFile(file, 4711)
    expect(readFileSync(file, 'utf8')).toBe('4711\n')
    expect(readdirSync(folder).filter((name) => name.includes('tmp'))).toEqual([])
    removePidFile(file, 4712)
    expect(readFileSync(file, 'utf8')).toBe('4711\n')
    removePidFile(file, 4711)
    expect(readdirSync(folder)).not.toContain('gateway.pid')
  })

  test('a folder that does not exist is a usage error', () => {
    expect(() => writePidFile(join(folder, 'no', 'such.pid'), 1)).toThrow(UsageError)
  })
})

test('the ready line', () => {
  const tls = { certFile: '', keyFile: '', byServerName: [] }
  const line = readyLine({
    version: '0.1.0',
    listeners: [
      { host: '127.0.0.1', port: 9080, tls: null },
      { host: '::', port: 9443, tls },
    ],
    admin: { host: '127.0.0.1', port: 9180 },
    metrics: { host: '127.0.0.1', port: 9091 },
    workers: 2,
    accept: 'kernel',
    bindingVersion: '1.5.0',
  })
  expect(line).toBe(
    'sluice 0.1.0 ready: http://127.0.0.1:9080, https://[::]:9443, admin http://127.0.0.1:9180, metrics http://127.0.0.1:9091, ' +
      'workers 2, accept kernel, uWebSockets.js 1.5.0',
  )
})
