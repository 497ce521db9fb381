/** What gateways add to the latency of a request at half load; see README.md. Exit codes as `run`. */
import { contestants, judgeLatency, latencyRows, runLatency } from './lib/latency.mjs'
import { corePair, describeMachine, mainFile, requireBuild, requirePrograms, requireTwoCores } from './lib/machine.mjs'
import { amount, count, list, programValues, runProgram } from './lib/options.mjs'
import { goalRows, machineLines, textTable } from './lib/report.mjs'
import { sluiceOf } from './lib/rivals.mjs'

const schedules = ['even', 'poisson']

const usage = `node native-bench/latency.mjs: latency that gateways add at half load (constant rate, timed from the moment a request was due)

  --rounds N           interleaved rounds, the table shows medians (5)
  --seconds N          length of one measurement (4)
  --connections N      client connections (64)
  --share X            of the maximum throughput of the same gateway (0.5)
  --rate N             requests per second, the same for all, in place of --share
  --arrivals KIND      ${schedules.join(' or ')}: requests at equal distances, or independent of each other (even)
  --only A,B           ${contestants.join(', ')}
  --against MAIN       our build against another one (its dist/main.js), in place of the rivals
  --force              run although there is one core only`

async function main() {
  const values = programValues(usage, ['rounds', 'seconds', 'connections', 'share', 'rate', 'arrivals', 'only', 'against'])
  const settings = {
    rounds: count('--rounds', values.rounds, 5),
    seconds: count('--seconds', values.seconds, 4),
    connections: count('--connections', values.connections, 64),
    share: amount('--share', values.share, 0.5),
    ...(values.rate === undefined ? {} : { rate: count('--rate', values.rate) }),
    arrivals: list('--arrivals', values.arrivals ?? 'even', schedules)[0],
  }
  const only = list('--only', values.only, contestants)
  requirePrograms(['wrk', 'nginx', 'taskset'])
  requireBuild()
  requireTwoCores(values.force)
  console.log(machineLines(describeMachine()).join('\n'))
  const rivals = values.against === undefined ? {} : { rivals: { sluice: sluiceOf(mainFile), other: sluiceOf(values.against) } }
  const found = await runLatency({ cores: corePair(), settings, only, ...rivals })
  const judged = judgeLatency(found)
  const { head, rows, hasFailed, notes } = latencyRows(found)
  console.log([textTable(head, rows), ...notes].join('\n'))
  const goals = goalRows([], [], judged)
  if (judged.length > 0) console.log(textTable(goals.head, goals.rows))
  return hasFailed ? 1 : 0
}

runProgram(main)
