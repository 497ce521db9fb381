import { describe, expect, test } from 'vitest'
import { type Knob, knobsFor, settingDefaults, type TunedSettings } from '../../../src/cli/bench/knobs.js'
import { Latencies } from '../../../src/cli/bench/percentiles.js'
import { type Contestant, judge, type Measurer, type Sample, type Step, stepsMost, sweep } from '../../../src/cli/bench/sweep.js'
import { adviceOf, renderTune, stepLine, tuneData, tunedCurves } from '../../../src/cli/bench/tune-report.js'
import { busyShare, cpuSecondsOf } from '../../../src/cli/bench/usage.js'

interface Performance {
  readonly rate: number
  readonly cpuMicros?: number | null
  readonly p99Ms?: number
  readonly failed?: number
}

function sampleOf({ rate, cpuMicros = 20, p99Ms = 2, failed = 0 }: Performance): Sample {
  const latencies = new Latencies()
  for (let count = 0; count < 95; count++) latencies.record(1)
  for (let count = 0; count < 5; count++) latencies.record(p99Ms)
  const cpuSeconds = cpuMicros === null ? null : (cpuMicros * rate) / 1e6
  return { requests: rate, seconds: 1, failed, cpuSeconds, machineBusy: 0.5, latencies }
}

/** Measures what `of` says of the settings; `of` may look at how many measurements there were, to play a machine that changes. */
class FakeMeasurer implements Measurer {
  readonly opened: TunedSettings[] = []
  running = 0
  runningMost = 0
  measured = 0

  constructor(readonly of: (settings: TunedSettings, measured: number) => Performance) {}

  async open(settings: TunedSettings): Promise<Contestant> {
    this.opened.push(settings)
    this.running++
    this.runningMost = Math.max(this.runningMost, this.running)
    return {
      measure: async () => sampleOf(this.of(settings, this.measured++)),
      close: async () => {
        this.running--
      },
    }
  }
}

const start = (workers: number): TunedSettings => ({ workers, ...settingDefaults })
const allKnobs = (workers: number, connections = 64): Knob[] =>
  knobsFor(['workers', 'pipelining', 'pool'], start(workers), workers, connections)

async function run(measurer: FakeMeasurer, workers = 8, knobs = allKnobs(workers)) {
  const steps: Step[] = []
  const plan = { start: start(workers), knobs, rounds: 3 }
  const result = await sweep(measurer, plan, (step) => steps.push(step))
  expect(result.steps).toEqual(steps)
  expect(steps.length).toBeLessThanOrEqual(stepsMost(plan))
  expect(measurer.running).toBe(0)
  expect(measurer.runningMost).toBeLessThanOrEqual(2)
  return result
}

describe('knobs', () => {
  test('workers go down from all, pipelining up, the pool both ways', () => {
    expect(allKnobs(8).map(({ ladders }) => ladders)).toEqual([[[6, 4, 2, 1]], [[4, 16, 64]], [[32]]])
    expect(allKnobs(2).map(({ ladders }) => ladders)).toEqual([[[1]], [[4, 16, 64]], [[32]]])
    expect(allKnobs(1)[0]?.ladders).toEqual([])
  })

  test('a larger pool is tried only where so many connections can be busy', () => {
    expect(knobsFor(['pool'], start(8), 8, 1000)[0]?.ladders).toEqual([[1024], [256]])
    expect(knobsFor(['pool'], start(8), 8, 320)[0]?.ladders).toEqual([[256]])
    expect(knobsFor(['pool'], start(8), 8, 1)[0]?.ladders).toEqual([[1]])
  })

  test('from a start in the middle, both ways', () => {
    const ladders = knobsFor(['workers', 'pipelining', 'pool'], { workers: 4, pipelining: 8, poolSize: 16 }, 8, 64).map(
      (knob) => knob.ladders,
    )
    expect(ladders).toEqual([
      [
        [6, 8],
        [2, 1],
      ],
      [
        [16, 64],
        [4, 1],
      ],
      [[64], [8]],
    ])
  })

  test('only those asked for, in the order in which they matter', () => {
    expect(knobsFor(['pool', 'pipelining'], start(8), 8, 64).map(({ name }) => name)).toEqual(['pipelining', 'pool'])
  })
})

