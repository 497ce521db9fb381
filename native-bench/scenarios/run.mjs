/**
 * Failures, one after another, with numbers; see README.md.
 *
 *   npm run build && node native-bench/scenarios/run.mjs [NAME...] [--rounds N] [--write]
 *
 * Each scenario starts its own nodes and gateways, drives them with a constant rate and ends within half a minute. --write replaces
 * results/scenarios.md. Exit codes: 0 all goals met, 1 one was missed or a scenario broke, 2 wrong usage.
 */
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { benchFolder, describeMachine, requireBuild } from '../lib/machine.mjs'
import { count, runProgram } from '../lib/options.mjs'
import { machineLines, markdownTable, textTable, writeResults } from '../lib/report.mjs'
import { ScenarioKit } from '../lib/scenario-kit.mjs'

const names = [
  'slow-upstream',
  'errors',
  'black-hole',
  'half-closed',
  'slow-drip',
  'one-of-100',
  'hanging-node',
  'flapping-node',
  'all-down',
  'redis-breaker',
  'retry-storm',
  'overload',
  'crowd',
  'memory',
]
const head = ['scenario', 'measured', 'value', 'goal', 'met']

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: 'string' }, write: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  })
  const unknown = positionals.filter((name) => !names.includes(name))
  if (values.help || unknown.length > 0) {
    console.log(`scenarios: ${names.join(', ')}`)
    return values.help ? 0 : 2
  }
  const rounds = count('--rounds', values.rounds, 1)
  requireBuild()
  const rows = []
  const before = loadavg()[0]
  for (const name of positionals.length === 0 ? names : positionals) {
    const scenario = await import(new URL(`${name}.mjs`, import.meta.url))
    for (let round = 0; round < rounds; round++) rows.push(...(await measure(name, scenario)))
  }
  console.log(textTable(head, rows))
  if (values.write) {
    const at = new Date().toISOString().slice(0, 16).replace('T', ' ')
    const machine = machineLines(describeMachine()).join('; ')
    // With more to run than cores, waits are those of the machine.
    const load = `Load average before and behind the run: ${before.toFixed(1)}, ${loadavg()[0].toFixed(1)}.`
    const text = ['# Failure scenarios', '', `${at} UTC. ${machine}. ${load}`, '', markdownTable(head, rows), '']
    writeResults(join(benchFolder, 'results'), { 'scenarios.md': text.join('\n') })
  }
  return rows.some((row) => row[4] === 'no') ? 1 : 0
}

async function measure(name, { title, run }) {
  const kit = new ScenarioKit()
  const begun = performance.now()
  try {
    const findings = await run(kit)
    console.error(`${name}: ${((performance.now() - begun) / 1000).toFixed(1)} s`)
    return findings.map(({ what, value, goal, met }, index) => [
      index === 0 ? title : '',
      what,
      value,
      goal,
      met === null ? '' : met ? 'yes' : 'no',
    ])
  } catch (error) {
    console.error(`${name}: ${error.stack}`)
    return [[title, `broke: ${error.message.split('\n')[0]}`, '', '', 'no']]
  } finally {
    await kit.close()
  }
}

await runProgram(main)
