/**
 * Writes the Prometheus text exposition format, version 0.0.4: one family after the other, each with HELP and TYPE, no sample twice.
 */
import type { Metric } from './metrics.js'

export const EXPOSITION_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function escapeLabelValue(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"')
}

/** A sample value as Go's ParseFloat reads it. */
export function formatValue(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  if (value === Number.NEGATIVE_INFINITY) return '-Inf'
  return String(value)
}

function labelText(metric: Metric, values: readonly string[], le?: string): string {
  if (values.length !== metric.labels.length) {
    throw new RangeError(`${metric.name} takes the labels ${metric.labels.join(', ')}, but got ${values.length} values`)
  }
  const pairs = metric.labels.map((name, index) => `${name}="${escapeLabelValue(values[index] ?? '')}"`)
  if (le !== undefined) pairs.push(`le="${le}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

/** Collects the text of one page. */
export class ExpositionWriter {
  private readonly lines: string[] = []

  /** Begins a family. Call once per metric, before its samples. */
  family(metric: Metric): void {
    this.lines.push(`# HELP ${metric.name} ${escapeHelp(metric.help)}`, `# TYPE ${metric.name} ${metric.type}`)
  }

  /** One sample of a counter or gauge; `values` in the order of the metric's labels. */
  sample(metric: Metric, values: readonly string[], value: number): void {
    this.lines.push(`${metric.name}${labelText(metric, values)} ${formatValue(value)}`)
  }

  /**
   * One histogram. `counts[i]` are observations up to `bounds[i]` and above the bound before; the last count is what lies above all
   * bounds. The total is derived from the counts, so that the +Inf bucket and the count always agree.
   */
  histogram(metric: Metric, values: readonly string[], bounds: readonly number[], counts: ArrayLike<number>, sum: number): void {
    let total = 0
    for (let index = 0; index < bounds.length; index++) {
      total += counts[index] ?? 0
      this.lines.push(`${metric.name}_bucket${labelText(metric, values, formatValue(bounds[index] ?? 0))} ${formatValue(total)}`)
    }
    total += counts[bounds.length] ?? 0
    const labels = labelText(metric, values)
    this.lines.push(`${metric.name}_bucket${labelText(metric, values, '+Inf')} ${formatValue(total)}`)
    this.lines.push(`${metric.name}_sum${labels} ${formatValue(sum)}`, `${metric.name}_count${labels} ${formatValue(total)}`)
  }

  toString(): string {
    return `${this.lines.join('\n')}\n`
  }
}