describe('judge', () => {
  const rounds = (...performances: Performance[]): Sample[] => performances.map(sampleOf)
  const best = rounds({ rate: 1000 }, { rate: 1000 }, { rate: 1000 })

  test.each<[string, Performance[], string, RegExp]>([
    ['more by the margin', [{ rate: 1060 }, { rate: 1050 }, { rate: 1055 }], 'wins', /5\.5 % more requests/],
    ['more by less', [{ rate: 1040 }, { rate: 1049 }, { rate: 1049 }], 'stays', /not better by 5 %/],
    ['fewer by the margin', [{ rate: 940 }, { rate: 950 }, { rate: 945 }], 'worse', /5\.5 % fewer/],
    ['much more, but not in every round', [{ rate: 1500 }, { rate: 1500 }, { rate: 990 }], 'stays', /every round/],
    [
      'cheaper',
      [
        { rate: 1000, cpuMicros: 18 },
        { rate: 990, cpuMicros: 18 },
        { rate: 1000, cpuMicros: 18 },
      ],
      'wins',
      /10 % less CPU/,
    ],
    [
      'cheaper, but not in every round',
      [
        { rate: 1000, cpuMicros: 18 },
        { rate: 1000, cpuMicros: 18 },
        { rate: 1000, cpuMicros: 21 },
      ],
      'stays',
      /./,
    ],
    [
      'cheaper, but fewer',
      [
        { rate: 900, cpuMicros: 10 },
        { rate: 900, cpuMicros: 10 },
        { rate: 900, cpuMicros: 10 },
      ],
      'worse',
      /fewer/,
    ],
    [
      'more, but slower',
      [
        { rate: 1500, p99Ms: 3 },
        { rate: 1500, p99Ms: 3 },
        { rate: 1500, p99Ms: 3 },
      ],
      'stays',
      /p99 grew from 2\.00 to 3\.00 ms/,
    ],
    ['more, but failing', [{ rate: 1500 }, { rate: 1500, failed: 7 }, { rate: 1500 }], 'worse', /7 requests failed/],
    ['nothing at all', [{ rate: 0 }, { rate: 0 }, { rate: 0 }], 'worse', /100 % fewer/],
  ])('%s', (_what, candidate, outcome, reason) => {
    expect(judge(best, rounds(...candidate), true)).toMatchObject({ outcome, reason: expect.stringMatching(reason) })
  })

  test('less CPU does not count for workers, nor where nobody knows it', () => {
    const cheap = rounds({ rate: 1000, cpuMicros: 10 }, { rate: 1000, cpuMicros: 10 }, { rate: 1000, cpuMicros: 10 })
    expect(judge(best, cheap, false).outcome).toBe('stays')
    const unknown = rounds({ rate: 1000, cpuMicros: null }, { rate: 1000, cpuMicros: null }, { rate: 1000, cpuMicros: null })
    expect(judge(best, unknown, true)).toMatchObject({ outcome: 'stays', cpuRatio: null })
  })

  test('rounds are compared with their neighbours, not with each other', () => {
    const slowing = rounds({ rate: 1000 }, { rate: 500 }, { rate: 250 })
    expect(judge(slowing, rounds({ rate: 1100 }, { rate: 550 }, { rate: 275 }), true)).toMatchObject({
      outcome: 'wins',
      requestsRatio: expect.closeTo(1.1, 6),
    })
  })
})

