/**
 * Writes the Prometheus text exposition format, version 0.0.4: one family after the other, each with HELP and TYPE, no sample twice.
 */
import type { Metric } from './metrics.js'

export const EXPOSITION_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

const needsEscape = /[\\\n"]/

function escapeLabelValue(text: string): string {
  return needsEscape.test(text) ? escapeHelp(text).replaceAll('"', '\\"') : text
}

/** A sample value as Go's ParseFloat reads it. */
export function formatValue(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  if (value === Number.NEGATIVE_INFINITY) return '-Inf'
  return String(value)
}

/** `a="1",b="2"`, without braces; empty when the metric has no labels. */
function labelPairs(metric: Metric, values: readonly string[]): string {
  if (values.length !== metric.labels.length) {
    throw new RangeError(`${metric.name} takes the labels ${metric.labels.join(', ')}, but got ${values.length} values`)
  }
  return metric.labels.map((name, index) => `${name}="${escapeLabelValue(values[index] ?? '')}"`).join(',')
}

function braced(pairs: string): string {
  return pairs === '' ? '' : `{${pairs}}`
}

/** Size of the parts in which a large page is produced: what is written in one go between other work. */
const PART_CHARACTERS = 256 * 1024

/** Collects the text of one page; `take` hands out what is there, so that a large page never exists as a whole. */
export class ExpositionWriter {
  private text = ''

  /** Begins a family. Call once per metric, before its samples. */
  family(metric: Metric): void {
    this.text += `# HELP ${metric.name} ${escapeHelp(metric.help)}\n# TYPE ${metric.name} ${metric.type}\n`
  }

  /** One sample of a counter or gauge; `values` in the order of the metric's labels. */
  sample(metric: Metric, values: readonly string[], value: number): void {
    this.text += `${metric.name}${braced(labelPairs(metric, values))} ${formatValue(value)}\n`
  }

  /**
   * One histogram. `counts[i]` are observations up to `bounds[i]` (a number as text) and above the bound before; the last count is
   * what lies above all bounds. The total is derived from the counts, so that the +Inf bucket and the count always agree.
   */
  histogram(metric: Metric, values: readonly string[], bounds: readonly string[], counts: ArrayLike<number>, sum: number): void {
    const pairs = labelPairs(metric, values)
    const bucket = `${metric.name}_bucket{${pairs}${pairs === '' ? '' : ','}le="`
    let total = 0
    for (let index = 0; index < bounds.length; index++) {
      total += counts[index] ?? 0
      this.text += `${bucket}${bounds[index] ?? ''}"} ${formatValue(total)}\n`
    }
    total += counts[bounds.length] ?? 0
    const count = formatValue(total)
    this.text += `${bucket}+Inf"} ${count}\n`
    this.text += `${metric.name}_sum${braced(pairs)} ${formatValue(sum)}\n${metric.name}_count${braced(pairs)} ${count}\n`
  }

  /** True when enough was collected to be written. */
  get isPartFull(): boolean {
    return this.text.length >= PART_CHARACTERS
  }

  /** What was collected since the last call. */
  take(): string {
    const text = this.text
    this.text = ''
    return text
  }
}
