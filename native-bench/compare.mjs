/** Two builds of our gateway in one run, turn by turn, so that a change proves itself; see README.md. Exit codes as `run`. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { jobs } from './jobs/index.mjs'
import { corePair, describeMachine, mainFile, requireBuild, requirePrograms, requireTwoCores, root } from './lib/machine.mjs'
import { count, list, runProgram } from './lib/options.mjs'
import { pairedRatio } from './lib/parse.mjs'
import { machineLines, textTable } from './lib/report.mjs'
import { sluiceOf } from './lib/rivals.mjs'
import { runJobs } from './lib/run-jobs.mjs'

const names = Object.keys(jobs).filter((name) => jobs[name].contestants.sluice !== undefined)
const defaultJobs = ['plain', 'limit', 'jwt-hs256', 'key', 'refuse-429', 'post1k']
/** Two medians nearer than this to each other say nothing in runs of this length. */
const noise = 0.02

const usage = `native-bench/compare BASE HEAD: two builds of our gateway, measured in turns

  BASE, HEAD        commits or branches, built in a work tree of their own; "." is the build in dist/
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
  const folder = mkdtempSync(join(tmpdir(), 'sluice-compare-'))
  const trees = []
  try {
    const [base, head] = positionals.map((reference, index) => buildOf(reference, join(folder, index === 0 ? 'base' : 'head'), trees))
    console.log(machineLines(describeMachine()).join('\n'))
    const rivals = { base: sluiceOf(base), head: sluiceOf(head) }
    const results = await runJobs(wanted, { cores: corePair(), settings, rivals })
    return report(results)
  } finally {
    for (const tree of trees) execFileSync('git', ['worktree', 'remove', '--force', tree], { cwd: root, stdio: 'ignore' })
    rmSync(folder, { recursive: true, force: true })
  }
}

/** `dist/main.js` of a commit. Its packages are those of this folder when it locks the same, else its own. */
function buildOf(reference, tree, trees) {
  if (reference === '.') {
    requireBuild()
    return mainFile
  }
  console.error(`building ${reference}`)
  execFileSync('git', ['worktree', 'add', '--quiet', '--detach', tree, reference], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  trees.push(tree)
  const locked = (folder) => readFileSync(join(folder, 'package-lock.json'), 'utf8')
  if (existsSync(join(root, 'node_modules')) && locked(tree) === locked(root))
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'))
  else execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--silent'], { cwd: tree, stdio: ['ignore', 'ignore', 'inherit'] })
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: tree, stdio: ['ignore', 'ignore', 'inherit'] })
  return join(tree, 'dist', 'main.js')
}

function report(results) {
  const number = (value) => Math.round(value).toLocaleString('en-US')
  const head = ['requests per CPU second', 'base', 'head', 'head ÷ base', 'from … to', 'which is', 'failed']
  let hasFailed = false
  const rows = Object.entries(results).map(([name, { rounds, summaries }]) => {
    const { median, least, most } = pairedRatio(rounds.head, rounds.base)
    const failed = summaries.base.failed + summaries.head.failed
    hasFailed ||= failed > 0
    return [
      name,
      number(summaries.base.requestsPerCpuSecond),
      number(summaries.head.requestsPerCpuSecond),
      median.toFixed(3),
      `${least.toFixed(3)} … ${most.toFixed(3)}`,
      Math.abs(median - 1) < noise ? 'nothing' : median > 1 ? 'better' : 'worse',
      String(failed),
    ]
  })
  console.log(textTable(head, rows))
  return hasFailed ? 1 : 0
}

runProgram(main)
