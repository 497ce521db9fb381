/** The command line as a stranger meets it: help, exit codes, one clear line for each mistake. */
import { execFile } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const entry = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
let folder = ''
let good = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-cli-'))
  good = join(folder, 'good.yaml')
  writeFileSync(good, 'routes:\n  - id: 1\n    uri: /*\n    upstream:\n      nodes:\n        "127.0.0.1:1": 1\n')
})
afterAll(() => rmSync(folder, { recursive: true }))

interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs the command to its end (60 s at most) in the temporary folder. */
function sluice(...args: string[]): Promise<Run> {
  return new Promise((resolve) => {
    execFile(process.execPath, [entry, ...args], { cwd: folder, timeout: 60_000, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr })
    })
  })
}

const start = (...args: string[]) => sluice('start', '-c', good, '--metrics', '127.0.0.1:0', '--workers', '1', ...args)

describe('help', () => {
  test('names every command and the exit codes', async () => {
    const { code, stdout } = await sluice('--help')
    expect(code).toBe(0)
    for (const command of ['start', 'check', 'doctor', 'health', 'bench', 'gen'])
      expect(stdout).toMatch(new RegExp(`^  ${command}\\b`, 'm'))
    expect(stdout).toContain('Exit codes: 0 fine, 1 failed while running, 2 wrong configuration or usage.')
  })

  test('start explains its flags and hides the one for tests', async () => {
    const { code, stdout } = await sluice('start', '--help')
    expect(code).toBe(0)
    for (const flag of [
      '--config',
      '--workers',
      '--listen',
      '--admin',
      '--metrics',
      '--accept',
      '--demo',
      '--supervise',
      '--pid-file',
      '--drain-timeout',
    ]) {
      expect(stdout).toContain(flag)
    }
    expect(stdout).not.toContain('--binding')
  })

  test('the version', async () => {
    expect((await sluice('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })
})

describe('usage errors are exit code 2 and one clear line', () => {
  test.each([
    ['an unknown command', ['strat'], /error: unknown command 'strat'/],
    ['an unknown flag', ['start', '--wrokers', '2'], /error: unknown option '--wrokers'/],
    [
      'no configuration anywhere',
      ['start'],
      /^sluice: no configuration: neither sluice\.yaml nor apisix\.yaml is in .*name a file with -c FILE/,
    ],
    [
      'not a number',
      ['start', '--workers', 'many'],
      /^sluice: --workers: "many" is not a valid number; expected a whole number from 1 to 512/,
    ],
    ['not an address', ['start', '--listen', 'here'], /^sluice: --listen: "here" is not an address; expected HOST:PORT/],
    ['redis', ['start', '-c', 'good.yaml', '--redis', 'redis:/x'], /^sluice: --redis: this is no URL of Redis; expected redis:/],
    [
      'accept primary',
      ['start', '-c', 'good.yaml', '--metrics', '127.0.0.1:0', '--accept', 'primary'],
      /^sluice: accept primary.*use --accept kernel/,
    ],
    ['a build that is not there', ['start', '-c', 'good.yaml', '--binding', 'no-such-build'], /no-such-build/],
  ])('%s', async (_, args, expected) => {
    const { code, stdout, stderr } = await sluice(...args)
    expect(stderr).toMatch(expected)
    expect(code).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).not.toContain('    at ')
  })
})

describe('check', () => {
  test('a right file is exit code 0 with a summary', async () => {
    const { code, stdout } = await sluice('check', good)
    expect(stdout).toContain('good.yaml is right: 1 route, 1 upstream, 0 global plugins; 0 warnings')
    expect(code).toBe(0)
  })

  test('a wrong file is exit code 2 with every error at its place, and start says the same', async () => {
    const bad = join(folder, 'bad.yaml')
    writeFileSync(bad, 'routes:\n  - id: 1\n    uri: /a\n    upstream_id: nowhere\n  - id: 2\n    uri: /b\n    plugins:\n      corss: {}\n')
    const checked = await sluice('check', bad)
    expect(checked.code).toBe(2)
    expect(checked.stderr).toMatch(/bad\.yaml:4:\d+: routes\[0\]\.upstream_id: /)
    expect(checked.stderr).toMatch(/bad\.yaml:8:\d+: routes\[1\]\.plugins\.corss: .*did you mean "cors"\?/)
    const started = await sluice('start', '-c', bad)
    expect(started.code).toBe(2)
    const errors = checked.stderr.split('\n').filter((line) => line.startsWith(bad))
    expect(errors.length).toBe(2)
    expect(started.stderr.split('\n').filter((line) => line.startsWith(bad))).toEqual(errors)
  })

  test('as JSON', async () => {
    const { code, stdout } = await sluice('check', '--json', join(folder, 'absent.yaml'))
    expect(code).toBe(2)
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, errors: [{ message: 'the file does not exist' }] })
  })

  test.skipIf(process.getuid?.() === 0)('a file without permission', async () => {
    const locked = join(folder, 'locked.yaml')
    writeFileSync(locked, '')
    chmodSync(locked, 0)
    const { code, stderr } = await sluice('check', locked)
    expect(stderr).toContain('no permission to read the file')
    expect(code).toBe(2)
  })
})

describe('addresses that cannot be used', () => {
  test.each([
    ['--listen', /^sluice: cannot listen on 127\.0\.0\.1:\d+: the port is in use by another process/],
    ['--metrics', /^sluice: metrics address 127\.0\.0\.1:\d+ is already in use/],
    ['--admin', /sluice: admin: cannot listen on 127\.0\.0\.1:\d+: the port is in use by another process/],
  ])('%s on a port in use is exit code 1 with one line', async (flag, expected) => {
    const holder = createServer()
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
    const address = holder.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    const { code, stdout, stderr } = await start('--log-level', 'silent', '--listen', '127.0.0.1:0', flag, `127.0.0.1:${port}`)
    await new Promise((resolve) => holder.close(resolve))
    expect(stderr).toMatch(expected)
    expect(stderr.trim().split('\n').length).toBe(1)
    expect(code).toBe(1)
    expect(stdout).toBe('')
  })

  test('an address of another machine is exit code 2', async () => {
    const { code, stderr } = await start('--listen', '203.0.113.7:18080')
    expect(stderr).toContain('this machine has no such address')
    expect(code).toBe(2)
  })

  test.skipIf(process.getuid?.() === 0)('a port below 1024 without permission is exit code 2', async () => {
    const { code, stderr } = await start('--listen', '127.0.0.1:81')
    expect(stderr).toContain('no permission; ports below 1024 need root')
    expect(code).toBe(2)
  })
})

test('health of nothing is exit code 1', async () => {
  const { code, stderr } = await sluice('health', '--metrics', '127.0.0.1:1')
  expect(stderr).toMatch(/^sluice: not ready: http:\/\/127\.0\.0\.1:1\/status\/ready: /)
  expect(code).toBe(1)
})