describe('sweep', () => {
  test('a flat landscape: everything near is tried once, and the defaults stay', async () => {
    const measurer = new FakeMeasurer(() => ({ rate: 1000 }))
    const result = await run(measurer)
    expect(result.best).toBe(result.start)
    expect(result.best.settings).toEqual(start(8))
    expect(result.steps.map(({ candidate }) => candidate.settings)).toEqual([
      { ...start(8), workers: 6 },
      { ...start(8), workers: 4 },
      { ...start(8), workers: 2 },
      { ...start(8), workers: 1 },
      { ...start(8), pipelining: 4 },
      { ...start(8), pipelining: 16 },
      { ...start(8), pipelining: 64 },
      { ...start(8), poolSize: 32 },
    ])
  })

  test('noise below the margin decides nothing', async () => {
    const noise = [1.04, 0.97, 1.03, 0.96, 1, 0.98, 1.02]
    const measurer = new FakeMeasurer((_settings, measured) => ({ rate: 1000 * (noise[measured % noise.length] ?? 1) }))
    const result = await run(measurer)
    expect(result.best).toBe(result.start)
  })

  test('a ladder is left behind two values in a row that are worse', async () => {
    const measurer = new FakeMeasurer(({ workers, pipelining }) => ({ rate: workers < 8 || pipelining > 1 ? 500 : 1000 }))
    const result = await run(measurer)
    expect(result.steps.map(({ knob, candidate }) => [knob, candidate.settings.workers, candidate.settings.pipelining])).toEqual([
      ['workers', 6, 1],
      ['workers', 4, 1],
      ['pipelining', 8, 4],
      ['pipelining', 8, 16],
      ['pool', 8, 1],
    ])
  })

  test('one value that is worse does not hide a better one behind it', async () => {
    const rates: Readonly<Record<number, number>> = { 1: 1000, 4: 900, 16: 1500, 64: 1400 }
    const result = await run(new FakeMeasurer(({ pipelining }) => ({ rate: rates[pipelining] ?? 0 })))
    expect(result.best.settings.pipelining).toBe(16)
  })

  test('climbs a ladder to its best value, and proves it beside the start', async () => {
    const rates: Readonly<Record<number, number>> = { 1: 1000, 4: 1200, 16: 1500, 64: 1400 }
    const measurer = new FakeMeasurer(({ pipelining }) => ({ rate: rates[pipelining] ?? 0 }))
    const result = await run(measurer)
    expect(result.best.settings).toEqual({ ...start(8), pipelining: 16 })
    const last = result.steps.at(-1)
    expect(last).toMatchObject({ knob: 'together', outcome: 'wins', requestsRatio: expect.closeTo(1.5, 6) })
    expect(result.best).toBe(last?.candidate)
    expect(result.start).toBe(last?.best)
  })

  test('what is best for one knob depends on another: neighbours are tried again', async () => {
    // Without pipelining fewer workers are better; with it all of them are.
    const measurer = new FakeMeasurer(({ workers, pipelining }) => {
      if (pipelining === 1) return { rate: 1000 + (8 - workers) * 100 }
      return { rate: 3000 + workers * 300 }
    })
    const result = await run(measurer)
    expect(result.steps.some(({ knob, outcome }) => knob === 'workers' && outcome === 'wins')).toBe(true)
    expect(result.best.settings.pipelining).toBe(4)
    expect(result.best.settings.workers).toBeGreaterThan(1)
  })

  test('a single win that was measured beside the start is not measured again', async () => {
    const measurer = new FakeMeasurer(({ workers }) => ({ rate: workers === 1 ? 2000 : 1000 }))
    const result = await run(measurer, 2, knobsFor(['workers'], start(2), 2, 64))
    expect(result.steps.map(({ knob }) => knob)).toEqual(['workers'])
    expect(result.best.settings.workers).toBe(1)
    expect(measurer.opened).toEqual([start(2), { ...start(2), workers: 1 }])
  })

  test('a gain that does not come again beside the start is none', async () => {
    let pipelined = 0
    // Each value seems better than the one before; against the start, at the end, nothing is left of it.
    const measurer = new FakeMeasurer(({ pipelining }) => {
      if (pipelining === 1) return { rate: 1000 }
      pipelined++
      return { rate: pipelined > 15 ? 1000 : 1000 + pipelining * 100 }
    })
    const result = await run(measurer, 1, knobsFor(['pipelining'], start(1), 1, 64))
    expect(result.steps.at(-1)).toMatchObject({ knob: 'together', outcome: 'stays' })
    expect(result.best).toBe(result.start)
  })

  test('a start that fails requests is told, and nothing is left running', async () => {
    const measurer = new FakeMeasurer(() => ({ rate: 1000, failed: 3 }))
    const plan = { start: start(2), knobs: allKnobs(2), rounds: 3 }
    await expect(sweep(measurer, plan, () => {})).rejects.toThrow(/failed 3 requests with 2 workers, pipelining 1, pool 320/)
    expect(measurer.running).toBe(0)
  })

  test('a candidate that cannot be started ends the sweep, and nothing is left running', async () => {
    const measurer = new FakeMeasurer(() => ({ rate: 1000 }))
    const open = measurer.open.bind(measurer)
    measurer.open = async (settings) => {
      if (settings.pipelining > 1) throw new Error('the gateway was not ready')
      return open(settings)
    }
    const plan = { start: start(2), knobs: allKnobs(2), rounds: 3 }
    await expect(sweep(measurer, plan, () => {})).rejects.toThrow(/not ready/)
    expect(measurer.running).toBe(0)
  })

  test('both sides take turns in being first', async () => {
    const order: number[] = []
    const measurer = new FakeMeasurer(({ workers }) => {
      order.push(workers)
      return { rate: 1000 }
    })
    await run(measurer, 2, knobsFor(['workers'], start(2), 2, 64))
    expect(order).toEqual([2, 2, 1, 1, 2, 2, 1])
  })
})

