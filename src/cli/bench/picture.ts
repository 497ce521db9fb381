/** Percentile curves, drawn with characters for a terminal. */
import { plot } from 'simple-ascii-chart'
import { decadesOf, type LatencyPoint, percentileAt } from './percentiles.js'

export interface Curve {
  readonly name: string
  readonly points: readonly LatencyPoint[]
}

const width = 64
const height = 10
const colours = ['ansiCyan', 'ansiYellow', 'ansiMagenta', 'ansiGreen', 'ansiRed', 'ansiBlue'] as const

/**
 * Curves of latency over percentiles, both axes logarithmic: each step to the right is a tenth of the requests. With colours all curves share a
 * picture, without them each has its own, because they could not be told apart. Ends with a newline; empty when there is nothing to draw.
 */
export function drawCurves(curves: readonly Curve[], colour: boolean): string {
  const drawable = curves.filter(({ points }) => points.length > 1)
  if (drawable.length === 0) return ''
  const pictures = colour ? [drawable] : drawable.map((curve) => [curve])
  return pictures.map((picture) => draw(picture, colour)).join('')
}

function draw(curves: readonly Curve[], colour: boolean): string {
  const decades = Math.max(...curves.flatMap(({ points }) => points.map(({ percentile }) => decadesOf(percentile))))
  const ticksX = Array.from({ length: Math.floor(decades) + 1 }, (_, decade) => decade)
  const lines = curves.map(({ points }) =>
    points.map(({ percentile, value }): [number, number] => [decadesOf(percentile), Math.log10(value)]),
  )
  const heights = lines.flatMap((line) => line.map(([, y]) => y))
  const ticksY = roundTicks(Math.min(...heights), Math.max(...heights))
  const text = plot(lines, {
    width,
    height,
    customYAxisTicks: ticksY,
    yRange: [ticksY[0] ?? 0, ticksY.at(-1) ?? 1],
    title: `latency in ms by percentile${colour ? '' : `: ${curves[0]?.name}`}`,
    customXAxisTicks: ticksX,
    formatter: (value, { axis }) => (axis === 'x' ? tickOf(value) : String(Number((10 ** value).toPrecision(1)))),
    ...(colour && {
      color: curves.map((_, index) => colours[index % colours.length] ?? colours[0]),
      legend: { position: 'bottom', series: curves.map(({ name }) => name) },
    }),
  })
  const trimmed = text.split('\n').map((line) => line.trimEnd())
  return `${trimmed.join('\n').trim()}\n`
}

function tickOf(decades: number): string {
  return decades === 0 ? 'min' : `${Number(percentileAt(decades).toFixed(3))}%`
}

/** Logarithms of 1, 2 and 5 times the powers of ten, from the last one at or below `least` to the first one above `most`. */
function roundTicks(least: number, most: number): number[] {
  const ticks: number[] = []
  for (let power = Math.floor(least); ; power++) {
    for (const digit of [1, 2, 5]) {
      const tick = power + Math.log10(digit)
      if (tick <= least) ticks.length = 0
      ticks.push(tick)
      if (tick > most) return ticks
    }
  }
}
