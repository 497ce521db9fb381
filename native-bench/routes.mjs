/** Throughput with 1, 1,000 and 100,000 routes, first and last route; see README.md. Exit codes as `run`. */
import { corePair, describeMachine, requireBuild, requirePrograms, requireTwoCores } from './lib/machine.mjs'
import { count, programValues, runProgram } from './lib/options.mjs'
import { machineLines, textTable } from './lib/report.mjs'
import { measureSizes, sizeRows } from './lib/route-sizes.mjs'

const usage = `node native-bench/routes.mjs: throughput by number of routes

  --rounds N        interleaved rounds (5)
  --seconds N       length of one measurement (3)
  --connections N   client connections of wrk (64)
  --most N          the largest number of routes (100000)
  --force           run although there is one core only`

async function main() {
  const values = programValues(usage, ['rounds', 'seconds', 'connections', 'most'])
  const settings = {
    rounds: count('--rounds', values.rounds, 5),
    seconds: count('--seconds', values.seconds, 3),
    connections: count('--connections', values.connections, 64),
  }
  const sizes = [...new Set([1, 1000, count('--most', values.most, 100_000)])].sort((a, b) => a - b)
  requirePrograms(['wrk', 'nginx', 'taskset'])
  requireBuild()
  requireTwoCores(values.force)
  console.log(machineLines(describeMachine()).join('\n'))
  const points = await measureSizes(sizes, { cores: corePair(), settings })
  const { head, rows } = sizeRows(points)
  console.log(textTable(head, rows))
  return points.some(({ summary }) => summary.failed > 0) ? 1 : 0
}

runProgram(main)
