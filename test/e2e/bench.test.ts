import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'

const mainFile = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const children: ChildProcess[] = []

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

interface Bench {
  readonly child: ChildProcess
  /** The first line on stdout that matches. */
  line(pattern: RegExp): Promise<string>
  readonly ended: Promise<{ code: number | null; stdout: string; stderr: string }>
}

function bench(...args: string[]): Bench {
  const child = spawn(process.execPath, [mainFile, 'bench', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let stdout = ''
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  const lines = createInterface({ input: child.stdout })
  lines.on('line', (line) => {
    stdout += `${line}\n`
  })
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
  const line = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      lines.on('line', (text) => {
        if (pattern.test(text)) resolve(text)
      })
      ended.then(() => reject(new Error(`ended without a line like ${pattern}:\n${stdout}\n${stderr}`)))
    })
  return { child, line, ended }
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

function portOf(readyLine: string): number {
  const port = Number(/http:\/\/127\.0\.0\.1:(\d+)/.exec(readyLine)?.[1])
  if (!Number.isInteger(port)) throw new Error(`no port in: ${readyLine}`)
  return port
}

test('every suite passes against a self-started gateway, which is gone afterwards', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-bench-e2e-'))
  try {
    const json = join(folder, 'report.json')
    const svg = join(folder, 'report.svg')
    const running = bench('all', '--duration', '1', '--connections', '4', '--workers', '2', '--json', json, '--svg', svg)
    const port = portOf(await running.line(/ ready: /))
    const { code, stdout, stderr } = await running.ended
    expect(stderr).toBe('')
    expect(stdout).not.toContain('FAILED')
    expect(code).toBe(0)
    expect(stdout).toMatch(/workers 2/)
    const report = JSON.parse(await readFile(json, 'utf8'))
    expect(report.results.map((result: { title: string }) => result.title)).toEqual([
      'plain GET',
      'kept connections',
      'new connection each',
      'POST 1 KB',
      'POST 100 KB',
      '300 mixed paths',
    ])
    for (const result of report.results) expect(result.statuses).toEqual({ 200: result.requests })
    for (const result of report.results) expect(result.curve.length).toBeGreaterThan(1)
    expect(stdout.match(/latency in ms by percentile/g)).toHaveLength(6)
    expect(await readFile(svg, 'utf8')).toContain('routes: 300 mixed paths')
    expect(await listens(port)).toBe(false)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})

test('an interrupted bench leaves no gateway behind', async () => {
  const running = bench('plain', '--duration', '60', '--connections', '1', '--workers', '1')
  const port = portOf(await running.line(/ ready: /))
  expect(await listens(port)).toBe(true)
  running.child.kill('SIGINT')
  const { code } = await running.ended
  expect(code).toBe(130)
  expect(await listens(port)).toBe(false)
})

test('--tune measures candidates beside the start, says what is best, and leaves nothing behind', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-tune-e2e-'))
  try {
    const [json, svg] = [join(folder, 'tune.json'), join(folder, 'tune.svg')]
    const small = ['--knobs', 'pool', '--workers', '1', '--connections', '4', '--duration', '1', '--rounds', '1']
    const { code, stdout, stderr } = await bench('--tune', ...small, '--json', json, '--svg', svg).ended
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^start: 1 worker, pipelining 1, pool 320; suite plain, 4 connections/)
    expect(stdout).toMatch(/^pool 2: [\d,]+ → [\d,]+ requests\/s/m)
    expect(stdout).toMatch(/│ the start +│ +[\d,]+ │/)
    // Which one was quicker on a busy machine is nobody's to say.
    expect(stdout).toMatch(/^Best found: .*1 worker, pipelining 1, pool (2|320)/m)
    expect(code).toBe(0)
    const report = JSON.parse(await readFile(json, 'utf8'))
    expect(report).toMatchObject({
      margin: 0.05,
      options: { knobs: ['pool'], rounds: 1 },
      start: { failed: 0, settings: { poolSize: 320 } },
    })
    expect(report.steps).toHaveLength(1)
    expect(report.steps[0].candidate).toMatchObject({ failed: 0, settings: { workers: 1, pipelining: 1, poolSize: 2 } })
    expect(report.steps[0].candidate.cpuMicrosPerRequest).toBeGreaterThan(0)
    expect(await readFile(svg, 'utf8')).toMatch(/^<svg/)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})

test('nobody at the address: exit code 1 and a clear line', async () => {
  const { code, stdout } = await bench('plain', '--url', 'http://127.0.0.1:9/', '--duration', '1', '--connections', '1').ended
  expect(stdout).toMatch(/FAILED plain: plain GET: no answers, \d+ connection errors/)
  expect(code).toBe(1)
})

test('wrong usage is exit code 2', async () => {
  const { code, stderr } = await bench('plain', '--url', 'nonsense').ended
  expect(stderr).toMatch(/--url: found "nonsense"/)
  expect(code).toBe(2)
})