describe('report', () => {
  const better = new FakeMeasurer(({ workers, pipelining }) => ({
    rate: 1000 * (pipelining === 16 ? 1.5 : 1) * (workers === 1 ? 1.2 : 1),
    cpuMicros: pipelining === 16 ? 10 : 20,
  }))

  test('names the best as a flag and as a configuration, with every candidate in the table', async () => {
    const result = await run(better, 2)
    const report = { result, now: start(2), cores: 2, isOwn: false }
    expect(adviceOf(report)).toEqual({
      commandLine: 'sluice start --workers 1',
      yaml: 'sluice:\n  workers: 1\nupstreams:\n  - id: yours\n    keepalive_pool:\n      pipelining: 16\n',
    })
    const text = renderTune(report, false)
    expect(text).toContain('Best found: 1 worker, pipelining 16, pool 320 (× 1.80 requests/s, × 0.50 CPU per request, beside 2 workers')
    for (const tried of ['the start', '1 worker', 'pipelining 4', 'pipelining 16', 'pipelining 64', 'pool 32', 'all together']) {
      expect(text).toContain(`│ ${tried}`)
    }
    expect(text).toContain('\n  sluice start --workers 1\n')
    expect(text).toContain('\n      keepalive_pool:\n')
    expect(text).toMatch(/What this could not know:\n- Load generators and upstream ran on this machine too: 50 % of its CPU/)
    expect(tunedCurves(result).map(({ name }) => name)).toEqual([
      'start: 2 workers, pipelining 1, pool 320',
      'best: 1 worker, pipelining 16, pool 320',
    ])
    expect(result.steps.map(stepLine)[0]).toBe(
      '1 worker: 1,000 → 1,200 requests/s (× 1.20, CPU per request × 1.00): better, 20 % more requests\n',
    )
  })

  test('the defaults need no flag', async () => {
    const result = await run(new FakeMeasurer(() => ({ rate: 1000 })), 2)
    const text = renderTune({ result, now: start(2), cores: 2, isOwn: false }, false)
    expect(adviceOf({ result, now: start(2), cores: 2, isOwn: false })).toBeNull()
    expect(text).toContain(
      'Best found: the settings of the start, 2 workers, pipelining 1, pool 320. Nothing that was tried is better by 5 %.',
    )
    expect(text).toContain('No flag and no option has to be changed')
    expect(text).not.toContain('sluice start')
    // A start with fewer workers than cores is not the default.
    expect(adviceOf({ result, now: start(4), cores: 4, isOwn: false })?.commandLine).toBe('sluice start --workers 2')
  })

  test('a full machine and a gateway with CPU left are told apart', async () => {
    const busy = (machineBusy: number) => {
      const measurer = new FakeMeasurer(() => ({ rate: 1000 }))
      const open = measurer.open.bind(measurer)
      measurer.open = async (settings) => {
        const contestant = await open(settings)
        return { ...contestant, measure: async () => ({ ...(await contestant.measure()), machineBusy }) }
      }
      return measurer
    }
    const full = await run(busy(0.97), 2)
    expect(renderTune({ result: full, now: start(2), cores: 2, isOwn: false }, false)).toMatch(
      /The machine was full.* alone could answer 100,000 requests\/s with 2 workers, 50,000 requests\/s with 1 worker\./,
    )
    const idle = await run(busy(0.4), 2)
    expect(renderTune({ result: idle, now: start(2), cores: 2, isOwn: true }, false)).toMatch(
      /The gateway had CPU left, so the load was the limit/,
    )
  })

  test('a machine that was not quiet is told', async () => {
    const notes = async (slow: number) => {
      const result = await run(new FakeMeasurer((_settings, measured) => ({ rate: measured === 4 ? slow : 1000 })), 2)
      return renderTune({ result, now: start(2), cores: 2, isOwn: false }, false)
    }
    expect(await notes(500)).toMatch(
      /not quiet: 2 workers, pipelining 1, pool 320 came to 500 requests\/s in one round and to 1,000 in another/,
    )
    expect(await notes(900)).not.toContain('not quiet')
  })

  test('plain data has percentiles and no histograms', async () => {
    const result = await run(better, 2)
    const data = JSON.parse(JSON.stringify(tuneData({ result, now: start(2), cores: 2, isOwn: false })))
    expect(data).toMatchObject({
      margin: 0.05,
      best: { settings: { workers: 1, pipelining: 16 } },
      advice: { commandLine: 'sluice start --workers 1' },
    })
    expect(data.best.latencyMs.map(({ percentile }: { percentile: number }) => percentile)).toContain(97.5)
    expect(data.steps).toHaveLength(result.steps.length)
    expect(data.best.latencies).toBeUndefined()
  })
})

test('CPU time is read from the text of the kernel, whatever the name', () => {
  expect(cpuSecondsOf('4242 (no) de: (w) S 17 4242 1 0 -1 4194560 500 0 0 0 120 30 7 7 20 0 1 0')).toBe(1.5)
  expect(cpuSecondsOf('')).toBeNull()
  expect(busyShare({ busy: 100, all: 1000 }, { busy: 400, all: 1400 })).toBe(0.75)
  expect(busyShare({ busy: 100, all: 1000 }, { busy: 100, all: 1000 })).toBe(0)
})
