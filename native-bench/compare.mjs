/** Two builds of our gateway in one run, turn by turn, so that a change proves itself; see README.md. Exit codes as `run`. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { jobs } from './jobs/index.mjs'
import { corePair, describeMachine, requirePrograms, requireTwoCores, root } from './lib/machine.mjs'
import { count, list, runProgram } from './lib/options.mjs'
import { compared } from './lib/parse.mjs'
import { machineLines, textTable } from './lib/report.mjs'
import { sluiceOf } from './lib/rivals.mjs'
import { runJobs } from './lib/run-jobs.mjs'

const names = Object.keys(jobs).filter((name) => jobs[name].contestants.sluice !== undefined)
const defaultJobs = ['plain', 'limit', 'jwt-hs256', 'key', 'refuse-429', 'post1k']
/** Two medians nearer than this to each other say nothing in runs of this length. */
const noise = 0.02

const usage = `scripts/bench compare BASE HEAD: two builds of our gateway, measured in turns

  BASE, HEAD        commits, branches, tags: built in a work tree of their own, which is removed afterwards. Or folders with
                    a build in dist/, such as "." for this one
  --rounds N        (7)
  --seconds N       length of one measurement (2)
  --connections N   client connections of wrk (64)
  --jobs A,B        ${names.join(', ')} (${defaultJobs.join(',')})
  --force           run although there is one core only`

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      connections: { type: 'string' },
      jobs: { type: 'string' },
      force: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help || positionals.length !== 2) {
    console.log(usage)
    return values.help ? 0 : 2
  }
  const settings = {
    rounds: count('--rounds', values.rounds, 7),
    seconds: count('--seconds', values.seconds, 2),
    connections: count('--connections', values.connections, 64),
  }
  const wanted = list('--jobs', values.jobs ?? defaultJobs.join(','), names)
  requirePrograms(['wrk', 'nginx', 'taskset', 'openssl', 'git'])
  requireTwoCores(values.force)
  for (const reference of positionals) requireReference(reference)
  const folder = mkdtempSync(join(tmpdir(), 'sluice-compare-'))
  const trees = []
  // However this process goes: by its end, by an error, or by a signal after the run has ended what it started.
  process.once('exit', () => {
    for (const tree of trees) spawnSync('git', ['worktree', 'remove', '--force', '--force', tree], { cwd: root, stdio: 'ignore' })
    rmSync(folder, { recursive: true, force: true })
  })
  const builds = await buildBoth(positionals, folder, trees)
  console.log(machineLines(describeMachine()).join('\n'))
  console.log(positionals.map((reference, index) => `${index === 0 ? 'base' : 'head'}: ${describeBuild(reference)}`).join('\n'))
  const rivals = { base: sluiceOf(builds[0]), head: sluiceOf(builds[1]) }
  return report(await runJobs(wanted, { cores: corePair(), settings, rivals }))
}

/** `dist/main.js` of both. A signal meanwhile ends the process in the usual way, so that the work trees go; the run has its own handlers. */
async function buildBoth(references, folder, trees) {
  const codes = { SIGINT: 130, SIGTERM: 143 }
  const interrupted = (signal) => {
    const end = () => process.exit(codes[signal])
    if (running === null) return end()
    // What still writes into a work tree must be gone before the tree goes: all of its group, because npm starts further programs.
    running.once('close', end)
    process.kill(-running.pid, 'SIGTERM')
  }
  for (const signal of Object.keys(codes)) process.once(signal, interrupted)
  try {
    const builds = []
    for (const [index, reference] of references.entries()) {
      builds.push(await buildOf(reference, join(folder, index === 0 ? 'base' : 'head'), trees))
    }
    return builds
  } finally {
    for (const signal of Object.keys(codes)) process.off(signal, interrupted)
  }
}

/** The program that builds just now. */
let running = null

function command(program, args, cwd) {
  return new Promise((resolve, reject) => {
    running = spawn(program, args, { cwd, stdio: ['ignore', 'ignore', 'pipe'], detached: true })
    running.stderr.pipe(process.stderr, { end: false })
    running.once('error', reject)
    running.once('close', (code, signal) => {
      running = null
      if (code === 0) resolve()
      else reject(new Error(`${program} ${args.join(' ')} ended with ${signal ?? `exit code ${code}`}`))
    })
  })
}

const commitOf = (reference) =>
  spawnSync('git', ['rev-parse', '--verify', '--quiet', '--short', `${reference}^{commit}`], { cwd: root, encoding: 'utf8' }).stdout.trim()

/** A folder with a build comes before a branch of the same name. */
const builtFile = (reference) => {
  const file = resolve(reference, 'dist', 'main.js')
  return existsSync(file) ? file : null
}

function requireReference(reference) {
  if (builtFile(reference) !== null || commitOf(reference) !== '') return
  console.error(
    `found "${reference}"; expected a commit, branch or tag of this repository, or a folder with a build in dist/ (npm run build)`,
  )
  process.exit(2)
}

function describeBuild(reference) {
  return builtFile(reference) ?? `${reference}, commit ${commitOf(reference)}`
}

/** `dist/main.js` of a commit. Its packages are those of this folder when it locks the same, else its own. */
async function buildOf(reference, tree, trees) {
  const built = builtFile(reference)
  if (built !== null) return built
  console.error(`building ${reference}`)
  trees.push(tree)
  await command('git', ['worktree', 'add', '--quiet', '--detach', tree, reference], root)
  const locked = (folder) => readFileSync(join(folder, 'package-lock.json'), 'utf8')
  if (existsSync(join(root, 'node_modules')) && locked(tree) === locked(root))
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'))
  else await command('npm', ['ci', '--no-audit', '--no-fund', '--silent'], tree)
  await command('npm', ['run', '--silent', 'build'], tree)
  return join(tree, 'dist', 'main.js')
}

function report(results) {
  const number = (value) => Math.round(value).toLocaleString('en-US')
  const head = ['requests per CPU second', 'base', 'head', 'head ÷ base', 'from … to', 'which is', 'failed']
  let hasFailed = false
  const rows = Object.entries(results).flatMap(([name, { rounds, summaries, wrong }]) => {
    if (Object.keys(wrong).length > 0) {
      hasFailed = true
      return []
    }
    const { median, least, most, verdict } = compared(rounds.head, rounds.base, noise)
    const failed = summaries.base.failed + summaries.head.failed
    hasFailed ||= failed > 0
    const row = [
      name,
      number(summaries.base.requestsPerCpuSecond),
      number(summaries.head.requestsPerCpuSecond),
      median.toFixed(3),
      `${least.toFixed(3)} … ${most.toFixed(3)}`,
      verdict,
      String(failed),
    ]
    return [row]
  })
  console.log(textTable(head, rows))
  console.log(
    `better, worse: the median differs by ${noise * 100} % or more, and all rounds but one in five agree on the side; else it says nothing`,
  )
  return hasFailed ? 1 : 0
}

runProgram(main)
