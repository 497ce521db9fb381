/** Charts as SVG text, drawn by echarts without a browser. */
import * as echarts from 'echarts'

const colours = {
  sluice: '#1f6feb',
  'sluice-pipelining': '#0a3069',
  'sluice, plain': '#79b8ff',
  'nginx-lua': '#7ee2a0',
  'uws-empty': '#d0d7de',
  nginx: '#2da44e',
  haproxy: '#bf8700',
  caddy: '#8250df',
  'http-proxy': '#8c959f',
  'http-proxy-default': '#424a53',
  '@fastify/http-proxy': '#cf222e',
  'fast-gateway': '#ff8182',
}

function render(option, width, height) {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height })
  try {
    chart.setOption({ animation: false, backgroundColor: '#ffffff', ...option })
    return `${chart.renderToSVGString()}\n`
  } finally {
    chart.dispose()
  }
}

/**
 * Grouped bars.
 *
 * @param groups names along the axis; `series`: one value (or null) for each group.
 */
export function barChart({ title, unit, groups, series }) {
  return render(
    {
      title: { text: title, left: 'center' },
      legend: { bottom: 0 },
      grid: { left: 80, right: 20, top: 60, bottom: 60 },
      xAxis: { type: 'category', data: groups },
      yAxis: { type: 'value', name: unit },
      series: series.map(({ name, values }) => ({
        type: 'bar',
        name,
        data: values.map((value) => (value === null ? '-' : Math.round(value))),
        label: {
          show: true,
          position: 'top',
          rotate: 90,
          align: 'left',
          verticalAlign: 'middle',
          fontSize: 10,
          formatter: ({ value }) => (value === '-' ? '' : `${(value / 1000).toFixed(1)}k`),
        },
        ...(colours[name] === undefined ? {} : { itemStyle: { color: colours[name] } }),
      })),
    },
    1200,
    460,
  )
}

/** Curves over time. At most two units: the second has its axis on the right. */
export function curveChart({ title, xName, x, curves }) {
  return render(
    {
      title: { text: title, left: 'center' },
      legend: { bottom: 0 },
      grid: { left: 80, right: 80, top: 60, bottom: 70 },
      xAxis: { type: 'category', name: xName, nameLocation: 'middle', nameGap: 25, data: x },
      yAxis: curves.map(({ unit, scale }, index) => ({ type: 'value', name: unit, min: 0, max: scale, splitLine: { show: index === 0 } })),
      series: curves.map(({ name, values }, index) => ({ type: 'line', name, yAxisIndex: index, showSymbol: false, data: values })),
    },
    960,
    420,
  )
}
