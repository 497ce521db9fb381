/**
 * Percentile curves as an SVG file. echarts draws them, which is large (60 MB on disk) for a command that few use on a server: it is an optional
 * peer, there in a checkout with its development packages, else to be installed by whoever wants the file.
 */
import { writeFile } from 'node:fs/promises'
import { UsageError } from '../../base/errors.js'
import { decadesOf, percentileAt } from './percentiles.js'
import type { Curve } from './picture.js'

/** Draws curves as the text of an SVG file, which refers to nothing outside itself. */
export type SvgChart = (title: string, curves: readonly Curve[]) => string

/**
 * Loads echarts, so that a missing one is told before anything is measured.
 *
 * @throws UsageError when it is not installed.
 */
export async function svgChart(): Promise<SvgChart> {
  const echarts = await import('echarts').catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error)
    throw new UsageError(`--svg: needs the package echarts, which is not installed (npm install --no-save echarts@6): ${reason}`)
  })
  return (title, curves) => {
    const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 960, height: 480 })
    try {
      chart.setOption({
        animation: false,
        backgroundColor: '#ffffff',
        title: { text: title, left: 'center' },
        legend: { bottom: 0 },
        grid: { left: 70, right: 30, top: 60, bottom: 80 },
        xAxis: {
          type: 'value',
          name: 'percentile',
          nameLocation: 'middle',
          nameGap: 28,
          interval: 1,
          axisLabel: { formatter: (decades: number) => (decades === 0 ? 'min' : `${Number(percentileAt(decades).toFixed(3))} %`) },
        },
        yAxis: { type: 'log', name: 'latency, ms' },
        series: curves.map(({ name, points }) => ({
          type: 'line',
          name,
          showSymbol: false,
          data: points.map(({ percentile, value }) => [decadesOf(percentile), value]),
        })),
      })
      return `${chart.renderToSVGString()}\n`
    } finally {
      chart.dispose()
    }
  }
}

/** @throws UsageError (exit code 1) naming `flag` when the file cannot be written. */
export async function writeOutput(flag: string, file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text)
  } catch (error) {
    throw new UsageError(`${flag}: cannot write ${file}: ${error instanceof Error ? error.message : String(error)}`, 1)
  }
}
