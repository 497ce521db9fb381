import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.js'
import { decadesOf, Latencies, percentileAt, reportedPercentiles } from '../../../src/cli/bench/percentiles.js'
import { drawCurves } from '../../../src/cli/bench/picture.js'
import { svgChart, writeOutput } from '../../../src/cli/bench/svg.js'

/** 1,000 latencies of 1 to 1,000 ms. */
function thousand(): Latencies {
  const latencies = new Latencies()
  for (let ms = 1; ms <= 1000; ms++) latencies.record(ms)
  return latencies
}

describe('latencies', () => {
  test('every reported percentile has three significant digits', () => {
    const points = thousand().reported()
    expect(points.map(({ percentile }) => percentile)).toEqual([...reportedPercentiles])
    const values = [500, 750, 900, 975, 990, 999, 1000, 1000]
    for (const [index, value] of values.entries()) {
      const found = points[index]?.value ?? Number.NaN
      expect(Math.abs(found - value)).toBeLessThanOrEqual(value / 1000 + 0.001)
    }
  })

  test('encoded and decoded, two halves add up to the whole', () => {
    const whole = thousand()
    const halves = new Latencies()
    halves.add(Latencies.decode(thousand().encoded()))
    halves.add(Latencies.decode(thousand().encoded()))
    expect(halves.count).toBe(2000)
    expect(halves.reported()).toEqual(whole.reported())
    expect(halves.meanMs).toBeCloseTo(whole.meanMs, 6)
  })

  test('the curve rises from the fastest to where single requests are', () => {
    const curve = thousand().curve()
    expect(curve[0]).toMatchObject({ percentile: 0, value: expect.closeTo(1, 1) })
    expect(curve.at(-1)?.percentile).toBeCloseTo(99.9, 3)
    for (const [index, { value }] of curve.entries()) expect(value).toBeGreaterThanOrEqual(curve[index - 1]?.value ?? 0)
    expect(new Latencies().curve()).toEqual([])
    expect(new Latencies().at(99)).toBe(0)
  })

  test('decades and percentiles are each other turned round', () => {
    for (const percentile of [0, 50, 90, 99, 99.9, 99.99]) expect(percentileAt(decadesOf(percentile))).toBeCloseTo(percentile, 9)
  })

  test('what is beyond the range counts as its ends', () => {
    const latencies = new Latencies()
    latencies.record(0)
    latencies.record(1e9)
    expect(latencies.at(0)).toBe(0.001)
    expect(latencies.at(100)).toBeGreaterThan(119_000)
  })
})

describe('picture for the terminal', () => {
  const curve = { name: 'plain: one', points: thousand().curve() }

  test('axes have round numbers, and the line goes from below left to above right', () => {
    const lines = drawCurves([curve], false).split('\n')
    expect(lines[0]).toBe('latency in ms by percentile: plain: one')
    const ticks = lines.map((line) => /^\s*([\d.]+)┤/.exec(line)?.[1]).filter((tick) => tick !== undefined)
    expect(ticks).toEqual(expect.arrayContaining(['1', '10', '100']))
    expect(lines.find((line) => line.includes('min'))).toMatch(/min\s+90%\s+99%\s+99\.9%/)
    const rows = lines.filter((line) => /[━┏┛┃]/.test(line))
    const starts = rows.map((line) => line.search(/[━┏┛┃]/))
    expect(starts).toEqual([...starts].sort((a, b) => b - a))
  })

  test('without colours every case has a picture, with them they share one and a legend', () => {
    const other = { name: 'plain: two', points: thousand().curve() }
    const titles = (text: string) => text.split('\n').filter((line) => line.startsWith('latency')).length
    expect(titles(drawCurves([curve, other], false))).toBe(2)
    const coloured = drawCurves([curve, other], true)
    expect(titles(coloured)).toBe(1)
    expect(coloured).toMatch(/█.* plain: one\n.*█.* plain: two/)
  })

  test('nothing measured is no picture, and one latency alone is a flat line', () => {
    expect(drawCurves([{ name: 'none', points: [] }], false)).toBe('')
    const same = new Latencies()
    for (let count = 0; count < 100; count++) same.record(1.5)
    const text = drawCurves([{ name: 'flat', points: same.curve() }], false)
    expect(text.split('\n').filter((line) => line.includes('━'))).toHaveLength(1)
    expect(text).toMatch(/^\s*2┤/m)
    expect(text).toMatch(/^\s*1┤/m)
  })
})

describe('SVG', () => {
  test('names every curve and asks nobody for anything', async () => {
    const draw = await svgChart()
    const points = thousand().curve()
    const text = draw('a title', [
      { name: 'plain: one', points },
      { name: 'plain: <two>', points },
    ])
    expect(text).toMatch(/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/)
    for (const name of ['a title', 'plain: one', 'plain: &lt;two&gt;', '99.9 %']) expect(text).toContain(name)
    expect(text).not.toMatch(/(?:href|src)=|url\((?!#)|@import|<script|<image|<foreignObject/i)
    expect(text.match(/https?:\/\/[^"]+/g)?.filter((address) => !address.startsWith('http://www.w3.org/'))).toEqual([])
  })

  test('a file that cannot be written is named', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'sluice-svg-'))
    try {
      await writeOutput('--svg', join(folder, 'x.svg'), 'text')
      expect(await readFile(join(folder, 'x.svg'), 'utf8')).toBe('text')
      const error = await writeOutput('--svg', join(folder, 'none', 'x.svg'), 'text').catch((caught: unknown) => caught)
      expect(error).toBeInstanceOf(UsageError)
      expect(error).toMatchObject({ exitCode: 1, message: expect.stringMatching(/^--svg: cannot write .*none/) })
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})
